"""Figures that compare methods, drawn from the records of the comparisons in the module `studies`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.continual.lab.colours import ACCURACY, COLOURS, MOVED, NAMES, NOTE, STREAM_NAMES, STYLE
from workbench.experiment import Record, signed
from workbench.inks import FAINT, GREY, INK, ORANGE, text
from workbench.intervals import ahead, judging_rows
from workbench.measures import Panel, places, rows, sentence
from workbench.plotting import cells, figure, finish, point

ALL_TASKS = ("joint", "cumulative")


def draw_rivals(records: Sequence[Record]) -> Figure:
    """Draw the final accuracy of each method, with one panel per stream.

    The title compares CLASSP with SGD whose rate is cut after each task.
    """
    streams = places(judging_rows(records), "stream")
    with figure() as fig:
        rows(fig, records, [Panel(STREAM_NAMES[s], ACCURACY, {"stream": s}) for s in streams], STYLE)
        leads = [(ACCURACY.lead(records, "classp", "sgd-cut", stream=s), STREAM_NAMES[s]) for s in streams]
        title = sentence("CLASSP minus SGD with rate cuts, in points: ", leads, "Methods on streams")
        return finish(fig, title, f"{NOTE.of(records)}. {is_adagrad(records)}")


def is_adagrad(records: Sequence[Record]) -> str:
    """Return a sentence that names the streams on which the chosen power of CLASSP is 2, as in AdaGrad; "" if there are none."""
    powers = {r["stream"]: r["power"] for r in judging_rows(records) if r["label"] == "classp" and "power" in r}
    same = [STREAM_NAMES[s] for s, power in powers.items() if power == 2]
    said = "With the chosen settings, CLASSP uses AdaGrad's rule (p = 2, threshold 0), with a learning rate chosen for CLASSP, on"
    return f"{said}: {', '.join(same)}" if same else ""


def draw_memory(records: Sequence[Record]) -> Figure:
    """Draw the accuracy of each method against the memory that it needs in addition to the weights and gradients.

    Methods that need no additional memory are shown at the left edge.
    """
    sizes = {r["label"]: r["state_bytes"] / 1024 for r in judging_rows(records) if "state_bytes" in r}
    table = ACCURACY.table(records)
    found = [(sizes[row["label"]], row) for _, row in table.iterrows() if row["label"] in sizes and row["label"] not in ALL_TASKS]
    with figure() as fig:
        axes = fig.subplots()
        none = 0.4 * min((size for size, _ in found if size), default=100.0)
        for size, row in found:
            point(axes, max(size, none), row, COLOURS[row["label"]])
        spread_names(axes, [(max(size, none), row["mean"], row["label"]) for size, row in found])
        most = max((size for size, _ in found), default=1000.0)
        ticks = [tick for tick in (100, 200, 500, 1000, 2000, 5000) if none < tick < 1.5 * most]
        axes.set(xscale="log", xlabel="memory in addition to weights and gradients (KiB)", xlim=(0.8 * none, 2.2 * most))
        axes.set_xticks([none, *ticks], labels=["0", *(f"{tick:,}" for tick in ticks)])
        axes.minorticks_off()
        axes.set_ylabel("accuracy on all tasks (%)")
        title, note = "Accuracy against memory", NOTE.of(records)
        if all(name in sizes for name in ("classp", "ewc-online", "replay")):
            means = table.set_index("label")["mean"]
            ours, online, buffer = (
                f"{sizes[name]:,.0f} KiB ({means[name]:.0f} %)" for name in ("classp", "ewc-online", "replay")
            )
            title = f"Memory (accuracy): CLASSP {ours}, EWC online {online}, replay {buffer}"
            note += f". {STREAM_NAMES[STREAM]}; memory as measured, in float32. As bytes, images would need a quarter of it"
        return finish(fig, title, note)


STREAM = "split-fashion"


def spread_names(axes: Axes, places: Sequence[tuple[float, float, str]]) -> None:
    """Write the name of each method beside its point. A name that would overlap another one is moved up."""
    if not places:
        return
    values = [y for _, y, _ in places]
    gap, last = 0.04 * max(max(values) - min(values), 1.0), {}
    for x, y, label in sorted(places, key=lambda place: place[1]):
        column = round(2 * np.log10(x))
        place = last[column] = max(y, last.get(column, -np.inf) + gap)
        axes.annotate(
            NAMES[label], (x, place), xytext=(6, -3), textcoords="offset points", fontsize=7, color=text(COLOURS[label])
        )


def draw_matrices(records: Sequence[Record]) -> Figure:
    """Draw one heat map per method: the mean accuracy on each task (columns), before training and after each task (rows)."""
    judged = [r for r in judging_rows(records) if "matrix" in r]
    labels = list(dict.fromkeys(r["label"] for r in judged))
    with figure() as fig:
        for axes, label in zip(fig.subplots(1, max(len(labels), 1), sharey=True, squeeze=False)[0], labels, strict=False):
            rows = [r for r in judged if r["label"] == label]
            mean = 100 * np.mean([r["matrix"] for r in rows], axis=0)
            names = [str(k + 1) for k in range(mean.shape[1])]
            shade = GREY if COLOURS[label] == INK else COLOURS[label]  # numbers on black would be unreadable
            cells(axes, pd.DataFrame(mean, index=["–", *names], columns=names), 100.0, shade)
            axes.set(title=NAMES[label], xlabel="on task")
        fig.axes[0].set_ylabel("after task")
        forgot = {label: 100 * np.mean([r["F"] for r in judged if r["label"] == label]) for label in labels}
        words = "; ".join(f"{NAMES[label]}: {value:.1f}" for label, value in forgot.items())
        seeds, streams = {r["seed"] for r in judged}, {STREAM_NAMES[r["stream"]] for r in judged}
        note = f"{', '.join(streams)}: test accuracy (%), mean over {len(seeds)} seeds, each method at its chosen setting; "
        note += "the row – shows the accuracy before training"
        return finish(fig, f"Forgetting: best minus final accuracy, in points. {words}" if words else "Accuracy matrices", note)


def draw_retention(records: Sequence[Record]) -> Figure:
    """Draw the accuracy on the old task against the accuracy on the new task, with one panel per stream.

    Each method has a curve with one point for each learning rate on the new task.
    """
    streams = list(dict.fromkeys(r["stream"] for r in records))
    words = []
    with figure() as fig:
        for axes, stream in zip(fig.subplots(1, max(len(streams), 1), squeeze=False)[0], streams, strict=False):
            curves = {label: curve(records, label, stream) for label in dict.fromkeys(r["label"] for r in records)}
            for label, found in curves.items():
                if len(found):
                    axes.plot(found["new"], found["old"], "-o", color=COLOURS[label], markersize=3.5, label=label)
            axes.set(title=STREAM_NAMES[stream], xlabel="accuracy on the new task (%)")
            if gain := ahead(equal_learning(records, "classp", "sgd-cut", stream), 1):
                axes.axvspan(*_both_reach([frontier(curves[label]) for label in ("classp", "sgd-cut")]), color=FAINT, alpha=0.1)
                words.append(f"{gain} ({STREAM_NAMES[stream]})")
        fig.axes[0].set_ylabel("accuracy on the old task (%)")
        labels = dict.fromkeys(r["label"] for r in records)
        said = f"Old-task accuracy at equal new-task accuracy, CLASSP minus SGD with a lower rate, in points: {'; '.join(words)}"
        seeds = {r["seed"] for r in judging_rows(records)}
        note = "Each point is a rate on the new task. SGD, Adam and replay use it on the old task too; others use SGD at 0.1. "
        note += f"Test accuracy, mean over {len(seeds)} seeds. Shaded: range that both CLASSP and SGD with a lower rate reach"
        title = said if words else "Old-task against new-task accuracy: too few rates to compare CLASSP with SGD"
        return finish(fig, title, note, {label: NAMES[label] for label in labels}, COLOURS)


def curve(records: Sequence[Record], label: str, stream: str, seed: int | None = None) -> pd.DataFrame:
    """Return a table of the accuracies (%) of a method on the new and the old task.

    The table has one row per rate, in ascending order of the rate. If `seed` is None, the accuracies are means over the seeds.
    """
    rows = pd.DataFrame([r for r in judging_rows(records) if r["label"] == label and r["stream"] == stream and "old" in r])
    if seed is not None and len(rows):
        rows = rows[rows["seed"] == seed]
    return 100 * rows.groupby("rate")[["new", "old"]].mean() if len(rows) else pd.DataFrame(columns=["new", "old"])


def equal_learning(records: Sequence[Record], one: str, other: str, stream: str) -> pd.Series:
    """Return the old-task accuracy of `one` minus that of `other` at equal new-task accuracy, for each seed.

    The difference is in percentage points. It is averaged over the range of new-task accuracies that both methods reach. Seeds
    without such a range are left out.
    """
    found = {}
    for seed in dict.fromkeys(r["seed"] for r in judging_rows(records)):
        curves = [frontier(curve(records, label, stream, seed)) for label in (one, other)]
        if all(len(c) > 1 for c in curves):
            low, high = _both_reach(curves)
            if low < high:
                x = np.linspace(low, high, 50)
                above = [np.interp(x, c["new"], c["old"]) for c in curves]
                found[seed] = float((above[0] - above[1]).mean())
    return pd.Series(found, dtype=float).rename_axis("seed")


def _both_reach(curves: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Return the lowest and the highest new-task accuracy that all of `curves` reach."""
    return max(c["new"].min() for c in curves), min(c["new"].max() for c in curves)


def frontier(found: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a curve for which no other point has both accuracies at least as high.

    The points are in ascending order of the new-task accuracy.
    """
    kept = [
        p for p in found.itertuples() if not ((found["new"] >= p.new) & (found["old"] >= p.old) & (found.index != p.Index)).any()
    ]
    return pd.DataFrame([(p.new, p.old) for p in kept], columns=["new", "old"]).sort_values("new")


def draw_ablations(records: Sequence[Record]) -> Figure:
    """Draw the accuracy of CLASSP and of variants of it, in each of which one part is changed.

    The last panel shows the share of the weights that a task changes.
    """
    streams = places(records, "stream")
    panels = [Panel(STREAM_NAMES[s], ACCURACY, {"stream": s}) for s in streams]
    panels.append(Panel(STREAM_NAMES[STREAM], MOVED, {"stream": STREAM}))
    with figure() as fig:
        rows(fig, records, panels, None, places(records, "part"), "part", ORANGE, "does not learn")
        words = []
        for label, at, sign in (("decay", "decay off", 1), ("a threshold of 1e-7", "threshold 1e-7", -1)):
            gains = [part_gain(records, at, stream).dropna() for stream in streams]
            if all(len(gain) for gain in gains):
                words.append((f"{label} {', '.join(signed(sign * gain.mean(), 1) for gain in gains)}", ""))
        begins = f"Accuracy gain in points on {' and '.join(STREAM_NAMES[s] for s in streams)}: "
        title = sentence(begins, words, "Ablations of CLASSP", "{}")
        return finish(fig, title, NOTE.of(records))


def part_gain(records: Sequence[Record], without: str, stream: str) -> pd.Series:
    """Return the accuracy of CLASSP (p = 1) minus that of the variant `without`, in percentage points, for each seed."""
    return ACCURACY.gap(records, "CLASSP, p = 1", without, "part", stream=stream)


def draw_map(records: Sequence[Record]) -> Figure:
    """Draw the mean accuracy of CLASSP for each power p and each learning rate alpha. A frame marks the best accuracy."""
    rows = pd.DataFrame([{**r, "ACC": 100 * r["ACC"]} for r in records if "ACC" in r])
    with figure() as fig:
        axes = fig.subplots()
        title = "Accuracy over p and alpha"
        if len(rows):
            table = rows.pivot_table(index="power", columns="rate", values="ACC")
            best = table.stack().idxmax()
            low = table.min().min()
            cells(axes, table.round(1) - low, max(table.max().max() - low, 1.0))
            for label, (y, x) in zip(axes.texts, np.ndindex(*table.shape), strict=True):
                label.set_text(f"{table.iloc[y, x]:.1f}" if np.isfinite(table.iloc[y, x]) else "·")
            place = list(table.columns).index(best[1]) - 0.5, list(table.index).index(best[0]) - 0.5
            axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=INK, linewidth=1.4))
            axes.set(xlabel="alpha, the rate after task 1", ylabel="power p")
            axes.set_xticks(range(table.shape[1]), labels=[f"{rate:g}" for rate in table.columns])
            title = f"Best accuracy: {table.max().max():.1f} % at p = {best[0]:g}, alpha = {best[1]:g}"
        seeds = len({r["seed"] for r in records})
        note = f"test accuracy (%) on all tasks of {STREAM_NAMES[STREAM]}; SGD at 0.1 on task 1; mean over {seeds} seeds"
        return finish(fig, title, note)
