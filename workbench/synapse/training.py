"""Train one perceptron of devices, or several in parallel, and choose the order of the training samples."""

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
    """Return the data set that a config names."""
    return load_digits(config.data, config.pool)


def order_of(config: SynapseConfig, available: int) -> Tensor:
    """Return the indices of the training samples in the order of training, ``(config.samples,)``.

    Each pass is a new random permutation of all samples; `available` is their number. The last pass is cut short if necessary.
    """
    generator = torch.Generator().manual_seed(counter.key(config.seed, 0, counter.ORDER))
    passes = -(-config.samples // available)
    return torch.cat([torch.randperm(available, generator=generator) for _ in range(passes)])[: config.samples]


def build(config: SynapseConfig, dtype: torch.dtype = torch.float32) -> Perceptron:
    """Return the untrained network that a config describes."""
    inputs = digits_of(config).x.shape[1]
    return Perceptron([inputs, *config.hidden, 10], config, dtype)


class Designs:
    """Several networks, called designs, that are trained in parallel threads on all cores.

    Threads can run in parallel, because the compiled loop releases Python's global interpreter lock. The random numbers of a
    design depend only on its own config, so its result does not depend on the other designs. If the training of a design raises
    SaturationError, the error is stored in `errors`, and only this design stops.
    """

    def __init__(self, configs: Sequence[SynapseConfig]):
        self.configs, self.data = list(configs), [digits_of(config) for config in configs]
        self.networks = [build(config) for config in configs]
        self.orders = [order_of(c, len(d.x)) for c, d in zip(configs, self.data, strict=True)]
        self.errors: list[Exception | None] = [None] * len(self.configs)

    def __iter__(self) -> Iterator[tuple[SynapseConfig, Perceptron, Digits, Exception | None]]:
        return zip(self.configs, self.networks, self.data, self.errors, strict=True)

    def advance(self, until: int | None = None) -> None:
        """Continue the training of every design until it has seen `until` samples (None: all samples).

        Batches are not split: a design stops at the end of the batch that contains sample number `until`.
        """
        from workbench.synapse.compiled.train import announce  # imported here, since importing numba takes a second

        announce()  # called here, because other threads cannot reach the listener of this thread (see `phases`)
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
    """Train the networks of `configs` in parallel, and return the trained networks."""
    designs = Designs(configs)
    designs.advance()
    return designs


def transferred(software: Perceptron, config: SynapseConfig) -> tuple[Perceptron, int]:
    """Write the weights of the network `software` into devices open-loop, that is, without reading the result.

    Returns the network of devices that `config` describes, and the number of weights that were clipped because the devices
    cannot represent them.
    """
    network = Perceptron(software.sizes, config)
    pairs = zip(network.layers, software.layers, strict=True)
    return network, sum(layer.write(source.weight) for layer, source in pairs)


def warm_up() -> None:
    """Compile the training loop and the loop for one synapse by running a short example of each.

    This takes about half a minute. The compiled code is cached, so later calls are fast.
    """
    from workbench.synapse.compiled.train import walk

    train(SynapseConfig(data="digits-8x8", pool=1, hidden=(10,), samples=100))
    walk(SynapseLayer(1, 1, SynapseConfig(), 1.0, 0, torch.float64), torch.ones(1, dtype=torch.long))
