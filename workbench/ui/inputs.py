"""Describe the knobs of a config for the browser: the kind of input of each knob, its range and its texts."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, log2, log10
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from workbench.knobs import Config, Knob, text_of

WIDEST_SLIDER = 100_000  # whole numbers with a wider range are entered in a text box instead
SMALLEST_LOG = 1e-6  # the marks begin here if the range of a logarithmic slider begins at 0


def literals(hint: Any) -> list[Any]:
    """Return the values that a Literal, or a union of Literals, permits; return an empty list for other types."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not all(get_origin(part) is Literal for part in parts):
        return []
    return [value for part in parts for value in get_args(part)]


def inputs(config: Config) -> list[dict[str, Any]]:
    """Return a description of the input of each knob, in the order of the knobs, as data that JSON can represent."""
    kind, hints = type(config), get_type_hints(type(config))
    return [_input(name, hints[name], config, shown) for name, shown in kind.knobs().items()]


def groups(kind: type[Config]) -> list[list[Any]]:
    """Return the groups of knobs, each as its title, the names of its knobs, and True if the group is open at first.

    The first group is always open and has no title. It contains the knobs that `kind` itself declares, and those that are marked
    as essential. The other groups are closed. If the first group would be empty, it is left out and the other groups are open.
    """
    own = kind.groups()[kind.title] if "title" in vars(kind) else []
    first = [*own, *(name for name, knob in kind.knobs().items() if knob.essential and name not in own)]
    rest = {title: [name for name in names if name not in first] for title, names in kind.groups().items()}
    folded = [[title or "more", names, not first] for title, names in rest.items() if names]
    return [["", first, True], *folded] if first else folded


def folded(kind: type[Config]) -> dict[str, str]:
    """Return the knobs that are in a closed group when a panel opens, each with the title of its group."""
    return {name: title for title, names, is_open in groups(kind) if not is_open for name in names}


def set_in_groups(config: Config, changes: Mapping[str, Any]) -> str:
    """Return a text that lists the `changes` to knobs in closed groups. Values that equal those of `config` are left out."""
    asked, closed = config.replace(**changes), folded(type(config))
    return ", ".join(
        f"{knob.label} = {text_of(getattr(asked, name))} (in the group “{closed[name]}”)"
        for name, knob in type(asked).knobs().items()
        if name in closed and getattr(asked, name) != getattr(config, name)
    )


def plain(value: Any) -> Any:
    """Return a value as JSON represents it: a tuple becomes a list."""
    return list(value) if isinstance(value, tuple) else value


def _input(name: str, hint: Any, config: Config, shown: Knob) -> dict[str, Any]:
    value = getattr(config, name)
    common = {
        "name": name,
        "label": shown.label,
        "help": shown.help or shown.label,
        "unit": shown.unit,
        "file": shown.file,
        "options": [],
    }
    options = literals(hint) or list(shown.choices)
    free = shown.free or shown.file or any(isinstance(v, tuple) for v in (value, *options))
    if options and not free:
        return common | {"kind": "select", "options": [[shown.names.get(v, text_of(v)), v] for v in options]}
    if hint is bool:
        return common | {"kind": "check"}
    top = shown.top(config)
    if hint in (int, float) and shown.low is not None and top is not None and not free:
        if shown.log:
            return common | {"kind": "slider", "marks": _round_numbers(hint, shown.low, top)}
        if hint is float or top - shown.low <= WIDEST_SLIDER:
            step = shown.step or (1 if hint is int else (top - shown.low) / 100)
            return common | {"kind": "slider", "low": shown.low, "high": top, "step": step}
    return common | {"kind": "text", "options": [[text_of(v), text_of(v)] for v in options]}


def _round_numbers(hint: type, low: float, high: float) -> list[float]:
    """Return the marks of a logarithmic slider: both ends of the range, and round numbers between them.

    The round numbers are 1, 2, 3, 4, 6, 8, 12 ... for whole numbers, and 1, 1.5, 2, 3, 5, 7 times powers of ten for others.
    """
    least = low if low > 0 else SMALLEST_LOG
    if hint is int:
        marks = [digits * 2**k for k in range(ceil(log2(high))) for digits in (1, 3)]
    else:
        decades = range(floor(log10(least)), ceil(log10(high)))
        marks = [float(f"{digits}e{decade}") for decade in decades for digits in (1, 1.5, 2, 3, 5, 7)]
    return sorted({*(mark for mark in marks if least < mark < high), hint(low), hint(high)})


@dataclass
class Knobs:
    """The values of the knobs in a panel.

    `values` holds the values as they are shown, including refused ones, and `errors` the reason for each refused value. `config`
    is the last config that was accepted.
    """

    config: Config

    def __post_init__(self) -> None:
        self.show(self.config)

    def show(self, config: Config) -> None:
        """Set all knobs to the values of `config`, and clear the errors."""
        self.config, self.errors = config, {}
        self.values = {name: getattr(config, name) for name in type(config).knobs()}

    def set(self, changes: dict[str, Any]) -> None:
        """Set knobs. A refused value stays in `values`, with the reason in `errors`. Text is parsed as on the command line."""
        kind = type(self.config)
        for name, value in changes.items():
            if name not in self.values:
                continue
            if isinstance(value, str):
                value = kind.read(name, value)
            # a browser's slider can return 0.29999999999999993 for 0.3, which would start a different run
            self.values[name] = float(f"{value:.10g}") if isinstance(value, float) else value
        try:
            self.show(kind(**self.values))
        except ValueError as error:
            self.errors = getattr(error, "knobs", {}) or {"": str(error)}

    def to_choose(self) -> dict[str, str]:
        """Return the refused knobs for which no file is chosen yet, each with the text that says which file to choose."""
        files = {name for name, knob in type(self.config).knobs().items() if knob.file}
        return {n: line.partition(": ")[2] for n, line in self.errors.items() if n in files and self.values[n] == ""}

    def refusal(self) -> str:
        """Return a text that names the refused knobs by label and group, and gives the reason for the first one."""
        kind = type(self.config)
        labels, closed = {name: knob.label for name, knob in kind.knobs().items()}, folded(kind)
        named = [
            f"“{labels[name]}”" + (f" in the group “{closed[name]}”" if name in closed else "")
            for name in self.errors
            if name in labels
        ]
        return f"{', '.join(named)}: {next(iter(self.errors.values()))}" if named else self.errors[""]

    def idle(self) -> dict[str, str]:
        """Return the knobs that have no effect, each with the reason.

        If a value is refused, the values shown decide which knobs have an effect. If this fails, the last accepted ones decide.
        """
        if not self.errors:
            return self.config.idle()
        try:
            return type(self.config).model_construct(**self.values).idle()
        except Exception:  # the check of the values shown can fail if one of them is refused
            return self.config.idle()
