"""Live experiments: the response of a device, one synapse under pulses, and one update of a weight."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import torch

from workbench.experiment import Record, experiment
from workbench.knobs import knob
from workbench.synapse import counter
from workbench.synapse.catalogue import CATALOGUE
from workbench.synapse.config import RULES, ImperfectionConfig, SynapseConfig, inputs
from workbench.synapse.conversions import neurosim_label
from workbench.synapse.device_config import DeviceConfig
from workbench.synapse.devices import Device, Exponential
from workbench.synapse.lab import figures, questions, stories
from workbench.synapse.lab.inside import delivered, random_pulses, walk
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.measured import fit_exponential, is_curve, read_curve

NO_PICTURE = "the paper's full text is not available to us, so we do not know whether the paper has such a figure"


class ResponseConfig(ImperfectionConfig, DeviceConfig):
    """The knobs of `device`, which shows one device without variation, and a few devices with variation."""

    swept = ("write_noise", "read_noise")
    seed: int = knob(0, "device sample", "The seed of the devices with variation that are shown.", low=0, high=100)
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


SAMPLES = 12  # number of devices with variation that are shown beside the device without variation
POINTS = 150  # at most this many conductances are recorded in each direction (the last one does not count)


def _curve_inputs(config: ResponseConfig) -> list[str]:
    return [
        ref
        for ref in inputs(SynapseConfig(device=config.device, curve=config.curve, smooth=config.smooth))
        if ref.startswith("curve")
    ]


@experiment(
    "synapse/device", version=2, inputs=_curve_inputs, figure=figures.draw_device, story=stories.tell_device, instant=True
)
def device(config: ResponseConfig, run: Any) -> Iterator[Record]:
    """Show the LTP and LTD staircase of a device, the size of its steps, and a few devices with variation."""
    law = config.make_device().biased(config.asymmetry)
    n, m = law.levels, law.levels_down
    # The conductance is recorded after these numbers of pulses: at most POINTS in each direction, and after the last pulse.
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
    """Return columns that describe the exponential device nearest to a measured curve.

    ``fit`` holds five values: nu of LTP, nu of LTD, True if LTD retraces LTP, and the root mean squares (rms) of the distance
    from the curve and of the change by smoothing. ``fit`` is None if the device is not a measured curve. ``fitted`` is the
    staircase of the nearest device, and ``note`` is a warning about the first row of the file, or "".
    """
    path = config.curve_path
    if config.device != "measured" or not is_curve(path):
        return {"fit": None}
    fitted, distance, residual, note = _fitted(str(path), config.smooth, path.stat().st_mtime_ns)
    nu = fitted.nonlinearity_up, fitted.nonlinearity_down
    return {"fit": [*nu, fitted.retraced, distance, residual], "fitted": _stairs(fitted, at), "note": note}


@lru_cache(maxsize=16)
def _fitted(path: str, smooth: bool, changed: int) -> tuple[Exponential, float, float, str]:
    curve = read_curve(path, smooth)
    return *fit_exponential(curve), curve.residual, curve.note


def _labels(law: Any) -> list[float] | None:
    """Return nu of LTP, nu of LTD and NeuroSim's label for each of the two, or None if the device is not exponential."""
    if not isinstance(law, Exponential):
        return None
    nu = law.nonlinearity_up, law.nonlinearity_down
    return [*nu, *map(neurosim_label, nu)]


def _varied(config: ResponseConfig, at: list[int], top: int) -> list[list[float]]:
    """Return the staircases of a few devices with the spreads, the cycle noise and the stuck devices of the config.

    The list is empty if the config has none of these imperfections. `at` lists the numbers of pulses after which the conductance
    is recorded, and `top` is the number of pulses up.
    """
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


SHOWN = 1000  # if there are more pulses than this, the state is not recorded after every pulse


class OneSynapseConfig(SynapseConfig):
    """The knobs of `one_synapse`, in which one synapse receives random pulses up and down."""

    title: ClassVar[str] = "pulses"
    swept = (
        "data", "pool", "hidden", "bias", "activation", "weight_scale", "samples", "rule", "rate", "batch", "slots",
        "input_threshold", "error_threshold", "error", "read_noise", "asymmetry_spread", "stuck",
    )  # fmt: skip
    pulses: int = knob(
        600,
        "pulses sent",
        "The number of pulses that the synapse receives, one after the other.",
        low=10,
        high=3000,
        step=10,
        unit="pulses",
    )
    up: float = knob(
        0.5,
        "share of pulses up",
        "The probability that a pulse raises the weight. All other pulses lower the weight.",
        low=0.0,
        high=1.0,
        step=0.01,
        essential=True,
    )
    refresh_every: int = knob(
        50,
        "refresh period",
        "The number of pulses between two refreshes of the pair. 0 switches refresh off.",
        low=0,
        high=1000,
        step=10,
        when=(
            lambda c: c.scheme == "uni" and c.refresh != "none",
            "only unidirectional pairs are refreshed, and only if refresh is on",
        ),
    )
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


@experiment(
    "synapse/one-synapse",
    version=2,
    figure=figures.draw_one_synapse,
    story=stories.tell_one_synapse,
    questions=questions.ONE_SYNAPSE,
    instant=True,
)
def one_synapse(config: OneSynapseConfig, run: Any) -> Iterator[Record]:
    """Show how random pulses change the two conductances of one synapse, their path in the plane (g+, g-), and the weight."""
    law = config.make_device().biased(config.asymmetry)
    seen = walk(config, random_pulses(config.pulses, config.up, config.seed), compiled=True)
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
    """Round `values` to four decimals, which is enough for a picture and keeps the record small."""
    return torch.as_tensor(values, dtype=torch.float64).mul(1e4).round().div(1e4).tolist()


class OneUpdateConfig(SynapseConfig):
    """The knobs of `update`, which computes one update of one synapse, for one input and one error."""

    title: ClassVar[str] = "update"
    swept = (
        "data", "pool", "hidden", "bias", "activation", "weight_scale", "samples", "rule", "batch", "error", "refresh",
        "refresh_every", "refresh_above", "refresh_below", "reference_point", *ImperfectionConfig.model_fields,
    )  # fmt: skip
    x: float = knob(0.6, "input", "Activation that drives the row of the synapse.", low=0.0, high=1.0, step=0.05)
    delta: float = knob(
        0.4, "error", "Target minus output of the column. A negative error lowers the weight.", low=-1.0, high=1.0, step=0.05
    )
    presets = {"smoke": {}, "laptop": {}, "paper": NO_PICTURE}


@experiment("synapse/update", version=2, figure=figures.draw_update, story=stories.tell_update, instant=True)
def update(config: OneUpdateConfig, run: Any) -> Iterator[Record]:
    """For one input and error, compare the number of pulses that each rule sends with the number that the gradient requires."""
    unit = SynapseLayer(1, 1, config, 0.5, 0).unit
    for rule in RULES[:4]:  # at batch size 1, the rules "netted" and "stochastic" send the same pulses
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
