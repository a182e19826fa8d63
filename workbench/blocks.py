"""Access the blocks of a language model one by one, with their linear layers and the inputs of these layers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from workbench import datasets, models

KEPT = 32  # maximum number of cached sets of activations

Call = tuple[tuple[Any, ...], dict[str, Any]]  # the arguments of a block other than the hidden states
# for each window: the hidden states (1, window, width) that enter a block,
# and the other arguments of that block and of all later blocks
Stream = list[tuple[Tensor, Sequence[Call]]]
CLOSE = 1e-2  # relative tolerance between two outputs of the same block
CHECKED = 64  # tokens used to check, once per model, that its blocks can be called one after another


class _Double(TorchFunctionMode):
    """A mode that turns every conversion to float32 into a conversion to float64.

    Models compute norms, rotary angles and softmax in float32 regardless of their dtype. Float32 sums differ slightly between
    processors. In quantization, such a difference can change one code, and then all codes that are computed after it.
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
    """Return a context in which a float64 module computes everything in float64; it has no effect on other modules."""
    double = next(module.parameters()).dtype == torch.float64
    return _Double() if double else contextlib.nullcontext()


def linear_parts(block: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of a transformer block by name. Their type is nn.Linear, or Conv1D in GPT-2."""
    kinds = ("Linear", "Conv1D")
    return {name: m for name, m in block.named_modules() if type(m).__name__ in kinds}


def blocks_of(lm: models.LanguageModel) -> nn.ModuleList:
    """Return the model's transformer blocks. Raises ValueError if it has no blocks with linear layers."""
    stacks = [m for m in lm.model.modules() if isinstance(m, nn.ModuleList) and len(m) and linear_parts(m[0])]
    if not stacks:
        raise ValueError(
            f"model {lm.name!r} has no transformer blocks with linear layers; expected a decoder such as llama, with "
            "nn.Linear or Conv1D inside its blocks: choose another model"
        )
    return max(stacks, key=len)


def weight_of(linear: nn.Module) -> Tensor:
    """Return the weight ``(out, in)`` of a linear layer; GPT-2's Conv1D stores the transpose."""
    weight = linear.weight.detach()
    return weight.T if type(linear).__name__ == "Conv1D" else weight


@torch.no_grad()
def set_weight(linear: nn.Module, weight: Tensor) -> None:
    """Replace the values of a linear layer's weight by `weight` ``(out, in)``."""
    linear.weight.copy_(weight.T if type(linear).__name__ == "Conv1D" else weight)


def find_part(lm: models.LanguageModel, block: int, part: str) -> str:
    """Return the full name of the linear layer `part` in the block with index `block`.

    `part` is that name or its end, such as the last component. Raises ValueError if the block or the layer does not exist.
    """
    blocks = blocks_of(lm)
    if not 0 <= block < len(blocks):
        raise ValueError(f"block={block}: expected the index of a block of {lm.name}, from 0 to {len(blocks) - 1}")
    names = list(linear_parts(blocks[block]))
    found = [n for n in names if n == part or n.endswith("." + part)]
    if not found:
        raise ValueError(f"part={part!r}: expected a linear layer of {lm.name}: {', '.join(n.split('.')[-1] for n in names)}")
    return found[0]


def load_weight(model: str, block: int, part: str) -> Tensor:
    """Return the weight ``(out, in)`` of the linear layer `part` of a block, without computing its inputs."""
    lm = models.shared(model)
    name = find_part(lm, block, part)
    return weight_of(linear_parts(blocks_of(lm)[block])[name])


# -- activations --------------------------------------------------------------------------------------------------------


class _Stop(Exception):
    pass


@torch.no_grad()
def block_inputs(lm: models.LanguageModel, first: nn.Module, ids: Tensor) -> Stream:
    """Return the inputs of the block `first` for token ids ``(windows, length)``, computed one window at a time.

    Each entry also holds the other arguments of `first` and of every later block, since blocks may receive different masks
    and rotary angles, for example if sliding-window and full attention alternate. Raises ValueError if the blocks of the model
    cannot be called one after another.
    """
    _check_once(lm, ids[0, :CHECKED])
    stack = blocks_of(lm)
    start = next(number for number, block in enumerate(stack) if block is first)
    return [_entered(lm, [*stack][start:], window) for window in ids]


def _entered(lm: models.LanguageModel, blocks: Sequence[nn.Module], ids: Tensor) -> tuple[Tensor, list[Call]]:
    """Return the hidden states that enter the first of `blocks`, and the other arguments of each of these blocks.

    `blocks` must end with the last block of the model. During this forward pass, each of these blocks is replaced by a
    function that returns its input hidden states unchanged.
    """
    entry: list[Tensor] = []
    calls: list[Call] = []

    def passed(number: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, call = _parted(args, kwargs)
            entry.append(hidden)
            calls.append(call)
            if number == len(blocks) - 1:
                raise _Stop
            # the number of values after the hidden states in the output tuple; None if the output is not a tuple
            extra = _CHECKED[lm.model]
            return hidden if extra is None else (hidden, *[None] * extra)

        return forward

    before = [vars(block).get("forward") for block in blocks]
    try:
        for number, block in enumerate(blocks):
            block.forward = passed(number)
        with contextlib.suppress(_Stop):
            _call(lm, ids)
    finally:
        for block, own in zip(blocks, before, strict=True):
            del block.forward
            if own is not None:
                block.forward = own
    return entry[0], calls


def _call(lm: models.LanguageModel, ids: Tensor) -> None:
    with precision_of(lm.model):
        lm.model(input_ids=ids[None].to(lm.model.device), use_cache=False)


def _parted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """Split the arguments of a block into the hidden states and all others."""
    if args:
        return args[0], (args[1:], kwargs)
    return kwargs["hidden_states"], ((), {k: v for k, v in kwargs.items() if k != "hidden_states"})


_CHECKED: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


def _check_once(lm: models.LanguageModel, ids: Tensor) -> None:
    """Raise ValueError if calling the blocks one after another would differ from the forward pass of the model.

    The check uses a few tokens. It tests that each block is called once, in order, on the output of the block before it; that the
    other arguments of a block do not depend on the outputs of other blocks; and that a second call returns the same output.
    """
    if lm.model in _CHECKED:
        return
    stack = [*blocks_of(lm)]
    seen: list[tuple[int, Tensor, Call, Any]] = []
    handles = [
        block.register_forward_hook(
            lambda _, args, kwargs, out, number=number: seen.append((number, *_parted(args, kwargs), out)), with_kwargs=True
        )
        for number, block in enumerate(stack)
    ]
    try:
        _call(lm, ids)
    finally:
        for handle in handles:
            handle.remove()
    if [number for number, *_ in seen] != [*range(len(stack))]:
        raise _not_one_by_one(lm, "it does not call each block exactly once and in order")
    out = seen[0][-1]
    _CHECKED[lm.model] = len(out) - 1 if isinstance(out, tuple) else None
    try:
        _, calls = _entered(lm, stack, ids)
        for (number, hidden, call, out), own in zip(seen, calls, strict=True):
            with precision_of(stack[number]):
                again = _hidden(stack[number](hidden, *call[0], **call[1]))
            if not same(own, call):
                raise _not_one_by_one(lm, f"an argument of block {number} depends on the outputs of earlier blocks")
            # the outputs are not compared exactly, since the order of summation varies on a GPU
            if (again - _hidden(out)).norm() > CLOSE * _hidden(out).norm():
                raise _not_one_by_one(lm, f"block {number} returns a different output when it is called again")
            if number + 1 < len(seen) and not same(_hidden(out), seen[number + 1][1]):
                raise _not_one_by_one(lm, f"the input of block {number + 1} is not the output of block {number}")
    except BaseException:
        del _CHECKED[lm.model]
        raise


def _not_one_by_one(lm: models.LanguageModel, why: str) -> ValueError:
    return ValueError(
        f"model {lm.name!r} cannot be computed block by block: {why}. Expected a decoder such as llama: choose another model"
    )


def _hidden(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def same(one: Any, other: Any) -> bool:
    """Return whether two arguments are equal; tensors must match exactly, and containers element by element."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and (one is other or bool(one == other))


@torch.no_grad()
def advance(block: nn.Module, stream: Stream) -> Stream:
    """Apply `block` to its inputs, which are in `stream`, and return the inputs of the next block.

    The other arguments are those that the model passes to `block`.
    """
    out: Stream = []
    for hidden, ((args, kwargs), *rest) in stream:
        with precision_of(block):
            out.append((_hidden(block(hidden, *args, **kwargs)), rest))
    return out


def inputs_of(block: nn.Module, parts: Sequence[str], stream: Stream) -> dict[str, Tensor]:
    """Return the inputs ``(tokens, in)`` of the linear layers `parts` of `block`, by name.

    They are in the order in which the layers are called.
    """
    caught: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def catch(module: nn.Module, args: tuple[Any, ...]) -> None:
            caught.setdefault(name, []).append(args[0].flatten(0, -2))
            if len({len(caught.get(part, ())) for part in parts}) == 1:
                raise _Stop  # the rest of the block is not needed

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
    """Return the tensors cached under `key`; compute and cache them if they are missing or damaged.

    `key` is a checksum of everything that the tensors depend on. The `KEPT` most recently used sets remain in the cache.
    """
    path = datasets.cache_folder() / "activations" / f"{key}.safetensors"
    try:
        tensors = load_file(path)
        os.utime(path)
        return tensors
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError) as error:
        print(f"the cached activations {path} are damaged ({error}); they are computed again", file=sys.stderr)
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
        _say_once(f"activations are not cached ({error}); set WORKBENCH_CACHE to a writable folder with free space")
    return tensors


@lru_cache(maxsize=8)
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
