"""Experiments on one layer: the update of a method, the costs of the methods, the first step, and the merging of an update.

These experiments are instant: they are computed again when a slider moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench import models
from workbench.adapters import family
from workbench.adapters.adapter import Adapter
from workbench.adapters.attach import KINDS
from workbench.adapters.config import AdapterConfig
from workbench.adapters.lab import inside_figures as figures
from workbench.adapters.lab import inside_stories as stories
from workbench.adapters.lab import questions
from workbench.adapters.lab.controls import Orthogonal
from workbench.adapters.lab.looking import shades, singular_values
from workbench.experiment import Record, experiment
from workbench.knobs import Config, knob

NO_PAPER = "use the scale laptop: this experiment needs only one layer of the bundled model"
PRESETS: dict[str, Any] = {"smoke": {}, "laptop": {}, "paper": NO_PAPER}
LAYER = "model.layers.1.mlp.up_proj"  # of tiny-llama: 384 outputs, 128 inputs
ROWS, COLUMNS = 48, 64  # size of the part of the layer that adapters/shards uses


@lru_cache(maxsize=1)
def layer_weight() -> Tensor:
    """Return the weight ``(384, 128)`` of the layer `LAYER`."""
    return models.shared(models.TINY).model.get_submodule(LAYER).weight.detach().clone()


def a_layer(rows: int, columns: int) -> nn.Linear:
    """Return a frozen linear layer with the upper left ``(rows, columns)`` corner of the weight of `LAYER`."""
    layer = nn.Linear(columns, rows, bias=False)
    layer.weight.data = layer_weight()[:rows, :columns].clone()
    return layer.requires_grad_(False)


class Rounded(nn.Module):
    """A layer quantized to 4 bits, with one scale for each row. The layer has a forward pass, but no weight matrix."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.scale = weight.detach().abs().amax(1, keepdim=True) / 7
        self.codes = (weight.detach() / self.scale).round().to(torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output ``(..., out)`` for x ``(..., in)``."""
        return x @ (self.codes * self.scale).T.to(x.dtype)


def an_update(config: AdapterConfig, base: nn.Linear, size: float, kind: type[Adapter] | None = None, seed: int = 0) -> Adapter:
    """Return an adapter on the layer `base`, with Gaussian noise of standard deviation `size` added to its parameters.

    `kind` replaces the class of the adapter (see `controls`).
    """
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(base.weight.shape, generator=generator)
    update = (kind or KINDS[config.method])(config, base, generator, gradient)
    with torch.no_grad():
        for p in (p for p in update.parameters() if p.requires_grad):
            p.add_(size * torch.randn(p.shape, generator=generator))
    return update


class ShardsConfig(Config):
    """The knobs of `shards`, which shows the weight update of one method on a small layer."""

    method: Literal["lora", "lora: A tiled", "lora: A orthogonal", "miss", "mini", "bat-row", "bat-col"] = knob(
        "lora", "method", "LoRA with one of three kinds of matrix A, or a method of the Bone family.", essential=True
    )
    r: Literal[2, 4, 8, 16] = knob(
        8, "rank r", "The rank of LoRA, the number of rows of MiSS's shard, or the block size of Bat.", essential=True
    )
    q: Literal[4, 8, 16, 24, 48] = knob(
        16, "width q", "The number of columns of mini's shard.", essential=True,
        when=(lambda c: c.method == "mini", "only mini has a width q"),
    )  # fmt: skip
    seed: int = knob(
        0, "seed", "Seed of the noise that is used here in place of trained parameters.", low=0, high=100, essential=True
    )
    presets = PRESETS


@experiment(
    "adapters/shards", version=1, figure=figures.draw_shards, story=stories.tell_shards, instant=True, questions=questions.SHARDS
)
def shards(config: ShardsConfig, run: Any) -> Iterator[Record]:
    """Compute the update of one method, its singular values, its rank, and the number of trained parameters."""
    base, name = a_layer(ROWS, COLUMNS), config.method.partition(":")[0]
    given = AdapterConfig(
        method=name, r=config.r, alpha=config.r if name == "lora" else None, q=config.q if name == "mini" else None
    )
    kind = Orthogonal if "orthogonal" in config.method else None
    update = an_update(given, base, 1.0, kind, config.seed)
    with torch.no_grad():
        if "tiled" in config.method:
            update.A.copy_(torch.eye(config.r).repeat(1, COLUMNS // config.r))
        delta = update.delta(base.weight)
        trained = {n: p for n, p in update.named_parameters() if p.requires_grad and not (n == "A" and ":" in config.method)}
        parts = [p.flatten(0, -2) for p in update.parameters()]
    yield {
        "method": config.method,
        "r": config.r,
        "update": shades(delta),
        "parts": [shades(part) for part in parts],
        "names": ["A", "B"] if name == "lora" else ["D" if name in ("miss", "mini") else "B"],
        "values": singular_values(delta),
        "rank": torch.linalg.matrix_rank(delta.double(), rtol=1e-5),
        "numbers": sum(p.numel() for p in trained.values()),
        "weight": base.weight.numel(),
        "is_miss": torch.equal(delta, family.miss_delta(delta[:, : config.r].T, COLUMNS)),
    }


class CostConfig(Config):
    """The knobs of `cost`: the layer and the batch for which the cost of each method is counted."""

    tokens: int = knob(
        256, "tokens", "Tokens in the batch. A small number is typical of generation.", low=1, high=8192, log=True, essential=True
    )
    columns: int = knob(1024, "inputs", "Number of inputs of the layer.", low=64, high=8192, log=True, essential=True)
    rows: int = knob(1024, "outputs", "Number of outputs of the layer.", low=64, high=8192, log=True, essential=True)
    r: int = knob(
        64, "rank r",
        "Rank of MiSS and block size of Bat. LoRA and DoRA get half this rank, so that they train about as many parameters as "
        "MiSS.",
        low=2, high=512, log=True, essential=True,
    )  # fmt: skip
    presets = PRESETS


@experiment("adapters/cost", version=3, figure=figures.draw_cost, story=stories.tell_cost, instant=True)
def cost(config: CostConfig, run: Any) -> Iterator[Record]:
    """Count the multiply-adds that each method adds to a forward pass, and the memory that it keeps for the backward pass."""
    T, I, O, r = config.tokens, config.columns, config.rows, config.r  # noqa: E741
    half = max(r // 2, 1)
    forms = {  # additional multiply-adds, and numbers kept for the backward pass (without parameters of the layer)
        "lora": (T * half * (I + O), T * I + T * half),
        "dora": (T * half * (I + O) + half * I * O, T * I + T * half + 2 * T * O),
        "miss": (T * I + T * r * O, T * r),
        "miss, as a weight": (I * O, I * O + T * I),
        "bat-row": (T * I * r + T * I, T * I),
        "bat-col, built twice": (r * I * O, T * I),
        "bat-col, as a weight": (r * I * O, 2 * I * O + T * I),
        "bat-col, on activations": (T * I * O, T * I * (O // r if r <= O else 1)),
    }
    yield {
        "labels": [*forms],
        "adds": [extra / (T * I * O) for extra, _ in forms.values()],
        "kept": [4 * kept / 2**20 for _, kept in forms.values()],
        "half": half,
        "layer": T * I * O,
        "weight": 4 * I * O / 2**20,
    }


class StepConfig(Config):
    """The knobs of `step`: the layer on which each method takes one step of AdamW."""

    width: Literal[32, 64, 128] = knob(128, "inputs", "Number of inputs of the layer.", essential=True)
    r: Literal[2, 4, 8, 16, 32] = knob(8, "rank r", "Rank of all methods.", essential=True)
    alpha: float = knob(
        16.0, "alpha", "The scale of LoRA and its variants is alpha / r (alpha / sqrt(r) for rsLoRA). A larger alpha makes their "
        "step longer.", low=1.0, high=256.0, log=True, essential=True,
    )  # fmt: skip
    seed: int = knob(0, "seed", "Seed of the inputs, the targets and the matrix A.", low=0, high=100)
    presets = PRESETS


@experiment("adapters/step", version=1, figure=figures.draw_step, story=stories.tell_step, instant=True)
def step(config: StepConfig, run: Any) -> Iterator[Record]:
    """Measure the weight change in a step of AdamW, and the first gradient norm, for eight methods at the same learning rate."""
    base = a_layer(128, config.width)
    generator = torch.Generator().manual_seed(config.seed)
    x, target = (torch.randn(256, n, generator=generator) for n in (config.width, 128))
    found: dict[str, tuple[float, float]] = {}
    for method in ("full", "miss", "bat-row", "lora", "rslora", "dora", "pissa", "olora"):
        given = AdapterConfig(
            method=method, r=config.r, alpha=config.alpha if method not in ("full", "miss", "bat-row") else None
        )
        update = an_update(given, base, 0.0, seed=config.seed)
        trained = [p for p in update.parameters() if p.requires_grad]
        before = update.delta(base.weight).detach()
        (update(x, base) - target).square().mean().backward()
        norm = torch.stack([p.grad.norm() for p in trained]).norm()
        torch.optim.AdamW(trained, 1e-4, weight_decay=0.0).step()
        moved = (update.delta(base.weight).detach() - before).abs().mean() / 1e-4
        found[method] = float(moved), float(norm)
    s = config.alpha / config.r
    yield {
        "labels": [*found],
        "moved": [moved for moved, _ in found.values()],
        "gradient": [norm / found["full"][1] for _, norm in found.values()],
        "theory": s * (2 * config.r / (3 * torch.pi * config.width)) ** 0.5,
        "gradient_theory": s * (config.r / (3 * config.width)) ** 0.5,
    }


class MergeConfig(Config):
    """The knobs of `merge`, which merges an update into a weight in the number format `dtype`."""

    size: float = knob(
        -3.0,
        "update, 10^x",
        "The exponent x. The root mean square (RMS) of the update is 10^x, and the RMS of the weight is about 0.05.",
        low=-6.0,
        high=-1.0,
        step=0.1,
        essential=True,
    )
    dtype: Literal["bfloat16", "float16", "float32"] = knob(
        "bfloat16", "dtype", "Number format of the weight into which the update is merged.", essential=True
    )
    presets = PRESETS


@experiment("adapters/merge", version=1, figure=figures.draw_merge, story=stories.tell_merge, instant=True)
def merge(config: MergeConfig, run: Any) -> Iterator[Record]:
    """Measure the rounding error when an update is merged into a weight. The method of the update does not matter."""
    dtype = getattr(torch, config.dtype)
    weight = layer_weight().to(dtype)
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    sizes = [-6 + 0.25 * k for k in range(21)]
    each = [_merged(weight, 10.0**size * noise) for size in sizes]
    lost, unchanged = _merged(weight, 10.0**config.size * noise)
    asked = 10.0**config.size * noise.flatten()[:300]
    got = (weight.float().flatten()[:300] + asked).to(dtype).float() - weight.float().flatten()[:300]
    yield {
        "dtype": config.dtype,
        "size": config.size,
        "rms": weight.float().square().mean().sqrt(),
        "lost": lost,
        "unchanged": unchanged,
        "sizes": sizes,
        "lost_at": [a for a, _ in each],
        "unchanged_at": [b for _, b in each],
        "asked": [float(f"{v:.3g}") for v in asked.tolist()],
        "got": [float(f"{v:.3g}") for v in got.tolist()],
    }


def _merged(weight: Tensor, update: Tensor) -> tuple[float, float]:
    """Return the relative error of the merged update, and the share of weight entries that do not change, both in percent."""
    merged = (weight.float() + update).to(weight.dtype)
    error = (merged.float() - weight.float() - update).norm() / update.norm()
    return float(100 * error), float(100 * (merged == weight).float().mean())
