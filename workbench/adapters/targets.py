"""Which layers of a model can have an adapter, and which of them a name means."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from workbench.adapters.layer import Adapted
from workbench.adapters.names import ends_with, modules, without_numbers

LEFT_OUT = 0.25  # of the numbers in the blocks' matrices: from here on it is told that they get no adapter


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a model by name, adapted or not: nn.Linear, and what else has in_features and out_features."""
    found = {
        name: module
        for name, module in modules(model).items()
        if isinstance(getattr(module, "in_features", None), int)
        and isinstance(getattr(module, "out_features", None), int)
    }
    return {
        name: module
        for name, module in found.items()
        if not isinstance(found.get(name.rpartition(".")[0]), Adapted)
    }


def targeted(model: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Module]:
    """The linear layers that `targets` names; None: all in the model's blocks.

    Raises ValueError where there are none; warns where the blocks have other large weights, which stay without an adapter.
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
            raise ValueError(
                f"no linear layer is called {target!r}: {what}there are {', '.join(ends(every))}"
            )
        found |= here
    return {name: module for name, module in every.items() if name in found}


def _of_blocks(model: nn.Module, every: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The linear layers in the model's blocks, its lists of modules."""
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
        what = f", but other weights: {told}" if told else ""
        raise ValueError(
            f"{type(model).__name__} has no blocks with linear layers{what}. Adapters sit on layers such as nn.Linear; "
            f"name the targets among {', '.join(ends(every)) or 'these: there is none'}"
        )
    here = sum(layer.in_features * layer.out_features for layer in found.values())
    there = sum(own.numel() for own, _ in others.values())
    if there >= LEFT_OUT * (here + there):
        warnings.warn(
            f"{there / (here + there):.0%} of the weights in the blocks of {type(model).__name__} get no adapter, since they are "
            f"no linear layers: {told}. On: {', '.join(ends(found))}",
            stacklevel=4,
        )
    return found


def _within(name: str, layers: Mapping[str, Any]) -> bool:
    """Whether a module is one of these layers, or a part of one."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in layers for count in range(1, len(parts) + 1))


def ends(layers: Iterable[str]) -> list[str]:
    """The last part of each name, once, without the numbers of blocks."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in layers))


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """The layers with adapters, by name; raises ValueError where there is none."""
    found = {name: module for name, module in modules(model).items() if isinstance(module, Adapted)}
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no adapter; put one on: add_adapter(model, AdapterConfig(...))"
        )
    return found


def refuse_tied(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Raise ValueError for a layer whose weight is another module's too."""
    owners: dict[int, list[str]] = {}
    for name, module in modules(model).items():
        for own in module.parameters(recurse=False):
            owners.setdefault(id(own), []).append(name)
    for path, layer in layers.items():
        shared = [n for own in layer.parameters(recurse=False) for n in owners[id(own)] if n != path]
        if shared:
            raise ValueError(
                f"layer {path!r} shares its weight with {shared[0]!r} (it is tied): adapted, it would part from it. "
                "Leave it out of the targets, or untie it: give it a weight of its own"
            )
