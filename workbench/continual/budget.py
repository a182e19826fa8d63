"""How far a weight can still move under CLASSP: a bound in closed form, of its history alone.

With ``h = eps + S``, a step has size ``lr |g| / h^(1/p) = lr (dh / h)^(1/p)``. For ``p <= 1`` that is at most ``lr dh / h``,
whose sum is at most the integral ``lr ln(h_end / h_start)``; for ``p >= 1`` Hoelder's inequality over T steps gives
``lr T^(1 - 1/p) ln(h_end / h_start)^(1/p)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.continual.rule import Rule


def movable(total: Tensor, mass: Tensor, rule: Rule, steps: int | Tensor = 1) -> Tensor:
    """The most that weights with sums `total` can move in `steps` steps that bring a gradient mass ``sum |g|^p`` of `mass`."""
    way = torch.log1p(mass / (rule.eps + total))
    if rule.power <= 1:
        return rule.lr * way
    return rule.lr * steps ** (1 - 1 / rule.power) * way ** (1 / rule.power)


def left(total: Tensor, mass: Tensor, rule: Rule) -> Tensor:
    """Of what weights without a history could move while `mass` arrives, the share that these can; 1 where nothing arrives."""
    fresh = movable(torch.zeros_like(total), mass, rule)
    return torch.where(fresh > 0, movable(total, mass, rule) / fresh, 1.0)
