"""A fast solver that quantizes in blocks and gives the same codes as `column_loop`.

The module `column_loop` explains the methods; read it first. This solver differs from `column_loop` in these points:

- Weights are stored transposed, ``(in, out)``, so that each column is contiguous. `act_order` permutes the columns.
- U is computed by one Cholesky factorisation of the Hessian with its rows and columns in reverse order. The inverse of the
  Hessian is not computed (`statistics.factor_hessian`).
- Updates are lazy. Each block is halved repeatedly, and a column updates only the later columns of the smallest part that
  contains it. When the first half of a part is quantized, one matrix product updates the second half. When a block is quantized,
  one matrix product updates all later columns. Apart from floating-point rounding, neither the halving nor `block_size` changes
  the result.
- The rows of U and P, and the terms e and s, are stacked, so that one matrix product applies both terms.
- The solver also handles dead columns (inputs that are always zero), a Hessian that cannot be factored, static groups and traces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.quantization.config import SolverConfig
from workbench.quantization.grids import Grid, fit_grid, least_range
from workbench.quantization.statistics import factor_hessian, propagation, require_finite

LEAF = 16  # ranges of up to this many columns are updated column by column; wider ranges are halved


@dataclass
class Trace:
    """A record of how each column was quantized. All tensors are ``(out, in)``, in the original column order.

    The free columns are those that are not rounded yet.
    """

    before: Tensor  # the compensated weight just before it is rounded
    error: Tensor  # e, sent to the free columns; in GPTQ without damping and with N tokens, the sum of e^2 is ||QX - W0 X||^2 / N
    shift: Tensor  # s, sent to the free columns with P (in GPTAQ, with or without ResComp); 0 for other methods


@dataclass
class LayerResult:
    """A quantized layer, in the original column order.

    ``weight`` is ``scale[:, group] * (codes - zero[:, group])``, cast to the dtype of the input weight.
    """

    weight: Tensor  # (out, in), in the dtype of the input weight
    codes: Tensor | None  # (out, in) int16; None if nothing was quantized (16 bits)
    scale: Tensor | None  # (out, groups)
    zero: Tensor | None  # (out, groups)
    group: Tensor | None  # (in,), the index of each column's group
    permutation: Tensor  # (in,), the order in which the columns were quantized
    damping: float  # the damping used, which may be higher than the damping in the config
    notes: tuple[str, ...] = ()
    trace: Trace | None = None


class LayerSolver:
    """A solver that quantizes one layer block by block; create it with `layer_solver`.

    Inside the solver, weights are stored transposed, ``(in, out)``, with the columns in the order in which they are quantized.
    """

    _floor = 0.0  # lower bound on the range of a group's grid; 0 means no bound

    def __init__(self, weight: Tensor, hessian: Tensor, cross: Tensor | None, config: SolverConfig, trace: bool = False):
        # the weight may be a Parameter, and the statistics may require gradients
        weight, hessian = weight.detach(), hessian.detach()
        cross = None if cross is None else cross.detach()
        _check(weight, hessian, cross)
        self.config, self.method, self.damping = config, config.method, config.damping
        self.notes: list[str] = []
        self._strengths = config.strengths()
        self._weight = weight
        columns = weight.shape[1]
        self.permutation = torch.arange(columns, device=weight.device)
        self.group_size = min(config.group_size or columns, columns)
        self._ordered = False  # whether the columns are permuted
        # if each row has a single group, the grid is always fitted before the first column is quantized
        self._static = config.static_groups or self.group_size == columns
        if config.bits < 16:
            self._prepare(weight, hessian, cross)
            self._trace = [torch.zeros_like(self._live) for _ in range(3)] if trace else None

    def _prepare(self, weight: Tensor, hessian: Tensor, cross: Tensor | None) -> None:
        dtype = weight.dtype if weight.dtype == torch.float64 else torch.float32
        live, hessian = weight.to(dtype).T.clone(), hessian.to(dtype)  # (in, out), (in, in)
        cross = None if cross is None else cross.to(dtype)
        hessian, cross = self._without_dead_columns(live, hessian, cross)
        if self.config.act_order and self.method != "rtn":
            self._ordered = True
            order = self.permutation = torch.argsort(hessian.diagonal(), descending=True, stable=True)
            live, hessian = live[order], hessian[order][:, order]
            cross = None if cross is None else cross[order][:, order]
        largest, least = live.abs().amax(0), self._floor or least_range(dtype)
        if tiny := int(((largest > 0) & (largest < least)).sum()):
            self.notes.append(f"{tiny} output rows are set to 0, since all their weights are below {least:.2g} in absolute value")
        self._rows = None if self.method == "rtn" else self._factor(live, hessian, cross)
        # number of rows of `_rows` for each column: 1 (from U), or 2 (from U and P)
        self._width = 1 if self._rows is None else len(self._rows) // len(live)
        self._live = live
        self._start = live.clone() if any(self._strengths[1:]) else live  # w0, needed only for r2
        columns = self.permutation if self._static else torch.arange(len(live), device=live.device)
        sent = min(self.config.block_size, len(live)) * self._width
        self._sent = live.new_empty(sent, live.shape[1])  # the errors of the columns in the block, see `_pass_on`
        self._columns_group = (columns // self.group_size).tolist()
        self._grids: list[Grid] = []
        if self._static:
            self._grids = [self._fit(part) for part in self._unpermuted(live).split(self.group_size)]

    def _without_dead_columns(self, live: Tensor, hessian: Tensor, cross: Tensor | None) -> tuple[Tensor, Tensor | None]:
        dead = hessian.diagonal() == 0
        if self.method == "rtn" or not dead.any():
            return hessian, cross
        if dead.all():
            self.method = "rtn"
            self.notes.append("all inputs of this layer are zero, so its Hessian is zero; the layer is rounded to nearest")
            return hessian, cross
        self.notes.append(
            f"{int(dead.sum())} input columns are dead (zero on the diagonal of the Hessian); their weights are set to 0"
        )
        live[dead] = 0
        hessian = hessian.clone()
        hessian.diagonal()[dead] = self._dead_diagonal(hessian.diagonal()[~dead])
        return hessian, None if cross is None else cross.masked_fill(dead, 0.0)  # sets columns of D to 0

    def _dead_diagonal(self, live: Tensor) -> float:
        """Return the value that replaces the zero diagonal entries of dead columns.

        This value is the mean of the other entries. So dead columns do not change the mean of the diagonal, to which the damping
        is proportional.
        """
        return live.mean().item()

    def _factor(self, live: Tensor, hessian: Tensor, cross: Tensor | None) -> Tensor | None:
        """Return the rows that distribute the errors of the columns, or None if the layer is rounded to nearest.

        If only the term of U is needed, the result ``(in, in)`` has the rows U[q] / U[q, q]. If the term of P is needed too, the
        result ``(2 in, in)`` has two rows for each q, U[q] / U[q, q] and -P[q], so one matrix product applies both terms. If the
        method is ``exact``, the weights `live` are shifted in place.
        """
        factor = factor_hessian(hessian, self.config.damping)
        if factor is None:
            self.method = "rtn"
            self.notes.append("the Hessian is not positive definite even with damping 1; the layer is rounded to nearest instead")
            return None
        upper, self.damping = factor
        if self.damping > self.config.damping:
            self.notes.append(f"the damping was raised from {self.config.damping:g} to {self.damping:g} to factor the Hessian")
        alpha, _, beta_dx = self._strengths
        if cross is not None and self.method == "exact":
            live += self.config.rho * (upper.T @ (upper @ (cross.T @ live)))
        self._diagonal = upper.diagonal()
        scaled = upper / self._diagonal[:, None]
        if cross is None or not (alpha or beta_dx):
            return scaled
        return torch.stack([scaled, -propagation(cross, upper)], 1).flatten(0, 1)

    def steps(self) -> Iterator[int]:
        """Quantize one block after another, and yield the number of quantized columns after each block.

        At each yield, all later columns have received the updates from the quantized columns.
        """
        low, n = 0, 0 if self.config.bits >= 16 else len(self._live)
        while low < n:
            high = self._block_end(low, n)
            self._block(low, high)
            self._send(low, high, low, high, n)
            yield high
            low = high

    def _block_end(self, low: int, n: int) -> int:
        """Return the end of the block that starts at `low`.

        If grids are not fitted before the first column is quantized, blocks are aligned with groups. So all columns of a group
        have been updated when the grid of the group is fitted.
        """
        block, group = self.config.block_size, self.group_size
        if self._static:
            return min(low + block, n)
        if block >= group:
            return min(low + block // group * group, n)
        return min(low + block, (low // group + 1) * group, n)

    def _block(self, low: int, high: int) -> None:
        self._halve(low, high, low)

    def _halve(self, low: int, high: int, start: int) -> None:
        """Quantize columns `low` to `high - 1` of the block that begins at `start`. Columns from `high` on are not updated."""
        cut = self._cut(low, high)
        if cut is None:
            for j in range(low, high):
                self._column(j, high, start)
            return
        self._halve(low, cut, start)
        self._send(low, cut, start, cut, high)
        self._halve(cut, high, start)

    def _cut(self, low: int, high: int) -> int | None:
        """Return the column at which the range from `low` to `high - 1` is split, or None if it is not split.

        If a group starts inside the range, and its grid is not fitted yet, the range is split at the start of a group.
        """
        half, group = low + (high - low) // 2, self.group_size
        first = (low // group + 1) * group
        if first < high and not self._static:
            return min(max(round(half / group) * group, first), (high - 1) // group * group)
        return half if high - low > LEAF else None

    def _send(self, low: int, high: int, start: int, first: int, last: int) -> None:
        """Update columns `first` to `last - 1` with the errors of columns `low` to `high - 1`, by one matrix product.

        `start` is the first column of the block.
        """
        if first < last and self._rows is not None:
            k = self._width
            rows = self._rows[low * k : high * k, first:last]
            self._live[first:last].addmm_(rows.T, self._sent[(low - start) * k : (high - start) * k], alpha=-1)

    def _column(self, j: int, high: int, start: int) -> None:
        """Round column `j` of the block that begins at `start`, and update columns `j + 1` to `high - 1`."""
        if not self._static and j % self.group_size == 0:
            self._grids.append(self._fit(self._group_weights(j)))
        self._grid = self._grids[self._columns_group[j]]
        w = self._live[j]
        rounded = self._grid.rounded(w)
        if self._trace:
            self._trace[0][j] = w
        if self._rows is not None:
            self._pass_on(j, (j - start) * self._width, w, rounded)
        w.copy_(rounded)
        self._send(j, j + 1, start, j + 1, high)

    def _pass_on(self, j: int, at: int, w: Tensor, rounded: Tensor) -> None:
        """Store one or two errors of column `j` in `_sent`, the first at the index `at` and the second at the next index.

        Later, rows of U and P are multiplied by these errors. The first error, ``(w - w^) + b_x (w0 - w)``, belongs to the row of
        U. If the term of P is used, the second error, ``a w + b_dx (w0 - w)``, belongs to the row of P.
        """
        alpha, beta_x, beta_dx = self._strengths
        if beta_x:
            torch.lerp(w, self._start[j], beta_x, out=self._sent[at]).sub_(rounded)
        else:
            torch.sub(w, rounded, out=self._sent[at])
        if self._width == 2 and alpha == beta_dx:
            torch.mul(self._start[j], alpha, out=self._sent[at + 1])
        elif self._width == 2:
            s = torch.mul(w, alpha - beta_dx, out=self._sent[at + 1])
            if beta_dx:
                s.add_(self._start[j], alpha=beta_dx)
        if self._trace:
            self._trace[1][j] = self._sent[at] / self._diagonal[j]
            self._trace[2][j] = self._sent[at + 1] if self._width == 2 else 0.0

    def _group_weights(self, j: int) -> Tensor:
        """Return the updated columns of the group that starts at column `j`, to which the grid of the group is fitted."""
        return self._live[j : j + self.group_size]

    def _fit(self, part: Tensor) -> Grid:
        o = self.config
        return fit_grid(part, o.bits, o.symmetric, o.grid, o.clip_search, self._floor)

    def _unpermuted(self, columns: Tensor) -> Tensor:
        if not self._ordered:
            return columns
        return torch.empty_like(columns).index_copy_(0, self.permutation, columns)

    def current(self) -> Tensor:
        """Return the current weight ``(out, in)``. Quantized columns are rounded, and the others include the updates so far."""
        return torch.clone(self._unpermuted(self._live).T, memory_format=torch.contiguous_format)

    def trace(self) -> Trace:
        """Return the trace of the columns quantized so far. Raises ValueError if the solver was created with ``trace=False``."""
        if self._trace is None:
            raise ValueError("this solver has no trace; create it with layer_solver(..., trace=True)")
        return Trace(*(self._unpermuted(t).T for t in self._trace))

    def levels(self, row: int) -> Tensor:
        """Return all levels of output `row` on the grid of the last quantized column."""
        found: Tensor = self._grid.levels(row)
        return found

    def result(self) -> LayerResult:
        """Return the quantized layer. Call this method after `steps` has finished."""
        if self.config.bits >= 16:
            return LayerResult(
                self._weight.clone(), None, None, None, None, self.permutation, 0.0, ("with 16 bits, the layer is unchanged",)
            )
        weight = self.current()
        scale, zero = (torch.stack([getattr(g, part) for g in self._grids], 1) for part in ("scale", "zero"))
        group = self._unpermuted(torch.tensor(self._columns_group, device=weight.device))
        at = slice(None) if len(self._grids) == 1 else group
        return LayerResult(
            weight=weight.to(self._weight.dtype),
            codes=torch.div(weight, scale[:, at]).add_(zero[:, at]).round_().to(torch.int16),
            scale=scale,
            zero=zero,
            group=group,
            permutation=self.permutation,
            damping=self.damping,
            notes=tuple(self.notes),
            trace=self.trace() if self._trace else None,
        )


def _check(weight: Tensor, hessian: Tensor, cross: Tensor | None) -> None:
    """Raise ValueError if a tensor has a wrong shape or dtype, or a value that is not finite."""
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; expected (out, in) with out and in at least 1")
    square = (weight.shape[1],) * 2
    for name, matrix in (("hessian", hessian), ("cross", cross)):
        if matrix is not None and tuple(matrix.shape) != square:
            raise ValueError(
                f"{name} has shape {tuple(matrix.shape)}; expected {square} for a weight of shape "
                f"{tuple(weight.shape)} (out, in): compute it with layer_statistics from this layer's inputs"
            )
    for name, matrix in (("weight", weight), ("hessian", hessian), ("cross", cross)):
        if matrix is not None:
            if not matrix.is_floating_point():
                raise ValueError(f"{name} has dtype {matrix.dtype}; expected a floating-point dtype, such as torch.float32")
            require_finite(matrix, name)
