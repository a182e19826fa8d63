"""Widgets from a config: one input a knob, with its range, unit, help and choices."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import ceil, floor, log2, log10
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import ipywidgets as w

from workbench import runs
from workbench.knobs import Config, Knob, KnobError

WIDEST_SLIDER = 100_000  # a wider range of whole numbers becomes a box
ROWS, COLUMNS = 7, 3  # of knobs: more rows only where three columns do not hold them
SMALLEST_LOG = 1e-6  # a log slider cannot show 0


def input_for(name: str, hint: Any, config: Config, shown: Knob, live: bool = False) -> w.ValueWidget:
    """The input that fits a knob, showing its value in `config`."""
    value = getattr(config, name)
    shown = replace(shown, high=shown.top(config))
    label = f"{name} ({shown.unit})" if shown.unit and shown.unit != name else name
    common = {
        "description": label,
        "tooltip": shown.help or shown.label,
        "style": {"description_width": "9.5em"},
        "layout": w.Layout(width="22em"),
    }
    if shown.file:
        return w.Text(
            value=value, placeholder=f"a {shown.file} file, or upload one", continuous_update=False, **common
        )
    options = list(get_args(hint)) if get_origin(hint) is Literal else list(shown.choices)
    if get_origin(hint) is Literal and all(type(o) is int for o in options):
        return w.SelectionSlider(options=options, value=value, continuous_update=live, **common)
    if shown.free or any(isinstance(v, tuple) for v in (value, *options)):
        return w.Combobox(
            value=text_of(value), options=[text_of(o) for o in options], ensure_option=False, **common
        )
    if options:
        return w.Dropdown(options=_named([*options, value]), value=value, **common)
    if hint is bool:
        return w.Checkbox(value=value, **{**common, "indent": True})
    if hint in (int, float) and shown.low is not None and shown.high is not None:
        return _slider(hint, value, shown, {**common, "continuous_update": live})
    return w.Text(value=text_of(value), continuous_update=False, **common)


def text_of(value: Any) -> str:
    """A value as one types it: tuples as numbers separated by commas."""
    if isinstance(value, tuple):
        return ", ".join(str(v) for v in value)
    return "none" if value is None else str(value)


def _named(values: list[Any]) -> list[tuple[str, Any]]:
    return [("none" if v is None else str(v), v) for v in dict.fromkeys(values)]


def _slider(hint: type, value: Any, shown: Knob, common: dict[str, Any]) -> w.ValueWidget:
    if shown.log:
        return w.SelectionSlider(options=_round_numbers(hint, shown, value), value=value, **common)
    if hint is int and shown.high - shown.low > WIDEST_SLIDER:
        return w.BoundedIntText(value=value, min=int(shown.low), max=int(shown.high), **common)
    if hint is int:
        return w.IntSlider(
            value=value, min=int(shown.low), max=int(shown.high), step=int(shown.step or 1), **common
        )
    step = shown.step or (shown.high - shown.low) / 100
    return w.FloatSlider(value=value, min=shown.low, max=shown.high, step=step, **common)


def _round_numbers(hint: type, shown: Knob, value: float) -> list[tuple[str, float]]:
    """Both ends, `value`, and between them 1, 2, 3, 4, 6, 8, 12 ... (whole numbers) or 1, 1.5, 2, 3, 5, 7 in each decade.

    ipywidgets' own log slider would do, but a browser moves its value to the nearest mark as soon as it is shown:
    0.02 becomes 0.0199526, which is another run.
    """
    least = shown.low if shown.low > 0 else SMALLEST_LOG
    if hint is int:
        marks = [digits * 2**k for k in range(ceil(log2(shown.high))) for digits in (1, 3)]
    else:
        decades = range(floor(log10(least)), ceil(log10(shown.high)))
        marks = [float(f"{digits}e{decade}") for decade in decades for digits in (1, 1.5, 2, 3, 5, 7)]
    within = {mark for mark in marks if least < mark < shown.high}
    return [(f"{v:g}", v) for v in sorted({*within, hint(shown.low), hint(shown.high), value})]


def upload_for(text: w.Text, shown: Knob) -> w.FileUpload:
    """A button that keeps an uploaded file among the runs and writes its path into `text`."""
    button = w.FileUpload(
        accept=shown.file,
        description="upload",
        tooltip=f"upload: {shown.help}",
        layout=w.Layout(width="auto"),
    )

    def keep(change: dict[str, Any]) -> None:
        for file in change["new"]:
            data = bytes(file["content"])
            name = f"{Path(file['name']).stem}-{hashlib.sha256(data).hexdigest()[:8]}{shown.file}"
            path = runs.runs_folder() / "uploads" / name
            runs.write_atomic(path, data)
            text.value = str(path)

    button.observe(keep, "value")
    return button


class Controls(w.VBox):
    """Inputs for every knob, a tab a group where there are several; `config` reads them back, validated."""

    def __init__(self, config: Config, live: bool = False):
        self.kind = type(config)
        hints = get_type_hints(self.kind)
        self.inputs = {
            name: input_for(name, hints[name], config, shown, live)
            for name, shown in self.kind.knobs().items()
        }
        groups = {title: self._columns(names) for title, names in self.kind.groups().items()}
        if len(groups) > 1:
            super().__init__([w.Tab(list(groups.values()), titles=list(groups))])
        else:
            super().__init__(list(groups.values()))

    def _columns(self, names: list[str]) -> w.HBox:
        inputs: list[w.Widget] = []
        for name in names:
            inputs.append(self.inputs[name])
            if self.kind.knobs()[name].file:
                inputs.append(upload_for(self.inputs[name], self.kind.knobs()[name]))
        fewest = min(ROWS, len(inputs)) if len(self.kind.groups()) == 1 else 1
        rows = max(-(-len(inputs) // COLUMNS), fewest, 1)
        columns = [w.VBox(inputs[i : i + rows]) for i in range(0, len(inputs), rows)]
        return w.HBox(columns, layout=w.Layout(flex_flow="row wrap"))

    @property
    def config(self) -> Config:
        """The knobs as they stand; raises KnobError naming what is wrong."""
        return self.kind(**{name: self._value(name) for name in self.inputs})

    def _value(self, name: str) -> Any:
        value = self.inputs[name].value
        if isinstance(value, float):
            # a browser's slider says 0.29999999999999993 for 0.3, which would be another run
            return float(f"{value:.10g}")
        hint = get_type_hints(self.kind)[name]
        if not isinstance(value, str) or get_origin(hint) is Literal:
            return value
        return self.kind.read(name, value)

    def set(self, config: Config) -> None:
        """Show another config."""
        for name, widget in self.inputs.items():
            value = getattr(config, name)
            if isinstance(widget, w.Dropdown):
                widget.options = _named([v for _, v in widget.options] + [value])
            elif isinstance(widget, w.SelectionSlider) and self.kind.knobs()[name].log:
                widget.options = _round_numbers(type(value), self.kind.knobs()[name], value)
            try:
                widget.value = text_of(value) if isinstance(widget, (w.Text, w.Combobox)) else value
            except Exception as error:
                raise KnobError(f"{name}={value!r} cannot be shown: {error}") from None
