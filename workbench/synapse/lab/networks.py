"""The fits of the comparisons. Each fit trains one network and measures it after, during, or long after training."""

from __future__ import annotations

from typing import Any

import torch

from workbench.comparison import ComparisonConfig, Point, candidates, fit
from workbench.experiment import Record
from workbench.knobs import knob
from workbench.runs import Run
from workbench.synapse import counter, retention
from workbench.synapse.config import SCHEMES, SOFTWARE, PulsedConfig, SynapseConfig, inputs
from workbench.synapse.lab.scales import LAPTOP, NO_PAPER, SMOKE
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.training import Designs, train, transferred

JUDGED = {**SMOKE, "seeds": 2, "choosing": 1}
SCALES = {"smoke": {**JUDGED, "rates": (0.03,)}, "laptop": {**LAPTOP, "rates": (0.003, 0.01, 0.03, 0.1)}, "paper": NO_PAPER}


class TrainedConfig(SynapseConfig):
    """The knobs of one network, which is trained either on its devices, or in software and then written to the devices."""

    transfer: bool = knob(
        False, "transfer weights", "Trains in software, then writes the weights to the devices open-loop (by counted pulses)."
    )


@fit("synapse/network", version=1, inputs=inputs, in_threads=True)
def network(config: TrainedConfig, run: Run) -> Record:
    """Train one network, and return its accuracy on validation digits and on test digits, and its numbers of pulses."""
    made = config.of(SynapseConfig)
    designs = train(made.replace(**SOFTWARE) if config.transfer else made)
    ((_, trained, data, error),) = designs
    more = _stopped(error)
    if config.transfer:
        trained, more["cut"] = transferred(trained, made)
    return outcome(trained, data) | more


def outcome(network: Any, data: Any) -> Record:
    """Return the validation and test accuracy of a trained network, and its numbers of pulses.

    Quantities per training pulse are None if no training pulse was sent.
    """
    counts, samples = network.counts(), max(network.step, 1)
    pulses = counts["pulses"]
    return {
        "validation": network.accuracy(data.x_validation, data.labels_validation),
        "accuracy": network.accuracy(data.x_test, data.labels_test),
        "pulses_per_sample": pulses / samples,
        "clipped": counts["clipped"] / pulses if pulses else None,
        "refreshed_pairs": counts["refreshed"],
        "refresh_cost": counts["refresh_pulses"] / pulses if pulses else None,  # refresh pulses per training pulse
        "refresh_reads": counts["reads"],
    }


def _stopped(error: Exception | None) -> Record:
    """Return the column ``failed`` with the message of `error`, or no column if `error` is None.

    An error means that training stopped early because all units of a hidden layer were saturated.
    """
    return {"failed": str(error)} if error else {}


class CurveConfig(SynapseConfig):
    """The knobs of one network that is measured several times during training."""

    looks: int = knob(20, "measurements", "Number of points on each learning curve.", low=2, high=200)


@fit("synapse/curve", version=1, inputs=inputs, in_threads=True)
def curve(config: CurveConfig, run: Run) -> Record:
    """Train one network, and measure its accuracy several times during training and at the end."""
    designs, found = Designs([config.of(SynapseConfig)]), {"samples": [], "accuracies": []}
    for look in range(1, config.looks + 1):
        designs.advance(config.samples * look // config.looks)
        ((_, trained, data, error),) = designs
        found["samples"].append(trained.step)
        found["accuracies"].append(trained.accuracy(data.x_test, data.labels_test))
    return outcome(trained, data) | found | _stopped(error)


TIMES = (1.0, 1e2, 1e4, 1e6, 1e7)
KINDS = ("power law", "PCM", "to Gmin", "to Gmax", "random")


class AgedConfig(SynapseConfig):
    """The knobs of one network that is measured at several times after training."""

    title = "drift"
    exponent: float = knob(
        0.05,
        "drift exponent",
        "Exponent v of the drift law t^-v. A large v means fast drift. The kind PCM (phase-change memory) does not use it.",
        low=0.0,
        high=0.5,
        step=0.01,
    )
    exponent_spread: float = knob(
        0.3,
        "exponent spread",
        "Standard deviation of v from device to device, divided by the mean of v. Only the kind 'power law' uses this spread.",
        low=0.0,
        high=2.0,
        step=0.05,
    )


@fit("synapse/aged", version=1, inputs=inputs, in_threads=True)
def aged(config: AgedConfig, run: Run) -> Record:
    """Train one network and measure its accuracy at several times after training, for five kinds of drift."""
    ((_, trained, data, error),) = train(config.of(SynapseConfig))
    found = outcome(trained, data)
    fresh = [layer.g.clone() for layer in trained.layers]
    drift = config.exponent, config.exponent_spread, config.conductance_ratio()
    times = {kind: [time * retention.START.get(kind, 1.0) for time in TIMES] for kind in KINDS}
    accuracies: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for seconds in times[kind]:
            for layer, g in zip(trained.layers, fresh, strict=True):
                age(layer, g, seconds, kind, drift, config.seed)
            accuracies[kind].append(trained.accuracy(data.x_test, data.labels_test))
    arrays = {"kinds": list(KINDS), "times": list(times.values()), "accuracies": list(accuracies.values())}
    return found | arrays | _stopped(error)


def age(layer: SynapseLayer, g: torch.Tensor, seconds: float, kind: str, drift: tuple[float, float, float], seed: int) -> None:
    """Set `layer` to the state that it has at the time `seconds` after the conductances `g` were written.

    `kind` is the model of drift (see `retention.aged`). `drift` holds the drift exponent, the spread of the exponent, and
    Gmax / Gmin. Each conductance stays within the range of its device, and stuck devices do not change.
    """
    ends = layer.laws[..., 4].double(), layer.laws[..., 5].double()
    key = counter.key(seed, layer.index, counter.AGING)
    layer.g.copy_(retention.aged(g, seconds, kind, *drift, key, *ends))
    layer.weight.copy_(layer.scale * (layer.g[0] - layer.g[1]))


class StudyConfig(ComparisonConfig, PulsedConfig):
    """The knobs of a comparison of networks that are trained at several learning rates.

    For each point of a comparison, the learning rate that is best on validation digits is chosen with some seeds. The test
    accuracy at this rate is then measured with other seeds.
    """

    swept = ("rate",)
    rates: tuple[float, ...] = knob(
        (0.003, 0.01, 0.03),
        "learning rates",
        "Learning rates that are tried. Each point of the comparison uses the one that is best on validation digits.",
        low=1e-5,
        high=1.0,
        choices=((0.01, 0.03), (0.003, 0.01, 0.03, 0.1)),
        essential=True,
    )

    def point(self, label: str, at: dict[str, Any], **knobs: Any) -> Point:
        """Return a point of the comparison for which the best learning rate in `rates` is chosen.

        `at` gives the position of the point in the figure, and `knobs` the settings of its networks. The rule `single` has
        no learning rate, because the step of the device determines the change of the weight. So there is nothing to choose.
        """
        if knobs.get("rule", self.rule) == "single":
            return Point(label, at, knobs, candidates(rate=self.rates[:1]), why="single steps have no learning rate")
        return Point(label, at, knobs, candidates(rate=self.rates))

    def schemes(self, at: dict[str, Any], names: tuple[str, ...] = SCHEMES, **knobs: Any) -> list[Point]:
        """Return one point for each scheme in `names`, all at the same position `at` in the figure."""
        return [self.point(scheme, at, scheme=scheme, **knobs) for scheme in names]
