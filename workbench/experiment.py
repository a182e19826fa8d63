"""What an experiment is: a config and a generator of records, with its figure and its story."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_type_hints

from workbench import methods
from workbench.knobs import Config, KnobError
from workbench.registry import EXPERIMENTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]  # numbers, strings and small arrays
LARGEST_RECORD = 64 * 1024  # bytes of JSON


@dataclass(frozen=True)
class Question:
    """A question that a panel asks before it runs: the reader guesses, the panel runs and shows which answer is right.

    The panel sets `knobs`, asks `text`, and runs. If `rival` is given, a run with these knobs on top is made and pinned first.
    ``right(records, rival)`` returns the place of the right one among `answers`, and ``measured(records, rival)`` the numbers
    that decide it; without a rival run, the second list is empty. `why` explains the result and says where to see it.

    `claim` is the id of the ledger's claim that the question concerns, if there is one, and `part` the beginning of the one of
    its findings that is meant, if it has several. `agrees` maps a state of that finding (holds, fails) to the places of the
    answers that agree with it. `unlike` says why one run of this size can differ from the ledger.
    """

    title: str
    text: str
    answers: Sequence[str]
    right: Callable[[list[Record], list[Record]], int]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    rival: Mapping[str, Any] | None = None
    why: str = ""
    measured: Callable[[list[Record], list[Record]], str] = lambda records, rival: ""
    claim: str = ""
    part: str = ""
    agrees: Mapping[str, Sequence[int]] = field(default_factory=dict)
    unlike: str = ""


@dataclass(frozen=True)
class Experiment:
    """A named generator of records over a config. Made by `experiment`, or in `comparison`; found by `get`."""

    name: str
    version: int
    config: type[Config]
    generate: Callable[[Any, Any], Iterator[Record]]
    figure: Callable[..., Figure] | None
    inputs: Callable[[Any], Sequence[str]] = lambda config: ()
    steps: Callable[[Any], int] | None = None
    instant: bool = False
    paper: str = ""
    threads: int = 1
    story: Callable[..., str] | None = None
    place: Callable[[Record], str] | None = None
    per_moment: int | Callable[[Any], int] = 1
    prepare: Callable[[], None] | None = None
    questions: Sequence[Question] = ()
    hidden: bool = False
    code: Callable[[Any], str] | None = None
    of: tuple[str, Callable[[Record], bool]] | None = None
    units: str = "seeds"

    @property
    def method(self) -> str:
        """The method's name."""
        return self.name.partition("/")[0]

    @property
    def pins(self) -> bool:
        """Whether the figure can compare with a pinned run."""
        return self.figure is not None and "pinned" in inspect.signature(self.figure).parameters

    def tell(self, records: Sequence[Record], config: Config, pinned: Sequence[Any] = (), drawn: Figure | None = None) -> str:
        """The present state in one sentence: the story, or else the title of the figure, which may be `drawn` already."""
        if self.story is not None:
            return self.story(records, config, pinned)
        if drawn is None and self.figure is not None:
            drawn = self.figure(records)
        return f"{' '.join(drawn.get_suptitle().split())}." if drawn else ""

    def at_a_moment(self, config: Any) -> int:
        """How many records make one moment of a run."""
        return self.per_moment(config) if callable(self.per_moment) else self.per_moment

    @property
    def summary(self) -> str:
        """First line of the generator's docstring."""
        return (self.generate.__doc__ or "").strip().partition("\n")[0]


FEW = 5  # units: of fewer, an interval says little; pictures show each as a dot


def signed(value: float, digits: int) -> str:
    """A number with its sign, which is a minus and not a hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")


def register(made: Experiment) -> Experiment:
    """Make an experiment known by its name."""
    before = EXPERIMENTS.get(made.name)
    if before is not None and before.generate.__module__ != made.generate.__module__:
        raise ValueError(
            f"experiment {made.name!r} is declared in {before.generate.__module__} and in {made.generate.__module__}; "
            "expected one: rename either"
        )
    EXPERIMENTS[made.name] = made
    return made


def experiment(
    name: str, *, version: int, figure: Callable[..., Figure], **more: Any
) -> Callable[[Callable[..., Iterator[Record]]], Callable[..., Iterator[Record]]]:
    """Register the generator ``f(config, run) -> Iterator[Record]`` as an experiment.

    `version` is raised when the records' meaning changes. ``figure(records)`` draws; one that takes ``pinned=`` (labels and
    records of other runs) can compare. Further fields of `Experiment`, by name: ``inputs(config)`` are references (name and
    checksum) of the data and models used; ``steps(config)`` is the number of records to expect; `instant` experiments redraw
    at each move of a slider; `paper` names the figure or table of the paper that this regenerates; ``story(records, config,
    pinned)`` says the present state in one sentence (without it the figure's title does); ``place(record)`` says where in the
    run a record stands, in a few words; `per_moment` records make one moment of it
    (a number, or a function of the config);
    ``prepare()`` does what a first run would wait for, once a panel is in view; `questions` are asked in its panel; `threads`
    are torch's while it runs: one, unless its products are large, since more are slower on a busy machine and may change the last
    digit; `hidden` keeps it out of lists; ``code(config)`` is the same with another library, as a program;
    `of`: whose reference records, and which of them, are this one's (see `comparison.view`). `units` names what the intervals of
    the method's ledger are taken over.
    """

    def declare(generate: Callable[..., Iterator[Record]]) -> Callable[..., Iterator[Record]]:
        register(Experiment(name, version, config_of(generate), generate, figure, **more))
        return generate

    return declare


def config_of(function: Callable[..., Any]) -> type[Config]:
    """The config that a function takes first, by its annotation."""
    return next(iter(get_type_hints(function).values()))


def discover() -> dict[str, Experiment]:
    """All experiments that are shown, after importing the lab of each method."""
    for name in methods.methods():
        methods.load(name)
    return {name: e for name, e in sorted(EXPERIMENTS.items()) if not e.hidden}


def get(name: str | Experiment) -> Experiment:
    """The experiment `name`, as in ``quantization/layer-trace``; an experiment is itself."""
    if isinstance(name, Experiment):
        return name
    method = name.partition("/")[0]
    wrong = methods.load(method) if name not in EXPERIMENTS and method in methods.methods() else ""
    if name not in EXPERIMENTS:
        if wrong:
            raise KnobError(f"no experiment {name!r}: {wrong}")
        known = discover()
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"experiments: {', '.join(known)}"
        raise KnobError(f"no experiment {name!r}; {hint}")
    return EXPERIMENTS[name]


def plain_record(record: Mapping[str, Any]) -> Record:
    """`record` with numpy and torch values turned into Python's own; raises ValueError where it is too large."""
    plain = {str(key): _plain(value) for key, value in record.items()}
    size = len(json.dumps(plain))
    if size > LARGEST_RECORD:
        raise ValueError(f"a record of {size} bytes; expected at most {LARGEST_RECORD}: write large arrays to run.path")
    return plain


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a record holds {type(value).__name__}; expected numbers, strings and arrays of them")
