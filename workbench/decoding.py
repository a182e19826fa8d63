"""Steps of a language model: what it reads, keeps in its cache and predicts, for several prompts at once."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from workbench.models import LanguageModel


@dataclass(frozen=True)
class Prefix:
    """The beginning of prompts, already read by a model: of its tokens all but the last, which may join what follows."""

    text: str
    ids: list[int]
    cache: Any = field(repr=False)
    state: tuple[Any, ...] = field(repr=False)  # of the model, when it read


def read_prefix(lm: LanguageModel, text: str, ids: Sequence[int]) -> Prefix:
    """Read a text, whose tokens are `ids`; without a cache where the model cannot go on from one (`reads_on`)."""
    cache, begun = None, list(ids[:-1])
    if begun and reads_on(lm):
        with evaluating(lm.model):
            _, cache = step(lm.model, torch.tensor([begun], device=lm.model.device), None)
    return Prefix(text, begun, cache, _state_of(lm.model))


def read_prompts(lm: LanguageModel, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> tuple[Tensor, Any, Tensor | None]:
    """Logits ``(prompts, vocabulary)`` after the prompts, the cache, and where some are padded the mask ``(prompts, tokens)``."""
    read, cache = _taken_up(lm, prompts, prefix)
    rest = [[*prompt[read:]] for prompt in prompts]
    longest = max(map(len, rest))
    ids = torch.tensor([[0] * (longest - len(part)) + part for part in rest], device=lm.model.device)
    mask = None
    if any(len(part) < longest for part in rest):
        mask = torch.tensor([[1] * read + [0] * (longest - len(part)) + [1] * len(part) for part in rest], device=lm.model.device)
    return *step(lm.model, ids, cache, mask), mask


def _taken_up(lm: LanguageModel, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> tuple[int, Any]:
    """How many tokens of these prompts are in the prefix, and a copy of its cache for each of them."""
    if prefix is None or prefix.cache is None:
        return 0, None
    if prefix.state != _state_of(lm.model):
        raise ValueError("the model has changed since it read the prefix: read it again")
    size = len(prefix.ids)
    if any(len(prompt) <= size or [*prompt[:size]] != prefix.ids for prompt in prompts):
        return 0, None  # what follows changes how the prefix is cut into tokens
    cache = copy.deepcopy(prefix.cache)
    if len(prompts) > 1:
        cache.reorder_cache(torch.zeros(len(prompts), dtype=torch.long, device=lm.model.device))
    return size, cache


def step(model: Any, ids: Tensor, cache: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
    """Logits ``(batch, vocabulary)`` after ids ``(batch, tokens)``, and the cache, None where the model has none."""
    arguments = _arguments(type(model))
    kept = "cache_params" if "cache_params" in arguments else "past_key_values"  # of Mamba, of all others
    given = {"use_cache": True, kept: cache}
    if mask is not None:
        given |= {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]}
    if "logits_to_keep" in arguments:
        given["logits_to_keep"] = 1
    with torch.no_grad():
        out = model(input_ids=ids, **given)
    return out.logits[:, -1].float(), getattr(out, kept, None)


_ARGUMENTS: dict[type, frozenset[str]] = {}


def _arguments(kind: Any) -> frozenset[str]:
    if kind not in _ARGUMENTS:
        _ARGUMENTS[kind] = frozenset(inspect.signature(kind.forward).parameters)
    return _ARGUMENTS[kind]


def groups(lm: LanguageModel, lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Places of prompts that can be read together: any, where padding changes nothing; else those with as many tokens."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)  # little padding
    padded = len({*lengths}) > 1 and pads_exactly(lm)
    group: list[int] = []
    for place in order:
        if group and (len(group) == size or (not padded and lengths[place] != lengths[group[0]])):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


# -- what a family of models can do, tried once for each model on a few tokens ---------------------------------------------------

CLOSE = 1e-3  # relative
_PADS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_READS_ON: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def pads_exactly(lm: LanguageModel) -> bool:
    """Whether padding at the left changes nothing: attention to all tokens, with a mask and with places that are given.

    Not so for a model with a recurrent state, or with a sliding window, in which padding takes the place of tokens.
    """
    model = lm.model
    if model not in _PADS:
        _PADS[model] = False
        if {"attention_mask", "position_ids"} <= _arguments(type(model)):
            ids = torch.arange(1, 9, device=model.device)[None]
            mask = torch.ones_like(ids)
            with evaluating(model):
                alone, cache = step(model, ids, None)
                ids, mask = (torch.cat([x.new_zeros(1, 3), x], 1) for x in (ids, mask))
                padded, _ = step(model, ids, None, mask)
            plain = all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))
            _PADS[model] = plain and _close(padded, alone)
    return _PADS[model]


def reads_on(lm: LanguageModel) -> bool:
    """Whether several tokens after others that are in the cache give what all of them give at once; not so for Mamba."""
    model = lm.model
    if model not in _READS_ON:
        ids = torch.arange(1, 9, device=model.device)[None]
        with evaluating(model):
            whole, cache = step(model, ids, None)
            _READS_ON[model] = False
            if cache is not None:
                _, cache = step(model, ids[:, :5], None)
                _READS_ON[model] = _close(step(model, ids[:, 5:], cache)[0], whole)
    return _READS_ON[model]


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= CLOSE * other.norm())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside it the model is in evaluation mode."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _state_of(model: nn.Module) -> tuple[Any, ...]:
    """What differs after training the model, or putting something on it."""
    return id(model), tuple((name, p.data_ptr(), p._version) for name, p in model.named_parameters())
