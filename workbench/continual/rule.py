"""One step of CLASSP (Ludwig, arXiv 2405.09637, Algorithm 1) for one tensor, in the notation of the paper.

We know Algorithm 1 and equation 1 from the author's program, which shows them. The text of the paper was not available to us.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from workbench.knobs import knob

OURS = (lambda c: c.method == "classp", "only CLASSP uses this knob")
POWER = knob(
    1.0, "power p", "Each weight accumulates a sum S of |gradient|^p, and its steps are divided by the p-th root of S. "
    "p = 2 with threshold 0 is AdaGrad.", low=0.25, high=8.0, step=0.25, essential=True, when=OURS,
)  # fmt: skip
THRESHOLD = knob(
    0.0, "threshold", "A weight does not move if its squared gradient is at or below this value. Useful values are near 1e-7. "
    "A large value stops all weights; 0 moves every weight.", low=0.0,
    high=10.0, choices=(0.0, 1e-8, 1e-7, 1e-6, 1e-5, 0.5), essential=True, when=OURS,
)  # fmt: skip
EPS = knob(
    1e-5, "eps", "Constant that is added to the accumulated sum S inside the root. A large value makes the first steps smaller.",
    low=1e-12, high=1.0, log=True,
)  # fmt: skip
MODE = knob(
    "paper", "mode", "paper: Algorithm 1 of the CLASSP paper, as its author shows it with the program. repo: the threshold test, "
    "the sum and the root of the program itself, which differ from Algorithm 1.", when=OURS,
)  # fmt: skip
ORDER = knob(
    "inclusive", "order", "inclusive: the gradient is added to the sum S before the step is divided by the root of S (Algorithm "
    "1). exclusive: the gradient is added after the division (equation 1).", when=OURS,
)  # fmt: skip
CAP = knob(
    0.0, "rate cap", "Upper limit of the effective learning rate of each weight, lr / (S + eps)^(1/p). 0: no limit.",
    low=0.0, high=10.0, step=0.01, when=OURS,
)  # fmt: skip


Moved = tuple[int, Tensor, Tensor, Tensor]  # a tensor to update: its index in the parameter group, weight, gradient, sum S


class Rule(NamedTuple):
    """The hyperparameters of one step; see `CLASSP`. In this class, ``cap=inf`` means that there is no cap."""

    lr: float
    power: float
    threshold: float
    eps: float
    decay: bool
    mode: str
    order: str
    cap: float


def update(weight: Tensor, gradient: Tensor, total: Tensor, rule: Rule) -> Tensor:
    """Apply one step of Algorithm 1 in place: divide the gradient of each weight by the p-th root of its accumulated sum.

    ``k = g if g^2 > threshold, else 0``; ``S += |k|^p``; ``w -= lr k / (S + eps)^(1/p)``. With ``decay=False`` there is no
    division, and the step is ``w -= lr k``. With ``mode="repo"``, ``S += |k|`` for every p, and k is computed in another way (see
    `gate`). All tensors have the same shape; `total` is S. Returns a boolean mask of the weights that were not changed because
    their gradient, sum or step is not finite.
    """
    k = gate(gradient.to(total.dtype), rule)
    grown = total + (k.abs() if rule.mode == "repo" else k.abs() ** rule.power)
    rate = rates(grown if rule.order == "inclusive" else total, rule)
    step = torch.where(k == 0, 0.0, k * rate) if rule.decay else k
    bad = ~(gradient.isfinite() & grown.isfinite() & step.isfinite())
    total.copy_(torch.where(bad, total, grown))
    weight.add_(torch.where(bad, 0.0, step).to(weight.dtype), alpha=-1.0 if rule.decay else -rule.lr)
    return bad


def gate(gradient: Tensor, rule: Rule) -> Tensor:
    """Return the gradient with the entries at or below the threshold set to 0.

    With ``mode="repo"``, as in the published program, not g^2 but a truth value (0 or 1) is compared with the threshold. In
    this mode, all entries are set to 0 if the threshold is 1 or more, and no entry is changed if the threshold is below 1.
    """
    if rule.mode == "repo":
        return gradient if rule.threshold < 1 else torch.zeros_like(gradient)
    if rule.threshold == 0:
        return gradient
    # The square g^2 may underflow, so |g| is compared with the root. NaN is not set to 0, so `update` can detect it.
    return torch.where(gradient.abs() <= math.sqrt(rule.threshold), 0.0, gradient)


def rates(total: Tensor, rule: Rule) -> Tensor:
    """Return the effective learning rate of each weight: ``lr / (S + eps)^(1/p)``, at most `rule.cap`."""
    return (rule.lr / (total + rule.eps) ** (1 / rule.power)).clamp(max=rule.cap)


def loop(tensors: list[Moved], rule: Rule) -> list[Tensor]:
    """Apply `update` to each tensor. Returns, for each tensor, the number of weights in the mask that `update` returns."""
    return [update(weight, gradient, total, rule).sum() for _, weight, gradient, total in tensors]
