"""The picture of a run in progress. One thread computes and draws the run, and can be stopped."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import traitlets

from workbench import phases, runs
from workbench.experiment import Experiment, Record
from workbench.knobs import Config, KnobError
from workbench.links import differences
from workbench.ui.picture import Picture
from workbench.ui.replay import Replay

TOLD_EVERY = 0.1  # seconds between two reports of the progress


class Running(Picture):
    """The picture of a run in progress, without knobs. `view` holds the state that the browser shows, such as the progress.

    The run is computed in one daemon thread. `stop` only sets an event, which the thread checks after each record.
    """

    view = traitlets.Dict().tag(sync=True)

    def __init__(self, experiment: str | Experiment, first: Config | None, records: list[Record]):
        super().__init__(experiment)
        self.first = self.shown = first = first or self.experiment.config()
        self.records, self.pinned = records, []
        self.error = ""  # the full traceback of the last error
        self._stop, self._lock = threading.Event(), threading.RLock()
        self._thread: threading.Thread | None = None
        self._wanted: Config | None = None
        self.seq, self.seen, self._made = 0, False, 0
        self.replay = Replay(0, self.drawing, [], first, (), self.send)

    def state(self) -> dict[str, Any]:
        """Return further entries of `view`, which are computed at each change of `view`. A subclass may override this method."""
        return {}

    def knob_refused(self, error: Exception) -> None:
        """Show an error beside the knob that the error names. This class has no knobs, so this method does nothing."""

    def stop(self) -> None:
        """Stop the run after its current step."""
        self._stop.set()
        self.say("stopping after this step")

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended (for scripts and tests)."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    # -- the run -------------------------------------------------------------------------------------------------------

    def begin(self, work: Callable[..., object], *given: Any) -> bool:
        """Start `work` in a thread and return True. If a thread is running already, return False."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._stop.clear()
            self.replay.end()
            self.tell(busy=True, failed=False)
            self._thread = threading.Thread(target=self._work, args=(work, *given), name="workbench-panel", daemon=True)
            self._thread.start()
            return True

    def _work(self, work: Callable[..., object], *given: Any) -> None:
        try:
            with phases.heard(lambda phase: self.tell(phase=phase)):
                work(*given)
        except Exception as error:  # every error of an experiment is shown as one line
            self.fail(error)
        finally:
            self.tell(busy=False, phase="", dim=False)
            self.offer_replay()

    def pull(self, config: Config) -> bool:
        """Run the experiment with `config`, collect its records in `self.records`, and return whether the run was completed."""
        self.tell(
            message=f"running: {differences(config, self.first) or 'the initial knobs'}",
            progress=0.0,
            phase="starting",
            dim=bool(self.picture["svg"]),
            stale="",
            about="",
        )
        start, first, told, self._made = monotonic(), None, 0.0, 0
        total = self.experiment.steps(config) if self.experiment.steps else 0
        records, stopped = [], False
        stream: Iterator[Record] = runs.stream(self.experiment, config, stopped=self._stop.is_set)
        try:
            for record in stream:
                records.append(record)
                now, self._made = monotonic(), len(records)
                if first is None:
                    first, self.records, self.shown = now, records, config
                if self.drawing.due():
                    self.draw()
                if now - told > TOLD_EVERY:
                    told = now
                    self._count(len(records), total, now - first)
                stopped = self._stop.is_set()
                if stopped:
                    break
        except runs.Stopped:
            stopped = True
        finally:
            stream.close()
        drawn = self.draw() if records else True
        spent, of = f"{monotonic() - start:.1f} s", f" of {total}" if total else ""
        if stopped:
            self.say(f"stopped after {len(records)}{of} records, {spent}; press Run to continue")
        elif drawn:
            about = f"run {runs.run_id(self.experiment, config)}"
            self.tell(progress=1.0, message=f"done: {len(records)} records, {spent}", about=about)
        return not stopped

    def _count(self, done: int, total: int, spent: float) -> None:
        if total:
            left = f", about {spent / (done - 1) * max(total - done, 0):.0f} s left" if done > 1 else ""
            self.tell(progress=min(done / total, 1.0), phase=f"{done} of {total}{left}")
        else:
            self.tell(phase=f"{done} records")

    # -- instant experiments ---------------------------------------------------------------------------------------------

    def want(self, config: Config) -> None:
        """Compute and draw `config` in a thread. If further configs arrive in the meantime, only the last of these is drawn."""
        with self._lock:
            self._wanted = config
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._draw_wanted, name="workbench-panel", daemon=True)
                self._thread.start()

    def _draw_wanted(self) -> None:
        while True:
            with self._lock:
                config, self._wanted = self._wanted, None
                if config is None:
                    self._thread = None
                    return
            self.draw_instant(config)

    def draw_instant(self, config: Config) -> None:
        """Compute the records of an instant experiment with `config`, and show their picture."""
        seq, Replay.moved = self.seq, monotonic()
        try:
            with phases.heard(lambda phase: self.tell(phase=phase)):
                self.records, self.shown = runs.preview(self.experiment, config), config
            self.draw(seq)
            self.tell(phase="", stale="", failed=False, message=differences(config, self.first), dim=False)
        except Exception as error:
            self.fail(error)

    def opened(self) -> None:
        """Start the work that a view in the browser needs: make the pictures of the replay, and call `Experiment.prepare`.

        If this is not the first view, only the pictures are sent again.
        """
        again, self.seen = self.seen, True
        if again:
            self.replay.again()
            return
        self.replay.start()
        if self.experiment.prepare is not None:
            threading.Thread(target=self.experiment.prepare, name="workbench-prepare", daemon=True).start()

    # -- display ---------------------------------------------------------------------------------------------------------

    def labelled_pins(self) -> list[tuple[str, list[Record]]]:
        """Return the pinned runs except the run shown. Each label lists the knobs in which a run differs from the run shown."""
        others = [(config, records) for config, records in self.pinned if records is not self.records]
        return [(differences(config, self.shown) or "pinned", records) for config, records in others]

    def draw(self, seq: int = 0) -> bool:
        """Draw the current records, and return True if this succeeds. An error is shown as a message and does not end the run."""
        pins = self.labelled_pins() if self.experiment.pins else []
        try:
            svg = self.drawing.markup(self.records, pins)
            told = self.drawing.story(self.records, self.shown, pins)
            self.picture = {"svg": svg, "story": told, "place": self.drawing.place(self.records), "seq": seq}
            if self.view.get("dim"):
                self.tell(dim=False)
            return True
        except Exception as error:
            self.error = traceback.format_exc()
            self.say(
                f"the picture could not be drawn ({type(error).__name__}: {error}): the records may be of another version. "
                "The records are kept, and the button CSV saves them",
                failed=True,
            )
            return False

    def redraw(self) -> None:
        """Draw the same records again, because the pinned runs have changed."""
        if self.records:
            self.draw()
        self.tell()
        if not self.view["busy"]:  # during a run, this is done at the end of the run
            self.offer_replay()

    def offer_replay(self) -> None:
        """Prepare the pictures that the time slider shows, from the current records."""
        self.replay.end()
        if self.experiment.instant:
            return
        pins = self.labelled_pins() if self.experiment.pins else []
        self.replay = Replay(self.replay.run + 1, self.drawing, self.records, self.shown, pins, self.send)
        self.tell(frames={"run": self.replay.run, "count": len(self.replay.moments)})
        if self.seen:
            self.replay.start()

    def tell(self, **changes: Any) -> None:
        """Update `view` with the current state and with `changes`."""
        with self._lock:
            self.view = {**self.view, **self.state(), **changes}

    def say(self, message: str, failed: bool = False, about: str = "") -> None:
        """Show a message. `about` is a longer text that appears when the pointer is over the message."""
        self.tell(message=message, failed=failed, about=about)

    def fail(self, error: Exception) -> None:
        """Show an error in one line, and beside the knob that the error names. `self.error` keeps the full traceback."""
        self.error = traceback.format_exc()
        kind = "" if isinstance(error, (KnobError, ValueError, RuntimeError)) else f"{type(error).__name__}: "
        lines = str(error).strip().splitlines() or [type(error).__name__]
        begun = f"failed after {self._made} records: " if self.view["busy"] and self._made else "not run: "
        self.knob_refused(error)
        self.tell(phase="", dim=False, stale="this picture was drawn before the error" if self.records else "")
        self.say(begun + kind + " | ".join(lines), failed=True)
