"""Functions that find the layers of a model that can have an adapter, and that select layers by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from workbench.adapters.layer import Adapted
from workbench.adapters.names import ends_with, modules, without_numbers

LEFT_OUT = 0.25  # a warning is issued if at least this share of the weights in the blocks gets no adapter


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of a model by name. These are all modules with `in_features` and `out_features`.

    If a layer has adapters, the result contains the `Adapted` module and not the base layer inside it.
    """
    found = {
        name: module
        for name, module in modules(model).items()
        if isinstance(getattr(module, "in_features", None), int) and isinstance(getattr(module, "out_features", None), int)
    }
    return {name: module for name, module in found.items() if not isinstance(found.get(name.rpartition(".")[0]), Adapted)}


def targeted(model: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the linear layers whose names end with one of `targets`, or those in the model's blocks if `targets` is None.

    Raises ValueError if one of the targets matches no linear layer, or if the blocks have no linear layer. If `targets` is None
    and the share of weights that belong to other modules of the blocks is at least `LEFT_OUT`, a warning says that these weights
    get no adapter.
    """
    every = linears(model)
    if targets is None:
        return _of_blocks(model, every)
    found = {}
    for target in targets:
        here = {name: module for name, module in every.items() if ends_with(name, target)}
        if not here:
            others = [module for name, module in modules(model).items() if ends_with(name, target)]
            what = f"it is a {type(others[0]).__name__}, not a linear layer; " if others else ""
            raise ValueError(f"target {target!r} matches no linear layer: {what}expected one of {', '.join(ends(every))}")
        found |= here
    return {name: module for name, module in every.items() if name in found}


def _of_blocks(model: nn.Module, every: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the linear layers in the model's blocks, which are the entries of its ModuleLists."""
    stacks = [name for name, module in modules(model).items() if isinstance(module, nn.ModuleList)]

    def inside(name: str) -> bool:
        return any(name.startswith(f"{stack}.") for stack in stacks)

    found = {name: module for name, module in every.items() if inside(name)}
    others = {
        f"{name}.{part}": (own, type(module).__name__)
        for name, module in modules(model).items()
        if inside(name) and not _within(name, found)
        for part, own in module.named_parameters(recurse=False)
        if own.ndim > 1
    }
    told = ", ".join(without_numbers({f"{name} (of {kind})": own for name, (own, kind) in others.items()}))
    if not found:
        what = f"; its blocks have only other weights: {told}" if told else ""
        raise ValueError(
            f"{type(model).__name__} has no blocks with linear layers{what}. An adapter needs a layer such as "
            f"nn.Linear; set targets to linear layers outside the blocks: {', '.join(ends(every)) or 'the model has none'}"
        )
    here = sum(layer.in_features * layer.out_features for layer in found.values())
    there = sum(own.numel() for own, _ in others.values())
    if there >= LEFT_OUT * (here + there):
        warnings.warn(
            f"{there / (here + there):.0%} of the weights in the blocks of {type(model).__name__} get no adapter, "
            f"since they do not belong to linear layers: {told}. Layers with an adapter: {', '.join(ends(found))}",
            stacklevel=4,
        )
    return found


def _within(name: str, layers: Mapping[str, Any]) -> bool:
    """Check whether a module is one of these layers or a submodule of such a layer."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in layers for count in range(1, len(parts) + 1))


def ends(layers: Iterable[str]) -> list[str]:
    """Return the distinct last parts of the names, such as ``q_proj``."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in layers))


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """Return the layers with adapters by name. Raises ValueError if no layer has an adapter."""
    found = {name: module for name, module in modules(model).items() if isinstance(module, Adapted)}
    if not found:
        raise ValueError(f"{type(model).__name__} has no adapter; add one with add_adapter(model, AdapterConfig(...))")
    return found


def refuse_tied(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Raise ValueError if a layer shares a parameter with another module (tied weights)."""
    owners: dict[int, list[str]] = {}
    for name, module in modules(model).items():
        for own in module.parameters(recurse=False):
            owners.setdefault(id(own), []).append(name)
    for path, layer in layers.items():
        shared = [n for own in layer.parameters(recurse=False) for n in owners[id(own)] if n != path]
        if shared:
            raise ValueError(
                f"layer {path!r} shares its weight with {shared[0]!r} (tied weights), and an adapter would make the "
                "two weights differ. Remove the layer from the targets, or give it a weight of its own"
            )
