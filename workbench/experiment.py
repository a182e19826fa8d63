"""What an experiment is: a config, whose knobs are declared once, and a generator of records.

A `knob` carries type, default, range, unit and help; the panel, the papermill parameters, the command line,
the sweep and the identity of a run are all derived from it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Record = dict[str, Any]  # numbers, strings and small arrays
LARGEST_RECORD = 64 * 1024  # bytes of JSON
SCALES = ("smoke", "laptop", "paper")


class KnobError(ValueError):
    """A knob that does not exist or whose value is refused; the message is one line a knob."""


@dataclass(frozen=True)
class Knob:
    """How a field of a config is shown: label, range, unit."""

    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    unit: str = ""
    choices: tuple[Any, ...] = ()  # offered in the panel; other valid values stay possible in code
    free: bool = False  # the panel takes any text, the choices are suggestions
    file: str = ""  # the value is a path; the panel takes uploads with this suffix


def knob(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    log: bool = False,
    unit: str = "",
    choices: Sequence[Any] = (),
    free: bool = False,
    file: str = "",
) -> Any:
    """Declare a knob: a pydantic field with a range, a unit and one sentence of help."""
    shown = Knob(help, low, high, step, log, unit, tuple(choices), free, file)
    return Field(default, ge=low, le=high, description=help, json_schema_extra={"knob": shown.__dict__})


class Config(BaseModel):
    """The knobs of an experiment: frozen, validated, hashable.

    Subclasses list `presets`: a dict of knobs by scale (``smoke``, ``laptop``, ``paper``). A scale that does not
    exist is a string that says why. `swept` knobs are the experiment's own to set: not shown, and refused. `title`
    names the group in which a class's own knobs are shown, where there are several.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants"
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any] | str]] = {}
    swept: ClassVar[Sequence[str]] = ()  # inherited knobs that the experiment sets itself
    title: ClassVar[str] = ""

    def __init__(self, **knobs: Any):
        try:
            super().__init__(**knobs)
        except ValidationError as error:
            raise KnobError(_explain(error, type(self))) from None

    @model_validator(mode="before")
    @classmethod
    def _no_truth_values_as_numbers(cls, knobs: Any) -> Any:
        hints = get_type_hints(cls)
        for name in cls.swept:
            if name in knobs and knobs[name] != cls.model_fields[name].default:
                raise ValueError(
                    f"{name}={knobs[name]}: this experiment goes through several {name} by itself; leave it out"
                )
        for name, value in knobs.items() if isinstance(knobs, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and bool not in _plain_types(hints[name]):
                raise ValueError(f"{name}={value}: expected {_expected(cls, name)}")
        return knobs

    @classmethod
    def at(cls, scale: str | None, /, **knobs: Any) -> Config:
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
        """Knobs from ``name=value`` strings (the command line's ``--set``); values are read as JSON, or as text."""
        knobs: dict[str, Any] = {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise KnobError(f"{pair!r} is not a setting; expected knob=value, as in --set {name}=1")
            text, field = text.strip(), cls.model_fields.get(name.strip())
            knobs[name.strip()] = text if field is not None and field.annotation is str else parse_value(text)
        return knobs

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """The declared knobs by name."""
        return {
            name: Knob(**field.json_schema_extra["knob"])
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

    def replace(self, **knobs: Any) -> Config:
        """A copy with other knobs, validated."""
        return type(self)(**{**self.model_dump(), **knobs})

    def changed(self) -> dict[str, Any]:
        """The knobs that differ from their defaults."""
        fields = type(self).model_fields
        return {n: v for n, v in self.model_dump().items() if v != fields[n].get_default()}


def parse_value(text: str) -> Any:
    """A knob's value from text: JSON, with Python's True, False and None understood, or else the text itself."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain_types(hint: Any) -> set[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return set().union(*(_plain_types(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return {type(value) for value in get_args(hint)}
    return {hint}


def _expected(config: type[Config], name: str) -> str:
    hint, shown = get_type_hints(config)[name], config.knobs().get(name)
    words = []
    for part in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(part) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(part))))
        elif part is type(None):
            words.append("none")
        elif part in (int, float) and shown and shown.low is not None:
            kind = "a whole number" if part is int else "a number"
            span = (
                f"of at least {shown.low:g}"
                if shown.high is None
                else f"from {shown.low:g} to {shown.high:g}"
            )
            words.append(f"{kind} {span}{' ' + shown.unit if shown.unit else ''}")
        else:
            words.append(
                {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(
                    part, str(part)
                )
            )
    return " or ".join(words) + (f" ({shown.help})" if shown else "")


def _explain(error: ValidationError, config: type[Config]) -> str:
    """One line for each knob that is wrong: its name, its value, what was expected, what to do."""
    lines: dict[str, str] = {}
    for wrong in error.errors():
        name = str(wrong["loc"][0]) if wrong["loc"] else ""
        if name in config.model_fields:
            lines[name] = f"{name}={wrong['input']!r}: expected {_expected(config, name)}"
        elif name:
            near = difflib.get_close_matches(name, config.model_fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"knobs: {', '.join(config.model_fields)}"
            lines[name] = f"{name!r} is not a knob of {config.__name__}; {hint}"
        else:
            lines[wrong["msg"]] = wrong["msg"].removeprefix("Value error, ")
    return "\n".join(lines.values())


@dataclass(frozen=True)
class Experiment:
    """A named generator of records over a config. Made by `experiment`, found by `get`."""

    name: str
    version: int
    config: type[Config]
    generate: Callable[[Any, Any], Iterator[Record]]
    figure: Callable[..., Figure]
    inputs: Callable[[Any], Sequence[str]]
    steps: Callable[[Any], int] | None
    instant: bool
    paper: str
    threads: int

    @property
    def method(self) -> str:
        """The method's folder."""
        return self.name.partition("/")[0]

    @property
    def pins(self) -> bool:
        """Whether the figure can compare with a pinned run."""
        return "pinned" in inspect.signature(self.figure).parameters

    @property
    def summary(self) -> str:
        """First line of the generator's docstring."""
        return (self.generate.__doc__ or "").strip().partition("\n")[0]


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(
    name: str,
    *,
    version: int,
    figure: Callable[..., Figure],
    inputs: Callable[[Any], Sequence[str]] = lambda config: (),
    steps: Callable[[Any], int] | None = None,
    instant: bool = False,
    paper: str = "",
    threads: int = 1,
) -> Callable[[Callable[..., Iterator[Record]]], Callable[..., Iterator[Record]]]:
    """Register the generator ``f(config, run) -> Iterator[Record]`` as an experiment.

    `version` is raised when the records' meaning changes. `inputs(config)` are references (name and checksum) of
    the data and models used. `figure(records)` draws; one that takes ``pinned=`` (a label and records) can compare.
    `steps(config)` is the number of records to expect. `instant` experiments redraw at each move of a slider.
    `paper` names the figure or table of the paper that this regenerates. `threads` are torch's while it runs: one,
    unless its products are large, since more are slower on a busy machine and may change the last digit.
    """

    def register(generate: Callable[..., Iterator[Record]]) -> Callable[..., Iterator[Record]]:
        config = next(iter(get_type_hints(generate).values()))
        EXPERIMENTS[name] = Experiment(
            name, version, config, generate, figure, inputs, steps, instant, paper, threads
        )
        return generate

    return register


def discover() -> dict[str, Experiment]:
    """All experiments, after importing ``workbench.<method>.experiments`` of each method."""
    import workbench

    for module in pkgutil.iter_modules(workbench.__path__, "workbench."):
        if module.ispkg and importlib.util.find_spec(f"{module.name}.experiments"):
            importlib.import_module(f"{module.name}.experiments")
    return dict(sorted(EXPERIMENTS.items()))


def get(name: str | Experiment) -> Experiment:
    """The experiment `name`, as in ``quantization/layer-trace``; an experiment is itself."""
    if isinstance(name, Experiment):
        return name
    known = EXPERIMENTS if name in EXPERIMENTS else discover()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"experiments: {', '.join(known)}"
        raise KnobError(f"no experiment {name!r}; {hint}")
    return known[name]


def plain_record(record: Mapping[str, Any]) -> Record:
    """`record` with numpy and torch values turned into Python's own; raises ValueError where it is too large."""
    plain = {str(key): _plain(value) for key, value in record.items()}
    size = len(json.dumps(plain))
    if size > LARGEST_RECORD:
        raise ValueError(
            f"a record of {size} bytes; expected at most {LARGEST_RECORD}: write large arrays to run.path"
        )
    return plain


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a record holds {type(value).__name__}; expected numbers, strings and arrays of them")
