"""A language model block by block: its linear layers, the inputs that reach them, and a cache for what is found."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from workbench import datasets, models

KEPT = 32  # cached sets of activations

# hidden states (1, window, width) and the block's other arguments, a window each
Stream = list[tuple[Tensor, dict[str, Any]]]


@lru_cache(maxsize=2)
def load_model(name: str, dtype: torch.dtype = torch.float32) -> models.LanguageModel:
    """The model, kept while it is looked at; in float64 its buffers (rotary frequencies) are too."""
    found = models.load(name, dtype)
    if dtype == torch.float64:
        found.model.double()
    return found


class _Double(TorchFunctionMode):
    """Norms, rotary angles and softmax go down to float32 whatever a model's dtype: inside this, they stay in float64.

    Sums in float32 differ from processor to processor, and one code that flips moves all that follow.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].double()
        if func is torch.Tensor.to and torch.float32 in args[1:]:
            args = (args[0], *(torch.float64 if a is torch.float32 else a for a in args[1:]))
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def precision_of(module: nn.Module) -> contextlib.AbstractContextManager:
    """Inside it a float64 module stays in float64 throughout; nothing is changed for others."""
    double = next(module.parameters()).dtype == torch.float64
    return _Double() if double else contextlib.nullcontext()


def linear_parts(block: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a transformer block by name (nn.Linear, GPT-2's Conv1D)."""
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
    """The weight ``(out, in)``; GPT-2's Conv1D stores the transpose."""
    weight = linear.weight.detach()
    return weight.T if type(linear).__name__ == "Conv1D" else weight


@torch.no_grad()
def set_weight(linear: nn.Module, weight: Tensor) -> None:
    """Put `weight` ``(out, in)`` in the place of a linear layer's own."""
    linear.weight.copy_(weight.T if type(linear).__name__ == "Conv1D" else weight)


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


# -- what flows through -------------------------------------------------------------------------------------------------


class _Stop(Exception):
    pass


@torch.no_grad()
def block_inputs(lm: models.LanguageModel, first: nn.Module, ids: Tensor) -> Stream:
    """What the block `first` is called with, for token ids ``(windows, length)``, a window at a time."""
    caught: Stream = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        caught.append((hidden, {k: v for k, v in kwargs.items() if k != "hidden_states"}))
        raise _Stop

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for window in ids:
            try:
                with precision_of(lm.model):
                    lm.model(input_ids=window[None].to(lm.model.device), use_cache=False)
            except _Stop:
                continue
    finally:
        handle.remove()
    return caught


@torch.no_grad()
def advance(block: nn.Module, stream: Stream) -> Stream:
    """The stream after `block`."""
    out: Stream = []
    for hidden, kwargs in stream:
        with precision_of(block):
            answer = block(hidden, **kwargs)
        out.append((answer[0] if isinstance(answer, tuple) else answer, kwargs))
    return out


def inputs_of(block: nn.Module, parts: Sequence[str], stream: Stream) -> dict[str, Tensor]:
    """Inputs ``(tokens, in)`` of the named linear layers over a stream, in the order in which they are called."""
    caught: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def catch(module: nn.Module, args: tuple[Any, ...]) -> None:
            caught.setdefault(name, []).append(args[0].flatten(0, -2))
            if len({len(caught.get(part, ())) for part in parts}) == 1:
                raise _Stop  # what follows in the block is not asked for

        return catch

    layers = linear_parts(block)
    handles = [layers[name].register_forward_pre_hook(hook(name)) for name in parts]
    try:
        for window in stream:
            with contextlib.suppress(_Stop):
                advance(block, [window])
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(found) for name, found in caught.items()}


# -- the cache -----------------------------------------------------------------------------------------------------------


def cached(key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept under `key` (a checksum of all that they depend on), or computed and kept; the newest stay."""
    path = datasets.cache_folder() / "activations" / f"{key}.safetensors"
    try:
        tensors = load_file(path)
        os.utime(path)
        return tensors
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError) as error:
        print(f"the cached activations {path} are damaged ({error}): computing them again", file=sys.stderr)
    tensors = compute()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial)
        os.replace(partial, path)
        for old in sorted(path.parent.glob("*.safetensors"), key=os.path.getmtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        partial.unlink(missing_ok=True)
        _say_once(f"activations are not cached ({error}); set WORKBENCH_CACHE to a folder with space")
    return tensors


@lru_cache(maxsize=8)
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
