"""One style for all figures: matplotlib's object API, never pyplot (it is not thread-safe), and one colour a method."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
