"""What can be looked at live: a device's response, one synapse, one update, two schemes in training, a digit's currents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from workbench.digits import Digits
from workbench.experiment import Record, experiment
from workbench.knobs import knob
from workbench.synapse import counter
from workbench.synapse.catalogue import CATALOGUE
from workbench.synapse.config import (
    RULES,
    SOFTWARE,
    ImperfectionConfig,
    PulsedConfig,
    Scheme,
    SynapseConfig,
    inputs,
)
from workbench.synapse.conversions import neurosim_label
from workbench.synapse.device_config import DeviceConfig
from workbench.synapse.devices import Device, Exponential
from workbench.synapse.lab import figures, network_figures, stories
from workbench.synapse.lab.inside import delivered, random_pulses, walk
from workbench.synapse.lab.scales import LAPTOP, NO_PAPER
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.measured import fit_exponential, is_curve, read_curve
from workbench.synapse.network import Perceptron
from workbench.synapse.training import Designs, digits_of, train

NO_PICTURE = "the paper's full text could not be had; whether it has such a picture is unknown"


class ResponseConfig(ImperfectionConfig, DeviceConfig):
    """One device, and a few as they come out of the fab."""

    swept = ("write_noise", "read_noise")
    seed: int = knob(
        0, "which devices", "seed of the few devices drawn beside the nominal one", low=0, high=100
    )
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


SAMPLES = 12  # devices drawn beside the nominal one
POINTS = 150  # of one side of a staircase, at most


def _curve_inputs(config: ResponseConfig) -> list[str]:
    return [
        ref
        for ref in inputs(SynapseConfig(device=config.device, curve=config.curve, smooth=config.smooth))
        if ref.startswith("curve")
    ]


@experiment(
    "synapse/device",
    version=2,
    inputs=_curve_inputs,
    figure=figures.draw_device,
    story=stories.tell_device,
    instant=True,
)
def device(config: ResponseConfig, run: Any) -> Iterator[Record]:
    """A device's LTP and LTD staircase, its steps, and what a handful of real ones would do."""
    law = config.make_device().biased(config.asymmetry)
    n, m = law.levels, law.levels_down
    # where a staircase is looked at: each side at most so often, and at its ends
    at = [*range(0, n, -(-n // POINTS)), *range(n, n + m, -(-m // POINTS)), n + m]
    g = torch.linspace(0, 1, 101, dtype=torch.float64)
    yield {
        "device": config.device,
        "levels": n,
        "levels_down": m,
        "on_off": config.conductance_ratio(),
        "at": at,
        "g": _stairs(law, at),
        "rise": _rounded(n * law.rise(g).clamp(min=0)),
        "fall": _rounded(n * law.fall(g).clamp(min=0)),
        "symmetry_point": law.symmetry_point(),
        "labels": _labels(law),
        "source": CATALOGUE[config.device].source if config.device in CATALOGUE else "",
        "varied": _varied(config, at, n),
        **_fit(config, at),
    }


def _stairs(law: Device, at: list[int]) -> list[float]:
    up, down = law.staircase()
    return _rounded(torch.cat([up, down[1:]])[at])


def _fit(config: ResponseConfig, at: list[int]) -> Record:
    """The exponential device nearest to a measured curve: nu up and down, whether retraced, rms distance, rms smoothing."""
    if config.device != "measured" or not is_curve(config.curve):
        return {"fit": None}
    fitted, distance, residual = _fitted(config.curve, config.smooth, Path(config.curve).stat().st_mtime_ns)
    nu = fitted.nonlinearity_up, fitted.nonlinearity_down
    return {"fit": [*nu, fitted.retraced, distance, residual], "fitted": _stairs(fitted, at)}


@lru_cache(maxsize=16)
def _fitted(path: str, smooth: bool, changed: int) -> tuple[Exponential, float, float]:
    curve = read_curve(path, smooth)
    return *fit_exponential(curve), curve.residual


def _labels(law: Any) -> list[float] | None:
    """Shape nu and NeuroSim's labels of LTP and LTD."""
    if not isinstance(law, Exponential):
        return None
    nu = law.nonlinearity_up, law.nonlinearity_down
    return [*nu, *map(neurosim_label, nu)]


def _varied(config: ResponseConfig, at: list[int], top: int) -> list[list[float]]:
    """The staircases of a few devices with the config's spreads and noise; none where there are no spreads."""
    made = config.of(SynapseConfig).resolved()
    spreads = "step_spread", "range_spread", "shape_spread", "asymmetry_spread", "cycle", "stuck"
    if not any(getattr(made, name) for name in spreads):
        return []
    layer = SynapseLayer(1, SAMPLES, made, 1.0, 0, torch.float64)
    layer.g.copy_(layer.laws[..., 4].expand_as(layer.g))
    found = [layer.g[0, 0].clone()]
    for before, here in pairwise(at):
        key = counter.key(config.seed, here, 0, counter.CYCLE)
        layer.move(0, torch.full((1, SAMPLES), here - before), here <= top, key)
        found.append(layer.g[0, 0].clone())
    return _rounded(torch.stack(found, 1))


SHOWN = 1000  # points of a train of pulses, at most


class OneSynapseConfig(SynapseConfig):
    """One synapse under random or biased pulses."""

    title: ClassVar[str] = "pulses"
    swept = (
        "data", "pool", "hidden", "bias", "activation", "weight_scale", "samples", "rule", "rate", "batch", "slots",
        "input_threshold", "error_threshold", "error", "read_noise", "asymmetry_spread", "stuck",
    )  # fmt: skip
    pulses: int = knob(600, "pulses sent", "one after the other", low=10, high=3000, step=10, unit="pulses")
    up: float = knob(
        0.5, "share of pulses up", "those that raise the weight", low=0.0, high=1.0, step=0.01, essential=True
    )
    refresh_every: int = knob(
        50,
        "refresh period",
        "pulses between two refreshes; 0: never",
        low=0,
        high=1000,
        step=10,
        when=(lambda c: c.scheme == "uni" and c.refresh != "none", "only unidirectional pairs are refreshed"),
    )
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


@experiment(
    "synapse/one-synapse",
    version=2,
    figure=figures.draw_one_synapse,
    story=stories.tell_one_synapse,
    questions=stories.ONE_SYNAPSE,
    instant=True,
)
def one_synapse(config: OneSynapseConfig, run: Any) -> Iterator[Record]:
    """The two conductances of one synapse under a train of pulses, on their trajectory, and the weight they make."""
    law = config.make_device().biased(config.asymmetry)
    seen = walk(config, random_pulses(config.pulses, config.up, config.seed))
    every = -(-config.pulses // SHOWN)
    yield {
        "scheme": config.scheme,
        "up": config.up,
        "symmetry_point": law.symmetry_point(),
        "levels": law.levels,
        "every": every,
        "refreshed": seen.pop("refreshed"),
        **{name: _rounded(values[::every]) for name, values in seen.items()},
    }


def _rounded(values: Any) -> list:
    """Four decimals: enough for a picture, and small in a record."""
    return torch.as_tensor(values, dtype=torch.float64).mul(1e4).round().div(1e4).tolist()


class OneUpdateConfig(SynapseConfig):
    """One input, one error, one synapse."""

    title: ClassVar[str] = "update"
    swept = (
        "data", "pool", "hidden", "bias", "activation", "weight_scale", "samples", "rule", "batch", "error", "refresh",
        "refresh_every", "refresh_above", "refresh_below", "reference_point", *ImperfectionConfig.model_fields,
    )  # fmt: skip
    x: float = knob(0.6, "input", "activation of the row", low=0.0, high=1.0, step=0.05)
    delta: float = knob(0.4, "error", "of the column: target minus output", low=-1.0, high=1.0, step=0.05)
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


@experiment("synapse/update", version=2, figure=figures.draw_update, story=stories.tell_update, instant=True)
def update(config: OneUpdateConfig, run: Any) -> Iterator[Record]:
    """How many pulses each rule sends for one input and one error, against the number that the gradient asks for."""
    unit = SynapseLayer(1, 1, config, 0.5, 0).unit
    for rule in RULES[:4]:  # at batch 1 netted is stochastic
        made = config.of(SynapseConfig, rule=rule)
        counts = delivered(made, config.x, config.delta, unit, 200)
        sizes, times = counts.abs().unique(return_counts=True)
        yield {
            "rule": rule,
            "asked": config.rate * config.x * abs(config.delta) / unit,
            "unit": unit,
            "sign": 1 if config.x * config.delta >= 0 else -1,
            "sizes": sizes,
            "share": times.double() / len(counts),
            "mean": counts.abs().double().mean().item(),
        }


class UnitConfig(PulsedConfig):
    """What looks at the synapses of one hidden unit."""

    unit: int = knob(0, "hidden unit", "whose synapses are looked at", low=0, high=lambda c: c.hidden[0] - 1)


class TrainConfig(UnitConfig):
    """Two schemes on the same device, the same digits, the same start."""

    rival: Scheme | Literal["software"] = knob(
        "push-pull", "compared with", "another scheme, or software, on the same digits", essential=True
    )
    every: int = knob(
        500, "look every", "samples between two looks", low=50, high=10_000, step=50, unit="samples"
    )
    presets = {
        "smoke": {"samples": 6000, "nonlinearity_up": 1.0, "nonlinearity_down": 5.0},
        "laptop": {"samples": 40_000, "nonlinearity_up": 1.0, "nonlinearity_down": 5.0},
        "paper": NO_PAPER,
    }

    def idle(self) -> dict[str, str]:
        """The knobs that change nothing for either scheme."""
        found = super().idle()
        if self.rival == "software":
            return found
        beside = UnitConfig.idle(self.model_copy(update={"scheme": self.rival}))
        return {name: reason for name, reason in found.items() if name in beside}

    @model_validator(mode="after")
    def _two_schemes(self) -> Self:
        if self.rival == self.scheme:
            raise ValueError(f"rival={self.rival!r}: is the scheme itself; expected another one, or software")
        return self


BINS = 25
FOLLOWED = 3  # synapses


@experiment(
    "synapse/train",
    version=3,
    inputs=inputs,
    figure=network_figures.draw_train,
    story=stories.tell_train,
    place=lambda record: f"{record['samples']:,} of {record['of']:,} digits",
    together=2,
    questions=stories.TRAIN,
    steps=lambda c: 2 * (-(-c.samples // c.every) + 1),
)
def train_two(config: TrainConfig, run: Any) -> Iterator[Record]:
    """Two update schemes trained side by side on the same devices and digits: accuracy, conductances, pulses, refresh."""
    names = (config.scheme, config.rival)
    base = config.of(SynapseConfig)
    rival = SOFTWARE if config.rival == "software" else {"scheme": config.rival}
    designs = Designs([base, base.replace(**rival)])
    followed = _most_active(designs.data[0].x, FOLLOWED)
    for seen in range(0, config.samples + config.every, config.every):
        designs.advance(seen)
        for name, (_, network, data, error) in zip(names, designs, strict=True):
            if error:
                raise error
            yield {
                "scheme": name,
                "samples": network.step,
                "of": config.samples,
                "accuracy": network.accuracy(data.x_test[:2000], data.labels_test[:2000]),
                **({} if name == "software" else _conductances(network, followed, config.unit)),
                **network.counts(),
            }


def _most_active(x: Tensor, count: int) -> list[int]:
    """Inputs that are bright in many digits, far from each other."""
    order = x.mean(0).argsort(descending=True).tolist()
    return [order[max(k, len(order) * k // 10)] for k in range(count)]


def _conductances(network: Perceptron, followed: list[int], unit: int) -> Record:
    layer = network.layers[0]
    every = torch.cat([part.g[: 1 if part.single else 2].flatten() for part in network.layers])
    return {
        "histogram": torch.histc(every.float(), BINS, 0, 1) / len(every),
        "saturated": ((every > 0.99) | (every < 0.01)).double().mean().item(),
        "full": (every > 0.99).double().mean().item(),
        "plus": layer.g[0, followed, unit],
        "minus": layer.g[1, followed, unit],
    }


class CurrentsConfig(UnitConfig):
    """A trained network and one digit."""

    title: ClassVar[str] = "digit"
    kind: Literal["right", "wrong", "any"] = knob(
        "right", "digits shown", "those that the network gets right, those it gets wrong, or all"
    )
    digit: int = knob(0, "test digit", "which of these is shown", low=0, high=199)
    presets = {"smoke": {"samples": 4000}, "laptop": LAPTOP, "paper": NO_PAPER}


@lru_cache(maxsize=4)
def _trained(text: str) -> Perceptron:
    designs = train(SynapseConfig.model_validate_json(text))
    if designs.errors[0]:
        raise designs.errors[0]
    return designs.networks[0]


@experiment(
    "synapse/currents",
    version=3,
    inputs=inputs,
    figure=network_figures.draw_currents,
    story=stories.tell_currents,
    instant=True,
)
def currents(config: CurrentsConfig, run: Any) -> Iterator[Record]:
    """One digit through a trained network: the two currents of a hidden unit pixel by pixel, all sums, and the answer."""
    base = config.of(SynapseConfig)
    network, data = _trained(base.model_dump_json()), digits_of(config)
    chosen = _chosen_digit(config, network, data)
    layer, x = network.layers[0], data.x_test[chosen : chosen + 1]
    activations = network.activations(x)
    side, low = round(x.shape[1] ** 0.5), 1 / config.conductance_ratio()
    pair = low + (1 - low) * layer.g[:, : x.shape[1], config.unit]  # in units of Gmax
    yield {
        "side": side,
        "pixels": x[0],
        "plus": x[0] * pair[0],
        "minus": x[0] * pair[1],
        "unit": config.unit,
        "scheme": config.scheme,
        "hidden": activations[1][0, : network.sizes[1]],
        "outputs": activations[-1][0],
        "label": int(data.labels_test[chosen]),
    }


def _chosen_digit(config: CurrentsConfig, network: Perceptron, data: Digits) -> int:
    """The place of the shown digit among the test digits; raises ValueError where there are not so many of its kind."""
    if config.kind == "any":
        return config.digit
    right = network.activations(data.x_test)[-1].argmax(1) == data.labels_test
    found = (right if config.kind == "right" else ~right).nonzero().flatten()
    if config.digit >= len(found):
        raise ValueError(
            f"digit={config.digit}: expected 0 to {len(found) - 1}, the digits that it gets {config.kind}"
        )
    return int(found[config.digit])
