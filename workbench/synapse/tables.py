"""Devices whose steps are given by a table: power-law, exponential-step and measured devices."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from workbench.synapse.devices import Device, whole

KNOTS = 1025  # points in the table of a smooth function: the error of linear interpolation is below 1e-6 of a step
LARGEST = 65_536  # largest number of levels; it is limited, since each pulse is computed in turn (there is no closed form)


@dataclass(frozen=True)
class Table(Device):
    """A device whose steps are given by two tables.

    At the conductance ``knots_up[k]``, a pulse up raises the conductance by ``up[k]``. At ``knots_down[k]``, a pulse down
    lowers it by ``down[k]``. Between these conductances, steps are interpolated linearly.
    """

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
                f"levels={max(self.levels, self.levels_down)}: expected at most {LARGEST:,}, since each pulse is computed in turn"
            )
        for name in ("up", "down"):
            knots, steps = getattr(self, f"knots_{name}"), getattr(self, name)
            if len(knots) != len(steps) or len(knots) < 2:
                raise ValueError(f"{name}: {len(steps)} steps at {len(knots)} conductances; expected equal numbers of at least 2")
            if any(b <= a for a, b in pairwise(knots)):
                raise ValueError(f"knots_{name}: expected increasing conductances, each larger than the previous one")
            if not all(0 <= s < math.inf for s in steps) or not any(s > 0 for s in steps):
                raise ValueError(f"{name}: expected finite steps, none below 0 and at least one above 0")
        if not self.up[0] > 0:
            raise ValueError(
                f"up: the step at the lowest conductance is {self.up[0]}; expected a step above 0, since otherwise no "
                "pulse would change a device after a reset"
            )

    def rise(self, g: Tensor) -> Tensor:  # noqa: D102
        return interpolate(g, *self.steps(True, g.device))[0]

    def fall(self, g: Tensor) -> Tensor:  # noqa: D102
        return interpolate(g, *self.steps(False, g.device))[0]

    def steps(self, up: bool, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the conductances and the steps of the table for pulses up or down, as two float64 tensors ``(points,)``."""
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
    """Interpolate linearly at `x` between the `values` at `knots`. Returns the results and the slopes.

    Outside the range of `knots` the result is constant, with slope 0. The computation is in float64, so that knots that
    are close together remain distinct.
    """
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
    """Return a power-law device, with steps ``(1 - g)^gamma_up / N`` up and ``g^gamma_down / M`` down.

    N is `levels`. M is `down_levels` if it is given, and N otherwise. Sources: Fusi and Abbott (2007); aihwkit's PowStep device.
    Raises ValueError if an exponent is not between 0 and 20.
    """
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
    """Return an exponential-step device, which corresponds to aihwkit's ExpStep.

    Steps are ``step max(0, 1 - A e^(gamma z))`` up and ``step max(0, 1 - A e^(-gamma z))`` down, where
    ``z = 2 a w / (high - low) + b`` and ``w = low + (high - low) g`` is aihwkit's weight. A is `weight_up` or `weight_down`,
    and gamma is `gamma_up` or `gamma_down`. `step` is aihwkit's dw_min divided by the range ``high - low``; the default is
    ``1 / levels``. If A is negative, all steps are larger than `step`, so fewer than ``1 / step`` pulses cross the range.
    """
    whole("levels", levels)
    step = 1 / levels if step is None else step

    def steps(g: Tensor, weight: float, gamma: float) -> Tensor:
        z = 2 * a * (low + (high - low) * g) / (high - low) + b
        return step * (1 - weight * torch.exp(gamma * z)).clamp(min=0)

    return _smooth(levels, down_levels, lambda g: steps(g, weight_up, gamma_up), lambda g: steps(g, weight_down, -gamma_down))
