"""The order in which a perceptron sees its digits, and many designs trained side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from workbench.digits import Digits, load_digits
from workbench.provenance import cores
from workbench.synapse import counter
from workbench.synapse.config import SynapseConfig
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.network import Perceptron, SaturationError


def digits_of(config: SynapseConfig) -> Digits:
    """The data that a config names."""
    return load_digits(config.data, config.pool)


def order_of(config: SynapseConfig, available: int) -> Tensor:
    """Which sample is seen when: whole passes in a new order each, cut at `config.samples`."""
    generator = torch.Generator().manual_seed(counter.key(config.seed, 0, counter.ORDER))
    passes = -(-config.samples // available)
    return torch.cat([torch.randperm(available, generator=generator) for _ in range(passes)])[: config.samples]


def build(config: SynapseConfig, dtype: torch.dtype = torch.float32) -> Perceptron:
    """The untrained network of a config."""
    inputs = digits_of(config).x.shape[1]
    return Perceptron([inputs, *config.hidden, 10], config, dtype)


class Designs:
    """Several networks trained side by side on all cores, each on its own order of the same data.

    The compiled loop holds no lock, so threads are enough; data are read once. Every design has its own random numbers,
    counted from its own seed: the result is the same alone or in any company. A design that fails keeps its error in
    `errors` and stops; the others go on.
    """

    def __init__(self, configs: Sequence[SynapseConfig]):
        self.configs, self.data = list(configs), [digits_of(config) for config in configs]
        self.networks = [build(config) for config in configs]
        self.orders = [order_of(c, len(d.x)) for c, d in zip(configs, self.data, strict=True)]
        self.errors: list[Exception | None] = [None] * len(self.configs)

    def __iter__(self) -> Iterator[tuple[SynapseConfig, Perceptron, Digits, Exception | None]]:
        return zip(self.configs, self.networks, self.data, self.errors, strict=True)

    def advance(self, until: int | None = None) -> None:
        """Train every design on until it has seen `until` samples (None: all).

        A batch is not cut: a design stops at the end of the batch in which `until` lies.
        """
        from workbench.synapse.compiled.train import announce  # numba takes a second

        announce()  # in this thread, where somebody may listen
        if len(self.configs) == 1:
            self._advance(0, until)
            return
        with ThreadPoolExecutor(min(len(self.configs), cores())) as pool:
            list(pool.map(lambda index: self._advance(index, until), range(len(self.configs))))

    def _advance(self, index: int, until: int | None) -> None:
        if self.errors[index] is not None:
            return
        network, data, batch = self.networks[index], self.data[index], self.configs[index].batch
        end = None if until is None else -(-until // batch) * batch
        try:
            network.train_samples(data.x, data.labels, self.orders[index][network.step : end])
        except SaturationError as error:
            self.errors[index] = error


def train(*configs: SynapseConfig) -> Designs:
    """The networks of `configs`, trained."""
    designs = Designs(configs)
    designs.advance()
    return designs


def transferred(software: Perceptron, config: SynapseConfig) -> tuple[Perceptron, int]:
    """A network of `config`'s devices with the weights of `software` written open-loop, and how many of them were cut."""
    network = Perceptron(software.sizes, config)
    pairs = zip(network.layers, software.layers, strict=True)
    return network, sum(layer.write(source.weight) for layer, source in pairs)


def warm_up() -> None:
    """Compile what pictures and comparisons run, which takes about half a minute once, by running a little of it."""
    from workbench.synapse.compiled.train import walk

    train(SynapseConfig(data="digits-8x8", pool=1, hidden=(10,), samples=100))
    walk(SynapseLayer(1, 1, SynapseConfig(), 1.0, 0, torch.float64), torch.ones(1, dtype=torch.long))
