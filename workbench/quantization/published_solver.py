"""A solver that gives the same codes as the published programs. Use it to compare with these programs, not to quantize models.

The programs of GPTAQ and ResComp (list0830/ResComp, commit 354a962; read, not copied) deviate from their papers in two points.
First, the grid of a group that starts inside a block is fitted to weights that lack the updates from this block. Second, the
later blocks are updated only at the end of a block (lazy update), and this update uses other values of the columns than the
update inside the block does. So the results depend on the block size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.quantization.fast_solver import LayerSolver
from workbench.quantization.grids import PUBLISHED_FLOOR


class PublishedSolver(LayerSolver):
    """A `LayerSolver` with the block loop of the published programs and their lower bound on the range of a group."""

    _floor = PUBLISHED_FLOOR

    def _prepare(self, weight: Tensor, hessian: Tensor, cross: Tensor | None) -> None:
        super()._prepare(weight, hessian, cross)
        if self.group_size == weight.shape[1] and self.method != "exact":  # the programs have no method exact
            # the programs fit grids of whole rows before they set dead columns to 0
            self._grids = [self._fit(weight.to(self._live.dtype).T)]

    def _dead_diagonal(self, live: Tensor) -> float:
        return 1.0  # as in the GPTQ programs; the 1 changes the mean of the diagonal, to which the damping is relative

    def _block_end(self, low: int, n: int) -> int:
        return min(low + self.config.block_size, n)

    def _block(self, low: int, high: int) -> None:
        self._low, self._stale = low, self._live[low:high].clone()
        self._before = torch.empty_like(self._stale)  # the block's columns just before they are rounded
        for j in range(low, high):
            self._column(j, high, low)
        if self._rows is not None:
            self._change_to_lazy(low, high)

    def _pass_on(self, j: int, at: int, w: Tensor, rounded: Tensor) -> None:
        self._before[j - self._low] = w
        super()._pass_on(j, at, w, rounded)

    def _change_to_lazy(self, low: int, high: int) -> None:
        """Replace the stored errors of the block by the errors that the lazy update of the published programs uses.

        In the terms with a, b_x and b_dx of `column_loop`, the programs replace w by another value. GPTAQ, and ResComp with 2
        bits, use the rounded column. ResComp with other numbers of bits uses w clamped to the range of the last grid in the
        block, even if that grid belongs to another group.
        """
        alpha, beta_x, beta_dx = self._strengths
        taken = self._live[low:high]
        if (beta_x or beta_dx) and self.config.bits != 2:
            taken = torch.clamp(self._before, *self._grid.range())
        change, sent = taken - self._before, self._sent[: (high - low) * self._width]
        sent[:: self._width] -= beta_x * change
        if self._width == 2:
            sent[1::2] += (alpha - beta_dx) * change

    def _group_weights(self, j: int) -> Tensor:
        stale = torch.cat([self._stale[j - self._low :], self._live[self._low + len(self._stale) :]])
        return stale[: self.group_size]
