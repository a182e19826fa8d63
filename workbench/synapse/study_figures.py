"""Records of studies in, matplotlib figures out; every point is shown at its best rate, chosen on validation digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.experiment import Record
from workbench.plotting import figure
from workbench.synapse.figures import COLOURS, LABELS, STYLES

KEYS = ("name", "device_name", "x")
VARIATIONS = (
    "none", "step .3", "range .3", "range .3, refresh verified", "step .3, pairs alike", "range .3, pairs alike", "stuck 5 %",
    "nu = 3", "nu = 3, step .3", "nu = 3, range .3",
)  # fmt: skip


def at_best_rate(records: Sequence[Record]) -> pd.DataFrame:
    """The rows of each point at the rate with the highest mean validation accuracy over seeds."""
    table = pd.DataFrame(records)
    keys = [key for key in KEYS if key in table]
    means = table.groupby([*keys, "rate"], dropna=False, sort=False)["validation"].mean().reset_index()
    best = means.loc[means.groupby(keys, dropna=False, sort=False)["validation"].idxmax(), [*keys, "rate"]]
    return table.merge(best, on=[*keys, "rate"])


def mean_accuracy(records: Sequence[Record]) -> pd.DataFrame:
    """Mean and standard deviation (over seeds) of the test accuracy in percent, and the rate, of each point."""
    table = at_best_rate(records)
    keys = [key for key in KEYS if key in table]
    found = table.groupby(keys, dropna=False, sort=False).agg(
        mean=("accuracy", "mean"), spread=("accuracy", "std"), rate=("rate", "first"), seeds=("seed", "count")
    )
    found[["mean", "spread"]] *= 100
    return found.fillna({"spread": 0.0}).reset_index()


def _software_line(axes: Axes, rows: pd.DataFrame) -> None:
    """The line to reach: software back-propagation, across the axes."""
    style = {"color": COLOURS["software"], "linestyle": "--", "linewidth": 1.2, "label": LABELS["software"]}
    axes.axhline(rows["mean"].iloc[0], **style)


def _lines(axes: Axes, table: pd.DataFrame) -> None:
    """Mean and spread along x, a line a series; software is a line across."""
    for name, rows in table.groupby("name", sort=False):
        if name == "software":
            _software_line(axes, rows)
            continue
        axes.errorbar(
            rows["x"],
            rows["mean"],
            yerr=rows["spread"],
            color=COLOURS[name],
            linestyle=STYLES.get(name, "-"),
            marker="o",
            markersize=3.5,
            capsize=2,
            label=LABELS[name],
        )


def _title(records: Sequence[Record]) -> str:
    seeds = len({record["seed"] for record in records})
    return (
        f"test accuracy at each point's best rate (chosen on held-out training digits), mean ± deviation of {seeds} runs"
        + died(records)
    )


def died(records: Sequence[Record]) -> str:
    """What a title owes to runs that stopped since no error came through."""
    count = sum("died" in record for record in records)
    return f"\n{count} of all {len(records)} runs stopped early: all hidden units saturated" if count else ""


def _one_panel(records: Sequence[Record], xlabel: str, **settings) -> Figure:
    with figure(7.6, 3.9) as fig:
        axes = fig.subplots()
        _lines(axes, mean_accuracy(records))
        axes.set(xlabel=xlabel, ylabel="accuracy (%)", **settings)
        axes.legend(loc="lower right" if "xscale" in settings else "lower left")
        fig.suptitle(_title(records), fontsize=9)
    return fig


def draw_levels(records: Sequence[Record]) -> Figure:
    """Accuracy against the number of levels."""
    fig = _one_panel(records, "levels (pulses from Gmin to Gmax)", xscale="log")
    ticks = sorted({record["x"] for record in records if record["name"] != "software"}) or [64]
    fig.axes[0].set_xticks(ticks, labels=[str(tick) for tick in ticks])
    fig.axes[0].minorticks_off()
    return fig


def draw_nonlinearity(records: Sequence[Record]) -> Figure:
    """Accuracy against nu."""
    return _one_panel(records, "nonlinearity ν of LTP and of mirrored LTD (0: linear)")


def draw_abruptness(records: Sequence[Record]) -> Figure:
    """Accuracy against nu of LTD."""
    return _one_panel(records, "nonlinearity ν of LTD (LTP: 1); 20 is a device that falls at once")


def draw_variation(records: Sequence[Record]) -> Figure:
    """Accuracy against the spread, a panel a kind."""
    return _panels(records, ("step", "range"), "relative deviation of the {} from device to device")


def draw_batches(records: Sequence[Record]) -> Figure:
    """Accuracy against the batch size, a panel a device."""
    fig = _panels(records, ("linear", "nu = 3"), "batch size ({})", xscale="log")
    for axes in fig.axes:
        axes.set_xticks([1, 10, 32, 100], labels=["1", "10", "32", "100"])
        axes.minorticks_off()
    return fig


def _panels(records: Sequence[Record], kinds: Sequence[str], xlabel: str, **settings) -> Figure:
    table = mean_accuracy(records)
    with figure(10.0, 3.9) as fig:
        for axes, kind in zip(fig.subplots(1, len(kinds), sharey=True), kinds, strict=True):
            rows = table[table["device_name"] == kind]
            _lines(axes, rows)
            axes.set(xlabel=xlabel.format(kind.replace("nu", "ν")), ylabel="accuracy (%)", **settings)
            if len(rows):
                axes.legend(loc="lower left")
        fig.suptitle(_title(records), fontsize=9)
    return fig


def _bars(
    axes: Axes, table: pd.DataFrame, groups: Sequence[str], column: str, names: Sequence[str] = ()
) -> None:
    """Bars by series within groups, with their spread; `names` keeps the places of series that are absent here."""
    names = names or list(dict.fromkeys(table["name"]))
    width = 0.8 / max(len(names), 1)
    for place, name in enumerate(names):
        rows = table[table["name"] == name].set_index(column).reindex(groups)
        at = np.arange(len(groups)) + width * (place - (len(names) - 1) / 2)
        axes.bar(
            at,
            rows["mean"],
            width,
            yerr=rows["spread"],
            color=COLOURS[name],
            label=LABELS[name],
            capsize=2,
            error_kw={"linewidth": 0.8},
        )
    axes.set_xticks(
        np.arange(len(groups)),
        labels=[str(group).replace("nu", "ν").replace(", ", ",\n") for group in groups],
    )
    axes.grid(visible=False, axis="x")


def draw_schemes(records: Sequence[Record]) -> Figure:
    """Bars: schemes on each device, software as a line."""
    table = mean_accuracy(records)
    software, rest = table[table["name"] == "software"], table[table["name"] != "software"]
    with figure(9.6, 4.2) as fig:
        axes = fig.subplots()
        if len(rest):
            _bars(axes, rest, list(dict.fromkeys(rest["device_name"])), "device_name")
        if len(software):
            _software_line(axes, software)
        axes.set(ylabel="accuracy (%)", ylim=(0, 128), yticks=range(0, 101, 20))
        axes.legend(ncols=3, loc="upper center")
        fig.suptitle(_title(records), fontsize=9)
    return fig


def draw_rules(records: Sequence[Record]) -> Figure:
    """Bars: schemes under each rule, a panel a device."""
    return _rule_panels(records, ("linear", "nu = 3", "abrupt LTD"), "{}")


def draw_compensation(records: Sequence[Record]) -> Figure:
    """Bars: schemes under each rule, a panel a kind of variation."""
    return _rule_panels(records, VARIATIONS, "variation: {}")


def _rule_panels(records: Sequence[Record], kinds: Sequence[str], title: str) -> Figure:
    table = mean_accuracy(records)
    groups, names = list(dict.fromkeys(table["x"])), list(dict.fromkeys(table["name"]))
    with figure(10.5, 1.9 * len(kinds)) as fig:
        for axes, kind in zip(fig.subplots(len(kinds), 1, sharex=True), kinds, strict=True):
            _bars(axes, table[table["device_name"] == kind], groups, "x", names)
            axes.set(title=title.format(kind.replace("nu", "ν")), ylabel="accuracy (%)", ylim=(0, 100))
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            fig.legend(handles, labels, loc="outside lower center", ncols=4)
        fig.suptitle(_title(records), fontsize=9)
    return fig


def draw_refresh(records: Sequence[Record]) -> Figure:
    """Accuracy against the refresh period, and what each period and policy costs."""
    table = mean_accuracy(records)
    costs = at_best_rate(records).groupby(["name", "x"], as_index=False, sort=False)["refresh_cost"].mean()
    styles = {"linear": "-", "nu = 3": "--"}
    with figure(10.0, 3.8) as fig:
        accuracy, cost = fig.subplots(1, 2)
        for name, style in styles.items():
            for axes, found, column in (
                (accuracy, table[table["name"] == name], "mean"),
                (cost, costs[costs["name"] == name], "refresh_cost"),
            ):
                found = found.assign(x=found["x"].replace(0, 30_000)).sort_values("x")
                axes.plot(
                    found["x"],
                    found[column],
                    style,
                    marker="o",
                    markersize=3.5,
                    color=COLOURS["uni"],
                    label=name.replace("nu", "ν"),
                )
        policies = table[table["device_name"] == "policy"] if "device_name" in table else table[:0]
        for marker, (_, row) in zip("sD^", policies.iterrows(), strict=False):
            accuracy.plot(
                row["x"], row["mean"], marker, color="black", markersize=5, label=f"ν = 3, {row['name']}"
            )
        for axes in (accuracy, cost):
            axes.set(
                xlabel="samples between refreshes",
                xscale="log",
                xticks=[100, 300, 1000, 3000, 10_000, 30_000],
            )
            axes.set_xticklabels(["100", "300", "1k", "3k", "10k", "never"])
            axes.minorticks_off()
        accuracy.set(ylabel="accuracy (%)", title="unidirectional: accuracy")
        cost.set(ylabel="refresh pulses a training pulse", title="what refresh costs")
        fig.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=5)
        fig.suptitle(_title(records), fontsize=9)
    return fig


def draw_factors(records: Sequence[Record]) -> Figure:
    """Bars: accuracy with one imperfection taken away at a time."""
    table = mean_accuracy(records)
    software, rest = table[table["name"] == "software"], table[table["name"] != "software"]
    with figure(10.0, 3.9) as fig:
        axes = fig.subplots()
        if len(rest):
            _bars(axes, rest, list(dict.fromkeys(rest["x"])), "x")
            for _, row in rest[rest["x"] == "as it is"].iterrows():
                axes.axhline(row["mean"], color=COLOURS[row["name"]], linewidth=0.8, linestyle=":")
        if len(software):
            _software_line(axes, software)
        low = max(0, 10 * (min(table["mean"]) // 10) - 10)
        axes.set(
            ylabel="accuracy (%)",
            ylim=(low, 106),
            yticks=range(int(low), 101, 10),
            title="what is taken away from the device",
        )
        axes.legend(ncols=3, loc="upper right")
        fig.suptitle(_title(records), fontsize=9)
    return fig
