"""The figures of the experiments `two_weights` and `update`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREY, INK, PINK, RED, text
from workbench.live import Pins, heading, live, part, stems, words
from workbench.plotting import BEHIND
from workbench.quantization.lab.figures import COLOURS, LABELS, short


@live
def draw_two_weights(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the plane of two weights: ellipses of equal error, grid points, and the weights that each method chooses."""
    errors = {r["method"]: max(r["error"], 0.0) for r in records}
    found = [LABELS[m] for m, e in errors.items() if m != "best" and e <= errors.get("best", 0.0) + 1e-9]
    heading(fig, f"The best grid point is found by {', '.join(found)}" if found else "No method finds the best grid point")
    plane = part(fig, "plane", 46, 40, 350, 350, gap=26)
    hessian, target = np.array(records[0]["hessian"]), np.array(records[0]["target"])
    start = np.array(records[0]["w"])
    centre = np.round((start + target) / 2)
    _rings(plane, hessian, target)
    points = np.arange(-3, 4)
    plane.plot(*np.meshgrid(points + centre[0], points + centre[1]), "+", color=GREY, markersize=6, linestyle="")
    for offset, r in enumerate(records):
        if r["method"] == "best":
            plane.plot(*r["after"], "o", color=INK, markerfacecolor="none", markeredgewidth=1.6, markersize=16)
            continue
        path = np.array([start, [r["after"][0], r["before"][1]], r["after"]]) + 0.03 * (offset - 2)
        plane.plot(*path.T, "-o", color=COLOURS[r["method"]], markersize=4)
    plane.plot(*start, "o", color=INK, markersize=7)
    plane.plot(*target, "*", color=INK, markersize=11)
    moved = np.mean([r["after"] for r in records], axis=0) - start
    side, below = np.where(moved > 0, -9, 9)  # of a label, relative to its point; the paths are on the other side of the point
    middle: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for said, place, y in (("w₀", start, below), ("w*", target, -below)):
        plane.annotate(said, place, (side, y), weight="bold", bbox=BEHIND, zorder=3, **middle)
    plane.set(xlim=centre[0] + np.array([-2.4, 2.4]), ylim=centre[1] + np.array([-2.4, 2.4]))
    plane.set(
        xlabel="first weight, in steps of the grid",
        ylabel="second weight, in steps",
        title="w₀: original, w*: best unrounded weights, ○: best grid point",
    )
    plane.grid(visible=False)
    _ranks(part(fig, "ranks", 520, 40, 138, 350), errors)


def _ranks(ranks: Axes, errors: dict[str, float]) -> None:
    """Draw the error of each method on a square-root scale, so that small errors can be distinguished."""
    for y, (method, error) in enumerate(errors.items()):
        ranks.plot(error**0.5, y, "o", color=COLOURS[method], markersize=8)
        ranks.annotate(f"{error:.2f}", (error**0.5, y), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=8)
    most = max(errors.values()) ** 0.5
    ranks.set_yticks(range(len(errors)), [LABELS[m] for m in errors])
    marks = [value for value in (0, 0.25, 1, 4, 16, 64) if value**0.5 <= 1.2 * most]
    shown = sorted({*marks[:1], *marks[-2:]})
    ranks.set_xticks([value**0.5 for value in shown], labels=[f"{value:g}" for value in shown])
    for name, method in zip(ranks.get_yticklabels(), errors, strict=True):
        name.set(color=text(COLOURS[method]), fontweight="bold")
    ranks.set(
        xlim=(-0.12 * most - 1e-3, 1.2 * most + 1e-3),
        ylim=(len(errors) - 0.5, -0.6),
        xlabel="squared error (root scale)",
        title="Error by method",
    )


def _rings(axes: Axes, hessian: np.ndarray, centre: np.ndarray) -> None:
    """Draw the ellipses on which the error ``(w - w*) H (w - w*)'`` is 0.25, 1, 2.25, ..."""
    angles = np.linspace(0, 2 * np.pi, 73)
    values, vectors = np.linalg.eigh(hessian)
    circle = vectors @ (np.array([np.cos(angles), np.sin(angles)]) / np.sqrt(values)[:, None])
    for k in range(1, 10):
        axes.plot(*(centre[:, None] + 0.5 * k * circle), color=FAINT, alpha=0.45, linewidth=0.9)


@live
def draw_update(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw the three terms that rounding one column adds to the columns that are not rounded yet, and the sum of these terms."""
    record = records[-1]
    size = {key: np.abs(record[key]).sum() for key in ("gptq", "r1", "r2")}
    whole = sum(size.values()) or 1.0
    shares = ", ".join(
        f"{name} {100 * size[key] / whole:.0f} %" for key, name in (("gptq", "GPTQ's term"), ("r1", "r₁"), ("r2", "r₂"))
    )
    heading(
        fig,
        f"Corrections after rounding column {record['column']}: {shares}",
        "shares of the summed absolute changes of the weights that are not rounded yet, in one output row",
    )
    x = np.arange(record["column"] + 1, record["column"] + 1 + len(record["fused"]))
    whole_axes, small = (part(fig, "sum", 82, 62, 576, 150, gap=66), part(fig, "terms", 82, 256, 576, 126, gap=66))
    stems(whole_axes, x, 0, record["gptq"], color=GREY, linewidth=5)
    whole_axes.plot(x, record["fused"], "D", color=INK, markersize=4.5)
    legend = [("▮ GPTQ's term   ", text(GREY)), ("◆ sum of all three", INK)]
    for name, series in pinned[-1:]:
        other = series[-1]
        y = np.arange(other["column"] + 1, other["column"] + 1 + len(other["fused"]))
        whole_axes.plot(y, other["fused"], "D", color=PINK, markerfacecolor="none", markersize=4.5)
        legend.append((f"   ◇ {short(name)}", text(PINK)))
    for place, (key, colour) in enumerate((("r1", RED), ("r2", BLUE))):
        stems(small, x + 0.3 * (place - 0.5), 0, record[key], color=colour, linewidth=4)
    for axes, title in ((whole_axes, "All terms"), (small, "Only r₁ and r₂, on another scale")):
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.set(ylabel="change of weight", xlim=(x[0] - 0.7, x[-1] + 0.7) if len(x) else (0, 1), title=title)
    small.set_xlabel("input column")
    words(whole_axes, legend)
    words(small, [("▮ r₁ (GPTAQ)   ", text(RED)), ("▮ r₂ (ResComp)", text(BLUE))])
