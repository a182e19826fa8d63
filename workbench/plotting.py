"""One style for all figures: matplotlib's object API, never pyplot (it is not thread-safe), and one colour a method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
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


@contextmanager
def figure(width: float = 9.0, height: float = 4.2, layout: str | None = "constrained") -> Iterator[Figure]:
    """Make a figure in the common style, to be filled inside the with block.

    The constrained layout is half the cost of a picture: one that is drawn live may do without.
    """
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(made)
        yield made
