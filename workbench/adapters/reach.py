"""Whether what a model computes depends on the adapters on it: by a forward and a backward pass, not by a list of classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.targets import adapted


def unreached(model: nn.Module, *args: Any, **kwargs: Any) -> list[str]:
    """The adapted layers whose active adapters do not matter for ``model(*args, **kwargs)``, by a forward and a backward pass.

    A layer is reached where the model calls it, or reads its weight. The model is called in the mode in which it is.
    """
    layers = adapted(model)
    parts = {
        path: [p for name in layer.active for p in layer.adapters[name].parameters() if p.requires_grad]
        for path, layer in layers.items()
    }
    flat = [p for own in parts.values() for p in own]
    with torch.enable_grad():
        total = sum(t.float().sum() for t in _floats(model(*args, **kwargs)) if t.requires_grad)
    if not isinstance(total, Tensor):
        return [*layers]
    reached = {
        id(p)
        for p, g in zip(flat, torch.autograd.grad(total, flat, allow_unused=True), strict=True)
        if g is not None
    }
    return [path for path, own in parts.items() if own and not any(id(p) in reached for p in own)]


def _floats(found: Any) -> Iterator[Tensor]:
    """All tensors of floating point in what a model returns."""
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        yield from _floats([*found.values()])
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from _floats(each)
    elif hasattr(found, "__dict__"):  # an object of the model's own
        yield from _floats([one for one in vars(found).values() if isinstance(one, (Tensor, list, tuple))])


def unused(paths: Collection[str]) -> ValueError:
    """What is raised for layers that no batch reaches."""
    return ValueError(
        f"no batch reaches layer {min(paths)!r} ({len(paths)} in all): its module is not called, nor is its weight read, and an "
        "adapter on it would do nothing. Leave it out of the targets"
    )
