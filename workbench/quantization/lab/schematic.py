"""The drawing of the method: columns are rounded one after another, and the columns not rounded yet change to compensate."""

from __future__ import annotations

from matplotlib.axes import Axes

from workbench.inks import FAINT, GREY, HAIR, INK, ORANGE, RED, text
from workbench.schematics import declare

LEVELS = [45, 80, 115, 150]  # pixels from the top
ROUNDED = [80, 115, 45, 115, 150]
# weights that are not rounded yet, before and after the compensation
FREE = [(72, 84), (128, 118), (60, 52), (104, 112), (138, 130), (96, 88)]


def draw(axes: Axes) -> None:
    """Draw five rounded columns, the column that is being rounded, and six columns that are not rounded yet."""
    for level in LEVELS:
        axes.plot([40, 640], [level, level], color=HAIR, linewidth=1)
    axes.text(34, 100, "levels", color=FAINT, fontsize=8, rotation=90, ha="right", va="center")
    for place, level in enumerate(ROUNDED):
        axes.plot(70 + 45 * place, level, "s", color=GREY, markersize=8)
    now = 70 + 45 * len(ROUNDED)
    axes.plot(now, 96, "o", color=RED, markersize=8, markerfacecolor="none")
    axes.plot(now, 80, "s", color=RED, markersize=8)
    axes.annotate("", (now, 84), (now, 95), arrowprops={"arrowstyle": "->", "color": RED})
    for place, (before, after) in enumerate(FREE, len(ROUNDED) + 1):
        x = 70 + 45 * place
        axes.plot(x, before, "o", color=ORANGE, markersize=7, markerfacecolor="none")
        axes.plot(x, after, "o", color=ORANGE, markersize=7)
        axes.annotate("", (x, after), (x, before), arrowprops={"arrowstyle": "->", "color": ORANGE, "shrinkA": 3, "shrinkB": 3})
    for x, said, colour in (
        (160, "rounded", GREY),
        (now, "being rounded", RED),
        (now + 185, "not rounded yet: adjusted", ORANGE),
    ):
        axes.text(x, 20, said, color=text(colour), fontsize=9, ha="center", weight="bold")
    axes.text(340, 178, "columns of the weight matrix, in the order of rounding  →", color=INK, fontsize=8, ha="center")


declare(
    "quantization",
    draw,
    "Quantization rounds the columns of a weight matrix one after another to a few levels, and each rounding changes the "
    "output of the layer. GPTQ and its successors change the columns that are not rounded yet, so that the output "
    "changes as little as possible.",
)
