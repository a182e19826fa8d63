"""A panel built from any experiment: knobs, Run and Stop, a live picture with its story, replay, questions, code and files."""

from __future__ import annotations

import hashlib
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import traitlets

from workbench import links, papers, phases, plotting, runs
from workbench.experiment import Experiment, Record
from workbench.knobs import Config, KnobError, differences, text_of
from workbench.ui.inputs import Knobs, inputs
from workbench.ui.picture import Drawing, Picture
from workbench.ui.replay import Replay

PINS = 4  # runs that can be pinned: more are no longer told apart
TOLD_EVERY = 0.1  # seconds between two words on progress
LARGEST_UPLOAD = 20_000_000  # bytes
MIMES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv"}


class Panel(Picture):
    """Turn the knobs of `experiment`, press Run, watch it, press Stop; pin finished runs to compare the next with.

    The panel starts nothing by itself, except an experiment marked instant, which is redrawn at each move of a slider. It
    opens with the picture of `records`, a finished run of `config`; else with a kept run of these knobs, else with the
    reference. The run goes on in one daemon thread; what is pressed only sets events, so a busy kernel cannot lose it. All
    that a person can do is a method here; what stands in the browser is a view of it, and never read back.
    """

    view = traitlets.Dict().tag(sync=True)

    def __init__(
        self, experiment: str | Experiment, config: Config | None = None, records: list[Record] | None = None
    ):
        super().__init__(experiment)
        self._first = config or self.experiment.config()
        self.knobs = Knobs(self._first)
        self.records: list[Record] = list(records or [])
        self.pinned: list[tuple[Config, list[Record]]] = []
        self.error = ""  # the whole traceback of the last error
        self._shown, self._question, self._guess, self._verdict, self._right = self._first, None, None, "", None
        self._stop, self._lock = threading.Event(), threading.RLock()
        self._thread: threading.Thread | None = None
        self._wanted: Config | None = None
        self._seq, self._seen, self._replay = 0, False, Replay(0, self.drawing, [], self._first, (), self.send)
        self.spec = self._spec()
        self.view = {
            "seq": 0, "busy": False, "progress": 0.0, "phase": "", "message": "", "about": "", "failed": False, "dim": False,
            "stale": "", "frames": {"run": 0, "count": 0}, **self._state(),
        }  # fmt: skip
        self._open()
        self.on_msg(lambda widget, content, buffers: self._told(content, buffers))

    @classmethod
    def from_link(cls, line: str) -> Panel:
        """The panel whose Link button gave this line; its pinned runs are those that are kept."""
        state = links.parse(line)
        panel = cls(state.experiment, state.config)
        for config in state.pins:
            found = runs.find(state.experiment, config)
            if found is None and state.experiment.instant:
                found = runs.preview(state.experiment, config)
            if found:
                panel.pinned.append((config, found))
        missing = len(state.pins) - len(panel.pinned)
        kept = f"{missing} pinned runs are not kept here: run them, and pin them again" if missing else ""
        panel._redraw()
        panel._say("; ".join(filter(None, (state.note, kept))) or panel.view["message"])
        return panel

    def _spec(self) -> dict[str, Any]:
        """What never changes, for the browser."""
        kind = type(self._first)
        essential = [name for name, knob in kind.knobs().items() if knob.essential]
        groups = [
            [title or "more", [n for n in names if n not in essential], False] for title, names in kind.groups().items()
        ]
        groups = [group for group in groups if group[1]]
        if not essential:  # few knobs: all of them are in sight
            groups = [[title, names, at == 0] for at, (title, names, _) in enumerate(groups)]
        return {
            "name": self.experiment.name,
            "title": f"panel of {self.experiment.name}: {self.experiment.summary}",
            "kernel": True,
            "code": True,
            "instant": self.experiment.instant,
            "pins": self.experiment.pins,
            "knobs": inputs(self._first),
            "groups": [["", essential, True], *groups] if essential else groups,
            "presets": [scale for scale, preset in kind.presets.items() if not isinstance(preset, str)],
            "questions": [
                {"title": q.title, "text": q.text, "answers": list(q.answers)} for q in self.experiment.questions
            ],
        }

    # -- what a person can do ----------------------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The knobs as they stand; of a refused value, as they stood before."""
        return self.knobs.config

    @property
    def code(self) -> str:
        """The call that repeats the run of the knobs as they stand."""
        knobs = "".join(f", {name}={value!r}" for name, value in self.config.changed().items())
        return f"from workbench import runs\n\nrecords = runs.run({self.experiment.name!r}{knobs})"

    @property
    def link(self) -> str:
        """One line that holds the state of this panel; see `from_link`."""
        return links.link(links.State(self.experiment, self.config, [config for config, _ in self.pinned]))

    def set(self, **changes: Any) -> None:
        """Turn knobs. A refused value stands where it was turned, with the reason; the others go on as they are."""
        self.knobs.set(changes)
        self._knobs_moved()

    def reset(self) -> None:
        """All knobs as they were at first."""
        self._show_knobs(self._first)

    def preset(self, scale: str) -> None:
        """All knobs as the preset `scale` has them."""
        self._show_knobs(self.experiment.config.at(scale))

    def start(self) -> None:
        """Run with the knobs as they stand; does nothing while a run is going on."""
        if self.knobs.errors:
            self._say("not run: a knob is refused, see what is said beside it", failed=True)
            return
        self._begin(self._main, self.config)

    def stop(self) -> None:
        """End the run after the step it is at."""
        self._stop.set()
        self._say("stopping after this step")

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended (for scripts and tests)."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def pin(self) -> None:
        """Keep the records shown, to compare the next ones with; the oldest is let go where there are too many."""
        if self.records and all(records is not self.records for _, records in self.pinned):
            self.pin_run(self._shown, self.records)

    def pin_run(self, config: Config, records: list[Record]) -> None:
        """Pin another run of this experiment."""
        self.pinned = [*self.pinned, (config, records)][-PINS:]
        self._redraw()

    def unpin(self, at: int) -> None:
        """Let go of the pinned run `at`."""
        if 0 <= at < len(self.pinned):
            self.pinned = [*self.pinned[:at], *self.pinned[at + 1 :]]
            self._redraw()

    def ask(self, at: int) -> None:
        """Set the knobs for question `at` and ask it; -1 puts it away."""
        known = 0 <= at < len(self.experiment.questions)
        self._question, self._guess, self._verdict, self._right = (at if known else None), None, "", None
        if known:
            self.knobs.show(self._first.replace(**self.experiment.questions[at].knobs))
        self._knobs_moved(draw=False)

    def guess(self, guess: int) -> None:
        """Answer the question: runs what it asks about, and judges."""
        if self._question is None or self._guess is not None:
            return
        if self._begin(self._settle, self._question):
            self._guess = guess
            self._tell()

    def save(self, kind: str) -> Path:
        """Save the picture (png, svg, pdf) or the records (csv) beside the runs, and offer them for download."""
        if kind == "csv":
            import pandas as pd

            data = pd.DataFrame.from_records(self.records).to_csv(index=False).encode()
        else:
            data = plotting.encode(self.drawing.draw(self.records, self._pins()), kind)
        name = f"{runs.run_id(self.experiment, self._shown)}.{kind}"
        path = runs.runs_folder() / "exports" / name
        self.send({"do": "download", "name": name, "mime": MIMES[kind]}, buffers=[data])
        try:
            runs.write_atomic(path, data)
            self._say(f"saved {path.parent.name}/{name} in the runs folder, and downloaded")
        except OSError as error:
            self._say(f"downloaded; cannot write {path} ({error.strerror})", failed=True)
        return path

    def upload(self, name: str, file: str, data: bytes) -> None:
        """Keep a file among the runs, and set the knob `name` to its path."""
        if len(data) > LARGEST_UPLOAD:
            raise ValueError(f"{file}: {len(data):,} bytes; expected at most {LARGEST_UPLOAD:,}")
        given = Path(file)
        suffix = self._first.knobs()[name].file
        if given.suffix != suffix:
            raise ValueError(f"{file}: expected a {suffix} file")
        kept = f"{given.stem}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}"
        path = runs.runs_folder() / "uploads" / kept
        runs.write_atomic(path, data)
        self.set(**{name: str(path)})

    # -- what the browser says -----------------------------------------------------------------------------------------

    def _told(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """One thing that a person did in the browser; what goes wrong is said in the panel."""
        given = {key: value for key, value in content.items() if key != "do"}
        acts: dict[str, Callable[..., Any]] = {
            "hello": self._hello, "set": self._set, "run": self.start, "stop": self.stop, "pin": self.pin, "unpin": self.unpin,
            "reset": self.reset, "preset": self.preset, "ask": self.ask, "guess": self.guess, "save": self.save,
            "frame": self._frame, "upload": lambda name, file: self.upload(name, file, bytes(buffers[0])),
        }  # fmt: skip
        try:
            acts[content["do"]](**given)
        except Exception as error:
            self._fail(error)

    def _hello(self) -> None:
        """A view has opened: from now on there is somebody to make pictures for."""
        again, self._seen = self._seen, True
        if again:
            self._replay.again()
        else:
            self._replay.start()

    def _set(self, seq: int, knobs: dict[str, dict[str, Any]]) -> None:
        self._seq = seq
        self.set(**{name: given.get("value", given.get("text")) for name, given in knobs.items()})

    def _frame(self, run: int, at: int) -> None:
        if run == self._replay.run:
            self._replay.make(at)

    # -- the run -------------------------------------------------------------------------------------------------------

    def _begin(self, work: Callable[..., None], *given: Any) -> bool:
        """Begin `work` in a thread, unless one is under way."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._stop.clear()
            self._replay.end()
            self._tell(busy=True, failed=False)
            self._thread = threading.Thread(
                target=self._work, args=(work, *given), name="workbench-panel", daemon=True
            )
            self._thread.start()
            return True

    def _work(self, work: Callable[..., None], *given: Any) -> None:
        try:
            with phases.heard(lambda phase: self._tell(phase=phase)):
                work(*given)
        except Exception as error:  # whatever an experiment raises becomes one clear line
            self._fail(error)
        finally:
            self._tell(busy=False, phase="", dim=False)
            self._offer_replay()

    def _main(self, config: Config) -> None:
        self._pull(config)

    def _pull(self, config: Config) -> bool:
        """Run `config` into `records`; returns whether it came to its end."""
        self._tell(message=f"running: {differences(config, self._first) or 'the first knobs'}", progress=0.0, phase="starting",
                   dim=bool(self.picture["svg"]), stale="", about="")  # fmt: skip
        start, first, told = monotonic(), None, 0.0
        total = self.experiment.steps(config) if self.experiment.steps else 0
        records, stopped = [], False
        stream: Iterator[Record] = runs.stream(self.experiment, config, stopped=self._stop.is_set)
        try:
            for record in stream:
                records.append(record)
                now = monotonic()
                if first is None:
                    first, self.records, self._shown = now, records, config
                    self._tell(dim=False)
                if self.drawing.due():
                    self._draw()
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
        if records:
            self._draw()
        spent, of = f"{monotonic() - start:.1f} s", f" of {total}" if total else ""
        if stopped:
            self._say(f"stopped after {len(records)}{of} records, {spent}; Run goes on from what is kept")
        else:
            self._tell(progress=1.0)
            self._say(f"done: {len(records)} records, {spent}", about=f"run {runs.run_id(self.experiment, config)}")
        return not stopped

    def _count(self, done: int, total: int, spent: float) -> None:
        if total:
            left = f", about {spent / (done - 1) * max(total - done, 0):.0f} s left" if done > 1 else ""
            self._tell(progress=min(done / total, 1.0), phase=f"{done} of {total}{left}")
        else:
            self._tell(phase=f"{done} records")

    def _settle(self, at: int) -> None:
        """Run what question `at` asks about, its rival first, and judge the guess by the records."""
        question, self.pinned = self.experiment.questions[at], []
        config = self._first.replace(**question.knobs)
        if question.rival is not None:
            if not self._make(config.replace(**question.rival)):
                return
            self.pinned = [(self._shown, self.records)]
        if not self._make(config):
            return
        self._right = question.right(self.records, self.pinned[0][1] if self.pinned else [])
        said, right = question.answers[self._guess], question.answers[self._right]
        runs_of = getattr(config, "seeds", 1)
        where = "on this run" if runs_of == 1 else f"over {runs_of} seeds"
        words = "Right." if self._guess == self._right else "Look at the picture: why?"
        self._verdict = f"You said: {said}. Measured, {where}: {right}. {words}"
        self._redraw()

    def _make(self, config: Config) -> bool:
        if not self.experiment.instant:
            return self._pull(config)
        self.records, self._shown = runs.preview(self.experiment, config), config
        return True

    # -- instant experiments ---------------------------------------------------------------------------------------------

    def _want(self, config: Config) -> None:
        """Draw the newest config in a thread; moves that arrive meanwhile are skipped but for the last."""
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
            self._draw_instant(config)

    def _draw_instant(self, config: Config) -> None:
        seq = self._seq
        try:
            with phases.heard(lambda phase: self._tell(phase=phase)):
                self.records, self._shown = runs.preview(self.experiment, config), config
            self._draw(seq)
            self._tell(phase="", stale="", failed=False, message=differences(config, self._first), dim=False)
        except Exception as error:
            self._fail(error)

    # -- what is shown ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """The first picture: of the records given, else of a kept run of these knobs, else of the reference."""
        message = "move a knob" if self.experiment.instant else "move a knob, then press Run"
        if self.experiment.instant:
            if not self.records:
                self._draw_instant(self._first)
        elif not self.records:
            found = runs.find(self.experiment, self._first)
            if found is None:
                found, message = self._reference(message)
            self.records = found or []
        if self.records and not self.picture["svg"]:
            self._draw()
        if not self.error:
            self._say(message)
        self._knobs_moved(draw=False)
        self._offer_replay()

    def _reference(self, message: str) -> tuple[list[Record] | None, str]:
        """The committed records, where they are of this version."""
        found = papers.reference_records(self.experiment.name)
        if found is None:
            return None, message
        laptop = self.experiment.config.at("laptop")
        if reason := papers.outdated(self.experiment, laptop):
            return None, f"{message} ({reason})"
        self._shown = laptop
        return found, f"shown is the committed reference, scale laptop: {message}"

    def _pins(self) -> list[tuple[str, list[Record]]]:
        others = [(config, records) for config, records in self.pinned if records is not self.records]
        return [(differences(config, self._shown) or "pinned", records) for config, records in others]

    def _draw(self, seq: int = 0) -> None:
        """Show the records as they are; a figure or a story that raises is a message, and the run goes on."""
        pins = self._pins() if self.experiment.pins else []
        try:
            svg = self.drawing.markup(self.records, pins)
            told = self.drawing.story(self.records, self._shown, pins)
            self.picture = {"svg": svg, "story": told, "place": self.drawing.place(self.records), "seq": seq}
        except Exception as error:
            self.error = traceback.format_exc()
            self._say(
                f"the picture could not be drawn ({type(error).__name__}: {error}): the records may be of another version; "
                "they are kept, and CSV saves them",
                failed=True,
            )

    def _redraw(self) -> None:
        if self.records:
            self._draw()
        self._tell()
        self._offer_replay()

    def _offer_replay(self) -> None:
        """Pictures of the records shown, for the scrubber."""
        self._replay.end()
        if self.experiment.instant:
            return
        pins = self._pins() if self.experiment.pins else []
        self._replay = Replay(self._replay.run + 1, self.drawing, self.records, self._shown, pins, self.send)
        self._tell(frames={"run": self._replay.run, "count": len(self._replay.moments)})
        if self._seen:
            self._replay.start()

    def _show_knobs(self, config: Config) -> None:
        self.knobs.show(config)
        self._knobs_moved()

    def _knobs_moved(self, draw: bool = True) -> None:
        refused, busy = bool(self.knobs.errors), self.view["busy"]
        if self.experiment.instant:
            stale = "this picture is as it was before: a knob is refused" if refused else ""
            if draw and not refused:
                self._want(self.config)
        else:
            other = bool(self.records) and self.config != self._shown and not busy
            stale = "this picture is of other knobs: press Run" if other else ""
            if refused and self.records:
                stale = "this picture is as it was before: a knob is refused"
        general = self.knobs.errors.get("")
        if general:
            self._say(general, failed=True)
        elif self.view["failed"] and not busy:
            self._tell(failed=False, message="")
        self._tell(stale=stale)

    def _state(self) -> dict[str, Any]:
        """How things stand, for the browser."""
        knobs, config = self.knobs, self.config
        question = None
        if self._question is not None:
            question = {"at": self._question, "guess": self._guess, "right": self._right, "verdict": self._verdict}
        return {
            "seq": self._seq,
            "values": {name: [_plain(value), text_of(value)] for name, value in knobs.values.items()},
            "errors": knobs.errors,
            "idle": config.idle(),
            "changed": [name for name, value in knobs.values.items() if value != getattr(self._first, name)],
            "high": {n: k.top(config) for n, k in type(config).knobs().items() if callable(k.high)},
            "pins": [differences(c, self._shown) or "the same knobs" for c, _ in self.pinned],
            "question": question,
            "code": self.code,
            "link": self.link,
        }

    def _tell(self, **changes: Any) -> None:
        with self._lock:
            self.view = {**self.view, **self._state(), **changes}

    def _say(self, message: str, failed: bool = False, about: str = "") -> None:
        self._tell(message=message, failed=failed, about=about)

    def _fail(self, error: Exception) -> None:
        """One line in the panel, and beside the knob that it names; the whole traceback stays in `self.error`."""
        self.error = traceback.format_exc()
        kind = "" if isinstance(error, (KnobError, ValueError, RuntimeError)) else f"{type(error).__name__}: "
        lines = str(error).strip().splitlines() or [type(error).__name__]
        begun = f"failed after {len(self.records)} records: " if self.view["busy"] and self.records else "not run: "
        named = lines[0].partition("=")[0]
        if named in self.knobs.values:
            self.knobs.errors = {**self.knobs.errors, named: lines[0]}
        self._tell(phase="", dim=False, stale="this picture is as it was before" if self.records else "")
        self._say(begun + kind + " | ".join(lines), failed=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
