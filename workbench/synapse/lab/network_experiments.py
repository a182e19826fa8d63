"""Live experiments on networks of devices: two update schemes in training, and the currents that one digit causes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from workbench.digits import Digits
from workbench.experiment import Record, experiment
from workbench.knobs import knob
from workbench.synapse.config import SOFTWARE, PulsedConfig, Scheme, SynapseConfig, inputs
from workbench.synapse.lab import network_figures, questions, stories
from workbench.synapse.lab.scales import LAPTOP, NO_PAPER
from workbench.synapse.network import Perceptron
from workbench.synapse.training import Designs, digits_of, train, warm_up


class UnitConfig(PulsedConfig):
    """The knobs of the experiments that show the synapses of one hidden unit."""

    unit: int = knob(
        0, "hidden unit", "Index of the hidden unit whose synapses are shown.", low=0, high=lambda c: c.hidden[0] - 1
    )


class TrainConfig(UnitConfig):
    """The knobs of `train_two`, which trains two update schemes on the same digits.

    The two have the same devices and initial weights. The second may also be software, which has no devices.
    """

    rival: Scheme | Literal["software"] = knob(
        "push-pull",
        "compared with",
        "Second update scheme, or software back-propagation, that is trained on the same digits.",
        essential=True,
    )
    every: int = knob(
        500,
        "measure every",
        "Number of training samples between two measurements. A small value gives a finer curve, but takes longer.",
        low=50,
        high=10_000,
        step=50,
        unit="samples",
    )
    presets = {
        "smoke": {"samples": 6000, "nonlinearity_up": 1.0, "nonlinearity_down": 5.0},
        "laptop": {"samples": 40_000, "nonlinearity_up": 1.0, "nonlinearity_down": 5.0},
        "paper": NO_PAPER,
    }

    def idle(self) -> dict[str, str]:
        """Return the knobs that have no effect on either of the two schemes, and the reason for each knob."""
        found = super().idle()
        if self.rival == "software":
            return found
        beside = UnitConfig.idle(self.model_copy(update={"scheme": self.rival}))
        return {name: reason for name, reason in found.items() if name in beside}

    @model_validator(mode="after")
    def _two_schemes(self) -> Self:
        if self.rival == self.scheme:
            raise ValueError(f"rival={self.rival!r}: this is also the scheme; expected another update scheme, or software")
        return self


BINS = 25
FOLLOWED = 3  # number of synapses whose conductances are recorded one by one


@experiment(
    "synapse/train",
    version=3,
    inputs=inputs,
    figure=network_figures.draw_train,
    story=stories.tell_train,
    place=lambda record: f"{record['samples']:,} of {record['of']:,} digits",
    per_moment=2,
    prepare=warm_up,
    questions=questions.TRAIN,
    steps=lambda c: 2 * (-(-c.samples // c.every) + 1),
)
def train_two(config: TrainConfig, run: Any) -> Iterator[Record]:
    """Train two update schemes side by side on the same devices and digits, and show accuracy, conductances and pulses."""
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
    """Return the indices of `count` inputs with different mean brightness.

    All inputs are sorted by their mean brightness, beginning with the brightest. The function chooses the first input of this
    list, and then the inputs at one tenth, two tenths, ... of the list.
    """
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
    """The knobs of `currents`, which shows one test digit in a trained network."""

    title: ClassVar[str] = "digit"
    kind: Literal["right", "wrong", "any"] = knob(
        "right",
        "digits shown",
        "Which test digits to choose from: those that the network gets right, those it gets wrong, or all.",
    )
    digit: int = knob(0, "test digit", "Index of the shown digit among the test digits of this kind.", low=0, high=199)
    presets = {"smoke": {"samples": 4000}, "laptop": LAPTOP, "paper": NO_PAPER}


@lru_cache(maxsize=4)
def _trained(text: str) -> Perceptron:
    designs = train(SynapseConfig.model_validate_json(text))
    if designs.errors[0]:
        raise designs.errors[0]
    return designs.networks[0]


@experiment(
    "synapse/currents", version=3, inputs=inputs, figure=network_figures.draw_currents, story=stories.tell_currents, instant=True
)
def currents(config: CurrentsConfig, run: Any) -> Iterator[Record]:
    """Show one digit in a trained network: the two currents of a hidden unit from each pixel, all outputs, and the answer."""
    base = config.of(SynapseConfig)
    network, data = _trained(base.model_dump_json()), digits_of(config)
    chosen = _chosen_digit(config, network, data)
    layer, x = network.layers[0], data.x_test[chosen : chosen + 1]
    activations = network.activations(x)
    side, low = round(x.shape[1] ** 0.5), 1 / config.conductance_ratio()
    pair = low + (1 - low) * layer.g[:, : x.shape[1], config.unit]  # conductances in units of Gmax
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
    """Return the index of the shown digit among all test digits.

    Raises ValueError if there are too few digits of the chosen kind.
    """
    if config.kind == "any":
        return config.digit
    right = network.activations(data.x_test)[-1].argmax(1) == data.labels_test
    found = (right if config.kind == "right" else ~right).nonzero().flatten()
    if not len(found):
        raise ValueError(f"kind={config.kind!r}: the network gets no test digit {config.kind}; choose another kind")
    if config.digit >= len(found):
        raise ValueError(
            f"digit={config.digit}: expected 0 to {len(found) - 1}, since the network gets only {len(found)} test digits "
            f"{config.kind}; choose a smaller index"
        )
    return int(found[config.digit])
