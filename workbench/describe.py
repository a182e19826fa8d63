"""Describe an experiment in a text that lists its knobs, its presets, and the computing time of each preset."""

from __future__ import annotations

from collections.abc import Iterator

from workbench import runs
from workbench.experiment import Experiment
from workbench.knobs import SCALES, Config, expected
from workbench.papers import reference_about
from workbench.records import About, read_about


def lines(experiment: Experiment) -> Iterator[str]:
    """Yield the lines of the description: the name and the summary, the knobs, and the presets."""
    yield f"{experiment.name}, version {experiment.version}: {experiment.summary}"
    if experiment.paper:
        yield f"paper: {experiment.paper}"
    yield from knobs(experiment.config)
    for scale in SCALES:
        preset = experiment.config.presets.get(scale, "none")
        if not isinstance(preset, str):
            settings = ", ".join(f"{name}={value!r}" for name, value in preset.items())
            preset = f"{settings or 'the defaults'}; {time_of(experiment, scale)}"
        yield f"-- {scale}: {preset}"


def knobs(config: type[Config]) -> Iterator[str]:
    """For each knob, yield a line with its name, label, range and default, followed by its help.

    If the knob has no effect in some configs, another line gives the reason.
    """
    for title, names in config.groups().items():
        yield f"-- {title or 'knobs'}"
        for name in names:
            shown, default = config.knobs()[name], config.model_fields[name].default
            top = shown.top(config()) if callable(shown.high) else None
            takes = expected(config, name, top).rpartition(" (")[0]
            star = "* " if shown.essential else "  "
            yield f"{star}{name:18} {shown.label:20} {takes}; default {default!r}"
            notes = [shown.help, f"(no effect in some configs: {shown.when[1]})" if shown.when else ""]
            yield from (f"{'':22}{line}" for note in notes for line in note.splitlines())


def time_of(experiment: Experiment, scale: str) -> str:
    """Return a text about the computing time of a preset.

    The time is that of the saved run. If there is none, it is that of the reference run, which exists only for the scale laptop.
    """
    try:
        config = experiment.config.at(scale)
        about = read_about(runs.runs_folder() / runs.run_id(experiment, config))
    except (OSError, ValueError, RuntimeError):
        reference = reference_about(experiment.name) if scale == "laptop" else {}
        about = About(**reference) if reference else None
    if experiment.instant:
        return "instant: computed again at each change of a knob"
    if about is None:
        return "time unknown, since no run is saved"
    return f"{_duration(about.spent)} of computation on {about.machine} ({about.finished[:10]})"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
