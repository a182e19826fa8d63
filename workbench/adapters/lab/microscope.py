"""The experiment adapters/microscope, which analyses an adapter layer by layer. The adapter is trained or loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import model_validator
from torch import Tensor

from workbench import datasets, models, phases
from workbench.adapters.attach import adapted
from workbench.adapters.convert import factors_of
from workbench.adapters.files import CONFIG, TENSORS, load_adapter
from workbench.adapters.folder import OURS, PICKLE
from workbench.adapters.lab.colours import NAMES
from workbench.adapters.lab.experiments import PRESETS, TrainConfig, named, trained_adapter, warm_up
from workbench.adapters.lab.figures import layer_map
from workbench.adapters.lab.looking import short
from workbench.adapters.lab.tuning import inputs
from workbench.adapters.layer import Adapted
from workbench.checksums import sha256
from workbench.experiment import Record, experiment
from workbench.knobs import knob
from workbench.live import Pins, heading, live, part
from workbench.runs import Run

EXAMPLE = "data/examples/adapter"
STRONGEST = 32  # number of leading singular directions of W onto which the update is projected


class MicroscopeConfig(TrainConfig):
    """The knobs of `microscope`: the adapter that is analysed."""

    title: ClassVar[str] = "microscope"
    folder: str = knob(
        "", "adapter folder", "Path of a folder with an adapter for this model: adapter_config.json and "
        "adapter_model.safetensors, as written by PEFT or save_adapter. If it is empty, the adapter is trained with the knobs of "
        f"this panel. Example, for tiny-llama: {EXAMPLE}", free=True, essential=True,
    )  # fmt: skip
    presets = PRESETS

    @property
    def place(self) -> Path:
        """The adapter folder. A relative path is searched for in the current folder first, then in the project."""
        return datasets.own_path(self.folder)

    @model_validator(mode="after")
    def _folder_holds_an_adapter(self) -> Self:
        if self.folder and not os.path.isfile(self.place / CONFIG):
            there = os.path.isdir(self.place)
            wrong = f"there is no {CONFIG} in it" if there else f"there is no such folder{datasets.searched(self.folder)}"
            raise ValueError(
                f"folder={self.folder!r}: {wrong}; expected a folder with {CONFIG} and {TENSORS}, such as {EXAMPLE}. Correct the "
                "path, or leave it empty to train an adapter"
            )
        return self

    def idle(self) -> dict[str, str]:
        """Return the knobs that have no effect, each with the reason.

        If an adapter folder is given, these are all the knobs that concern the training of an adapter.
        """
        if not self.folder:
            return super().idle()
        return {
            name: "the adapter is loaded, not trained" for name in type(self).knobs() if name not in ("folder", "model", "dtype")
        }


def _inputs(config: MicroscopeConfig) -> list[str]:
    if not config.folder:
        return inputs(config)
    files = (config.place / name for name in (CONFIG, TENSORS, PICKLE, OURS))
    return [models.ref(config.model), *(f"{file.name}@{sha256(file)[:16]}" for file in files if file.exists())]


@torch.no_grad()
def examine(layer: Adapted) -> Record:
    """Analyse the update of one layer with the weight W.

    Returns a record with

    - `norm`: the Frobenius norm of the update, and `share`: this norm in percent of the norm of W;
    - `rank`: the effective rank, which is the exponential of the entropy of the normalised squared singular values;
    - `rank90` and `rank99`: the smallest ranks of an approximation that keeps 90 and 99 percent of the squared norm;
    - `new`: the percentage of the squared norm that is outside the `STRONGEST` leading singular directions of W;
    - `along`: the share of the squared norm inside these directions, divided by the same share of a random update;
    - `lost`: the relative error of a merge in bfloat16, in percent;
    - `unchanged`: the percentage of the entries of W that this merge does not change.
    """
    update = layer.adapters[layer.active[0]]
    weight = layer.own[0].float()
    delta = update.delta(weight)
    squares = _squares(update, layer, delta)
    whole = float(squares.sum())
    if not whole:
        return {
            "norm": 0.0,
            "share": 0.0,
            "rank": 0.0,
            "rank90": 0,
            "rank99": 0,
            "new": 0.0,
            "along": 0.0,
            "lost": 0.0,
            "unchanged": 100.0,
        }
    held = squares.cumsum(0) / whole
    p = squares[squares > 0] / whole
    inside, rank = _inside(weight, delta) / whole, min(STRONGEST, *weight.shape)
    merged, plain = (weight + delta).bfloat16(), weight.bfloat16()
    return {
        "norm": whole**0.5,
        "share": 100 * whole**0.5 / weight.norm(),
        "rank": (-(p * p.log()).sum()).exp(),
        "rank90": int((held < 0.90).sum()) + 1,
        "rank99": int((held < 0.99).sum()) + 1,
        "new": 100 * (1 - inside),
        "along": inside * weight.numel() / rank**2,
        "lost": 100 * ((merged.float() - plain.float()) - delta).norm() / whole**0.5,
        "unchanged": 100 * (merged == plain).float().mean(),
    }


def _squares(update: Any, layer: Adapted, delta: Tensor) -> Tensor:
    """Return the squared singular values of the update in descending order.

    If the update is a product of two factors, the values are computed from a small matrix with the same singular values.
    Otherwise, they are the eigenvalues of the Gram matrix of the update.
    """
    parts = factors_of(update, layer.in_features, layer.out_features)
    if parts is not None:
        A, B = (part.double() for part in parts)
        core = torch.linalg.qr(B).R @ torch.linalg.qr(A.T).R.T
        return torch.linalg.svdvals(core).square()
    wide = delta if delta.shape[0] <= delta.shape[1] else delta.T
    return torch.linalg.eigvalsh(wide @ wide.T).flip(0).clamp_min(0).double()


def _inside(weight: Tensor, delta: Tensor) -> float:
    """Return ``||U' Delta V||^2``. U and V are leading singular vectors of W, found by two steps of subspace iteration."""
    rank = min(STRONGEST, *weight.shape)
    V = torch.linalg.qr(weight.T @ torch.randn(weight.shape[0], rank, generator=torch.Generator().manual_seed(0))).Q
    for _ in range(2):
        U = torch.linalg.qr(weight @ V).Q
        V = torch.linalg.qr(weight.T @ U).Q
    return float((U.T @ delta @ V).square().sum())


@live
def draw_microscope(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw six maps with a cell for each layer: norm, share in the leading directions of W, rounding error, and three ranks."""
    last = records[-1]
    ranks = [r["rank99"] for r in records]
    heading(
        fig,
        f"{len(records)} of {last['of']} layers: a rank of {between(ranks)} keeps 99 % of the update",
        f"{NAMES[last['method']]}, {last['trained']:,} parameters, on {last['model']}; "
        f"W's strongest: {STRONGEST} leading singular directions (1: as a random update)",
    )
    modules = list(dict.fromkeys(r["module"] for r in records))
    blocks = 1 + max(r["block"] for r in records)
    for place, (name, title) in enumerate(MAPS.items()):
        found = {(r["module"], r["block"]): r[name] for r in records}
        rows = [[found.get((module, block), np.nan) for block in range(blocks)] for module in modules]
        column, row = place % 3, place // 3
        axes = part(fig, name, 54 + 208 * column, 66 + 184 * row, 186, 126, gap=40)
        layer_map(axes, modules, rows, title)
        axes.tick_params(labelleft=column == 0)


MAPS = {
    "share": "Moved, % of W",
    "along": "In W's strongest",
    "lost": "Rounded off, %",
    "rank": "Effective rank",
    "rank90": "Rank for 90 %",
    "rank99": "Rank for 99 %",
}


def tell_microscope(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """Report two ranges over the layers: the relative norm of the update, and the rounding error of a merge."""
    shares, lost = [r["share"] for r in records], [r["lost"] for r in records]
    deepest = max(records, key=lambda r: r["share"])
    return (
        f"In each layer, the norm of the update is {between(shares)} % of the norm of the weight (largest in block "
        f"{deepest['block']}, {deepest['module'].rpartition('.')[2]}). A merge into bfloat16 has a rounding error of "
        f"{between(lost)} % of the update."
    )


def between(values: Sequence[float]) -> str:
    """Return the range of some numbers as text, with two significant digits; a single number if both ends are equal."""
    low, high = (f"{end:.2g}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


@experiment(
    "adapters/microscope", version=3, inputs=_inputs, figure=draw_microscope, story=tell_microscope, prepare=warm_up, threads=2
)
def microscope(config: MicroscopeConfig, run: Run) -> Iterator[Record]:
    """Analyse the update of each layer: its norm, its ranks, its overlap with W, and its rounding error in a bfloat16 merge."""
    folder = config.place if config.folder else trained_adapter(config)
    lm = models.shallow_copy(models.shared(config.model, getattr(torch, config.dtype)))
    phases.say("reading the adapter")
    model = load_adapter(lm.model, folder)
    layers = adapted(model)
    about = {
        "of": len(layers),
        "method": model.adapter_configs["default"].method,
        "model": named(config.model),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    for path, layer in layers.items():
        block, _, module = short(path).partition(" ")
        yield {"block": int(block) if block.isdigit() else 0, "module": module or block, **about, **examine(layer)}
