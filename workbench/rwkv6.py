"""RWKV-6 (Eagle and Finch, arXiv 2404.05892), a recurrent language model whose state is one matrix S per head.

Each token has a receptance r, a key k, a value v and a decay w (vectors); each head has a bonus u. S has shape ``(key, value)``:

    o[t] = r[t]' (S + diag(u) k[t] v[t]'),    then    S := diag(w[t]) S + k[t] v[t]',    w = exp(-exp(d)).

A layer computes d from the token and the previous token. `wkv_loop` computes o and S token by token. `wkv_chunked` computes
the same chunk by chunk, which is faster in training.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.datasets import DataError

CHUNK = 16


class State(list[tuple[Tensor, Tensor, Tensor]]):
    """The recurrent state: for each block, the last inputs of time mix and channel mix, and the matrix S of each head.

    Both inputs have the shape ``(batch, width)``, and S has the shape ``(batch, heads, key, value)``.
    """

    def reorder_cache(self, rows: Tensor) -> None:
        """Replace the sequences of the batch, in place, by those with the indices `rows` ``(new batch,)``; indices may repeat."""
        self[:] = [(last[rows], before[rows], S[rows]) for last, before, S in self]


def wkv_loop(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs and the last state. Outputs, r, k, v and log_w have the shape ``(batch, tokens, heads, head size)``."""
    out = []
    for t in range(r.shape[1]):
        kv = k[:, t, :, :, None] * v[:, t, :, None]
        out.append((r[:, t, :, None] @ (state + u[:, :, None] * kv))[:, :, 0])
        state = log_w[:, t, :, :, None].exp() * state + kv
    return torch.stack(out, 1), state


def wkv_chunked(
    r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Compute the same as `wkv_loop`, with all tokens of a chunk in parallel and the chunks one after another.

    From token s to token t, the state decays by the exponential of a difference of cumulative sums of `log_w`. The difference is
    never positive, but separate exponentials of the two sums would overflow. `log_w` is clamped, since the effect of a stronger
    decay is below the rounding error, and since a stronger decay would reduce the accuracy of the sums.
    """
    tokens = r.shape[1]
    log_w = log_w.clamp_min(1.2 * math.log(torch.finfo(log_w.dtype).eps))
    lacking = -tokens % chunk
    if lacking:  # padding: a token with key 0 and log decay 0 does not change the state
        r, k, v, log_w = (F.pad(x, (0, 0, 0, 0, 0, lacking)) for x in (r, k, v, log_w))
    # new shape: (batch, chunks, heads, chunk, n)
    r, k, v, log_w = (x.unflatten(1, (-1, chunk)).transpose(2, 3) for x in (r, k, v, log_w))
    after = log_w.cumsum(3)  # log decay from the start of the chunk to the end of each token
    before = F.pad(after, (0, 0, 1, -1))  # not after - log_w, which has a rounding error
    earlier = torch.ones(chunk, chunk, dtype=torch.bool, device=r.device).tril(-1)
    apart = (before[..., :, None, :] - after[..., None, :, :]).masked_fill(~earlier[:, :, None], -torch.inf)
    weights = torch.einsum("bchtn,bchtsn,bchsn->bchts", r, apart.exp(), k)
    weights = weights + torch.diag_embed((r * u[:, None] * k).sum(-1))
    out, kept, whole = weights @ v, (after[..., -1:, :] - after).exp() * k, after[..., -1, :, None].exp()
    added, asked, past = kept.transpose(-1, -2) @ v, r * before.exp(), []
    for number in range(out.shape[1]):
        past.append(state)
        state = whole[:, number] * state + added[:, number]
    out = out + asked @ torch.stack(past, 1)
    return out.transpose(2, 3).flatten(1, 2)[:, :tokens], state


class TimeMix(nn.Module):
    """The layer that replaces attention. It has the recurrent state S."""

    time_maa_x: nn.Parameter
    time_maa_w: nn.Parameter
    time_maa_k: nn.Parameter
    time_maa_v: nn.Parameter
    time_maa_r: nn.Parameter
    time_maa_g: nn.Parameter
    receptance: nn.Linear
    key: nn.Linear
    value: nn.Linear
    gate: nn.Linear
    output: nn.Linear

    def __init__(self, width: int, heads: int, lerp_rank: int, decay_rank: int):
        super().__init__()
        self.heads, self.chunked = heads, True
        for name in "xwkvrg":
            setattr(self, f"time_maa_{name}", nn.Parameter(torch.zeros(1, 1, width)))
        self.time_maa_w1 = nn.Parameter(torch.zeros(width, 5 * lerp_rank))
        self.time_maa_w2 = nn.Parameter(torch.zeros(5, lerp_rank, width))
        self.time_decay = nn.Parameter(torch.zeros(1, 1, width))
        self.time_decay_w1 = nn.Parameter(torch.zeros(width, decay_rank))
        self.time_decay_w2 = nn.Parameter(torch.zeros(decay_rank, width))
        self.time_faaaa = nn.Parameter(torch.zeros(heads, width // heads))
        for name in ("receptance", "key", "value", "gate", "output"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.ln_x = nn.GroupNorm(heads, width, eps=64e-5)

    def forward(self, x: Tensor, last: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output ``(batch, tokens, width)`` and the last state S; `last` is the input of the previous token."""
        past = torch.cat([last[:, None], x[:, :-1]], 1) - x
        mixed = torch.tanh((x + past * self.time_maa_x) @ self.time_maa_w1).unflatten(-1, (5, -1))
        w, k, v, r, g = (
            x + past * (getattr(self, f"time_maa_{name}") + mixed[..., number, :] @ self.time_maa_w2[number])
            for number, name in enumerate("wkvrg")
        )
        d = (self.time_decay + torch.tanh(w @ self.time_decay_w1) @ self.time_decay_w2).to(state.dtype)
        parts = [self.receptance(r), self.key(k), self.value(v), -d.exp()]
        r, k, v, log_w = (part.to(state.dtype).unflatten(-1, (self.heads, -1)) for part in parts)
        wkv = wkv_chunked if self.chunked and x.shape[1] > 1 else wkv_loop
        out, state = wkv(r, k, v, log_w, self.time_faaaa.to(state.dtype), state)
        out = self.ln_x(out.flatten(-2).flatten(0, 1).to(x.dtype)).view_as(x)
        return self.output(out * F.silu(self.gate(g))), state


class ChannelMix(nn.Module):
    """The feed-forward layer, which mixes the input of each token with the input of the previous token."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.time_maa_k, self.time_maa_r = (nn.Parameter(torch.zeros(1, 1, width)) for _ in "kr")
        self.key = nn.Linear(width, hidden, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        """Return the output ``(batch, tokens, width)``; `last` is the input of the previous token."""
        past = torch.cat([last[:, None], x[:, :-1]], 1) - x
        hidden = torch.relu(self.key(x + past * self.time_maa_k)).square()
        out: Tensor = torch.sigmoid(self.receptance(x + past * self.time_maa_r)) * self.value(hidden)
        return out


class Block(nn.Module):
    """A block: time mix, then channel mix, each with layer normalization and a residual connection."""

    def __init__(self, width: int, heads: int, hidden: int, lerp_rank: int, decay_rank: int, first: bool):
        super().__init__()
        if first:
            self.ln0 = nn.LayerNorm(width)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.att = TimeMix(width, heads, lerp_rank, decay_rank)
        self.ffn = ChannelMix(width, hidden)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the output ``(batch, tokens, width)`` and the state after the last token."""
        if hasattr(self, "ln0"):
            x = self.ln0(x)
        a = self.ln1(x)
        out, S = self.att(a, state[0], state[2])
        x = x + out
        f = self.ln2(x)
        return x + self.ffn(f, state[1]), (a[:, -1], f[:, -1], S)


@dataclass
class Output:
    """Logits ``(batch, tokens, vocabulary)``, the mean loss if labels were given, and the state after the last token."""

    logits: Tensor
    loss: Tensor | None
    state: State
    past_key_values: State  # the state, under the name that the library transformers uses for a cache


class RWKV6(nn.Module):
    """The RWKV-6 language model. Its state_dict has the same names as the official files, so that it can load these files."""

    def __init__(
        self, vocabulary: int, width: int, layers: int, head_size: int = 64, hidden: int | None = None,
        lerp_rank: int = 32, decay_rank: int = 64,
    ):  # fmt: skip
        super().__init__()
        if width % head_size:
            raise ValueError(f"head_size={head_size} does not divide the width {width}; expected a divisor of the width")
        hidden = hidden if hidden is not None else int(3.5 * width) // 32 * 32
        self.emb = nn.Embedding(vocabulary, width)
        self.blocks: Any = nn.ModuleList(  # of `Block`
            Block(width, width // head_size, hidden, lerp_rank, decay_rank, first=number == 0) for number in range(layers)
        )
        self.ln_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    @classmethod
    def load(cls, path: str | Path, dtype: torch.dtype = torch.float32) -> RWKV6:
        """Load an official ``.pth`` file (without running code), a ``.safetensors`` file, or a folder with model.safetensors.

        The model is in evaluation mode and has no gradients. Raises DataError if the file is not an RWKV-6 model or is damaged.
        """
        path = Path(path)
        tensors = _read(path / "model.safetensors" if path.is_dir() else path)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        try:
            _, head_size = shapes["blocks.0.att.time_faaaa"]
            vocabulary, width = shapes["emb.weight"]
            blocks = {int(found[1]) for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))}
            model = cls(
                vocabulary, width, max(blocks) + 1, head_size, shapes["blocks.0.ffn.key.weight"][0],
                shapes["blocks.0.att.time_maa_w2"][1], shapes["blocks.0.att.time_decay_w1"][1],
            )  # fmt: skip
            model.load_state_dict(tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{path} is not an RWKV-6 model ({str(error).splitlines()[0]}); expected a file of version x060"
            ) from error
        return model.to(dtype).eval().requires_grad_(False)

    def start(self, batch: int) -> State:
        """Return the state before the first token: zeros, with S in float32 or in the model's dtype if that is wider."""
        like = self.emb.weight
        width, heads = like.shape[1], self.blocks[0].att.heads
        wide = torch.promote_types(like.dtype, torch.float32)
        n = width // heads
        return State(
            (like.new_zeros(batch, width), like.new_zeros(batch, width), like.new_zeros(batch, heads, n, n, dtype=wide))
            for _ in self.blocks
        )

    def hidden(self, input_ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the input of the head, ``(batch, tokens, width)``, and the state after the last token."""
        state, after = state or self.start(len(input_ids)), State()
        x = self.emb(input_ids)
        for block, before in zip(self.blocks, state, strict=True):
            x, new = block(x, before)
            after.append(new)
        return self.ln_out(x), after

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        state: State | None = None,
        logits_to_keep: int = 0,
        past_key_values: State | None = None,
        **ignored: Any,
    ) -> Output:
        """Return next-token logits for ids ``(batch, tokens)``. Labels are shifted here; a label of -100 is ignored.

        If `logits_to_keep` is n > 0, only the logits of the last n tokens are computed. `past_key_values` is transformers'
        name for `state`. An attention mask is ignored: pad at the right, so that padding does not affect earlier tokens.
        """
        x, state = self.hidden(input_ids, past_key_values if state is None else state)
        logits, loss = self.head(x[:, -logits_to_keep:]), None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return Output(logits, loss, state, state)

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int = 40, eos_token_id: int | None = None, **ignored: Any) -> Tensor:
        """Return `input_ids` followed by up to `max_new_tokens` greedily decoded ids, in constant time per token."""
        out = self(input_ids)
        for _ in range(max_new_tokens):
            new = out.logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, new], 1)
            if eos_token_id is not None and bool((new == eos_token_id).all()):
                break
            out = self(new, state=out.state)
        return input_ids

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the token embedding."""
        return self.emb

    def get_output_embeddings(self) -> nn.Linear:
        """Return the head, which computes the logits."""
        return self.head

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.emb.weight.device


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    except FileNotFoundError:
        raise DataError(f"{path} was not found; expected a .pth or .safetensors file of RWKV-6") from None
    except UnpicklingError as error:
        raise DataError(f"{path} holds objects other than tensors; it is not loaded, since that could run code") from error
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); copy or download it again") from error


@torch.no_grad()
def initialise(model: RWKV6, seed: int = 0) -> RWKV6:
    """Initialize the model in place as its authors do, with mixing and decay that vary with channel and depth; return it."""
    generator = torch.Generator().manual_seed(seed)
    layers, width = len(model.blocks), model.emb.weight.shape[1]
    channel = torch.arange(width) / width
    spread = torch.arange(width) / max(width - 1, 1)
    model.emb.weight.uniform_(-1e-4, 1e-4, generator=generator)
    nn.init.orthogonal_(model.head.weight, 0.5 * max(model.head.weight.shape[0] / width, 1) ** 0.5, generator)
    for number, block in enumerate(model.blocks):
        depth, left = number / max(layers - 1, 1), 1 - number / layers
        att, ffn = block.att, block.ffn
        for name, power in (("x", 1), ("w", 1), ("k", 1), ("v", 1), ("r", 0.5), ("g", 0.5)):
            getattr(att, f"time_maa_{name}").copy_(1 - channel ** (power * left))
        att.time_maa_v -= 0.3 * depth
        att.time_maa_w2.uniform_(-0.01, 0.01, generator=generator)
        att.time_decay.copy_(-6 + 5 * spread ** (0.7 + 1.3 * depth))
        att.time_decay_w2.uniform_(-0.01, 0.01, generator=generator)
        zigzag = ((torch.arange(width) + 1) % 3 - 1) * 0.1
        att.time_faaaa.copy_((depth * (1 - spread) + zigzag).view_as(att.time_faaaa))
        for name in ("time_maa_k", "time_maa_r"):
            getattr(ffn, name).copy_(1 - channel**left)
        for linear in (att.receptance, att.key, att.value, att.gate, ffn.key):
            gain = max(linear.out_features / linear.in_features, 1) ** 0.5
            nn.init.orthogonal_(linear.weight, gain, generator)
        for linear in (att.output, ffn.value, ffn.receptance):
            nn.init.zeros_(linear.weight)
        att.ln_x.weight.fill_(((1 + number) / layers) ** 0.7)
    return model
