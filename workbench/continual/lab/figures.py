"""Live figures, drawn from records: one method on a stream, and several branches that continue from the end of task 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workbench.continual.lab.colours import COLOURS, branch_name
from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREEN, GREY, HAIR, INK, ORANGE, PINK, RED, SKY, text
from workbench.live import PIN_COLOURS, Pins, heading, live, part, words
from workbench.plotting import BEHIND

TASK_COLOURS = (ORANGE, BLUE, GREEN, PINK, RED, SKY)


def colour_of(task: int) -> str:
    """Return the colour of a task; tasks after the sixth are grey."""
    return TASK_COLOURS[task] if task < len(TASK_COLOURS) else GREY


@live
def draw_train(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw the accuracy on each task over the steps, the accuracy matrix, and the plasticity left in each layer.

    If the method stores no sums of gradients, the online accuracy replaces the plasticity left.
    """
    last = records[-1]
    first = 100 * last["accuracies"][0]
    heading(
        fig,
        f"Accuracy {100 * last['mean']:.1f} % on the tasks begun so far, {first:.1f} % on the first task",
        f"step {last['step']:,} of {last['of']:,}, task {last['task'] + 1} of {len(last['names'])}; test accuracy",
    )
    _accuracies(part(fig, "accuracy", 46, 74, 372, 308), records, pinned)
    _matrix(part(fig, "matrix", 478, 74, 178, 144, gap=26), last)
    if "gauge" in last:
        _gauge(part(fig, "gauge", 512, 282, 144, 100, gap=20), records, pinned)
    else:
        _kept(part(fig, "kept", 478, 282, 178, 100, gap=28), records)


def _accuracies(axes: Axes, records: Sequence[Record], pinned: Pins) -> None:
    last, steps = records[-1], np.array([r["step"] for r in records])
    values = 100 * np.array([r["accuracies"] for r in records], float)
    end = max(steps[-1] * 1.02, 0.1 * last["of"], 1)
    for border in last["borders"][1:]:
        axes.axvline(border, color=HAIR, linewidth=1.2)
    legend = []
    for task in reversed(range(min(last["task"] + 1, values.shape[1]))):
        begun = last["borders"][task] if task < len(last["borders"]) else 0
        seen = steps >= begun
        axes.plot(steps[seen], values[seen, task], color=colour_of(task), linewidth=2.2 if task == 0 else 1.3)
    for task in range(min(last["task"] + 1, len(TASK_COLOURS))):
        legend.append((f"{task + 1}: {last['names'][task][:12]} ", text(colour_of(task))))
    for (_, rows), shade in zip(pinned, PIN_COLOURS, strict=False):
        x = [r["step"] for r in rows]
        axes.plot(x, [100 * r["mean"] for r in rows], ":", color=shade, linewidth=1.6)
    axes.plot(steps, 100 * np.array([r["mean"] for r in records]), "--", color=INK, linewidth=1.2)
    low = max(0.0, min(values[steps > 0].min() if (steps > 0).any() else 0.0, 50.0) - 5)
    axes.set(xlim=(0, end), ylim=(low, 101), xlabel="step", title="Accuracy, %")
    words(axes, [*legend, ("- - mean", text(INK)), *([("  ⋯ pinned", FAINT)] if pinned else [])], line=1)


def _matrix(axes: Axes, last: Record) -> None:
    """Draw the accuracy on each task (columns) after the training on each task (rows)."""
    rows, count = last["matrix"], len(last["names"])
    grid = np.zeros((count, count, 4))
    for i, row in enumerate(rows[:count]):
        for j, value in enumerate(row):
            red, green, blue = (int(ORANGE[k : k + 2], 16) / 255 for k in (1, 3, 5))
            grid[i, j] = (red, green, blue, 0.85 * max(0.0, value) ** 2)
            if count <= 6:
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=8)
    axes.imshow(grid, aspect="auto", interpolation="nearest")
    axes.plot(
        [-0.5, count - 0.5, count - 0.5, -0.5, -0.5], [-0.5, -0.5, count - 0.5, count - 0.5, -0.5], color=HAIR, linewidth=0.8
    )
    axes.set(
        xlim=(-0.5, count - 0.5),
        ylim=(count - 0.5, -0.5),
        xlabel="evaluated on task",
        ylabel="after task",
        title="Accuracy matrix (%)",
    )
    every = 1 if count <= 10 else 5
    ticks = range(0, count, every)
    axes.set_xticks(ticks, labels=[str(k + 1) for k in ticks])
    axes.set_yticks(ticks, labels=[str(k + 1) for k in ticks])
    axes.grid(visible=False)


def _gauge(axes: Axes, records: Sequence[Record], pinned: Pins) -> None:
    """Draw the plasticity left in each layer. At the start, it is 100 %. Vertical marks show the values of the pinned run."""
    gauge = 100 * np.array(records[-1]["gauge"])
    places = np.arange(len(gauge))
    axes.hlines(places, 0, 100, color=HAIR, linewidth=12)
    axes.hlines(places, 0, gauge, color=ORANGE, linewidth=12)
    for _, rows in pinned[:1]:
        if "gauge" in rows[-1] and len(rows[-1]["gauge"]) == len(gauge):
            axes.plot(100 * np.array(rows[-1]["gauge"]), places, "|", color=FAINT, markersize=16)
    for place, value in zip(places, gauge, strict=True):
        axes.text(103, place, f"{value:.0f}", va="center", fontsize=8)
    axes.set(xlim=(0, 118), ylim=(len(gauge) - 0.5, -0.5), xlabel="% of an untrained layer", title="Plasticity left")
    axes.set_yticks(places, labels=[f"layer {k + 1}" for k in places])
    axes.set_xticks((0, 50, 100))
    axes.grid(visible=False)


def _kept(axes: Axes, records: Sequence[Record]) -> None:
    """Draw the online accuracy so far, which is measured on each batch before the batch is learnt."""
    steps, online = [r["step"] for r in records[1:]], [100 * r["online"] for r in records[1:]]
    axes.plot(steps, online, color=GREY)
    axes.set(title="Online accuracy", xlabel="step", ylabel="%", xlim=(0, max(records[-1]["step"], 1)), ylim=(0, 101))


@live
def draw_fork(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the accuracy of each branch on the old tasks, first against its accuracy on the new task, then over the steps."""
    branches: dict[str, list[Record]] = {}
    for record in records:
        branches.setdefault(record["branch"], []).append(record)
    best = max(branches, key=lambda name: branches[name][-1]["old"] + branches[name][-1]["new"])
    last = branches[best][-1]
    said = f"Best mean: {branch_name(best)}, {100 * last['old']:.1f} % on old tasks, {100 * last['new']:.1f} % on the new task"
    if last["step"] == last["border"]:
        said = (
            f"At the boundary: accuracy {100 * last['old']:.1f} % on task 1, {100 * last['new']:.1f} % on task 2 (not learnt yet)"
        )
    heading(
        fig,
        said,
        f"task 1 is learnt once; step {last['step']:,} of {last['of']:,}; test accuracy; grey lines: equal mean accuracy",
    )
    _plane(part(fig, "plane", 46, 62, 340, 320), branches)
    _old(part(fig, "old", 446, 62, 214, 320, gap=30), branches)


def shade(branch: str, among: Sequence[str]) -> tuple[str, str]:
    """Return the colour and the line style of a branch.

    Branches of the same method have the same colour, and different line styles if there are at most four of them.
    """
    method = branch.partition("@")[0]
    before = [name for name in among if name.partition("@")[0] == method].index(branch)
    return COLOURS[method], ("-", "--", ":", "-.")[before % 4]


def _plane(axes: Axes, branches: dict[str, list[Record]]) -> None:
    start = next(iter(branches.values()))[0]
    lowest = min(100 * r["old"] for rows in branches.values() for r in rows)
    highest = max(100 * r["old"] for rows in branches.values() for r in rows)
    left = min(100 * r["new"] for rows in branches.values() for r in rows)
    right = max(100 * r["new"] for rows in branches.values() for r in rows)
    for total in range(20, 200, 20):  # lines of equal mean accuracy
        axes.plot([0, total], [total, 0], color=HAIR, linewidth=0.8)
    for name, rows in branches.items():
        colour, line = shade(name, [*branches])
        axes.plot([100 * r["new"] for r in rows], [100 * r["old"] for r in rows], line, color=colour, linewidth=1.8)
        axes.plot(100 * rows[-1]["new"], 100 * rows[-1]["old"], "o", color=colour, markersize=5.5)
    axes.plot(100 * start["new"], 100 * start["old"], "s", color=INK, markersize=5)
    axes.annotate(
        "boundary", (100 * start["new"], 100 * start["old"]), xytext=(6, 5), textcoords="offset points", fontsize=8, bbox=BEHIND
    )
    axes.set(
        xlim=(max(left - 5, 0), min(max(right + 6, 30), 101)), ylim=(max(lowest - 5, 0), min(highest + 4, 101)),
        xlabel="accuracy on the new task (%)", title="Accuracy on the old tasks (%)",
    )  # fmt: skip
    legend = [
        (f"{'– –' if shade(n, [*branches])[1] != '-' else '–'} {branch_name(n)}", text(shade(n, [*branches])[0]))
        for n in branches
    ]
    for place, (said, colour) in enumerate(legend):
        axes.annotate(
            said, (0.03, 0.03), xycoords="axes fraction", xytext=(0, 11 * (len(legend) - 1 - place)), textcoords="offset points",
            fontsize=8, color=colour, bbox=BEHIND,
        )  # fmt: skip


def _old(axes: Axes, branches: dict[str, list[Record]]) -> None:
    for name, rows in branches.items():
        colour, line = shade(name, [*branches])
        axes.plot([r["step"] for r in rows], [100 * r["old"] for r in rows], line, color=colour, linewidth=1.8)
    first, last = next(iter(branches.values()))[0], next(iter(branches.values()))[-1]
    axes.set(
        xlim=(first["border"], max(last["step"], first["border"] + 1)), xlabel="step", title="Old tasks: accuracy (%)",
        ylim=(0, 101),
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
