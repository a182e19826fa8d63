"""The panel of an experiment: knobs, Run and Stop, a live picture with a text above it, replay, questions, code and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench import links, papers, pictures, questions, runs
from workbench.atomic import write_atomic
from workbench.experiment import Experiment, Record
from workbench.knobs import Config, text_of
from workbench.links import differences
from workbench.ui import files
from workbench.ui.inputs import Knobs, groups, inputs, plain, set_in_groups
from workbench.ui.running import Running

MOST_PINNED = 4  # largest number of pinned runs; more could not be distinguished in the picture


class Panel(Running):
    """A panel in which the knobs of `experiment` are set and its runs are started, watched, stopped, and pinned for comparison.

    No run starts automatically, except for an instant experiment, which is computed again at each change of a knob. At first, the
    panel shows `records`, a finished run of `config`. If they are not given, it shows a stored run with these knobs, or else the
    reference records, which are part of the repository. Each action in the browser is also a method of this class. The browser
    only displays the state of this object; the state is never read back from the browser.
    """

    def __init__(self, experiment: str | Experiment, config: Config | None = None, records: list[Record] | None = None):
        super().__init__(experiment, config, list(records or []))
        self.knobs, self._answered = Knobs(self.first), 0
        self._question: int | None = None
        self._guess: int | None = None
        self._answer: questions.Answer | None = None
        self.spec = self._spec()
        still = {"busy": False, "progress": 0.0, "phase": "", "message": "", "about": "", "failed": False}
        self.view = still | {"dim": False, "stale": "", "frames": {"run": 0, "count": 0}} | self.state()
        self._open()
        self.on_msg(lambda widget, content, buffers: self._told(content, buffers))

    @classmethod
    def from_link(cls, line: str) -> Panel:
        """Return the panel of the link `line`, without the pinned runs that are not stored here (instant ones are computed)."""
        state = links.parse(line)
        panel = cls(state.experiment, state.config)
        for config in state.pins:
            found = runs.find(state.experiment, config)
            if found is None and state.experiment.instant:
                found = runs.preview(state.experiment, config)
            if found:
                panel.pinned.append((config, found))
        missing = len(state.pins) - len(panel.pinned)
        kept = f"{missing} pinned runs of the link are not stored here: run and pin them again" if missing else ""
        panel.redraw()
        panel.say("; ".join(filter(None, (state.note, kept))) or panel.view["message"])
        return panel

    def _spec(self) -> dict[str, Any]:
        """Return the part of the panel that never changes, for the browser."""
        kind = type(self.first)
        return {
            "name": self.experiment.name,
            "title": f"panel of {self.experiment.name}: {self.experiment.summary}",
            "kernel": True,
            "code": True,
            "instant": self.experiment.instant,
            "pins": self.experiment.pins,
            "knobs": inputs(self.first),
            "groups": groups(kind),
            "presets": [scale for scale, preset in kind.presets.items() if not isinstance(preset, str)],
            "questions": [
                {"title": q.title, "text": q.text, "answers": list(q.answers), "sets": set_in_groups(self.first, q.knobs)}
                for q in self.experiment.questions
            ],
            "plays": self.experiment.place is not None,
            "titled": self.experiment.story is None,
        }

    # -- actions -----------------------------------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The current values of the knobs. If a value is refused, these are the last accepted values."""
        return self.knobs.config

    @property
    def code(self) -> str:
        """The Python call that repeats the run with the current knobs.

        If the experiment has a program that computes the same with another library, this program follows.
        """
        knobs = "".join(f", {name}={value!r}" for name, value in self.config.changed().items())
        ours = f"from workbench import runs\n\nrecords = runs.run({self.experiment.name!r}{knobs})"
        other = self.experiment.code(self.config) if self.experiment.code else ""
        return f"{ours}\n\n{other}" if other else ours

    @property
    def link(self) -> str:
        """The state of this panel as one line of text; see `from_link`."""
        return links.link(links.State(self.experiment, self.config, [config for config, _ in self.pinned]))

    def set(self, **changes: Any) -> None:
        """Set knobs. A refused value stays in the panel with the reason beside it, and no run starts until it is corrected."""
        self.knobs.set(changes)
        self._knobs_moved()

    def reset(self) -> None:
        """Set all knobs to their initial values, and close the open question, if any."""
        self._show_knobs(self.first)

    def preset(self, scale: str) -> None:
        """Set all knobs to the values of the preset `scale`, and close the open question, if any."""
        self._show_knobs(self.experiment.config.at(scale))

    def start(self) -> None:
        """Start a run with the current knobs. A call during a run does nothing."""
        if self.knobs.errors:
            self.say(f"not run: {self.knobs.refusal()}", failed=True)
            return
        if self._question is not None and self.config != self._asked:
            self._close()
        self.begin(self.pull, self.config)

    def pin(self) -> None:
        """Pin the records shown, so that later runs are compared with them. Only the last `MOST_PINNED` pins are kept."""
        if self.records and all(records is not self.records for _, records in self.pinned):
            self.pin_run(self.shown, self.records)

    def pin_run(self, config: Config, records: list[Record]) -> None:
        """Pin another run of this experiment, given by its config and its records."""
        self.pinned = [*self.pinned, (config, records)][-MOST_PINNED:]
        self.redraw()

    def unpin(self, at: int) -> None:
        """Unpin the run with the index `at`."""
        if 0 <= at < len(self.pinned):
            self.pinned = [*self.pinned[:at], *self.pinned[at + 1 :]]
            self.redraw()

    def ask(self, at: int) -> None:
        """Set the knobs for the question with the index `at`, and show the question. The index -1 closes the open question."""
        self._close()
        if 0 <= at < len(self.experiment.questions):
            self._question = at
            self.knobs.show(self._asked)
        self._knobs_moved(draw=False)

    def _close(self) -> None:
        self._question, self._guess, self._answer = None, None, None

    @property
    def _asked(self) -> Config:
        """The config that the open question asks about."""
        return self.first.replace(**self.experiment.questions[self._question or 0].knobs)

    def guess(self, guess: int) -> None:
        """Choose the answer with the index `guess`, start the run that the question asks about, and then judge the answer."""
        if self._question is None or self._guess is not None:
            return
        if self.begin(self._settle, self._question):
            self._guess = guess
            self.tell()

    def save(self, kind: str) -> Path:
        """Save the picture (png, svg, pdf) or the records (csv) in the runs folder, and offer the file for download."""
        name, data = f"{runs.run_id(self.experiment, self.shown)}.{kind}", self._export(kind)
        self.send({"do": "download", "name": name, "mime": files.MIMES[kind]}, buffers=[data])
        path = files.export_path(name)
        try:
            write_atomic(path, data)
            self.say(f"saved {path.parent.name}/{name} in the runs folder, and downloaded")
        except OSError as error:
            self.say(f"downloaded, but {path} cannot be written ({error.strerror})", failed=True)
        return path

    def _export(self, kind: str) -> bytes:
        if kind == "csv":
            return files.csv(self.records)
        return pictures.encode(self.drawing.draw(self.records, self.labelled_pins()), kind)

    def upload(self, name: str, file: str, data: bytes) -> None:
        """Save an uploaded file in the runs folder, and set the knob `name` to its path."""
        self.set(**{name: str(files.keep(file, data, self.first.knobs()[name].file))})

    # -- questions -----------------------------------------------------------------------------------------------------

    def _settle(self, at: int) -> None:
        """Make the run of question `at`, but first the run with which it is compared (`rival`), if any. Then judge the answer."""
        question, self.pinned = self.experiment.questions[at], []
        config = self.first.replace(**question.knobs)
        if question.rival is not None:
            if not self._make(config.replace(**question.rival)):
                return
            self.pinned = [(self.shown, self.records)]
        if not self._make(config):
            return
        self._answer = questions.answer(
            self.experiment, question, self._guess or 0, self.records, self.pinned[0][1] if self.pinned else []
        )
        self.redraw()

    def _make(self, config: Config) -> bool:
        if not self.experiment.instant:
            return self.pull(config)
        self.records, self.shown = runs.preview(self.experiment, config), config
        return True

    # -- messages from the browser -------------------------------------------------------------------------------------

    def _told(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Perform the action that a message from the browser names. Errors are shown in the panel."""
        given = {key: value for key, value in content.items() if key != "do"}
        acts: dict[str, Callable[..., Any]] = {
            "hello": self.opened,
            "set": self._set,
            "run": self.start,
            "stop": self.stop,
            "pin": self.pin,
            "unpin": self.unpin,
            "reset": self.reset,
            "preset": self.preset,
            "ask": self.ask,
            "guess": self.guess,
            "save": self.save,
            "frame": self._frame,
            "upload": lambda name, file: self.upload(name, file, bytes(buffers[0])),
        }
        self._answered += 1
        try:
            acts[content["do"]](**given)
        except Exception as error:
            self.fail(error)
        if self.view["answered"] != self._answered:  # nothing has changed, but the browser waits for a reply
            self.tell()

    def _set(self, seq: int, knobs: dict[str, dict[str, Any]]) -> None:
        self.seq = seq
        self.set(**{name: given.get("value", given.get("text")) for name, given in knobs.items()})

    def _frame(self, run: int, at: int) -> None:
        if run == self.replay.run:
            self.replay.make(at)

    # -- display ---------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Show the first picture: that of the given records, or of a stored run with these knobs, or of the reference records."""
        message = "move a knob" if self.experiment.instant else "move a knob, then press Run"
        if self.experiment.instant:
            if not self.records:
                self.draw_instant(self.first)
        elif not self.records:
            found = runs.find(self.experiment, self.first)
            if found is None:
                found, message = self._reference(message)
            self.records = found or []
        if self.records and not self.picture["svg"]:
            self.draw()
        if not self.error:
            self.say(message)
        self.offer_replay()

    def _reference(self, message: str) -> tuple[list[Record] | None, str]:
        """Return the reference records (None if they are missing or outdated), and the message to show.

        The message is `message`. If there are reference records, a note says that the picture shows them, or why it does not.
        """
        found = papers.reference_records(self.experiment.name)
        if found is None:
            return None, message
        laptop = self.experiment.config.at("laptop")
        if reason := papers.outdated(self.experiment, laptop):
            return None, f"{message} ({reason})"
        self.shown = laptop
        return found, f"this picture shows the committed reference at scale laptop: {message}"

    def _show_knobs(self, config: Config) -> None:
        self._close()
        self.knobs.show(config)
        self._knobs_moved()

    def _knobs_moved(self, draw: bool = True) -> None:
        refused, busy = bool(self.knobs.errors), self.view["busy"]
        why = "choose a file" if self.knobs.errors.keys() == self.knobs.to_choose().keys() else "a value is refused"
        if self.experiment.instant:
            if self._answer is not None and self.config != self._asked:
                self._close()
            stale = f"this picture shows earlier knob values: {why}" if refused else ""
            if draw and not refused:
                self.want(self.config)
        else:
            asking = self._question is not None and self._guess is None  # choosing an answer starts the run
            other = bool(self.records) and self.config != self.shown and not busy and not asking
            stale = "this picture shows other knob values: press Run" if other else ""
            if refused and self.records:
                stale = f"this picture shows earlier knob values: {why}"
        general = self.knobs.errors.get("")
        if general:
            self.say(general, failed=True)
        elif self.view["failed"] and not busy:
            self.tell(failed=False, message="")
        self.tell(stale=stale)

    def knob_refused(self, error: Exception) -> None:
        """If the error names a knob, show the error beside this knob."""
        line = str(error).strip().partition("\n")[0]
        if line.partition("=")[0] in self.knobs.values:
            self.knobs.errors = {**self.knobs.errors, line.partition("=")[0]: line}

    def state(self) -> dict[str, Any]:
        """Return the current values, errors, pinned runs, question and code, for the browser."""
        knobs, config, to_choose = self.knobs, self.config, self.knobs.to_choose()
        question = None
        if self._question is not None:
            question = {"at": self._question, "guess": self._guess, "answer": self._answer and vars(self._answer)}
        return {
            "seq": self.seq,
            "answered": self._answered,
            "values": {name: [plain(value), text_of(value)] for name, value in knobs.values.items()},
            "errors": {name: error for name, error in knobs.errors.items() if name not in to_choose},
            "to_choose": to_choose,
            "idle": knobs.idle(),
            "changed": [name for name, value in knobs.values.items() if value != getattr(self.first, name)],
            "high": {n: k.top(config) for n, k in type(config).knobs().items() if callable(k.high)},
            "pins": [differences(c, self.shown) or "the same knobs" for c, _ in self.pinned],
            "question": question,
            "code": self.code,
            "link": self.link,
        }
