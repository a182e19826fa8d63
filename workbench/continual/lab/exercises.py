"""What to work out by oneself after `02-inside`."""

from __future__ import annotations

import math

import torch

from workbench.continual.lab.inside import walk
from workbench.continual.rule import Rule, update
from workbench.exercises import Exercise, declare


def _rule(**changes: object) -> Rule:
    return Rule(0.01, 1.0, 0.0, 1e-5, True, "paper", "inclusive", math.inf)._replace(**changes)


def _left() -> float:
    """0.01 * ln(1 + B / S) with B = S / 10, and eps far below S."""
    return 0.01 * math.log1p(0.1)


def _first_step() -> float:
    weight, total = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    update(weight, torch.tensor([0.002], dtype=torch.float64), total, _rule(eps=1e-12))
    return -weight.item()


# the lines of a program that somebody wrote
LINES = {
    "a": "k = torch.where(g.square() > threshold, g, 0.0)",
    "b": "total += k.abs()",
    "c": "step = lr * k / (total + eps) ** (1 / power)",
    "d": "weight -= step",
}


def _line() -> str:
    """The line that makes a program with power 2 differ from `update`: found by putting each right in turn."""
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
    raise AssertionError("no line of these is the wrong one")


declare(
    "continual",
    Exercise(
        "p = 1, alpha = 0.01, eps next to nothing. The first gradient that a weight sees is 0.002. How far does it move?",
        _first_step,
        "S already holds the gradient when it is divided (Algorithm 1)",
        "alpha |g| / (|g| + eps): the whole alpha, whatever the gradient's size",
    ),
    Exercise(
        "p = 1, alpha = 0.01. A weight has S = 5; the next task brings it gradients of 0.5 in all. How far can it move at most?",
        _left,
        "alpha ln((eps + S + B) / (eps + S))",
        "0.01 ln(5.5 / 5): a twentieth of what it could have moved at S = 0.1",
    ),
    Exercise(
        "Find the bug. Somebody's CLASSP: "
        + "; ".join(f"({name}) {line}" for name, line in LINES.items())
        + ". With power = 2 it is not AdaGrad. Which line is wrong? (a, b, c or d)",
        _line,
        "which line should know the power, and does not?",
        "the sum must be of |g|^p; the published program has the same line",
    ),
)
