"""The figures of the comparisons over terms, bits, group sizes, strengths, calibration tokens, damping and block sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.experiment import Record, signed
from workbench.inks import BLUE, GREEN, INK, ORANGE, RED
from workbench.intervals import interval, judging_rows, marks, scores
from workbench.measures import Measure, SeriesStyle, at
from workbench.plotting import dots, figure, finish, point, series
from workbench.quantization.lab.figures import COLOURS, ERROR, LABELS

EACH = ("layer", "bits", "seed")  # a ratio compares two records that are equal in these columns
HELD_OUT = Measure("held_out", f"held-out {ERROR}", 100, lower=True)
STYLE = SeriesStyle(LABELS, COLOURS)
CALIBRATION = Measure("error", ERROR, 100, lower=True)


def _fewest(table: pd.DataFrame, what: str) -> str:
    """Return a title that names the method with the lowest error in most settings, and gives the number of these settings."""
    places = [c for c in ("bits", "groups", "tokens", "damping", "layer") if c in table]
    least = table.loc[table.groupby(places, sort=False)["mean"].idxmin(), "label"].value_counts()
    return f"Lowest {what}: {LABELS[least.index[0]]}, in {least.iloc[0]} of {least.sum()} settings"


def draw_bits_groups(records: Sequence[Record]) -> Figure:
    """Draw the held-out error against the group size, with one panel for each number of bits."""
    table = HELD_OUT.table(records, "bits", "groups")
    with figure() as fig:
        bits = list(dict.fromkeys(table["bits"]))
        for axes, b in zip(fig.subplots(1, max(len(bits), 1), squeeze=False)[0], bits, strict=True):
            dots(axes, table[table["bits"] == b], "groups", COLOURS)
            axes.set(title=f"{b} bits", xlabel=HELD_OUT.axis if b == bits[len(bits) // 2] else "")
        fig.axes[0].set_ylabel("columns that share a scale")
        return finish(fig, _fewest(table, "held-out error"), marks(records, "samples"), STYLE.named(table["label"]), COLOURS)


def draw_methods(records: Sequence[Record]) -> Figure:
    """Draw the held-out error of each method at its best setting, relative to the error of GPTQ on the same layer and sample."""
    ratios, others = [], [label for label in dict.fromkeys(r["label"] for r in records) if label != "gptq"]
    base = scores(records, "held_out", ("layer", "seed"), label="gptq")
    for label in others:
        ratio = 100 * (scores(records, "held_out", ("layer", "seed"), label=label) / base).dropna()
        if len(ratio):
            each = ratio.groupby(level="layer", sort=False).mean()
            found = interval(ratio, "layer")._asdict()
            edge = any(r["edge"] for r in judging_rows(records) if r["label"] == label)
            row = {"label": label, "name": LABELS[label], "values": each.tolist(), "edge": edge}
            ratios.append(row | found)
    with figure() as fig:
        axes, title = fig.subplots(), "Methods at their best settings"
        for y, row in enumerate(ratios):
            point(axes, y, row, COLOURS[row["label"]], across=True)
            axes.plot(row["values"], [y] * len(row["values"]), ".", color=COLOURS[row["label"]], alpha=0.4, markersize=5)
        _gptq(axes)
        axes.set_yticks(range(len(ratios)), labels=[row["name"] for row in ratios])
        axes.set(xlabel="held-out error, % of GPTQ's on the same layer and sample")
        axes.set_ylim(max(len(ratios), 1) - 0.5, -0.5)
        # if the axis included the large error of RTN, the dots of the other methods would coincide
        near = [v for row in ratios if row["label"] != "rtn" for v in row["values"]]
        if near:
            axes.set_xlim(min(*near, 99) - 1, max(*near, 101) + 1)
            _beyond(axes, [(y, row["mean"]) for y, row in enumerate(ratios)])
            best = min((row for row in ratios if row["label"] != "rtn"), key=lambda row: row["mean"])
            title = f"Lowest held-out error at the best settings: {best['name']}, {best['mean']:.1f} % of GPTQ's"
        layers = len({r["layer"] for r in records})
        note = f"mean and 95 % confidence interval over {layers} layers; small dots: single layers; lower is better. {EDGE}"
        return finish(fig, title, note)


def draw_terms(records: Sequence[Record]) -> Figure:
    """Draw the error of each set of terms relative to the error of GPTQ on the same layer and sample.

    The confidence intervals are over layers.
    """
    names, bits = list(dict.fromkeys(r["label"] for r in records)), sorted({r["bits"] for r in records})
    colours = {"calibration": BLUE, "held out": ORANGE}
    with figure() as fig:
        grid = fig.subplots(1, len(bits), sharey=True, squeeze=False)[0]
        for axes, b in zip(grid, bits, strict=True):
            means = []
            for offset, (column, colour) in enumerate((("error", BLUE), ("held_out", ORANGE))):
                base = scores(records, column, EACH, label="gptq", bits=b)
                for y, name in enumerate(names):
                    ratio = 100 * (scores(records, column, EACH, label=name, bits=b) / base).dropna()
                    _ratios(axes, ratio, y + 0.16 * (2 * offset - 1), colour)
                    means.append((y + 0.16 * (2 * offset - 1), ratio.mean()))
            _gptq(axes)
            axes.set(title=f"{b} bits", xlabel="error, % of GPTQ's")
            axes.set_yticks(range(len(names)), labels=names)
            near = [v for line in axes.lines for v in line.get_xdata() if v < 130]
            axes.set_xlim(min(*near, 99.0) - 1, 130 if max(near) > 110 else max(*near, 101.0) + 1)
            _beyond(axes, means)
        grid[0].set_ylim(len(names) - 0.5, -0.5)
        layers = len({r["layer"] for r in records})
        note = f"small dots: one layer and sample; mean and 95 % confidence interval over {layers} layers; lower is better"
        return finish(fig, _terms_title(records), note, {name: name for name in colours}, colours)


EDGE = "Diamond: the best setting is at an end of the range tried, so a setting outside it might be better"


def _gptq(axes: Axes) -> None:
    axes.axvline(100, color=INK, linewidth=0.9)
    axes.annotate("GPTQ", (100, 0), xycoords=("data", "axes fraction"), xytext=(3, 3), textcoords="offset points", fontsize=8)


def _beyond(axes: Axes, means: Sequence[tuple[float, float]]) -> None:
    """At the right edge of the axes, write each mean that lies beyond it. With longer axes, the other dots would coincide."""
    for y, mean in means:
        if mean > axes.get_xlim()[1]:
            axes.annotate(f"{mean:.0f} →", (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)


def _ratios(axes: Axes, ratio: pd.Series, at: float, colour: str) -> None:
    axes.plot(ratio, np.full(len(ratio), at), ".", color=colour, alpha=0.3, markersize=4, rasterized=True)
    if len(ratio):
        row = {**interval(ratio, "layer")._asdict(), "edge": "", "values": []}
        point(axes, at, row, colour, across=True)


def _terms_title(records: Sequence[Record]) -> str:
    words = []
    base = scores(records, "held_out", EACH, label="gptq")
    for label, name in (("gptq + r1", "r1"), ("gptq + r2", "r2")):
        ratio = (scores(records, "held_out", EACH, label=label) / base).dropna()
        if len(ratio):
            words.append(f"{name} {signed(100 * (ratio.mean() - 1), 1)} %")
    return (
        f"Mean change of GPTQ's held-out error if a term is added: {', '.join(words)}"
        if words
        else "Error with the terms of the update on and off"
    )


def draw_strengths(records: Sequence[Record]) -> Figure:
    """Draw the calibration and the held-out error over alpha and beta.

    The minimum, the strengths of the published program, and the strengths in the paper are marked.
    """
    table, title = pd.DataFrame(judging_rows(records)), "Error over the strengths of both terms"
    with figure() as fig:
        for axes, column, name in zip(fig.subplots(1, 2), ("error", "held_out"), ("calibration", "held out"), strict=True):
            mean = 100 * table.pivot_table(index="beta", columns="alpha", values=column, aggfunc="mean")
            picture = axes.pcolormesh(mean.columns, mean.index, mean.to_numpy(), cmap="viridis_r", shading="nearest")
            fig.colorbar(picture, ax=axes, label=ERROR)
            least = mean.stack().idxmin()
            for x, y, marker, size in ((least[1], least[0], "*", 14), (0.25, 0.25, "s", 9), (1, 1, "D", 9)):
                for colour, edge in (("black", 3.0), ("white", 1.2)):  # visible on every shade
                    axes.plot(x, y, marker, color="none", markeredgecolor=colour, markeredgewidth=edge, markersize=size)
            axes.set(title=name, xlabel="alpha, strength of r₁", ylabel="beta, strength of r₂")
            axes.grid(visible=False)
            if column == "held_out":
                title = f"The held-out error is lowest at alpha {least[1]:g}, beta {least[0]:g} ({mean.min().min():.1f} %)"
        marks = "☆ minimum; □ strengths of the published program; ◇ formula of the paper"
        return finish(fig, title, f"{marks}. Mean of {table['seed'].nunique()} calibration samples; the colour scales differ")


def draw_tokens_damping(records: Sequence[Record]) -> Figure:
    """Draw the calibration error (dotted) and the held-out error against the number of tokens, with a panel for each damping."""
    with figure() as fig:
        dampings = sorted({r["damping"] for r in records})
        table = HELD_OUT.table(records, "tokens", "damping")
        grid = fig.subplots(1, max(len(dampings), 1), sharey=True, squeeze=False)[0]
        for axes, damping in zip(grid, dampings, strict=True):
            part = table[table["damping"] == damping]
            series(axes, part, "tokens", COLOURS)
            calibration = CALIBRATION.table(at(records, damping=damping), "tokens")
            for method, line in calibration.groupby("label", sort=False):
                axes.plot(line["tokens"], line["mean"], ":", color=COLOURS[method], linewidth=1)
            axes.set_xscale("log", base=2)
            axes.set_xticks(part["tokens"].unique(), [str(t) for t in part["tokens"].unique()])
            axes.set(title=f"damping {damping:g}", xlabel="calibration tokens")
        grid[0].set_ylabel(ERROR)
        note = f"lines: held-out error; dotted: calibration error; {marks(records, 'samples')}"
        return finish(fig, _fewest(table, "held-out error"), note, STYLE.named(table["label"]), COLOURS)


def draw_block_size(records: Sequence[Record]) -> Figure:
    """Draw the share of codes that differ from those at the smallest block size, and the error at each block size."""
    table = pd.DataFrame(records)
    colours = {"clean": GREEN, "published": RED}
    changed = 100 * table.groupby(["compat", "block_size"])["codes_changed"].mean().groupby("compat").max()
    with figure() as fig:
        codes, error = fig.subplots(1, 2)
        for compat, colour in colours.items():
            rows = table[table["compat"] == compat].groupby("block_size")
            if len(rows):
                codes.plot(rows["codes_changed"].mean() * 100, "-o", color=colour)
                error.plot(rows["error"].mean() * 100, "-o", color=colour)
        sizes = sorted(table["block_size"].unique())
        for axes in (codes, error):
            axes.set(xlabel="block size", xscale="log")
            axes.set_xticks(sizes, labels=[str(size) for size in sizes])
            axes.minorticks_off()
        codes.set(title="Codes that differ", ylabel=f"% of codes, compared with block size {sizes[0]}", ylim=(-1, None))
        low, high = error.get_ylim()
        if high - low < 1:  # a difference of 0.01 percentage points should not fill the axes
            error.set_ylim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
        error.set(title="Error", ylabel=ERROR)
        names = {"clean": "our implementation", "published": "published program"}
        words = ", ".join(f"{names[compat]} {value:.0f} %" for compat, value in changed.items())
        title = f"Largest share of codes that change with the block size: {words}"
        return finish(fig, title, "mean over calibration samples", names, colours)
