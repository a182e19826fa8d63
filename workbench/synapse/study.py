"""What all sweeps share: every point is trained at several rates and seeds; rates are chosen on held-out training digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from workbench.experiment import Record, knob
from workbench.synapse.choice import numbers
from workbench.synapse.options import SOFTWARE, PulsedConfig, SynapseConfig, network_config
from workbench.synapse.training import train, transferred

NO_PAPER = (
    "the paper's full text could not be had: its sizes, rates, epochs and data are not public to us. Scale laptop is full "
    "MNIST in the setting of our note"
)
Point = dict[str, Any]  # name: of the series; x or device_name: what varies along it; the rest are knobs
LABELS = ("name", "x", "device_name", "transfer")
SHAPE = (
    "device",
    "nonlinearity_up",
    "nonlinearity_down",
    "retraced",
)  # swept by sweeps over shapes of the exponential response


class StudyConfig(PulsedConfig):
    """Several rates and seeds."""

    swept = ("rate", "seed")
    rates: str = knob(
        "0.003,0.01,0.03",
        "learning rates to choose from, separated by commas",
        free=True,
        choices=("0.01,0.03",),
    )
    seeds: int = knob(3, "runs of each point, with other weights, devices and order", low=1, high=20)


SMOKE = {"data": "digits-8x8", "pool": 1, "hidden": "30", "samples": 3000, "seeds": 2, "rates": "0.03"}
LAPTOP = {"data": "mnist", "samples": 20_000}
RATES = {"rates": "0.003,0.01,0.03,0.1"}
PRESETS = {"smoke": SMOKE, "laptop": {**LAPTOP, **RATES}, "paper": NO_PAPER}
RULE_PRESETS = {  # counts rounded to nearest have a dead zone, and want higher rates
    "smoke": {**SMOKE, "samples": 1500, "rates": "0.03,0.1"},
    "laptop": {**LAPTOP, **RATES},
    "paper": NO_PAPER,
}
SOFTWARE_POINT = {"name": "software", **SOFTWARE}
LINEAR = {"nonlinearity_up": 0.0, "nonlinearity_down": 0.0}
ABRUPT = {"nonlinearity_up": 1.0, "nonlinearity_down": 10.0}
DEVICES: dict[str, Point] = {
    "linear": LINEAR,
    "nu = 3": {"nonlinearity_up": 3.0, "nonlinearity_down": 3.0},
    "nu = 5": {"nonlinearity_up": 5.0, "nonlinearity_down": 5.0},
    "nu = 5, retraced": {"nonlinearity_up": 5.0, "nonlinearity_down": 5.0, "retraced": True},
    "abrupt LTD": ABRUPT,
}


def study(config: StudyConfig, run: Any, points: list[Point]) -> Iterator[Record]:
    """Train at each point, all rates and seeds of a point in one batch; one record each. Goes on after a cut."""
    plan = [(point, _configs(config, point)) for point in points]  # all are valid before the first is run
    done = run.load() or 0
    for index, (point, configs) in enumerate(plan[done:], done):
        designs = train(*configs)
        for made, network, data, error in designs:
            more = death(error)
            if point.get("transfer"):
                devices = made.replace(rule="stochastic", read_noise=config.read_noise, error=config.error)
                network, more["cut"] = transferred(network, devices)
            yield {**point, "rate": made.rate, "seed": made.seed, **outcome(network, data), **more}
        run.save(index + 1)


def _configs(config: StudyConfig, point: Point) -> list[SynapseConfig]:
    knobs = {name: value for name, value in point.items() if name not in LABELS}
    return [
        network_config(config, **knobs, rate=rate, seed=seed)
        for rate in _rates(config, point)
        for seed in range(config.seeds)
    ]


def _rates(config: StudyConfig, point: Point) -> list[float]:
    """The single-step rule has no rate: the device's step is its rate."""
    found = numbers("rates", config.rates, float)
    return found[:1] if point.get("rule", config.rule) == "single" else found


def death(error: Exception | None) -> Record:
    """What a record owes to a run that stopped, since no error came through its network."""
    return {"died": str(error)} if error else {}


def outcome(network: Any, data: Any) -> Record:
    """What a trained network can do, and what it cost; None for costs that are counted by pulses of training, without any."""
    counts, samples = network.counts(), max(network.step, 1)
    return {
        "validation": network.accuracy(data.x_validation, data.labels_validation),
        "accuracy": network.accuracy(data.x_test, data.labels_test),
        "pulses_per_sample": counts["pulses"] / samples,
        "clipped": counts["clipped"] / counts["pulses"] if counts["pulses"] else None,
        "refreshed_pairs": counts["refreshed"],
        # pulses of refresh a pulse of training
        "refresh_cost": counts["refresh_pulses"] / counts["pulses"] if counts["pulses"] else None,
        "refresh_reads": counts["reads"],
    }


def steps(points: Callable[[Any], list[Point]]) -> Callable[[Any], int]:
    """The number of records of a study, from its points."""
    return lambda config: sum(len(_configs(config, point)) for point in points(config))
