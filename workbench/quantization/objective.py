"""The output error ``||Q X - W0 Xref||`` of a quantized layer, its lower bound, its rounding part, and the residuals r1 and r2.

The loss that the published programs print is the objective of GPTQ only. This module computes the error that GPTAQ and ResComp
minimise. The error is computed in the same way for every method, on calibration tokens and on held-out tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Residual:
    """The norm of a residual, and the norm of the part of it that no change of the free columns can compensate.

    Free columns are those that are not rounded yet. Both norms are divided by ``||W0 Xref||``.
    """

    norm: float
    orthogonal: float


class Objective:
    """Relative output errors of one layer on one set of tokens, computed from second moments in float64.

    X is the input of the layer in the quantized stream, Xref its input in the full-precision stream, and W0 the original weight.
    The error of a weight Q is ``error(Q) = ||Q X - W0 Xref|| / ||W0 Xref||``. H and D are ``hessian`` and ``cross`` of
    `layer_statistics`. The real-valued weight with the least error is ``W* = W0 (I + D H^-1)``, and the error of W* is called the
    floor. The rounding part of Q is ``rounding(Q) = ||Q X - W* X|| / ||W0 Xref||``. Then ``error(Q)^2 = floor^2 + rounding(Q)^2``
    holds exactly.

    Args:
        weight: W0, ``(out, in)``.
        inputs: X, ``(tokens, in)``.
        full_precision: Xref, ``(tokens, in)``.
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
        """Return the relative error of `weight` ``(out, in)`` against the full-precision output ``W0 Xref``."""
        change = weight.double() - self._w0
        squared = _inner(change @ self.hessian, change) - 2 * _inner(change, self._target) + self._constant
        return self._relative(squared)

    def best_weight(self) -> Tensor:
        """Return W* ``(out, in)``: the real-valued weight with the least error (if it is not unique, the one closest to W0)."""
        return self._w0 + self._target @ torch.linalg.pinv(self.hessian, hermitian=True)

    def floor_and_rounding(self, weight: Tensor) -> tuple[float, float]:
        """Return the floor, and the relative distance between the outputs of `weight` and W*, which is the rounding part."""
        if not hasattr(self, "_best"):
            self._best = self.best_weight()
        gap = weight.double() - self._best
        return self.error(self._best), self._relative(_inner(gap @ self.hessian, gap))

    def residuals(self, weight: Tensor, free: Tensor) -> tuple[Residual, Residual]:
        """Return the residuals r1 = W (Xref - X) and r2 = (W0 - W) Xref of a partly quantized `weight` W.

        `free` holds the indices of the columns that are not quantized yet. Changes of these columns can compensate a residual,
        except for the part that is orthogonal to the inputs of these columns.
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
