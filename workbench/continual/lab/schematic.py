"""The drawing that explains CLASSP: a weight moves less, the more gradient it has already received."""

from __future__ import annotations

from matplotlib.axes import Axes

from workbench.inks import FAINT, GREY, HAIR, INK, ORANGE, text
from workbench.schematics import declare

LEFT, RIGHT = 120, 640
FIRST = 4  # steps of task 1


def _hops(axes: Axes, y: float, steps: list[float], colour: str) -> None:
    """Draw arrows of the lengths `steps` along a horizontal line, one after another."""
    x = LEFT
    axes.plot([LEFT, RIGHT], [y, y], color=HAIR, linewidth=1)
    for number, step in enumerate(steps):
        style = {
            "arrowstyle": "-|>",
            "color": colour,
            "shrinkA": 0,
            "shrinkB": 0,
            "connectionstyle": "arc3,rad=-0.45",
            "linewidth": 1.6,
        }
        axes.annotate("", (x + step, y), (x, y), arrowprops=style)
        x += step
        if number == FIRST - 1:
            axes.plot(x, y, "o", color=colour, markersize=6)
    axes.plot(x, y, "s", color=colour, markersize=7, markerfacecolor="none")


def draw(axes: Axes) -> None:
    """Draw the steps of one weight with SGD and with CLASSP."""
    _hops(axes, 78, [58.0] * (2 * FIRST), GREY)
    _hops(axes, 146, [110.0, 62, 44, 34, 14, 10, 8, 6], ORANGE)
    for y, said, colour in ((74, "SGD", GREY), (142, "CLASSP", ORANGE)):
        axes.text(LEFT - 18, y, said, color=text(colour), fontsize=10, ha="right", va="center", weight="bold")
    axes.text(LEFT, 18, "● where the weight is after task 1      □ where it is after task 2", color=INK, fontsize=8.5)
    axes.text((LEFT + RIGHT) / 2, 178, "value of one weight  →", color=FAINT, fontsize=8, ha="center")


declare(
    "continual",
    draw,
    "With SGD, every step has the same learning rate, so task 2 can move a weight far away from its value after task 1. With "
    "CLASSP, the more gradient a weight has already received, the less it moves, so it stays close to that value.",
)
