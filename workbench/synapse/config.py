"""The configuration of a network of devices: its updates, its layers and its data.

The knobs of the devices themselves are declared in `device_config` and `imperfections`.
"""

from __future__ import annotations

import math
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
SCHEME_MEANINGS = {
    "uni": "only pulses up: on one device to raise the weight, on the other to lower it",
    "push-pull": "a pulse up on one device and a pulse down on the other",
    "alternating": "one of the two pulses of push-pull, chosen at random, so that steps are about as large as with uni",
    "reference": "pulses up and down on one device; the other is a fixed reference",
}
Rule = Literal["stochastic", "coincidence", "deterministic", "single", "netted", "float"]
RULES = ("stochastic", "coincidence", "deterministic", "single", "netted")  # all rules except float, which uses no devices


REFRESHED = (lambda c: c.refreshes, "only unidirectional pairs are refreshed, and only if refresh is switched on")


class UpdateConfig(Config):
    """The knobs that decide how gradients become pulses, and when pairs are refreshed."""

    title: ClassVar[str] = "update"
    scheme: Scheme = knob(
        "uni",
        "update scheme",
        "Chooses which devices of a synapse receive pulses.\n"
        + "\n".join(f"{name}: {said}." for name, said in SCHEME_MEANINGS.items()),
        essential=True,
        when=PULSES,
    )
    rule: Rule = knob(
        "stochastic",
        "update rule",
        "Chooses how a gradient becomes a whole number of pulses. float trains in software, without devices.",
    )
    rate: float = knob(
        0.02,
        "learning rate",
        "The expected change of a weight for an input of 1 and an error of 1. A larger rate learns faster, with noisier updates.",
        low=1e-4,
        high=1.0,
        log=True,
        essential=True,
        when=(lambda c: c.rule != "single", "the single rule sends one pulse, so the device determines the size of the change"),
    )
    batch: int = knob(
        1,
        "batch size",
        "The number of samples that are read with the same weights. Hardware that updates after every sample has batch size 1.",
        low=1,
        high=1000,
        choices=(1, 10, 32, 50, 100),
    )
    slots: int = knob(
        31,
        "pulse slots",
        "The largest number of time slots in a pulse train. A device is pulsed in each slot in which row and column both fire.",
        low=1,
        high=63,
        when=(lambda c: c.rule == "coincidence", "only the coincidence rule uses pulse trains"),
    )
    input_threshold: float = knob(
        0.5,
        "input threshold",
        "Only inputs above this value send a pulse. For hidden activations, the threshold is a fifth of this value.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.rule == "single", "only the single rule compares inputs with a threshold"),
    )
    error_threshold: float = knob(
        0.2,
        "error threshold",
        "Errors of at most this size count as 0. For errors of hidden units, the threshold is half of this value.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(lambda c: c.rule == "single" or c.error == "ternary", "only the single rule and ternary errors use a threshold"),
    )
    reference_point: Literal["middle", "symmetry point"] = knob(
        "middle",
        "reference point",
        "The conductance of the fixed reference, which represents weight 0: the middle of the range or the symmetry point.",
        when=(lambda c: c.scheme == "reference" and c.rule != "float", "only the reference scheme has a reference"),
    )
    error: Literal["exact", "ternary", "2 bits", "4 bits", "8 bits"] = knob(
        "exact", "error precision", "The precision to which errors are quantized before back-propagation and updates use them."
    )
    refresh: Literal["open-loop", "write-verify", "ideal", "none"] = knob(
        "open-loop",
        "refresh",
        "How a saturating pair is rewritten: by counted pulses (open-loop), by alternating pulses and reads (write-verify), "
        "exactly (ideal), or not at all (none).",
        when=(
            lambda c: c.scheme == "uni" and c.rule != "float" and c.refresh_every > 0,
            "only unidirectional pairs are refreshed, and only if the refresh period is above 0",
        ),
    )
    refresh_every: int = knob(
        1000,
        "refresh period",
        "The number of samples between two refreshes. 0 switches refresh off.",
        low=0,
        high=100_000,
        choices=(0, 100, 300, 1000, 3000, 10_000),
        when=(
            lambda c: c.scheme == "uni" and c.rule != "float" and c.refresh != "none",
            "only unidirectional pairs are refreshed, and only if refresh is not none",
        ),
    )
    refresh_above: float = knob(
        0.9,
        "refresh, one above",
        "A pair is refreshed only if at least one of its conductances is above this share of its device's range.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=REFRESHED,
    )
    refresh_below: float = knob(
        0.0,
        "refresh, both above",
        "A pair is refreshed only if both of its conductances are above this share of their devices' ranges.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=REFRESHED,
    )

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        if self.refresh_below >= self.refresh_above and self.refresh_above > 0:
            raise ValueError(
                f"refresh_below={self.refresh_below}, refresh_above={self.refresh_above}: expected refresh_below < "
                "refresh_above; lower refresh_below"
            )
        return self

    @property
    def refreshes(self) -> bool:
        """True if pairs are refreshed.

        Only unidirectional pairs need refresh. In the other schemes, pulses also lower conductances, so the conductances stay
        near the middle of the range.
        """
        return self.refresh != "none" and self.refresh_every > 0 and self.scheme == "uni" and self.rule != "float"


class NetworkConfig(Config):
    """The knobs of the perceptron and its data."""

    title: ClassVar[str] = "network"
    data: Literal["mnist-10k", "digits-8x8", "mnist", "fashion-mnist"] = knob(
        "mnist-10k", "data set", "The first two data sets are bundled. Download the others with workbench fetch."
    )
    pool: Literal[1, 2, 4] = knob(
        2, "pooling", "Each input is the mean over a square with sides of this many pixels. 1 keeps all pixels."
    )
    hidden: tuple[int, ...] = knob(
        (100,),
        "hidden units",
        "The number of units in each hidden layer.",
        low=1,
        high=99_999,
        choices=((100,), (250, 125), (256,), (50,)),
    )
    activation: Literal["clip", "hard-tanh"] = knob(
        "clip",
        "activation",
        "The activation of hidden units: clip(z, 0, 1) or, for hard-tanh, clip(z, -1, 1). Its derivative is 0 or 1.",
    )
    bias: bool = knob(False, "bias", "Adds a row of synapses with a constant input of 1 to each layer.")
    weight_scale: tuple[float, ...] | None = knob(
        None,
        "largest weight",
        "The largest weight that a synapse can represent: one number for all layers, or one for each layer. none: "
        "10 / sqrt(inputs) in the last layer, and 7 / sqrt(inputs) in the others.",
        low=1e-9,
        high=99_999.0,
        choices=(None, (0.5, 1.0)),
    )
    samples: int = knob(
        20_000,
        "training samples",
        "The number of training samples that are shown to the network. Each pass over the data set uses a new random order.",
        low=100,
        high=10_000_000,
        step=1000,
        log=True,
        essential=True,
    )
    seed: int = knob(
        0, "seed", "The seed of the initial weights, the order of samples, the devices and the noise.", low=0, high=10_000
    )

    def scales(self, sizes: list[int]) -> list[float]:
        """Return the largest weight of each layer.

        `sizes` lists the number of inputs of the network, and then the number of units in each layer. Raises ValueError if
        `weight_scale` has neither one entry nor one entry for each layer.
        """
        last = len(sizes) - 2
        if self.weight_scale is None:
            return [(10 if i == last else 7) / math.sqrt(n) for i, n in enumerate(sizes[:-1])]
        found = list(self.weight_scale)
        if len(found) not in (1, last + 1):
            raise ValueError(f"weight_scale={self.weight_scale!r}: expected one number, or one for each of the {last + 1} layers")
        return found * (last + 1) if len(found) == 1 else found

    @model_validator(mode="after")
    def _sizes_and_scales_fit(self) -> Self:
        self.scales([1, *self.hidden, 10])
        return self


class SynapseConfig(NetworkConfig, UpdateConfig, ImperfectionConfig, DeviceConfig):
    """The knobs of a perceptron whose weights are devices, and of its training."""

    @model_validator(mode="after")
    def _devices_suit(self) -> Self:
        if self.shape_spread and self.device not in ("exponential", "linear") and not isinstance(self.make_device(), Exponential):
            raise ValueError(
                f"shape_spread={self.shape_spread}: device={self.device!r} has no shape nu; expected 0. Set step_spread instead"
            )
        return self

    def resolved(self) -> Self:
        """Return the config with the published spreads and noise written into its knobs.

        If `published_noise` is off, or if the device is not a published one, the config is returned unchanged.
        """
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
    """The knobs of an experiment that needs devices. ``rule="float"``, which trains in software, is refused."""

    @model_validator(mode="after")
    def _pulses_devices(self) -> Self:
        if self.rule == "float":
            raise ValueError("rule='float': expected a rule that pulses devices; choose another update rule")
        return self


SOFTWARE = {"rule": "float", "read_noise": 0.0, "error": "exact"}  # the values of knobs for training in software, without devices


# The version of the rule by which the first row of a curve is read. Since version 2, a column "pulse" that starts at 1 means that
# the file does not contain the conductance before the first pulse.
CURVE_START = "curve-start@2"


def inputs(config: SynapseConfig) -> list[str]:
    """Return references (name and checksum) to the data set and, if there is one, the measured curve that a run uses.

    With a measured curve, the list also has `CURVE_START`, a version of a rule.
    """
    found = [datasets.ref(config.data)]
    if config.device == "measured":
        found += [f"curve@{sha256(config.curve_path)[:16]}", CURVE_START]
    return found
