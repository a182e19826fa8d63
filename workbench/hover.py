"""Export the values of the points in a figure, so that a page can show the values of the point near the pointer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryLocator
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.ticker import FixedLocator

LARGEST_MESH = 2000  # a heat map with more cells than this is not exported
MOST = 150  # maximum number of points of one line; from a longer line, evenly spaced points are taken


def element(figure: Figure) -> str:
    """Return an SVG element that holds the values of all points of a drawn figure as JSON.

    The JSON is a list with one entry for each axes object that has points. An entry holds the x-label, the y-label and the
    points. A point consists of its position in the units of the SVG, its values of x and y as text, and the name of its series.
    For a cell of a heat map, the number in the cell replaces the value of y.
    """
    found = [drawn for axes in figure.axes if (drawn := _of(axes, figure))]
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    return f'<metadata class="wb-points">{html.escape(text, quote=False)}</metadata>'


def _of(axes: Axes, figure: Figure) -> dict[str, Any] | None:
    """Return the labels and points of one axes object; None if it has no points."""
    if not axes.get_visible() or axes.get_label() == "<colorbar>":
        return None
    high, scale = figure.get_figheight() * 72, 72 / figure.dpi
    left, bottom, right, top = axes.bbox.extents
    said_x, said_y = (_named_values(axis) for axis in (axes.xaxis, axes.yaxis))
    points = []
    for name, x, y, value in _series(axes):
        places = axes.transData.transform(np.column_stack([x, y]))
        across, up = places.T
        inside = (left - 1 <= across) & (across <= right + 1) & (bottom - 1 <= up) & (up <= top + 1)  # False for NaN
        places = np.round(np.column_stack([across * scale, high - up * scale]), 1)
        for k in np.flatnonzero(inside):
            points.append([*places[k].tolist(), said_x(x[k]), value[k] if value else said_y(y[k]), name])
    if not points:
        return None
    return {"x": axes.get_xlabel(), "y": axes.get_ylabel() or axes.get_title(loc="left"), "points": points}


def _series(axes: Axes) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[str]]]:
    """Yield each series drawn in `axes` as a tuple: its name, its values of x, its values of y, and a list of texts.

    A series is a line, a set of points, bars or steps, or a heat map. The texts are the values of the cells of a heat map. For
    the other kinds of series, the list is empty.
    """
    for line in axes.lines:
        if line.get_transform() == axes.transData:
            x, y = (
                np.asarray(axis.convert_units(v), float)
                for axis, v in zip((axes.xaxis, axes.yaxis), line.get_data(), strict=True)
            )
            every = slice(None, None, -(-len(x) // MOST) or 1)
            yield _named(line), x[every], y[every], []
    for drawn in axes.collections:
        if isinstance(drawn, PathCollection):
            x, y = np.asarray(drawn.get_offsets(), float).T
            yield _named(drawn), x, y, []
        elif isinstance(drawn, QuadMesh):
            values, corners = np.asarray(drawn.get_array()), np.asarray(drawn.get_coordinates(), float)
            if values.size <= LARGEST_MESH:
                x, y = ((corners[1:, 1:] + corners[:-1, :-1]) / 2).reshape(-1, 2).T
                yield "", x, y, [f"{v:.3g}" for v in values.ravel()]
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            upright = bars.orientation != "horizontal"
            ends = [
                (b.get_x() + b.get_width() / (2 if upright else 1), b.get_y() + b.get_height() / (1 if upright else 2))
                for b in bars
                if b.axes is axes  # a figure that is redrawn still lists bars that were removed
            ]
            if ends:
                x, y = np.asarray(ends, float).T
                yield _named(bars), x, y, []
    for steps in axes.patches:
        if isinstance(steps, StepPatch) and steps.orientation == "vertical":
            values, edges, _ = steps.get_data()
            yield _named(steps), (edges[1:] + edges[:-1]) / 2, np.asarray(values, float), []


def _named(artist: Any) -> str:
    label = str(artist.get_label())
    return "" if label.startswith("_") else label


def _named_values(axis: Any) -> Callable[[float], str]:
    """Return a function that converts a value of an axis to text.

    The function writes a number with four significant digits. If the ticks of the axis are words, the function returns the word
    at the nearest tick.
    """
    places, named = np.asarray(axis.get_majorticklocs(), float), (FixedLocator, StrCategoryLocator)
    words = axis.get_major_formatter().format_ticks(places) if isinstance(axis.get_major_locator(), named) else []
    if not any(re.search("[A-Za-z]{2}", word) for word in words):
        return lambda value: f"{value:.4g}"
    return lambda value: words[int(np.abs(places - value).argmin())]
