"""One style for all figures: matplotlib's object API, never pyplot (it is not thread-safe), and one colour a method."""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by the colour-blind; the same method has the same colour in all notebooks.
ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK, BLACK, GREY = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000", "#999999",
)  # fmt: skip

STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "font.size": 9,
}


_DRAWING = threading.RLock()  # rc_context is process-wide: two threads would leave each other's style behind
DPI = 100


@contextmanager
def figure(width: float = 9.0, height: float = 4.2, layout: str | None = "constrained") -> Iterator[Figure]:
    """Make a figure in the common style, to be filled inside the with block.

    The constrained layout is half the cost of a picture: one that is drawn live may do without.
    """
    with _DRAWING, matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(made)
        yield made


def encode(figure: Figure, kind: str = "png") -> bytes:
    """The figure as PNG, SVG or PDF, without a version stamp, so that equal figures are equal bytes."""
    if kind == "png":
        return _small(figure)
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with _DRAWING, matplotlib.rc_context({"svg.hashsalt": "workbench"}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=stamp)
    return buffer.getvalue()


def _small(figure: Figure) -> bytes:
    """A PNG in 256 colours, straight from the canvas: a third of the bytes, for the wire and for the committed notebooks.

    By octree: median cut gives a thin line of a rare colour the colour of its neighbours.
    """
    canvas = FigureCanvasAgg(figure)
    with _DRAWING:
        figure.set_dpi(DPI)
        canvas.draw()
    picture = PIL.Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(256, method=PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE).save(
        buffer, "png"
    )
    return buffer.getvalue()


# -- what the figures of comparisons share: rows of `intervals.summary`, drawn ------------------------------------------------

FEW = 5  # units: of fewer, an interval says little, and each is a dot


def point(axes: Axes, at: float, row: Any, colour: str, across: bool = False) -> None:
    """One mean with its 95 % interval, or its units where they are few; a diamond where its setting is an end of those tried."""
    ends = [row["low"], row["high"]] if row["n"] >= FEW and row["low"] <= row["high"] else []
    style = {"color": colour, "zorder": 3}
    for values, more in (
        (ends, {"linewidth": 1.4, "alpha": 0.6}),
        ([] if ends else row["values"], {"linestyle": "", "marker": ".", "markersize": 4, "alpha": 0.6}),
        ([row["mean"]], {"linestyle": "", "marker": "D" if row["edge"] else "o", "markersize": 4.5}),
    ):
        places = [at] * len(values)
        axes.plot(*((values, places) if across else (places, values)), **style, **more)


def series(
    axes: Axes, table: pd.DataFrame, x: str, colours: Mapping[str, str], styles: Mapping[str, str] = {}
) -> None:
    """A line a label along `x`, through means with their spread; see `point`."""
    for label, rows in table.groupby("label", sort=False):
        rows = rows.sort_values(x)
        axes.plot(rows[x], rows["mean"], styles.get(label, "-"), color=colours[label], label=label)
        for _, row in rows.iterrows():
            point(axes, row[x], row, colours[label])


def dots(axes: Axes, table: pd.DataFrame, group: str, colours: Mapping[str, str]) -> None:
    """A row a group, from above; in it a mean a label with its spread, side by side: scores from left to right."""
    groups, labels = list(dict.fromkeys(table[group])), list(dict.fromkeys(table["label"]))
    for _, row in table.iterrows():
        place = (labels.index(row["label"]) + 0.5) / len(labels) - 0.5
        point(axes, groups.index(row[group]) + 0.7 * place, row, colours[row["label"]], across=True)
    axes.set_yticks(range(len(groups)), labels=[str(g).replace("nu", "ν") for g in groups])
    axes.set_ylim(max(len(groups), 1) - 0.5, -0.5)
    for edge in range(1, len(groups)):
        axes.axhline(edge - 0.5, color=STYLE["grid.color"], linewidth=0.8)
    axes.grid(visible=False, axis="y")


def cells(axes: Axes, table: pd.DataFrame, most: float, cmap: str = "OrRd") -> None:
    """A map of the numbers in `table`, from 0 to `most`, each written in its cell; empty where there is none."""
    axes.imshow(table, cmap=cmap, vmin=0, vmax=most, aspect="auto")
    for (y, x), value in np.ndenumerate(table.to_numpy(float)):
        if np.isfinite(value):
            colour = "white" if value > 0.6 * most else BLACK
            axes.text(x, y, f"{value + 0:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(table.shape[1]), labels=table.columns)
    axes.set_yticks(range(table.shape[0]), labels=[str(g).replace("nu", "ν") for g in table.index])
    axes.grid(visible=False)


def reach(axes: Axes, value: float, label: str, across: bool = False) -> None:
    """A dashed line: what is to be reached."""
    draw, style = (axes.axvline if across else axes.axhline), {"linestyle": "--", "linewidth": 1.1}
    draw(value, color=BLACK, label=label, zorder=1, **style)


def published(axes: Axes, x: Any, y: Any, colour: str, label: str = "paper") -> None:
    """What a paper reports: hollow marks of its method's colour."""
    axes.plot(x, y, "o", color=colour, markerfacecolor="none", markersize=8, label=label)


def name_ends(axes: Axes, names: Mapping[str, str]) -> None:
    """Write each labelled line's name beside its last point, in its colour, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (
        12 / (72 * axes.get_figure().get_figheight() * 0.75) * (high - low)
    )  # a line of text, in the axes' own units
    lines = sorted(
        (line for line in axes.lines if line.get_label() in names), key=lambda line: line.get_ydata()[-1]
    )
    places: list[float] = []
    for line in lines:
        places.append(max(line.get_ydata()[-1], places[-1] + gap if places else -np.inf))
    top = high + gap
    for index in reversed(range(len(places))):
        places[index] = top = min(places[index], top - gap)
    right = axes.get_xlim()[1]
    for line, place in zip(lines, places, strict=True):
        across = len({*line.get_ydata()}) == 1 and line.get_linestyle() == "--"  # see `reach`
        axes.annotate(
            names[line.get_label()],
            (right if across else line.get_xdata()[-1], place),
            xytext=(7, -3),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=8,
            annotation_clip=False,
        )


def finish(
    figure: Figure, title: str, note: str = "", names: Mapping[str, str] = {}, colours: Mapping[str, str] = {}
) -> Figure:
    """Write the finding above a figure of constrained layout, names in their colours below it, and a note at the foot."""
    width, height = figure.get_size_inches()
    figure.suptitle(title, fontsize=11, x=0.01, y=1 - 0.05 / height, ha="left", va="top").set_in_layout(False)
    top, rows = 0.32, 0
    if names:
        marks = [
            Line2D([], [], linestyle="", marker="o", markersize=4.5, color=colours[name]) for name in names
        ]
        columns = max(int(width / 1.25), 1)
        rows = -(-len(marks) // columns)
        place = {"loc": "upper left", "bbox_to_anchor": (0, 1 - top / height), "borderaxespad": 0}
        spacing = {"handletextpad": 0.2, "columnspacing": 1.2, "ncols": columns}
        figure.legend(marks, [*names.values()], **place, **spacing).set_in_layout(False)
    lines = textwrap.wrap(note, int(17 * width))
    figure.text(0.01, 0.04 / height, "\n".join(lines), fontsize=7.5, va="bottom").set_in_layout(False)
    foot, top = 0.13 * len(lines) / height, (top + 0.19 * rows) / height
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot - top))
    return figure
