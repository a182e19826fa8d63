"""Functions that read and validate the files of a saved adapter: PEFT's config, our own config, and the tensors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.adapters.config import UNDROPPED, AdapterConfig
from workbench.adapters.names import plain
from workbench.adapters.peft_config import CONFIG, LARGEST, PeftConfig, read_config
from workbench.atomic import read_at_most
from workbench.datasets import DataError

PREFIX = "base_model.model."
TENSORS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
OURS = "workbench.json"
UNKNOWN_TO_PEFT = {"bat-row": "WORKBENCH_BAT_ROW", "full": "WORKBENCH_FULL"}
INIT = {"miss": True, "mini": "mini", "bat-col": "bat"}
TENSOR_NAMES = {  # for each peft_type, our tensor names and the names in PEFT's files
    "LORA": {"A": "lora_A.weight", "B": "lora_B.weight", "magnitude": "lora_magnitude_vector"},
    "HIRA": {"A": "hira_A", "B": "hira_B"},
    "MISS": {"shard": "miss_block"},
    "BONE": {"shard": "bone_block"},
    "WORKBENCH_BAT_ROW": {"shard": "bat_row_block"},
    "WORKBENCH_FULL": {"weight": "full_weight"},
}
BIAS = "base_layer.bias"  # the name of a trained bias in PEFT's files
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # initialisations that do not change the base weight
UNREAD = (  # features of PEFT's LoRA that change the computation and are not supported here
    "modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices", "use_qalora", "use_bdlora",
    "fan_in_fan_out", "lora_bias", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip


def type_of(method: str) -> str:
    """Return the ``peft_type`` under which an adapter of this method is saved."""
    if method in UNKNOWN_TO_PEFT:
        return UNKNOWN_TO_PEFT[method]
    return "MISS" if method in INIT else "HIRA" if method == "hira" else "LORA"


def read(folder: Path) -> tuple[PeftConfig, dict[str, dict[str, Tensor]]]:
    """Read a saved adapter. Returns PEFT's config, and for each layer name a dict of tensors by their names in this package.

    Raises DataError if a file is missing or damaged, or if the adapter uses a feature that is not supported.
    """
    about = read_config(folder)
    kind = about.peft_type
    if kind not in TENSOR_NAMES:
        raise DataError(f"{folder} holds an adapter of type {kind}; expected one of {', '.join(TENSOR_NAMES)}")
    odd = [name for name in UNREAD if (about.model_extra or {}).get(name)]
    start = about.init_lora_weights
    if kind == "LORA" and start not in PLAIN_STARTS and not str(start).startswith(("pissa", "olora")):
        odd.append(f"init_lora_weights={start} (it changes the base weights, which are not in the file)")
    if odd:
        raise DataError(f"{folder} uses {', '.join(odd)}, which is not supported here; convert or merge the adapter with PEFT")
    found: dict[str, dict[str, Tensor]] = {}
    ours = {theirs: name for name, theirs in TENSOR_NAMES[kind].items()} | {BIAS: "bias"}
    for key, tensor in _tensors(folder).items():
        name = plain(key)
        path, part = next(((name[: -len(end) - 1], part) for end, part in ours.items() if name.endswith(f".{end}")), (name, None))
        if part is None or not path.startswith(PREFIX):
            raise DataError(
                f"{folder} holds the unexpected tensor {key!r}; expected only tensors of {kind} adapters. Saved modules, "
                "and biases of layers without an adapter, are not supported here; merge the adapter with PEFT"
            )
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            what = "holds values that are not finite" if tensor.is_floating_point() else f"is {tensor.dtype}"
            raise DataError(f"{folder}: the tensor {key!r} {what}; expected finite floating-point numbers")
        found.setdefault(path.removeprefix(PREFIX), {})[part] = tensor
    if not found:
        raise DataError(f"{folder} holds no tensors; save or download the adapter again")
    return about, found


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / TENSORS
    try:
        if path.exists() or not (folder / PICKLE).exists():
            return load_file(path)
        path = folder / PICKLE
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{folder} is incomplete: {TENSORS} is missing; copy the folder again") from None
    except UnpicklingError as error:
        raise DataError(
            f"{path} holds objects other than tensors and was not loaded, since this could run code; ask the author for {TENSORS}"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); copy it again") from error


def config_of(folder: Path, about: PeftConfig, layers: Mapping[str, Mapping[str, Tensor]]) -> AdapterConfig:
    """Return an adapter's config from ``workbench.json`` if the folder has this file, otherwise from PEFT's config."""
    kind, any_layer = about.peft_type, next(iter(layers.values()))
    ours = folder / OURS
    if ours.exists():
        try:
            config = AdapterConfig(**json.loads(read_at_most(ours, LARGEST)))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{ours} is damaged ({error}); copy the folder again") from error
        if type_of(config.method) != kind:
            raise DataError(
                f"{folder}: the method is {config.method} in {OURS}, but the type is {kind} in {CONFIG}; expected "
                "both files to describe the same adapter. Copy the folder again"
            )
        return config
    targets = about.target_modules
    knobs: dict[str, Any] = {"targets": tuple(targets) if isinstance(targets, list) else tuple(layers), "r": about.r or 8}
    if kind in ("MISS", "BONE"):
        start = about.init_weights
        knobs["method"] = {"bat": "bat-col", "mini": "mini"}.get(start, "miss")
        axes = 3 if start == "bat" else 2
        if "shard" in any_layer and any_layer["shard"].ndim != axes:
            raise DataError(
                f"{folder}: the shards have {any_layer['shard'].ndim} dimensions; expected {axes} with init_weights={start!r}. "
                "Copy the folder again"
            )
        return AdapterConfig(
            **knobs,
            **({"q": about.mini_r or None} if start == "mini" else {}),
            dropout=_dropout(folder, knobs["method"], about.miss_dropout),
        )
    if kind == "HIRA":
        _dropout(folder, "hira", about.hira_dropout)
        return AdapterConfig(method="hira", **knobs)
    start = str(about.init_lora_weights)
    method = "dora" if about.use_dora else "rslora" if about.use_rslora else "lora"
    method = next((name for name in ("pissa", "olora") if start.startswith(name)), method)
    iterations = start.removeprefix("pissa_niter_")
    if iterations != start:
        warnings.warn(
            f"{folder}: the adapter was trained from the initialisation {start}, which is random and not in the file. "
            "The initialisation is computed again here, so the output differs slightly from that of the trained adapter. "
            "Ask the author to convert the adapter to plain LoRA with PEFT",
            stacklevel=3,
        )
    return AdapterConfig(
        method=method,
        alpha=about.lora_alpha,
        dropout=_dropout(folder, method, about.lora_dropout),
        iterations=int(iterations) if iterations != start and iterations.isdecimal() else None,
        **knobs,
    )


def _dropout(folder: Path, method: str, given: float | None) -> float:
    """Return the dropout for further training. If the method does not support dropout here, warn and return 0."""
    if given and method in UNDROPPED:
        warnings.warn(
            f"{folder} has dropout {given:g}, but {method} has no dropout here; further training will not use dropout",
            stacklevel=4,
        )
        return 0.0
    return given or 0.0
