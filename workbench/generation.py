"""Text that a language model writes: one prompt or many, greedy or sampled, whole or piece by piece, as an answer in a chat.

A model reads a prompt once and keeps what its attention needs of it (the key-value cache; RWKV-6 keeps its state), so that each
further token costs one step. A long beginning that many prompts share is read once by `read` and given as `prefix`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench import decoding
from workbench.chats import Prompt, prompt_tokens, tell_once
from workbench.decoding import Prefix
from workbench.models import LanguageModel
from workbench.training import mixed


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    `text` is without the token or the stop string that ended it. `ended` says what did: ``end`` (the model ended its answer),
    ``stop`` (a stop string) or ``length`` (`max_tokens`, or the end of the model's context). `tokens` counts all that were
    written, an ending token too.
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
    """What the model writes after a text, or answers to the messages of a chat.

    The text ends as soon as it contains one of the `stop` strings, and before it. ``temperature=0`` takes the likeliest token
    each time; above 0, tokens are sampled with random numbers of `seed`. `prefix`, from `read`, is what the prompt begins with.
    Runs in evaluation mode. Raises ValueError for a prompt that is empty, that leaves no room for a
    token in the model's context, or that does not begin with `prefix`.
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
    """`generate` for several prompts, at most `size` of them at once; each prompt has random numbers of its own.

    A model for which padding would change the result writes only prompts of the same number of tokens together.
    """
    if isinstance(prompts, str) or any(isinstance(prompt, Mapping) for prompt in prompts):
        raise ValueError("prompts: expected a list of texts or chats; give a single one to generate")
    _check(max_tokens, stop, temperature)
    jobs = [_Job(lm, prompt, max_tokens, stop, temperature, mixed(seed, place), prefix) for place, prompt in enumerate(prompts)]
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
    """The pieces of the text that `generate` returns, as soon as each is certain; returns the `Reply`.

    A piece that may turn out to begin a stop string, or that ends within a character, waits for the tokens after it. Closing the
    iterator stops the model.
    """
    _check(max_tokens, stop, temperature)
    job = _Job(lm, prompt, max_tokens, stop, temperature, mixed(seed, 0), prefix)
    shown = 0
    for _ in _written(lm, [job], prefix):
        certain = job.certain()
        if len(certain) > shown:
            yield certain[shown:]
            shown = len(certain)
    return job.reply()


def read(lm: LanguageModel, prompt: Prompt) -> Prefix:
    """Read a text, or the first messages of a chat, that many prompts begin with, so that `generate` need not.

    The prefix belongs to the model as it is now: `generate` refuses it after the model has been trained or changed.
    """
    text, ids, _ = prompt_tokens(lm, prompt, asks=False)
    _check_length(lm, ids, text)
    if not decoding.reads_on(lm):
        tell_once(lm, f"{lm.name} cannot go on from a prefix: it will be read anew with each prompt")
    return decoding.read_prefix(lm, text, ids)


def _check(max_tokens: int, stop: Sequence[str], temperature: float) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens={max_tokens}: expected at least 1")
    if isinstance(stop, str) or not all(stop):
        raise ValueError(f"stop={stop!r}: expected a sequence of strings that are not empty")
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature}: expected 0 (the likeliest token) or more")


def _check_length(lm: LanguageModel, ids: Sequence[int], text: str) -> int:
    """How many tokens may follow these; raises ValueError where there are none, or none may follow."""
    if not ids:
        raise ValueError("the prompt has no tokens: expected a text")
    most = getattr(getattr(lm.model, "config", None), "max_position_embeddings", None)
    if most is not None and len(ids) >= most:
        raise ValueError(
            f"the prompt {text[:40]!r}... has {len(ids)} tokens, and {lm.name} reads at most {most}: shorten it, or take a "
            "model with a longer context"
        )
    return most - len(ids) if most is not None else 2**31


# -- one prompt's text -----------------------------------------------------------------------------------------------------------


class _Job:
    """A prompt, and the tokens written after it so far."""

    def __init__(
        self, lm: LanguageModel, prompt: Prompt, most: int, stop: Sequence[str], temperature: float, seed: int,
        prefix: Prefix | None,
    ):  # fmt: skip
        text, self.prompt, stops = prompt_tokens(lm, prompt)
        self.most = min(most, _check_length(lm, self.prompt, text))
        self.lm, self.stop, self.temperature = lm, (*stop, *stops), temperature
        self.generator = torch.Generator().manual_seed(seed)
        self.new: list[int] = []
        self.text = ""
        self.ended: Literal["", "end", "stop", "length"] = ""
        if prefix is not None and not text.startswith(prefix.text):
            raise ValueError(f"the prompt {text[:40]!r}... does not begin with the prefix {prefix.text[:40]!r}...")

    def take(self, logits: Tensor) -> int:
        """Choose the next token by logits ``(vocabulary,)``."""
        if self.temperature == 0:
            token = int(logits.argmax())
        else:  # by the inverse of the distribution function: on any device the same random numbers
            shares = torch.softmax(logits.double().cpu() / self.temperature, 0).cumsum(0)
            drawn = torch.rand((), generator=self.generator, dtype=torch.float64) * shares[-1]
            token = min(int(torch.searchsorted(shares, drawn, right=True)), len(shares) - 1)
        self.new.append(token)
        if token in self.lm.ends:
            self.ended = "end"
            return token
        self.text = self._decoded()
        places = [place for place in (self.text.find(s) for s in self.stop) if place >= 0]
        if places:
            self.text, self.ended = self.text[: min(places)], "stop"
        elif len(self.new) == self.most:
            self.ended = "length"
        return token

    def _decoded(self) -> str:
        """The text so far. A token of the prompt goes first, since some tokenizers drop a text's first blank."""
        before = self.prompt[-1:]
        start = len(self.lm.tokenizer.decode(before, skip_special_tokens=True))
        whole: str = self.lm.tokenizer.decode(before + self.new, skip_special_tokens=True)
        return whole[start:]

    def certain(self) -> str:
        """The text so far, without an end that may still become part of a stop string, or a part of a character."""
        if self.ended:
            return self.text
        text = self.text.rstrip("\ufffd")
        most = max((len(s) - 1 for s in self.stop), default=0)
        held = (k for k in range(min(most, len(text)), 0, -1) if any(s.startswith(text[-k:]) for s in self.stop))
        return text[: len(text) - next(held, 0)]

    def reply(self) -> Reply:
        """What was written, when it has ended."""
        return Reply(self.text, self.ended or "length", len(self.new), len(self.prompt))


def _written(lm: LanguageModel, jobs: Sequence[_Job], prefix: Prefix | None) -> Iterator[None]:
    """Write the replies of these jobs together, a token each at a time; yields after each token."""
    with decoding.evaluating(lm.model):
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
            if cache is None:  # a model that keeps nothing: it reads all again
                new = torch.tensor([job.prompt + job.new for job in active], device=logits.device)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)
            logits, cache = decoding.step(lm.model, new, cache, mask)
