"""The picture of an experiment, which is drawn as records arrive. A cell or a panel shows it as SVG in the page's colours."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Sequence
from time import monotonic
from typing import Any

import anywidget
import traitlets
from IPython.display import display
from matplotlib.figure import Figure

from workbench import inks, phases, pictures, runs
from workbench.experiment import Experiment, Record, get
from workbench.knobs import Config
from workbench.live import Pins

HERE = pathlib.Path(__file__).parent
SHARE, EVERY = 0.1, 0.25  # largest share of the time spent on drawing; shortest pause between pictures in seconds


class Drawing:
    """The figure of an experiment. If the figure can be updated (see `live.live`), it is kept for the next picture."""

    def __init__(self, experiment: Experiment):
        self.experiment, self.figure, self._due = experiment, None, 0.0

    def due(self) -> bool:
        """Return whether the next picture is due. Even on a slow machine, drawing takes at most the share `SHARE` of the time."""
        return monotonic() >= self._due

    def markup(self, records: Sequence[Record], pinned: Pins = ()) -> str:
        """Return the picture of `records` as SVG markup, and set the time at which the next picture is due."""
        start = monotonic()
        try:
            return pictures.markup(self.draw(records, pinned))
        finally:
            end = monotonic()
            self._due = end + max(EVERY, (end - start) * (1 / SHARE - 1))

    def draw(self, records: Sequence[Record], pinned: Pins = ()) -> Figure:
        """Return the figure of `records`. It also shows the `pinned` runs if the experiment supports this."""
        draw = self.experiment.figure
        more = {"pinned": pinned} if self.experiment.pins and pinned else {}
        update = getattr(draw, "update", None)
        if update is None or self.figure is None:
            self.figure = None  # if drawing fails, the next call makes a new figure
            self.figure = draw(records, **more)
            return self.figure
        kept, self.figure = self.figure, None
        update(kept, records, **more)
        self.figure = kept
        return kept

    def story(self, records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
        """Return the text above the picture, which can be the title of the last figure (see `Experiment.tell`)."""
        return self.experiment.tell(records, config, pinned, self.figure)

    def place(self, records: Sequence[Record]) -> str:
        """Return a text with the position of the last record in the run, such as its step."""
        place = self.experiment.place
        return place(records[-1]) if place else f"{len(records):,} record{'s' * (len(records) != 1)}"


class Picture(anywidget.AnyWidget):
    """A widget that shows a picture with a text above it. The widget's MIME bundle holds a PNG for readers without a kernel."""

    _esm = HERE / "panel.js"
    _css = (HERE / "panel.css").read_text(encoding="utf-8") + inks.theme()
    spec = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    picture = traitlets.Dict({"svg": "", "story": "", "place": "", "seq": 0}).tag(sync=True)

    def __init__(self, experiment: str | Experiment, **more: Any):
        self.experiment = get(experiment)
        self.drawing = Drawing(self.experiment)
        super().__init__(**more)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.experiment.name})"

    def png(self) -> bytes:
        """Return the picture as a PNG, for readers without a kernel."""
        return pictures.encode(self.drawing.figure)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the MIME bundle of the widget, with a PNG for readers without a kernel (web pages, PDF)."""
        found, png = super()._repr_mimebundle_(**kwargs), self.png() if self.drawing.figure is not None else b""
        return with_png(found, png, f"{self!r}: {self.picture['story']}".rstrip(": "))


def with_png(found: Any, png: bytes, text: str) -> dict[str, Any]:
    """Return the MIME bundle `found` of a widget, extended for readers without a kernel.

    `text` is added, and also `png` unless it is empty.
    """
    bundle = dict((found[0] if isinstance(found, tuple) else found) or {})
    if png:
        bundle["image/png"] = base64.b64encode(png).decode()
    return {**bundle, "text/plain": text}


def show(experiment: str | Experiment, config: Config) -> list[Record]:
    """Run an experiment in this cell with a live picture, and return its records.

    If the run is stored already, its records are read instead of computed. The picture is the same.
    """
    picture = Picture(experiment)
    found, drawing, records = picture.experiment, picture.drawing, []
    handle = display(picture, display_id=True)

    def draw() -> None:
        svg, told = drawing.markup(records), drawing.story(records, config)
        titled = found.story is None  # without a function `story`, the text is the title of the figure
        place = drawing.place(records)
        picture.picture = {"svg": svg, "story": told, "titled": titled, "place": place, "seq": 0}

    with phases.heard(lambda phase: picture.set_trait("picture", {**picture.picture, "story": phase, "titled": False})):
        for record in runs.stream(found, config):
            records.append(record)
            if drawing.due():
                draw()
    if records:
        draw()
    if handle is not None:  # plain Python has no cell to draw in
        handle.update(picture)  # the saved notebook then contains the last picture
    return records
