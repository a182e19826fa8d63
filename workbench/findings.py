"""The findings of each method as text: tables and a ledger of claims, computed from the reference records.

``workbench figures --reference`` writes the findings to the README of the reference records. It also writes one sentence for each
method to the README of the repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench import methods, papers
from workbench.atomic import write_atomic
from workbench.intervals import Interval, judging_rows
from workbench.knobs import KnobError
from workbench.measures import Measure, SeriesStyle, places
from workbench.registry import FINDINGS
from workbench.verdicts import DECIDED, LEVEL, holm

ORDER = ("quantization", "unlearning", "continual", "adapters", "synapse")  # the order of the methods in both READMEs
BEGIN, END = "<!-- findings: written by `workbench figures --reference` -->", "<!-- end of findings -->"


@dataclass(frozen=True)
class Table:
    """A table of the means of `measure`, computed from the reference records of the experiment with the name `experiment`.

    It has one row per label (a method), and one column per value that the records have under the key `place`.
    """

    title: str
    experiment: str
    measure: Measure
    style: SeriesStyle
    place: str
    names: Callable[[str], str] = str  # returns the heading of the column for a value of `place`


@dataclass(frozen=True)
class Findings:
    """The texts that accompany the ledger of a method (the table of its claims and their verdicts).

    `worked_from` names the sources that the implementation follows, `setup` describes the measurements, and `main` is the id of
    the claim that is quoted in the README of the repository. `sentence` is the quotation. In it, ``{state}`` is replaced by the
    verdict, and ``{found}`` by the mean and the interval of the finding whose text begins with `part`.
    """

    title: str
    worked_from: str
    setup: str
    main: str
    sentence: str
    part: str = ""
    tables: Sequence[Table] = ()


def declare(method: str, findings: Findings) -> None:
    """Register the findings of a method."""
    FINDINGS[method] = findings


def of(method: str) -> Findings:
    """Import the lab of a method (see `methods`), and return the declared findings. Raises KnobError if there are none."""
    if method in methods.methods():
        methods.load(method)
    if method not in FINDINGS:
        raise KnobError(f"method {method!r} declares no findings; expected one of {', '.join(sorted(FINDINGS))}")
    return FINDINGS[method]


def every() -> list[str]:
    """Return the methods that declare findings, in the order of `ORDER`."""
    for name in methods.methods():
        methods.load(name)
    return sorted(FINDINGS, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


# -- the README of the reference records ---------------------------------------------------------------------------------------

HEAD = f"""# What was measured

This file is written by `workbench figures --reference`, from the records in this folder; do not edit it. The speed of the
programs is reported in [speed.md](speed.md).

- **95 % confidence interval (CI).** Every number is a mean over independent units: seeds, or layers of a model. The range in
  parentheses is its 95 % CI by Student's t: if the measurement were repeated many times, 95 % of such ranges would contain the
  true mean.
- **Verdict.** A claim *holds* if it is true for all values in the CI, *fails* if it is false for all of them, and is *open*
  otherwise. A claim that no measurement here can decide is *undecidable here*.
- **After Holm.** If twenty claims are tested at the level {LEVEL:g}, about one wrong decision by chance must be expected. Holm's
  correction is stricter: for each method, the probability of one or more wrong decisions is at most {LEVEL:g}. If the verdict and
  this column differ, read the claim as open.
- **Settings.** Each method is measured at the best of its candidate settings. The best setting is chosen on validation data with
  some seeds, and measured on test data with other seeds.
"""


def page() -> str:
    """Return the README of the reference records."""
    return "\n".join([HEAD, *(_section(name) for name in every())])


def _section(method: str) -> str:
    found, ledger = of(method), papers.ledger(method, "reference")
    parts = [f"## {found.title}", f"**What we worked from.** {found.worked_from}", found.setup]
    parts += [_table(table) for table in found.tables]
    head = "| claim | verdict | after Holm | measured | the paper reports |\n| --- | --- | --- | --- | --- |"
    columns = ("verdict", "after Holm", "measured", "paper")
    rows = [
        f"| `{name}` {_cell(row['claim'])} | {' | '.join(_cell(row[column]) for column in columns)} |"
        for name, row in ledger.iterrows()
    ]
    return "\n\n".join([*parts, "\n".join(["### Ledger of claims\n", head, *rows])]) + "\n"


def _cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _table(table: Table) -> str:
    records = [r for r in judging_rows(papers.reference_records(table.experiment) or []) if table.place in r]
    columns = places(records, table.place)
    cells = table.measure.table(records, table.place).set_index(["label", table.place])
    head = f"| {table.measure.axis} | {' | '.join(_cell(table.names(str(c))) for c in columns)} |"
    lines = [f"### {table.title}\n", head, "| --- " * (len(columns) + 1) + "|"]
    for label in places(records, "label"):
        row = [_mean(cells, label, column, table.measure.digits) for column in columns]
        lines.append(f"| {_cell(table.style.name(label))} | {' | '.join(row)} |")
    return "\n".join(lines)


def _mean(cells, label: str, column, digits: int) -> str:
    """Return the mean and the interval of one cell as text, with a remark if there is no interval.

    The text is empty if the cell was not measured.
    """
    if (label, column) not in cells.index:
        return ""
    row = cells.loc[(label, column)]
    found = Interval(row["mean"], row["low"], row["high"], int(row["n"]))
    if found.n == 0:
        return "all fits failed"
    if not found.low < found.high:
        return f"{found.mean:.{digits}f} (no CI)"
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


# -- the README of the repository ----------------------------------------------------------------------------------------------


def sentences() -> str:
    """Return a Markdown list with one finding for each method."""
    return "\n".join(f"- {_sentence(name)}" for name in every())


def _sentence(method: str) -> str:
    declared = of(method)
    judged = papers.judged(method, "reference")
    corrected = dict(zip(judged, holm([*judged.values()]), strict=True))[declared.main]
    state = judged[declared.main].verdict
    words = f"*{state}*" if state in DECIDED else f"is *{state}*"
    words += "" if corrected in ("-", state) else f", but is *{corrected}* after Holm's correction"
    meant = next((f for f in judged[declared.main].findings if f.text.startswith(declared.part)), None)
    found = meant.found if meant else judged[declared.main].measured
    return f"**{declared.title}.** {declared.sentence.format(found=found, state=words)}"


def with_sentences(readme: str) -> str:
    """Return the text `readme`, in which the old findings are replaced by the current ones.

    Raises ValueError if the lines `BEGIN` and `END`, which enclose the findings, are missing.
    """
    found = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
    if not found.search(readme):
        raise ValueError(f"README.md: expected the lines {BEGIN!r} and {END!r} around the findings")
    return found.sub(lambda _: f"{BEGIN}\n{sentences()}\n{END}", readme)


def write(root: Path) -> list[Path]:
    """Write the findings to ``data/reference/README.md`` and ``README.md`` in the folder `root`; return both paths."""
    reference, readme = root / "data" / "reference" / "README.md", root / "README.md"
    write_atomic(reference, page().encode())
    if readme.exists():
        write_atomic(readme, with_sentences(readme.read_text(encoding="utf-8")).encode())
    return [reference, readme]
