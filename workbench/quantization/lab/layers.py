"""Real inputs of a layer of a real model, in two streams: full precision, and with every layer before it quantized."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench import datasets, models
from workbench.blocks import (
    Stream,
    advance,
    block_inputs,
    blocks_of,
    cached,
    find_part,
    inputs_of,
    linear_parts,
    load_model,
    set_weight,
    weight_of,
)
from workbench.quantization.quantize import quantize_layer
from workbench.quantization.statistics import layer_statistics

Upstream = Literal["gptq", "rtn", "none"]
TEXTS = {  # calibration and evaluation data set
    "prose": ("prose-calibration", "prose-evaluation"),
    "wikitext2": ("wikitext2-valid", "wikitext2-test"),
}
WINDOW = 256  # tokens
HELD_OUT = (
    2048  # tokens of the evaluation text: the first are the test part, as many after them the validation part
)
VERSION = 2  # of the cached activations: raised when the same source means other numbers
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Layer:
    """A layer's weight ``(out, in)`` and its inputs ``(tokens, in)`` in two streams: of calibration, validation and test text."""

    name: str
    weight: Tensor
    inputs: Tensor
    full_precision: Tensor
    validation: Tensor
    validation_full_precision: Tensor
    held_out: Tensor
    held_out_full_precision: Tensor


@dataclass(frozen=True)
class LayerSource:
    """Which layer, which text, and how the layers before it were quantized."""

    model: str
    block: int
    part: str
    text: str = "prose"
    tokens: int = 2048
    window: int = WINDOW
    skip: int = 0  # calibration windows to skip: another sample for another seed
    upstream: Upstream = "gptq"
    upstream_solver: tuple[tuple[str, Any], ...] = ()  # arguments of quantize_layer
    dtype: Literal["float32", "float64"] = "float32"


def references(model: str, text: str) -> list[str]:
    """Name and checksum of a model and of a text's two data sets."""
    return [models.ref(model), *(datasets.ref(name) for name in TEXTS[text])]


def load_layer(source: LayerSource) -> Layer:
    """The layer's weight and inputs, from the cache or computed; one thread at a time, since hooks sit on the model."""
    with _ONE_AT_A_TIME:
        return _load_layer(source)


@lru_cache(maxsize=2)
def _load_layer(source: LayerSource) -> Layer:
    identity = [VERSION, source.__dict__, references(source.model, source.text)]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Layer(
        f"{source.model} block {source.block} {source.part}", **cached(key, lambda: _compute(source))
    )


@torch.no_grad()
def _compute(source: LayerSource) -> dict[str, Tensor]:
    streams = _streams(replace(source, block=0, part=""))
    part = find_part(streams.lm, source.block, source.part)
    streams.reach(source.block)
    block = streams.blocks[source.block]
    mended = _quantized_block(block, part, streams.quantized[: streams.split], source)
    full = inputs_of(block, [part], streams.full_precision)[part]
    quantized = inputs_of(mended, [part], streams.quantized)[part]
    found = {"weight": weight_of(linear_parts(block)[part]).contiguous().clone()}
    end, test = streams.split * source.window, streams.split * source.window + HELD_OUT
    for first, last, name in ((0, end, ""), (end, test, "held_out"), (test, None, "validation")):
        found[name or "inputs"] = quantized[first:last].clone()
        found[f"{name}_full_precision".lstrip("_")] = full[first:last].clone()
    return found


@lru_cache(maxsize=2)
def _streams(origin: LayerSource) -> _Streams:
    return _Streams(origin)


class _Streams:
    """Both streams of a text at the entry of a block, from where the next layer looked at is often not far."""

    def __init__(self, origin: LayerSource):
        self.origin, self.lm = origin, load_model(origin.model, getattr(torch, origin.dtype))
        self.blocks = blocks_of(self.lm)
        calibration, evaluation = TEXTS[origin.text]
        windows = _windows(self.lm, calibration, origin.window, origin.skip, origin.tokens)
        self.split = len(windows)
        windows = torch.cat([windows, _windows(self.lm, evaluation, origin.window, 0, 2 * HELD_OUT)])
        self._start = block_inputs(self.lm, self.blocks[0], windows)
        self._begin()

    def _begin(self) -> None:
        self.block, self.full_precision, self.quantized = 0, self._start, self._start

    def reach(self, block: int) -> None:
        """Run on to the entry of `block`, every block before it quantized on the way."""
        if block < self.block:
            self._begin()
        for index in range(self.block, block):
            mended = _quantized_block(self.blocks[index], None, self.quantized[: self.split], self.origin)
            self.quantized = advance(mended, self.quantized)
            self.full_precision = advance(self.blocks[index], self.full_precision)
            self.block = index + 1


def _windows(lm: models.LanguageModel, name: str, length: int, skip: int, tokens: int) -> Tensor:
    found = models.windows(models.encode(lm, datasets.load(name), skip * length + tokens), length)
    if len(found) - skip < tokens // length:
        raise ValueError(
            f"{name} has {len(found)} windows of {length} tokens; expected {skip + tokens // length}, of which {skip} "
            "are skipped: use fewer tokens or a smaller seed"
        )
    return found[skip:]


def _quantized_block(block: nn.Module, until: str | None, stream: Stream, source: LayerSource) -> nn.Module:
    """A copy of `block` whose linear layers called before `until` (or all) are quantized on this stream's statistics."""
    if source.upstream == "none":
        return block
    mended = copy.deepcopy(block)
    inputs = inputs_of(block, list(linear_parts(block)), stream)
    order = list(inputs)
    for name in order[: order.index(until)] if until else order:
        linear = linear_parts(mended)[name]
        if until and inputs[name].shape == inputs[until].shape and torch.equal(inputs[name], inputs[until]):
            continue  # a sister that shares the input (q, k, v): called before, but not upstream of it
        hessian, _ = layer_statistics(inputs[name])
        solver = dict(source.upstream_solver)
        set_weight(
            linear, quantize_layer(weight_of(linear), hessian, method=source.upstream, **solver).weight
        )
    return mended
