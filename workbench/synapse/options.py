"""The knobs of a device network, declared once: imperfections, updates, network and data; those of the device in `choice`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from workbench import datasets
from workbench.experiment import Config, knob
from workbench.synapse.choice import DeviceConfig, numbers
from workbench.synapse.devices import Exponential
from workbench.synapse.presets import PRESETS

Scheme = Literal["uni", "push-pull", "alternating", "reference"]
SCHEMES = ("uni", "alternating", "push-pull", "reference")
Rule = Literal["stochastic", "coincidence", "deterministic", "single", "netted", "float"]
RULES = ("stochastic", "coincidence", "deterministic", "single", "netted")  # those that pulse devices


class ImperfectionConfig(Config):
    """What real devices do besides; spreads are relative standard deviations unless a unit is given."""

    title: ClassVar[str] = "imperfections"
    published_noise: bool = knob(
        False,
        "a published device's own spreads and noise, in place of step, range and cycle below; others have none",
    )
    step_spread: float = knob(
        0.0, "step size, device to device; LTP and LTD drawn apart", low=0.0, high=2.0, step=0.05
    )
    range_spread: float = knob(0.0, "Gmax, device to device; steps scale along", low=0.0, high=1.0, step=0.05)
    shape_spread: float = knob(
        0.0, "nu, device to device (exponential devices)", low=0.0, high=1.0, step=0.05
    )
    pair_correlation: float = knob(
        0.0,
        "correlation of these spreads within a pair: its devices lie side by side",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    asymmetry: float = knob(
        0.0, "up steps larger by this share, down steps smaller", low=-0.9, high=0.9, step=0.05
    )
    asymmetry_spread: float = knob(0.0, "the same, device to device", low=0.0, high=1.0, step=0.05)
    cycle: float = knob(0.0, "cycle to cycle, standard deviation of one pulse", low=0.0, high=10.0, step=0.1)
    cycle_unit: Literal["mean step", "% of range"] = knob(
        "mean step",
        "unit of cycle, of an LTP step; the two conventions of the literature differ by a factor N / 100",
    )
    stuck: float = knob(
        0.0, "share of devices that never change, half at Gmin, half at Gmax", low=0.0, high=0.9, step=0.01
    )
    write_noise: float = knob(
        0.0,
        "what is read differs from what was written, share of the largest weight",
        low=0.0,
        high=0.5,
        step=0.01,
    )
    read_noise: float = knob(
        0.0,
        "noise on each summed current, both directions: its deviation, where a sum of 1 is a full activation",
        low=0.0,
        high=1.0,
        step=0.01,
    )

    def cycle_of_range(self, levels: int) -> float:
        """Cycle-to-cycle deviation of one pulse in units of the range."""
        return self.cycle / levels if self.cycle_unit == "mean step" else self.cycle / 100


class UpdateConfig(Config):
    """From gradient to pulses."""

    title: ClassVar[str] = "update"
    scheme: Scheme = knob("uni", "which devices of a synapse are pulsed for an increase and for a decrease")
    rule: Rule = knob("stochastic", "gradient to pulse count; float: software back-propagation")
    rate: float = knob(0.02, "learning rate eta", low=1e-4, high=1.0, log=True)
    batch: int = knob(
        1,
        "samples that see the same weights: hardware has 1, beyond 50 nonlinear devices suffer",
        low=1,
        high=1000,
        choices=(1, 10, 32, 50, 100),
    )
    slots: int = knob(31, "pulse slots of the coincidence rule", low=1, high=63)
    input_threshold: float = knob(
        0.5,
        "single-step rule: inputs above it pulse (hidden ones: a fifth of it)",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    error_threshold: float = knob(
        0.2,
        "single-step rule and ternary errors: dead zone (hidden errors: half of it)",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    reference: Literal["middle", "symmetry point"] = knob(
        "middle", "where the reference scheme puts weight 0"
    )
    error: Literal["exact", "ternary", "2 bits", "4 bits", "8 bits"] = knob(
        "exact", "how errors are quantized before they travel back"
    )
    refresh: Literal["open-loop", "write-verify", "ideal", "none"] = knob(
        "open-loop",
        "how a saturating pair is rewritten: counted pulses, pulse and read in turn, without rounding, never",
    )
    refresh_every: int = knob(
        1000,
        "samples between two refreshes; 0: never",
        low=0,
        high=100_000,
        choices=(0, 100, 300, 1000, 3000, 10_000),
    )
    refresh_above: float = knob(
        0.9,
        "refresh pairs whose fuller device is above this share of its own range",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    refresh_below: float = knob(
        0.0, "and whose emptier one is above this share", low=0.0, high=1.0, step=0.05
    )

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        if self.refresh_below >= self.refresh_above and self.refresh_above > 0:
            raise ValueError(
                f"refresh_below={self.refresh_below}, refresh_above={self.refresh_above}: expected below < above, or no "
                "pair would ever be refreshed"
            )
        return self

    @property
    def refreshes(self) -> bool:
        """Whether pairs are refreshed: only unidirectional ones need it, the others live about the middle of the range."""
        return (
            self.refresh != "none"
            and self.refresh_every > 0
            and self.scheme == "uni"
            and self.rule != "float"
        )


class NetworkConfig(Config):
    """The perceptron and its data."""

    title: ClassVar[str] = "network"
    data: Literal["mnist-10k", "digits-8x8", "mnist", "fashion-mnist"] = knob(
        "mnist-10k", "digits: the first two are bundled, the others `workbench fetch`"
    )
    pool: Literal[1, 2, 4] = knob(2, "mean over squares of this many pixels a side")
    hidden: str = knob(
        "100",
        "sizes of the hidden layers, separated by commas",
        choices=("100", "250,125", "256", "50"),
        free=True,
    )
    activation: Literal["clip", "hard-tanh"] = knob(
        "clip", "clip(z, 0, 1) or clip(z, -1, 1): the derivative is one bit"
    )
    bias: bool = knob(False, "one more row, driven at 1")
    weight_scale: str = knob(
        "auto",
        "largest weight of each layer, separated by commas; auto: 7 (last layer 10) / sqrt(inputs)",
        free=True,
        choices=("auto", "0.5,1.0"),
    )
    samples: int = knob(20_000, "training samples", low=100, high=10_000_000, step=1000, log=True)
    seed: int = knob(0, "initial weights, order of the samples, devices and noise", low=0, high=10_000)

    def sizes(self) -> list[int]:
        """Sizes of the hidden layers."""
        return numbers("hidden", self.hidden, int)

    def scales(self, sizes: list[int]) -> list[float]:
        """Largest weight of each of the layers between `sizes`."""
        last = len(sizes) - 2
        if self.weight_scale == "auto":
            return [(10 if i == last else 7) / math.sqrt(n) for i, n in enumerate(sizes[:-1])]
        found = numbers("weight_scale", self.weight_scale, float)
        if len(found) not in (1, last + 1):
            raise ValueError(
                f"weight_scale={self.weight_scale!r}: expected one number, or one for each of {last + 1} layers"
            )
        return found * (last + 1) if len(found) == 1 else found

    @model_validator(mode="after")
    def _sizes_and_scales_fit(self) -> Self:
        self.scales([1, *self.sizes(), 10])
        return self


class SynapseConfig(NetworkConfig, UpdateConfig, ImperfectionConfig, DeviceConfig):
    """A perceptron whose weights are devices, and how it is trained."""

    @model_validator(mode="after")
    def _devices_suit(self) -> Self:
        if (
            self.shape_spread
            and self.device not in ("exponential", "linear")
            and not isinstance(self.make_device(), Exponential)
        ):
            raise ValueError(
                f"shape_spread={self.shape_spread}: device={self.device!r} has no shape nu; use step_spread"
            )
        return self

    def resolved(self) -> Self:
        """The same with a published device's own spreads and noise written out, where they were asked for."""
        preset = PRESETS.get(self.device) if self.published_noise else None
        if preset is None:
            return self
        ranged = preset.cycle_of_range > 0
        return self.replace(
            published_noise=False,
            step_spread=preset.step_spread,
            range_spread=preset.range_spread,
            cycle=round(100 * preset.cycle_of_range, 9) if ranged else preset.cycle_of_step,
            cycle_unit="% of range" if ranged else "mean step",
        )


class PulsedConfig(SynapseConfig):
    """What looks at devices, or compares them with software, and so needs a rule that pulses them."""

    @model_validator(mode="after")
    def _pulses_devices(self) -> Self:
        if self.rule == "float":
            raise ValueError("rule='float': expected a rule that pulses devices; that one has none")
        return self


SOFTWARE = {"rule": "float", "read_noise": 0.0, "error": "exact"}  # what makes software of a device network


def inputs(config: SynapseConfig) -> list[str]:
    """The data, and the measured curve, that a run depends on."""
    found = [datasets.ref(config.data)]
    if config.device == "measured":
        found.append(f"curve@{datasets.sha256(Path(config.curve))[:16]}")
    return found


def network_config(config: SynapseConfig, **changes: Any) -> SynapseConfig:
    """The network's knobs alone, out of an experiment's config, with `changes`."""
    return SynapseConfig(**{name: getattr(config, name) for name in SynapseConfig.model_fields} | changes)
