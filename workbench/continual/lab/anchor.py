"""An outside anchor: twenty permuted tasks, CLASSP against Adam at one rate for both, as an independent study ran them.

ha0wan9/NMA-NeuroAI-Online-Learning-Project: MNIST, the identity and 19 ``torch.randperm`` of a generator with seed 0; pixels
divided by 255; 784-256-256-10, batch 500, one pass; half the squared error, summed over batch and classes; lr 3e-4 for both,
p = 2, threshold and eps 1e-5, decay on. Five seeds: CLASSP minus Adam is -15.3 points of final accuracy (deviation 2.8), -29.8
online (0.6).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from matplotlib.figure import Figure

from workbench import datasets
from workbench.comparison import ComparisonConfig, Point, candidates, comparison, fit
from workbench.continual.lab.colours import ACCURACY, COLOURS, NAMES, NOTE, ONLINE
from workbench.continual.lab.fits import record_of
from workbench.continual.learner import Learner
from workbench.continual.streams import Reordered, Stream, Task, some
from workbench.digits import load_digits
from workbench.experiment import Record
from workbench.inks import INK, text
from workbench.knobs import Config, knob, vary
from workbench.measures import sentence
from workbench.plotting import figure, finish, point
from workbench.runs import Run

REPORTED = {"ACC": (-15.3, 2.8), "online": (-29.8, 0.6)}  # CLASSP minus Adam, points, and the deviation over five seeds
SHARED = 3e-4
RATE_NAMES = {"shared": "lr 3e-4", "own": "own rate"}


class AnchorConfig(Config):
    """Permuted pictures, one of two methods."""

    title = "anchor"
    data: Literal["mnist", "mnist-10k"] = knob("mnist", "pictures", "all 70,000, or the bundled 10,000", essential=True)
    tasks: int = knob(20, "tasks", "orders of the pixels", low=2, high=50, essential=True)
    method: Literal["classp", "adam"] = knob("classp", "method", "which learns")
    lr: float = knob(SHARED, "learning rate", "of either", low=1e-5, high=1.0, log=True)
    whole: bool = knob(True, "all to train on", "or a sixth set aside, by which a rate is chosen")
    tested: int = knob(2000, "tested on", "test samples a task", low=100, high=10_000, log=True)
    seed: int = knob(0, "seed", "first weights and order of the samples", low=0, high=10**6)


def permuted(config: AnchorConfig) -> Stream:
    """The stream, whose pictures are put into order as they are looked at: together they would take gigabytes."""
    digits, generator = load_digits(config.data), torch.Generator().manual_seed(0)
    pixels = digits.x.shape[1]
    x, y = digits.x, digits.labels
    if config.whole:
        x, y = torch.cat([x, digits.x_validation]), torch.cat([y, digits.labels_validation])
    kept = some(torch.arange(len(digits.x_test)), config.tested, 0)
    checked = slice(None, config.tested)
    tasks = []
    for number in range(config.tasks):
        order = torch.randperm(pixels, generator=generator) if number else torch.arange(pixels)
        parts = [
            (x, y),
            (digits.x_validation[checked], digits.labels_validation[checked]),
            (digits.x_test[kept], digits.labels_test[kept]),
        ]
        flat = [part for pictures, labels in parts for part in (Reordered(pictures, order), labels)]
        tasks.append(Task(f"order {number}", *flat, torch.arange(10)))
    return Stream(f"permuted-{config.data}", tuple(tasks), 10)


@fit("continual/permuted", version=1, inputs=lambda c: [datasets.ref(c.data)])
def on_permuted(config: AnchorConfig, run: Run) -> Record:
    """One method on the permuted stream, in the study's own setting but for its rate."""
    learner = Learner(
        permuted(config), config.method, lr=config.lr, hidden=(256, 256), batch=500, loss="summed squares", power=2.0,
        threshold=1e-5, eps=1e-5, seed=config.seed, watch=0,
    )  # fmt: skip
    return record_of(learner)


RATES = {"classp": (0.001, 0.003, 0.01, 0.03, 0.1), "adam": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)}


class AnchorStudyConfig(ComparisonConfig, AnchorConfig):
    """The study's rate for both, and each one's own."""

    choosing: int = vary(ComparisonConfig.model_fields["choosing"], 1)
    few: bool = knob(False, "two rates only", "of each, to choose from")


def draw_anchor(records: Sequence[Record]) -> Figure:
    """Final and online accuracy of both, at the study's rate and at their own; hollow: what the study reports of CLASSP."""
    kinds = list(dict.fromkeys((r["rates"], r["label"]) for r in records))
    with figure() as fig:
        grid = fig.subplots(1, 2, sharey=True)
        for axes, measure, name in zip(grid, (ACCURACY, ONLINE), ("in the end", "online"), strict=True):
            table = measure.table(records, "rates")
            for _, row in table.iterrows():
                point(axes, kinds.index((row["rates"], row["label"])), row, COLOURS[row["label"]], across=True)
            adam = table[(table["rates"] == "shared") & (table["label"] == "adam")]
            if len(adam) and ("shared", "classp") in kinds:
                place = kinds.index(("shared", "classp"))
                at = adam["mean"].iloc[0] + REPORTED[measure.column][0]
                axes.plot(at, place, "o", color=COLOURS["classp"], markerfacecolor="none", markersize=9)
                style = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5, "color": INK}
                axes.annotate("reported", (at, place), xytext=(0, 9), **style)
            axes.set(title=name, xlabel="accuracy (%)", ylim=(len(kinds) - 0.5, -0.5))
        names = [f"{NAMES[label]}, {RATE_NAMES[rates]}" for rates, label in kinds]
        grid[0].set_yticks(range(len(kinds)), labels=names)
        for tick, (_, label) in zip(grid[0].get_yticklabels(), kinds, strict=True):
            tick.set_color(text(COLOURS[label]))
        found = [
            (ACCURACY.lead(records, "classp", "adam", rates=rates), words)
            for rates, words in (("shared", "at lr 3e-4"), ("own", "each at its own rate"))
        ]
        title = sentence("CLASSP minus Adam in the end, points: ", found, "An outside anchor", "{} {}")
        note = f"digits, their pixels in an order of each task's own. {NOTE.of(records)}; "
        return finish(fig, title, note + "hollow: Adam's mean here, and the difference that the study reports")


@comparison(
    "continual/anchor",
    version=1,
    fit=on_permuted,
    figure=draw_anchor,
    presets={
        "smoke": {"data": "mnist-10k", "tasks": 3, "tested": 500, "seeds": 2, "few": True},
        "laptop": {},
        "paper": "the study's own size is scale laptop",
    },
    swept=("method", "lr", "whole"),
    paper="not in the paper: the only CLASSP numbers of others within reach",
)
def anchor(config: AnchorStudyConfig) -> Iterator[Point]:
    """Twenty permuted tasks: CLASSP and Adam at one rate, as an independent study ran them, and each at its own."""
    for method, rates in RATES.items():
        yield Point(method, {"rates": "shared"}, {"method": method, "lr": SHARED}, why="the study's rate")
        settings = candidates(lr=rates[1:4:2] if config.few else rates)
        yield Point(method, {"rates": "own"}, {"method": method, "whole": False}, settings)
