"""Functions that add, activate, merge, unmerge and remove the adapters of a model, and that collect their parameters."""

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
from workbench.adapters.names import modules, root
from workbench.adapters.reach import unreached, unused
from workbench.adapters.targets import adapted, ends, linears, refuse_tied, targeted
from workbench.training import mixed

Model = TypeVar("Model", bound=nn.Module)
KINDS: dict[str, type[Adapter]] = dict.fromkeys(METHODS, lora.LoRA) | {
    "miss": adapter.MiSS, "mini": adapter.Mini, "bat-col": adapter.BatCol, "bat-row": adapter.BatRow,
    "pissa": lora.PiSSA, "olora": lora.OLoRA, "lora-ga": lora.LoRAGA, "dora": lora.DoRA, "hira": lora.HiRA, "full": lora.Full,
}  # fmt: skip


def add_adapter(
    model: Model,
    config: AdapterConfig,
    name: str = "default",
    batches: Iterable[Mapping[str, Tensor]] | None = None,
    kind: type[Adapter] | None = None,
    bias: bool = False,
) -> Model:
    """Add an adapter to the targeted layers, in place. After the call, only this adapter is active and trained.

    Args:
        model: a torch module.
        config: method, rank, targets and further settings of the adapter.
        name: the name of the adapter.
        batches: one dict of keyword arguments for each call of the model. LoRA-GA requires batches with labels, since it
            starts from the gradient of the loss. If batches are given, each targeted layer must be used in at least one of them.
        kind: a subclass of `Adapter` that replaces the class of the method.
        bias: whether to train the biases of the targeted layers too.

    Returns:
        The model.

    Raises:
        ValueError: if a layer cannot have an adapter, or if the model uses it in no batch. The model is then unchanged.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; expected a torch.nn.Module, such as the attribute .model of models.load(...)"
        )
    _check_name(model, name)
    layers = targeted(model, config.targets)
    refuse_tied(model, layers)
    batches = None if batches is None else list(batches)
    gradients = _gradients(model, layers, batches) if config.method == "lora-ga" and batches is not None else {}
    made = {}
    for number, (path, layer) in enumerate(layers.items()):
        base: Any = layer.base if isinstance(layer, Adapted) else layer
        generator = torch.Generator().manual_seed(mixed(config.seed, number))
        try:
            made[path] = (kind or KINDS[config.method])(config, base, generator, gradients.get(path))
        except ValueError as error:
            raise ValueError(f"layer {path!r}: {error}") from error
    if bias:
        _learn_biases(layers, made)
    before = [layer.active for layer in modules(model).values() if isinstance(layer, Adapted)]
    put(model, made, config, name)
    if batches is not None and not gradients:
        _refuse_unreached(model, name, batches, before)
    return model


def _check_name(model: nn.Module, name: str) -> None:
    """Raise ValueError if the name is not valid or already in use, or if an adapter is merged."""
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict(), name):
        raise ValueError(
            f"name={name!r}: expected a nonempty string without dots that is not an attribute of torch.nn.ModuleDict "
            "(keys, type, ...)"
        )
    layers = [layer for layer in modules(model).values() if isinstance(layer, Adapted)]
    if any(name in layer.adapters or layer.merged for layer in layers):
        raise ValueError(
            f"name={name!r}: an adapter with this name exists, or an adapter is merged; choose another name, or unmerge first"
        )


def _refuse_unreached(
    model: nn.Module, name: str, batches: Sequence[Mapping[str, Tensor]], before: Sequence[tuple[str, ...]]
) -> None:
    """Raise ValueError if there is an adapted layer that the model does not use in any batch.

    Before the error is raised, the new adapter is removed, and the adapters that were active earlier are activated again. The
    names of those adapters are given in `before`, for each layer.
    """
    idle = set.intersection(*({*unreached(model, **batch)} for batch in batches)) if batches else set()
    if not idle:
        return
    for layer in adapted(model).values():
        if name in layer.adapters:
            del layer.adapters[name]
    del configs(model)[name]
    _take_off(model, [path for path, layer in adapted(model).items() if not layer.adapters])
    if before:
        set_adapter(model, list(dict.fromkeys(n for active in before for n in active)))
    raise unused(idle)


def _learn_biases(layers: Mapping[str, Any], made: Mapping[str, Adapter]) -> None:
    biased = [path for path, layer in layers.items() if getattr(layer, "bias", None) is not None]
    if not biased:
        raise ValueError(f"bias=True: none of the layers {', '.join(ends(layers))} has a bias; set bias=False")
    for path in biased:
        made[path].learn_bias(layers[path])


def put(model: Model, updates: Mapping[str, Adapter], config: AdapterConfig, name: str) -> Model:
    """Add adapters to the model in place, and return the model. `updates` maps the names of layers to their new adapters.

    Afterwards, only these adapters are active and trained.
    """
    _check_name(model, name)
    layers, whole = linears(model), modules(model)
    if not any(isinstance(layer, Adapted) for layer in layers.values()):
        trained = [p for p in model.parameters() if p.requires_grad]
        told = whole[""].register_state_dict_pre_hook(_say_that_adapters_are_on)
        vars(whole[""]).update(adapter_configs={}, before_adapters=(trained, told))
    for path, update in updates.items():
        layer = layers[path]
        if not isinstance(layer, Adapted):
            parent, _, end = path.rpartition(".")
            layer = Adapted(layer).train(layer.training)
            setattr(whole[parent], end, layer)
        layer.adapters[name] = update.train(layer.training)
    configs(model)[name] = config
    model.requires_grad_(False)
    return set_adapter(model, name)


def _gradients(model: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the gradient of the loss with respect to each layer's weight, averaged over the batches, in float32."""
    weights: dict[str, Tensor] = {}
    for path, layer in layers.items():
        weight = weight_of(getattr(layer, "base", layer))
        if weight is None:
            return {}  # the error is raised when the adapter of this layer is created
        weights[path] = weight
    wanted, reached = [p.requires_grad for p in model.parameters()], set()
    total, count = {path: torch.zeros_like(w, dtype=torch.float32) for path, w in weights.items()}, 0
    try:
        model.requires_grad_(False)
        for weight in weights.values():
            weight.requires_grad_(True)
        for batch in batches:
            loss = model(**batch).loss
            if loss is None:
                raise ValueError(f"the model returns no loss for a batch with {', '.join(batch)}; expected a batch with labels")
            found = torch.autograd.grad(loss, [*weights.values()], allow_unused=True)
            for (path, into), gradient in zip(total.items(), found, strict=True):
                if gradient is not None:
                    into += gradient
                    reached.add(path)
            count += 1
    finally:
        for p, flag in zip(model.parameters(), wanted, strict=True):
            p.requires_grad_(flag)
    if not count:
        raise ValueError("batches is empty; expected at least one batch, since lora-ga starts from a gradient")
    if lost := [path for path in weights if path not in reached]:
        raise unused(lost)
    return {path: one / count for path, one in total.items()}


def configs(model: nn.Module) -> dict[str, AdapterConfig]:
    """Return the configs of a model's adapters, by adapter name."""
    found: dict[str, AdapterConfig] = vars(root(model))["adapter_configs"]
    return found


def _say_that_adapters_are_on(model: nn.Module, prefix: str, keep_vars: bool) -> None:
    warnings.warn(
        f"{type(model).__name__} has adapters, so the names in its state_dict differ from those of the plain model "
        "(for example q_proj.base.weight), and other programs cannot load it. To save the adapter, call "
        "save_adapter(model, folder). To save a plain model with the adapter merged into its weights, call "
        "unload(model) first",
        stacklevel=3,
    )


def unload(model: Model, merge: bool = True) -> Model:
    """Remove all adapters in place, and return the model. Any program can then load the files that `save_pretrained` writes.

    If `merge` is True, the active adapters are merged permanently into the weights; otherwise the original weights are
    restored. Parameters that were trainable before the first adapter was added are trainable again. Raises ValueError
    if an adapter cannot be merged, for example because the weight of its layer is quantized. The model is then unchanged.
    """
    layers = adapted(model)
    if not merge:
        for layer in layers.values():
            layer.unmerge()
    elif not any(layer.merged for layer in layers.values()):
        _merge_all(layers)
    _take_off(model, [*layers])
    return model


def _take_off(model: nn.Module, paths: Sequence[str]) -> None:
    """Replace the adapted layers named in `paths` by their base layers.

    If no adapted layer remains, also remove the configs of the adapters from the model, and make those parameters trainable
    that were trainable before the first adapter was added.
    """
    whole = modules(model)
    trained, told = vars(root(model))["before_adapters"]
    known = {id(p) for p in trained}
    for path in paths:
        layer: Any = whole[path]
        parent, _, end = path.rpartition(".")
        setattr(whole[parent], end, layer.base.train(layer.training))
        now = (getattr(layer.base, "weight", None), getattr(layer.base, "bias", None))
        trained += [new for own, new in zip(layer.own, now, strict=True) if id(own) in known]
    if not any(isinstance(module, Adapted) for module in model.modules()):
        told.remove()
        for p in trained:
            p.requires_grad_(True)
        del vars(root(model))["adapter_configs"], vars(root(model))["before_adapters"]


def set_adapter(model: Model, names: str | Sequence[str] | None) -> Model:
    """Activate the adapters in `names`, in this order, and train only these. None deactivates all adapters. Returns the model.

    Several adapters are applied one after another. Updates that do not depend on the weight (MiSS, LoRA) add up.
    """
    layers = adapted(model)
    active = (names,) if isinstance(names, str) else tuple(names or ())
    known = list(dict.fromkeys(name for layer in layers.values() for name in layer.adapters))
    for name in active:
        if name not in known:
            raise ValueError(f"no adapter {name!r}; expected one of {', '.join(known)}")
    if any(layer.merged for layer in layers.values()):
        raise ValueError("the adapters are merged; call unmerge(model) first")
    for layer in layers.values():
        layer.active = tuple(name for name in active if name in layer.adapters)
        if any(isinstance(layer.adapters[name], lora.Full) for name in layer.active[1:]):
            raise ValueError("the method full replaces the weight; put the adapter of this method first in names")
        for name, update in layer.adapters.items():
            update.requires_grad_(name in active)
            if isinstance(update, lora.LoRA) and update.frozen_A:
                update.A.requires_grad_(False)
    return model


def merge(model: Model) -> Model:
    """Merge the active adapters into the weights, in place. Returns the model. `unmerge` restores the original weights.

    Raises ValueError if the merge is not possible in one of the layers. Then no layer is changed.
    """
    layers = adapted(model)
    if any(layer.merged for layer in layers.values()):
        warnings.warn("the adapters are merged already; nothing was done", stacklevel=2)
        return model
    _merge_all(layers)
    return model


def _merge_all(layers: Mapping[str, Adapted]) -> None:
    """Merge the adapters of all layers; if one layer fails, unmerge the others and raise ValueError."""
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


def unmerge(model: Model) -> Model:
    """Restore the weights from before `merge`, bit for bit, in place. Returns the model."""
    layers = adapted(model)
    if not any(layer.merged for layer in layers.values()):
        warnings.warn("no adapter is merged; nothing was done", stacklevel=2)
    for layer in layers.values():
        layer.unmerge()
    return model


def parameter_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Return the trainable parameters as groups for a torch optimizer, with learning rate `lr`.

    For LoRA+, the matrices B form a second group with learning rate ``ratio * lr``.
    """
    slow: list[nn.Parameter] = []
    fast: dict[float, list[nn.Parameter]] = {}
    for layer in adapted(model).values():
        for name in layer.active:
            ratio = configs(model)[name].ratio if configs(model)[name].method == "lora+" else 1.0
            for part, p in layer.adapters[name].named_parameters():
                if p.requires_grad:
                    (fast.setdefault(ratio, []) if part == "B" and ratio != 1 else slow).append(p)
    groups = [{"params": slow, "lr": lr}, *({"params": ps, "lr": lr * ratio} for ratio, ps in fast.items())]
    return [group for group in groups if group["params"]]
