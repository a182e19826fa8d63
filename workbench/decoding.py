"""Forward passes of a language model on one prompt or a batch, with the model's cache. The module `generation` uses them."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from workbench.models import LanguageModel
from workbench.training import evaluating


@dataclass(frozen=True, eq=False)
class Prefix:
    """A text with which prompts begin, and the model's cache for the tokens of this text.

    `ids` and `cache` omit the last token, since the end of a text may be tokenized differently if more text follows. `cache` is
    None if the model cannot continue from a cache (`reads_on`), or if the text has only one token.
    """

    text: str
    ids: list[int]
    cache: Any = field(repr=False)
    # logits after the first `FEW` tokens; if a later forward pass gives other logits, the model has changed
    logits: Tensor = field(repr=False)


def read_prefix(lm: LanguageModel, text: str, ids: Sequence[int]) -> Prefix:
    """Process the tokens `ids` of `text` except the last one; return the `Prefix`."""
    begun, cache = list(ids[:-1]), None
    if begun and reads_on(lm):
        _, cache = step(lm.model, torch.tensor([begun], device=lm.model.device), None)
    return Prefix(text, begun, cache, _first_logits(lm.model, begun or ids))


def _first_logits(model: Any, ids: Sequence[int]) -> Tensor:
    return step(model, torch.tensor([[*ids[:FEW]]], device=model.device), None)[0]


def read_prompts(lm: LanguageModel, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> tuple[Tensor, Any, Tensor | None]:
    """Process `prompts` as one batch; return the logits of the next token, the cache and the attention mask.

    The logits have the shape ``(prompts, vocabulary)`` and the mask ``(prompts, tokens)``. Without padding, the mask is None.
    """
    read, cache = _taken_up(lm, prompts, prefix)
    rest = [[*prompt[read:]] for prompt in prompts]
    longest = max(map(len, rest))
    ids = torch.tensor([[0] * (longest - len(part)) + part for part in rest], device=lm.model.device)
    mask = None
    if any(len(part) < longest for part in rest):
        mask = torch.tensor([[1] * read + [0] * (longest - len(part)) + [1] * len(part) for part in rest], device=lm.model.device)
    return *step(lm.model, ids, cache, mask), mask


def _taken_up(lm: LanguageModel, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> tuple[int, Any]:
    """Return the number of tokens in the cache of `prefix`, and a copy of that cache for this batch.

    Returns ``(0, None)`` if the cache cannot be used for these prompts. Raises ValueError if the model has changed.
    """
    if prefix is None or prefix.cache is None:
        return 0, None
    if not torch.equal(prefix.logits, _first_logits(lm.model, prefix.ids)):
        raise ValueError("the model has changed since it read the prefix: call generation.read again")
    size = len(prefix.ids)
    if any(len(prompt) <= size or [*prompt[:size]] != prefix.ids for prompt in prompts):
        return 0, None  # together with the following text, the prefix is tokenized differently
    if outgrown(lm.model, size, max(map(len, prompts))):
        return 0, None
    cache = copy.deepcopy(prefix.cache)
    if len(prompts) > 1:
        cache.reorder_cache(torch.zeros(len(prompts), dtype=torch.long, device=lm.model.device))
    return size, cache


def step(model: Any, ids: Tensor, cache: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
    """Run the model in evaluation mode on ids ``(batch, tokens)``; return the logits of the next token and the cache.

    The logits are float32, ``(batch, vocabulary)``. The cache is None if the model has none. `mask` ``(batch,
    tokens)`` is 0 at padding and 1 elsewhere, and includes the cached tokens.
    """
    arguments = _arguments(type(model))
    kept = "cache_params" if "cache_params" in arguments else "past_key_values"  # Mamba has the former
    given = {"use_cache": True, kept: cache}
    if mask is not None:
        given |= {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]}
    if "logits_to_keep" in arguments:
        given["logits_to_keep"] = 1
    with torch.no_grad(), evaluating(model):
        out = model(input_ids=ids, **given)
    return out.logits[:, -1].float(), getattr(out, kept, None)


_ARGUMENTS: dict[type, frozenset[str]] = {}


def _arguments(kind: Any) -> frozenset[str]:
    if kind not in _ARGUMENTS:
        _ARGUMENTS[kind] = frozenset(inspect.signature(kind.forward).parameters)
    return _ARGUMENTS[kind]


def groups(lm: LanguageModel, lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Divide prompts with the given numbers of tokens into batches, and yield each batch as a list of at most `size` indices.

    If padding changes the result (`pads_exactly` is False), all prompts of a batch have the same number of tokens.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)  # a batch of similar lengths needs little padding
    padded = len({*lengths}) > 1 and pads_exactly(lm)
    group: list[int] = []
    for place in order:
        if group and (len(group) == size or (not padded and lengths[place] != lengths[group[0]])):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def outgrown(model: Any, before: int, now: int) -> bool:
    """Return whether a cache made for sequences of `before` tokens is wrong for sequences of `now` tokens.

    With some rotary embeddings, the angles of all tokens depend on the length of the sequence. With the type longrope, the angles
    change once, when the sequence exceeds the model's original context length. With the type dynamic, they change with each
    further token beyond that length.
    """
    config: Any = getattr(model, "config", None)
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = scaling.get("rope_type") if isinstance(scaling, dict) else None
    if kind not in ("longrope", "dynamic"):
        return False
    most = scaling.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    most = int(most or config.max_position_embeddings)
    return before <= most < now if kind == "longrope" else now > most


# -- capabilities of a model; each is tested once per model on a few tokens --------------------------------------------------

FEW = 8
CLOSE = 1e-3  # relative tolerance in float32: norm of the difference of two logit vectors, divided by the norm of the second
_PADS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_READS_ON: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def pads_exactly(lm: LanguageModel) -> bool:
    """Return whether the logits stay the same if the prompt is padded at the left and the padding is masked.

    The result is False if the model does not accept `attention_mask` and `position_ids`, or if its cache is not a plain key-value
    cache of all tokens, since a recurrent state or a sliding window would include the padding. The result is also False if the
    angles of rotary embeddings depend on the length of the longest sequence (`outgrown`). The result is stored for each model.
    """
    model = lm.model
    if model not in _PADS:
        _PADS[model] = False
        if {"attention_mask", "position_ids"} <= _arguments(type(model)) and not outgrown(model, 0, sys.maxsize):
            ids = few_tokens(model)
            alone, cache = step(model, ids, None)
            mask = torch.ones_like(ids)
            ids, mask = (torch.cat([x.new_zeros(1, 3), x], 1) for x in (ids, mask))
            padded, _ = step(model, ids, None, mask)
            plain = all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))
            _PADS[model] = plain and _close(model, padded, alone)
    return _PADS[model]


def reads_on(lm: LanguageModel) -> bool:
    """Return whether a forward pass over further tokens with a cache gives the same logits as a forward pass over all tokens.

    The result is False for Mamba. The result is stored for each model.
    """
    model = lm.model
    if model not in _READS_ON:
        ids = few_tokens(model)
        whole, cache = step(model, ids, None)
        _READS_ON[model] = False
        if cache is not None:
            _, cache = step(model, ids[:, :5], None)
            _READS_ON[model] = _close(model, step(model, ids[:, 5:], cache)[0], whole)
    return _READS_ON[model]


def few_tokens(model: Any) -> Tensor:
    """Return the token ids ``(1, FEW)`` on which a model is tested."""
    vocabulary: int = model.get_input_embeddings().num_embeddings
    return (torch.arange(1, FEW + 1, device=model.device) % vocabulary)[None]


def _close(model: nn.Module, one: Tensor, other: Tensor) -> bool:
    rounding = torch.finfo(next(model.parameters()).dtype).eps
    return bool((one - other).norm() <= max(CLOSE, 8 * rounding) * other.norm())
