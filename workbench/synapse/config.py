"""The knobs of a device network, declared once: updates, network and data; of devices see `device_config` and `imperfections`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from workbench import datasets
from workbench.checksums import sha256
from workbench.knobs import Config, knob
from workbench.synapse.catalogue import CATALOGUE
from workbench.synapse.device_config import DeviceConfig
from workbench.synapse.devices import Exponential
from workbench.synapse.imperfections import PULSES, ImperfectionConfig

Scheme = Literal["uni", "push-pull", "alternating", "reference"]
SCHEMES = ("uni", "alternating", "push-pull", "reference")
Rule = Literal["stochastic", "coincidence", "deterministic", "single", "netted", "float"]
RULES = ("stochastic", "coincidence", "deterministic", "single", "netted")  # those that pulse devices


REFRESHED = (lambda c: c.refreshes, "only unidirectional pairs are refreshed, and only where refresh is on")


class UpdateConfig(Config):
    """From gradient to pulses."""

    title: ClassVar[str] = "update"
    scheme: Scheme = knob(
        "uni",
        "update scheme",
        "which devices of a synapse are pulsed for an increase and for a decrease",
        essential=True,
        when=PULSES,
    )
    rule: Rule = knob("stochastic", "update rule", "from gradient to pulse count; float: software back-propagation")
    rate: float = knob(
        0.02,
        "learning rate",
        "eta: expected change of a weight for an input and an error of 1",
        low=1e-4,
        high=1.0,
        log=True,
        essential=True,
        when=(lambda c: c.rule != "single", "a single step's size is the device's own"),
    )
    batch: int = knob(
        1, "batch size", "samples that see the same weights: hardware has 1", low=1, high=1000, choices=(1, 10, 32, 50, 100)
    )
    slots: int = knob(
        31,
        "pulse slots",
        "length of the pulse trains whose coincidences are counted",
        low=1,
        high=63,
        when=(lambda c: c.rule == "coincidence", "only the coincidence rule has slots"),
    )
    input_threshold: float = knob(
        0.5,
        "input threshold",
        "inputs above it pulse (hidden ones: a fifth of it)",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.rule == "single", "only single steps have it"),
    )
    error_threshold: float = knob(
        0.2,
        "error threshold",
        "dead zone of an error (hidden errors: half of it)",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.rule == "single" or c.error == "ternary", "only single steps and ternary errors have it"),
    )
    reference_point: Literal["middle", "symmetry point"] = knob(
        "middle",
        "reference point",
        "where one device with a reference puts weight 0",
        when=(lambda c: c.scheme == "reference" and c.rule != "float", "only one device with a reference has it"),
    )
    error: Literal["exact", "ternary", "2 bits", "4 bits", "8 bits"] = knob(
        "exact", "errors", "how errors are quantized before they travel back"
    )
    refresh: Literal["open-loop", "write-verify", "ideal", "none"] = knob(
        "open-loop",
        "refresh",
        "how a saturating pair is rewritten: counted pulses, pulse and read in turn, without rounding, never",
        when=(
            lambda c: c.scheme == "uni" and c.rule != "float" and c.refresh_every > 0,
            "only unidirectional pairs are refreshed, and only where refresh is on",
        ),
    )
    refresh_every: int = knob(
        1000,
        "refresh period",
        "samples between two refreshes; 0: never",
        low=0,
        high=100_000,
        choices=(0, 100, 300, 1000, 3000, 10_000),
        when=(
            lambda c: c.scheme == "uni" and c.rule != "float" and c.refresh != "none",
            "only unidirectional pairs are refreshed, and only where refresh is on",
        ),
    )
    refresh_above: float = knob(
        0.9,
        "refresh above",
        "pairs whose fuller device is above this share of its own range",
        low=0.0,
        high=1.0,
        step=0.05,
        when=REFRESHED,
    )
    refresh_below: float = knob(
        0.0, "and emptier above", "and whose emptier one is above this share", low=0.0, high=1.0, step=0.05, when=REFRESHED
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
        return self.refresh != "none" and self.refresh_every > 0 and self.scheme == "uni" and self.rule != "float"


class NetworkConfig(Config):
    """The perceptron and its data."""

    title: ClassVar[str] = "network"
    data: Literal["mnist-10k", "digits-8x8", "mnist", "fashion-mnist"] = knob(
        "mnist-10k", "data set", "the first two are bundled, for the others: workbench fetch"
    )
    pool: Literal[1, 2, 4] = knob(2, "pooling", "mean over squares of this many pixels a side")
    hidden: tuple[int, ...] = knob(
        (100,), "hidden units", "sizes of the hidden layers", low=1, high=99_999, choices=((100,), (250, 125), (256,), (50,))
    )
    activation: Literal["clip", "hard-tanh"] = knob(
        "clip", "activation", "clip(z, 0, 1) or clip(z, -1, 1): the derivative is one bit"
    )
    bias: bool = knob(False, "bias", "one more row, driven at 1")
    weight_scale: tuple[float, ...] | None = knob(
        None,
        "largest weight",
        "one for all layers, or one for each; none: 7 (last layer 10) / sqrt(inputs)",
        low=1e-9,
        high=99_999.0,
        choices=(None, (0.5, 1.0)),
    )
    samples: int = knob(
        20_000,
        "training samples",
        "digits shown, one after the other, in whole passes in a new order each",
        low=100,
        high=10_000_000,
        step=1000,
        log=True,
        essential=True,
    )
    seed: int = knob(0, "seed", "initial weights, order of the samples, devices and noise", low=0, high=10_000)

    def scales(self, sizes: list[int]) -> list[float]:
        """Largest weight of each of the layers between `sizes`."""
        last = len(sizes) - 2
        if self.weight_scale is None:
            return [(10 if i == last else 7) / math.sqrt(n) for i, n in enumerate(sizes[:-1])]
        found = list(self.weight_scale)
        if len(found) not in (1, last + 1):
            raise ValueError(f"weight_scale={self.weight_scale!r}: expected one number, or one for each of {last + 1} layers")
        return found * (last + 1) if len(found) == 1 else found

    @model_validator(mode="after")
    def _sizes_and_scales_fit(self) -> Self:
        self.scales([1, *self.hidden, 10])
        return self


class SynapseConfig(NetworkConfig, UpdateConfig, ImperfectionConfig, DeviceConfig):
    """A perceptron whose weights are devices, and how it is trained."""

    @model_validator(mode="after")
    def _devices_suit(self) -> Self:
        if self.shape_spread and self.device not in ("exponential", "linear") and not isinstance(self.make_device(), Exponential):
            raise ValueError(f"shape_spread={self.shape_spread}: device={self.device!r} has no shape nu; use step_spread")
        return self

    def resolved(self) -> Self:
        """The same with a published device's own spreads and noise written out, where they were asked for."""
        published = CATALOGUE.get(self.device) if self.published_noise else None
        if published is None:
            return self
        ranged = published.cycle_of_range > 0
        return self.replace(
            published_noise=False,
            step_spread=published.step_spread,
            range_spread=published.range_spread,
            cycle=round(100 * published.cycle_of_range, 9) if ranged else published.cycle_of_step,
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
        found.append(f"curve@{sha256(Path(config.curve))[:16]}")
    return found
