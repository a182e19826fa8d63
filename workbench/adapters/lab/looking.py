"""Measurements on a model with adapters: the updates, their singular values, the change of each layer, memory, and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakSet, finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench import phases, qa
from workbench.adapters.attach import adapted
from workbench.adapters.lab.tuning import Tuner
from workbench.adapters.layer import Adapted
from workbench.generation import generate
from workbench.models import LanguageModel

CROP = 64  # number of rows, and of columns, of an update that are shown
VALUES = 64  # number of singular values that are shown
ASKED = 4  # number of questions that the model is asked before and after training


def layer_names(model: Any) -> list[str]:
    """Return the short names of the adapted layers, such as ``0 self_attn.q_proj`` (see `short`)."""
    return [short(path) for path in adapted(model)]


def short(path: str) -> str:
    """Return the block number and the path in the block as a short name: ``0 mlp.up_proj`` for ``model.layers.0.mlp.up_proj``."""
    parts = path.split(".")
    number = next((k for k, part in enumerate(parts) if part.isdigit()), -1)
    return f"{parts[number]} {'.'.join(parts[number + 1 :])}" if number >= 0 else path


def layer_at(model: Any, number: int) -> tuple[str, Adapted]:
    """Return the path and module of the adapted layer `number`, counted from 0, or of the last one if `number` is too large."""
    layers = [*adapted(model).items()]
    return layers[min(number, len(layers) - 1)]


@torch.no_grad()
def update_of(layer: Adapted) -> Tensor:
    """Return the update ``(out, in)`` of a layer's first active adapter."""
    return layer.adapters[layer.active[0]].delta(layer.own[0].float())


def crop(update: Tensor) -> dict[str, Any]:
    """Return the upper left corner of an update as integers from -99 to 99. `most` is the absolute value that 99 stands for."""
    part = update[:CROP, :CROP]
    return {"update": shades(part), "most": part.abs().max().item()}


def shades(part: Tensor) -> list[list[int]]:
    """Return the entries as integers from -99 to 99, in units of 1/99 of the largest absolute value."""
    return (part / part.abs().max().clamp_min(1e-12) * 99).round().int().tolist()


def moved(model: Any) -> dict[str, Any]:
    """Return ``||Delta|| / ||W||`` of every adapted layer in percent, as a row for each module with a value for each block."""
    found: dict[str, list[float]] = {}
    for path, layer in adapted(model).items():
        share = update_of(layer).norm() / layer.own[0].float().norm()
        found.setdefault(short(path).partition(" ")[2].rpartition(".")[2], []).append(round(100 * share.item(), 4))
    return {"modules": [*found], "moved": [*found.values()]}


def singular_values(update: Tensor) -> list[float]:
    """Return the `VALUES` largest singular values, divided by the norm of the update."""
    values = torch.linalg.svdvals(update.double())
    whole = values.norm().item()
    return [round(v / whole, 6) if whole else 0.0 for v in values[:VALUES].tolist()]


def keeping(forward: Callable[[], Any], own: Iterable[Tensor]) -> int:
    """Return the number of bytes that a forward pass stores for the backward pass. The tensors in `own` are not counted."""
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        alive = forward()  # keeps the saved tensors until all are counted, since a freed address may be used again
    places = {p.untyped_storage().data_ptr() for p in own}
    del alive
    return sum(size for place, size in kept.items() if place not in places)


class Alive(TorchDispatchMode):
    """A context that counts the bytes of tensors created in it. `now` is the current number of bytes, and `most` the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: WeakSet[torch.UntypedStorage] = WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self._known.update(storages((args, kwargs)))
        out = func(*args, **(kwargs or {}))
        for storage in storages(out):
            if storage not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                finalize(storage, self._freed, storage.nbytes())
        return out

    def _freed(self, size: int) -> None:
        self.now -= size


def storages(values: Any) -> list[torch.UntypedStorage]:
    """Return the storages of all tensors in a nested structure of tuples, lists and dicts."""
    return [t.untyped_storage() for t in tree_leaves(values) if isinstance(t, Tensor)]


def answers(tuner: Tuner, part: Sequence[qa.Pair]) -> list[str]:
    """Return the first line of the model's answer to each question, decoded greedily."""
    phases.say("generating answers")
    return [first_line(tuner.lm, qa.prompt(p.question, tuner.config.prompt)) for p in part]


def total(question: str) -> str | None:
    """Return the answer to a sum such as ``23 + 48 =`` or to ``Last word of: sea deck?``, or None for any other question."""
    words = re.fullmatch(r"\s*Last word of: (?:\w+ )*(\w+)\?\s*", question)
    if words:
        return words[1]
    if not re.fullmatch(r"\s*-?\d+(\s*[+-]\s*\d+)*\s*=\s*", question):
        return None
    return str(sum(int(part.replace(" ", "")) for part in re.findall(r"[+-]?\s*\d+", question)))


def first_line(lm: LanguageModel, text: str, most: int = 12) -> str:
    """Continue a text greedily by at most `most` tokens, and return the first line of the continuation."""
    return generate(lm, text, most).text.strip().partition("\n")[0]
