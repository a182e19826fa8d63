"""Live figures, which are redrawn while a run makes progress or a user moves a knob.

A function draws a live figure from the records. It can also update an existing figure, which is faster than drawing a new one.
All positions are given in pixels, since Matplotlib's constrained layout would take half of the drawing time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from workbench.inks import FAINT, GREEN, GREY, PINK, SKY
from workbench.plotting import PIXELS, figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.experiment import Record


def live(draw: Callable[..., None]) -> Callable[..., Figure]:
    """Convert ``draw(figure, records)``, which fills an empty figure, to a function that returns a figure for records.

    If `draw` can compare runs, it also accepts ``pinned=()``, the labels and records of other runs. The returned function has an
    attribute ``update(figure, records)``, a function that redraws an existing figure, so that it equals a new one. `update` keeps
    the axes (see `part`), since creating axes takes most of the time, and replaces only their content.
    """

    @wraps(draw)
    def pure(records: Sequence[Record], **pinned: Any) -> Figure:
        with figure(layout=None) as made:
            draw(made, records, **pinned)
            return made

    def update(kept: Figure, records: Sequence[Record], **pinned: Any) -> None:
        with style():
            for held in kept.texts[:]:
                held.remove()
            kept.parts_drawn = []
            draw(kept, records, **pinned)
            if kept.parts_drawn != [axes.get_label() for axes in kept.axes]:  # the figure needs different axes now
                kept.clear()
                draw(kept, records, **pinned)

    pure.update = update  # type: ignore[attr-defined]
    return pure


def part(figure: Figure, name: str, left: float, top: float, width: float, height: float, gap: float = 36) -> Axes:
    """Return empty axes named `name` in a live figure. If the figure already has axes of this name, they are cleared and reused.

    Positions are in pixels from the upper left corner. The y-label is at a fixed distance of `gap` pixels from the y-axis, since
    a position that depends on the width of the tick labels would take a third of the drawing time.
    """
    whole_width, whole_height = figure.get_size_inches() * PIXELS
    place = (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    figure.parts_drawn = [*getattr(figure, "parts_drawn", ()), name]
    found = next((axes for axes in figure.axes if axes.get_label() == name), None)
    if found is None:
        found = figure.add_axes(place, label=name)
    found.xaxis.set_label_coords(0.5, -23 / height)
    found.yaxis.set_label_coords(-gap / width, 0.5)
    for artist in (*found.lines, *found.collections, *found.patches, *found.texts, *found.images):
        artist.remove()
    found.set_position(place)
    found.set(title="", xlabel="", ylabel="")
    found.set_axis_on()
    found.relim()
    found.autoscale(True)
    return found


def stems(axes: Axes, x: Any, low: Any, high: Any, **style: Any) -> None:
    """Draw a vertical line from `low` to `high` at each `x`.

    All these lines are drawn as one line with gaps, which takes a tenth of the time that separate lines would take.
    """
    x, low, high = np.broadcast_arrays(np.asarray(x, float), low, high)
    gap = np.full(x.shape, np.nan)
    axes.plot(np.stack([x, x, gap], 1).ravel(), np.stack([low, high, gap], 1).ravel(), solid_capstyle="butt", **style)


PIN_COLOURS = (GREY, PINK, SKY, GREEN)  # colours of pinned runs, in order
Pins = Sequence[tuple[str, Sequence["Record"]]]  # the label and the records of each pinned run


def heading(figure: Figure, title: str, subtitle: str = "") -> None:
    """Write a title at the top of a live figure, and a subtitle below the title. The title states the finding."""
    width, height = figure.get_size_inches() * PIXELS
    figure.text(8 / width, 1 - 4 / height, title, fontsize=11, weight="bold", va="top", parse_math=False)
    if subtitle:
        figure.text(8 / width, 1 - 22 / height, subtitle, fontsize=8.5, color=FAINT, va="top", parse_math=False)


def words(axes: Axes, parts: Sequence[tuple[str, str]], line: int = 0) -> None:
    """Write a one-line legend at the right end of the title line of the axes, or `line` lines higher.

    `parts` are the texts of the legend with their colours.
    """
    left = 0
    for said, colour in reversed(parts):
        axes.annotate(
            said.replace(" ", "\u00a0"),  # SVG removes normal spaces at the end of a text
            (1, 1),
            xycoords="axes fraction",
            xytext=(left, 5 + 11 * line),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=colour,
            parse_math=False,
        )
        left -= 4.5 * len(said) + 1  # estimated width in points, which is faster than measuring it
