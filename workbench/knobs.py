"""What a knob and a config are: type, range, label, help, when it matters; nothing else, so that an algorithm can use it.

The panel, the papermill parameters, the command line, the sweep and the identity of a run are all derived from these.
"""

from __future__ import annotations

import difflib
import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from functools import cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SCALES = ("smoke", "laptop", "paper")
Bound = float | Callable[[Any], float | None] | None  # a number, or of the whole config: a model of 30 blocks has 0 to 29


class KnobError(ValueError):
    """A knob that does not exist or whose value is refused; the message is one line a knob.

    `knobs`: what is said of each knob, by its name; "" for what concerns several.
    """

    def __init__(self, message: str, knobs: Mapping[str, str] = {}):
        super().__init__(message)
        self.knobs = dict(knobs)


@dataclass(frozen=True)
class Knob:
    """How a field of a config is shown, and which values it takes; see `knob`."""

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

    def top(self, config: Any) -> float | None:
        """The highest value beside the other knobs of `config`; None where there is no end, or none that is known."""
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
) -> Any:
    """Declare a knob: a pydantic field with a label in the field's words (under twenty characters) and a sentence of help.

    `low` and `high` bound a number, or each number of a tuple; a `high` that depends on other knobs is a function of the
    config. `log`: the panel's slider is logarithmic. `choices` are offered in the panel, other valid values stay possible;
    with `free` it takes any text. `file`: the value is a path, of this suffix. `essential` knobs (at most eight a
    config) are shown first. ``when=(condition, reason)``: the knob matters only where ``condition(config)`` is true; else
    the panel disables it, and the command line warns, with the reason.
    """
    shown = Knob(label, help, low, high, step, log, unit, tuple(choices), free, file, essential, when)
    tuples = any(isinstance(value, tuple) for value in (default, *choices))
    span = {} if tuples or callable(high) else {"ge": low, "le": high}
    return Field(default, description=help or label, json_schema_extra={"knob": shown}, **span)  # type: ignore[arg-type]


def vary(declared: Any, default: Any = None, **changes: Any) -> Any:
    """Return a copy of a declared knob with another default (None keeps it) and other fields of `Knob`, given by name."""
    shown = replace(declared.json_schema_extra["knob"], **changes)
    fields = {field.name: getattr(shown, field.name) for field in fields_of(shown)}
    return knob(declared.default if default is None else default, fields.pop("label"), fields.pop("help"), **fields)


class Config(BaseModel):
    """The knobs of an experiment: frozen, validated, hashable.

    Subclasses list `presets`: a dict of knobs by scale (``smoke``, ``laptop``, ``paper``). A scale that does not
    exist is a string that says why. `swept` knobs are the experiment's own to set: not shown, and refused. `title`
    names the group in which a class's own knobs are shown, where there are several.
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
        """Refuse swept knobs, and truth values for numbers; a text or a number becomes a tuple where one is wanted."""
        if not isinstance(knobs, dict):
            return knobs
        found, hints = dict(knobs), _hints(cls)
        for name in cls.swept:
            if name in knobs and knobs[name] != cls.model_fields[name].default:
                raise ValueError(f"{name}={knobs[name]}: this experiment goes through several {name} by itself; leave it out")
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
        """The ranges that pydantic does not check: of a tuple's numbers, and those that depend on other knobs."""
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
        """The preset `scale` (None: the defaults), with `knobs` on top."""
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
        """Knobs from ``name=value`` strings (the command line's ``--set``)."""
        knobs: dict[str, Any] = {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise KnobError(f"{pair!r} is not a setting; expected knob=value, as in --set {name}=1")
            knobs[name.strip()] = cls.read(name.strip(), text.strip())
        return knobs

    @classmethod
    def read(cls, name: str, text: str) -> Any:
        """The value of the knob `name` from text: a tuple from commas, else JSON, or the text itself."""
        hint = _hints(cls).get(name)
        if hint is str or any(get_origin(part) is Literal and text in get_args(part) for part in _parts(hint)):
            return text  # "none" too, where that is one of the words
        value = parse_value(text)
        if _tuple_of(hint) and value is not None and not isinstance(value, list):
            return tuple(parse_value(part.strip()) for part in text.strip("()[] ").split(",") if part.strip())
        return value

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """The declared knobs by name."""
        return {
            name: field.json_schema_extra["knob"]  # type: ignore[misc]
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and name not in cls.swept
        }

    @classmethod
    def groups(cls) -> dict[str, list[str]]:
        """The knobs' names by title of the class that first declares them; a title of the experiment's own comes first."""
        found: dict[str, list[str]] = {cls.title: []} if "title" in vars(cls) else {}
        for name in cls.knobs():
            home = next(c for c in reversed(cls.__mro__) if name in inspect.get_annotations(c))
            found.setdefault(home.title, []).append(name)
        return found

    def idle(self) -> dict[str, str]:
        """The knobs that change nothing beside the others as they stand, with the reason."""
        found = {}
        for name, shown in type(self).knobs().items():
            if shown.when is not None:
                seen = _Seen(self, set())
                if not shown.when[0](seen) and not seen.names & {*type(self).swept}:
                    found[name] = shown.when[1]
        return found

    def replace(self, **knobs: Any) -> Self:
        """A copy with other knobs, validated."""
        return type(self)(**{**self.model_dump(), **knobs})

    def changed(self) -> dict[str, Any]:
        """The knobs that differ from their defaults."""
        fields = type(self).model_fields
        return {n: v for n, v in self.model_dump().items() if v != fields[n].get_default()}

    def of(self, kind: type[Config], **changes: Any) -> Any:
        """The knobs that the smaller config `kind` has too, as one of its kind, with `changes`."""
        return kind(**{name: getattr(self, name) for name in kind.model_fields if hasattr(self, name)} | changes)


class _Seen:
    """A config that remembers which knobs were asked for: what a swept one decides is open."""

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
    """A knob's value from text: JSON, with Python's True, False and None understood, or else the text itself."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def text_of(value: Any) -> str:
    """A value as one types it: tuples as numbers separated by commas; what `Config.read` reads back."""
    if isinstance(value, tuple):
        return ", ".join(text_of(v) for v in value)
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


@cache
def _hints(config: type[Config]) -> dict[str, Any]:
    return get_type_hints(config)


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _tuple_of(hint: Any) -> tuple[Any, ...] | None:
    """What a tuple holds: its arguments, among them an ellipsis; None where the hint is no tuple."""
    return next((get_args(part) for part in _parts(hint) if get_origin(part) is tuple), None)


def _plain_types(hint: Any) -> set[Any]:
    found: set[Any] = set()
    for part in _parts(hint):
        found |= {type(v) for v in get_args(part)} if get_origin(part) is Literal else {part}
    return found


def expected(config: type[Config], name: str, top: float | None = None) -> str:
    """What a knob takes, in words; `top` is its highest value where that depends on other knobs."""
    hint, shown = _hints(config)[name], config.knobs().get(name)
    words = []
    for part in _parts(hint):
        if get_origin(part) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(part))))
        elif part is type(None):
            words.append("none")
        elif get_origin(part) is tuple:
            several = len(get_args(part)) if ... not in get_args(part) else ""
            kind = "texts" if get_args(part)[0] is str else "whole numbers" if get_args(part)[0] is int else "numbers"
            words.append(f"{several} {kind}{_span(shown, top)}, separated by commas".strip())
        else:
            names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
            words.append(names.get(part, str(part)) + (_span(shown, top) if part in (int, float) else ""))
    return " or ".join(words) + (f" ({shown.label})" if shown else "")


def _span(shown: Knob | None, top: float | None = None) -> str:
    if shown is None or shown.low is None:
        return ""
    high = shown.high if not callable(shown.high) else top
    span = f" of at least {shown.low:g}" if high is None else f" from {shown.low:g} to {high:g}"
    return f"{span} {shown.unit}".rstrip()


def _explain(error: ValidationError, config: type[Config]) -> dict[str, str]:
    """One line for each knob that is wrong: its name, its value, what was expected, what to do."""
    lines: dict[str, str] = {}
    for wrong in error.errors():
        name = str(wrong["loc"][0]) if wrong["loc"] else ""
        if name in config.model_fields:
            lines[name] = f"{name}={wrong['input']!r}: expected {expected(config, name)}"
        elif name:
            near = difflib.get_close_matches(name, config.model_fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"knobs: {', '.join(config.model_fields)}"
            lines[name] = f"{name!r} is not a knob of {config.__name__}; {hint}"
        else:  # raised by a check of the whole: it begins with the knob that it refuses
            text = wrong["msg"].removeprefix("Value error, ")
            begins = text.partition("=")[0]
            lines[begins if begins in config.model_fields else ""] = text
    return lines
