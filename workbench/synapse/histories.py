"""How training unfolds: learning curves, conductances before and after a refresh, and what time does afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from pydantic import model_validator

from workbench.experiment import Record, experiment, knob
from workbench.synapse import counter, history_figures, retention
from workbench.synapse.choice import numbers
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.options import SOFTWARE, SynapseConfig, inputs, network_config
from workbench.synapse.study import LAPTOP, NO_PAPER, PRESETS, RATES, SMOKE, StudyConfig, death
from workbench.synapse.training import Designs, train

BINS = 40
CURVES: dict[str, dict[str, Any]] = {
    "software": SOFTWARE,
    "uni": {"scheme": "uni"},
    "uni, no refresh": {"scheme": "uni", "refresh": "none"},
    "alternating": {"scheme": "alternating"},
    "push-pull": {"scheme": "push-pull"},
    "reference": {"scheme": "reference"},
}


class LearningConfig(StudyConfig):
    """Learning curves."""

    swept = (*StudyConfig.swept, "scheme", "rule", "refresh")
    looks: int = knob(20, "points on each curve", low=2, high=200)
    presets = {
        "smoke": {**SMOKE, "looks": 8},
        "laptop": {**LAPTOP, **RATES, "samples": 40_000},
        "paper": NO_PAPER,
    }


@experiment(
    "synapse/learning", version=3, inputs=inputs, figure=history_figures.draw_learning,
    steps=lambda c: len(CURVES) * c.looks * c.seeds * len(numbers("rates", c.rates, float)), paper="learning curves",
)  # fmt: skip
def learning(config: LearningConfig, run: Any) -> Iterator[Record]:
    """Accuracy while training, per scheme, with and without refresh, and in software."""
    done = run.load() or 0
    for index, (name, changes) in enumerate(list(CURVES.items())[done:], done):
        designs = Designs(
            [
                network_config(config, **changes, rate=rate, seed=seed)
                for rate in numbers("rates", config.rates, float)
                for seed in range(config.seeds)
            ]
        )
        for look in range(1, config.looks + 1):
            designs.advance(config.samples * look // config.looks)
            samples = max(network.step for network in designs.networks)  # one that died stands still
            for made, network, data, error in designs:
                yield {
                    "name": name,
                    "x": samples,
                    "rate": made.rate,
                    "seed": made.seed,
                    "validation": network.accuracy(data.x_validation, data.labels_validation),
                    "accuracy": network.accuracy(data.x_test, data.labels_test),
                    **death(error),
                }
        run.save(index + 1)


class HistogramsConfig(SynapseConfig):
    """Conductances about a refresh."""

    swept = ("scheme", "rule")
    presets = {
        "smoke": {"data": "digits-8x8", "pool": 1, "hidden": "30", "samples": 3000, "nonlinearity_up": 2.0},
        "laptop": {**LAPTOP, "nonlinearity_up": 2.0},
        "paper": NO_PAPER,
    }

    @model_validator(mode="after")
    def _a_refresh_to_look_at(self) -> Self:
        if not self.refreshes or self.samples < self.refresh_every or self.refresh_every % self.batch:
            raise ValueError(
                f"refresh={self.refresh!r}, refresh_every={self.refresh_every}, samples={self.samples}, batch={self.batch}: "
                "expected a refresh within the samples, after whole batches, or there is none to look at"
            )
        return self


@experiment(
    "synapse/histograms", version=2, inputs=inputs, figure=history_figures.draw_histograms,
    steps=lambda c: 2 * (c.samples // max(c.refresh_every, 1)), paper="conductance histograms before and after refresh",
)  # fmt: skip
def histograms(config: HistogramsConfig, run: Any) -> Iterator[Record]:
    """Conductances and weights of a unidirectional network just before and just after each refresh."""
    designs = Designs([network_config(config, refresh_every=0)])  # refreshed by hand, to look on both sides
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
    moved = torch.cat(
        [
            (layer.weight - old).flatten() / layer.unit
            for layer, old in zip(network.layers, before, strict=True)
        ]
    )
    return {
        "when": when,
        "samples": network.step,
        "histogram": torch.histc(g.float(), BINS, 0, 1) / len(g),
        "full": (g > 0.99).double().mean().item(),
        "largest_change": moved.abs().max().item(),  # of a weight by the refresh, in first steps
        "accuracy": network.accuracy(data.x_test, data.labels_test),
        **network.counts(),
    }


TIMES = (1.0, 1e2, 1e4, 1e6, 1e7)
KINDS = ("power law", "PCM", "to Gmin", "to Gmax", "random")


class RetentionConfig(SynapseConfig):
    """Time after training."""

    swept = ("scheme", "seed", "rule")
    exponent: float = knob(0.05, "drift exponent v (PCM has its own)", low=0.0, high=0.5, step=0.01)
    exponent_spread: float = knob(
        0.3, "its relative deviation from device to device", low=0.0, high=2.0, step=0.05
    )
    seeds: int = knob(3, "runs", low=1, high=20)
    presets = {
        name: preset if isinstance(preset, str) else {k: v for k, v in preset.items() if k != "rates"}
        for name, preset in PRESETS.items()
    }


@experiment(
    "synapse/retention", version=2, inputs=inputs, figure=history_figures.draw_retention,
    steps=lambda c: 2 * c.seeds * len(KINDS) * len(TIMES), paper="not in the public text: drift and retention after training",
)  # fmt: skip
def aging(config: RetentionConfig, run: Any) -> Iterator[Record]:
    """Accuracy of trained networks long after training, for five kinds of drift and retention loss."""
    drift = config.exponent, config.exponent_spread, config.conductance_ratio()
    for scheme in ("uni", "push-pull"):
        designs = train(*(network_config(config, scheme=scheme, seed=seed) for seed in range(config.seeds)))
        for made, network, data, error in designs:
            fresh = [layer.g.clone() for layer in network.layers]
            for kind in KINDS:
                for time in TIMES:
                    seconds = time * retention.START.get(kind, 1.0)
                    for layer, g in zip(network.layers, fresh, strict=True):
                        _age(layer, g, seconds, kind, drift, made.seed)
                    yield {
                        "name": scheme,
                        "device_name": kind,
                        "x": seconds,
                        "seed": made.seed,
                        "accuracy": network.accuracy(data.x_test, data.labels_test),
                        **death(error),
                    }


def _age(
    layer: SynapseLayer,
    g: torch.Tensor,
    seconds: float,
    kind: str,
    drift: tuple[float, float, float],
    seed: int,
) -> None:
    """Put a layer `seconds` after its conductances `g` were written, each within its own range; stuck devices stay.

    `drift` is the exponent, its spread and Gmax / Gmin.
    """
    ends = layer.laws[..., 4].double(), layer.laws[..., 5].double()
    layer.g.copy_(
        retention.aged(g, seconds, kind, *drift, counter.key(seed, layer.index, counter.AGING), *ends)
    )
    layer.weight.copy_(layer.scale * (layer.g[0] - layer.g[1]))
