"""A figure that redraws itself while records come in, in a cell or in a panel."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from IPython.display import Image, display
from matplotlib.figure import Figure

from workbench import runs
from workbench.experiment import Experiment, Record, get
from workbench.knobs import Config
from workbench.plotting import encode


class LiveFigure:
    """Draws into a sink of PNGs, at most `share` of the time however slow the machine.

    A fixed period would let drawing eat a busy machine: each picture waits for nine times its own cost.
    """

    def __init__(self, sink: Callable[[bytes], None], every: float = 0.25, share: float = 0.1):
        self._sink, self._every, self._share, self._due = sink, every, share, 0.0
        self.figure: Figure | None = None

    def update(self, draw: Callable[[], Figure], force: bool = False) -> None:
        """Draw if it is time, or now."""
        start = monotonic()
        if start < self._due and not force:
            return
        self.figure = draw()
        self._sink(encode(self.figure))
        end = monotonic()
        self._due = end + max(self._every, (end - start) * (1 / self._share - 1))


def cell_sink() -> Callable[[bytes], None]:
    """Show PNGs in the output of the current cell; the last one stays in the saved notebook."""
    handle: Any = display(display_id=True)
    if handle is None:  # plain Python: no cell to draw in
        return lambda png: None
    return lambda png: handle.update(Image(png))


def show(experiment: str | Experiment, config: Config) -> list[Record]:
    """Run an experiment in this cell with a live picture, and return its records.

    A run that is complete is read, not computed; the picture is the same.
    """
    found = get(experiment)
    live, records = LiveFigure(cell_sink()), []
    for record in runs.stream(found, config):
        records.append(record)
        live.update(lambda: found.figure(records))
    live.update(lambda: found.figure(records), force=True)
    return records
