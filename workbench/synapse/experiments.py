"""What can be looked at live: a device's response, one synapse, one update, two schemes in training, a digit's currents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from workbench.experiment import Record, experiment, knob
from workbench.synapse import ablations, counter, figures, histories, network_figures, studies
from workbench.synapse.choice import DeviceConfig
from workbench.synapse.conversions import neurosim_label
from workbench.synapse.devices import Exponential
from workbench.synapse.inside import delivered, random_pulses, walk
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.measured import fit_exponential, is_curve, read_curve
from workbench.synapse.network import Perceptron
from workbench.synapse.options import RULES, ImperfectionConfig, Scheme, SynapseConfig, inputs
from workbench.synapse.presets import PRESETS
from workbench.synapse.study import LAPTOP, NO_PAPER
from workbench.synapse.training import Designs, digits_of, train

__all__ = ["ablations", "histories", "studies"]  # imported so that their experiments are registered
NO_PICTURE = "the paper's full text could not be had; whether it has such a picture is unknown"


class ResponseConfig(ImperfectionConfig, DeviceConfig):
    """One device, and a few as they come out of the fab."""

    swept = ("write_noise", "read_noise")
    seed: int = knob(0, "which devices", low=0, high=100)
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


SAMPLES = 12  # devices drawn beside the nominal one
POINTS = 300  # of a staircase, at most


def _curve_inputs(config: ResponseConfig) -> list[str]:
    return [
        ref
        for ref in inputs(SynapseConfig(device=config.device, curve=config.curve, smooth=config.smooth))
        if ref.startswith("curve")
    ]


@experiment("synapse/device", version=1, inputs=_curve_inputs, figure=figures.draw_device, instant=True)
def device(config: ResponseConfig, run: Any) -> Iterator[Record]:
    """A device's LTP and LTD staircase, its steps, and what a handful of real ones would do."""
    law = config.make_device().biased(config.asymmetry)
    up, down = law.staircase()
    g = torch.linspace(0, 1, 101, dtype=torch.float64)
    every = -(-(law.levels + law.levels_down) // POINTS)
    yield {
        "device": config.device,
        "levels": law.levels,
        "levels_down": law.levels_down,
        "on_off": config.conductance_ratio(),
        "up": up[::every],
        "down": down[::every],
        "every": every,
        "rise": law.levels * law.rise(g).clamp(min=0),
        "fall": law.levels * law.fall(g).clamp(min=0),
        "symmetry_point": law.symmetry_point(),
        "labels": _labels(law),
        "source": PRESETS[config.device].source if config.device in PRESETS else "",
        **_fit(config, every),
        "varied": _varied(config, len(up), law.levels_down + 1, every),
    }


def _fit(config: ResponseConfig, every: int) -> Record:
    """The exponential device nearest to a measured curve: nu up and down, whether retraced, rms distance, rms smoothing."""
    if config.device != "measured" or not is_curve(config.curve):
        return {"fit": None}
    fitted, distance, residual = _fitted(config.curve, config.smooth, Path(config.curve).stat().st_mtime_ns)
    up, down = fitted.staircase()
    nu = fitted.nonlinearity_up, fitted.nonlinearity_down
    return {"fit": [*nu, fitted.retraced, distance, residual], "fitted": torch.cat([up, down[1:]])[::every]}


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


def _varied(config: ResponseConfig, up: int, down: int, every: int) -> list[list[float]]:
    """The staircases of a few devices with the config's spreads and noise; none where there are no spreads."""
    spreads = (
        "step_spread",
        "range_spread",
        "shape_spread",
        "asymmetry_spread",
        "cycle",
        "stuck",
        "published_noise",
    )
    if not any(getattr(config, name) for name in spreads):
        return []
    knobs = {
        name: getattr(config, name) for name in (*DeviceConfig.model_fields, *ImperfectionConfig.model_fields)
    }
    layer = SynapseLayer(
        1, SAMPLES, SynapseConfig(**knobs, scheme="uni", seed=config.seed), 1.0, 0, torch.float64
    )
    layer.g.copy_(layer.laws[..., 4].expand_as(layer.g))
    some, found = torch.full((1, SAMPLES), every), [layer.g[0, 0].clone()]
    for step in range(every, up + down - 1, every):
        layer._move(0, some, step < up, counter.key(config.seed, step, 0, counter.CYCLE))
        found.append(layer.g[0, 0].clone())
    return torch.stack(found, 1).double().mul(1e4).round().div(1e4).tolist()


class OneSynapseConfig(SynapseConfig):
    """One synapse under random or biased pulses."""

    title: ClassVar[str] = "pulses"
    swept = (
        "data", "pool", "hidden", "bias", "activation", "weight_scale", "samples", "rule", "rate", "batch", "slots",
        "input_threshold", "error_threshold", "error", "read_noise", "asymmetry_spread", "stuck",
    )  # fmt: skip
    pulses: int = knob(600, "pulses sent", low=10, high=3000, step=10, unit="pulses")
    up: float = knob(0.5, "share of pulses that raise the weight", low=0.0, high=1.0, step=0.01)
    refresh_every: int = knob(50, "pulses between two refreshes; 0: never", low=0, high=1000, step=10)
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


@experiment("synapse/one-synapse", version=1, figure=figures.draw_one_synapse, instant=True)
def one_synapse(config: OneSynapseConfig, run: Any) -> Iterator[Record]:
    """The two conductances of one synapse under a train of pulses, on their trajectory, and the weight they make."""
    law = config.make_device()
    yield {
        "scheme": config.scheme,
        "up": config.up,
        "symmetry_point": law.symmetry_point(),
        "levels": law.levels,
        **walk(config, random_pulses(config.pulses, config.up, config.seed)),
    }


class OneUpdateConfig(SynapseConfig):
    """One input, one error, one synapse."""

    title: ClassVar[str] = "update"
    swept = (
        "data", "pool", "hidden", "bias", "activation", "weight_scale", "samples", "rule", "batch", "error", "refresh",
        "refresh_every",        "refresh_above", "refresh_below", "reference", *ImperfectionConfig.model_fields,
    )  # fmt: skip
    x: float = knob(0.6, "input", low=0.0, high=1.0, step=0.05)
    delta: float = knob(0.4, "error", low=-1.0, high=1.0, step=0.05)
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


@experiment("synapse/update", version=1, figure=figures.draw_update, instant=True)
def update(config: OneUpdateConfig, run: Any) -> Iterator[Record]:
    """How many pulses each rule sends for one input and one error, against the number that the gradient asks for."""
    unit = SynapseLayer(1, 1, config, 0.5, 0).unit
    for rule in RULES[:4]:  # at batch 1 netted is stochastic
        made = SynapseConfig(**{**{n: getattr(config, n) for n in SynapseConfig.model_fields}, "rule": rule})
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


class PulsedConfig(SynapseConfig):
    """What looks at devices, and so needs a rule that pulses them."""

    @model_validator(mode="after")
    def _devices_to_look_at(self) -> Self:
        if self.rule == "float":
            raise ValueError(
                "rule='float': expected a rule that pulses devices, since they are looked at here"
            )
        return self


class TrainConfig(PulsedConfig):
    """Two schemes on the same device, the same digits, the same start."""

    rival: Scheme | Literal["software"] = knob("push-pull", "what the scheme is compared with")
    every: int = knob(500, "samples between two looks", low=50, high=10_000, step=50, unit="samples")
    unit: int = knob(0, "hidden unit whose synapses are followed", low=0, high=9)
    presets = {
        "smoke": {"samples": 6000, "nonlinearity_up": 1.0, "nonlinearity_down": 5.0},
        "laptop": {"samples": 40_000, "nonlinearity_up": 1.0, "nonlinearity_down": 5.0},
        "paper": NO_PAPER,
    }


BINS = 25
FOLLOWED = 3  # synapses


@experiment(
    "synapse/train", version=1, inputs=inputs, figure=network_figures.draw_train,
    steps=lambda c: 2 * (-(-c.samples // c.every) + 1),
)  # fmt: skip
def train_two(config: TrainConfig, run: Any) -> Iterator[Record]:
    """Two update schemes trained side by side on the same devices and digits: accuracy, conductances, pulses, refresh."""
    names = (config.scheme, config.rival)
    base = SynapseConfig(**{name: getattr(config, name) for name in SynapseConfig.model_fields})
    rival = {"rule": "float"} if config.rival == "software" else {"scheme": config.rival}
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
    return [order[0], order[len(order) // 10], order[len(order) // 5]][:count]


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


class CurrentsConfig(PulsedConfig):
    """A trained network and one digit."""

    title: ClassVar[str] = "digit"
    digit: int = knob(0, "which test digit", low=0, high=199)
    unit: int = knob(0, "hidden unit whose synapses are shown", low=0, high=29)
    presets = {"smoke": {"samples": 4000}, "laptop": LAPTOP, "paper": NO_PAPER}


@lru_cache(maxsize=4)
def _trained(text: str) -> Perceptron:
    designs = train(SynapseConfig.model_validate_json(text))
    if designs.errors[0]:
        raise designs.errors[0]
    return designs.networks[0]


@experiment("synapse/currents", version=1, inputs=inputs, figure=network_figures.draw_currents, instant=True)
def currents(config: CurrentsConfig, run: Any) -> Iterator[Record]:
    """One digit through a trained network: the two currents of a hidden unit pixel by pixel, all sums, and the answer."""
    base = SynapseConfig(**{name: getattr(config, name) for name in SynapseConfig.model_fields})
    network, data = _trained(base.model_dump_json()), digits_of(config)
    layer, x = network.layers[0], data.x_test[config.digit : config.digit + 1]
    if config.unit >= layer.g.shape[2]:
        raise ValueError(
            f"unit={config.unit}: expected 0 to {layer.g.shape[2] - 1}, the hidden units of this network"
        )
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
        "label": int(data.labels_test[config.digit]),
    }
