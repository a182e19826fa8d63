"""An upper bound on how far CLASSP can still move a weight, given the accumulated sum S of the weight.

In a step with gradient g, let ``dh = |g|^p`` be the increase of S, and let ``h = S + eps`` after it. Then the step has the size
``lr |g| / h^(1/p) = lr (dh / h)^(1/p)``. For ``p <= 1`` this is at most ``lr dh / h``, and the sum over all steps is at most the
integral ``lr ln(h_end / h_start)``. For ``p >= 1``, Hoelder's inequality over T steps gives the bound
``lr T^(1 - 1/p) ln(h_end / h_start)^(1/p)``. Both bounds hold for ``mode="paper"`` and ``order="inclusive"``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.continual.rule import Rule


def movable(total: Tensor, mass: Tensor, rule: Rule, steps: int | Tensor = 1) -> Tensor:
    """Return an upper bound on the distance that each weight can move in `steps` steps.

    `total` holds the accumulated sums S of the weights before these steps, and `mass` holds ``sum |g|^p`` over these steps. Both
    have the shape of the weights. The bound depends on `steps` only if p is above 1.
    """
    way = torch.log1p(mass / (rule.eps + total))
    if rule.power <= 1:
        return rule.lr * way
    return rule.lr * steps ** (1 - 1 / rule.power) * way ** (1 / rule.power)


def left(total: Tensor, mass: Tensor, rule: Rule) -> Tensor:
    """Return the plasticity left in each weight, from 0 to 1.

    It is the bound that `movable` returns, divided by the bound for the same `mass` if the sum S of the weight were 0.
    If `mass` is 0, the plasticity left is 1.
    """
    fresh = movable(torch.zeros_like(total), mass, rule)
    return torch.where(fresh > 0, movable(total, mass, rule) / fresh, 1.0)
