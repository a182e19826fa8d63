"""The configuration of device imperfections: spreads from device to device, noise, and stuck devices."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from workbench.knobs import Config, knob
from workbench.synapse.catalogue import CATALOGUE

PULSES = (lambda c: getattr(c, "rule", "") != "float", "software back-propagation has no devices")


def _own_noise(config: Any) -> bool:
    return config.published_noise and config.device in CATALOGUE


OWN = (lambda c: not _own_noise(c), "published noise is on, so the value of the published device is used")


class ImperfectionConfig(Config):
    """The knobs of device imperfections.

    A spread is a standard deviation from device to device. All spreads are relative to the mean, except `asymmetry_spread`,
    which is absolute.
    """

    title: ClassVar[str] = "imperfections"
    published_noise: bool = knob(
        False,
        "published noise",
        "Uses the spreads and the noise of the published device in place of step spread, range spread and cycle noise.",
        when=(lambda c: c.device in CATALOGUE, "the device is not a published one, so it has no published noise"),
    )
    step_spread: float = knob(
        0.0,
        "step spread",
        "The relative standard deviation of the step size from device to device. LTP and LTD steps are drawn independently.",
        low=0.0,
        high=2.0,
        step=0.05,
        when=OWN,
    )
    range_spread: float = knob(
        0.0,
        "range spread",
        "The relative standard deviation of Gmax from device to device. The steps of a device are proportional to its Gmax.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=OWN,
    )
    shape_spread: float = knob(
        0.0,
        "shape spread",
        "The relative standard deviation of the shape nu from device to device.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.device == "exponential" or c.device in CATALOGUE, "only exponential devices have a shape nu"),
    )
    pair_correlation: float = knob(
        0.0,
        "pair correlation",
        "The correlation between the two devices of a pair. At 1, both have the same step size, range, shape and asymmetry.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.spreads() or _own_noise(c), "all devices are equal"),
    )
    asymmetry: float = knob(
        0.0,
        "asymmetry",
        "Makes steps up larger and steps down smaller by this share. A negative value does the opposite.",
        low=-0.9,
        high=0.9,
        step=0.05,
    )
    asymmetry_spread: float = knob(
        0.0,
        "asymmetry spread",
        "The standard deviation of the asymmetry from device to device (absolute, not relative).",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    cycle: float = knob(
        0.0,
        "cycle noise",
        "Cycle-to-cycle noise: the standard deviation of the change by one pulse, in the unit chosen below.",
        low=0.0,
        high=10.0,
        step=0.1,
        when=OWN,
    )
    cycle_unit: Literal["mean step", "% of range"] = knob(
        "mean step",
        "unit of cycle noise",
        "The unit of cycle noise. With N levels, one mean step of LTP is 100 / N % of the range.",
        when=(lambda c: c.cycle > 0 and not _own_noise(c), "there is no cycle noise"),
    )
    stuck: float = knob(
        0.0,
        "stuck devices",
        "The share of devices whose conductance never changes. Half of them are stuck at Gmin, half at Gmax.",
        low=0.0,
        high=0.9,
        step=0.01,
    )
    write_noise: float = knob(
        0.0,
        "write noise",
        "The standard deviation of the error of a stored weight, as a share of the largest weight. Each write has a new error.",
        low=0.0,
        high=0.5,
        step=0.01,
        when=PULSES,
    )
    read_noise: float = knob(
        0.0,
        "read noise",
        "The standard deviation of the noise on each summed current, in the forward and the backward pass. A sum of 1 gives the "
        "largest activation.",
        low=0.0,
        high=1.0,
        step=0.01,
    )

    def spreads(self) -> bool:
        """Return True if any spread is above 0, so that devices differ from each other. Stuck devices do not count."""
        names = "step_spread", "range_spread", "shape_spread", "asymmetry_spread"
        return any(getattr(self, name) for name in names)

    def cycle_of_range(self, levels: int) -> float:
        """Return the cycle-to-cycle standard deviation of one pulse, as a share of the conductance range.

        `levels` is the number of levels of the device. It is needed if the unit of `cycle` is the mean step.
        """
        return self.cycle / levels if self.cycle_unit == "mean step" else self.cycle / 100
