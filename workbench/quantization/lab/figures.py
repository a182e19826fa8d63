"""The figures of the live experiments on a layer, and the names and colours of all methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREEN, GREY, HAIR, INK, ORANGE, RED, SKY, text
from workbench.live import PIN_COLOURS, Pins, heading, live, part, stems, words
from workbench.plotting import BEHIND, figure, spread

COLOURS = {
    "rtn": GREY, "gptq": BLUE, "gptq+rescomp": SKY, "foem": SKY, "gptaq": RED, "gptaq+rescomp": ORANGE,
    "exact": GREEN, "best": INK,
}  # fmt: skip
LABELS = {
    "rtn": "RTN", "gptq": "GPTQ", "gptq+rescomp": "GPTQ + ResComp", "foem": "FOEM", "gptaq": "GPTAQ",
    "gptaq+rescomp": "GPTAQ + ResComp", "exact": "exact target", "best": "best grid point",
}  # fmt: skip
ERROR = "error, % of the output"
LINE = 0.11  # height of a line of text in `_error_so_far`, as a share of the height of the axes
WINDOW = 96  # the largest number of columns that a picture of one row shows


@live
def draw_layer_trace(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw a part of one row of weights, the output error so far, and, if runs are pinned, a comparison with them."""
    last = records[-1]
    heading(
        fig, f"{LABELS[last['method']]}, {last['bits']} bits: {last['columns']} of {last['of']} columns rounded", last["layer"]
    )
    _row_of_weights(part(fig, "row", 52, 58, 606, 138), records)
    _error_so_far(part(fig, "error", 52, 256, 368 if pinned else 606, 126), records, pinned)
    if pinned:
        _now(part(fig, "now", 468, 256, 190, 126), records, pinned)


def _row_of_weights(axes: Axes, records: Sequence[Record]) -> None:
    """Draw up to `WINDOW` columns of one row: original weights, levels, rounded weights, and weights that are not rounded yet."""
    done, columns = records[-1]["columns"], records[-1]["of"]
    before, now = np.array(records[0]["row"]), np.array(records[-1]["row"])
    first = max(0, min(done - 40, columns - WINDOW))
    x = np.arange(first, min(columns, first + WINDOW))
    w0, w = before[x], now[x]
    fixed, free = x < done, x >= done
    start = 0
    for record in records[1:]:
        end = record["columns"]
        if end > first and start < x[-1] and 0 < len(record.get("levels", ())) <= 16:
            axes.hlines(record["levels"], max(start, first) - 0.5, min(end, x[-1] + 1) - 0.5, color=HAIR, linewidth=0.8)
        start = end
    stems(axes, x[fixed], w0[fixed], w[fixed], color=FAINT, linewidth=0.8)
    stems(axes, x[free], w0[free], w[free], color=ORANGE, linewidth=1.4)
    axes.plot(x, w0, ".", color=FAINT, markersize=3.5)
    axes.plot(x[free], w[free], ".", color=ORANGE, markersize=6)
    axes.plot(x[fixed], w[fixed], "_", color=INK, markersize=4, markeredgewidth=1.8)
    if 0 < done < columns:
        axes.axvline(done - 0.5, color=BLUE, linewidth=1.2)
    most = 1.12 * max(np.abs(w0).max(), np.abs(w).max(), 1e-9)
    axes.set(
        xlim=(x[0] - 1, x[-1] + 1),
        ylim=(-most, most),
        ylabel="weight",
        xlabel=f"input column, in the order of rounding: {len(x)} of {columns} shown",
    )
    axes.grid(visible=False)
    axes.set_title("Weights of one row")
    moved = (
        [("– rounded   ", INK), ("● not rounded yet, moved by compensation", text(ORANGE))]
        if done < columns
        else [("– rounded", INK)]
    )
    words(axes, [("• original   ", text(GREY)), *moved])


def _error_so_far(axes: Axes, records: Sequence[Record], pinned: Pins) -> None:
    last, columns = records[-1], records[-1]["of"]
    colour, most = COLOURS[last["method"]], 0.0
    for (_, series), shade in zip(pinned, PIN_COLOURS, strict=False):
        most = max(most, _errors(axes, series, shade, 1.2))
    most = max(most, _errors(axes, records, colour, 2.0), *(0 if pinned else 100 * v for v in last["rounding"]))
    end = columns if pinned else min(columns, max(1.15 * last["columns"], 0.1 * columns))
    before = " (at 0: error from earlier layers)" if records[0]["error"] > 1e-3 and not pinned else ""
    axes.set(xlim=(0, end), ylim=(0, 1.25 * most or 1), xlabel=f"columns rounded{before}", ylabel="error, %")
    levels = [(last["floor"], "lowest error without rounding", ":")]
    if not pinned and last["method"] != "rtn":
        calibration, unseen = last["rounding"]
        levels += [(unseen, "RTN, held-out text", "--"), (calibration, "RTN, calibration text", "-")]
    late = last["columns"] > 0.5 * end  # if so, the labels of the lines are at the left
    grey: dict[str, Any] = {"color": FAINT, "fontsize": 8}
    bold: dict[str, Any] = {"color": text(colour), "fontsize": 8.5, "weight": "bold"}
    names = [(100 * level, name, 0 if late else end, late, grey) for level, name, _ in levels]
    for key, name in (("held_out", "held-out text"), ("error", "calibration text")):
        names.append((100 * last[key], name, last["columns"], not late, bold))
    for level, _, dashes in levels:
        axes.axhline(100 * level, color=FAINT, linewidth=1, linestyle=dashes)
    names.sort(key=lambda name: name[0])
    heights = spread([name[0] for name in names], LINE * axes.get_ylim()[1], 0.9 * axes.get_ylim()[1])
    for (value, name, x, rightwards, look), y in zip(names, heights, strict=True):
        offset, side = (4 if rightwards else -4, 3), "left" if rightwards else "right"
        axes.annotate(f"{name} {value:.1f}", (x, y), offset, textcoords="offset points", ha=side, bbox=BEHIND, **look)
    axes.set_title("Output error so far")


def _errors(axes: Axes, series: Sequence[Record], colour: str, width: float) -> float:
    """Draw the calibration and the held-out error of a run, and return the largest held-out error in percent."""
    x = [r["columns"] for r in series]
    held_out, error = ([100 * r[key] for r in series] for key in ("held_out", "error"))
    axes.plot(x, held_out, "--", color=colour, linewidth=width)
    axes.plot(x, error, color=colour, linewidth=width)
    return max(held_out)


def at_column(records: Sequence[Record], columns: int) -> Record:
    """Return the first record with at least `columns` rounded columns, or the last record if no record has that many."""
    return next((r for r in records if r["columns"] >= columns), records[-1])


def _now(axes: Axes, records: Sequence[Record], pinned: Pins) -> None:
    """Draw the current calibration and held-out errors of this run, and the errors of the pinned runs at the same column."""
    last = records[-1]
    rows = [(LABELS[last["method"]], last, COLOURS[last["method"]])]
    rows += [(name, at_column(r, last["columns"]), shade) for (name, r), shade in zip(pinned, PIN_COLOURS, strict=False)]
    for y, (name, record, colour) in enumerate(rows):
        ends = [100 * record["error"], 100 * record["held_out"]]
        axes.plot(ends, [y, y], color=colour, linewidth=1.2)
        axes.plot(ends[0], y, "o", color=colour, markersize=6)
        axes.plot(ends[1], y, "o", color=colour, markerfacecolor="none", markeredgewidth=1.6, markersize=6)
        said = f"{short(name)}  {ends[0]:.1f}, {ends[1]:.1f}"
        axes.annotate(
            said,
            (0, y),
            xycoords=("axes fraction", "data"),
            xytext=(2, 6),
            textcoords="offset points",
            fontsize=8,
            parse_math=False,
        )
    found = [100 * r[key] for _, r, _ in rows for key in ("error", "held_out")]
    room = max(0.15 * (max(found) - min(found)), 0.5)
    axes.set(xlim=(min(found) - room, max(found) + room), ylim=(len(rows) - 0.5, -0.75), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.set(xlabel="● calibration  ○ held-out, %", title="Now, with pinned runs" if pinned else "Now")


def short(name: str) -> str:
    """Shorten a label so that it fits into the figure."""
    return name if len(name) <= 22 else name[:21] + "…"


def draw_residuals(records: Sequence[Record]) -> Figure:
    """Draw the residuals r1 and r2, and the loss that GPTQ prints, against the number of rounded columns.

    Thin lines are the parts of the residuals that no change of the free columns (those that are not rounded yet) can correct.
    """
    last = records[-1]
    x = [r["columns"] for r in records]
    with figure(670, 260) as fig:
        residuals, losses = fig.subplots(1, 2)
        for key, colour, name in (("r1", RED, "r₁ = W(X̃ − X)"), ("r2", BLUE, "r₂ = (W₀ − W)X̃")):
            lost = [100 * r[f"{key}_orthogonal"] for r in records]
            residuals.plot(x, [100 * r[key] for r in records], color=colour, label=name)
            residuals.plot(x, lost, color=colour, alpha=0.5, linewidth=1, label="  uncorrectable")
        residuals.set(title="Residuals", xlabel="columns rounded", ylabel="% of the output", xlim=(0, last["of"]))
        residuals.set_ylim(0, 1.5 * max(residuals.dataLim.y1, 1e-9))
        residuals.legend(loc="upper left", ncols=2)
        found = [value for record in records for value in record.get("column_error", ())]
        losses.plot(np.arange(1, len(found) + 1), np.cumsum(found), color=COLOURS[last["method"]])
        losses.set(title="Loss printed by GPTQ: sum of ‖e‖²", xlabel="columns rounded", xlim=(0, last["of"]))
    return fig


@live
def draw_grid(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw the weights of one row, the levels to which they are rounded, and the number of weights on each level."""
    record = records[-1]
    weights, levels = np.array(record["before"]), np.array(record["levels"])
    heading(
        fig,
        f"{2 ** record['bits']} levels: rounding changes the weights by {100 * record['weight_error']:.1f} % of their norm",
        f"{record['layer']}, {record['grid']} grid, {record['group_size']} columns share a scale",
    )
    row, counts = part(fig, "row", 52, 58, 420, 324), part(fig, "counts", 510, 58, 148, 324)
    x = np.arange(min(len(weights), WINDOW))
    seen = levels[np.abs(levels) < 2 * np.abs(weights).max()]
    row.hlines(seen, -1, len(x), color=HAIR, linewidth=0.8)
    after = np.array(record["after"])
    stems(row, x, weights[x], after[x], color=FAINT, linewidth=0.8)
    row.plot(x, weights[x], ".", color=FAINT, markersize=4)
    row.plot(x, after[x], "_", color=INK, markersize=4, markeredgewidth=1.8)
    legend = [("• weight   ", text(GREY)), ("– rounded", INK)]
    for (name, series), shade in zip(pinned, PIN_COLOURS, strict=False):
        other = np.array(series[-1]["after"][:WINDOW])
        row.plot(np.arange(len(other)), other, "_", color=shade, markersize=5)
        legend.append((f"   – {short(name)}", text(shade)))
    most = 1.1 * max(np.abs(weights).max(), np.abs(seen).max() if len(seen) else 0)
    row.set(
        xlim=(-1, len(x)),
        ylim=(-most, most),
        xlabel=f"input column, {len(x)} of {len(weights)} shown",
        ylabel="weight",
        title="Weights of one row",
    )
    row.grid(visible=False)
    words(row, legend)
    found, shares = np.unique(after, return_counts=True)
    counts.barh(found, shares, height=0.7 * np.diff(levels).min(), color=SKY)
    counts.plot(np.zeros(len(seen)), seen, "_", color=FAINT, markersize=5)
    counts.set(
        xlim=(0, 1.05 * shares.max()), ylim=(-most, most), xlabel="number of weights", yticks=[], title="Weights per level"
    )
    counts.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    counts.grid(visible=False)
