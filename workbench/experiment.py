"""Experiments. Each has a generator of records, a config, a figure, and a text that describes the current state of a run."""

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
LARGEST_RECORD = 64 * 1024  # maximum size of a record in bytes of JSON


@dataclass(frozen=True)
class Question:
    """A question in a panel: the reader guesses the answer, then the panel runs the experiment and shows which answer is right.

    The panel sets the knobs `knobs` and asks `text`. If `rival` is given, the panel first computes another run, the
    *rival*, with the additional knobs in `rival`, and pins it (keeps it in the figure for comparison). ``right(records, rival)``
    gets the records of the run and of the rival, and returns the index of the right answer in `answers`.
    ``measured(records, rival)`` returns a text with the numbers that decide which answer is right. Without a rival, the second
    argument of these functions is an empty list. `why` explains the result and names the part of the figure that shows it.

    A question may concern a claim in the ledger (`papers.ledger`), which is a table of claims and verdicts. `claim` is the id of
    that claim. If the claim has several findings, `part` is the beginning of the text of the finding that is meant. `agrees` maps
    a state of the finding (holds, fails) to the indices of the answers that agree with it. `unlike` explains why one run of this
    size can differ from the ledger.
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
    """A named generator of records for a config; the docstring of the function `experiment` describes the fields.

    `experiment` and `comparison.comparison` create experiments, and `get` returns an experiment by name.
    """

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
        """The name of the method to which the experiment belongs."""
        return self.name.partition("/")[0]

    @property
    def pins(self) -> bool:
        """True if the figure can show pinned runs (other runs that are kept for comparison)."""
        return self.figure is not None and "pinned" in inspect.signature(self.figure).parameters

    def tell(self, records: Sequence[Record], config: Config, pinned: Sequence[Any] = (), drawn: Figure | None = None) -> str:
        """Describe the current state of a run in one sentence: the text of the function `story`, or the title of the figure.

        `drawn` is the figure of these records, if it already exists.
        """
        if self.story is not None:
            return self.story(records, config, pinned)
        if drawn is None and self.figure is not None:
            drawn = self.figure(records)
        return f"{' '.join(drawn.get_suptitle().split())}." if drawn else ""

    def at_a_moment(self, config: Any) -> int:
        """Return the number of records in one step of the playback of a run."""
        return self.per_moment(config) if callable(self.per_moment) else self.per_moment

    @property
    def summary(self) -> str:
        """The first line of the generator's docstring."""
        return (self.generate.__doc__ or "").strip().partition("\n")[0]


FEW = 5  # with fewer than FEW independent units (such as seeds), figures show each value as a dot, not a confidence interval


def signed(value: float, digits: int) -> str:
    """Return a number as text with `digits` decimals and its sign; the sign of a negative number is a minus, not a hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")


def register(made: Experiment) -> Experiment:
    """Register an experiment by its name, and return it. Raises ValueError if another module uses the name."""
    before = EXPERIMENTS.get(made.name)
    if before is not None and before.generate.__module__ != made.generate.__module__:
        raise ValueError(
            f"experiment {made.name!r} is declared in {before.generate.__module__} and in {made.generate.__module__}; "
            "expected one declaration: rename one of the two experiments"
        )
    EXPERIMENTS[made.name] = made
    return made


def experiment(
    name: str, *, version: int, figure: Callable[..., Figure], **more: Any
) -> Callable[[Callable[..., Iterator[Record]]], Callable[..., Iterator[Record]]]:
    """Register the generator ``f(config, run) -> Iterator[Record]`` as an experiment.

    Increase `version` when the meaning of the records changes. ``figure(records)`` returns a figure. If this function also
    accepts ``pinned=`` (the labels and records of other runs), the figure can compare runs. `more` sets further fields of
    `Experiment`:

    - ``inputs(config)`` returns references (name and checksum) to the data and models that are used;
    - ``steps(config)`` returns the expected number of records;
    - `instant` is True if the figure is computed again at each move of a slider;
    - `paper` names the figure, table or claim of the paper that the experiment reproduces, or says that it is our addition;
    - ``story(records, config, pinned)`` returns one sentence that describes the current state and is shown above the figure
      (default: the title of the figure);
    - ``place(record)`` describes in a few words the position of a record in the run, such as its step;
    - `per_moment` is the number of records in one step of the playback, or a function of the config that returns it;
    - ``prepare()`` is called when a panel becomes visible, and does slow work in advance, such as imports;
    - `questions` are asked in the panel;
    - `threads` is the number of torch's threads during a run. It should be 1 unless matrix products are large, since more threads
      are slower on a busy machine and may change the last digit of a result;
    - `hidden` is True if lists of experiments omit this one;
    - ``code(config)`` returns a program that computes the same result with another library;
    - `of` is a pair: the name of another experiment whose reference records are used, and a function that selects some of these
      records (see `comparison.view`);
    - `units` names the independent units, such as seeds, over which the ledger of the method computes confidence intervals.
    """

    def declare(generate: Callable[..., Iterator[Record]]) -> Callable[..., Iterator[Record]]:
        register(Experiment(name, version, config_of(generate), generate, figure, **more))
        return generate

    return declare


def config_of(function: Callable[..., Any]) -> type[Config]:
    """Return the type of config that a function accepts, from the annotation of its first argument."""
    return next(iter(get_type_hints(function).values()))


def discover() -> dict[str, Experiment]:
    """Import the lab of each method (see `methods`), and return all experiments that are not hidden, by name."""
    for name in methods.methods():
        methods.load(name)
    return {name: e for name, e in sorted(EXPERIMENTS.items()) if not e.hidden}


def get(name: str | Experiment) -> Experiment:
    """Return the experiment with a name such as ``quantization/layer-trace``; an `Experiment` is returned unchanged.

    Raises KnobError if there is no such experiment.
    """
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
    """Return a copy of `record` in which numpy and torch values are converted to Python's types.

    Raises ValueError if a value has another type, or if the record is larger than `LARGEST_RECORD`.
    """
    plain = {str(key): _plain(value) for key, value in record.items()}
    size = len(json.dumps(plain))
    if size > LARGEST_RECORD:
        raise ValueError(f"a record has {size} bytes; expected at most {LARGEST_RECORD}: write large arrays to run.path(name)")
    return plain


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a record holds a value of type {type(value).__name__}; expected numbers, strings, or arrays of these")
