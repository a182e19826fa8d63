"""The drawing of the method: a weight is the difference between the conductances of two devices."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from workbench.inks import BLUE, FAINT, HAIR, INK, ORANGE, text
from workbench.schematics import declare

FLOOR, TOP = 150, 36  # vertical positions in pixels: the bottom of a device, and the top of a full device


def _device(axes: Axes, left: float, level: float, name: str, said: str, colour: str) -> None:
    """Draw a device as a column that is filled to the share `level`, and an arrow that points upwards from the filling level."""
    height = level * (FLOOR - TOP)
    axes.add_patch(Rectangle((left, TOP), 52, FLOOR - TOP, facecolor="none", edgecolor=FAINT))
    axes.add_patch(Rectangle((left, FLOOR - height), 52, height, facecolor=colour, alpha=0.75))
    axes.annotate(
        "",
        (left + 26, FLOOR - height - 26),
        (left + 26, FLOOR - height),
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2},
    )
    axes.text(left + 26, FLOOR + 16, name, color=INK, fontsize=10, ha="center")
    axes.text(left + 26, 22, said, color=text(colour), fontsize=8.5, ha="center", weight="bold")


def draw(axes: Axes) -> None:
    """Draw a pair of devices, and the conductance of a device as a staircase over the number of pulses."""
    _device(axes, 60, 0.62, "$g^+$", "pulses to increase w", ORANGE)
    _device(axes, 210, 0.35, "$g^-$", "pulses to decrease w", BLUE)
    axes.text(161, 92, "−", fontsize=16, ha="center", va="center", color=INK)
    axes.text(316, 92, "= weight w", fontsize=11, ha="center", va="center", color=INK)
    pulses = np.arange(13)
    heights = FLOOR - (FLOOR - TOP) * (1 - np.exp(-3 * pulses / 12)) / (1 - np.exp(-3))
    axes.plot([420, 420, 640], [TOP - 6, FLOOR, FLOOR], color=FAINT, linewidth=1)
    axes.plot([420, 640], [TOP, TOP], color=HAIR, linewidth=1)
    axes.plot(420 + 18 * pulses, heights, drawstyle="steps-post", color=INK, linewidth=1.6)
    axes.text(530, 22, "each pulse adds a smaller step", color=INK, fontsize=8.5, ha="center", weight="bold")
    axes.text(530, FLOOR + 16, "pulses  →", color=FAINT, fontsize=8.5, ha="center")
    axes.text(412, (TOP + FLOOR) / 2, "conductance", color=FAINT, fontsize=8.5, rotation=90, ha="right", va="center")


declare(
    "synapse",
    draw,
    "A weight is the difference between the conductances of two memory devices, and unidirectional updating only sends pulses "
    "that increase one of the two conductances. When a conductance is near its maximum, a refresh resets both devices of the "
    "pair and writes the difference again.",
)
