"""A repetition of an independent study, which compares CLASSP and Adam at the same learning rate on twenty tasks.

The study is the GitHub repository ha0wan9/NMA-NeuroAI-Online-Learning-Project. It uses MNIST with pixels divided by 255. Each
task has its own order of the pixels: the first task has the original order, and ``torch.randperm`` draws the other orders with a
generator of seed 0. The network is a perceptron with layers of 784, 256, 256 and 10 units. Each task is trained for one pass in
batches of 500. The loss is half the squared error, summed over the batch and the classes. The learning rate of CLASSP and of Adam
is 3e-4. CLASSP has p = 2, threshold 1e-5, eps 1e-5, and decay on. The study reports the accuracy of CLASSP minus that of Adam
over five seeds. The final accuracy differs by -15.3 percentage points (standard deviation 2.8), and the online accuracy, which is
measured on each batch before it is learnt, by -29.8 percentage points (standard deviation 0.6). This module also compares CLASSP
and Adam at the best learning rate of each.
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

REPORTED = {"ACC": (-15.3, 2.8), "online": (-29.8, 0.6)}  # CLASSP minus Adam: mean and standard deviation, % points
SHARED = 3e-4
RATE_NAMES = {"shared": "lr 3e-4", "own": "best lr"}


class AnchorConfig(Config):
    """The knobs of one fit on the stream of permuted tasks."""

    title = "anchor"
    data: Literal["mnist", "mnist-10k"] = knob(
        "mnist",
        "images",
        "mnist: all 70,000 images of MNIST. mnist-10k: the first 10,000 images, which are bundled.",
        essential=True,
    )
    tasks: int = knob(
        20, "tasks", "Number of tasks. Each task has its own fixed order of the pixels.", low=2, high=50, essential=True
    )
    method: Literal["classp", "adam"] = knob("classp", "method", "The optimizer that trains the network.")
    lr: float = knob(
        SHARED, "learning rate", "Learning rate of the chosen method (alpha of CLASSP). A larger rate changes the weights more.",
        low=1e-5, high=1.0, log=True,
    )  # fmt: skip
    whole: bool = knob(
        True,
        "train on all data",
        "Train on all training samples. If off, the validation samples are left out. They serve to choose the learning rate.",
    )
    tested: int = knob(
        2000,
        "test samples",
        "Largest number of test samples per task. With more samples, the measured accuracy is more precise, but tests take "
        "longer.",
        low=100, high=10_000, log=True,
    )  # fmt: skip
    seed: int = knob(0, "seed", "Random seed of the initial weights and of the order of the samples.", low=0, high=10**6)


def permuted(config: AnchorConfig) -> Stream:
    """Return the stream of permuted tasks, each of which has its own order of the pixels.

    The pixels are reordered only when a batch is read, since reordered copies of all images would take gigabytes.
    """
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
    """Train one method on the stream of permuted tasks. All hyperparameters except the learning rate are those of the study."""
    learner = Learner(
        permuted(config), config.method, lr=config.lr, hidden=(256, 256), batch=500, loss="summed squares", power=2.0,
        threshold=1e-5, eps=1e-5, seed=config.seed, watch=0,
    )  # fmt: skip
    return record_of(learner)


RATES = {"classp": (0.001, 0.003, 0.01, 0.03, 0.1), "adam": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)}


class AnchorStudyConfig(ComparisonConfig, AnchorConfig):
    """The knobs of the comparison of CLASSP and Adam, at the learning rate of the study and at the best rate of each method."""

    choosing: int = vary(ComparisonConfig.model_fields["choosing"], 1)
    few: bool = knob(False, "only two rates", "Choose between two learning rates of each method instead of five. This is faster.")


def draw_anchor(records: Sequence[Record]) -> Figure:
    """Draw the accuracy of CLASSP and Adam, at the learning rate of the study and at the best rate of each method.

    One panel shows the final accuracy, the other the online accuracy. A hollow mark shows the accuracy of CLASSP that follows
    from the study: the mean of Adam in these records, plus the difference CLASSP minus Adam that the study reports.
    """
    kinds = list(dict.fromkeys((r["rates"], r["label"]) for r in records))
    with figure() as fig:
        grid = fig.subplots(1, 2, sharey=True)
        for axes, measure, name in zip(grid, (ACCURACY, ONLINE), ("after the last task", "online, before learning"), strict=True):
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
            for rates, words in (("shared", "at lr 3e-4"), ("own", "each at its best lr"))
        ]
        title = sentence("Final accuracy, CLASSP minus Adam in points: ", found, "Comparison with an independent study", "{} {}")
        note = f"MNIST, each task with its own order of the pixels; {NOTE.of(records)}; "
        return finish(fig, title, note + "hollow: mean of Adam in this figure, plus the difference that the study reports")


@comparison(
    "continual/anchor",
    version=1,
    fit=on_permuted,
    figure=draw_anchor,
    presets={
        "smoke": {"data": "mnist-10k", "tasks": 3, "tested": 500, "seeds": 2, "few": True},
        "laptop": {},
        "paper": "use the scale laptop: it is already as large as the independent study",
    },
    swept=("method", "lr", "whole"),
    paper="none (this repeats an independent study of CLASSP, whose results are public)",
)
def anchor(config: AnchorStudyConfig) -> Iterator[Point]:
    """Compare CLASSP and Adam on twenty permuted tasks, at the rate of an independent study and at each method's best rate."""
    for method, rates in RATES.items():
        yield Point(method, {"rates": "shared"}, {"method": method, "lr": SHARED}, why="the study fixes the rate")
        settings = candidates(lr=rates[1:4:2] if config.few else rates)
        yield Point(method, {"rates": "own"}, {"method": method, "whole": False}, settings)
