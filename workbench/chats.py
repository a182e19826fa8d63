"""What a model reads: a text to continue, or the messages of a chat as the text of its template."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from workbench.models import LanguageModel

Chat = Sequence[Mapping[str, str]]  # messages, each with its "role" (system, user, assistant) and "content"
Prompt = str | Chat

ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}
_TOLD: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def chat_text(lm: LanguageModel, messages: Chat, asks: bool = True) -> str:
    """The messages as the text that the model was trained on, by its chat template; with `asks`, up to where its answer begins.

    Without a template: a line ``User: ...`` for each message, with a warning. Where the template knows no system message, its
    text goes before that of the first user message, with a warning too. Raises ValueError for a message without role or content.
    """
    for message in messages:
        if set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise ValueError(f"message {dict(message)!r}: expected a role ({', '.join(ROLES)}) and a content, and nothing else")
    messages = [dict(message) for message in messages]
    if not getattr(lm.tokenizer, "chat_template", None):
        tell_once(lm, f"{lm.name} has no chat template: messages become lines that begin with {', '.join(ROLES.values())}")
        lines = [f"{ROLES[m['role']]}: {m['content']}" for m in messages]
        return "\n".join([*lines, f"{ROLES['assistant']}:"] if asks else [*lines, ""])
    try:
        return str(lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))
    except Exception as error:  # a template raises whatever its author chose
        if messages[0]["role"] != "system" or len(messages) < 2 or messages[1]["role"] != "user":
            raise ValueError(f"the chat template of {lm.name} refuses these messages: {error}") from error
    system, user, *rest = messages
    merged = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
    text = chat_text(lm, merged, asks)
    tell_once(lm, f"the chat template of {lm.name} takes no system message: it is put before the first user message")
    return text


def tell_once(lm: LanguageModel, what: str) -> None:
    """Warn once for each model."""
    told = _TOLD.setdefault(lm.model, set())
    if what not in told:
        told.add(what)
        warnings.warn(what, stacklevel=4)


def prompt_tokens(lm: LanguageModel, prompt: Prompt, asks: bool = True) -> tuple[str, list[int], tuple[str, ...]]:
    """A prompt's text and tokens, and the strings at which an answer to it ends."""
    if isinstance(prompt, str):
        return prompt, lm.prompt_ids([prompt])[0], ()
    text = chat_text(lm, prompt, asks)
    stops = () if getattr(lm.tokenizer, "chat_template", None) else tuple(f"\n{role}:" for role in ROLES.values())
    return text, lm.tokenizer(text, add_special_tokens=False)["input_ids"], stops
