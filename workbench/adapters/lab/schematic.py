"""The drawing that explains MiSS: one small trained matrix is repeated over the whole weight."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from workbench.inks import FAINT, GREEN, HAIR, INK, ORANGE, text
from workbench.schematics import declare

SIDE, BLOCKS, TOP = 128, 4, 34  # pixels
SHADES = np.array([[0.9, 0.35], [0.2, 0.7], [0.55, 0.95], [0.8, 0.3], [0.25, 0.6], [0.65, 0.15], [0.4, 0.85], [0.95, 0.5]])


def _shard(axes: Axes, left: float, width: float, height: float) -> None:
    """Draw the small matrix of MiSS in shades of one colour."""
    rows, columns = SHADES.shape
    for (row, column), shade in np.ndenumerate(SHADES):
        corner = (left + column * width / columns, TOP + row * height / rows)
        axes.add_patch(_rectangle(corner, width / columns, height / rows, ORANGE, shade))


def _rectangle(corner: tuple[float, float], width: float, height: float, colour: str, alpha: float = 1.0, edge: str = "none"):
    """Return a filled rectangle."""
    return Rectangle(corner, width, height, facecolor=colour, alpha=alpha, edgecolor=edge, linewidth=0.8)


def draw(axes: Axes) -> None:
    """Draw the frozen weight, the repeated matrix of MiSS, and the two matrices of LoRA."""
    axes.add_patch(_rectangle((30, TOP), SIDE, SIDE, HAIR))
    axes.text(30 + SIDE / 2, TOP + SIDE / 2, "W\nfrozen", ha="center", va="center", fontsize=10, color=INK)
    axes.text(180, TOP + SIDE / 2, "+", ha="center", va="center", fontsize=18, color=INK)
    for block in range(BLOCKS):
        left = 205 + block * SIDE / BLOCKS
        _shard(axes, left, SIDE / BLOCKS, SIDE)
        axes.add_patch(_rectangle((left, TOP), SIDE / BLOCKS, SIDE, "none", edge=INK if block == 0 else FAINT))
    axes.text(205 + SIDE / 2, 20, "MiSS: one small matrix, repeated", color=text(ORANGE), fontsize=9, ha="center", weight="bold")
    axes.text(205 + SIDE / 8, TOP + SIDE + 14, "trained", color=text(ORANGE), fontsize=8.5, ha="center")
    axes.text(205 + 5 * SIDE / 8, TOP + SIDE + 14, "copies", color=FAINT, fontsize=8.5, ha="center")
    axes.text(400, TOP + SIDE / 2, "or", ha="center", va="center", fontsize=11, color=FAINT)
    axes.add_patch(_rectangle((450, TOP), 18, SIDE, GREEN, 0.75))
    axes.text(484, TOP + SIDE / 2, "×", ha="center", va="center", fontsize=13, color=INK)
    axes.add_patch(_rectangle((500, TOP + SIDE / 2 - 9), SIDE, 18, GREEN, 0.75))
    axes.text(540, 20, "LoRA: two thin matrices", color=text(GREEN), fontsize=9, ha="center", weight="bold")
    axes.text(459, TOP + SIDE + 14, "B", color=text(GREEN), fontsize=9, ha="center")
    axes.text(564, TOP + SIDE / 2 + 22, "A", color=text(GREEN), fontsize=9, ha="center")


declare(
    "adapters",
    draw,
    "An adapter leaves the weight W of a layer frozen and trains an update with few parameters. MiSS repeats one small "
    "matrix for every block of inputs, while LoRA multiplies two thin matrices.",
)
