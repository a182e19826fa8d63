"""The published programs' block loop, code for code: for parity with published programs, not for use.

GPTAQ's and ResComp's programs (list0830/ResComp, commit 354a962, read and not copied) depart from their papers:
a group that starts inside a block is fitted on weights that lack the block's own updates, and the lazy update
pushes other columns through P than the update inside the block does. Their results depend on the block size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.quantization.fast_solver import LayerSolver
from workbench.quantization.grids import PUBLISHED_FLOOR


class PublishedSolver(LayerSolver):
    """`LayerSolver` with the authors' blocks and their lower bound on the range of a group."""

    _floor = PUBLISHED_FLOOR

    def _prepare(self, weight: Tensor, hessian: Tensor, cross: Tensor | None) -> None:
        super()._prepare(weight, hessian, cross)
        if self.group_size == weight.shape[1] and self.method != "exact":  # which is not in the programs
            # the programs fit whole rows before they clear the dead columns
            self._grids = [self._fit(weight.to(self._live.dtype).T)]

    def _dead_diagonal(self, live: Tensor) -> float:
        return 1.0  # as the GPTQ programs do: it counts in the mean, so that the common scale of the statistics matters

    def _block_end(self, low: int, n: int) -> int:
        return min(low + self.config.block_size, n)

    def _block(self, low: int, high: int) -> None:
        self._low, self._stale = low, self._live[low:high].clone()
        self._before = torch.empty_like(self._stale)  # the block's columns just before their own rounding
        for j in range(low, high):
            self._column(j, high, low)
        if self._rows is not None:
            self._change_to_lazy(low, high)

    def _pass_on(self, j: int, at: int, w: Tensor, rounded: Tensor) -> None:
        self._before[j - self._low] = w
        super()._pass_on(j, at, w, rounded)

    def _change_to_lazy(self, low: int, high: int) -> None:
        """Replace w, in what the block sends to the columns after it, by what the programs take for it there.

        GPTAQ, and ResComp at 2 bits: the rounded column. ResComp at other bits: w clamped to the range of the
        block's last grid, whichever group that belongs to.
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
