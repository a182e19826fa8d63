"""One step of CLASSP (Ludwig, arXiv 2405.09637, Algorithm 1) for one tensor, in the notation of the paper."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from workbench.knobs import knob

OURS = (lambda c: c.method == "classp", "only CLASSP has it")
POWER = knob(1.0, "power p", "of the sum and of its root; 2 is AdaGrad", low=0.25, high=8.0, step=0.25, essential=True, when=OURS)
THRESHOLD = knob(
    0.0, "threshold", "on the squared gradient of a weight: below it the weight rests; useful values lie near 1e-7", low=0.0,
    high=10.0, choices=(0.0, 1e-8, 1e-7, 1e-6, 1e-5, 0.5), essential=True, when=OURS,
)  # fmt: skip
EPS = knob(1e-5, "eps", "added to the sum inside the root", low=1e-12, high=1.0, log=True)
MODE = knob("paper", "mode", "Algorithm 1, or gate, sum and root of the published program", when=OURS)
ORDER = knob("inclusive", "order", "the gradient is added before (Algorithm 1) or after (equation 1) it is divided", when=OURS)
CAP = knob(0.0, "cap", "of the effective rate; 0: none", low=0.0, high=10.0, step=0.01, when=OURS)


Moved = tuple[int, Tensor, Tensor, Tensor]  # a tensor to update: its index in the parameter group, weight, gradient, sum S


class Rule(NamedTuple):
    """The hyperparameters of one step; see `CLASSP`. Here, no cap is ``cap=inf``, not 0."""

    lr: float
    power: float
    threshold: float
    eps: float
    decay: bool
    mode: str
    order: str
    cap: float


def update(weight: Tensor, gradient: Tensor, total: Tensor, rule: Rule) -> Tensor:
    """One step of Algorithm 1, in place: each weight's gradient is divided by the p-th root of its accumulated sum.

    ``k = g where g^2 > threshold, else 0``; ``S += |k|^p``; ``w -= lr k / (S + eps)^(1/p)``. With
    ``decay=False`` the division is left out. Returns a boolean mask of weights that were not changed because their gradient, sum
    or step is not finite. All tensors have the same shape; `total` is S.
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

    With ``mode="repo"``, as in the published program, the threshold is compared with a truth value instead: at a threshold of 1
    or more the result is zeros, else the whole gradient.
    """
    if rule.mode == "repo":
        return gradient if rule.threshold < 1 else torch.zeros_like(gradient)
    if rule.threshold == 0:
        return gradient
    # not g^2 > threshold, since g^2 may underflow; NaN is kept, so that `update` detects it
    return torch.where(gradient.abs() <= math.sqrt(rule.threshold), 0.0, gradient)


def rates(total: Tensor, rule: Rule) -> Tensor:
    """Return the effective learning rate of each weight: ``lr / (S + eps)^(1/p)``, at most `rule.cap`."""
    return (rule.lr / (total + rule.eps) ** (1 / rule.power)).clamp(max=rule.cap)


def loop(tensors: list[Moved], rule: Rule) -> list[Tensor]:
    """Apply `update` to each tensor; returns for each the number of weights that were not changed."""
    return [update(weight, gradient, total, rule).sum() for _, weight, gradient, total in tensors]
