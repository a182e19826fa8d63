"""An experiment in words: its knobs, and how long its presets take."""

from __future__ import annotations

from collections.abc import Iterator

from workbench import runs
from workbench.experiment import Experiment
from workbench.knobs import SCALES, Config, expected
from workbench.papers import reference_about
from workbench.records import About, read_about


def lines(experiment: Experiment) -> Iterator[str]:
    """What it is, its knobs, its presets."""
    yield f"{experiment.name}, version {experiment.version}: {experiment.summary}"
    if experiment.paper:
        yield f"of the paper: {experiment.paper}"
    yield from knobs(experiment.config)
    for scale in SCALES:
        preset = experiment.config.presets.get(scale, "none")
        if not isinstance(preset, str):
            settings = ", ".join(f"{name}={value!r}" for name, value in preset.items())
            preset = f"{settings or 'the defaults'}; {time_of(experiment, scale)}"
        yield f"-- {scale}: {preset}"


def knobs(config: type[Config]) -> Iterator[str]:
    """A line a knob: name, label, what it takes, default; then its help and when it matters."""
    for title, names in config.groups().items():
        yield f"-- {title or 'knobs'}"
        for name in names:
            shown, default = config.knobs()[name], config.model_fields[name].default
            top = shown.top(config()) if callable(shown.high) else None
            takes = expected(config, name, top).rpartition(" (")[0]
            star = "* " if shown.essential else "  "
            yield f"{star}{name:18} {shown.label:20} {takes}; default {default!r}"
            notes = [shown.help, f"(not always: {shown.when[1]})" if shown.when else ""]
            yield from (f"{'':22}{note}" for note in notes if note)


def time_of(experiment: Experiment, scale: str) -> str:
    """How long a preset takes, in words: of the newest run that is kept, else of the reference."""
    try:
        config = experiment.config.at(scale)
        about = read_about(runs.runs_folder() / runs.run_id(experiment, config))
    except (OSError, ValueError, RuntimeError):
        reference = reference_about(experiment.name) if scale == "laptop" else {}
        about = About(**reference) if reference else None
    if experiment.instant:
        return "at once"
    if about is None:
        return "time not known: no run of it is kept"
    return f"{_duration(about.spent)} of work on {about.machine} ({about.finished[:10]})"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
