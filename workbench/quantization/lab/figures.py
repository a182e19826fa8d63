"""Records in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
    with figure(10.5, 6.4, layout=None) as fig:
        margins = {"left": 0.065, "right": 0.985, "bottom": 0.075, "top": 0.9, "wspace": 0.16, "hspace": 0.36}
        weights, errors, residuals, objective = fig.subplots(2, 2, gridspec_kw=margins).flat
        title = f"{last['layer']}, {LABELS[last['method']]}, {last['bits']} bits: {last['columns']} of {last['of']} columns"
        fig.suptitle(title, fontsize=11)
        _row_of_weights(weights, records)
        for series, style, name in _with_pinned(records, pinned):
            colour = COLOURS[series[-1]["method"]]
            _column_errors(errors, series, colour, style, name)
            _objective(objective, series, colour, style, name)
            _residuals(residuals, series, style, name)
        for axes in (residuals, objective):  # room for the legends
            axes.set_ylim(0, 1.5 * max(axes.dataLim.y1, 1e-9))
        for axes in (weights, errors, residuals, objective):
            axes.set_xlim(0, last["of"])
            axes.set_xlabel("column, in the order in which they are quantized")
    return fig


def _with_pinned(records: Sequence[Record], pinned: Pinned) -> list[tuple[Sequence[Record], str, str]]:
    """The series to draw, with line style and, for the pinned one, its word in the legend."""
    now = [(records, "-", "")]
    return now if pinned is None else [(pinned[1], ":", f"pinned: {_short(pinned[0])}"), *now]


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
        x, larger = np.arange(1, len(found) + 1), len(found) / 10
        axes.plot(x, np.cumsum(found), style, color=colour, label=name or "sum so far")
        if not name:
            each = np.array(found) * larger
            axes.plot(x, each, color=colour, alpha=0.25, linewidth=0.6, label=f"each column, x {larger:.0f}")
        axes.legend(loc="upper left")
    axes.set(title="error sent on by each column (GPTQ's printed loss)", ylabel="$\\|e_q\\|^2$")


def _residuals(axes: Axes, records: Sequence[Record], style: str, name: str) -> None:
    x = [r["columns"] for r in records]
    for key, colour, label in (("r1", RED, "$r_1=W(\\tilde X-X)$"), ("r2", BLUE, "$r_2=(W_0-W)\\tilde X$")):
        axes.plot(x, [100 * r[key] for r in records], style, color=colour, label=None if name else label)
        lost = [100 * r[f"{key}_orthogonal"] for r in records]
        axes.plot(
            x,
            lost,
            style,
            color=colour,
            alpha=0.45,
            linewidth=1.0,
            label=None if name else "   lost for good",
        )
    if not name:
        axes.legend(loc="upper left", ncols=2)
    axes.set(title="residuals, and (faint) what no free column can repay", ylabel="% of $\\|W_0\\tilde X\\|$")


def _objective(axes: Axes, records: Sequence[Record], colour: str, style: str, name: str) -> None:
    x, last = [r["columns"] for r in records], records[-1]
    axes.plot(x, [100 * r["error"] for r in records], style, color=colour, label=name or "calibration")
    held_out = [100 * r["held_out"] for r in records]
    axes.plot(x, held_out, style, color=colour, alpha=0.5, label=None if name else "held out")
    if not name:
        axes.axhline(
            100 * last["floor"],
            color=BLACK,
            linewidth=0.9,
            linestyle="--",
            label="floor (no rounding at all)",
        )
        for key in ("error", "held_out"):
            place = {"xytext": (-4, 5), "textcoords": "offset points", "ha": "right", "fontsize": 8}
            axes.annotate(f"{100 * last[key]:.2f}", (x[-1], 100 * last[key]), **place)
    axes.legend(loc="upper left", ncols=2)
    axes.set(title="one objective for all: $\\|QX-W_0\\tilde X\\|$", ylabel="% of $\\|W_0\\tilde X\\|$")


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
            left.hlines(
                levels[np.abs(levels) < 2 * np.abs(record["before"]).max()],
                0,
                len(x),
                color=colour,
                alpha=0.2,
                linewidth=0.7,
            )
            left.plot(np.arange(len(series["after"])), series["after"], "_", color=colour, markersize=5)
        left.plot(x, record["before"], ".", color=BLUE, markersize=4)
        left.set(
            title="one row, first group: weight and nearest level", xlabel="input column", ylabel="weight"
        )
        right.hist(record["before"], bins=40, color=BLUE, alpha=0.6, orientation="horizontal")
        right.hlines(record["levels"], 0, right.get_xlim()[1], color=BLACK, linewidth=0.8)
        right.set(title="how many weights lie near each level", xlabel="weights", ylim=left.get_ylim())
        left.grid(visible=False)
        right.grid(visible=False)
    return fig


def draw_two_weights(records: Sequence[Record]) -> Figure:
    """The plane of two weights: contours of the objective, grid points, and where each method goes."""
    with figure(9.5, 4.6) as fig:
        plane, bars = fig.subplots(1, 2, width_ratios=[3, 2])
        hessian, target = np.array(records[0]["hessian"]), np.array(records[0]["target"])
        start = np.array(records[0]["w"])
        centre = np.round((start + target) / 2)
        a, b = np.meshgrid(np.linspace(-2.4, 2.4, 121) + centre[0], np.linspace(-2.4, 2.4, 121) + centre[1])
        gap = np.stack([a, b], -1) - target
        plane.contour(
            a,
            b,
            np.sqrt(np.einsum("...i,ij,...j", gap, hessian, gap)),
            levels=9,
            colors="#bbbbbb",
            linewidths=0.7,
        )
        plane.plot(
            *np.meshgrid(np.arange(-2, 3) + centre[0], np.arange(-2, 3) + centre[1]),
            "+",
            color=GREY,
            markersize=6,
        )
        plane.plot(*start, "o", color=BLACK, markersize=6)
        plane.annotate("$w_0$", start, xytext=(5, 5), textcoords="offset points")
        plane.plot(*target, "*", color=GREEN, markersize=10)
        plane.annotate("$w^*$", target, xytext=(5, -10), textcoords="offset points")
        for offset, r in enumerate(records):
            path = np.array([start, [r["after"][0], r["before"][1]], r["after"]]) + 0.025 * (offset - 2)
            plane.plot(*path.T, "-o", color=COLOURS[r["method"]], markersize=4, label=LABELS[r["method"]])
        plane.set(
            title="rounding the first weight, mending with the second",
            xlabel="$w_1$ (steps)",
            ylabel="$w_2$ (steps)",
        )
        plane.set_aspect("equal")
        names = [r["method"] for r in records]
        bars.barh(
            [LABELS[n] for n in names],
            [max(r["error"], 0) for r in records],
            color=[COLOURS[n] for n in names],
        )
        bars.invert_yaxis()
        bars.set(title="error against the full-precision stream", xlabel="$\\|QX-W_0\\tilde X\\|^2$")
    return fig


def draw_update(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """The three terms that a column sends to the free ones, stacked, and the fused update as dots."""
    record = records[-1]
    with figure(9.5, 3.4) as fig:
        axes = fig.subplots()
        x = np.arange(record["column"] + 1, record["column"] + 1 + len(record["fused"]))
        width = 0.27
        for place, (key, colour, label) in enumerate(
            (("gptq", BLUE, "GPTQ's term"), ("r1", RED, "$r_1$, GPTAQ"), ("r2", ORANGE, "$r_2$, ResComp"))
        ):
            axes.bar(x + width * (place - 1), record[key], width, color=colour, label=label)
        axes.plot(x, record["fused"], "D", color=BLACK, markersize=4, label="fused update (their sum)")
        if pinned:
            axes.plot(
                x[-len(pinned[1][-1]["fused"]) :],
                pinned[1][-1]["fused"][-len(x) :],
                "D",
                color=PINK,
                markersize=3,
                label="pinned",
            )
        axes.axhline(0, color=BLACK, linewidth=0.6)
        axes.legend(ncols=5)
        axes.set(
            title=f"what column {record['column']} adds to the columns still free, one output row",
            xlabel="column",
            ylabel="change of weight",
        )
    return fig
