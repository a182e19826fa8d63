"""Knobs and configs. A knob is a parameter of an experiment, with a type, a range, a label and a help text.

A config holds the values of all knobs of an experiment. The panel, the papermill parameters, the options of the command line,
the sweeps and the run ids are all derived from configs. This module imports no other module of Workbench, so an algorithm can
use it alone.
"""

from __future__ import annotations

import difflib
import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from functools import cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SCALES = ("smoke", "laptop", "paper")
Bound = float | Callable[[Any], float | None] | None  # a bound that depends on other knobs is a function of the config


class KnobError(ValueError):
    """The error for a knob that does not exist or a value that is not allowed. The message has one line for each wrong knob.

    `knobs` maps each wrong knob to its line of the message. A line that concerns several knobs has the key "".
    """

    def __init__(self, message: str, knobs: Mapping[str, str] = {}):
        super().__init__(message)
        self.knobs = dict(knobs)


@dataclass(frozen=True)
class Knob:
    """The label, the help text, the range and the display options of one field of a config; `knob` explains the attributes."""

    label: str
    help: str = ""
    low: float | None = None
    high: Bound = None
    step: float | None = None
    log: bool = False
    unit: str = ""
    choices: tuple[Any, ...] = ()
    free: bool = False
    file: str = ""
    essential: bool = False
    when: tuple[Callable[[Any], bool], str] | None = None
    names: Mapping[Any, str] = field(default_factory=dict)

    def top(self, config: Any) -> float | None:
        """Return the highest value that is allowed with the other knobs of `config`, or None if there is no known limit."""
        return self.high(config) if callable(self.high) else self.high


def knob(
    default: Any,
    label: str,
    help: str = "",
    *,
    low: float | None = None,
    high: Bound = None,
    step: float | None = None,
    log: bool = False,
    unit: str = "",
    choices: Sequence[Any] = (),
    free: bool = False,
    file: str = "",
    essential: bool = False,
    when: tuple[Callable[[Any], bool], str] | None = None,
    names: Mapping[Any, str] = {},
) -> Any:
    """Declare a knob: a pydantic field with a default, a label of at most about 20 characters, and a help text.

    `low` and `high` are the bounds of a number, or of each number of a tuple. `high` is a function of the config if the bound
    depends on other knobs. `step` is the step of the slider in the panel. If `log` is true, the slider is logarithmic.
    `unit` is the unit of the number, as text. `choices` are the values that the panel offers; if `free` is true, any other text
    is accepted too. If the value is a path, `file` is the suffix of the file. If `essential` is true (for at most eight knobs
    per config), the panel shows the knob first. ``when=(condition, reason)`` declares that the knob has an effect only if
    ``condition(config)`` is true. If the condition is false, the panel disables the knob, and the command line prints a warning
    with the reason. `names` maps values to texts that the panel shows in their place.
    """
    shown = Knob(label, help, low, high, step, log, unit, tuple(choices), free, file, essential, when, names)
    tuples = any(isinstance(value, tuple) for value in (default, *choices))
    span = {} if tuples or callable(high) else {"ge": low, "le": high}
    return Field(default, description=help or label, json_schema_extra={"knob": shown}, **span)  # type: ignore[arg-type]


def vary(declared: Any, default: Any = None, **changes: Any) -> Any:
    """Return a copy of a declared knob with another default (None keeps the old one) and with `changes` of its `Knob` fields."""
    shown = replace(declared.json_schema_extra["knob"], **changes)
    fields = {field.name: getattr(shown, field.name) for field in fields_of(shown)}
    return knob(declared.default if default is None else default, fields.pop("label"), fields.pop("help"), **fields)


class Config(BaseModel):
    """The values of an experiment's knobs. A config is immutable, validated and hashable.

    A subclass defines `presets`, which maps each scale (``smoke``, ``laptop``, ``paper``) to a dict of knobs, or to a string
    with the reason why the scale does not exist. `swept` names the knobs that the experiment itself sets to several values.
    These knobs are not shown and cannot be changed. `title` is the heading of the group of knobs that the class declares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants")
    presets: ClassVar[Mapping[str, Mapping[str, Any] | str]] = {}
    swept: ClassVar[Sequence[str]] = ()
    title: ClassVar[str] = ""

    def __init__(self, **knobs: Any):
        try:
            super().__init__(**knobs)
        except ValidationError as error:
            found = _explain(error, type(self))
            raise KnobError("\n".join(found.values()), found) from None

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, knobs: Any) -> Any:
        """Reject new values of swept knobs, and bools for numbers. If a knob holds a tuple, convert text or a single number."""
        if not isinstance(knobs, dict):
            return knobs
        found, hints = dict(knobs), _hints(cls)
        for name in cls.swept:
            if name in knobs and knobs[name] != cls.model_fields[name].default:
                raise ValueError(f"{name}={knobs[name]}: the experiment itself sets {name} to several values; do not set it")
        for name, value in knobs.items():
            if name not in cls.model_fields:
                continue
            if isinstance(value, bool) and bool not in _plain_types(hints[name]):
                raise ValueError(f"{name}={value}: expected {expected(cls, name)}")
            if _tuple_of(hints[name]) and isinstance(value, (str, int, float)):
                found[name] = cls.read(name, str(value))
        return found

    @model_validator(mode="after")
    def _within_ranges(self) -> Config:
        """Check the ranges that pydantic cannot check: those of numbers in tuples, and those that depend on other knobs."""
        for name, shown in type(self).knobs().items():
            value = getattr(self, name)
            if not isinstance(value, tuple) and not callable(shown.high):
                continue
            top = shown.top(self)
            for each in value if isinstance(value, tuple) else (value,):
                low_enough = top is None or each is None or each <= top
                if not (low_enough and (shown.low is None or each is None or each >= shown.low)):
                    wanted = expected(type(self), name, top)
                    raise ValueError(f"{name}={value!r}: expected {wanted}")
        return self

    @classmethod
    def at(cls, scale: str | None, /, **knobs: Any) -> Self:
        """Return the config of the preset `scale` (None: the defaults), changed by `knobs`. Raises KnobError if it is wrong."""
        if scale is None:
            return cls(**knobs)
        preset = cls.presets.get(scale)
        if preset is None or isinstance(preset, str):
            offered = [s for s, p in cls.presets.items() if not isinstance(p, str)]
            why = f": {preset}" if preset else ""
            raise KnobError(f"{cls.__name__} has no scale {scale!r}{why}; scales: {', '.join(offered)}")
        return cls(**{**preset, **knobs})

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> dict[str, Any]:
        """Parse strings ``name=value``, as given to ``--set`` on the command line, into a dict of knobs."""
        knobs: dict[str, Any] = {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise KnobError(f"{pair!r} does not set a knob; expected knob=value, as in --set {name}=1")
            knobs[name.strip()] = cls.read(name.strip(), text.strip())
        return knobs

    @classmethod
    def read(cls, name: str, text: str) -> Any:
        """Parse `text` as a value of the knob `name`, as `parse_value` does. The values of a tuple are separated by commas."""
        hint = _hints(cls).get(name)
        if hint is str or any(get_origin(part) is Literal and text in get_args(part) for part in _parts(hint)):
            return text  # parse_value would turn a choice named "none" into None
        value = parse_value(text)
        if _tuple_of(hint) and value is not None and not isinstance(value, list):
            return tuple(parse_value(part.strip()) for part in text.strip("()[] ").split(",") if part.strip())
        return value

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """Return the declared knobs by name, except the swept ones."""
        return {
            name: field.json_schema_extra["knob"]  # type: ignore[misc]
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and name not in cls.swept
        }

    @classmethod
    def groups(cls) -> dict[str, list[str]]:
        """Return a dict from the `title` of each class that declares knobs to the names of these knobs, with this class first."""
        found: dict[str, list[str]] = {cls.title: []} if "title" in vars(cls) else {}
        for name in cls.knobs():
            home = next(c for c in reversed(cls.__mro__) if name in inspect.get_annotations(c))
            found.setdefault(home.title, []).append(name)
        return found

    def idle(self) -> dict[str, str]:
        """Return the knobs that have no effect with the current values of the other knobs, and the reason for each."""
        found = {}
        for name, shown in type(self).knobs().items():
            if shown.when is not None:
                seen = _Seen(self, set())
                if not shown.when[0](seen) and not seen.names & {*type(self).swept}:
                    found[name] = shown.when[1]
        return found

    def replace(self, **knobs: Any) -> Self:
        """Return a validated copy of the config in which `knobs` have new values."""
        return type(self)(**{**self.model_dump(), **knobs})

    def changed(self) -> dict[str, Any]:
        """Return the knobs that differ from their defaults, with their values."""
        fields = type(self).model_fields
        return {n: v for n, v in self.model_dump().items() if v != fields[n].get_default()}

    def of(self, kind: type[Config], **changes: Any) -> Any:
        """Return a config of the class `kind`. Knobs that both classes have keep their values, except for the `changes`."""
        return kind(**{name: getattr(self, name) for name in kind.model_fields if hasattr(self, name)} | changes)


class _Seen:
    """A view of a config that records which knobs a condition reads, so that `idle` can ignore conditions on swept knobs."""

    def __init__(self, config: Config, names: set[str]):
        self.config, self.names = config, names

    def __getattr__(self, name: str) -> Any:
        made = getattr(type(self.config), name, None)
        if isinstance(made, property):
            return made.fget(self)  # type: ignore[misc]
        if inspect.isfunction(made):
            return types.MethodType(made, self)
        self.names.add(name)
        return getattr(self.config, name)


def parse_value(text: str) -> Any:
    """Parse text that is JSON, or True, False or None in upper or lower case. Other text is returned unchanged."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def text_of(value: Any) -> str:
    """Return a value as a user would type it, with commas between the values of a tuple. `Config.read` parses this text."""
    if isinstance(value, tuple):
        return ", ".join(text_of(v) for v in value)
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


@cache
def _hints(config: type[Config]) -> dict[str, Any]:
    return get_type_hints(config)


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _tuple_of(hint: Any) -> tuple[Any, ...] | None:
    """Return the type arguments of the tuple in a type hint, including an ellipsis, or None if the hint has no tuple."""
    return next((get_args(part) for part in _parts(hint) if get_origin(part) is tuple), None)


def _plain_types(hint: Any) -> set[Any]:
    found: set[Any] = set()
    for part in _parts(hint):
        found |= {type(v) for v in get_args(part)} if get_origin(part) is Literal else {part}
    return found


def expected(config: type[Config], name: str, top: float | None = None) -> str:
    """Describe the values that a knob accepts. `top` is the highest value if this limit depends on other knobs."""
    hint, shown = _hints(config)[name], config.knobs().get(name)
    words = []
    for part in _parts(hint):
        if get_origin(part) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(part))))
        elif part is type(None):
            words.append("none")
        elif get_origin(part) is tuple:
            several = len(get_args(part)) if ... not in get_args(part) else ""
            kind = "strings" if get_args(part)[0] is str else "whole numbers" if get_args(part)[0] is int else "numbers"
            words.append(f"{several} {kind}{_span(shown, top)}, separated by commas".strip())
        else:
            names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
            words.append(names.get(part, str(part)) + (_span(shown, top) if part in (int, float) else ""))
    return " or ".join(words) + (f" ({shown.label})" if shown else "")


def _span(shown: Knob | None, top: float | None = None) -> str:
    if shown is None or shown.low is None:
        return ""
    high = shown.high if not callable(shown.high) else top
    span = f" of at least {shown.low:g}" if high is None else f" from {shown.low:g} to {high:g}"
    return f"{span} {shown.unit}".rstrip()


def _explain(error: ValidationError, config: type[Config]) -> dict[str, str]:
    """Return a dict that maps each wrong knob to a line with its name, its value, and the expected values or a suggestion."""
    lines: dict[str, str] = {}
    for wrong in error.errors():
        name = str(wrong["loc"][0]) if wrong["loc"] else ""
        if name in config.model_fields:
            lines[name] = f"{name}={wrong['input']!r}: expected {expected(config, name)}"
        elif name:
            near = difflib.get_close_matches(name, config.model_fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"knobs: {', '.join(config.model_fields)}"
            lines[name] = f"{name!r} is not a knob of {config.__name__}; {hint}"
        else:  # raised by a validator of the whole config; its message begins with the name of the wrong knob
            text = wrong["msg"].removeprefix("Value error, ")
            begins = text.partition("=")[0]
            lines[begins if begins in config.model_fields else ""] = text
    return lines
