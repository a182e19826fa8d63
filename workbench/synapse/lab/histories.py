"""Experiments that show changes over time: learning curves, conductances before and after refresh, and drift after training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from pydantic import model_validator

from workbench.comparison import Point, comparison
from workbench.experiment import Record, experiment
from workbench.synapse.config import SOFTWARE, SynapseConfig, inputs
from workbench.synapse.lab import history_figures
from workbench.synapse.lab.networks import SCALES, AgedConfig, CurveConfig, StudyConfig, aged, curve
from workbench.synapse.lab.scales import LAPTOP, NO_PAPER, SMOKE
from workbench.synapse.training import Designs

BINS = 40
CURVES: dict[str, dict[str, Any]] = {
    "software": SOFTWARE,
    "uni": {"scheme": "uni"},
    "uni, no refresh": {"scheme": "uni", "refresh": "none"},
    "alternating": {"scheme": "alternating"},
    "push-pull": {"scheme": "push-pull"},
    "reference": {"scheme": "reference"},
}


class LearningConfig(StudyConfig, CurveConfig):
    """The knobs of `learning`, which measures networks several times during training."""


@comparison(
    "synapse/learning",
    version=4,
    fit=curve,
    figure=history_figures.draw_learning,
    presets={"smoke": {**SCALES["smoke"], "looks": 8}, "laptop": {**SCALES["laptop"], "samples": 40_000}, "paper": NO_PAPER},
    swept=("scheme", "refresh"),
    paper="learning curves",
)
def learning(config: LearningConfig) -> Iterator[Point]:
    """Measure the accuracy during training for each scheme, for unidirectional updating without refresh, and in software."""
    for label, knobs in CURVES.items():
        yield config.point(label, {}, **knobs)


class RetentionConfig(StudyConfig, AgedConfig):
    """The knobs of `forgetting`, which measures networks at several times after training."""


@comparison(
    "synapse/retention",
    version=3,
    fit=aged,
    figure=history_figures.draw_retention,
    presets=SCALES,
    swept=("scheme",),
    paper="drift and retention after training (our addition: the public parts of the paper do not mention them)",
)
def forgetting(config: RetentionConfig) -> Iterator[Point]:
    """Measure the accuracy of networks long after training, for five kinds of drift and retention loss."""
    yield from config.schemes({}, ("uni", "push-pull"))


class HistogramsConfig(SynapseConfig):
    """The knobs of `histograms`, which records the conductances of a network just before and just after each refresh."""

    swept = ("scheme", "rule")
    presets = {"smoke": {**SMOKE, "nonlinearity_up": 2.0}, "laptop": {**LAPTOP, "nonlinearity_up": 2.0}, "paper": NO_PAPER}

    @model_validator(mode="after")
    def _a_refresh_to_look_at(self) -> Self:
        if not self.refreshes or self.samples < self.refresh_every or self.refresh_every % self.batch:
            raise ValueError(
                f"refresh={self.refresh!r}, refresh_every={self.refresh_every}, samples={self.samples}, batch={self.batch}: "
                "expected at least one refresh during training, and refreshes only at the end of a batch. Switch refresh on, "
                "raise samples, or choose a refresh_every that is a multiple of batch"
            )
        return self


@experiment(
    "synapse/histograms",
    version=3,
    inputs=inputs,
    figure=history_figures.draw_histograms,
    steps=lambda c: 2 * (c.samples // max(c.refresh_every, 1)),
    paper="conductance histograms before and after refresh",
)
def histograms(config: HistogramsConfig, run: Any) -> Iterator[Record]:
    """Record the conductances and weights of a unidirectional network just before and just after each refresh."""
    # With refresh_every=0, training never refreshes. The loop below does, and records the states before and after each refresh.
    designs = Designs([config.of(SynapseConfig, refresh_every=0)])
    network, data = designs.networks[0], designs.data[0]
    for samples in range(config.refresh_every, config.samples + 1, config.refresh_every):
        designs.advance(samples)
        if designs.errors[0]:
            raise designs.errors[0]
        before = [layer.weight.clone() for layer in network.layers]
        yield _distribution(network, data, "before", before)
        for layer in network.layers:
            layer.refresh(network.step)
        yield _distribution(network, data, "after", before)


def _distribution(network: Any, data: Any, when: str, before: list[torch.Tensor]) -> Record:
    g = torch.cat([layer.g.flatten() for layer in network.layers])
    moved = torch.cat([(layer.weight - old).flatten() / layer.unit for layer, old in zip(network.layers, before, strict=True)])
    return {
        "when": when,
        "samples": network.step,
        "histogram": torch.histc(g.float(), BINS, 0, 1) / len(g),
        "full": (g > 0.99).double().mean().item(),
        "largest_change": moved.abs().max().item(),  # of any weight by this refresh, in units of `SynapseLayer.unit`
        "accuracy": network.accuracy(data.x_test, data.labels_test),
        **network.counts(),
    }
