"""Adapters on a model: put on, switched, merged, taken for training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from workbench.adapters import adapter, lora
from workbench.adapters.adapter import Adapter, weight_of
from workbench.adapters.config import METHODS, AdapterConfig
from workbench.adapters.layer import Adapted
from workbench.training import mixed

Model = TypeVar("Model", bound=nn.Module)
KINDS: dict[str, type[Adapter]] = dict.fromkeys(METHODS, lora.LoRA) | {
    "miss": adapter.MiSS, "mini": adapter.Mini, "bat-col": adapter.BatCol, "bat-row": adapter.BatRow,
    "pissa": lora.PiSSA, "olora": lora.OLoRA, "lora-ga": lora.LoRAGA, "dora": lora.DoRA, "hira": lora.HiRA, "full": lora.Full,
}  # fmt: skip


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a model by name, adapted or not: nn.Linear, and what else has in_features and out_features."""
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "in_features", None), int)
        and isinstance(getattr(module, "out_features", None), int)
    }
    return {
        name: module
        for name, module in found.items()
        if not isinstance(found.get(name.rpartition(".")[0]), Adapted)
    }


def targeted(model: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Module]:
    """The linear layers that `targets` names; None: all in the model's blocks. Raises ValueError where there are none."""
    every = linears(model)
    stacks = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    inside = {
        name: module
        for name, module in every.items()
        if any(name.startswith(f"{stack}.") for stack in stacks)
    }
    if targets is None:
        if not inside:
            raise ValueError(
                f"{type(model).__name__} has no blocks with linear layers; name the targets: {', '.join(_ends(every))}"
            )
        return inside
    found = {}
    for target in targets:
        here = {
            name: module for name, module in every.items() if name == target or name.endswith(f".{target}")
        }
        if not here:
            others = {
                name
                for name, module in model.named_modules()
                if name == target or name.endswith(f".{target}")
            }
            what = (
                f"it is a {type(model.get_submodule(min(others))).__name__}, not a linear layer; "
                if others
                else ""
            )
            raise ValueError(
                f"no linear layer is called {target!r}: {what}there are {', '.join(_ends(every))}"
            )
        found |= here
    return {name: module for name, module in every.items() if name in found}


def _ends(layers: Iterable[str]) -> list[str]:
    """The last part of each name, once, without the numbers of blocks."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in layers))


def add_adapter(
    model: Model,
    config: AdapterConfig,
    name: str = "default",
    batches: Iterable[Mapping[str, Tensor]] | None = None,
    kind: type[Adapter] | None = None,
    bias: bool = False,
) -> Model:
    """Put an adapter on the targeted layers, in place; it alone is active and trained then. Returns the model.

    `batches`: for LoRA-GA, what the model is called with (labels among it) to give a loss. `kind`: an Adapter of your own in
    place of the method's. `bias`: train the biases of these layers too. Raises ValueError, and leaves the model as it was, where
    a layer cannot have it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch module (of models.load, take .model)"
        )
    if not name or "." in name:
        raise ValueError(f"name={name!r}: expected a name without dots")
    layers = targeted(model, config.targets)
    _refuse_unfit(model, layers)
    gradients = (
        _gradients(model, layers, batches) if config.method == "lora-ga" and batches is not None else {}
    )
    made = {}
    for number, (path, layer) in enumerate(layers.items()):
        base = layer.base if isinstance(layer, Adapted) else layer
        generator = torch.Generator().manual_seed(mixed(config.seed, number))
        try:
            made[path] = (kind or KINDS[config.method])(config, base, generator, gradients.get(path))
        except ValueError as error:
            raise ValueError(f"layer {path!r}: {error}") from error
    if bias:
        _learn_biases(layers, made)
    return put(model, made, config, name)


def _learn_biases(layers: Mapping[str, nn.Module], made: Mapping[str, Adapter]) -> None:
    biased = [path for path, layer in layers.items() if getattr(layer, "bias", None) is not None]
    if not biased:
        raise ValueError(f"bias=True, and none of {', '.join(_ends(layers))} has a bias; leave it out")
    for path in biased:
        made[path].learn_bias(layers[path])


def put(model: Model, updates: Mapping[str, Adapter], config: AdapterConfig, name: str) -> Model:
    """Put these adapters on the layers of these names, in place, alone active and trained. Returns the model."""
    layers = linears(model)
    if any(
        isinstance(layer, Adapted) and (name in layer.adapters or layer.merged) for layer in layers.values()
    ):
        raise ValueError(
            f"there is an adapter {name!r} already, or one that is merged; take another name, or unmerge first"
        )
    for path, update in updates.items():
        layer = layers[path]
        if not isinstance(layer, Adapted):
            parent, _, end = path.rpartition(".")
            layer = Adapted(layer).train(layer.training)
            setattr(model.get_submodule(parent), end, layer)
        layer.adapters[name] = update.train(layer.training)
    vars(model).setdefault("adapter_configs", {})[name] = config
    model.requires_grad_(False)
    return set_adapter(model, name)


def _refuse_unfit(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for own in module.parameters(recurse=False):
            owners.setdefault(id(own), []).append(name)
    for path, layer in layers.items():
        if isinstance(model.get_submodule(path.rpartition(".")[0]), nn.MultiheadAttention):
            raise ValueError(
                f"layer {path!r} is read, not called, by torch's MultiheadAttention: an adapter on it would do nothing. "
                "Leave it out of the targets"
            )
        shared = [n for own in layer.parameters(recurse=False) for n in owners[id(own)] if n != path]
        if shared:
            raise ValueError(
                f"layer {path!r} shares its weight with {shared[0]!r} (it is tied): adapted, it would part from it. "
                "Leave it out of the targets, or untie it: give it a weight of its own"
            )


def _gradients(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The mean gradient of the loss over the batches, of each layer's weight, in float32."""
    weights = {path: weight_of(layer) for path, layer in layers.items()}
    if None in weights.values():
        return {}  # each layer says so itself
    wanted = [p.requires_grad for p in model.parameters()]
    total, count = {path: torch.zeros_like(w, dtype=torch.float32) for path, w in weights.items()}, 0
    try:
        model.requires_grad_(False)
        for weight in weights.values():
            weight.requires_grad_(True)
        for batch in batches:
            loss = model(**batch).loss
            if loss is None:
                raise ValueError(f"a batch of {', '.join(batch)} gives no loss; expected labels in it")
            for into, found in zip(
                total.values(), torch.autograd.grad(loss, [*weights.values()]), strict=True
            ):
                into += found
            count += 1
    finally:
        for p, flag in zip(model.parameters(), wanted, strict=True):
            p.requires_grad_(flag)
    if not count:
        raise ValueError("batches is empty; lora-ga starts from the gradient of at least one")
    return {path: one / count for path, one in total.items()}


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """The layers with adapters, by name; raises ValueError where there is none."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, Adapted)}
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no adapter; put one on: add_adapter(model, AdapterConfig(...))"
        )
    return found


def set_adapter(model: Model, names: str | Sequence[str] | None) -> Model:
    """Let these adapters act, in this order, and train them alone; None: the model as it was. Returns the model.

    Several are applied one after another: where their updates do not depend on the weight (MiSS, LoRA), that is their sum.
    """
    layers = adapted(model)
    active = (names,) if isinstance(names, str) else tuple(names or ())
    known = list(dict.fromkeys(name for layer in layers.values() for name in layer.adapters))
    for name in active:
        if name not in known:
            raise ValueError(f"no adapter {name!r}: there are {', '.join(known)}")
    if any(layer.merged for layer in layers.values()):
        raise ValueError("the adapters are merged; unmerge them first")
    for layer in layers.values():
        layer.active = tuple(name for name in active if name in layer.adapters)
        if any(isinstance(layer.adapters[name], lora.Full) for name in layer.active[1:]):
            raise ValueError("a full update replaces the weight; expected it first among the active adapters")
        for name, update in layer.adapters.items():
            update.requires_grad_(name in active)
            if isinstance(update, lora.LoRA) and update.frozen_A:
                update.A.requires_grad_(False)
    return model


def merge(model: Model) -> Model:
    """Put the active adapters into the weights, in place, all or none. Returns the model; see `unmerge`."""
    layers = adapted(model)
    if any(layer.merged for layer in layers.values()):
        warnings.warn("the adapters are merged already; nothing was done", stacklevel=2)
        return model
    try:
        for path, layer in layers.items():
            try:
                layer.merge()
            except ValueError as error:
                raise ValueError(f"layer {path!r}: {error}") from error
    except ValueError:
        for layer in layers.values():
            layer.unmerge()
        raise
    return model


def unmerge(model: Model) -> Model:
    """Put the weights back as they were before `merge`, bit for bit. Returns the model."""
    layers = adapted(model)
    if not any(layer.merged for layer in layers.values()):
        warnings.warn("no adapter is merged; nothing was done", stacklevel=2)
    for layer in layers.values():
        layer.unmerge()
    return model


def parameter_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """What is trained, as groups for a torch optimizer: one at `lr`; for LoRA+, B in a second, at ``ratio`` times that."""
    slow, fast = [], {}
    for layer in adapted(model).values():
        for name in layer.active:
            ratio = (
                model.adapter_configs[name].ratio if model.adapter_configs[name].method == "lora+" else 1.0
            )
            for part, p in layer.adapters[name].named_parameters():
                if p.requires_grad:
                    (fast.setdefault(ratio, []) if part == "B" and ratio != 1 else slow).append(p)
    groups = [{"params": slow, "lr": lr}, *({"params": ps, "lr": lr * ratio} for ratio, ps in fast.items())]
    return [group for group in groups if group["params"]]
