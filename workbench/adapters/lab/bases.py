"""The models that are adapted: any of `models`, and RWKV-6; one copy of the weights, whatever is put on them."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from workbench import checkpoints, datasets, models, phases
from workbench.adapters.rwkv6 import RWKV6
from workbench.checksums import sha256

Model = TypeVar("Model", bound=nn.Module)


@lru_cache(maxsize=2)
def load(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> models.LanguageModel:
    """The model of this name with its tokenizer, kept while it is used: take a `fresh` one to put adapters on.

    ``tiny-rwkv6``, anything that `models.load` takes, or a file of RWKV-6 (.pth, .safetensors) that has as many tokens as
    tiny-llama, whose tokenizer it then gets. Raises DataError where it is not to be had.
    """
    file = _rwkv_file(name)
    lm = models.load(name, dtype) if file is None else _load_rwkv(name, file, dtype)
    lm.model.to(device)
    return lm


def _load_rwkv(name: str, file: Path, dtype: torch.dtype) -> models.LanguageModel:
    phases.say(f"loading {name}")
    model = RWKV6.load(file, dtype)
    models.warm_up()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        checkpoints.find(models.TINY), local_files_only=True, trust_remote_code=False
    )
    if len(tokenizer) != model.emb.num_embeddings:
        raise datasets.DataError(
            f"{file} has {model.emb.num_embeddings} tokens, and no tokenizer of that many is here; use RWKV6.load and token ids"
        )
    return models.LanguageModel(name, model, tokenizer)


def _rwkv_file(name: str) -> Path | None:
    if name == checkpoints.TINY_RWKV6:
        return checkpoints.find(name) / "model.safetensors"
    path = Path(name).expanduser()
    if path.suffix not in (".pth", ".safetensors"):
        return None
    if not path.exists():
        raise datasets.DataError(f"{path} was not found; expected a .pth or .safetensors file of RWKV-6")
    return path


def ref(name: str) -> str:
    """Name and checksum, for a run's identity."""
    file = _rwkv_file(name)
    return models.ref(name) if file is None else f"{Path(name).stem}@{sha256(file)[:16]}"


def fresh(model: Model) -> Model:
    """A copy that shares the weights, and nothing else: adapters put on it are not on the original."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def hidden_states(model: nn.Module, ids: Tensor) -> Tensor:
    """What the model's head reads, ``(batch, tokens, width)``."""
    if isinstance(model, RWKV6):
        return model.hidden(ids)[0]
    return model.base_model(input_ids=ids, use_cache=False).last_hidden_state


def head(model: nn.Module) -> nn.Module:
    """The model's last layer, from hidden states to logits."""
    return model.head if isinstance(model, RWKV6) else model.get_output_embeddings()


@torch.no_grad()
def head_alone_gives_logits(model: nn.Module) -> bool:
    """Whether the head on the hidden states gives the model's own logits (some cap or scale them after it)."""
    ids = torch.arange(3, device=next(model.parameters()).device)[None]
    return torch.equal(head(model)(hidden_states(model, ids)), model(input_ids=ids).logits)


UNENDING = (models.TINY, checkpoints.TINY_RWKV6)  # trained on one stream of prose, in which no text ends


def end_of(lm: models.LanguageModel) -> int | None:
    """The token that ends an answer, a line break, where the model was never shown an end of text; None: the end of text.

    What a model has never seen as an answer it has learnt to exclude: of tiny-llama, tuned, the end of text cost 3.7 nats, and
    was half of the loss.
    """
    if lm.name not in UNENDING:
        return None
    return lm.tokenizer("\n", add_special_tokens=False)["input_ids"][-1]


@torch.no_grad()
def written(lm: models.LanguageModel, model: nn.Module, text: str, most: int) -> str:
    """The greedy continuation of a text by at most so many tokens, up to the end of an answer, in evaluation mode."""
    model.eval()
    ids = lm.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
    end = end_of(lm)
    end = lm.tokenizer.eos_token_id if end is None else end
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )
    return lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@lru_cache
def faster_dtype(model: str) -> str:
    """``bfloat16`` where this machine multiplies it at least a quarter faster than float32, by a probe of a layer's size."""
    from time import perf_counter

    width = checkpoints.sizes(model).get("hidden_size", 512)
    took = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.randn(128, width).to(dtype), torch.randn(2 * width, width).to(dtype)
        times = []
        for _ in range(7):
            start = perf_counter()
            torch.nn.functional.linear(x, weight)
            times.append(perf_counter() - start)
        took[dtype] = min(times[1:])
    return "bfloat16" if took[torch.bfloat16] < 0.8 * took[torch.float32] else "float32"
