"""The networks (a perceptron, and the paper's networks for images and for sentences), and helpers for their parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from workbench.knobs import knob
from workbench.training import drawn

HIDDEN = knob(
    (100, 100), "hidden units", "Number of units in each hidden layer of the perceptron. More units make the network larger and "
    "slower.",
    low=1, high=2000, choices=((50,), (100, 100), (256, 256)),
    when=(lambda c: c.network == "perceptron", "the layers of the paper's network are fixed"),
)  # fmt: skip


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, seed: int) -> nn.Module:
    """Return a multilayer perceptron with ReLU activations. `seed` is the random seed of the initial weights."""
    layers: list[nn.Module] = [nn.Flatten()]
    with drawn(seed):
        for a, b in pairwise([inputs, *hidden, outputs]):
            layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PaperNet(nn.Module):
    """The convolutional network for images of 28 x 28 pixels in the program of CLASSP's author.

    With ten outputs, it has 1,199,882 weights. The author's network ends with a log-softmax, which is left out here, since the
    cross-entropy loss contains it.
    """

    def __init__(self, seed: int, outputs: int = 10):
        super().__init__()
        with drawn(seed):
            self.layers = nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.25),
                nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, outputs),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(n, outputs)`` of images ``(n, 784)``."""
        return self.layers(x.view(-1, 1, 28, 28))


class SentimentNet(nn.Module):
    """The network in the sentiment program of CLASSP's author, for sentences given as word numbers ``(n, length)``.

    It consists of an embedding, a layer norm, one transformer layer, the same layer norm again, and a linear layer on the last
    position. It has no position embedding and no attention mask. In a short sentence the last position is padding, and
    the output at this position depends on the words through attention only. The author's program uses a width of 600, 30 heads
    and 2,048 hidden units.
    """

    def __init__(self, seed: int, words: int, width: int = 60, heads: int = 6, hidden: int = 256, outputs: int = 3):
        super().__init__()
        with drawn(seed):
            self.embedding, self.norm = nn.Embedding(words, width), nn.LayerNorm(width)
            self.layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.1, batch_first=True)
            self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(n, outputs)`` of sentences ``(n, length)``."""
        return self.head(self.norm(self.layer(self.norm(self.embedding(x.long()))))[:, -1])


def refuse_single_samples(model: nn.Module, x: Tensor, sizes: Sequence[int], batch: int, memory: int | None) -> None:
    """Raise ValueError if some batch has one sample and the model cannot train on one sample, for example due to BatchNorm.

    `x` ``(n, ...)`` holds samples, and `sizes` holds the number of samples in one pass over each task. `memory` is the number of
    samples in the buffer of the method, or None if the method has no buffer.
    """
    alone = [size for size in sizes if size % batch == 1 or batch == 1]
    if not alone and memory != 1:
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copy.deepcopy(model).train()(x[:1])
    except ValueError as error:
        if memory == 1:
            raise ValueError(
                f"memory=1: batches from the buffer have one sample, on which the model cannot train ({error}); "
                "expected a memory of at least 2 samples"
            ) from error
        other = next((n for n in range(batch + 1, max(sizes) + 1) if all(size % n != 1 for size in sizes)), 2)
        raise ValueError(
            f"batch={batch}: a pass over {alone[0]} samples ends with a batch of one sample, on which the model cannot train "
            f"({error}); choose another batch size, such as {other}"
        ) from error


def draws(model: nn.Module) -> bool:
    """Check whether the model has a dropout layer, which draws random numbers in training."""
    return any("dropout" in type(module).__name__.lower() for module in model.modules())


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return all parameters that require a gradient, as a dict from names to parameters."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def flat(model: nn.Module) -> Tensor:
    """Return all trained weights, concatenated in one vector."""
    return torch.cat([p.detach().flatten() for p in trained(model).values()])


def tensors(found: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested lists, tuples and dicts."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        yield from tensors(list(found.values()))
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from tensors(each)
