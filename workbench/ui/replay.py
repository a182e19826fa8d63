"""The pictures of a finished run at several moments, for the time slider below the picture of a panel.

They are made in the background, or when the browser asks for one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from workbench.experiment import Record
from workbench.knobs import Config
from workbench.ui.picture import Drawing, Pins

MOST = 48  # largest number of moments of a run that have a picture
REST = 0.5  # seconds after the last move of a knob, before pictures are made in the background again
LARGEST = 6_000_000  # characters of markup; after more have been sent, no pictures are made in the background


def moments(records: int, per_moment: int = 1, most: int = MOST) -> list[int]:
    """Return, for each moment of a run, the number of records that its picture shows.

    A moment is a time in the run whose picture the time slider can show. There are at most `most` moments, at even distances
    from the first to the last. Each adds `per_moment` records to the picture, or a multiple of this number; only the last moment
    may add fewer.
    """
    whole = max(-(-records // max(per_moment, 1)), 1)
    count = min(whole, most)
    steps = [round(1 + k * (whole - 1) / max(count - 1, 1)) for k in range(count)]
    return [min(step * per_moment, records) for step in dict.fromkeys(steps)]


class Frames:
    """Pictures as lists of numbered lines of markup. Each line is sent once, since successive pictures share most lines."""

    def __init__(self) -> None:
        self.size = 0  # approximate number of characters sent
        self._lines: dict[str, int] = {}

    def add(self, drawing: Drawing, records: Sequence[Record], config: Config, pins: Pins = ()) -> dict[str, Any]:
        """Return the picture of `records`: its new `lines`, the numbers of all its lines (`ids`), and its text (`told`)."""
        lines = drawing.markup(records, pins).split("\n")
        new = [line for line in dict.fromkeys(lines) if line not in self._lines]
        self._lines |= {line: number for number, line in enumerate(new, len(self._lines))}
        self.size += sum(map(len, new)) + 4 * len(lines)
        ids = [self._lines[line] for line in lines]
        return {"lines": new, "ids": ids, "told": drawing.story(records, config, pins)}


class Replay:
    """The pictures of one run. The function `send` receives each picture as data; see `Frames` for their format."""

    moved = 0.0  # time of the last move of a knob in an instant panel; instant panels have priority over replays

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
        # a separate drawing, because the panel's drawing shows the last moment and is used to save the picture
        self.drawing = Drawing(drawing.experiment)
        self.moments = moments(len(records), drawing.experiment.at_a_moment(config), most) if records else []
        self._frames, self._sent = Frames(), set[int]()
        self._lock, self._ended = threading.Lock(), threading.Event()

    def start(self) -> None:
        """Make the pictures in a background thread, which pauses after each one and ends after `LARGEST` characters of markup."""
        threading.Thread(target=self._fill, name="workbench-replay", daemon=True).start()

    def end(self) -> None:
        """Stop making pictures."""
        self._ended.set()

    def again(self) -> None:
        """Send all pictures again, because a newly opened view has none of them."""
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
            except Exception:  # the panel showed this error when it drew the last moment
                return
            time.sleep(min(time.monotonic() - begun, 1.0))

    def make(self, at: int) -> None:
        """Make and send the picture of the moment with the index `at`, unless it was sent before."""
        if not 0 <= at < len(self.moments):
            return
        with self._lock:
            if at in self._sent or self._ended.is_set():
                return
            self._sent.add(at)
            seen = self.records[: self.moments[at]]
            frame = {"run": self.run, "at": at, **self._frames.add(self.drawing, seen, self.config, self.pins)}
            self.send({"do": "frame", **frame, "place": self.drawing.place(seen)})
