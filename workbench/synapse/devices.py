"""The response of a device: how its conductance changes with each pulse.

The conductance G is normalised to g = (G - Gmin) / (Gmax - Gmin), which is in [0, 1]. Two functions describe a device:
`rise(g)` is the increase by one potentiating pulse (LTP, long-term potentiation) at g, and `fall(g)` is the decrease by
one depressing pulse (LTD, long-term depression). The literature uses two families of devices. In the first, steps are
affine in g, so the effect of n pulses has a closed form (this module). In the second, a table gives the steps (`tables`).

Sources: NeuroSim (Chen et al., IEDM 2017) and many device papers use the exponential response. The linear, linear-step
and soft-bounds devices are those of aihwkit (Rasch et al., arXiv 2104.02184). The device equations of the paper (arXiv
1707.06381) are not public, so we can only assume that the paper used one of these devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

LARGEST = 1_000_000  # largest number of levels
STRAIGHT = 1e-15  # below this nu, the response equals a straight line in float64
WORTHWHILE = 0.01  # in units of the mean step: programming does not use pulses with a smaller step


@dataclass(frozen=True)
class Device:
    """The base class of all devices. A subclass defines the size of a step up (`rise`) and of a step down (`fall`).

    `levels` is N, the number of pulses from g = 0 to g = 1. If g approaches 1 but never reaches it, 1 / N is the typical step.
    """

    levels: int

    def __post_init__(self) -> None:
        whole("levels", self.levels)
        whole("down_levels", self.levels_down)

    def rise(self, g: Tensor) -> Tensor:
        """Return the increase of `g` by one potentiating pulse, before the result is clipped to [0, 1]."""
        raise TypeError("Device.rise is abstract; use a subclass that defines it")

    def fall(self, g: Tensor) -> Tensor:
        """Return the decrease of `g` by one depressing pulse, before the result is clipped to [0, 1]."""
        raise TypeError("Device.fall is abstract; use a subclass that defines it")

    def many(self, g: Tensor, pulses: Tensor, up: bool) -> Tensor:
        """Return the conductances, clipped to [0, 1], after several pulses in the same direction.

        `g` holds the conductances before the pulses, and `pulses` the integer number of pulses for each of them. Both tensors
        have the same shape. The pulses are potentiating if `up` is True, and depressing otherwise.
        """
        left = pulses.clone()
        for _ in range(int(left.max()) if left.numel() else 0):
            moved = (g + self.rise(g) if up else g - self.fall(g)).clamp(0, 1)
            still = (left > 0) & (moved != g)
            if not still.any():
                break
            g, left = torch.where(still, moved, g), left - 1
        return g

    def pulse(self, g: float | Tensor, up: int | Tensor = 0, down: int | Tensor = 0) -> float | Tensor:
        """Return the conductance after `up` potentiating pulses and then `down` depressing pulses.

        `g` is in [0, 1]. `up` and `down` are whole numbers of at least 0, and are broadcast with `g`. The result is a number
        if all arguments are numbers, and a tensor otherwise. Raises ValueError if `g` is outside [0, 1], or if a number of
        pulses is negative or not whole.
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
        """Return the conductances after 0, 1, ..., `pulses` pulses in the same direction, as float64 ``(pulses + 1,)``.

        The first conductance is `start`. The pulses are potentiating if `up` is True, and depressing otherwise.
        """
        raise TypeError("Device.walk is abstract; use a subclass that defines it")

    def ladder(self) -> Tensor:
        """Return the ladder: the conductances after 0, 1, 2, ... potentiating pulses from g = 0, in float64.

        These are the conductances that can be programmed by counting pulses. The ladder has at least `levels` pulses.
        It continues until g = 1, or until a pulse adds less than a hundredth of the mean step.
        """
        pulses, found = self.levels, self.walk(0.0, self.levels, True)
        while found[-1] < 1 and self.levels * self.rise(found[-1]) >= WORTHWHILE:
            pulses *= 2
            found = self.walk(0.0, pulses, True)
        useful = int((self.levels * found.diff() >= WORTHWHILE).sum())
        return found[: max(self.levels, useful) + 1]

    def staircase(self) -> tuple[Tensor, Tensor]:
        """Return the conductances in the usual measurement of a device: first pulses up, then pulses down.

        The first tensor holds the conductances during `levels` pulses up from g = 0. The second tensor holds those during
        `levels_down` pulses down, which start at the last conductance of the first tensor. Each tensor includes the conductance
        before its first pulse.
        """
        rise = self.walk(0.0, self.levels, True)
        return rise, self.walk(rise[-1].item(), self.levels_down, False)

    @property
    def levels_down(self) -> int:
        """The number of depressing pulses from g = 1 to g = 0. It equals `levels` unless `down_levels` is set."""
        return getattr(self, "down_levels", None) or self.levels

    def biased(self, bias: float) -> Device:
        """Return the device with steps up multiplied by ``1 + bias`` and steps down multiplied by ``1 - bias``."""
        raise TypeError("Device.biased is abstract; use a subclass that defines it")

    def symmetry_point(self) -> float | None:
        """Return the symmetry point: the conductance at which a pulse up and a pulse down cancel.

        If pulses up and down are random and equally likely, the conductance settles around this point. Returns None if the
        device has no such point, for example if steps up and down cancel at every conductance.
        """

        def gap(g: float) -> float:
            at = torch.tensor(g, dtype=torch.float64)
            return (self.rise(at) - self.fall(at)).item()

        if not gap(0.0) > 1e-12 or not gap(1.0) < -1e-12:
            return None  # the two steps are equal everywhere, or they do not move g away from both ends of the range
        return float(brentq(gap, 0.0, 1.0, xtol=1e-14))


@dataclass(frozen=True)
class Affine(Device):
    """A device whose steps are affine functions of g: ``rise(g) = a_up - b_up g`` and ``fall(g) = a_down + b_down g``."""

    def coefficients(self) -> tuple[float, float, float, float]:
        """Return the coefficients ``(a_up, b_up, a_down, b_down)`` of the steps."""
        raise TypeError("Affine.coefficients is abstract; use a subclass that defines it")

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
    """Return the geometric sum ``1 + (1 - b) + ... + (1 - b)^(n-1)`` in float64, where n is `pulses`.

    If the change of g by one pulse is an affine function of g with slope -b, the change by n pulses is the change by the first
    pulse times this sum. The result is also accurate if b is close to 0.
    """
    b = torch.as_tensor(b, dtype=torch.float64).clamp(max=1 - 1e-15)  # if b >= 1, the first pulse reaches the end
    n = pulses.double()
    growth = (n * torch.log1p(-b)).clamp(max=700.0)
    straight = b.abs() < 1e-18  # for such a b, 1 - b equals 1 in float64, and the logarithm may be flushed to 0
    return torch.where(straight, n, -torch.expm1(growth) / torch.where(straight, 1.0, b))


@dataclass(frozen=True)
class Exponential(Affine):
    """A device with the exponential response: ``g(n) = (1 - e^(-nu n / N)) / (1 - e^-nu)`` after n pulses from g = 0.

    Args:
        levels: N, the number of pulses from g = 0 to g = 1.
        nonlinearity_up: The shape nu >= 0 of LTP. 0 gives a straight line. nu differs from NeuroSim's nonlinearity label;
            `conversions` converts one to the other.
        nonlinearity_down: The shape nu >= 0 of LTD.
        retraced: If False, LTD is mirrored: after n pulses down from g = 1, g is ``1 - g(n)``, with the nu and N of LTD. Then,
            for nu > 0, steps up and down have equal sizes only at the symmetry point. If True, LTD follows an LTP curve
            backwards. Then, if LTP and LTD have the same nu and N, steps up and down have equal sizes at every g.
        down_levels: The number of pulses from g = 1 to g = 0. None means `levels`.
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
                raise ValueError(
                    f"{name}={value}: expected nu from 0 (linear) to 500; if this is a NeuroSim label, convert it with "
                    "conversions.nonlinearity"
                )

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        a, b, c, d = self.coefficients_of(torch.ones((), dtype=torch.float64))
        return float(a), float(b), float(c), float(d)

    def coefficients_of(self, factor: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the coefficients of devices whose shapes nu are multiplied by the elements of `factor`.

        Each of the four tensors has the shape of `factor`.
        """
        up, down = self.nonlinearity_up * factor, self.nonlinearity_down * factor
        a_up, b_up = _approach(up, self.levels, 1)
        a, b = _approach(down, self.levels_down, -1 if self.retraced else 1)
        if self.retraced:  # LTD has the formula of LTP with -n in place of n
            return a_up, b_up, -a, b
        return a_up, b_up, a - b, b  # the fall at g equals the rise of an LTP curve at 1 - g


def _approach(nu: Tensor, levels: int, sign: int) -> tuple[Tensor, Tensor]:
    """Return ``(a g_inf, a)``, where ``a = 1 - e^(-sign nu / N)`` and the asymptote is ``g_inf = 1 / (1 - e^-nu)``.

    N is `levels`, and `sign` is -1 for retraced LTD and 1 otherwise. The two numbers are also accurate for small nu, since they
    are computed without cancellation.
    """
    straight = nu < STRAIGHT
    share = torch.expm1(-sign * nu / levels)
    first = torch.where(straight, sign / levels, share / torch.expm1(-torch.where(straight, 1.0, nu)))
    return first, torch.where(straight, 0.0, -share)


@dataclass(frozen=True)
class AffineStep(Affine):
    """A device whose steps up and down are arbitrary affine functions of g.

    They are ``rise(g) = up[0] - up[1] g`` and ``fall(g) = down[0] + down[1] g``. Both must be at least 0 for g in [0, 1].
    """

    levels: int
    up: tuple[float, float]
    down: tuple[float, float]
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, end in (("up", self.up[0] - self.up[1]), ("down", self.down[0] + self.down[1])):
            if not (getattr(self, name)[0] >= 0 and -1e-12 <= end < math.inf):
                raise ValueError(f"{name}={getattr(self, name)}: expected steps of at least 0 for all g in [0, 1]")

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        return *self.up, *self.down


@dataclass(frozen=True)
class LinearStep(Affine):
    """A device whose steps shrink linearly towards the end of the range.

    A step up is ``(1 - slope_up (2g - 1)) / N`` with N = `levels`. A step down is ``(1 + slope_down (2g - 1)) / M`` with
    M = `down_levels`, or N if `down_levels` is None. A slope of 0 gives constant steps. A slope of 1 gives soft bounds: the
    step is 0 at the end of the range, so the end is never reached.
    """

    levels: int = 64
    slope_up: float = 0.0
    slope_down: float = 0.0
    down_levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slope_up", "slope_down"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)}: expected a slope from -1 to 1; otherwise, pulses at one end of the range "
                    "would move g in the wrong direction"
                )

    def coefficients(self) -> tuple[float, float, float, float]:  # noqa: D102
        up, down, n, m = self.slope_up, self.slope_down, self.levels, self.levels_down
        return (1 + up) / n, 2 * up / n, (1 - down) / m, 2 * down / m


def whole(name: str, value: int) -> None:
    """Raise ValueError unless `value` is a whole number of pulses from 1 to `LARGEST`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError(f"{name}={value!r}: expected a whole number of pulses from 1 to {LARGEST:,}")


def _counts(name: str, value: int | Tensor) -> Tensor:
    counts = torch.as_tensor(value)
    number = counts.double()
    wrong = ~((number >= 0) & (number == number.round()) & (number < math.inf))
    if bool(wrong.any()):
        raise ValueError(f"{name}={counts[wrong].flatten()[0].item()}: expected whole numbers of pulses, at least 0")
    return counts
