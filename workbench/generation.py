"""Generate text with a language model: for one prompt or a batch, greedily or by sampling, at once or as a stream.

A prompt is a text or a chat. The prompt is processed once, and the model's key-value cache (for RWKV-6, its recurrent state) is
kept. Each new token then needs a forward pass over only one token. A model without a cache processes the whole text again for
each token. If many prompts begin with the same long text, process that text once with `read` and pass the result as `prefix`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench import decoding
from workbench.chats import Prompt, prompt_tokens, tell_once
from workbench.decoding import Prefix
from workbench.models import LanguageModel
from workbench.training import enough_memory, mixed


@dataclass(frozen=True)
class Reply:
    """A generated text, and the reason why generation ended.

    `text` contains neither the end token nor the stop string. `ended` is ``end`` (the model generated one of
    `LanguageModel.ends`), ``stop`` (the model generated a stop string) or ``length`` (`max_tokens` or the end of the model's
    context was reached). `tokens` is the number of generated tokens, including the end token or the tokens of the stop string.
    `prompt_tokens` is the number of tokens of the prompt.
    """

    text: str
    ended: Literal["end", "stop", "length"]
    tokens: int
    prompt_tokens: int


def generate(
    lm: LanguageModel,
    prompt: Prompt,
    max_tokens: int = 40,
    *,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    seed: int = 0,
    prefix: Prefix | None = None,
) -> Reply:
    """Generate the continuation of a text, or the answer to a chat; return a `Reply`.

    Generation ends after `max_tokens` tokens, or earlier for one of the reasons in `Reply.ended`. If the text contains one of the
    `stop` strings, it is cut before that string. With ``temperature=0``, decoding is greedy. With a higher temperature, tokens
    are sampled from ``softmax(logits / temperature)`` with a random generator seeded with `seed`. `prefix` is the result of
    `read` for the beginning of the prompt. The model runs in evaluation mode.

    Raises ValueError if an argument is out of range, if the prompt has no tokens or exceeds the model's context, if the prompt
    does not begin with `prefix`, if the model has changed since it read `prefix`, or if the model returns logits that are not
    finite. Raises TrainingError if there is not enough memory.
    """
    return generate_batch(lm, [prompt], max_tokens, stop=stop, temperature=temperature, seed=seed, prefix=prefix)[0]


def generate_batch(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    max_tokens: int = 40,
    *,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    seed: int = 0,
    prefix: Prefix | None = None,
    size: int = 16,
) -> list[Reply]:
    """Generate a `Reply` for each of several prompts, as `generate` does; return the replies in the order of the prompts.

    A batch has up to `size` prompts, and each of them gets its own copy of the cache in `prefix`. If padding would change the
    result of the model, only prompts with the same number of tokens form a batch. Each prompt has its own random generator,
    seeded with `seed` and the index of the prompt in the list.
    """
    prompts, stop = prompts if isinstance(prompts, str) else list(prompts), _listed(stop)
    if isinstance(prompts, str) or any(isinstance(prompt, Mapping) for prompt in prompts):
        raise ValueError("prompts is a single prompt; expected a list of texts or chats: for a single prompt, call generate")
    if size < 1:
        raise ValueError(f"size={size}: expected at least 1 prompt in a batch")
    _check(max_tokens, temperature)
    jobs = [_Job(lm, prompt, max_tokens, stop, temperature, mixed(seed, place), prefix) for place, prompt in enumerate(prompts)]
    with enough_memory():
        for group in decoding.groups(lm, [len(job.prompt) for job in jobs], size):
            for _ in _written(lm, [jobs[place] for place in group], prefix):
                pass
    return [job.reply() for job in jobs]


def stream(
    lm: LanguageModel,
    prompt: Prompt,
    max_tokens: int = 40,
    *,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    seed: int = 0,
    prefix: Prefix | None = None,
) -> Generator[str, None, Reply]:
    """Generate text as `generate` does, but yield it in pieces. The return value of the generator is the `Reply`.

    Two kinds of text are held back until later tokens are generated: text that may be the beginning of a stop string, and
    characters whose bytes are not yet complete. Closing the generator ends generation.
    """
    _check(max_tokens, temperature)
    return _pieces(lm, _Job(lm, prompt, max_tokens, _listed(stop), temperature, mixed(seed, 0), prefix), prefix)


def _pieces(lm: LanguageModel, job: _Job, prefix: Prefix | None) -> Generator[str, None, Reply]:
    shown = 0
    for _ in _written(lm, [job], prefix):
        certain = job.certain()
        if len(certain) > shown:
            yield certain[shown:]
            shown = len(certain)
    return job.reply()


def read(lm: LanguageModel, prompt: Prompt) -> Prefix:
    """Process the beginning that many prompts share (a text, or the first messages of a chat), and return it as a `Prefix`.

    The prefix holds the model's cache for this text, so it is valid for the current parameters only. If the parameters have
    changed, `generate` raises ValueError. `read` itself raises ValueError if the text has no tokens or exceeds the model's
    context.
    """
    text, ids, _ = prompt_tokens(lm, prompt, asks=False)
    _room(lm, ids, text)
    if not decoding.reads_on(lm):
        tell_once(lm, f"{lm.name} cannot continue from the cache of a prefix: it processes the prefix again for each prompt")
    return decoding.read_prefix(lm, text, ids)


def _check(max_tokens: int, temperature: float) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens={max_tokens}: expected at least 1")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}: expected 0 (greedy decoding) or a finite positive number")


def _listed(stop: Iterable[str]) -> tuple[str, ...]:
    found = stop if isinstance(stop, str) else tuple(stop)
    if isinstance(found, str) or not all(isinstance(one, str) and one for one in found):
        raise ValueError(f"stop={found!r}: expected a sequence of non-empty strings")
    return found


def _room(lm: LanguageModel, ids: Sequence[int], text: str) -> int:
    """Return how many tokens can be generated after `ids`; raise ValueError if `ids` is empty or exceeds the context."""
    if not ids:
        raise ValueError("the prompt has no tokens; expected a non-empty text")
    if lm.context is None:
        return sys.maxsize
    if len(ids) > lm.context:
        raise ValueError(
            f"the prompt {text[:40]!r}... has {len(ids)} tokens; expected at most {lm.context}, the context of {lm.name}: "
            "shorten the prompt, or use a model with a longer context"
        )
    return lm.context - len(ids) + 1  # the last generated token is never fed to the model


# -- the text of one prompt ------------------------------------------------------------------------------------------------------


class _Job:
    """A prompt, and the tokens generated for it so far."""

    def __init__(
        self, lm: LanguageModel, prompt: Prompt, most: int, stop: Sequence[str], temperature: float, seed: int,
        prefix: Prefix | None,
    ):  # fmt: skip
        text, self.prompt, stops = prompt_tokens(lm, prompt)
        self.most = min(most, _room(lm, self.prompt, text))
        self.lm, self.stop, self.temperature = lm, (*stop, *stops), temperature
        self.generator = torch.Generator().manual_seed(seed)
        # Decoding omits special tokens, so a stop string that is a special token is recognized by its id.
        special = lm.tokenizer.get_added_vocab()
        self.ends: dict[int, Literal["end", "stop"]] = {special[one]: "stop" for one in self.stop if one in special}
        self.ends |= dict.fromkeys(lm.ends, "end")
        # Some tokenizers drop a space at the beginning of a text. So the text that is decoded begins with this letter.
        self.anchor: list[int] = lm.tokenizer("a", add_special_tokens=False)["input_ids"]
        self.start = len(lm.tokenizer.decode(self.anchor, skip_special_tokens=True))
        self.new: list[int] = []
        self.text = ""
        self.ended: Literal["", "end", "stop", "length"] = ""
        if prefix is not None and not text.startswith(prefix.text):
            raise ValueError(
                f"the prompt {text[:40]!r}... does not begin with the prefix {prefix.text[:40]!r}...; pass the prefix of this "
                "prompt, or no prefix"
            )

    def take(self, logits: Tensor) -> int:
        """Choose the next token from logits ``(vocabulary,)``, store it and return its id.

        Raises ValueError if a logit is NaN, or if the largest logit is infinite.
        """
        if not logits.max().isfinite():  # the maximum is NaN if any logit is NaN
            raise ValueError(f"{self.lm.name} returns logits that are not finite; load it in float32, or check its weights")
        if self.temperature == 0:
            token = int(logits.argmax())
        else:  # inverse transform sampling on the CPU, so that every device uses the same random numbers
            shares = torch.softmax((logits - logits.max()).cpu().double() / self.temperature, 0).cumsum(0)
            drawn = torch.rand((), generator=self.generator, dtype=torch.float64) * shares[-1]
            token = min(int(torch.searchsorted(shares, drawn, right=True)), len(shares) - 1)
        self.new.append(token)
        if token in self.ends:
            self.ended = self.ends[token]
            return token
        self.text = self._decoded()
        places = [place for place in (self.text.find(s) for s in self.stop) if place >= 0]
        if places:
            self.text, self.ended = self.text[: min(places)], "stop"
        elif len(self.new) == self.most:
            self.ended = "length"
        return token

    def _decoded(self) -> str:
        """Return the text generated so far."""
        whole: str = self.lm.tokenizer.decode(self.anchor + self.new, skip_special_tokens=True)
        return whole[self.start :]

    def certain(self) -> str:
        """Return the text so far, without a last part that may be an incomplete character or the beginning of a stop string."""
        if self.ended:
            return self.text
        text = self.text.rstrip("\ufffd")
        most = max((len(s) - 1 for s in self.stop), default=0)
        held = (k for k in range(min(most, len(text)), 0, -1) if any(s.startswith(text[-k:]) for s in self.stop))
        return text[: len(text) - next(held, 0)]

    def reply(self) -> Reply:
        """Return the reply after generation has ended."""
        return Reply(self.text, self.ended or "length", len(self.new), len(self.prompt))


def _written(lm: LanguageModel, jobs: Sequence[_Job], prefix: Prefix | None) -> Iterator[None]:
    """Generate for all jobs as one batch; yield after each step, in which every unfinished job receives one token."""
    logits, cache, mask = decoding.read_prompts(lm, [job.prompt for job in jobs], prefix)
    active = list(jobs)
    while True:
        tokens = [job.take(row) for job, row in zip(active, logits, strict=True)]
        yield
        kept = [k for k, job in enumerate(active) if not job.ended]
        if not kept:
            return
        if len(kept) < len(active):
            rows = torch.tensor(kept, device=logits.device)
            active = [active[k] for k in kept]
            mask = mask[rows] if mask is not None else None
            if cache is not None:
                cache.reorder_cache(rows)
        new = torch.tensor([[tokens[k]] for k in kept], device=logits.device)
        longest = max(len(job.prompt) + len(job.new) for job in active)
        if cache is not None and decoding.outgrown(lm.model, longest - 1, longest):
            cache = None
        if cache is None:  # without a usable cache, the whole text is processed again
            new = torch.tensor([job.prompt + job.new for job in active], device=logits.device)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)
        logits, cache = decoding.step(lm.model, new, cache, mask)
