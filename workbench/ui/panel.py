"""A panel built from any experiment: knobs, Run, Stop, Reset, Pin, progress, a live picture, code and files."""

from __future__ import annotations

import base64
import html
import threading
import traceback
from collections.abc import Iterator
from time import monotonic
from typing import Any

import ipywidgets as w
import pandas as pd

from workbench import runs
from workbench.experiment import Experiment, Record, get
from workbench.knobs import Config, KnobError
from workbench.plotting import encode
from workbench.ui.controls import Controls
from workbench.ui.live import LiveFigure

CUSTOM = "custom"


class Panel(w.VBox):
    """Turn the knobs of `experiment`, press Run, watch it, press Stop; pin a finished run to compare the next with.

    The panel starts nothing by itself, except an experiment marked instant, which is redrawn at each move of a
    slider. The run goes on in one daemon thread; buttons only set events, so a busy kernel cannot lose them.
    `records` of a finished run of `config` give the first picture. A run that is complete is read from disk.
    """

    def __init__(
        self, experiment: str | Experiment, config: Config | None = None, records: list[Record] | None = None
    ):
        self.experiment = get(experiment)
        self._first = config or self.experiment.config()
        self.controls = Controls(self._first, live=self.experiment.instant)
        self.records: list[Record] = list(records or [])
        self._shown_config, self.pinned, self.error = self._first, None, ""
        self._stop, self._lock, self._thread, self._wanted = threading.Event(), threading.Lock(), None, None
        self._build()
        self._live = LiveFigure(self._show, every=0.05 if self.experiment.instant else 0.25)
        super().__init__(
            [
                self.controls,
                self._bar,
                self._status,
                self.message,
                self.picture,
                self._tools,
                self.code,
                self.link,
            ]
        )
        for widget in self.controls.inputs.values():
            widget.observe(self._moved, "value")
        if self.records:
            self._draw(force=True)
        elif self.experiment.instant:
            self._draw_instant(self._first)

    def _build(self) -> None:
        def button(label: str, hint: str, icon: str, act: Any, style: str = "") -> w.Button:
            made = w.Button(
                description=label, tooltip=hint, icon=icon, button_style=style, layout=w.Layout(width="auto")
            )
            made.on_click(lambda _: act())
            return made

        instant = self.experiment.instant
        self.run_button = button("Run", "Run", "play", self.start, "primary")
        self.stop_button = button("Stop", "Stop", "stop", self.stop, "danger")
        self.reset_button = button("Reset", "Reset all knobs", "undo", self.reset)
        self.pin_button = button(
            "Pin", "Keep this run in the picture, to compare the next one with it", "thumb-tack", self.pin
        )
        self.code_button = button(
            "Copy as code", "Show the exact call that repeats this run", "code", self.show_code
        )
        self.save_button = button(
            "Save figure", "Save the picture beside the runs", "image", self.save_figure
        )
        self.csv_button = button(
            "Save records (CSV)", "Save the records beside the runs", "table", self.save_csv
        )
        self.format = w.Dropdown(
            options=["png", "svg", "pdf"], layout=w.Layout(width="5.5em"), tooltip="format of the figure"
        )
        scales = [s for s, preset in self.experiment.config.presets.items() if not isinstance(preset, str)]
        self.preset = w.Dropdown(
            options=[CUSTOM, *scales],
            description="preset",
            layout=w.Layout(width="13em"),
            tooltip="set all knobs for a scale",
        )
        self.preset.observe(self._choose_preset, "value")
        self.progress = w.FloatProgress(min=0, max=1, layout=w.Layout(width="16em"))
        self.left, self.message = w.Label(""), w.Label("ready")
        self.picture = w.Image(format="png", layout=w.Layout(max_width="100%", display="none"))
        self.code = w.Textarea(layout=w.Layout(width="48em", height="6em", display="none"), disabled=False)
        self.link = w.HTML("")
        running = [] if instant else [self.run_button, self.stop_button]
        pin = [self.pin_button] if self.experiment.pins else []
        preset = [self.preset] if scales else []
        wrapped = w.Layout(flex_flow="row wrap")
        self._bar = w.HBox([*running, self.reset_button, *pin, *preset], layout=wrapped)
        self._status = w.HBox([] if instant else [self.progress, self.left])
        self._tools = w.HBox(
            [self.code_button, self.save_button, self.format, self.csv_button],
            layout=w.Layout(flex_flow="row wrap"),
        )
        self._busy(False)

    def __repr__(self) -> str:
        return f"Panel({self.experiment.name})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and its picture for readers without a kernel (web pages, PDF)."""
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        if len(self.picture.value):
            bundle["image/png"] = base64.b64encode(bytes(self.picture.value)).decode()
        return {**bundle, "text/plain": repr(self)}

    # -- what the buttons do -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run with the knobs as they stand; does nothing while a run is going on."""
        config = self._config()
        with self._lock:
            if config is None or (self._thread is not None and self._thread.is_alive()):
                return
            self._stop.clear()
            self._busy(True)
            self._thread = threading.Thread(
                target=self._main, args=(config,), name="workbench-panel", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the run after the step it is at."""
        self._stop.set()
        self.message.value = "stopping after this step"

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended (for scripts and tests)."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def reset(self) -> None:
        """All knobs as they were at first."""
        self.controls.set(self._first)

    def pin(self) -> None:
        """Keep the records shown, to compare; pressed again, let them go."""
        if self.pinned is None and self.records:
            self.pinned = (self._shown_config, self.records)
        else:
            self.pinned = None
        self.pin_button.description = "Unpin" if self.pinned else "Pin"
        if self.records:
            self._draw(force=True)

    def show_code(self) -> None:
        """Show the call that repeats the run of the knobs as they stand."""
        config = self._config()
        if config is not None:
            knobs = "".join(f", {name}={value!r}" for name, value in config.changed().items())
            self.code.value = (
                f"from workbench import runs\n\nrecords = runs.run({self.experiment.name!r}{knobs})"
            )
            self.code.layout.display = ""

    def save_figure(self) -> None:
        """Save the figure shown beside the runs, and offer it for download."""
        if self._live.figure is not None:
            kind = self.format.value
            self._save(
                encode(self._live.figure, kind),
                kind,
                {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}[kind],
            )

    def save_csv(self) -> None:
        """Save the records shown beside the runs, and offer them for download."""
        if self.records:
            self._save(
                pd.DataFrame.from_records(self.records).to_csv(index=False).encode(), "csv", "text/csv"
            )

    # -- the run -------------------------------------------------------------------------------------------------

    def _main(self, config: Config) -> None:
        try:
            self._pull(config)
        except Exception as error:  # whatever an experiment raises becomes one clear line
            self._tell(error)
        finally:
            self._busy(False)

    def _pull(self, config: Config) -> None:
        self.message.value = "running: " + (_changes(config, self._first) or "first knobs")
        start, total = monotonic(), self.experiment.steps(config) if self.experiment.steps else 0
        self.records, self._shown_config, stopped = [], config, False
        self.progress.value = 0
        stream: Iterator[Record] = runs.stream(self.experiment, config, stopped=self._stop.is_set)
        try:
            for record in stream:
                self.records.append(record)
                self._draw()
                self._count(len(self.records), total, monotonic() - start)
                stopped = self._stop.is_set()
                if stopped:
                    break
        except runs.Stopped:
            stopped = True
        finally:
            stream.close()
        self._draw(force=True)
        spent = f"{monotonic() - start:.1f} s"
        of = f" of {total}" if total else ""
        self.left.value = ""
        if stopped:
            self.message.value = (
                f"stopped after {len(self.records)}{of} records, {spent}; Run goes on from what is kept"
            )
        else:
            self.progress.value = 1
            self.message.value = (
                f"done: {len(self.records)} records, {spent}; run {runs.run_id(self.experiment, config)}"
            )

    def _count(self, done: int, total: int, spent: float) -> None:
        if total:
            self.progress.value = min(done / total, 1)
            self.left.value = f"{done} of {total}, about {spent / done * max(total - done, 0):.0f} s left"
        else:
            self.left.value = f"{done} records"

    def _moved(self, change: Any) -> None:
        if self.experiment.instant:
            config = self._config()
            if config is not None:
                self._want(config)

    def _want(self, config: Config) -> None:
        """Draw the newest config in a thread; moves that arrive meanwhile are skipped but for the last."""
        with self._lock:
            self._wanted = config
            if self._thread is None:
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
        try:
            self.records, self._shown_config = runs.preview(self.experiment, config), config
            self._draw(force=True)
            self.message.value = _changes(config, self._first) or "ready"
        except Exception as error:
            self._tell(error)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _config(self) -> Config | None:
        try:
            config = self.controls.config
        except ValueError as error:
            self._tell(error)
            return None
        self.error = ""
        return config

    def _tell(self, error: Exception) -> None:
        """One line in the panel; the whole traceback stays in `self.error`."""
        self.error = traceback.format_exc()
        kind = "" if isinstance(error, (KnobError, ValueError, RuntimeError)) else f"{type(error).__name__}: "
        lines = str(error).strip().splitlines() or [type(error).__name__]
        running = not self.stop_button.disabled
        begun = f"failed after {len(self.records)} records: " if running and self.records else "not run: "
        self.message.value, self.left.value = begun + kind + " | ".join(lines), ""

    def _draw(self, force: bool = False) -> None:
        pinned = None
        if self.pinned is not None and self.pinned[1] is not self.records:
            config, records = self.pinned
            pinned = (_changes(config, self._shown_config) or "pinned", records)
        with_pinned = {"pinned": pinned} if self.experiment.pins else {}
        self._live.update(lambda: self.experiment.figure(self.records, **with_pinned), force)

    def _show(self, png: bytes) -> None:
        self.picture.value = png
        self.picture.layout.display = ""

    def _choose_preset(self, change: Any) -> None:
        if change["new"] != CUSTOM:
            self.controls.set(self.experiment.config.at(change["new"]))
            self.preset.value = CUSTOM  # so that it can be chosen again

    def _busy(self, yes: bool) -> None:
        self.run_button.disabled, self.stop_button.disabled = yes, not yes

    def _save(self, data: bytes, kind: str, mime: str) -> None:
        name = f"{runs.run_id(self.experiment, self._shown_config)}.{kind}"
        path = runs.runs_folder() / "exports" / name
        try:
            runs.write_atomic(path, data)
            self.message.value = f"saved {path.parent.name}/{name} in the runs folder"
        except OSError as error:
            self.message.value = (
                f"cannot write {path} ({error.strerror}); the download link below still has it"
            )
        link = f"data:{mime};base64,{base64.b64encode(data).decode()}"
        self.link.value = f'<a download="{html.escape(name)}" href="{link}">download {html.escape(name)}</a>'


def _changes(config: Config, other: Config) -> str:
    """The knobs in which `config` differs from `other`, as text."""
    changed = {n: v for n, v in config.model_dump().items() if v != getattr(other, n)}
    return ", ".join(f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in changed.items())
