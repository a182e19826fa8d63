"""An experiment's picture: drawn as records come, shown in a cell or in a panel, as SVG in the inks of the page."""

from __future__ import annotations

import base64
import html
import pathlib
from collections.abc import Sequence
from time import monotonic
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from workbench import inks, papers, phases, pictures, runs
from workbench.experiment import Experiment, Record, get
from workbench.knobs import Config
from workbench.live import Pins

HERE = pathlib.Path(__file__).parent
SHARE, EVERY = 0.1, 0.25  # of the time spent drawing at most; seconds between two pictures at least


class Drawing:
    """The figure of an experiment, kept between pictures where it can be filled again (see `live.live`)."""

    def __init__(self, experiment: Experiment):
        self.experiment, self.figure, self._due = experiment, None, 0.0

    def due(self) -> bool:
        """Whether it is time: drawing takes a share of the time however slow the machine; a fixed period would not do that."""
        return monotonic() >= self._due

    def markup(self, records: Sequence[Record], pinned: Pins = ()) -> str:
        """The picture of `records` now."""
        start = monotonic()
        try:
            return pictures.markup(self.draw(records, pinned))
        finally:
            end = monotonic()
            self._due = end + max(EVERY, (end - start) * (1 / SHARE - 1))

    def draw(self, records: Sequence[Record], pinned: Pins = ()) -> Figure:
        """The figure of `records`."""
        draw = self.experiment.figure
        more = {"pinned": pinned} if self.experiment.pins and pinned else {}
        update = getattr(draw, "update", None)
        if update is None or self.figure is None:
            self.figure = None  # should it raise, the next one begins anew
            self.figure = draw(records, **more)
            return self.figure
        kept, self.figure = self.figure, None
        update(kept, records, **more)
        self.figure = kept
        return kept

    def story(self, records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
        """`Experiment.tell`, by the title of the figure that was drawn last."""
        return self.experiment.tell(records, config, pinned, self.figure)

    def place(self, records: Sequence[Record]) -> str:
        """Where in the run the last record stands."""
        place = self.experiment.place
        return place(records[-1]) if place else f"record {len(records):,}"


class Picture(anywidget.AnyWidget):
    """A picture with its story; for readers without a kernel its bundle holds a PNG."""

    _esm = HERE / "panel.js"
    _css = (HERE / "panel.css").read_text() + inks.theme()
    spec = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    picture = traitlets.Dict({"svg": "", "story": "", "place": "", "seq": 0}).tag(sync=True)

    def __init__(self, experiment: str | Experiment, **more: Any):
        self.experiment = get(experiment)
        self.drawing = Drawing(self.experiment)
        super().__init__(**more)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.experiment.name})"

    def png(self) -> bytes:
        """The picture for readers without a kernel."""
        return pictures.encode(self.drawing.figure)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and its picture for readers without a kernel (web pages, PDF)."""
        found = super()._repr_mimebundle_(**kwargs)
        bundle = dict((found[0] if isinstance(found, tuple) else found) or {})
        if self.drawing.figure is not None:
            bundle["image/png"] = base64.b64encode(self.png()).decode()
        return {**bundle, "text/plain": f"{self!r}: {self.picture['story']}".rstrip(": ")}


class Beside(Picture):
    """The committed reference and, small beside it (on the same axes, see `share_axes`), the records at hand."""

    def __init__(self, experiment: str | Experiment, config: Config, records: Sequence[Record], scale: str):
        super().__init__(experiment)
        reference = papers.reference_records(self.experiment.name)
        told, here = self.drawing.story(records, config), f"here: scale {scale}, {_count(records)}"
        self._figures, notes = [(here, self.drawing.draw(records))], [""]
        if reference:
            laptop = self.experiment.config.at("laptop")
            reason = papers.outdated(self.experiment, laptop)
            caption = f"committed reference: scale laptop, {_count(reference)}{'; ' + reason if reason else ''}"
            small, self.drawing.figure = self._figures.pop()[1], None
            self._figures = [(caption, self.drawing.draw(reference)), (here, small)]
            lost = share_axes(small, self._figures[0][1])
            notes, told = ["", f" At this scale: {told}{lost}"], self.drawing.story(reference, laptop)
        parts = [
            f'<figure tabindex="0" title="press to enlarge"><figcaption><b>{html.escape(caption)}</b>{html.escape(note)}'
            f"</figcaption>{pictures.markup(f)}</figure>"
            for (caption, f), note in zip(self._figures, notes, strict=True)
        ]
        self.picture = {
            "svg": f'<div class="wb-beside">{"".join(parts)}</div>',
            "story": told,
            "titled": True,
            "place": "",
            "seq": 0,
        }

    def png(self) -> bytes:
        """Both pictures in one, the second at half its size."""
        return pictures.side_by_side(self._figures)


def _count(records: Sequence[Record]) -> str:
    seeds = len({r["seed"] for r in records if "seed" in r and r.get("phase", "judge") == "judge"})
    return f"{seeds} seeds" if seeds > 1 else f"{len(records)} records"


def share_axes(small: Figure, reference: Figure) -> str:
    """Give `small` the axes of `reference`, unless a panel would lose most of its points, or show them as one speck.

    Says what is not seen then.
    """
    pairs = [*zip(small.axes, reference.axes, strict=True)] if len(small.axes) == len(reference.axes) else []
    alike = [pair for pair in pairs if _comparable(*pair)]
    points = [_placed(*pair) for pair in alike]
    seen = [((panel >= 0) & (panel <= 1)).all(1) for panel in points]
    gone = sum(int((~panel).sum()) for panel in seen)
    if any(panel.mean() < 0.5 for panel in seen if len(panel)) or any(_speck(panel) for panel in points):
        return " On axes of its own."
    for axes, like in pairs:
        for mesh, model in zip(axes.collections, like.collections, strict=False):
            if isinstance(mesh, QuadMesh) and isinstance(model, QuadMesh):
                mesh.set_clim(model.get_clim())  # its bar of colours follows
    for axes, like in alike:
        axes.set(xlim=like.get_xlim(), ylim=like.get_ylim())
        for name in axes.texts:  # of what now lies outside
            name.set(annotation_clip=True) if isinstance(name, Annotation) else name.set_clip_on(True)
    return f" {gone} of its points lie outside these axes." if gone else ""


def _comparable(axes: Axes, like: Axes) -> bool:
    return axes.get_xscale() == like.get_xscale() and not axes.images and axes.get_label() != "<colorbar>"


def _placed(axes: Axes, like: Axes) -> np.ndarray:
    """Where each point of the lines of `axes` would lie on `like`, ``(points, 2)``: from 0 to 1 inside its limits."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        if line.get_transform() == axes.transData:
            points = np.column_stack([np.asarray(v, float) for v in line.get_data()])
            points = points[np.isfinite(points).all(1)]
            found.append(like.transAxes.inverted().transform(like.transData.transform(points)))
    return np.concatenate(found)


def _speck(points: np.ndarray) -> bool:
    """Whether several of them lie within a twentieth of the axes."""
    return len(points) > 1 and bool((np.ptp(points, axis=0) < 0.05).all())


def beside(experiment: str | Experiment, scale: str) -> list[Record]:
    """Run an experiment at `scale` in this cell, and show it beside the committed reference; returns its records."""
    found = get(experiment)
    config = found.config.at(scale)
    records = list(runs.stream(found, config))
    display(Beside(found, config, records, scale))
    return records


def show(experiment: str | Experiment, config: Config) -> list[Record]:
    """Run an experiment in this cell with a live picture, and return its records.

    A run that is complete is read, not computed; the picture is the same.
    """
    picture = Picture(experiment)
    found, drawing, records = picture.experiment, picture.drawing, []
    handle = display(picture, display_id=True)

    def draw() -> None:
        svg, told = drawing.markup(records), drawing.story(records, config)
        titled = found.story is None  # then the figure's title says it
        place = drawing.place(records)
        picture.picture = {"svg": svg, "story": told, "titled": titled, "place": place, "seq": 0}

    with phases.heard(lambda phase: picture.set_trait("picture", {**picture.picture, "story": phase, "titled": False})):
        for record in runs.stream(found, config):
            records.append(record)
            if drawing.due():
                draw()
    if records:
        draw()
    if handle is not None:  # in plain Python there is no cell to draw in
        handle.update(picture)  # the saved notebook has the last picture
    return records
