"""Devices whose steps are given by a table: power laws, exponential steps, measured ones."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from workbench.synapse.devices import Device, whole

KNOTS = 1025  # of a smooth step law held as a table: linear interpolation errs by less than 1e-6 of a step
LARGEST = 65_536  # levels: pulses have no closed form here


@dataclass(frozen=True)
class Table(Device):
    """Steps interpolated linearly in a table: at conductance ``knots[k]`` a pulse adds ``up[k]`` or takes ``down[k]``."""

    levels: int
    knots_up: tuple[float, ...]
    up: tuple[float, ...]
    knots_down: tuple[float, ...]
    down: tuple[float, ...]
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.levels, self.levels_down) > LARGEST:
            raise ValueError(
                f"levels={max(self.levels, self.levels_down)}: expected at most {LARGEST:,} for a law without closed form"
            )
        for name in ("up", "down"):
            knots, steps = getattr(self, f"knots_{name}"), getattr(self, name)
            if len(knots) != len(steps) or len(knots) < 2:
                raise ValueError(f"{name}: {len(steps)} steps at {len(knots)} conductances; expected as many, at least 2")
            if any(b <= a for a, b in pairwise(knots)):
                raise ValueError(f"knots_{name}: expected conductances that rise")
            if not all(0 <= s < math.inf for s in steps) or not any(s > 0 for s in steps):
                raise ValueError(f"{name}: expected finite steps of at least 0, one of them above 0")
        if not self.up[0] > 0:
            raise ValueError(
                f"up: {self.up[0]} at the lowest conductance; expected a step above 0 where a device stands after a reset"
            )

    def rise(self, g: Tensor) -> Tensor:  # noqa: D102
        return interpolate(g, *self.steps(True, g.device))[0]

    def fall(self, g: Tensor) -> Tensor:  # noqa: D102
        return interpolate(g, *self.steps(False, g.device))[0]

    def steps(self, up: bool, device: torch.device) -> tuple[Tensor, Tensor]:
        """Conductances of the table's points, and the step at each: both of shape (points,), float64."""
        tables = (self.knots_up, self.up) if up else (self.knots_down, self.down)
        knots, steps = (torch.tensor(table, dtype=torch.float64, device=device) for table in tables)
        return knots, steps

    def walk(self, start: float, pulses: int, up: bool) -> Tensor:  # noqa: D102
        knots, steps, sign = (self.knots_up, self.up, 1) if up else (self.knots_down, self.down, -1)
        found = [start]
        for _ in range(pulses):
            i = min(max(bisect_right(knots, found[-1]) - 1, 0), len(knots) - 2)
            share = min(max((found[-1] - knots[i]) / (knots[i + 1] - knots[i]), 0.0), 1.0)
            step = steps[i] + share * (steps[i + 1] - steps[i])
            found.append(min(max(found[-1] + sign * step, 0.0), 1.0))
        return torch.tensor(found, dtype=torch.float64)

    def biased(self, bias: float) -> Device:  # noqa: D102
        up, down = (tuple(f * v for v in steps) for f, steps in ((1 + bias, self.up), (1 - bias, self.down)))
        return replace(self, up=up, down=down) if bias else self


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Linear interpolation and its slope; constant, of slope 0, beyond the ends. In float64: close knots are not merged."""
    i = (torch.searchsorted(knots, x.double().contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
    left, width, value = knots[i], knots[i + 1] - knots[i], values[i]
    share = (x - left) / width
    rise = values[i + 1] - value
    slope = torch.where((share >= 0) & (share < 1), rise / width, 0.0)
    return (value + share.clamp(0, 1) * rise).to(x.dtype), slope.to(x.dtype)


def _smooth(levels: int, down_levels: int | None, rise, fall) -> Table:
    g = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
    knots = tuple(g.tolist())
    return Table(levels, knots, tuple(rise(g).tolist()), knots, tuple(fall(g).tolist()), down_levels)


def power(levels: int = 64, gamma_up: float = 2.0, gamma_down: float = 2.0, down_levels: int | None = None) -> Table:
    """A power law: up ``(1 - g)^gamma / N``, down ``g^gamma / N`` (Fusi and Abbott 2007; aihwkit's PowStep)."""
    for name, gamma in (("gamma_up", gamma_up), ("gamma_down", gamma_down)):
        if not 0 <= gamma <= 20:
            raise ValueError(f"{name}={gamma}: expected an exponent from 0 to 20")
    whole("levels", levels)
    down = down_levels or levels
    return _smooth(levels, down_levels, lambda g: (1 - g) ** gamma_up / levels, lambda g: g**gamma_down / down)


def exponential_step(
    levels: int = 64, *, weight_up: float, weight_down: float, gamma_up: float, gamma_down: float,
    a: float, b: float, low: float = -1.0, high: float = 1.0, step: float | None = None, down_levels: int | None = None,
) -> Table:  # fmt: skip
    """ExpStep of aihwkit: ``step max(0, 1 - A e^(+-gamma z))``, ``z = 2 a w / (high - low) + b``, ``w = low + (high - low) g``.

    `step` is aihwkit's dw_min over its range, by default ``1 / levels``: the law itself takes fewer pulses than that from end
    to end where A is negative.
    """
    whole("levels", levels)
    step = 1 / levels if step is None else step

    def steps(g: Tensor, weight: float, gamma: float) -> Tensor:
        z = 2 * a * (low + (high - low) * g) / (high - low) + b
        return step * (1 - weight * torch.exp(gamma * z)).clamp(min=0)

    return _smooth(levels, down_levels, lambda g: steps(g, weight_up, gamma_up), lambda g: steps(g, weight_down, -gamma_down))
