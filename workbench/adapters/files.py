"""Adapters on disk, in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

What PEFT has is written so that PEFT loads it: MiSS, mini, Bat-col (as its ``bat``), LoRA, rsLoRA, DoRA, HiRA; LoRA+ and
LoRA-FA as the LoRA that they are; PiSSA, OLoRA and LoRA-GA as LoRA of rank 2r on the original weights (B, -B0 beside each other).
What it has not (Bat-row, full) gets a type of its own, which PEFT refuses. ``workbench.json`` beside them holds our config.
Read are also PEFT's own files of these methods, and of BONE (its name for MiSS and Bat-col until 0.19).
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.adapters.adapter import Adapter
from workbench.adapters.attach import KINDS, adapted, linears, put
from workbench.adapters.config import UNDROPPED, AdapterConfig
from workbench.adapters.lora import LoRA
from workbench.atomic import write_atomic
from workbench.datasets import DataError

Model = TypeVar("Model", bound=nn.Module)
PREFIX = "base_model.model."
CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
OURS = "workbench.json"
STARTED = ("pissa", "olora", "lora-ga")  # whose start is subtracted
UNKNOWN_TO_PEFT = {"bat-row": "WORKBENCH_BAT_ROW", "full": "WORKBENCH_FULL"}
INIT = {"miss": True, "mini": "mini", "bat-col": "bat"}
TENSOR_NAMES = {  # ours to PEFT's, by the type in its config
    "LORA": {"A": "lora_A.weight", "B": "lora_B.weight", "magnitude": "lora_magnitude_vector"},
    "HIRA": {"A": "hira_A", "B": "hira_B"},
    "MISS": {"shard": "miss_block"},
    "BONE": {"shard": "bone_block"},
    "WORKBENCH_BAT_ROW": {"shard": "bat_row_block"},
    "WORKBENCH_FULL": {"weight": "full_weight"},
}
BIAS = "base_layer.bias"  # where it is trained too
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # which leave the weight as it is
UNREAD = (  # features of PEFT's LoRA that change what is computed
    "modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices", "use_qalora", "use_bdlora",
    "fan_in_fan_out", "lora_bias", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip


def save_adapter(model: nn.Module, folder: str | Path, name: str = "default") -> Path:
    """Write the adapter `name` into `folder`; returns it. See the module's text for what PEFT reads of it."""
    folder = Path(folder)
    layers = {path: layer for path, layer in adapted(model).items() if name in layer.adapters}
    if not layers:
        raise ValueError(
            f"no adapter {name!r} is on this model; there are {', '.join(model.adapter_configs)}"
        )
    config: AdapterConfig = model.adapter_configs[name]
    kind = _type_of(config.method)
    tensors: dict[str, Tensor] = {}
    for path, layer in layers.items():
        for part, tensor in _written(layer.adapters[name]).items():
            tensors[f"{PREFIX}{path}.{TENSOR_NAMES[kind][part]}"] = tensor.detach().contiguous().cpu()
        if (shift := layer.adapters[name].shift) is not None:
            tensors[f"{PREFIX}{path}.{BIAS}"] = (layer.own[1] + shift).detach().cpu()
    about = _peft_config(config, kind, model, {path: layer.adapters[name] for path, layer in layers.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)  # without it, what is half written is no adapter
    write_atomic(folder / TENSORS, save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / OURS, _json(config.model_dump(mode="json")))
    write_atomic(folder / CONFIG, _json(about))
    return folder


def _json(about: dict[str, Any]) -> bytes:
    return json.dumps(about, indent=1, sort_keys=True).encode() + b"\n"


def _type_of(method: str) -> str:
    if method in UNKNOWN_TO_PEFT:
        return UNKNOWN_TO_PEFT[method]
    return "MISS" if method in INIT else "HIRA" if method == "hira" else "LORA"


def _written(update: Adapter) -> dict[str, Tensor]:
    """An adapter's tensors by our names; a LoRA whose start is subtracted as the LoRA of rank 2r that it is."""
    parts = {part: tensor for part, tensor in update.named_parameters() if part != "shift"}
    if isinstance(update, LoRA) and not update.from_zero:
        parts["A"], parts["B"] = update.factors()
    return parts


def _peft_config(
    config: AdapterConfig, kind: str, model: nn.Module, updates: dict[str, Adapter]
) -> dict[str, Any]:
    about = {
        "peft_type": kind,
        "r": config.r,
        "target_modules": sorted(updates),
        "inference_mode": True,
        "task_type": "CAUSAL_LM" if hasattr(getattr(model, "config", None), "vocab_size") else None,
        "base_model_name_or_path": _name_of(model),
    }
    if any(update.shift is not None for update in updates.values()):
        about["bias"] = f"{kind.lower()}_only"
    if kind == "MISS":
        return about | {
            "init_weights": INIT[config.method],
            "mini_r": config.q or config.r,
            "miss_dropout": config.dropout,
        }
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
        "rank_pattern": {path: rank for path, rank in ranks.items() if rank != ranks[widest]},
        "alpha_pattern": {path: alpha for path, alpha in alphas.items() if alpha != alphas[widest]},
        "lora_dropout": config.dropout,
        "use_rslora": False,
        "use_dora": config.method == "dora",
        "init_lora_weights": True,
    }


def load_adapter(model: Model, folder: str | Path, name: str = "default") -> Model:
    """Put the adapter in `folder` (ours or PEFT's) on the model, in place, active. Returns the model.

    Raises DataError where the folder holds none, or one of another kind or for another model; nothing is unpickled.
    """
    folder = Path(folder)
    about, layers = read(folder)
    config, layers_here, updates = config_of(folder, about, layers), linears(model), {}
    for path, parts in layers.items():
        if path not in layers_here:
            raise DataError(
                f"{folder} is an adapter of another model: it has a layer {path!r}, which is not in {type(model).__name__}"
            )
        base = getattr(layers_here[path], "base", layers_here[path])
        try:
            bias = parts.pop("bias", None)
            updates[path] = _update(config, about, path, base, parts)
            if bias is not None:
                updates[path].learn_bias(base, bias)
        except (ValueError, RuntimeError) as error:
            raise DataError(
                f"{folder} does not fit layer {path!r} ({base.out_features} x {base.in_features}): {error}"
            ) from error
    names = about.get("base_model_name_or_path"), _name_of(model)
    base, here = (str(name or "").rpartition("/")[2] for name in names)
    if base and here and base != here:
        warnings.warn(f"{folder} was trained on {base}, and this model is {here}", stacklevel=2)
    return put(model, updates, config, name)


def _name_of(model: nn.Module) -> str | None:
    return getattr(getattr(model, "config", None), "_name_or_path", None) or None


def read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """An adapter's config, and its tensors by layer and by our names; raises DataError where the folder holds none."""
    try:
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = about["peft_type"]
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no adapter: there is no {CONFIG}; expected a folder that save_adapter or PEFT wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / CONFIG} is no adapter's config ({error!r}); expected PEFT's JSON"
        ) from error
    if kind not in TENSOR_NAMES:
        raise DataError(f"{folder} is a {kind} adapter; read are {', '.join(TENSOR_NAMES)}")
    odd = [name for name in UNREAD if about.get(name)]
    start = about.get("init_lora_weights", True)
    if kind == "LORA" and start not in PLAIN_STARTS and not str(start).startswith(("pissa", "olora")):
        odd.append(f"init_lora_weights={start}, whose changed base weights are not in the file")
    if odd:
        raise DataError(
            f"{folder} uses {', '.join(odd)}, which is not read here; let PEFT convert or merge it"
        )
    found: dict[str, dict[str, Tensor]] = {}
    ours = {theirs: name for name, theirs in TENSOR_NAMES[kind].items()} | {BIAS: "bias"}
    for key, tensor in _tensors(folder).items():
        path, part = next(
            ((key[: -len(end) - 1], name) for end, name in ours.items() if key.endswith(f".{end}")),
            (key, None),
        )
        if part is None or not path.startswith(PREFIX):
            raise DataError(
                f"{folder} holds a tensor {key!r}, which {kind} adapters have not (a bias or a saved module?); it is not read"
            )
        found.setdefault(path.removeprefix(PREFIX), {})[part] = tensor
    if not found:
        raise DataError(f"{folder} holds no tensors; the file is empty")
    return about, found


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / TENSORS
    try:
        if path.exists() or not (folder / PICKLE).exists():
            return load_file(path)
        path = folder / PICKLE
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{folder} holds no {TENSORS}; the adapter is not whole") from None
    except UnpicklingError as error:
        raise DataError(
            f"{path} holds more than tensors: it would run code, and is not read; ask for {TENSORS}"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); copy it again") from error


def config_of(
    folder: Path, about: dict[str, Any], layers: Mapping[str, Mapping[str, Tensor]]
) -> AdapterConfig:
    """Our config of an adapter: the one written beside it, or what PEFT's says."""
    kind, any_layer = about["peft_type"], next(iter(layers.values()))
    ours = folder / OURS
    if ours.exists():
        try:
            config = AdapterConfig(**json.loads(ours.read_text(encoding="utf-8")))
        except ValueError as error:
            raise DataError(f"{ours} is damaged: {error}") from error
        if _type_of(config.method) != kind:
            raise DataError(
                f"{folder} says {config.method} in {OURS} and {kind} in {CONFIG}: one of them is of another adapter"
            )
        return config
    targets = about.get("target_modules")
    knobs: dict[str, Any] = {
        "targets": tuple(targets) if isinstance(targets, list) else tuple(layers),
        "r": about.get("r", 8),
    }
    if kind in ("MISS", "BONE"):
        start = about.get("init_weights", True)
        knobs["method"] = {"bat": "bat-col", "mini": "mini"}.get(start, "miss")
        axes = 3 if start == "bat" else 2
        if any_layer["shard"].ndim != axes:
            raise DataError(
                f"{folder} says init_weights={start!r}, whose shards have {axes} axes; these have {any_layer['shard'].ndim}"
            )
        return AdapterConfig(
            **knobs,
            **({"q": about["mini_r"]} if start == "mini" else {}),
            dropout=_dropout(folder, knobs["method"], about.get("miss_dropout")),
        )
    if kind == "HIRA":
        _dropout(folder, "hira", about.get("hira_dropout"))
        return AdapterConfig(method="hira", **knobs)
    start = str(about.get("init_lora_weights", True))
    method = "dora" if about.get("use_dora") else "rslora" if about.get("use_rslora") else "lora"
    method = next((name for name in ("pissa", "olora") if start.startswith(name)), method)
    return AdapterConfig(
        method=method,
        alpha=about.get("lora_alpha", 8),
        dropout=_dropout(folder, method, about.get("lora_dropout")),
        iterations=int(start.rpartition("_")[2]) if start.startswith("pissa_niter_") else None,
        **knobs,
    )


def _dropout(folder: Path, method: str, given: float | None) -> float:
    """The dropout in PEFT's config, which matters where training goes on; a warning where the method here has none."""
    if given and method in UNDROPPED:
        warnings.warn(
            f"{folder} has dropout {given:g}, which {method} has not here: training would go on without",
            stacklevel=4,
        )
        return 0.0
    return given or 0.0


def _update(
    config: AdapterConfig, about: dict[str, Any], path: str, base: Any, parts: dict[str, Tensor]
) -> Adapter:
    """The adapter of one layer, with its tensors from the file."""
    generator = torch.Generator()
    if about["peft_type"] != "LORA":
        shape = parts.get("shard", parts.get("A", torch.zeros(config.r))).shape
        r = shape[-1] if config.method.startswith("bat") else shape[0]
        return _filled(KINDS[config.method](config.replace(r=r), base, generator), parts)
    A, B = parts["A"], parts["B"]
    rank, alpha = len(A), _pattern(about.get("alpha_pattern"), path, about.get("lora_alpha", 8))
    scale = alpha / (rank**0.5 if about.get("use_rslora") else rank)
    if config.method in STARTED and about.get("init_lora_weights", True) is True:
        half = rank // 2  # ours: the start stands beside what was learnt
        plain = config.replace(method="lora", r=half, iterations=None, compat="authors")
        update = KINDS["lora"](plain, base, generator)
        _filled(update, {"A": A[:half], "B": B[:, :half]})
        for name, first in (("A0", A[half:]), ("B0", -B[:, half:])):
            update.register_buffer(name, first.to(**update.like).contiguous())
    else:
        update = _filled(KINDS[config.method](config.replace(r=rank, alpha=alpha), base, generator), parts)
        if config.method == "olora":  # PEFT takes s Q R from the weight
            update.A0 *= update.scale
    update.scale = scale
    return update


def _filled(update: Adapter, parts: Mapping[str, Tensor]) -> Adapter:
    own = dict(update.named_parameters())
    if own.keys() != parts.keys():
        raise ValueError(f"it has {', '.join(sorted(parts))}; expected {', '.join(sorted(own))}")
    for name, tensor in parts.items():
        if own[name].shape != tensor.shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}; expected {tuple(own[name].shape)}")
        own[name].data.copy_(tensor)
    return update


def _pattern(patterns: Mapping[str, float] | None, path: str, otherwise: float) -> float:
    """The value of the first pattern that a layer's name ends with, as PEFT reads them: regular expressions."""
    return next(
        (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", path)), otherwise
    )
