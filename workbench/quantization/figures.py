"""Records in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.experiment import Record
from workbench.plotting import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, figure

Pinned = tuple[str, list[Record]] | None
COLOURS = {
    "rtn": GREY, "gptq": BLUE, "gptq+rescomp": SKY, "foem": SKY, "gptaq": RED, "gptaq+rescomp": ORANGE,
    "exact": GREEN, "best": BLACK,
}  # fmt: skip
LABELS = {
    "rtn": "RTN", "gptq": "GPTQ", "gptq+rescomp": "GPTQ + ResComp", "foem": "FOEM", "gptaq": "GPTAQ",
    "gptaq+rescomp": "GPTAQ + ResComp", "exact": "exact target", "best": "best of all grid points",
}  # fmt: skip
ERROR = "error of the output, % of $\\|W_0\\tilde X\\|$"


def draw_layer_trace(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """A layer half-way: weights of a row, error column by column, residuals, and the objective."""
    last = records[-1]
    with figure(10.5, 6.4) as fig:
        weights, errors, residuals, objective = fig.subplots(2, 2).flat
        title = f"{last['layer']}, {LABELS[last['method']]}, {last['bits']} bits: {last['columns']} of {last['of']} columns"
        fig.suptitle(title, fontsize=11)
        _row_of_weights(weights, records)
        for series, style, name in _with_pinned(records, pinned):
            colour = COLOURS[series[-1]["method"]]
            _column_errors(errors, series, colour, style, name)
            _objective(objective, series, colour, style, name)
            _residuals(residuals, series, style, name)
        for axes in (weights, errors, residuals, objective):
            axes.set_xlim(0, last["of"])
            axes.set_xlabel("column, in the order in which they are quantized")
    return fig


def _with_pinned(records: Sequence[Record], pinned: Pinned) -> list[tuple[Sequence[Record], str, str]]:
    """The series to draw, with line style and a word for the legend."""
    now = [(records, "-", "")]
    return now if pinned is None else [(pinned[1], ":", f", pinned ({_short(pinned[0])})"), *now]


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _row_of_weights(axes: Axes, records: Sequence[Record]) -> None:
    at = 0
    for record in records[1:] if "before" not in records[0] else records:
        if "before" not in record:
            continue
        x = np.arange(at, at + len(record["before"]))
        at += len(x)
        if len(record["levels"]) <= 16:
            axes.hlines(record["levels"], x[0] - 0.5, x[-1] + 0.5, color="#dddddd", linewidth=0.7, zorder=1)
        axes.plot(x, record["before"], ".", color=GREY, markersize=3, zorder=2)
        axes.plot(x, record["after"], "_", color=BLACK, markersize=4, zorder=3)
    axes.plot([], [], ".", color=GREY, label="just before rounding")
    axes.plot([], [], "_", color=BLACK, label="rounded")
    axes.legend(loc="upper right", ncols=2)
    axes.grid(visible=False)
    axes.set(title="weights of one output row on their grid", ylabel="weight")


def _column_errors(axes: Axes, records: Sequence[Record], colour: str, style: str, name: str) -> None:
    found = [value for record in records for value in record.get("column_error", ())]
    if found:
        axes.plot(np.arange(1, len(found) + 1), np.cumsum(found), style, color=colour, label=f"sum so far{name}")
        axes.plot(np.arange(1, len(found) + 1), np.array(found) * len(found) / 10, color=colour, alpha=0.25, linewidth=0.6,
                  linestyle=style, label=f"each column, x {len(found) / 10:.0f}")  # fmt: skip
        axes.legend(loc="upper left")
    axes.set(title="error sent on by each column (GPTQ's printed loss)", ylabel="$\\|e_q\\|^2$")


def _residuals(axes: Axes, records: Sequence[Record], style: str, name: str) -> None:
    x = [r["columns"] for r in records]
    for key, colour, label in (("r1", RED, "$r_1=W(\\tilde X-X)$"), ("r2", BLUE, "$r_2=(W_0-W)\\tilde X$")):
        axes.plot(x, [100 * r[key] for r in records], style, color=colour, label=label + name)
        axes.plot(x, [100 * r[f"{key}_orthogonal"] for r in records], style, color=colour, alpha=0.45, linewidth=1.0,
                  label=None if name else "   beyond the free columns' reach")  # fmt: skip
    axes.set_ylim(0, 1.5 * max(axes.get_ylim()[1], 1e-9))
    axes.legend(loc="upper left", ncols=2)
    axes.set(title="residuals, and their part that is lost for good", ylabel="% of $\\|W_0\\tilde X\\|$")


def _objective(axes: Axes, records: Sequence[Record], colour: str, style: str, name: str) -> None:
    x = [r["columns"] for r in records]
    axes.plot(x, [100 * r["error"] for r in records], style, color=colour, label=f"calibration{name}")
    held_out = [100 * r["held_out"] for r in records]
    axes.plot(x, held_out, style, color=colour, alpha=0.5, label=f"held out{name}")
    if not name:
        axes.axhline(100 * records[-1]["floor"], color=BLACK, linewidth=0.9, linestyle="--", label="floor (no rounding at all)")
        axes.annotate(f"{100 * records[-1]['error']:.2f}", (x[-1], 100 * records[-1]["error"]), xytext=(-4, 5),
                      textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    axes.set_ylim(0, 100 * 1.5 * max(r["held_out"] for r in records))
    axes.legend(loc="upper left", ncols=2)
    axes.set(title="one objective for all: $\\|QX-W_0\\tilde X\\|$", ylabel=ERROR.replace("error of the output, ", ""))


def draw_grid(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """The weights of a row against their rounded values, and how the group's weights fall on the levels."""
    record = records[-1]
    with figure(9.5, 3.6) as fig:
        left, right = fig.subplots(1, 2, width_ratios=[3, 2])
        fig.suptitle(
            f"{record['layer']}: {record['bits']} bits, {record['grid']} grid, groups of {record['group_size']}, "
            f"rounding error {100 * record['weight_error']:.1f} % of the weights",
            fontsize=10,
        )
        x = np.arange(len(record["before"]))
        for series, colour in ((pinned[1][-1], PINK), (record, BLACK)) if pinned else ((record, BLACK),):
            levels = np.array(series["levels"])
            left.hlines(levels[np.abs(levels) < 2 * np.abs(record["before"]).max()], 0, len(x), color=colour, alpha=0.2, linewidth=0.7)
            left.plot(np.arange(len(series["after"])), series["after"], "_", color=colour, markersize=5)
        left.plot(x, record["before"], ".", color=BLUE, markersize=4)
        left.set(title="one row, first group: weight and nearest level", xlabel="input column", ylabel="weight")
        right.hist(record["before"], bins=40, color=BLUE, alpha=0.6, orientation="horizontal")
        right.hlines(record["levels"], 0, right.get_xlim()[1], color=BLACK, linewidth=0.8)
        right.set(title="how many weights lie near each level", xlabel="weights", ylim=left.get_ylim())
        left.grid(visible=False)
        right.grid(visible=False)
    return fig


def draw_two_weights(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """The plane of two weights: contours of the objective, grid points, and where each method goes."""
    with figure(9.5, 4.6) as fig:
        plane, bars = fig.subplots(1, 2, width_ratios=[3, 2])
        hessian, target = np.array(records[0]["hessian"]), np.array(records[0]["target"])
        start = np.array(records[0]["w"])
        centre = np.round((start + target) / 2)
        a, b = np.meshgrid(np.linspace(-2.4, 2.4, 121) + centre[0], np.linspace(-2.4, 2.4, 121) + centre[1])
        gap = np.stack([a, b], -1) - target
        plane.contour(a, b, np.sqrt(np.einsum("...i,ij,...j", gap, hessian, gap)), levels=9, colors="#bbbbbb", linewidths=0.7)
        plane.plot(*np.meshgrid(np.arange(-2, 3) + centre[0], np.arange(-2, 3) + centre[1]), "+", color=GREY, markersize=6)
        plane.plot(*start, "o", color=BLACK, markersize=6)
        plane.annotate("$w_0$", start, xytext=(5, 5), textcoords="offset points")
        plane.plot(*target, "*", color=GREEN, markersize=10)
        plane.annotate("$w^*$", target, xytext=(5, -10), textcoords="offset points")
        for offset, r in enumerate(records):
            path = np.array([start, [r["after"][0], r["before"][1]], r["after"]]) + 0.025 * (offset - 2)
            plane.plot(*path.T, "-o", color=COLOURS[r["method"]], markersize=4, label=LABELS[r["method"]])
        plane.set(title="rounding the first weight, mending with the second", xlabel="$w_1$ (steps)", ylabel="$w_2$ (steps)")
        plane.set_aspect("equal")
        names = [r["method"] for r in records]
        bars.barh([LABELS[n] for n in names], [max(r["error"], 0) for r in records], color=[COLOURS[n] for n in names])
        bars.invert_yaxis()
        bars.set(title="error against the full-precision stream", xlabel="$\\|QX-W_0\\tilde X\\|^2$")
    return fig


def _method_lines(axes: Axes, table: pd.DataFrame, x: str, column: str) -> None:
    """Mean and spread (standard deviation over samples) of each method along x."""
    for method, rows in table.groupby("method", sort=False):
        grouped = rows.groupby(x, sort=False)[column]
        mean, spread = 100 * grouped.mean(), 100 * grouped.std().fillna(0)
        axes.errorbar(mean.index, mean, yerr=spread, color=COLOURS[method], marker="o", markersize=3, capsize=2, label=LABELS[method])


def draw_bits_groups(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """Held-out (line) error against group size, a panel a bit width."""
    table = pd.DataFrame(records)
    with figure(10.5, 3.8) as fig:
        bits = sorted(table["bits"].unique())
        for axes, b in zip(np.atleast_1d(fig.subplots(1, len(bits))), bits, strict=True):
            _method_lines(axes, table[table["bits"] == b], "groups", "held_out")
            axes.set(title=f"{b} bits", xlabel="columns that share a scale", ylabel=f"held-out {ERROR}" if b == bits[0] else "")
        axes.legend()
        fig.suptitle(f"{table['layer'][0]}: error against bits and groups (bars: standard deviation over samples)", fontsize=10)
    return fig


def draw_terms(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """Error of each set of terms relative to GPTQ's on the same layer and sample."""
    table = relative_to(pd.DataFrame(records), "gptq")
    with figure(10.5, 4.0) as fig:
        bits = sorted(table["bits"].unique())
        grid = fig.subplots(1, len(bits), sharey=True, squeeze=False)[0]
        for axes, b in zip(grid, bits, strict=True):
            part = table[table["bits"] == b]
            names = list(part["terms"].unique())
            for offset, (column, colour) in enumerate((("error", BLUE), ("held_out", ORANGE))):
                groups = [100 * part[part["terms"] == n][column].dropna().to_numpy() for n in names]
                for y, values in enumerate(groups):
                    at = y + 0.16 * (2 * offset - 1)
                    axes.plot(values, np.full(len(values), at), ".", color=colour, alpha=0.35, markersize=4)
                    if len(values):
                        axes.plot(values.mean(), at, "D", color=colour, markersize=5)
            axes.axvline(100, color=BLACK, linewidth=0.8)
            axes.set_xlim(0, max(130, 5 + float(np.nanmax(100 * part[part["terms"] != "rtn"][["error", "held_out"]].to_numpy(), initial=0))))
            axes.set(title=f"{b} bits", xlabel="error, % of GPTQ's on the same layer and sample", yticks=range(len(names)), yticklabels=names)
        if not grid[0].yaxis_inverted():
            grid[0].invert_yaxis()
        for colour, label in ((BLUE, "calibration"), (ORANGE, "held out")):
            grid[-1].plot([], [], "D", color=colour, label=label)
        grid[-1].legend(loc="lower left")
        fig.suptitle(f"terms on and off, {table['layer'].nunique()} layers; a dot is a layer and sample, a diamond their mean", fontsize=10)
    return fig


def relative_to(table: pd.DataFrame, base: str) -> pd.DataFrame:
    """`error` and `held_out` divided by those of the terms `base` at the same layer, bits and seed."""
    keys = ["layer", "bits", "seed"]
    bases = table[table["terms"] == base].set_index(keys)[["error", "held_out"]]
    joined = table.join(bases, on=keys, rsuffix="_base")
    return joined.assign(error=joined["error"] / joined["error_base"], held_out=joined["held_out"] / joined["held_out_base"])


def draw_strengths(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """Error over alpha and beta, calibration and held out; the least and the program's 0.25 are marked."""
    table = pd.DataFrame(records)
    with figure(9.5, 3.9) as fig:
        for axes, column, title in zip(fig.subplots(1, 2), ("error", "held_out"), ("calibration", "held out"), strict=True):
            mean = 100 * table.pivot_table(index="beta", columns="alpha", values=column, aggfunc="mean")
            picture = axes.pcolormesh(mean.columns, mean.index, mean.to_numpy(), cmap="viridis_r", shading="nearest")
            fig.colorbar(picture, ax=axes, label="error, % of $\\|W_0\\tilde X\\|$")
            least = mean.stack().idxmin()
            axes.plot(least[1], least[0], "*", color="white", markersize=13, markeredgecolor=BLACK, label="least")
            axes.plot(0.25, 0.25, "s", color="none", markersize=9, markeredgecolor="white", label="the authors' program")
            axes.plot(1, 1, "D", color="none", markersize=9, markeredgecolor="white", label="the paper's formula")
            axes.set(title=title, xlabel="alpha, strength of $r_1$", ylabel="beta, strength of $r_2$")
            axes.grid(visible=False)
        axes.legend(loc="upper left", labelcolor="white")
    return fig


def draw_tokens_damping(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """Calibration (faint) and held-out error against tokens, a panel a damping."""
    table = pd.DataFrame(records)
    with figure(9.5, 3.9) as fig:
        dampings = sorted(table["damping"].unique())
        for axes, damping in zip(np.atleast_1d(fig.subplots(1, len(dampings), sharey=True)), dampings, strict=True):
            part = table[table["damping"] == damping]
            _method_lines(axes, part, "tokens", "held_out")
            for method, rows in part.groupby("method", sort=False):
                mean = 100 * rows.groupby("tokens")["error"].mean()
                axes.plot(mean.index, mean, ":", color=COLOURS[method], linewidth=1)
            axes.set_xscale("log", base=2)
            axes.set_xticks(part["tokens"].unique(), [str(t) for t in part["tokens"].unique()])
            axes.set(title=f"damping {damping:g}", xlabel="calibration tokens", ylabel=ERROR if damping == dampings[0] else "")
        axes.legend()
        fig.suptitle(f"{table['layer'][0]}: held out (lines) and calibration (dotted)", fontsize=10)
    return fig


def draw_block_size(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """Share of codes that change with the block size, and what that does to the error."""
    table: Any = pd.DataFrame(records)
    with figure(8.5, 3.2) as fig:
        codes, error = fig.subplots(1, 2)
        for (compat, colour) in (("clean", GREEN), ("reference", RED)):
            rows = table[table["compat"] == compat].groupby("block_size")
            if len(rows):
                codes.plot(rows["codes_changed"].mean() * 100, "-o", color=colour, label={"clean": "clean form", "reference": "authors' code"}[compat])
                error.plot(rows["error"].mean() * 100, "-o", color=colour)
        codes.set(title="codes that differ from the smallest block's", xlabel="block size", ylabel="%")
        error.set(title="error", xlabel="block size", ylabel=ERROR)
        codes.legend()
    return fig
