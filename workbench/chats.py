"""Convert a prompt to text and tokens. A text is used unchanged; the messages of a chat are formatted by the chat template."""

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
    """Apply the chat template of the model's tokenizer and return the text.

    If `asks` is True, the text ends at the point where the answer begins. If the tokenizer has no template, each message becomes
    a line such as ``User: ...``, and a warning is issued. If the template raises an error and the first two messages have the
    roles system and user, the text of the system message is put before that of the user message, and a warning is issued.

    Raises ValueError if there are no messages, if the keys of a message are not exactly role and content, if a role is unknown,
    or if the template rejects the messages.
    """
    if not messages:
        raise ValueError("the chat has no messages; expected at least one")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise ValueError(f"message {message!r}: expected a dict with the keys role and content, and texts as values")
        if set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise ValueError(f"message {dict(message)!r}: expected the keys role ({', '.join(ROLES)}) and content, and no others")
    messages = [dict(message) for message in messages]
    if not getattr(lm.tokenizer, "chat_template", None):
        tell_once(
            lm,
            f"{lm.name} has no chat template: each message becomes a line starting with its role ({', '.join(ROLES.values())})",
        )
        lines = [f"{ROLES[m['role']]}: {m['content']}" for m in messages]
        return "\n".join([*lines, f"{ROLES['assistant']}:"] if asks else [*lines, ""])
    try:
        return str(lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))
    except Exception as error:  # a template may raise an error of any type
        if messages[0]["role"] != "system" or len(messages) < 2 or messages[1]["role"] != "user":
            raise ValueError(f"the chat template of {lm.name} rejects these messages: {error}") from error
    system, user, *rest = messages
    merged = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
    text = chat_text(lm, merged, asks)
    tell_once(
        lm, f"the chat template of {lm.name} accepts no system message: the system text is put before the first user message"
    )
    return text


def tell_once(lm: LanguageModel, what: str) -> None:
    """Issue the warning `what`, at most once for each model and text."""
    told = _TOLD.setdefault(lm.model, set())
    if what not in told:
        told.add(what)
        warnings.warn(what, stacklevel=4)


def prompt_tokens(lm: LanguageModel, prompt: Prompt, asks: bool = True) -> tuple[str, list[int], tuple[str, ...]]:
    """Return the text of a prompt, its token ids, and the stop strings for its answer.

    There are stop strings only if the prompt is a chat and the tokenizer has no chat template.
    """
    if isinstance(prompt, str):
        return prompt, lm.prompt_ids([prompt])[0], ()
    text = chat_text(lm, prompt, asks)
    stops = () if getattr(lm.tokenizer, "chat_template", None) else tuple(f"\n{role}:" for role in ROLES.values())
    if stops:
        return text, lm.prompt_ids([text])[0], stops
    return text, lm.tokenizer(text, add_special_tokens=False)["input_ids"], ()  # the template adds the special tokens
