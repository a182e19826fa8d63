"""One layer at a time, redrawn at each move of a slider: the update of each method, what it costs, its first step, its merge."""

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
from workbench.adapters.lab.controls import Orthogonal
from workbench.adapters.lab.looking import shades, singular_values
from workbench.experiment import Record, experiment
from workbench.knobs import Config, knob

NO_PAPER = "one layer of the bundled model shows all of it"
PRESETS: dict[str, Any] = {"smoke": {}, "laptop": {}, "paper": NO_PAPER}
LAYER = "model.layers.1.mlp.up_proj"  # of tiny-llama: 384 outputs, 128 inputs
ROWS, COLUMNS = 48, 64  # of it that are used where the whole is drawn


@lru_cache(maxsize=1)
def layer_weight() -> Tensor:
    """A layer's weight ``(384, 128)``."""
    return models.shared(models.TINY).model.get_submodule(LAYER).weight.detach().clone()


def a_layer(rows: int, columns: int) -> nn.Linear:
    """The upper left corner of that layer."""
    layer = nn.Linear(columns, rows, bias=False)
    layer.weight.data = layer_weight()[:rows, :columns].clone()
    return layer.requires_grad_(False)


class Rounded(nn.Module):
    """A layer of 4-bit codes, a scale a row: it has no weight, only a forward."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.scale = weight.detach().abs().amax(1, keepdim=True) / 7
        self.codes = (weight.detach() / self.scale).round().to(torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Output ``(..., out)``."""
        return x @ (self.codes * self.scale).T.to(x.dtype)


def an_update(config: AdapterConfig, base: nn.Linear, size: float, kind: type[Adapter] | None = None, seed: int = 0) -> Adapter:
    """An adapter on this layer, whose trained numbers are moved by noise of this size."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(base.weight.shape, generator=generator)
    update = (kind or KINDS[config.method])(config, base, generator, gradient)
    with torch.no_grad():
        for p in (p for p in update.parameters() if p.requires_grad):
            p.add_(size * torch.randn(p.shape, generator=generator))
    return update


class ShardsConfig(Config):
    """The update of one method on a small layer."""

    method: Literal["lora", "lora: A tiled", "lora: A orthogonal", "miss", "mini", "bat-row", "bat-col"] = knob(
        "lora", "method", "LoRA with three kinds of A, and Bone's family", essential=True
    )
    r: Literal[2, 4, 8, 16] = knob(8, "rank r", "or side of a block", essential=True)
    q: Literal[4, 8, 16, 24, 48] = knob(
        16, "width q", "of mini", essential=True, when=(lambda c: c.method == "mini", "only mini has it")
    )
    seed: int = knob(0, "seed", "of what was learnt: noise here", low=0, high=100, essential=True)
    presets = PRESETS


@experiment(
    "adapters/shards", version=1, figure=figures.draw_shards, story=stories.tell_shards, instant=True, questions=stories.SHARDS
)
def shards(config: ShardsConfig, run: Any) -> Iterator[Record]:
    """From LoRA to MiSS by choosing A, and on to Bat: the update as a matrix, its blocks, its singular values, its numbers."""
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
    """What an update costs beside the frozen layer."""

    tokens: int = knob(256, "tokens", "of a batch", low=1, high=8192, log=True, essential=True)
    columns: int = knob(1024, "inputs", "of the layer", low=64, high=8192, log=True, essential=True)
    rows: int = knob(1024, "outputs", "of the layer", low=64, high=8192, log=True, essential=True)
    r: int = knob(
        64, "rank r", "of MiSS and Bat; LoRA has half of it, for as many numbers", low=2, high=512, log=True, essential=True
    )
    presets = PRESETS


@experiment("adapters/cost", version=3, figure=figures.draw_cost, story=stories.tell_cost, instant=True)
def cost(config: CostConfig, run: Any) -> Iterator[Record]:
    """Multiply-adds of a forward pass and numbers kept for the gradient, for each form: which side you multiply decides."""
    T, I, O, r = config.tokens, config.columns, config.rows, config.r  # noqa: E741
    half = max(r // 2, 1)
    forms = {  # extra multiply-adds, numbers kept beside the layer's own parameters
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
    """One step of AdamW."""

    width: Literal[32, 64, 128] = knob(128, "inputs", "of the layer", essential=True)
    r: Literal[2, 4, 8, 16, 32] = knob(8, "rank r", "of all methods", essential=True)
    alpha: float = knob(16.0, "alpha", "of LoRA's kind: its scale is alpha / r", low=1.0, high=256.0, log=True, essential=True)
    seed: int = knob(0, "seed", "of the inputs and A", low=0, high=100)
    presets = PRESETS


@experiment("adapters/step", version=1, figure=figures.draw_step, story=stories.tell_step, instant=True)
def step(config: StepConfig, run: Any) -> Iterator[Record]:
    """How far one step of AdamW moves a weight, and how large its first gradient is, for each method at one rate."""
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
    """An update merged into a weight of few bits."""

    size: float = knob(
        -3.0,
        "update, 10^x",
        "root mean square of its entries; the weight's is about 0.1",
        low=-6.0,
        high=-1.0,
        step=0.1,
        essential=True,
    )
    dtype: Literal["bfloat16", "float16", "float32"] = knob(
        "bfloat16", "dtype", "of the weight that is merged into", essential=True
    )
    presets = PRESETS


@experiment("adapters/merge", version=1, figure=figures.draw_merge, story=stories.tell_merge, instant=True)
def merge(config: MergeConfig, run: Any) -> Iterator[Record]:
    """What is left of an update when it is merged into a weight of few bits: every method alike."""
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
    """Relative error of the merged update, and share of entries that stay as they were, both in percent."""
    merged = (weight.float() + update).to(weight.dtype)
    error = (merged.float() - weight.float() - update).norm() / update.norm()
    return float(100 * error), float(100 * (merged == weight).float().mean())
