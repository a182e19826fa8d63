"""How a device's conductance answers to a pulse.

Conductance is normalised: g = (G - Gmin) / (Gmax - Gmin) in [0, 1]. A device is two step laws: `rise(g)`, what one
potentiating pulse (LTP) adds at g, and `fall(g)`, what one depressing pulse (LTD) takes away. Two families cover the
literature: steps that are affine in g, whose n pulses have a closed form (here), and steps given by a table (`tables`).

Sources: the exponential response is the one of NeuroSim (Chen et al., IEDM 2017) and of many device papers; linear,
linear-step and soft-bounds devices are aihwkit's (Rasch et al., arXiv 2104.02184). The paper's own device equations are not
public: which of these it used is inferred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

LARGEST = 1_000_000  # levels
STRAIGHT = 1e-15  # nu below it is a line to the last digit
WORTHWHILE = 0.01  # of a mean step: a pulse that adds less is no use for programming


@dataclass(frozen=True)
class Device:
    """A step law. `levels` is N, the pulses from g = 0 to 1; for laws that only tend to 1, 1 / N is the typical step."""

    levels: int

    def __post_init__(self) -> None:
        whole("levels", self.levels)
        whole("down_levels", self.levels_down)

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
        value = g if isinstance(g, Tensor) and g.is_floating_point() else torch.as_tensor(g, dtype=torch.float64)
        wrong = ~((value >= 0) & (value <= 1))
        if bool(wrong.any()):
            raise ValueError(f"g={value[wrong].flatten()[0].item()}: expected a conductance in [0, 1]")
        counts = [_counts(name, n) for name, n in (("up", up), ("down", down))]
        value, *counts = torch.broadcast_tensors(value, *counts)
        value = self.many(self.many(value, counts[0], True), counts[1], False)
        return value.item() if plain and value.ndim == 0 else value

    def walk(self, start: float, pulses: int, up: bool) -> Tensor:
        """Conductances after 0, 1, ..., `pulses` single pulses of one direction, float64 ``(pulses + 1,)``."""
        raise TypeError("a device has a walk")

    def ladder(self) -> Tensor:
        """Conductances that counted potentiating pulses from g = 0 can program, float64: after 0, 1, 2, ... of them.

        At least `levels` pulses, and on from there towards 1 as long as a pulse adds a hundredth of a mean step.
        """
        pulses, found = self.levels, self.walk(0.0, self.levels, True)
        while found[-1] < 1 and self.levels * self.rise(found[-1]) >= WORTHWHILE:
            pulses *= 2
            found = self.walk(0.0, pulses, True)
        useful = int((self.levels * found.diff() >= WORTHWHILE).sum())
        return found[: max(self.levels, useful) + 1]

    def staircase(self) -> tuple[Tensor, Tensor]:
        """The measured figure of a device: `levels` pulses up from 0, then `levels_down` pulses down from there."""
        rise = self.walk(0.0, self.levels, True)
        return rise, self.walk(rise[-1].item(), self.levels_down, False)

    @property
    def levels_down(self) -> int:
        """N of depressing pulses."""
        return getattr(self, "down_levels", None) or self.levels

    def biased(self, bias: float) -> Device:
        """The device with steps up larger by the share `bias`, and steps down smaller by it."""
        raise TypeError("a device has a bias")

    def symmetry_point(self) -> float | None:
        """Where a pulse up and a pulse down cancel: equal random pulses settle there. None where there is none."""

        def gap(g: float) -> float:
            at = torch.tensor(g, dtype=torch.float64)
            return (self.rise(at) - self.fall(at)).item()

        if not gap(0.0) > 1e-12 or not gap(1.0) < -1e-12:
            return None  # symmetric everywhere, or no place that pulls from both sides
        return float(brentq(gap, 0.0, 1.0, xtol=1e-14))


@dataclass(frozen=True)
class Affine(Device):
    """Steps affine in g: ``rise(g) = a_up - b_up g`` and ``fall(g) = a_down + b_down g``."""

    def coefficients(self) -> tuple[float, float, float, float]:
        """``(a_up, b_up, a_down, b_down)``."""
        raise TypeError("an affine device has coefficients")

    def walk(self, start: float, pulses: int, up: bool) -> Tensor:  # noqa: D102
        g = torch.full((pulses + 1,), start, dtype=torch.float64)
        return self.many(g, torch.arange(pulses + 1), up)

    def biased(self, bias: float) -> Device:  # noqa: D102
        if not bias:
            return self
        a, b, c, d = self.coefficients()
        up, down = 1 + bias, 1 - bias
        return AffineStep(self.levels, (up * a, up * b), (down * c, down * d), self.levels_down)

    def rise(self, g: Tensor) -> Tensor:  # noqa: D102
        a, b, _, _ = self.coefficients()
        return a - b * g

    def fall(self, g: Tensor) -> Tensor:  # noqa: D102
        _, _, a, b = self.coefficients()
        return a + b * g

    def many(self, g: Tensor, pulses: Tensor, up: bool) -> Tensor:  # noqa: D102
        a, b, c, d = self.coefficients()
        return (g + (a - b * g) * geometric(pulses, b) if up else g - (c + d * g) * geometric(pulses, d)).clamp(0, 1)


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
    mirrored, ``1 - g(n)`` from 1, and so asymmetric, or `retraced`: it walks an LTP curve backwards, with the
    same steps between the same conductances where the two nu and N are equal. `down_levels` is N of LTD where it differs.
    """

    levels: int = 64
    nonlinearity_up: float = 0.0
    nonlinearity_down: float = 0.0
    retraced: bool = False
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("nonlinearity_up", "nonlinearity_down"):
            value = getattr(self, name)
            if not 0 <= value <= 500:
                raise ValueError(f"{name}={value}: expected nu from 0 (linear) to 500; a NeuroSim label is another number")

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        a, b, c, d = self.coefficients_of(torch.ones((), dtype=torch.float64))
        return float(a), float(b), float(c), float(d)

    def coefficients_of(self, factor: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The coefficients of devices whose nu are `factor` times this one's."""
        up, down = self.nonlinearity_up * factor, self.nonlinearity_down * factor
        a_up, b_up = _approach(up, self.levels, 1)
        a, b = _approach(down, self.levels_down, -1 if self.retraced else 1)
        if self.retraced:  # the LTP formula with n -> -n
            return a_up, b_up, -a, b
        return a_up, b_up, a - b, b  # falls by what an LTP curve rises at 1 - g


def _approach(nu: Tensor, levels: int, sign: int) -> tuple[Tensor, Tensor]:
    """``(a g_inf, a)`` with ``a = 1 - e^(-sign nu / N)``, ``g_inf = 1 / (1 - e^-nu)``, without cancellation as nu -> 0."""
    straight = nu < STRAIGHT
    share = torch.expm1(-sign * nu / levels)
    first = torch.where(straight, sign / levels, share / torch.expm1(-torch.where(straight, 1.0, nu)))
    return first, torch.where(straight, 0.0, -share)


@dataclass(frozen=True)
class AffineStep(Affine):
    """Any affine steps: ``rise(g) = up[0] - up[1] g``, ``fall(g) = down[0] + down[1] g``, none of them negative."""

    levels: int
    up: tuple[float, float]
    down: tuple[float, float]
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, end in (("up", self.up[0] - self.up[1]), ("down", self.down[0] + self.down[1])):
            if not (getattr(self, name)[0] >= 0 and -1e-12 <= end < math.inf):
                raise ValueError(f"{name}={getattr(self, name)}: expected steps of at least 0 at both ends")

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        return *self.up, *self.down


@dataclass(frozen=True)
class LinearStep(Affine):
    """A step that shrinks linearly towards its end: up ``(1 - slope_up (2g - 1)) / N``, down ``(1 + slope_down (2g - 1)) / N``.

    Slope 0 is a constant step, slope 1 soft bounds (the end is never reached).
    """

    levels: int = 64
    slope_up: float = 0.0
    slope_down: float = 0.0
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slope_up", "slope_down"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected -1 to 1, beyond which a pulse would turn round")

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        up, down, n, m = self.slope_up, self.slope_down, self.levels, self.levels_down
        return (1 + up) / n, 2 * up / n, (1 - down) / m, 2 * down / m


def whole(name: str, value: int) -> None:
    """Raise ValueError unless `value` is a whole number of pulses."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError(f"{name}={value!r}: expected a whole number of pulses from 1 to {LARGEST:,}")


def _counts(name: str, value: int | Tensor) -> Tensor:
    counts = torch.as_tensor(value)
    number = counts.double()
    wrong = ~((number >= 0) & (number == number.round()) & (number < math.inf))
    if bool(wrong.any()):
        raise ValueError(f"{name}={counts[wrong].flatten()[0].item()}: expected whole numbers of pulses, at least 0")
    return counts
