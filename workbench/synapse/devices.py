"""How a device's conductance answers to a pulse.

Conductance is normalised: g = (G - Gmin) / (Gmax - Gmin) in [0, 1]. A device is two step laws: `rise(g)`, what one
potentiating pulse (LTP) adds at g, and `fall(g)`, what one depressing pulse (LTD) takes away. Two families cover the
literature: steps that are affine in g, whose n pulses have a closed form, and steps given by a table.

Sources: the exponential response is the one of NeuroSim (Chen et al., IEDM 2017) and of many device papers; linear,
linear-step, soft-bounds and exponential-step devices are aihwkit's (Rasch et al., arXiv 2104.02184). The paper's own
device equations are not public: which of these it used is inferred (research note, section 1.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from scipy.optimize import brentq
from torch import Tensor

KNOTS = (
    1025  # of a smooth step law held as a table: the error of linear interpolation is below 1e-6 of a step
)
LARGEST = 1_000_000  # levels
STRAIGHT = 1e-15  # nu below it is a line to the last digit


@dataclass(frozen=True)
class Device:
    """A step law. `levels` is the number of pulses from g = 0 to 1 (for laws that never get there: 1 / first step)."""

    levels: int

    def __post_init__(self) -> None:
        _whole("levels", self.levels)

    def rise(self, g: Tensor) -> Tensor:
        """What one potentiating pulse adds at g, before clipping."""
        raise TypeError("a device has a rise")

    def fall(self, g: Tensor) -> Tensor:
        """What one depressing pulse takes away at g, before clipping."""
        raise TypeError("a device has a fall")

    def many(self, g: Tensor, pulses: Tensor, up: bool) -> Tensor:
        """`pulses` whole pulses of one direction, clipped to [0, 1]."""
        left = pulses.clone()
        for _ in range(int(left.max()) if left.numel() else 0):
            moved = (g + self.rise(g) if up else g - self.fall(g)).clamp(0, 1)
            still = (left > 0) & (moved != g)
            if not still.any():
                break
            g, left = torch.where(still, moved, g), left - 1
        return g

    def pulse(self, g: float | Tensor, up: int | Tensor = 0, down: int | Tensor = 0) -> float | Tensor:
        """The conductance after `up` potentiating pulses and then `down` depressing ones.

        `g` in [0, 1] and the whole, non-negative numbers of pulses broadcast; numbers give a number, tensors a
        tensor. Raises ValueError for a g out of range or pulses that are negative or not whole.
        """
        plain = not any(isinstance(v, Tensor) for v in (g, up, down))
        value = g if isinstance(g, Tensor) else torch.tensor(g, dtype=torch.float64)
        if not bool(((value >= 0) & (value <= 1)).all()):
            raise ValueError(f"g={_first_wrong(value)}: expected a conductance in [0, 1]")
        counts = [_counts(name, n) for name, n in (("up", up), ("down", down))]
        value, *counts = torch.broadcast_tensors(value, *counts)
        value = self.many(self.many(value, counts[0], True), counts[1], False)
        return value.item() if plain and value.ndim == 0 else value

    def ladder(self) -> Tensor:
        """Conductances after 0, 1, ..., `levels` potentiating pulses from g = 0, float64 ``(levels + 1,)``."""
        return self.many(
            torch.zeros(self.levels + 1, dtype=torch.float64), torch.arange(self.levels + 1), True
        )

    def staircase(self, down: int | None = None) -> tuple[Tensor, Tensor]:
        """The measured figure of a device: `levels` pulses up from 0, then `down` (as many) pulses down from there."""
        rise = self.ladder()
        down = down or self.levels_down
        fall = self.many(rise[-1].expand(down + 1).clone(), torch.arange(down + 1), False)
        return rise, fall

    @property
    def levels_down(self) -> int:
        """Depressing pulses that a staircase shows."""
        return self.levels

    def symmetry_point(self) -> float | None:
        """Where a pulse up and a pulse down cancel: equal random pulses settle there. None where there is none."""

        def gap(g: float) -> float:
            at = torch.tensor(g, dtype=torch.float64)
            return (self.rise(at) - self.fall(at)).item()

        ends = gap(0.0), gap(1.0)
        if abs(ends[0]) + abs(ends[1]) < 1e-12 or ends[0] * ends[1] > 0:
            return None  # symmetric everywhere, or one direction wins everywhere
        return brentq(gap, 0.0, 1.0, xtol=1e-14)


@dataclass(frozen=True)
class Affine(Device):
    """Steps affine in g: ``rise(g) = a_up - b_up g`` and ``fall(g) = a_down + b_down g``."""

    def coefficients(self) -> tuple[float, float, float, float]:
        """``(a_up, b_up, a_down, b_down)``."""
        raise TypeError("an affine device has coefficients")

    def rise(self, g: Tensor) -> Tensor:  # noqa: D102
        a, b, _, _ = self.coefficients()
        return a - b * g

    def fall(self, g: Tensor) -> Tensor:  # noqa: D102
        _, _, a, b = self.coefficients()
        return a + b * g

    def many(self, g: Tensor, pulses: Tensor, up: bool) -> Tensor:  # noqa: D102
        a, b, c, d = self.coefficients()
        return (
            g + (a - b * g) * geometric(pulses, b) if up else g - (c + d * g) * geometric(pulses, d)
        ).clamp(0, 1)


def geometric(pulses: Tensor, b: float | Tensor) -> Tensor:
    """``1 + (1 - b) + ... + (1 - b)^(n-1)``: n affine pulses are the first one times this; exact as b -> 0."""
    b = torch.as_tensor(b, dtype=torch.float64).clamp(max=1 - 1e-15)  # b >= 1 reaches its end at once
    n = pulses.double()
    growth = (n * torch.log1p(-b)).clamp(max=700.0)
    straight = b.abs() < 1e-18  # no longer tells 1 - b from 1, and its logarithm may be flushed to 0
    return torch.where(straight, n, -torch.expm1(growth) / torch.where(straight, 1.0, b))


@dataclass(frozen=True)
class Exponential(Affine):
    """The normalised exponential response: ``g(n) = (1 - e^(-nu n / N)) / (1 - e^-nu)`` from 0 after n of N pulses.

    `nonlinearity_up` and `nonlinearity_down` are nu >= 0 (0: linear), not NeuroSim's label (see `conversions`). LTD is
    mirrored, ``1 - g(n)`` from 1, and so asymmetric, or `retraced`: it walks an LTP curve backwards, with the same step
    at the same g where the two nu are equal. `down_levels` is N of LTD where it differs.
    """

    levels: int = 64
    nonlinearity_up: float = 0.0
    nonlinearity_down: float = 0.0
    retraced: bool = False
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("down_levels", self.levels_down)
        for name in ("nonlinearity_up", "nonlinearity_down"):
            value = getattr(self, name)
            if not 0 <= value <= 500:
                raise ValueError(
                    f"{name}={value}: expected nu from 0 (linear) to 500; a NeuroSim label is another number"
                )

    @property
    def levels_down(self) -> int:  # noqa: D102
        return self.down_levels or self.levels

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        up, down = self.nonlinearity_up, self.nonlinearity_down
        a_up, b_up = _approach(up, up / self.levels, self.levels)
        k = down / self.levels_down
        if self.retraced:  # the LTP formula with n -> -n
            a, b = _approach(down, -k, self.levels_down)
            return a_up, b_up, -a, b
        a, b = _approach(down, k, self.levels_down)
        return a_up, b_up, a - b, b  # falls by what an LTP curve rises at 1 - g


def _approach(nu: float, k: float, levels: int) -> tuple[float, float]:
    """``(a g_inf, a)`` with ``a = 1 - e^-k`` and ``g_inf = 1 / (1 - e^-nu)``, without cancellation as nu -> 0."""
    if nu < STRAIGHT:
        return math.copysign(1 / levels, k), 0.0
    return math.expm1(-k) / math.expm1(-nu), -math.expm1(-k)


@dataclass(frozen=True)
class LinearStep(Affine):
    """A step that shrinks linearly towards its end: up ``(1 - slope_up (2g - 1)) / N``, down ``(1 + slope_down (2g - 1)) / N``.

    Slope 0 is a constant step, slope 1 soft bounds (the end is never reached).
    """

    levels: int = 64
    slope_up: float = 0.0
    slope_down: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slope_up", "slope_down"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)}: expected -1 to 1, beyond which a pulse would turn round"
                )

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        up, down, n = self.slope_up, self.slope_down, self.levels
        return (1 + up) / n, 2 * up / n, (1 - down) / n, 2 * down / n


@dataclass(frozen=True)
class Table(Device):
    """Steps interpolated linearly in a table: at conductance ``knots[k]`` a pulse adds ``up[k]`` or takes ``down[k]``."""

    levels: int
    knots_up: tuple[float, ...]
    up: tuple[float, ...]
    knots_down: tuple[float, ...]
    down: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("up", "down"):
            knots, steps = getattr(self, f"knots_{name}"), getattr(self, name)
            if len(knots) != len(steps) or len(knots) < 2:
                raise ValueError(
                    f"{name}: {len(steps)} steps at {len(knots)} conductances; expected as many, at least 2"
                )
            if any(b <= a for a, b in pairwise(knots)):
                raise ValueError(f"knots_{name}: expected conductances that rise")
            if not all(0 <= s < math.inf for s in steps) or not any(s > 0 for s in steps):
                raise ValueError(f"{name}: expected finite steps of at least 0, one of them above 0")

    def rise(self, g: Tensor) -> Tensor:  # noqa: D102
        return interpolate(g, self.knots_up, self.up)

    def fall(self, g: Tensor) -> Tensor:  # noqa: D102
        return interpolate(g, self.knots_down, self.down)


def interpolate(x: Tensor, knots: tuple[float, ...], values: tuple[float, ...]) -> Tensor:
    """Linear interpolation, constant beyond the ends."""
    at = torch.tensor(knots, dtype=x.dtype, device=x.device)
    found = torch.tensor(values, dtype=x.dtype, device=x.device)
    i = (torch.searchsorted(at, x.contiguous(), right=True) - 1).clamp(0, len(at) - 2)
    share = ((x - at[i]) / (at[i + 1] - at[i])).clamp(0, 1)
    return found[i] + share * (found[i + 1] - found[i])


def _smooth(levels: int, rise, fall) -> Table:
    g = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
    knots = tuple(g.tolist())
    return Table(levels, knots, tuple(rise(g).tolist()), knots, tuple(fall(g).tolist()))


def power(levels: int = 64, gamma_up: float = 2.0, gamma_down: float = 2.0) -> Table:
    """A power law: up ``(1 - g)^gamma / N``, down ``g^gamma / N`` (Fusi and Abbott 2007; aihwkit's PowStep)."""
    for name, gamma in (("gamma_up", gamma_up), ("gamma_down", gamma_down)):
        if not 0 <= gamma <= 20:
            raise ValueError(f"{name}={gamma}: expected an exponent from 0 to 20")
    _whole("levels", levels)
    return _smooth(levels, lambda g: (1 - g) ** gamma_up / levels, lambda g: g**gamma_down / levels)


def exponential_step(
    levels: int = 64, *, weight_up: float, weight_down: float, gamma_up: float, gamma_down: float,
    a: float, b: float, low: float = -1.0, high: float = 1.0,
) -> Table:  # fmt: skip
    """ExpStep of aihwkit: ``max(0, 1 - A e^(+-gamma z)) / N``, ``z = 2 a w / (high - low) + b``, ``w = low + (high - low) g``."""
    _whole("levels", levels)

    def step(g: Tensor, weight: float, gamma: float) -> Tensor:
        z = 2 * a * (low + (high - low) * g) / (high - low) + b
        return (1 - weight * torch.exp(gamma * z)).clamp(min=0) / levels

    return _smooth(
        levels, lambda g: step(g, weight_up, gamma_up), lambda g: step(g, weight_down, -gamma_down)
    )


def _whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError(f"{name}={value!r}: expected a whole number of pulses from 1 to {LARGEST:,}")


def _counts(name: str, value: int | Tensor) -> Tensor:
    counts = torch.as_tensor(value)
    if not bool((counts == counts.round() if counts.is_floating_point() else counts == counts).all()) or bool(
        (counts < 0).any()
    ):
        raise ValueError(f"{name}={_first_wrong(counts)}: expected whole numbers of pulses, at least 0")
    return counts


def _first_wrong(value: Tensor) -> float:
    flat = value.flatten()
    wrong = flat[~((flat >= 0) & (flat <= 1))]
    return (wrong if len(wrong) else flat)[0].item()
