"""The knobs of what real devices do besides their law."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from workbench.knobs import Config, knob
from workbench.synapse.catalogue import CATALOGUE

PULSES = (lambda c: getattr(c, "rule", "") != "float", "software back-propagation has no devices")


def _own_noise(config: Any) -> bool:
    return config.published_noise and config.device in CATALOGUE


OWN = (lambda c: not _own_noise(c), "the published device's own takes its place")


class ImperfectionConfig(Config):
    """What real devices do besides; spreads are relative standard deviations unless a unit is given."""

    title: ClassVar[str] = "imperfections"
    published_noise: bool = knob(
        False,
        "published noise",
        "a published device's own spreads and noise, in place of step, range and cycle below",
        when=(lambda c: c.device in CATALOGUE, "only published devices have spreads and noise of their own"),
    )
    step_spread: float = knob(
        0.0,
        "step spread",
        "of the step's size, device to device; LTP and LTD are drawn apart",
        low=0.0,
        high=2.0,
        step=0.05,
        when=OWN,
    )
    range_spread: float = knob(
        0.0, "range spread", "of Gmax, device to device; steps scale along", low=0.0, high=1.0, step=0.05, when=OWN
    )
    shape_spread: float = knob(
        0.0,
        "shape spread",
        "of nu, device to device",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.device == "exponential" or c.device in CATALOGUE, "only exponential devices have a shape nu"),
    )
    pair_correlation: float = knob(
        0.0,
        "pair correlation",
        "of these spreads within a pair, whose devices lie side by side",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.spreads() or c.stuck > 0 or _own_noise(c), "no device differs from the others"),
    )
    asymmetry: float = knob(0.0, "asymmetry", "up steps larger by this share, down steps smaller", low=-0.9, high=0.9, step=0.05)
    asymmetry_spread: float = knob(
        0.0, "asymmetry spread", "of the asymmetry, device to device (absolute)", low=0.0, high=1.0, step=0.05
    )
    cycle: float = knob(
        0.0, "cycle noise", "cycle to cycle, standard deviation of one pulse", low=0.0, high=10.0, step=0.1, when=OWN
    )
    cycle_unit: Literal["mean step", "% of range"] = knob(
        "mean step",
        "unit of cycle noise",
        "of an LTP step; the two conventions of the literature differ by a factor N / 100",
        when=(lambda c: c.cycle > 0 and not _own_noise(c), "there is no cycle noise"),
    )
    stuck: float = knob(
        0.0, "stuck devices", "share of devices that never change, half at Gmin, half at Gmax", low=0.0, high=0.9, step=0.01
    )
    write_noise: float = knob(
        0.0,
        "write noise",
        "what is read differs from what was written, share of the largest weight",
        low=0.0,
        high=0.5,
        step=0.01,
        when=PULSES,
    )
    read_noise: float = knob(
        0.0,
        "read noise",
        "on each summed current, both directions: its deviation, where a sum of 1 is a full activation",
        low=0.0,
        high=1.0,
        step=0.01,
    )

    def spreads(self) -> bool:
        """Whether devices differ from each other."""
        names = "step_spread", "range_spread", "shape_spread", "asymmetry_spread"
        return any(getattr(self, name) for name in names)

    def cycle_of_range(self, levels: int) -> float:
        """Cycle-to-cycle deviation of one pulse in units of the range."""
        return self.cycle / levels if self.cycle_unit == "mean step" else self.cycle / 100
