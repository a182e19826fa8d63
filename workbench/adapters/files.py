"""Functions that save and load adapters in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

PEFT can load these adapters: MiSS, mini, Bat-col (``bat`` in PEFT), LoRA, rsLoRA, DoRA and HiRA. LoRA+ and LoRA-FA are saved
as LoRA, since they differ from LoRA only during training. PiSSA, OLoRA and LoRA-GA are saved as LoRA of rank 2r on the
original weights: the factor B is ``[B, -B0]``, since the initial product is subtracted. PEFT lacks Bat-row and full. They are
saved with a ``peft_type`` that PEFT rejects. The file ``workbench.json`` in the same folder holds the `AdapterConfig`.

`load_adapter` also loads adapters that PEFT saved, if their method is one of these. This includes the type BONE, which was
PEFT's name for MiSS and Bat-col until version 0.19.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from workbench.adapters.adapter import Adapter
from workbench.adapters.attach import KINDS, configs, put
from workbench.adapters.config import AdapterConfig
from workbench.adapters.folder import BIAS, INIT, OURS, PREFIX, TENSOR_NAMES, TENSORS, config_of, read, type_of
from workbench.adapters.lora import LoRA
from workbench.adapters.names import modules, root
from workbench.adapters.peft_config import CONFIG, PeftConfig, names_of, pattern_of
from workbench.adapters.targets import adapted, linears
from workbench.atomic import write_atomic
from workbench.datasets import DataError

Model = TypeVar("Model", bound=nn.Module)
STARTED = ("pissa", "olora", "lora-ga")  # methods whose initial product B0 A0 is subtracted


def save_adapter(model: nn.Module, folder: str | Path, name: str = "default") -> Path:
    """Save the adapter `name` into `folder`, and return the folder. The module docstring lists the methods that PEFT can load."""
    folder = Path(folder)
    layers = {path: layer for path, layer in adapted(model).items() if name in layer.adapters}
    if not layers:
        raise ValueError(f"the model has no adapter {name!r}; expected one of {', '.join(configs(model))}")
    config = configs(model)[name]
    kind = type_of(config.method)
    tensors: dict[str, Tensor] = {}
    for path, layer in layers.items():
        for part, tensor in _written(layer.adapters[name]).items():
            tensors[f"{PREFIX}{path}.{TENSOR_NAMES[kind][part]}"] = tensor.detach().contiguous().cpu()
        if (shift := layer.adapters[name].shift) is not None:
            tensors[f"{PREFIX}{path}.{BIAS}"] = (layer.own[1] + shift).detach().cpu()
    about = _peft_config(config, kind, model, {path: layer.adapters[name] for path, layer in layers.items()})
    folder.mkdir(parents=True, exist_ok=True)
    # The config is written last. So a partly written folder has no config, and `load_adapter` rejects it.
    (folder / CONFIG).unlink(missing_ok=True)
    write_atomic(folder / TENSORS, save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / OURS, _json(config.model_dump(mode="json")))
    write_atomic(folder / CONFIG, _json(about))
    return folder


def _json(about: dict[str, Any]) -> bytes:
    return json.dumps(about, indent=1, sort_keys=True).encode() + b"\n"


def _written(update: Adapter) -> dict[str, Tensor]:
    """Return the tensors of an adapter by our names for them. A and B have rank 2r if an initial product B0 A0 is subtracted."""
    parts: dict[str, Tensor] = {part: tensor for part, tensor in update.named_parameters() if part != "shift"}
    if isinstance(update, LoRA) and not update.from_zero:
        parts["A"], parts["B"] = update.factors()
    return parts


def _peft_config(config: AdapterConfig, kind: str, model: nn.Module, updates: Mapping[str, Any]) -> dict[str, Any]:
    about = {
        "peft_type": kind,
        "r": config.r,
        "target_modules": names_of(updates, modules(model)),
        "inference_mode": True,
        "task_type": "CAUSAL_LM" if hasattr(getattr(root(model), "config", None), "vocab_size") else None,
        "base_model_name_or_path": _name_of(model),
    }
    if any(update.shift is not None for update in updates.values()):
        about["bias"] = f"{kind.lower()}_only"
    if kind == "MISS":
        return about | {"init_weights": INIT[config.method], "mini_r": config.q or config.r, "miss_dropout": config.dropout}
    if kind == "HIRA":
        return about | {"hira_dropout": config.dropout}
    if kind != "LORA":
        return about
    ranks = {path: len(_written(update)["A"]) for path, update in updates.items()}
    alphas = {path: update.scale * ranks[path] for path, update in updates.items()}
    widest = max(ranks, key=ranks.__getitem__)
    return about | {
        "r": ranks[widest],
        "lora_alpha": alphas[widest],
        "rank_pattern": {pattern_of(p): rank for p, rank in ranks.items() if rank != ranks[widest]},
        "alpha_pattern": {pattern_of(p): alpha for p, alpha in alphas.items() if alpha != alphas[widest]},
        "lora_dropout": config.dropout,
        "use_rslora": False,
        "use_dora": config.method == "dora",
        "init_lora_weights": True,
    }


def load_adapter(model: Model, folder: str | Path, name: str = "default") -> Model:
    """Load an adapter that `save_adapter` or PEFT saved in `folder` into the model, in place, and activate the adapter.

    Returns the model. Raises DataError if the folder holds no adapter, or if the adapter is incomplete, of an unknown
    type, or made for another model. No code from the folder is run.
    """
    folder = Path(folder)
    about, layers = read(folder)
    layers_here = linears(model)
    if all(path.startswith("module.") for path in layers) and not layers.keys() & layers_here.keys():
        # The adapter was saved from a model in DataParallel.
        layers = {path.removeprefix("module."): parts for path, parts in layers.items()}
    config, updates = config_of(folder, about, layers), {}
    _refuse_part(folder, about, layers, layers_here)
    for path, parts in layers.items():
        base: Any = getattr(layers_here[path], "base", layers_here[path])
        try:
            bias = parts.pop("bias", None)
            updates[path] = _update(config, about, path, base, parts)
            if bias is not None:
                updates[path].learn_bias(base, bias)
        except (ValueError, RuntimeError) as error:
            raise DataError(
                f"{folder} does not fit layer {path!r} ({base.out_features} x {base.in_features}): {error}"
            ) from error
    base, here = (str(name or "").rpartition("/")[2] for name in (about.base_model_name_or_path, _name_of(model)))
    if base and here and base != here:
        warnings.warn(
            f"the adapter in {folder} was trained on {base}, but this model is {here}; check that they fit together", stacklevel=2
        )
    return put(model, updates, config, name)


def _refuse_part(
    folder: Path, about: PeftConfig, layers: Mapping[str, Mapping[str, Tensor]], here: Mapping[str, nn.Module]
) -> None:
    """Raise DataError if the adapter has a layer that the model lacks, or lacks tensors for a layer that its config targets."""
    other = next((path for path in layers if path not in here), None)
    if other is not None:
        raise DataError(
            f"{folder} holds an adapter for another model: this model has no linear layer {other!r}; load the model "
            "that the adapter was trained on"
        )
    lost = [path for path in about.targets(here) if path not in layers]
    if lost:
        raise DataError(
            f"{folder} is incomplete, or holds an adapter for another model: its target_modules match {len(lost)} "
            f"layers of this model for which it has no tensors, such as {lost[0]!r}; copy the folder again, or load the model "
            "that the adapter was trained on"
        )


def _name_of(model: nn.Module) -> str | None:
    return getattr(getattr(root(model), "config", None), "_name_or_path", None) or None


def _update(config: AdapterConfig, about: PeftConfig, path: str, base: Any, parts: dict[str, Tensor]) -> Adapter:
    """Return the adapter of one layer with the tensors `parts` from the file. Raises ValueError if they do not fit the layer."""
    generator = torch.Generator()
    expected = {"A", "B"} if about.peft_type in ("LORA", "HIRA") else {*TENSOR_NAMES[about.peft_type]}
    if not expected <= parts.keys():
        raise ValueError(
            f"the file has the tensors {', '.join(sorted(parts))} for this layer; expected {', '.join(sorted(expected))}"
        )
    first = parts.get("shard", parts.get("A"))
    if first is None:  # full
        return _filled(KINDS[config.method](config, base, generator), parts)
    rank = first.shape[-1] if config.method.startswith("bat") else first.shape[0]
    said = about.rank(path)
    if said is not None and said != rank:
        raise ValueError(f"the tensors have rank {rank}; expected {said}, as in {CONFIG}. Copy the folder again")
    if about.peft_type != "LORA":
        return _filled(KINDS[config.method](config.replace(r=rank), base, generator), parts)
    A, B, alpha = parts["A"], parts["B"], about.alpha(path)
    scale = alpha / (rank**0.5 if about.use_rslora else rank)
    if config.method in STARTED and about.init_lora_weights is True:
        half = rank // 2  # save_adapter wrote the file: the second halves of A and B are A0 and -B0
        config = config.replace(method="lora", r=half, alpha=None, iterations=None, compat="authors")
        update: Any = KINDS["lora"](config, base, generator)
        _filled(update, {"A": A[:half], "B": B[:, :half]})
        for name, start in (("A0", A[half:]), ("B0", -B[:, half:])):
            update.register_buffer(name, start.to(**update.like).contiguous())
    else:
        # The initial values of PiSSA and OLoRA depend on the scale alpha / r, so alpha is chosen to give the scale of the file.
        own = scale * rank if config.method in ("pissa", "olora") else alpha
        if config.method in ("pissa", "olora") and not scale > 0:
            raise ValueError(f"lora_alpha={alpha:g}: expected a number above 0 for {config.method}")
        update = _filled(KINDS[config.method](config.replace(r=rank, alpha=own), base, generator), parts)
        if config.method == "olora":  # with W = Q R and the scale s, PEFT does not divide R by s, and subtracts s Q R
            update.A0 *= update.scale
    update.scale = scale
    filled: Adapter = update
    return filled


def _filled(update: Adapter, parts: Mapping[str, Tensor]) -> Adapter:
    own = dict(update.named_parameters())
    if own.keys() != parts.keys():
        raise ValueError(f"the file has the tensors {', '.join(sorted(parts))}; expected {', '.join(sorted(own))}")
    for name, tensor in parts.items():
        if own[name].shape != tensor.shape:
            raise ValueError(f"the tensor {name} has shape {tuple(tensor.shape)}; expected {tuple(own[name].shape)}")
        own[name].data.copy_(tensor)
    return update
