"""Figures that are drawn live: a pure function of records, which can also fill a kept figure again.

Their places are in pixels, since the constrained layout is half the cost of a picture.
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
    """Make ``draw(figure, records)``, which fills a figure, a pure function of records with an `update`.

    One that can compare also takes ``pinned=()``, labels and records of other runs. ``update(figure, records)`` fills a figure
    again, so that it equals a new one: the axes, which are most of the cost, stay (see `part`), and only what lies on them is
    made anew.
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
            if kept.parts_drawn != [axes.get_label() for axes in kept.axes]:  # it has other parts now
                kept.clear()
                draw(kept, records, **pinned)

    pure.update = update  # type: ignore[attr-defined]
    return pure


def part(figure: Figure, name: str, left: float, top: float, width: float, height: float, gap: float = 36) -> Axes:
    """The axes `name` of a live figure, empty: those that it has, or new ones. Places are in pixels, from the upper left.

    Names of axes stand where they always do, `gap` pixels left of the y-axis: to measure the ticks would be a third of the cost.
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
    """Upright lines from `low` to `high` at each of `x`, as one line with gaps: a tenth of the cost of one line each."""
    x, low, high = np.broadcast_arrays(np.asarray(x, float), low, high)
    gap = np.full(x.shape, np.nan)
    axes.plot(np.stack([x, x, gap], 1).ravel(), np.stack([low, high, gap], 1).ravel(), solid_capstyle="butt", **style)


PIN_COLOURS = (GREY, PINK, SKY, GREEN)  # of pinned runs, in their order
Pins = Sequence[tuple[str, Sequence["Record"]]]  # pinned runs: a label and the records of each


def heading(figure: Figure, title: str, subtitle: str = "") -> None:
    """The finding, and below it the subtitle, at the top of a live figure."""
    width, height = figure.get_size_inches() * PIXELS
    figure.text(8 / width, 1 - 4 / height, title, fontsize=11, weight="bold", va="top", parse_math=False)
    if subtitle:
        figure.text(8 / width, 1 - 22 / height, subtitle, fontsize=8.5, color=FAINT, va="top", parse_math=False)


def words(axes: Axes, parts: Sequence[tuple[str, str]]) -> None:
    """A legend in a line above the upper right corner: words, each in its colour."""
    left = 0
    for said, colour in reversed(parts):
        axes.annotate(
            said.replace(" ", "\u00a0"),  # an SVG drops spaces at the end
            (1, 1),
            xycoords="axes fraction",
            xytext=(left, 5),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=colour,
            parse_math=False,
        )
        left -= 4.35 * len(said) + 1  # points: near enough, and cheaper than measuring
