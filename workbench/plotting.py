"""One style for all figures: matplotlib's object API, never pyplot (it is not thread-safe), and one colour a method.

A figure is made for a panel: 670 x 430 pixels of a web page. In a page it is an SVG whose inks are the theme's; in a file, or
for readers without a kernel, a PNG, SVG or PDF on white.
"""

from __future__ import annotations

import base64
import html
import io
import re
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.font_manager
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.experiment import Record

# Okabe and Ito's colours, told apart by the colour-blind; orange, sky and red darker, so that lines have a contrast of 3:1 on
# white. The same method has the same colour in all notebooks.
ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#c98500", "#3f9ccf", "#009e73", "#0072b2", "#ba4b00", "#cc79a7", "#8a8a8a",
)  # fmt: skip
INK, FAINT, HAIR = "#212122", "#616163", "#dcdcdd"  # of text; of axes and what stands back; of what is hardly there
BLACK = INK
# the same colours for text (4.5:1), then lines and text in the dark theme
TEXT = {
    ORANGE: "#a06300", SKY: "#1a77a4", GREEN: "#00805a", BLUE: "#0071b1", RED: "#b94a00", PINK: "#a55883", GREY: "#737373",
}  # fmt: skip
DARK = {
    ORANGE: "#e69f00", SKY: "#56b4e9", GREEN: "#009e73", BLUE: "#2a85c9", RED: "#e0670b", PINK: "#cc79a7", GREY: "#8f8f8f",
    INK: "#dedede", FAINT: "#9e9e9e", HAIR: "#424242",
}  # fmt: skip
DARK_TEXT = {
    ORANGE: "#e69f00", SKY: "#56b4e9", GREEN: "#0fa97d", BLUE: "#4b9fdc", RED: "#ec7420", PINK: "#d486b1", GREY: "#9e9e9e",
}  # fmt: skip


def text(colour: str) -> str:
    """The shade of a line's colour that is readable as text."""
    return TEXT.get(colour, colour)


def theme() -> str:
    """The inks as CSS variables, for the light theme and for JupyterLab's dark one."""
    names = {colour: _variable(colour) for colour in _SHADES}
    dark = {**DARK, **{TEXT[colour]: shade for colour, shade in DARK_TEXT.items()}}
    light = "".join(f"{name}:{colour};" for colour, name in names.items())
    night = "".join(f"{names[colour]}:{shade};" for colour, shade in dark.items())
    return f":root{{{light}}}\n[data-jp-theme-light='false']{{{night}}}\n"


_SHADES = (ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY, INK, FAINT, HAIR, *TEXT.values())


def _variable(colour: str) -> str:
    return f"--wb-{colour[1:]}"


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


_DRAWING = threading.RLock()  # rc_context is process-wide: two threads would leave each other's style behind
PIXELS = 96  # of a web page, an inch
WIDTH, HEIGHT = 670, 430
SHARP = 1.5  # pixels of a PNG for one of the page


@contextmanager
def figure(width: int = WIDTH, height: int = HEIGHT, layout: str | None = "constrained") -> Iterator[Figure]:
    """Make a figure in the common style, `width` x `height` pixels of a web page, to be filled inside the with block.

    The constrained layout is half the cost of a picture: one that is drawn live does without.
    """
    with _DRAWING, matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width / PIXELS, height / PIXELS), layout=layout)
        FigureCanvasAgg(made)
        yield made


def live(draw: Callable[..., None]) -> Callable[..., Figure]:
    """Make ``draw(figure, records, pinned=())``, which fills a figure, a pure function of records with an `update`.

    ``update(figure, records, pinned)`` fills a figure again, so that it equals a new one: the axes, which are most of the
    cost, stay (see `part`), and only what lies on them is made anew.
    """

    @wraps(draw)
    def pure(records: Sequence[Record], pinned: Sequence[tuple[str, Sequence[Record]]] = ()) -> Figure:
        with figure(layout=None) as made:
            draw(made, records, pinned)
            return made

    def update(kept: Figure, records: Sequence[Record], pinned: Sequence[Any] = ()) -> None:
        with _DRAWING, matplotlib.rc_context(STYLE):
            for held in kept.texts[:]:
                held.remove()
            draw(kept, records, pinned)

    pure.update, pure.pins = update, True  # type: ignore[attr-defined]
    return pure


def part(
    figure: Figure, name: str, left: float, top: float, width: float, height: float, gap: float = 36
) -> Axes:
    """The axes `name` of a live figure, empty: those that it has, or new ones. Places are in pixels, from the upper left.

    Names of axes stand where they always do, `gap` pixels left of the y-axis: to measure the ticks would be a third of the cost.
    """
    whole_width, whole_height = figure.get_size_inches() * PIXELS
    place = (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    found = next((axes for axes in figure.axes if axes.get_label() == name), None)
    if found is None:
        found = figure.add_axes(place, label=name)
    found.xaxis.set_label_coords(0.5, -23 / height)
    found.yaxis.set_label_coords(-gap / width, 0.5)
    for artist in (*found.lines, *found.collections, *found.patches, *found.texts, *found.images):
        artist.remove()
    found.set_position(place)
    found.set_axis_on()
    found.relim()
    found.autoscale(True)
    return found


PINS = (GREY, PINK, SKY, GREEN)  # of pinned runs, in their order
Pins = Sequence[tuple[str, Sequence["Record"]]]  # pinned runs: a label and the records of each


def heading(figure: Figure, title: str, setting: str = "") -> None:
    """The finding, and below it the setting, at the top of a live figure."""
    width, height = figure.get_size_inches() * PIXELS
    figure.text(8 / width, 1 - 4 / height, title, fontsize=11, weight="bold", va="top", parse_math=False)
    if setting:
        figure.text(8 / width, 1 - 22 / height, setting, fontsize=8.5, color=FAINT, va="top", parse_math=False)


def words(axes: Axes, parts: Sequence[tuple[str, str]]) -> None:
    """A legend in a line above the upper right corner: words, each in its colour."""
    left = 0
    for said, colour in reversed(parts):
        axes.annotate(said, (1, 1), xycoords="axes fraction", xytext=(left, 5), textcoords="offset points", ha="right", fontsize=8,
                      color=colour, parse_math=False)  # fmt: skip
        left -= 4.35 * len(said) + 1  # points: near enough, and cheaper than measuring


def encode(figure: Figure, kind: str = "png") -> bytes:
    """The figure as a file, PNG, SVG or PDF on white, without a version stamp, so that equal figures are equal bytes."""
    if kind == "png":
        return _small(figure)
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with _DRAWING, matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, metadata=stamp, facecolor="white")
    return buffer.getvalue()


def _small(figure: Figure) -> bytes:
    """A PNG in 256 colours, straight from the canvas: a third of the bytes, for the wire and for the committed notebooks."""
    return _palette(_pixels(figure))


def side_by_side(pictures: Sequence[tuple[str, Figure]]) -> bytes:
    """A PNG of pictures with their captions above them, the first in full size, the others half."""
    drawn = [_pixels(figure) for _, figure in pictures]
    drawn[1:] = [p.resize((p.width // 2, p.height // 2), PIL.Image.Resampling.LANCZOS) for p in drawn[1:]]
    size, high = round(12 * SHARP), round(20 * SHARP)
    whole = PIL.Image.new("RGB", (sum(p.width for p in drawn), high + drawn[0].height), "white")
    font = PIL.ImageFont.truetype(matplotlib.font_manager.findfont("DejaVu Sans"), size)
    left = 0
    for (caption, _), picture in zip(pictures, drawn, strict=True):
        whole.paste(picture, (left, high))
        PIL.ImageDraw.Draw(whole).text((left + 6, 3), caption, fill=FAINT, font=font)
        left += picture.width
    return _palette(whole)


def _palette(picture: PIL.Image.Image) -> bytes:
    """By octree: median cut gives a thin line of a rare colour the colour of its neighbours."""
    buffer = io.BytesIO()
    picture.quantize(256, method=PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE).save(
        buffer, "png"
    )
    return buffer.getvalue()


def _pixels(figure: Figure) -> PIL.Image.Image:
    canvas = FigureCanvasAgg(figure)
    with _DRAWING, matplotlib.rc_context(STYLE):
        before = figure.get_dpi()
        figure.set_dpi(PIXELS * SHARP)
        canvas.draw()
        size = canvas.get_width_height()
        figure.set_dpi(before)
    picture = PIL.Image.frombuffer("RGBA", size, canvas.buffer_rgba())
    white = PIL.Image.new("RGBA", size, "white")
    return PIL.Image.alpha_composite(white, picture).convert("RGB")


def markup(figure: Figure) -> str:
    """The figure as an SVG element for a page: inks and font are the page's, numbers have two decimals.

    All text of the figure is escaped, by matplotlib's SVG writer; nothing else of it comes from outside.
    """
    buffer = io.StringIO()
    with _DRAWING, matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = _COMMENT.sub("", svg[svg.index("<svg") :])
    svg = _PATH.sub(lambda path: _DIGITS.sub(r"\1", path.group()), svg)
    svg = _COLOUR.sub(lambda colour: f"var({_variable(colour.group())},{colour.group()})", svg)
    return _FONT.sub("font-family: var(--jp-ui-font-family,sans-serif)", _SHORT_FONT.sub(_font, svg))


_COMMENT = re.compile(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", re.S)
_PATH = re.compile(r' (?:d|x|y|transform|width|height)="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")
_COLOUR = re.compile("|".join(_SHADES))
_SHORT_FONT = re.compile(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*")
_FONT = re.compile(r"font-family: '?DejaVu Sans[^;\"]*")


def _font(found: re.Match[str]) -> str:
    return f"font: {found.group(1)}var(--jp-ui-font-family,sans-serif)"


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


def cells(axes: Axes, table: pd.DataFrame, most: float, colour: str = ORANGE) -> None:
    """A map of the numbers in `table`, from 0 to `most`, each written in its cell; empty where there is none."""
    values = table.to_numpy(float)
    shades = np.zeros((*values.shape, 4))
    shades[..., :3] = to_rgb(colour)
    shades[..., 3] = 0.75 * np.clip(np.nan_to_num(values) / most, 0, 1)  # the page shows through, whatever its theme
    axes.imshow(shades, aspect="auto", interpolation="nearest")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(x, y, f"{round(value)}", ha="center", va="center", fontsize=8)
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
            color=text(line.get_color()),
            fontsize=8,
            annotation_clip=False,
        )


def finish(
    figure: Figure, title: str, note: str = "", names: Mapping[str, str] = {}, colours: Mapping[str, str] = {}
) -> Figure:
    """Write the finding above a figure of constrained layout, names in their colours below it, and a note at the foot."""
    width, height = figure.get_size_inches()
    above = textwrap.wrap(title, int(12.6 * width))
    figure.suptitle(
        "\n".join(above), fontsize=10.5, weight="bold", x=0.01, y=1 - 0.04 / height, ha="left", va="top", parse_math=False
    ).set_in_layout(False)
    top, rows = 0.08 + 0.19 * len(above), 0
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
    figure.text(
        0.01, 0.04 / height, "\n".join(lines), fontsize=7.5, va="bottom", color=FAINT, parse_math=False
    ).set_in_layout(False)
    foot, top = 0.13 * len(lines) / height, (top + 0.19 * rows) / height
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot - top))
    return figure
