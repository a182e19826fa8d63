"""What single choices cost: how often to refresh, the size of a batch, each imperfection of a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workbench.experiment import Record, experiment, knob
from workbench.synapse import study_figures as figures
from workbench.synapse.options import inputs
from workbench.synapse.study import (
    DEVICES,
    LAPTOP,
    LINEAR,
    PRESETS,
    SHAPE,
    SMOKE,
    SOFTWARE_POINT,
    Point,
    StudyConfig,
    steps,
    study,
)


def _refresh(config: StudyConfig) -> list[Point]:
    every = [
        {"name": device, "x": period, "refresh_every": period, **DEVICES[device]}
        for device in ("linear", "nu = 3")
        for period in (0, 100, 300, 1000, 3000, 10_000)
    ]
    how = [
        {
            "name": policy,
            "x": 300,
            "device_name": "policy",
            "refresh": policy,
            "refresh_every": 300,
            **DEVICES["nu = 3"],
        }
        for policy in ("open-loop", "write-verify", "ideal")
    ]
    return every + how


class RefreshConfig(StudyConfig):
    """How often and how saturating pairs are rewritten."""

    swept = (*StudyConfig.swept, *SHAPE, "scheme", "refresh", "refresh_every")
    presets = PRESETS


@experiment(
    "synapse/refresh", version=2, inputs=inputs, figure=figures.draw_refresh, steps=steps(_refresh),
    paper="not in the public text: the re-initialisation that unidirectional updating needs",
)  # fmt: skip
def refresh(config: RefreshConfig, run: Any) -> Iterator[Record]:
    """Accuracy and cost of unidirectional training against the refresh period and policy."""
    yield from study(config, run, _refresh(config))


def _batches(config: StudyConfig) -> list[Point]:
    return [
        {
            "name": scheme,
            "x": batch,
            "device_name": device,
            "scheme": scheme,
            "batch": batch,
            **DEVICES[device],
        }
        for device in ("linear", "nu = 3")
        for batch in (1, 10, 32, 100)
        for scheme in ("uni", "push-pull")
    ]


class BatchesConfig(StudyConfig):
    """Batch sizes."""

    swept = (*StudyConfig.swept, *SHAPE, "scheme", "batch")
    presets = {**PRESETS, "smoke": {**SMOKE, "rates": "0.01"}, "laptop": {**LAPTOP, "rates": "0.01"}}


@experiment(
    "synapse/batches", version=2, inputs=inputs, figure=figures.draw_batches, steps=steps(_batches),
    paper="not in the paper: how far a mini-batch departs from hardware, which pulses after each sample",
)  # fmt: skip
def batches(config: BatchesConfig, run: Any) -> Iterator[Record]:
    """Accuracy against the batch size at one rate: errors come from the weights at the batch's start."""
    yield from study(config, run, _batches(config))


def _factors(config: StudyConfig) -> list[Point]:
    # with more levels a pulse is smaller: its noise shrinks along in one convention, and stays in the other
    sigma = config.cycle_of_range(config.levels)
    without = {
        "as it is": {},
        "4096 levels, noise shrinks along": {
            "levels": 4096,
            "cycle": sigma * config.levels,
            "cycle_unit": "mean step",
        },
        "4096 levels, noise stays": {"levels": 4096, "cycle": 100 * sigma, "cycle_unit": "% of range"},
        "linear response": LINEAR,
        "no device spread": {
            "step_spread": 0.0,
            "range_spread": 0.0,
            "shape_spread": 0.0,
            "asymmetry_spread": 0.0,
        },
        "no cycle noise": {"cycle": 0.0},
        "ideal refresh": {"refresh": "ideal"},
    }
    return [SOFTWARE_POINT | {"x": "software"}] + [
        {"name": scheme, "x": factor, "scheme": scheme, **knobs}
        for factor, knobs in without.items()
        for scheme in ("uni", "push-pull")
        if (factor, scheme) != ("ideal refresh", "push-pull")  # which is never refreshed
    ]


class FactorsConfig(StudyConfig):
    """A device with all its imperfections, and each taken away: by default Ag:a-Si's curve, some spread and noise.

    (Its published cycle-to-cycle noise is larger: 3.5 % of the range, 3.4 mean steps.)
    """

    swept = (*StudyConfig.swept, "scheme", "device", "published_noise")
    levels: int = knob(97, "pulses from Gmin to Gmax", low=1, high=1_000_000, log=True, unit="pulses")
    nonlinearity_up: float = knob(2.0, "nu of LTP", low=0.0, high=20.0, step=0.1)
    nonlinearity_down: float = knob(5.0, "nu of LTD", low=0.0, high=20.0, step=0.1)
    step_spread: float = knob(0.2, "step size, device to device", low=0.0, high=2.0, step=0.05)
    cycle: float = knob(1.0, "cycle to cycle, standard deviation of one pulse", low=0.0, high=10.0, step=0.1)
    presets = PRESETS


@experiment(
    "synapse/factors", version=2, inputs=inputs, figure=figures.draw_factors, steps=steps(_factors),
    paper="not in the paper: which imperfection costs what",
)  # fmt: skip
def factors(config: FactorsConfig, run: Any) -> Iterator[Record]:
    """Which imperfection costs what: one taken away at a time."""
    yield from study(config, run, _factors(config))
