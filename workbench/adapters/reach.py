"""A check for adapters that do not affect the output of a model. It runs a forward and a backward pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.targets import adapted


def unreached(model: nn.Module, *args: Any, **kwargs: Any) -> list[str]:
    """Return the names of the layers whose active adapters receive no gradient from ``model(*args, **kwargs)``.

    An adapter receives a gradient if the model calls its layer or reads the weight of its layer. The model stays in
    its current mode (training or evaluation).
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
    reached = {id(p) for p, g in zip(flat, torch.autograd.grad(total, flat, allow_unused=True), strict=True) if g is not None}
    return [path for path, own in parts.items() if own and not any(id(p) in reached for p in own)]


def _floats(found: Any) -> Iterator[Tensor]:
    """Yield all floating-point tensors in the output of a model."""
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        yield from _floats([*found.values()])
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from _floats(each)
    elif hasattr(found, "__dict__"):  # an output object with tensors as attributes
        yield from _floats([one for one in vars(found).values() if isinstance(one, (Tensor, list, tuple))])


def unused(paths: Collection[str]) -> ValueError:
    """Return the error to raise for layers that the model does not use on any batch."""
    return ValueError(
        f"no batch reaches layer {min(paths)!r} (unreached layers: {len(paths)}): the model neither calls the layer nor "
        "reads its weight, so an adapter would have no effect. Remove the layer from the targets"
    )
