"""Records of training histories in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.experiment import Record
from workbench.plotting import BLUE, GREEN, ORANGE, PINK, RED, figure
from workbench.synapse.figures import COLOURS, LABELS, STYLES
from workbench.synapse.study_figures import died


def draw_learning(records: Sequence[Record]) -> Figure:
    """Learning curves, each series at the rate whose last validation accuracy is best."""
    table = pd.DataFrame(records)
    with figure(8.6, 4.2) as fig:
        axes = fig.subplots()
        for name, rows in table.groupby("name", sort=False):
            last = rows[rows["x"] == rows["x"].max()].groupby("rate")["validation"].mean()
            grouped = 100 * rows[rows["rate"] == last.idxmax()].groupby("x")["accuracy"].agg(
                ["mean", "std"]
            ).fillna(0)
            axes.plot(
                grouped.index,
                grouped["mean"],
                color=COLOURS[name],
                linestyle=STYLES.get(name, "-"),
                label=f"{LABELS[name]} (η = {last.idxmax():g})",
            )
            axes.fill_between(
                grouped.index,
                grouped["mean"] - grouped["std"],
                grouped["mean"] + grouped["std"],
                color=COLOURS[name],
                alpha=0.15,
                linewidth=0,
            )
        axes.set(
            xlabel="samples seen",
            ylabel="test accuracy (%)",
            title="learning curves, each at its best rate (band: standard deviation over runs)"
            + died(records),
        )
        axes.legend(loc="lower right")
    return fig


def draw_histograms(records: Sequence[Record]) -> Figure:
    """Conductances before and after the last refresh, and how many devices are full over time."""
    pairs = {when: [r for r in records if r["when"] == when] for when in ("before", "after")}
    colours = {"before": RED, "after": BLUE}
    with figure(10.0, 3.8) as fig:
        histogram, full = fig.subplots(1, 2)
        for when, rows in pairs.items():
            if rows:
                shares = 100 * np.array(rows[-1]["histogram"])
                histogram.stairs(
                    shares,
                    np.linspace(0, 1, len(shares) + 1),
                    color=colours[when],
                    linewidth=1.5,
                    label=f"{when}, {rows[-1]['samples']:,} samples",
                )
                full.plot(
                    [r["samples"] for r in rows],
                    [100 * r["full"] for r in rows],
                    "o-",
                    color=colours[when],
                    markersize=3.5,
                    label=f"{when} each refresh",
                )
        histogram.set(
            title="all conductances about a refresh",
            xlabel="g",
            ylabel="% of devices",
            xlim=(0, 1),
            yscale="log",
        )
        last = records[-1]
        change = (
            f"; weights move by {last['largest_change']:.2f} steps at most" if last["when"] == "after" else ""
        )
        full.set(
            title=f"full devices (g > .99){change}",
            xlabel="samples",
            ylabel="% of devices",
            ylim=(0, None),
        )
        histogram.legend()
        full.legend()
    return fig


def draw_retention(records: Sequence[Record]) -> Figure:
    """Accuracy against time after training, a panel a scheme."""
    table = pd.DataFrame(records)
    with figure(10.0, 3.8) as fig:
        panels = fig.subplots(1, 2, sharey=True)
        for axes, scheme in zip(panels, ("uni", "push-pull"), strict=True):
            kinds = table[table["name"] == scheme].groupby("device_name", sort=False)
            for (kind, rows), colour in zip(kinds, (BLUE, ORANGE, GREEN, RED, PINK), strict=False):
                mean = 100 * rows.groupby("x")["accuracy"].agg(["mean", "std"]).fillna(0)
                axes.errorbar(
                    mean.index,
                    mean["mean"],
                    yerr=mean["std"],
                    marker="o",
                    markersize=3.5,
                    capsize=2,
                    color=colour,
                    label=kind,
                )
            axes.set(
                title=f"{LABELS[scheme]}: after training",
                xlabel="seconds",
                ylabel="accuracy (%)",
                xscale="log",
            )
        if len(table):
            panels[0].legend(loc="lower left")
        fig.suptitle(died(records), fontsize=9)
    return fig
