"""The pictures of a finished run, moment by moment, for the scrubber: made while idle, or when one is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from workbench.experiment import Record
from workbench.knobs import Config
from workbench.ui.picture import Drawing, Pins

MOST = 48  # moments of a run that have a picture
REST = 0.5  # seconds without a move, before pictures are made in the background again
LARGEST = 6_000_000  # characters of markup that a browser is asked to keep


def moments(records: int, per_moment: int = 1, most: int = MOST) -> list[int]:
    """How many records each moment of a run has seen: the first, the last, and others evenly between, at most so many."""
    whole = max(-(-records // max(per_moment, 1)), 1)
    count = min(whole, most)
    steps = [round(1 + k * (whole - 1) / max(count - 1, 1)) for k in range(count)]
    return [min(step * per_moment, records) for step in dict.fromkeys(steps)]


class Frames:
    """Pictures as lists of numbered lines of markup: neighbours share most of theirs, and each line is handed over once."""

    def __init__(self) -> None:
        self.size = 0  # characters handed over, about
        self._lines: dict[str, int] = {}

    def add(self, drawing: Drawing, records: Sequence[Record], config: Config, pins: Pins = ()) -> dict[str, Any]:
        """The picture of these records: `lines` that are new, the numbers of all its lines (`ids`), and its story (`told`)."""
        lines = drawing.markup(records, pins).split("\n")
        new = [line for line in dict.fromkeys(lines) if line not in self._lines]
        self._lines |= {line: number for number, line in enumerate(new, len(self._lines))}
        self.size += sum(map(len, new)) + 4 * len(lines)
        ids = [self._lines[line] for line in lines]
        return {"lines": new, "ids": ids, "told": drawing.story(records, config, pins)}


class Replay:
    """Pictures of one run; `send` is given each as data, with lines of markup that were sent before as numbers."""

    moved = 0.0  # when a slider of any panel was last moved: it comes first

    def __init__(
        self,
        run: int,
        drawing: Drawing,
        records: Sequence[Record],
        config: Config,
        pins: Pins,
        send: Callable[[dict[str, Any]], None],
        most: int = MOST,
    ):
        self.run, self.records, self.config, self.pins, self.send = run, records, config, pins, send
        # a drawing of its own: the panel's is of the last moment, and is saved from there
        self.drawing = Drawing(drawing.experiment)
        self.moments = moments(len(records), drawing.experiment.at_a_moment(config), most) if records else []
        self._frames, self._sent = Frames(), set[int]()
        self._lock, self._ended = threading.Lock(), threading.Event()

    def start(self) -> None:
        """Make all pictures in the background, at most half of the time."""
        threading.Thread(target=self._fill, name="workbench-replay", daemon=True).start()

    def end(self) -> None:
        """Make no more."""
        self._ended.set()

    def again(self) -> None:
        """Send everything again: a new view has none of it."""
        with self._lock:
            self._frames, self._sent = Frames(), set()
        self.start()

    def _fill(self) -> None:
        for at in range(len(self.moments)):
            while time.monotonic() - Replay.moved < REST and not self._ended.is_set():
                time.sleep(REST / 5)
            begun = time.monotonic()
            if self._ended.is_set() or self._frames.size > LARGEST:
                return
            try:
                self.make(at)
            except Exception:  # the panel has said so when it drew the last one
                return
            time.sleep(min(time.monotonic() - begun, 1.0))

    def make(self, at: int) -> None:
        """Make the picture of the moment `at`, unless it was sent."""
        if not 0 <= at < len(self.moments):
            return
        with self._lock:
            if at in self._sent or self._ended.is_set():
                return
            self._sent.add(at)
            seen = self.records[: self.moments[at]]
            frame = {"run": self.run, "at": at, **self._frames.add(self.drawing, seen, self.config, self.pins)}
            self.send({"do": "frame", **frame, "place": self.drawing.place(seen)})
