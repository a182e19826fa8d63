"""The inputs of a layer on real text in two streams: the original model, and the model whose earlier layers are quantized."""

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

from workbench import datasets, models, phases
from workbench.blocks import (
    Stream,
    advance,
    block_inputs,
    blocks_of,
    cached,
    find_part,
    inputs_of,
    linear_parts,
    set_weight,
    weight_of,
)
from workbench.quantization.quantize import quantize_layer
from workbench.quantization.statistics import layer_statistics

Upstream = Literal["gptq", "rtn", "none"]
TEXTS = {  # for each text, the data sets for calibration and for evaluation
    "prose": ("prose-calibration", "prose-evaluation"),
    "wikitext2": ("wikitext2-valid", "wikitext2-test"),
}
WINDOW = 256  # tokens
# number of tokens in each of two sets: the test set (the first tokens of the evaluation text) and the validation set (the next)
HELD_OUT = 2048
VERSION = 3  # version of the cached activations; increase it if the same `LayerSource` gives other numbers than before
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Layer:
    """The weight ``(out, in)`` of a layer, and its inputs ``(tokens, in)`` in both streams.

    There are inputs for the calibration text, for the validation text and for the held-out text.
    """

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
    """A description of a layer, of the texts, and of the way in which the layers before it are quantized."""

    model: str
    block: int
    part: str
    text: str = "prose"
    tokens: int = 2048
    window: int = WINDOW
    skip: int = 0  # calibration windows to skip, so that each seed has its own sample
    upstream: Upstream = "gptq"
    upstream_solver: tuple[tuple[str, Any], ...] = ()  # arguments of quantize_layer
    dtype: Literal["float32", "float64"] = "float32"


def references(model: str, text: str) -> list[str]:
    """Return the name and the checksum of a model, and of the calibration and the evaluation data set of `text`."""
    return [models.ref(model), *(datasets.ref(name) for name in TEXTS[text])]


def load_layer(source: LayerSource) -> Layer:
    """Return the weight and the inputs of a layer. Inputs in float32 are read from the cache if they are stored there.

    Only one thread at a time computes them, since the hooks that record inputs are attached to the shared model.
    """
    with _ONE_AT_A_TIME:
        return _load_layer(source)


@lru_cache(maxsize=1)
def _load_layer(source: LayerSource) -> Layer:
    name = f"{source.model} block {source.block} {source.part}"
    # float64 activations are not cached: they would take twice the space, and the runs that use them are saved
    if source.dtype == "float64":
        return Layer(name, **_compute(source))
    identity = [VERSION, source.__dict__, references(source.model, source.text)]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Layer(name, **cached(key, lambda: _compute(source)))


@torch.no_grad()
def _compute(source: LayerSource) -> dict[str, Tensor]:
    streams = _streams(replace(source, block=0, part=""))
    part = find_part(streams.lm, source.block, source.part)
    streams.advance_to(source.block)
    block = streams.blocks[source.block]
    full = inputs_of(block, [part], streams.full_precision)[part]
    quantized = inputs_of(streams.mended(part), [part], streams.quantized)[part]
    found = {"weight": weight_of(linear_parts(block)[part]).contiguous().clone()}
    end, test = streams.split * source.window, streams.split * source.window + HELD_OUT
    for first, last, name in ((0, end, ""), (end, test, "held_out"), (test, None, "validation")):
        found[name or "inputs"] = quantized[first:last].clone()
        found[f"{name}_full_precision".lstrip("_")] = full[first:last].clone()
    return found


@lru_cache(maxsize=2)
def _streams(origin: LayerSource) -> _Streams:
    return _Streams(origin)


@lru_cache(maxsize=5)  # for five calibration samples; the results do not depend on bits or group size
def _full_precision(model: str, dtype: str, text: str, window: int, skip: int, tokens: int, block: int) -> Stream:
    """Return the inputs of `block` in the full-precision stream, first for calibration, then for test and validation windows."""
    lm = models.shared(model, getattr(torch, dtype))
    calibration, evaluation = TEXTS[text]
    parts = _windows(lm, calibration, window, skip, tokens), _windows(lm, evaluation, window, 0, 2 * HELD_OUT)
    stream = block_inputs(lm, blocks_of(lm)[0], torch.cat(parts))
    for index in range(block):
        phases.say(f"block {index + 1} of {block}, in full precision")
        stream = advance(blocks_of(lm)[index], stream)
    return stream


class _Streams:
    """The inputs of one block in both streams, for all windows of the calibration and the evaluation text.

    The inputs of the current block are kept, because the next layer to be measured is often in the same or a later block.
    """

    def __init__(self, origin: LayerSource):
        self.origin, self.lm = origin, models.shared(origin.model, getattr(torch, origin.dtype))
        self.blocks, self.split = blocks_of(self.lm), origin.tokens // origin.window
        self._enter(0, self._full_precision(0))

    def _full_precision(self, block: int) -> Stream:
        o = self.origin
        return _full_precision(o.model, o.dtype, o.text, o.window, o.skip, o.tokens, block)

    @property
    def full_precision(self) -> Stream:
        """The inputs of the current block in the full-precision stream."""
        return self._full_precision(self.block)

    def _enter(self, block: int, quantized: Stream) -> None:
        self.block, self.quantized = block, quantized
        # groups of layers that share an input, in the order in which they are called, each with the Hessian of that input
        self._sisters: list[tuple[list[str], Tensor]] = []
        self._rounded: dict[str, Tensor] = {}

    def advance_to(self, block: int) -> None:
        """Quantize every block before `block`, and compute the inputs of `block` in the quantized stream.

        If `block` is before the current block, the computation starts again at block 0.
        """
        if block < self.block:
            self._enter(0, self._full_precision(0))
        while self.block < block:
            phases.say(f"block {self.block + 1} of {block}, quantized")
            self._enter(self.block + 1, advance(self.mended(), self.quantized))

    def mended(self, until: str = "") -> nn.Module:
        """Return a copy of the current block in which all linear layers that affect the input of the layer `until` are quantized.

        If `until` is empty, all linear layers are quantized. With ``upstream="none"``, the block itself is returned.
        """
        block = self.blocks[self.block]
        if self.origin.upstream == "none":
            return block
        if not self._sisters:
            self._sisters = _by_input(inputs_of(block, [*linear_parts(block)], self.quantized[: self.split]))
        mended, before = copy.deepcopy(block), [*linear_parts(block)] if not until else []
        for names, _ in self._sisters if until else ():
            if until in names:  # layers with the same input as `until` may be called before it, but do not affect its input
                break
            before += names
        for names, hessian in self._sisters:
            if names[0] in before and names[0] not in self._rounded:
                self._round(names, hessian)
        for name in before:
            set_weight(linear_parts(mended)[name], self._rounded[name])
        return mended

    def _round(self, names: list[str], hessian: Tensor) -> None:
        """Stack the weights of layers that have the same input, and quantize them as one weight."""
        weights = [weight_of(linear_parts(self.blocks[self.block])[name]) for name in names]
        solver = dict(self.origin.upstream_solver)
        result = quantize_layer(torch.cat(weights), hessian, method=self.origin.upstream, **solver)
        self._rounded |= zip(names, result.weight.split([len(weight) for weight in weights]), strict=True)


def _by_input(inputs: dict[str, Tensor]) -> list[tuple[list[str], Tensor]]:
    """Return groups of layers that share an input, in the order in which they are called, each with the Hessian of that input."""
    found: list[tuple[list[str], Tensor]] = []
    for name, x in inputs.items():
        last = inputs[found[-1][0][0]] if found else None
        if last is not None and last.shape == x.shape and torch.equal(last, x):
            found[-1][0].append(name)
        else:
            found.append(([name], layer_statistics(x)[0]))
    return found


def _windows(lm: models.LanguageModel, name: str, length: int, skip: int, tokens: int) -> Tensor:
    found = models.windows(models.token_ids(lm, datasets.load(name), skip * length + tokens), length)
    if len(found) - skip < tokens // length:
        raise ValueError(
            f"{name} has {len(found)} windows of {length} tokens; expected at least {skip + tokens // length}, of which {skip} "
            "belong to earlier samples: use fewer tokens or a smaller seed"
        )
    return found[skip:]
