"""The comparison adapters/sizes, which measures the time and the memory of each method on single layers of several widths."""

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
    """The knobs of one fit: one method on one square layer."""

    title: ClassVar[str] = "layer"
    method: Literal[METHODS] = knob("miss", "method", "The method of the adapter, as in adapters/train.")
    r: int = knob(
        16, "rank r",
        "Rank of MiSS, Bat and LoRA-FA. LoRA, its other variants and HiRA get half this rank, so that all methods train about "
        "the same number of parameters.",
        low=2, high=512, log=True,
    )  # fmt: skip
    width: int = knob(1024, "width", "Number of inputs and of outputs of the layer.", low=16, high=8192, log=True)
    tokens: int = knob(256, "tokens", "Number of tokens in a batch.", low=1, high=8192, log=True)
    repeats: int = knob(12, "repeats", "Number of timed steps. The median time is reported.", low=1, high=1000, log=True)
    seed: int = knob(0, "seed", "Seed of the weight, the inputs and the adapter.", low=0, high=10**6)


@fit("adapters/layer", version=3, score="step_ratio", higher=False)
def on_layer(config: SizeConfig, run: Run) -> Record:
    """Measure the CPU time to create an adapter, and the CPU time of a forward and backward pass with it.

    Passes with the adapter alternate with passes of the frozen layer alone, so that both run under the same conditions.
    """
    with drawn(config.seed):
        base = nn.Linear(config.width, config.width, bias=False).requires_grad_(False)
        x = torch.randn(config.tokens, config.width).requires_grad_()  # with a gradient, as if earlier layers had adapters, too
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
    """Return the gradient from which LoRA-GA starts. The loss is the mean squared error between the output and `wished`."""
    weight = base.weight.detach().clone().requires_grad_()
    loss = (nn.functional.linear(x.detach(), weight) - wished).square().mean()
    return torch.autograd.grad(loss, weight)[0]


def _interleaved(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Call all functions in each of `repeats` + 1 rounds, and return the median CPU time of each function in seconds.

    The first round is not counted.
    """
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, into in zip(runs, times, strict=True):
            begun = time.process_time()
            run()
            if turn:
                into.append(time.process_time() - begun)
    return [statistics.median(each) for each in times]


PANELS = {"init_seconds": "start, CPU seconds", "step_ratio": "step / frozen step", "kept": "kept, MiB"}


def draw_sizes(records: Sequence[Record]) -> Figure:
    """Draw three quantities against the width of the layer.

    They are the time to create an adapter, the time of a step relative to the frozen layer, and the memory kept for the backward
    pass.
    """
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
            "one float32 layer, one thread, equal numbers of parameters; start: creation of the adapter; "
            "step: forward and backward pass; kept: memory for the backward pass; " + marks(records)
        )
        return named(fig, _finding(records), note, labels)


def _finding(records: Sequence[Record]) -> str:
    """Return the title, which gives the time of a step at the largest width, relative to that of the frozen layer."""
    widest = max(r["width"] for r in records)
    means = summary([r for r in records if r["width"] == widest], "step_ratio").set_index("label")["mean"]
    said = [f"{NAMES[label]} {means[label]:.2f}" for label in ("miss", "lora", "bat-row", "bat-col") if label in means]
    return f"Time of a step at width {widest:,}, relative to the frozen layer: {', '.join(said)}"


class SizesConfig(ComparisonConfig, SizeConfig):
    """The knobs of the comparison of methods on layers of several widths."""

    title: ClassVar[str] = "sizes"
    widths: tuple[int, ...] = knob(
        (128, 256, 512, 1024, 2048), "widths", "Widths of the layer.", low=16, high=8192, essential=True
    )
    methods: tuple[str, ...] = knob(
        ("lora", "dora", "pissa", "olora", "lora-ga", "lora-fa", "hira", "miss", "bat-row", "bat-col"),
        "methods",
        "The methods that are compared.",
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
    presets={"smoke": SMALL, "laptop": {}, "paper": "the paper does not measure single layers"},
    swept=("method", "width", "choosing"),
    paper="Figure 2 (time to create the adapter) and Table 8 (memory), here on one layer",
)
def sizes(config: SizesConfig) -> Iterator[Point]:
    """Compare methods on layers of several widths: time to create the adapter, time of a step, memory for the backward pass."""
    for method in config.methods:
        for width in config.widths:
            yield Point(method, {"width": width}, {"method": method, "width": width})
