"""The networks that streams are learnt with: a perceptron, and the network of the paper's vision experiment."""

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
    (100, 100), "hidden units", "of each layer", low=1, high=2000, choices=((50,), (100, 100), (256, 256)),
    when=(lambda c: c.network == "perceptron", "the paper's network has its own"),
)  # fmt: skip


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, seed: int) -> nn.Module:
    """A perceptron with ReLU, whose first weights the seed draws."""
    layers: list[nn.Module] = [nn.Flatten()]
    with drawn(seed):
        for a, b in pairwise([inputs, *hidden, outputs]):
            layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PaperNet(nn.Module):
    """The network of the author's vision program: two convolutions, 1,199,882 weights, for pictures of 28 x 28 as rows.

    Without its log-softmax: the cross-entropy takes one, and a second changes nothing.
    """

    def __init__(self, seed: int, outputs: int = 10):
        super().__init__()
        with drawn(seed):
            self.layers = nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.25),
                nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, outputs),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, outputs)`` of pictures ``(n, 784)``."""
        return self.layers(x.view(-1, 1, 28, 28))


class SentimentNet(nn.Module):
    """The network of the author's sentiment program, for sentences of numbered words ``(n, length)``.

    Embedding, layer norm, one transformer layer, the same norm, logits of the last place. It has no positions and no mask: a
    short sentence is read at a padded place, which attention fills from the words. The program's width is 600, with 30 heads
    and 2,048 hidden units.
    """

    def __init__(self, seed: int, words: int, width: int = 60, heads: int = 6, hidden: int = 256, outputs: int = 3):
        super().__init__()
        with drawn(seed):
            self.embedding, self.norm = nn.Embedding(words, width), nn.LayerNorm(width)
            self.layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.1, batch_first=True)
            self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, outputs)``."""
        return self.head(self.norm(self.layer(self.norm(self.embedding(x.long()))))[:, -1])


def refuse_single_samples(model: nn.Module, x: Tensor, sizes: Sequence[int], batch: int, memory: int | None) -> None:
    """Raise ValueError if some batch has one sample and the model cannot train on it, as with BatchNorm.

    `x` ``(n, ...)`` holds samples, `sizes` the number of samples in one pass over each task, and `memory` the number
    of samples in the buffer of the method, or None.
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
                "expected at least 2"
            ) from error
        other = next((n for n in range(batch + 1, max(sizes) + 1) if all(size % n != 1 for size in sizes)), 2)
        raise ValueError(
            f"batch={batch}: the last batch of {alone[0]} samples has one sample, on which the model cannot train "
            f"({error}); choose another batch size, such as {other}"
        ) from error


def draws(model: nn.Module) -> bool:
    """Whether its steps need random numbers."""
    return any("dropout" in type(module).__name__.lower() for module in model.modules())


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def flat(model: nn.Module) -> Tensor:
    """All weights that are trained, in one row."""
    return torch.cat([p.detach().flatten() for p in trained(model).values()])


def tensors(found: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and dicts."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        yield from tensors(list(found.values()))
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from tensors(each)
