"""Real inputs of a layer of a real model, in two streams: full precision, and with every layer before it quantized."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench import datasets, models
from workbench.quantization.gptq import quantize_layer
from workbench.quantization.statistics import layer_statistics

Upstream = Literal["gptq", "rtn", "none"]
TEXTS = {  # calibration and evaluation data set
    "prose": ("prose-calibration", "prose-evaluation"),
    "wikitext2": ("wikitext2-valid", "wikitext2-test"),
}
HELD_OUT = 2048  # tokens of the evaluation text
KEPT = 32  # cached layers
VERSION = 1  # of the cached activations: raised when the same source means other numbers
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Layer:
    """A layer's weight ``(out, in)`` and its inputs ``(tokens, in)``: calibration and held-out text, two streams."""

    name: str
    weight: Tensor
    inputs: Tensor
    reference_inputs: Tensor
    held_out: Tensor
    held_out_reference: Tensor


@dataclass(frozen=True)
class LayerSource:
    """Which layer, which text, and how the layers before it were quantized."""

    model: str
    block: int
    part: str
    text: str = "prose"
    tokens: int = 2048
    window: int = 256
    skip: int = 0  # calibration windows to skip: another sample for another seed
    upstream: Upstream = "gptq"
    upstream_options: tuple[tuple[str, Any], ...] = ()  # of quantize_layer


@lru_cache(maxsize=2)
def load_model(name: str) -> models.LanguageModel:
    """The model, kept while it is looked at."""
    return models.load(name)


def linear_parts(block: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a transformer block by the last part of their name (nn.Linear, GPT-2's Conv1D)."""
    kinds = ("Linear", "Conv1D")
    return {name: m for name, m in block.named_modules() if type(m).__name__ in kinds}


def blocks_of(lm: models.LanguageModel) -> nn.ModuleList:
    """The model's stack of transformer blocks; raises ValueError where it has none with linear layers."""
    stacks = [m for m in lm.model.modules() if isinstance(m, nn.ModuleList) and len(m) and linear_parts(m[0])]
    if not stacks:
        raise ValueError(
            f"model {lm.name!r} has no transformer blocks with linear layers; expected a decoder such as llama, with "
            "nn.Linear or Conv1D inside its blocks: choose another model"
        )
    return max(stacks, key=len)


def weight_of(linear: nn.Module) -> Tensor:
    """``(out, in)``; GPT-2's Conv1D stores the transpose."""
    weight = linear.weight.detach()
    return weight.T if type(linear).__name__ == "Conv1D" else weight


def find_part(lm: models.LanguageModel, block: int, part: str) -> str:
    """The full name, inside its block, of the linear layer `part` of block `block`."""
    blocks = blocks_of(lm)
    if not 0 <= block < len(blocks):
        raise ValueError(f"block={block}: expected 0 to {len(blocks) - 1}, the blocks of {lm.name}")
    names = list(linear_parts(blocks[block]))
    found = [n for n in names if n == part or n.endswith("." + part)]
    if not found:
        raise ValueError(
            f"part={part!r}: expected a linear layer of {lm.name}: {', '.join(n.split('.')[-1] for n in names)}"
        )
    return found[0]


def load_weight(model: str, block: int, part: str) -> Tensor:
    """The weight ``(out, in)`` of a layer, without its inputs."""
    lm = load_model(model)
    name = find_part(lm, block, part)
    return weight_of(linear_parts(blocks_of(lm)[block])[name])


def load_layer(source: LayerSource) -> Layer:
    """The layer's weight and inputs, from the cache or computed; one thread at a time, since hooks sit on the model."""
    with _ONE_AT_A_TIME:
        return _load_layer(source)


@lru_cache(maxsize=4)
def _load_layer(source: LayerSource) -> Layer:
    key = hashlib.sha256(
        json.dumps(
            [VERSION, source.__dict__, references(source.model, source.text)], sort_keys=True, default=str
        ).encode()
    ).hexdigest()[:16]
    path = datasets.cache_folder() / "activations" / f"{key}.safetensors"
    tensors = _cached(path)
    if tensors is None:
        tensors = _compute(source)
        _store(path, tensors)
    return Layer(f"{source.model} block {source.block} {source.part}", **tensors)


def references(model: str, text: str) -> list[str]:
    """Name and checksum of a model and of a text's two data sets."""
    return [models.ref(model), *(datasets.ref(name) for name in TEXTS[text])]


def _cached(path: Path) -> dict[str, Tensor] | None:
    try:
        tensors = load_file(path)
        os.utime(path)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        print(f"the cached activations {path} are damaged ({error}): computing them again", file=sys.stderr)
        return None
    return tensors


def _store(path: Path, tensors: dict[str, Tensor]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial)
        os.replace(partial, path)
        for old in sorted(path.parent.glob("*.safetensors"), key=os.path.getmtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        partial.unlink(missing_ok=True)
        print(
            f"activations are not cached ({error}); set WORKBENCH_CACHE to a folder with space",
            file=sys.stderr,
        )


@torch.no_grad()
def _compute(source: LayerSource) -> dict[str, Tensor]:
    lm = load_model(source.model)
    part = find_part(lm, source.block, source.part)
    blocks = blocks_of(lm)
    calibration, evaluation = TEXTS[source.text]
    windows = _windows(lm, calibration, source.window, source.skip, source.tokens)
    split = len(windows)
    windows = torch.cat([windows, _windows(lm, evaluation, source.window, 0, HELD_OUT)])
    reference = _block_inputs(lm, blocks[0], windows)
    quantized = reference
    for index in range(source.block):
        mended = _quantized_block(blocks[index], None, quantized[:split], source)
        reference, quantized = _advance(blocks[index], reference), _advance(mended, quantized)
    mended = _quantized_block(blocks[source.block], part, quantized[:split], source)
    at_reference = _inputs_of(blocks[source.block], [part], reference)[part]
    at_quantized = _inputs_of(mended, [part], quantized)[part]
    tokens = split * source.window
    return {
        "weight": weight_of(linear_parts(blocks[source.block])[part]).contiguous().clone(),
        "inputs": at_quantized[:tokens].clone(),
        "reference_inputs": at_reference[:tokens].clone(),
        "held_out": at_quantized[tokens:].clone(),
        "held_out_reference": at_reference[tokens:].clone(),
    }


def _windows(lm: models.LanguageModel, name: str, length: int, skip: int, tokens: int) -> Tensor:
    found = models.windows(models.encode(lm, datasets.load(name), skip * length + tokens), length)
    if len(found) - skip < tokens // length:
        raise ValueError(
            f"{name} has {len(found)} windows of {length} tokens; expected {skip + tokens // length}, of which {skip} "
            "are skipped: use fewer tokens or a smaller seed"
        )
    return found[skip:]


# hidden states (1, window, width) and the block's other arguments, a window each
Stream = list[tuple[Tensor, dict[str, Any]]]


class _Stop(Exception):
    pass


def _block_inputs(lm: models.LanguageModel, first: nn.Module, ids: Tensor) -> Stream:
    """What the first block is called with, a window at a time."""
    caught: Stream = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        caught.append((hidden, {k: v for k, v in kwargs.items() if k != "hidden_states"}))
        raise _Stop

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for window in ids:
            try:
                lm.model(input_ids=window[None].to(lm.model.device), use_cache=False)
            except _Stop:
                continue
    finally:
        handle.remove()
    return caught


def _advance(block: nn.Module, stream: Stream) -> Stream:
    out: Stream = []
    for hidden, kwargs in stream:
        answer = block(hidden, **kwargs)
        out.append((answer[0] if isinstance(answer, tuple) else answer, kwargs))
    return out


def _inputs_of(block: nn.Module, parts: Sequence[str], stream: Stream) -> dict[str, Tensor]:
    """Inputs ``(tokens, in)`` of the named linear layers over a stream, in the order in which they are called."""
    caught: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args: caught.setdefault(name, []).append(args[0].flatten(0, -2))

    layers = linear_parts(block)
    handles = [layers[name].register_forward_pre_hook(hook(name)) for name in parts]
    try:
        _advance(block, stream)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(found).float() for name, found in caught.items()}


def _quantized_block(block: nn.Module, until: str | None, stream: Stream, source: LayerSource) -> nn.Module:
    """A copy of `block` whose linear layers called before `until` (or all) are quantized on this stream's statistics."""
    if source.upstream == "none":
        return block
    mended = copy.deepcopy(block)
    inputs = _inputs_of(block, list(linear_parts(block)), stream)
    order = list(inputs)
    for name in order[: order.index(until)] if until else order:
        linear = linear_parts(mended)[name]
        if until and inputs[name].shape == inputs[until].shape and torch.equal(inputs[name], inputs[until]):
            continue  # a sister that shares the input (q, k, v): called before, but not upstream of it
        hessian, _ = layer_statistics(inputs[name])
        options = dict(source.upstream_options)
        result = quantize_layer(weight_of(linear), hessian, method=source.upstream, **options)
        linear.weight.copy_(result.weight.T if type(linear).__name__ == "Conv1D" else result.weight)
    return mended
