"""What an adapter costs on one layer, against the layer's size: time to begin, time of a step, numbers kept for the gradient."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor, nn

from workbench.adapters.attach import KINDS
from workbench.adapters.config import FAMILY, METHODS, AdapterConfig
from workbench.adapters.lab.colours import COLOURS, MARKERS, NAMES
from workbench.adapters.lab.looking import keeping
from workbench.adapters.lab.study_figures import log_ticks, named
from workbench.comparison import ComparisonConfig, Point, comparison, fit
from workbench.experiment import Record
from workbench.intervals import marks, summary
from workbench.knobs import Config, knob
from workbench.plotting import figure, series
from workbench.runs import Run
from workbench.training import drawn


class SizeConfig(Config):
    """One method on one layer of as many inputs as outputs."""

    title: ClassVar[str] = "layer"
    method: Literal[METHODS] = knob("miss", "method", "as in training")
    r: int = knob(
        16, "rank r", "of MiSS, Bat, LoRA-FA; LoRA's kind has half of it, for as many numbers", low=2, high=512, log=True
    )
    width: int = knob(1024, "width", "inputs, and outputs", low=16, high=8192, log=True)
    tokens: int = knob(256, "tokens", "of a batch", low=1, high=8192, log=True)
    repeats: int = knob(12, "repeats", "of the step; the median counts", low=1, high=1000, log=True)
    seed: int = knob(0, "seed", "of the weight and the inputs", low=0, high=10**6)


@fit("adapters/layer", version=3, score="step_ratio", higher=False)
def on_layer(config: SizeConfig, run: Run) -> Record:
    """Put one adapter on a layer; forward and backward, turn by turn with the frozen layer alone; CPU time of one thread."""
    with drawn(config.seed):
        base = nn.Linear(config.width, config.width, bias=False).requires_grad_(False)
        x = torch.randn(config.tokens, config.width).requires_grad_()  # layers below may be adapted, too
        wished = torch.randn(config.tokens, config.width)
    halved = config.method not in (*FAMILY, "full", "lora-fa")
    given = AdapterConfig(method=config.method, r=max(config.r // 2, 1) if halved else config.r, seed=config.seed)
    begun = time.process_time()
    gradient = _gradient(base, x, wished) if config.method == "lora-ga" else None
    update = KINDS[config.method](given, base, torch.Generator().manual_seed(config.seed), gradient)
    started = time.process_time() - begun
    kept = keeping(lambda: update(x, base), (*base.parameters(), *update.parameters(), *update.buffers()))
    frozen, adapted = _interleaved(config.repeats, lambda: base(x).backward(wished), lambda: update(x, base).backward(wished))
    return {
        "init_seconds": started,
        "frozen_seconds": frozen,
        "step_ratio": adapted / frozen,
        "kept": kept / 2**20,
        "parameters": sum(p.numel() for p in update.parameters() if p.requires_grad),
    }


def _gradient(base: nn.Linear, x: Tensor, wished: Tensor) -> Tensor:
    """The gradient that LoRA-GA begins from, of the squared distance to `wished`."""
    weight = base.weight.detach().clone().requires_grad_()
    loss = (nn.functional.linear(x.detach(), weight) - wished).square().mean()
    return torch.autograd.grad(loss, weight)[0]


def _interleaved(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """The median CPU time of each, in seconds, turn by turn; the first turn does not count."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, into in zip(runs, times, strict=True):
            begun = time.process_time()
            run()
            if turn:
                into.append(time.process_time() - begun)
    return [statistics.median(each) for each in times]


PANELS = {"init_seconds": "CPU seconds to begin", "step_ratio": "step / frozen layer's", "kept": "kept, MiB"}


def draw_sizes(records: Sequence[Record]) -> Figure:
    """The three costs against the width."""
    with figure() as fig:
        for axes, (column, name) in zip(fig.subplots(1, 3), PANELS.items(), strict=True):
            series(axes, summary(records, column, "width"), "width", COLOURS, markers=MARKERS)
            widths = sorted({r["width"] for r in records})
            axes.set(xscale="log", xlabel="width", title=name)
            axes.set_yscale("linear" if column == "step_ratio" else "log")
            axes.set_xticks(widths, labels=[str(w) for w in widths])
            axes.xaxis.set_minor_locator(NullLocator())
            if column != "step_ratio":
                log_ticks(axes.yaxis)
        labels = list(dict.fromkeys(r["label"] for r in records))
        note = (
            "forward and backward of one layer in float32, one thread, as many numbers trained; kept: for the gradient; "
            + marks(records)
        )
        return named(fig, _finding(records), note, labels)


def _finding(records: Sequence[Record]) -> str:
    """What stands out at the largest width."""
    widest = max(r["width"] for r in records)
    means = summary([r for r in records if r["width"] == widest], "step_ratio").set_index("label")["mean"]
    said = [f"{NAMES[label]} {means[label]:.2f}" for label in ("miss", "lora", "bat-row", "bat-col") if label in means]
    return f"At width {widest:,} a step takes this much of the frozen layer's: {', '.join(said)}"


class SizesConfig(ComparisonConfig, SizeConfig):
    """Widths and methods."""

    title: ClassVar[str] = "sizes"
    widths: tuple[int, ...] = knob((128, 256, 512, 1024, 2048), "widths", "of the layer", low=16, high=8192, essential=True)
    methods: tuple[str, ...] = knob(
        ("lora", "dora", "pissa", "olora", "lora-ga", "lora-fa", "hira", "miss", "bat-row", "bat-col"),
        "methods",
        "compared",
        free=True,
    )


SMALL: dict[str, Any] = {
    "seeds": 2,
    "widths": (32, 64, 128),
    "tokens": 32,
    "repeats": 2,
    "methods": ("lora", "pissa", "miss", "bat-row", "bat-col"),
}


@comparison(
    "adapters/sizes",
    version=2,
    fit=on_layer,
    figure=draw_sizes,
    presets={"smoke": SMALL, "laptop": {}, "paper": "one layer, whatever its size, is of no paper's scale"},
    swept=("method", "width", "choosing"),
    paper="Figure 2 (time to begin) and Table 8 (memory), on one layer",
)
def sizes(config: SizesConfig) -> Iterator[Point]:
    """Ten methods on one layer, from 128 to 2,048 wide: time to begin, time of a step, what is kept for the gradient."""
    for method in config.methods:
        for width in config.widths:
            yield Point(method, {"width": width}, {"method": method, "width": width})
