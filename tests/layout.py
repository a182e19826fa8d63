"""Find text in a figure that cannot be read: it is cut off by the edge, covers other text, or a line runs through it."""

import itertools

import numpy as np
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def unreadable(figure):
    """Return one line for each text that is outside the figure, on another text, or below a line that is not part of the grid."""
    figure.draw_without_rendering()
    texts = [(text, box) for text in shown_texts(figure) if (box := seen(text)).width > 0]
    found = [f"{text.get_text()!r} is cut off" for text, box in texts if not within(box, figure.bbox)]
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > 4 and high > 0.3 * min(a.height, b.height) and not (one.get_rotation() % 90 or other.get_rotation() % 90):
            found.append(f"{one.get_text()!r} covers {other.get_text()!r}")
    ticks = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels(which="both")}
    lines = [line for axes in figure.axes for line in axes.lines]
    for text, box in texts:
        if text not in ticks and text.get_bbox_patch() is None and any(crosses(line, box) for line in lines):
            found.append(f"a line runs through {text.get_text()!r}")
    return found


def shown_texts(figure):
    """Return the texts of a figure, without the labels of ticks outside the axes, which matplotlib keeps but does not draw."""
    ticks, drawn = set(), set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                ticks |= {tick.label1, tick.label2}
                if axes.axison and low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    drawn |= {tick.label1, tick.label2}
    texts = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())
    return [text for text in texts if text not in ticks or text in drawn]


def seen(text):
    """Return the box of a text without the blanks at its end, and without the arrow of an annotation."""
    box, words = Text.get_window_extent(text), text.get_text()
    width = box.width if text.get_ha() == "center" else box.width * len(words.rstrip()) / len(words)
    return Bbox.from_bounds(box.x0, box.y0, width, box.height)


def within(box, figure):
    return box.x0 > -1.5 and box.y0 > -1.5 and box.x1 < figure.x1 + 1.5 and box.y1 < figure.y1 + 1.5


def crosses(line, box):
    """Check whether a line runs through the middle of a box. Markers without a line, and guides across the axes, do not count."""
    if not line.get_visible() or line.get_linestyle() == "None" or len(line.get_xdata()) < 2:
        return False
    middle = Bbox.from_extents(box.x0 + 1, box.y0 + 0.2 * box.height, box.x1 - 1, box.y1 - 0.2 * box.height)
    if line.get_clip_on() and not line.axes.bbox.overlaps(middle):
        return False
    points = line.get_transform().transform_path(line.get_path()).vertices
    pieces = np.split(points, np.flatnonzero(~np.isfinite(points).all(1)))
    return any(Path(piece).intersects_bbox(middle, filled=False) for p in pieces if len(piece := p[np.isfinite(p).all(1)]) > 1)
