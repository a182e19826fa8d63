"""One objective for all methods: ``||Q X - W0 Xref||``, its floor, its rounding part, and its residual's parts.

A program's printed loss is GPTQ's objective only for GPTQ; this one is what GPTAQ and ResComp set out to minimise,
reported alike for every method, on calibration and on held-out tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Residual:
    """Norms, relative to ``||W0 Xref||``, of a residual and of its part that no free column can repay."""

    norm: float
    orthogonal: float


class Objective:
    """Relative output errors of one layer on one set of tokens, from second moments in float64.

    With X the quantized stream, Xref the full-precision one and W0 the original weight:
    ``error(Q) = ||Q X - W0 Xref|| / ||W0 Xref||``. The best real-valued weight is ``W* = W0 (I + D H^-1)``; its error
    is the floor, and ``error(Q)^2 = floor^2 + rounding(Q)^2`` (Pythagoras, exact).
    """

    def __init__(self, weight: Tensor, inputs: Tensor, full_precision: Tensor):
        w0, x, full = (t.double() for t in (weight, inputs, full_precision))
        difference, tokens = full - x, len(x)
        self.hessian = x.T @ x / tokens
        self.cross = difference.T @ x / tokens
        self.spread = difference.T @ difference / tokens
        self._w0 = w0
        self._target = w0 @ self.cross  # W0 dX X'
        self._constant = _inner(w0 @ self.spread, w0)
        output = self._constant + _inner(w0 @ self.hessian, w0) + 2 * _inner(self._target, w0)
        self._output = max(output, torch.finfo(torch.float64).tiny)

    def error(self, weight: Tensor) -> float:
        """Relative error of `weight` ``(out, in)`` against the full-precision target."""
        change = weight.double() - self._w0
        squared = _inner(change @ self.hessian, change) - 2 * _inner(change, self._target) + self._constant
        return self._relative(squared)

    def best_weight(self) -> Tensor:
        """W*: the real-valued weight with the least error (least squares, minimum norm where inputs are few)."""
        return self._w0 + self._target @ torch.linalg.pinv(self.hessian, hermitian=True)

    def floor_and_rounding(self, weight: Tensor) -> tuple[float, float]:
        """Relative error of W*, and relative distance of `weight`'s output from W*'s: the two sides of the error."""
        if not hasattr(self, "_best"):
            self._best = self.best_weight()
        gap = weight.double() - self._best
        return self.error(self._best), self._relative(_inner(gap @ self.hessian, gap))

    def residuals(self, weight: Tensor, free: Tensor) -> tuple[Residual, Residual]:
        """r1 = W (Xref - X) and r2 = (W0 - W) Xref for a half-done `weight`; `free` are the columns still free.

        The part orthogonal to the free columns' inputs is lost for good, the rest may still be repaid.
        """
        w = weight.double()
        moved = self._w0 - w
        both = self.hessian + self.cross  # Xref X'
        full = both + self.cross.T + self.spread  # Xref Xref'
        parts = ((w @ self.cross, _inner(w @ self.spread, w)), (moved @ both, _inner(moved @ full, moved)))
        inside = self.hessian[free][:, free]
        inside.diagonal().add_(1e-8 * self.hessian.diagonal().mean())
        factor, failed = torch.linalg.cholesky_ex(inside)
        found = []
        for product, squared in parts:
            repaid = 0.0
            if len(free) and not failed:
                repaid = torch.linalg.solve_triangular(factor, product[:, free].T, upper=False).square().sum().item()
            found.append(Residual(self._relative(squared), self._relative(squared - repaid)))
        return found[0], found[1]

    def _relative(self, squared: float) -> float:
        return (max(squared, 0.0) / self._output) ** 0.5


def _inner(a: Tensor, b: Tensor) -> float:
    return (a * b).sum().item()
