"""Quantization grids: the values (levels) that the weights of a group can take.

The level of a code is ``scale * (code - zero)``. Three conventions are in use. They differ strongly at 2 bits, so each has a
name. b is the number of bits. In each row of the group, lo is the minimum of 0 and all weights w, and hi is their maximum:

========  ==========================================  =============================================
name      codes (used by)                             scale, zero
========  ==========================================  =============================================
quarot    -2^(b-1) .. 2^(b-1)-1 (QuaRot, GPTAQ)       max|w| / (2^(b-1)-1), 0
ist       0 .. 2^b-1            (IST-DASLab, GPTQ)    (hi-lo) / (2^b-1) with hi=-lo=max|w|, 2^(b-1)
asym      0 .. 2^b-1            (all)                 (hi-lo) / (2^b-1), round(-lo/scale)
========  ==========================================  =============================================

``quarot`` and ``ist`` are symmetric. ``symmetric=False`` always means ``asym``. If no weight of a row is negative, ``ist``
keeps lo = 0, so the levels of this row are half as far apart.

All functions work on transposed weights, ``(in, out)``, so that each column of the layer is one contiguous row.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# the clipping search multiplies the range by p = 1.00, 0.99, .. 0.21 and minimises |q - w|^2.4 (option mse of the GPTQ programs)
CLIP_STEPS, CLIP_GRID, CLIP_NORM = 80, 100, 2.4
# lower bound on a group's range in the published programs; since it is absolute, the codes depend on the unit of the weights
PUBLISHED_FLOOR = 1e-5


class Grid(NamedTuple):
    """The grid of one group of input columns.

    `scale` and `zero` have the shape ``(out,)``. `low` and `high` are the lowest and the highest code.
    """

    scale: Tensor
    zero: Tensor
    low: int
    high: int
    centred: bool  # whether `zero` is 0 in every row, so that it need not be added

    def rounded(self, weight: Tensor) -> Tensor:
        """Return the level nearest to each entry of `weight` ``(..., out)``. Ties go to the even multiple of `scale`."""
        codes = torch.div(weight, self.scale).round_()
        if self.centred:
            return codes.clamp_(self.low, self.high).mul_(self.scale)
        return codes.add_(self.zero).clamp_(self.low, self.high).sub_(self.zero).mul_(self.scale)

    def levels(self, row: int) -> Tensor:
        """Return all levels of output `row` in ascending order."""
        codes = torch.arange(self.low, self.high + 1, device=self.scale.device)
        return (codes - self.zero[row]) * self.scale[row]

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest level, each ``(out,)``."""
        return (self.low - self.zero) * self.scale, (self.high - self.zero) * self.scale


def code_range(bits: int, symmetric: bool, grid: str) -> tuple[int, int]:
    """Return the lowest and the highest code of a convention."""
    if symmetric and grid == "quarot":
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def fit_grid(
    weight: Tensor, bits: int, symmetric: bool = True, grid: str = "quarot", clip_search: bool = False, floor: float = 0.0
) -> Grid:
    """Fit the grid of one group of columns to their weights `weight` ``(in, out)``, with one scale for each output channel.

    If `clip_search` is true, smaller ranges are tried too: the full range times p = 0.99, 0.98, .. 0.21. For each output, the
    first p with the least sum of ``|q - w|^2.4`` is used (option ``mse`` of the GPTQ programs). `floor` is a lower bound on the
    range, as in the published programs (0 means no bound). Without this bound, the scale is proportional to the weights, so the
    codes do not depend on the unit of the weights.
    """
    low, high = code_range(bits, symmetric, grid)
    bottom, top = weight.amin(0).clamp_(max=0), weight.amax(0).clamp_(min=0)
    best = _grid_of(bottom, top, low, high, symmetric, grid, floor)
    if not clip_search:
        return best
    unit = _unit(torch.maximum(-bottom, top)) if not floor else torch.ones_like(top)
    least = _clip_error(best, weight, unit)
    for step in range(1, CLIP_STEPS):
        p = 1 - step / CLIP_GRID
        trial = _grid_of(p * bottom, p * top, low, high, symmetric, grid, floor)
        error = _clip_error(trial, weight, unit)
        better = error < least
        least = torch.where(better, error, least)
        scale, zero = (torch.where(better, new, old) for new, old in ((trial.scale, best.scale), (trial.zero, best.zero)))
        best = Grid(scale, zero, low, high, best.centred)
    return best


def _unit(range_: Tensor) -> Tensor:
    """Return the next power of two above each range.

    Dividing an error by this power of two is exact, and the power 2.4 of the quotient does not underflow.
    """
    return torch.ldexp(torch.ones_like(range_), torch.frexp(range_).exponent)


def _clip_error(grid: Grid, weight: Tensor, unit: Tensor) -> Tensor:
    return (grid.rounded(weight) - weight).div_(unit).abs_().pow_(CLIP_NORM).sum(0)


def _grid_of(bottom: Tensor, top: Tensor, low: int, high: int, symmetric: bool, grid: str, floor: float) -> Grid:
    if symmetric and grid == "quarot":
        scale = _at_least(torch.maximum(-bottom, top), floor) / high
        return Grid(scale, torch.zeros_like(scale), low, high, centred=True)
    if symmetric:  # in the convention ist, the range of a row without negative weights begins at 0
        top = torch.maximum(-bottom, top)
        bottom = torch.where(bottom < 0, -top, bottom)
    empty = (bottom == 0) & (top == 0)
    bottom, top = bottom.masked_fill(empty, -1.0), top.masked_fill(empty, 1.0)
    scale = _at_least(top - bottom, floor) / high
    zero = torch.full_like(scale, (high + 1) // 2) if symmetric else torch.round(-bottom / scale)
    return Grid(scale, zero, low, high, centred=False)


def _at_least(range_: Tensor, floor: float) -> Tensor:
    """Return each range, or `floor` if the range is smaller. If `floor` is 0, `PUBLISHED_FLOOR` replaces ranges near 0."""
    if floor:
        return range_.clamp(min=floor)
    return range_.masked_fill(range_ < least_range(range_.dtype), PUBLISHED_FLOOR)


def least_range(dtype: torch.dtype) -> float:
    """Return the range below which the scale of a grid with 16 bits would be subnormal and lose precision."""
    return torch.finfo(dtype).tiny * 2**16
