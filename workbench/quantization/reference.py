"""The authors' block loop, code for code: for parity with published programs, not for use.

GPTAQ's and ResComp's programs (list0830/ResComp, commit 354a962, read and not copied) depart from their papers:
a group that starts inside a block is fitted on weights that lack the block's own updates, and the lazy update
pushes other columns through P than the update inside the block does. Their results depend on the block size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.quantization.solver import LayerSolver


class ReferenceSolver(LayerSolver):
    """`LayerSolver` with the authors' blocks."""

    def _block_end(self, low: int, n: int) -> int:
        return min(low + self.options.block_size, n)

    def _block(self, low: int, high: int) -> None:
        self._low, self._stale, befores = low, self._live[low:high].clone(), []
        for j in range(low, high):
            befores.append(self._live[j].clone())
            self._column(j, high, low)
        if self._rows is None:
            return
        for j, before in zip(range(low, high), befores, strict=True):
            rounded = self._live[j].clone()
            self._pass_on(j, low, before, rounded, self._lazy(before, rounded))

    def _lazy(self, before: Tensor, rounded: Tensor) -> Tensor:
        """What the lazy update takes for w.

        GPTAQ, and ResComp at 2 bits: the rounded column. ResComp at other bits: w clamped to the range of the
        block's last grid, whichever group that belongs to.
        """
        _, beta_x, beta_dx = self._strengths
        if self.options.bits == 2 or not (beta_x or beta_dx):
            return rounded
        return torch.clamp(before, *self._grid.range())

    def _prepare(self, weight: Tensor, hessian: Tensor, cross: Tensor | None) -> None:
        super()._prepare(weight, hessian, cross)
        if (
            self.group_size == weight.shape[1] and self.method != "exact"
        ):  # the programs fit whole rows before they clear the dead columns
            self._grids = [self._fit(weight.to(self._live.dtype).T)]

    def _group_weights(self, j: int) -> Tensor:
        stale = torch.cat([self._stale[j - self._low :], self._live[self._low + len(self._stale) :]])
        return stale[: self.group_size]
