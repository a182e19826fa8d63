"""The common style of all figures, and the elements that figures of comparisons share.

Figures use matplotlib's object API and never pyplot, which is not thread-safe. By default, a figure is as large as a panel, that
is, 670 x 430 CSS pixels. In a notebook with a kernel, a figure is shown as an SVG with the colours of the page's theme. In a
file, or in a notebook without a kernel, it is a PNG, SVG or PDF with a white background. The module `pictures` makes these
formats.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from workbench.experiment import FEW
from workbench.inks import FAINT, HAIR, INK, ORANGE, PAPER, SKY, text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titley": 1.0,
    "grid.color": HAIR,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "workbench",
}


# rc_context changes settings of the whole process, so without a lock two threads could restore each other's style
_DRAWING = threading.RLock()
PIXELS = 96  # CSS pixels per inch
WIDTH, HEIGHT = 670, 430


@contextmanager
def style() -> Iterator[None]:
    """Apply the common style inside the with block; only one thread at a time can be inside."""
    with _DRAWING, matplotlib.rc_context(STYLE):
        yield


@contextmanager
def figure(width: int = WIDTH, height: int = HEIGHT, layout: str | None = "constrained") -> Iterator[Figure]:
    """Make a figure of `width` x `height` CSS pixels in the common style, to be filled inside the with block.

    The constrained layout takes half of the drawing time, so figures that are drawn live use ``layout=None``.
    """
    with style():
        made = Figure(figsize=(width / PIXELS, height / PIXELS), layout=layout)
        FigureCanvasAgg(made)
        yield made


# -- figures of comparisons, which draw rows of `intervals.summary` -----------------------------------------------------------


def point(axes: Axes, at: float, row: Any, colour: str, across: bool = False, marker: str = "o") -> None:
    """Draw a mean with its 95 % confidence interval, or with the value of each unit if there are fewer than `FEW` units.

    A unit is an independent repetition, such as a seed. The mean is drawn as a diamond if a value in the chosen setting is the
    smallest or the largest one that was tried. `row` is a row of `intervals.summary`. `at` is the position on the x-axis, and
    values are on the y-axis; with `across`, the two axes are exchanged.
    """
    ends = [row["low"], row["high"]] if row["n"] >= FEW and row["low"] <= row["high"] else []
    style = {"color": colour, "zorder": 3}
    for values, more in (
        (ends, {"linewidth": 1.4, "alpha": 0.6}),
        ([] if ends else row["values"], {"linestyle": "", "marker": ".", "markersize": 4, "alpha": 0.6}),
        ([row["mean"]], {"linestyle": "", "marker": "D" if row["edge"] else marker, "markersize": 4.5}),
    ):
        places = [at] * len(values)
        axes.plot(*((values, places) if across else (places, values)), **style, **more)


def series(
    axes: Axes,
    table: pd.DataFrame,
    x: str,
    colours: Mapping[str, str],
    styles: Mapping[str, str] = {},
    markers: Mapping[str, str] = {},
) -> None:
    """Draw one line for each label: the means of the label against the column `x`. `point` draws each mean with its interval."""
    for label, rows in table.groupby("label", sort=False):
        rows = rows.sort_values(x)
        axes.plot(rows[x], rows["mean"], styles.get(label, "-"), color=colours[label], label=label)
        for _, row in rows.iterrows():
            point(axes, row[x], row, colours[label], marker=markers.get(label, "o"))


def dots(axes: Axes, table: pd.DataFrame, group: str, colours: Mapping[str, str]) -> None:
    """Draw one row for each value of the column `group`, from top to bottom. A row has one mean for each label.

    The means are shown on the x-axis. `point` draws each of them with its interval.
    """
    groups, labels = list(dict.fromkeys(table[group])), list(dict.fromkeys(table["label"]))
    for _, row in table.iterrows():
        place = (labels.index(row["label"]) + 0.5) / len(labels) - 0.5
        point(axes, groups.index(row[group]) + 0.7 * place, row, colours[row["label"]], across=True)
    axes.set_yticks(range(len(groups)), labels=[greek(str(g)) for g in groups])
    axes.set_ylim(max(len(groups), 1) - 0.5, -0.5)
    for edge in range(1, len(groups)):
        axes.axhline(edge - 0.5, color=STYLE["grid.color"], linewidth=0.8)
    axes.grid(visible=False, axis="y")


def name_rows(axes: Axes, labels: Sequence[str], names: Mapping[str, str], colours: Mapping[str, str]) -> None:
    """Label the rows with the names of methods, from top to bottom, each in its colour.

    A label that is not in `names` is shown unchanged. A label that is not in `colours` is grey.
    """
    axes.set_yticks(range(len(labels)), labels=[names.get(label, label) for label in labels])
    for tick, label in zip(axes.get_yticklabels(), labels, strict=False):  # axes that share their y-axis may have no tick labels
        tick.set_color(text(colours.get(label, FAINT)))
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.grid(visible=True, axis="y", alpha=0.5)


def cells(axes: Axes, table: pd.DataFrame, most: float, colour: str = ORANGE, below: str = SKY) -> None:
    """Draw `table` as a heat map with the number, rounded to an integer, in each cell.

    Cells with positive numbers have the colour `colour`, and cells with negative numbers the colour `below`. The opacity of a
    cell grows with the absolute value of its number, up to `most`. A missing number is shown as a dot.
    """
    values = table.to_numpy(float)
    shades = np.zeros((*values.shape, 4))
    shades[..., :3] = np.where(values[..., None] < 0, to_rgb(below), to_rgb(colour))
    # the cells differ in opacity, so they suit a light and a dark page
    shades[..., 3] = 0.75 * np.clip(np.abs(np.nan_to_num(values)) / most, 0, 1)
    axes.imshow(shades, aspect="auto", interpolation="nearest")
    for (y, x), value in np.ndenumerate(values):
        said = f"{round(value)}" if np.isfinite(value) else "·"
        axes.text(x, y, said.replace("-", "−"), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(table.shape[1]), labels=table.columns)
    axes.set_yticks(range(table.shape[0]), labels=[greek(str(g)) for g in table.index])
    axes.grid(visible=False)


def greek(label: str) -> str:
    """Return the label with the word nu replaced by the letter ν."""
    return re.sub(r"\bnu\b", "ν", label)


def target(axes: Axes, value: float, label: str, across: bool = False) -> None:
    """Draw a dashed line at a target value, for example the result of a reference method.

    The line is horizontal, or vertical with `across`. `name_ends` and `finish` recognize it as a target.
    """
    draw, style = (axes.axvline if across else axes.axhline), {"linestyle": "--", "linewidth": 1.1}
    _TARGETS.add(draw(value, color=INK, label=label, zorder=1, **style))


_TARGETS: WeakSet[Line2D] = WeakSet()


def published(axes: Axes, x: Any, y: Any, colour: str, label: str = "paper") -> None:
    """Draw values that a paper reports, as hollow markers in the colour of the method."""
    axes.plot(x, y, "o", color=colour, markerfacecolor="none", markersize=8, label=label)


# the box behind a text that is written over lines has the colour of the page
BEHIND = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}


def spread(values: Sequence[float], gap: float, high: float) -> list[float]:
    """Return a place for the label of each of `values`, which must be in ascending order.

    The places are at least `gap` apart and at most `high`. A label moves up if it would overlap the one below it, and down if it
    would be above `high`. If there is little room, labels can be below the lowest value.
    """
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap if places else -np.inf))
    top = high + gap
    for index in reversed(range(len(places))):
        places[index] = top = min(places[index], top - gap)
    return places


def name_ends(axes: Axes, names: Mapping[str, str]) -> None:
    """Write the name of each labelled line beside its last point, in its colour, and separate names that would overlap."""
    low, high = axes.get_ylim()
    gap = 12 / (72 * axes.get_figure().get_figheight() * 0.75) * (high - low)  # height of a line of text in data units
    lines = sorted((line for line in axes.lines if line.get_label() in names), key=lambda line: line.get_ydata()[-1])
    places = spread([float(line.get_ydata()[-1]) for line in lines], gap, high)
    right = axes.get_xlim()[1]
    leader = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)}
    for line, place in zip(lines, places, strict=True):
        x, y = right if line in _TARGETS else line.get_xdata()[-1], line.get_ydata()[-1]
        apart = abs(place - y) > gap / 2  # if so, a thin line connects the name with its curve
        axes.annotate(
            names[line.get_label()],
            (x, y if low <= y <= high else np.clip(y, low, high)),
            xytext=(14 if apart else 7, (place - np.clip(y, low, high)) / gap * 12 - 3),
            arrowprops=leader if apart else None,
            textcoords="offset points",
            color=text(line.get_color()),
            fontsize=8,
            annotation_clip=False,
        )


def finish(
    figure: Figure,
    title: str,
    note: str = "",
    names: Mapping[str, str] = {},
    colours: Mapping[str, str] = {},
    markers: Mapping[str, str] = {},
) -> Figure:
    """Add a title, a legend below the title, and a note at the bottom of a figure; return the figure.

    The title states the finding. `names` maps labels to the names in the legend. The legend shows labels of targets (see
    `target`) as dashed lines, and other labels as markers in their colours. The figure must have the constrained layout.
    """
    width, height = figure.get_size_inches()
    above = _lines(figure, title, size=10.5, weight="bold")
    figure.suptitle(
        "\n".join(above), fontsize=10.5, weight="bold", x=0.01, y=1 - 0.04 / height, ha="left", va="top", parse_math=False
    ).set_in_layout(False)
    top, rows = 0.08 + 0.19 * len(above), 0
    if names:
        targets = {line.get_label() for axes in figure.axes for line in axes.lines if line in _TARGETS}
        marks = [
            Line2D([], [], linestyle="--", color=INK, linewidth=1.1)
            if name in targets
            else Line2D([], [], linestyle="", marker=markers.get(name, "o"), markersize=4.5, color=colours[name])
            for name in names
        ]
        columns = max(int(width / 1.25), 1)
        rows = -(-len(marks) // columns)
        place = {"loc": "upper left", "bbox_to_anchor": (0, 1 - top / height), "borderaxespad": 0}
        spacing = {"handletextpad": 0.2, "columnspacing": 1.2, "ncols": columns}
        figure.legend(marks, [*names.values()], **place, **spacing).set_in_layout(False)
    lines = _lines(figure, note, size=7.5)
    figure.text(0.01, 0.04 / height, "\n".join(lines), fontsize=7.5, va="bottom", color=FAINT, parse_math=False).set_in_layout(
        False
    )
    foot, top = 0.13 * len(lines) / height, (top + 0.19 * rows) / height
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot - top))
    return figure


def _lines(figure: Figure, words: str, **font: Any) -> list[str]:
    """Split a text into lines that are at most 95 % as wide as the figure, since other renderers may draw text wider."""
    measure = figure.canvas.get_renderer().get_text_width_height_descent  # type: ignore[attr-defined]
    properties = FontProperties(**font)
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measure(longer, properties, False)[0] <= 0.95 * figure.bbox.width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
