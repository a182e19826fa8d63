"""Exercises of the notebook `02-inside` on continual learning."""

from __future__ import annotations

import math

import torch

from workbench.continual.lab.inside import walk
from workbench.continual.rule import Rule, update
from workbench.exercises import Exercise, declare


def _rule(**changes: object) -> Rule:
    return Rule(0.01, 1.0, 0.0, 1e-5, True, "paper", "inclusive", math.inf)._replace(**changes)


def _left() -> float:
    """Return the largest distance that the weight of the exercise can move: 0.01 * ln(1 + B / S) with B = S / 10.

    Compared with S, eps is negligible.
    """
    return 0.01 * math.log1p(0.1)


def _first_step() -> float:
    weight, total = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    update(weight, torch.tensor([0.002], dtype=torch.float64), total, _rule(eps=1e-12))
    return -weight.item()


# The lines of one step of CLASSP. One of them is wrong.
LINES = {
    "a": "k = torch.where(g.square() > threshold, g, 0.0)",
    "b": "total += k.abs()",
    "c": "step = lr * k / (total + eps) ** (1 / power)",
    "d": "weight -= step",
}


def _line() -> str:
    """Return the name of the wrong line in `LINES`.

    If only this line is corrected, the program gives the same weight as `update` for power 2.
    """
    series = 0.1 * torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = walk(series, _rule(power=2.0))["weight"][-1]
    for name in LINES:
        weight, total = 0.0, 0.0
        for g in series.tolist():
            k = g if g * g > 0 else 0.0
            total += abs(k) ** 2 if name == "b" else abs(k)
            weight -= 0.01 * k / (total + 1e-5) ** 0.5
        if math.isclose(weight, right, rel_tol=1e-9):
            return name
    raise AssertionError("correcting a line of LINES never gives the result of `update`; expected one wrong line. Check LINES")


declare(
    "continual",
    Exercise(
        "CLASSP has p = 1, alpha = 0.01 and a negligible eps. The first gradient of a weight is 0.002. How far does the weight "
        "move?",
        _first_step,
        "Algorithm 1 adds the gradient to S before the division.",
        "The step is alpha |g| / (|g| + eps). This is alpha, whatever the size of the gradient.",
    ),
    Exercise(
        "CLASSP has p = 1 and alpha = 0.01. A weight has S = 5. In the next task, the absolute values of its gradients add up to "
        "0.5. How far can the weight move at most?",
        _left,
        "The bound is alpha ln((eps + S + B) / (eps + S)), with B = 0.5.",
        "The bound is 0.01 ln(5.5 / 5). A weight with S = 0.1 could have moved almost twenty times as far.",
    ),
    Exercise(
        "Find the bug. These lines are meant to be one step of CLASSP: "
        + "; ".join(f"({name}) {line}" for name, line in LINES.items())
        + ". With power = 2 and threshold = 0, they should give the step of AdaGrad, but they do not. Which line is wrong? "
        "(a, b, c or d)",
        _line,
        "Which line must depend on the power but does not?",
        "The sum must be of |g|^p. The published program has the same wrong line.",
    ),
)
