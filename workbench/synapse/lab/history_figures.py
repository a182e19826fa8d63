"""Figures of changes over time: learning curves, drift after training, and conductances before and after refresh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.experiment import FEW, Record
from workbench.inks import BLUE, GREEN, ORANGE, PINK, RED
from workbench.intervals import judging_rows, summary
from workbench.plotting import figure, finish, name_ends, series
from workbench.synapse.lab.figures import COLOURS, LABELS, NOTE, SHORT, STYLES
from workbench.synapse.lab.study_figures import note_of_means


def _unrolled(records: Sequence[Record], column: str, times: str) -> list[Record]:
    """Return one row for each point of each curve, but only for seeds that were not used to choose the learning rate.

    In `records`, the columns `times` and `column` hold arrays of equal length. In the new rows, ``x`` is an element of the
    array in `times`, and ``accuracy`` is the corresponding element of the array in `column`, in percent.
    """
    return [
        {**row, "x": x, "accuracy": 100 * y}
        for row in judging_rows(records)
        for x, y in zip(row.get(times, ()), row.get(column, ()), strict=True)
    ]


def draw_learning(records: Sequence[Record]) -> Figure:
    """Draw the learning curve of each series at its best learning rate."""
    rows = _unrolled(records, "accuracies", "samples")
    with figure() as fig:
        axes, title = fig.subplots(), "Learning curves"
        if rows:
            table = summary(rows, "accuracy", "x")
            for label, part in table.groupby("label", sort=False):
                axes.plot(part["x"], part["mean"], STYLES.get(label, "-"), color=COLOURS[label], label=label)
                if (part["n"] >= FEW).all():
                    axes.fill_between(part["x"], part["low"], part["high"], color=COLOURS[label], alpha=0.15, linewidth=0)
            name_ends(axes, SHORT)
            last = table.groupby("label", sort=False)["mean"].last()
            if {"uni", "uni, no refresh"} <= {*last.index}:
                gap = last["uni"] - last["uni, no refresh"]
                title = f"Refresh adds {gap:.1f} points to the final accuracy of unidirectional updating"
        axes.set(xlabel="training samples", ylabel="accuracy (%)")
        finish(fig, title, note_of_means(records))
    return fig


AGES = (BLUE, ORANGE, GREEN, RED, PINK)


def draw_retention(records: Sequence[Record]) -> Figure:
    """Draw accuracy against the time after training, with one panel for each scheme and one line for each kind of drift."""
    rows = [
        {**row, "scheme": row["label"], "label": kind, "x": x, "accuracy": 100 * y}
        for row in judging_rows(records)
        for kind, xs, ys in zip(*(row.get(k, ()) for k in ("kinds", "times", "accuracies")), strict=True)
        for x, y in zip(xs, ys, strict=True)
    ]
    table = summary(rows, "accuracy", "x", "scheme") if rows else pd.DataFrame(columns=["label", "scheme"])
    kinds = list(dict.fromkeys(table["label"]))
    colours = dict(zip(kinds, AGES, strict=False))
    with figure() as fig:
        panels = fig.subplots(1, 2, sharey=True)
        for axes, scheme in zip(panels, ("uni", "push-pull"), strict=True):
            series(axes, table[table["scheme"] == scheme], "x", colours)
            axes.set(title=LABELS[scheme], xlabel="seconds after training", xscale="log")
        panels[0].set_ylabel("accuracy (%)")
        if kinds:
            name_ends(panels[1] if panels[1].lines else panels[0], {kind: kind for kind in kinds})
        title = "Accuracy after training"
        if kinds:
            last = table[table["scheme"] == "uni"].groupby("label", sort=False)["mean"].agg(["first", "last"])
            if len(last):
                lost = (last["first"] - last["last"]).sort_values()
                after = table[table["label"] == lost.index[-1]]["x"].max()
                worst = f"the worst drift ({lost.index[-1]}) costs {lost.iloc[-1]:.0f} points"
                power = f"{np.log10(after):.0f}".translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
                title = f"Unidirectional accuracy 10{power} s after training: {worst}"
        finish(fig, title, NOTE.of(records))
    return fig


def draw_histograms(records: Sequence[Record]) -> Figure:
    """Draw the conductances before and after the last refresh, and the share of saturated devices over time."""
    pairs = {when: [r for r in records if r["when"] == when] for when in ("before", "after")}
    colours = {"before": RED, "after": BLUE}
    with figure() as fig:
        histogram, full = fig.subplots(1, 2)
        for when, rows in pairs.items():
            if rows:
                shares = 100 * np.array(rows[-1]["histogram"])
                edges = np.linspace(0, 1, len(shares) + 1)
                histogram.stairs(shares, edges, color=colours[when], linewidth=1.5)
                samples, share = [r["samples"] for r in rows], [100 * r["full"] for r in rows]
                full.plot(samples, share, "o-", color=colours[when], markersize=3.5)
        last = records[-1]
        histogram.set(
            title=f"After {last['samples']:,} samples", xlabel="conductance g", ylabel="% of devices", xlim=(0, 1), yscale="log"
        )
        full.set(title="Saturated devices (g > 0.99)", xlabel="samples", ylabel="% of devices", ylim=(0, None))
        moved = last["largest_change"] if last["when"] == "after" else None
        title = (
            "Conductances before and after a refresh"
            if moved is None
            else f"The last refresh changes no weight by more than {moved:.2f} times a device's first step"
        )
        finish(fig, title, "", {"before": "before refresh", "after": "after refresh"}, colours)
    return fig
