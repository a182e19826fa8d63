"""The claims of the papers and our own claims, the values that the papers report, and our verdicts on all claims.

Reported values are rows of ``papers/<method>.csv`` in the method's data folder. A verdict is always computed from records.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from workbench import inks, methods, runs
from workbench.atomic import write_atomic
from workbench.experiment import Experiment, Record, get
from workbench.knobs import Config, KnobError
from workbench.registry import CLAIMS
from workbench.verdicts import DECIDED, Verdict, holm

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, or one of ours, with the function that checks it.

    `source` is the table, figure or section of the paper, and `reported` is the result in the paper. `needs` is the experiment
    whose records decide the claim, or "" if no experiment of Workbench can decide it. ``check(records)`` returns the verdict.
    ``remark()`` returns a text that `ledger` adds to the measured numbers if these are from the reference records.
    """

    id: str
    text: str
    source: str
    reported: str
    needs: str
    check: Callable[[list[Record]], Verdict]
    remark: Callable[[], str] = lambda: ""


# -- claims and reported values ----------------------------------------------------------------------------------------


def declare(method: str, *claims: Claim) -> None:
    """Register the claims of a method. Raises ValueError if two claims have the same id."""
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise ValueError(f"claim {name!r} of {method} is declared twice; give each claim its own id")
    CLAIMS[method] = list(claims)


def claims(method: str) -> list[Claim]:
    """Return the claims of a method after importing its lab; the list is empty if the lab declares none.

    Raises KnobError if there is no such method.
    """
    if method not in methods.methods() and method not in CLAIMS:
        raise KnobError(f"no method {method!r}; methods: {', '.join(methods.methods())}")
    if method in methods.methods():
        methods.load(method)
    return CLAIMS.get(method, [])


def reported(method: str) -> pd.DataFrame:
    """Return a table of the values that the paper of `method` reports, with their settings and kinds of sources."""
    import pandas as pd

    return pd.read_csv(methods.data_folder(method) / "papers" / f"{method}.csv", keep_default_na=False)


# -- reference records -------------------------------------------------------------------------------------------------


def reference_path(name: str) -> Path:
    """Return the path of the reference records of the experiment `name`, which are part of the repository."""
    method, _, short = name.partition("/")
    return methods.data_folder(method) / "reference" / method / f"{short}.jsonl"


def reference_records(name: str) -> list[Record] | None:
    """Return the reference records of the experiment `name`, or None if there are none.

    These records are results at scale laptop that ``workbench figures METHOD --reference`` has stored.
    """
    whose, only = _whose(name)
    path = reference_path(whose)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else None
    return [record for record in records if only(record)] if records else records


def _whose(name: str) -> tuple[str, Callable[[Record], bool]]:
    """Return which experiment stores the reference records of the experiment `name`, and a filter that selects these records."""
    try:
        made = get(name)
    except KnobError:  # the experiment belongs to a method that is not installed
        return name, lambda record: True
    return made.of or (name, lambda record: True)


def reference_about(name: str) -> dict[str, Any]:
    """Return the metadata of the reference records of `name` (version, config, machine, time); empty if there are no records."""
    path = reference_path(_whose(name)[0]).with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def outdated(experiment: Experiment, config: Config) -> str:
    """Return why the reference records do not fit `config` or the current version of the experiment, or "" if they fit."""
    about, name = reference_about(experiment.name), experiment.name
    if about.get("version") != experiment.version:
        return (
            f"the reference records are of version {about.get('version')} of {name}, but the current version is "
            f"{experiment.version}; run: workbench figures {experiment.method} --reference"
        )
    other = about["config"] != config.model_dump(mode="json")
    return f"the reference records of {name} were made with other values of the knobs" if other else ""


def write_reference(experiment: Experiment, config: Config, records: list[Record]) -> Path:
    """Store `records` and the metadata of their run as the reference of an experiment; return the path of the records."""
    path, run = reference_path(experiment.name), runs.run_id(experiment, config)
    about = json.loads((runs.runs_folder() / run / "run.json").read_bytes())
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in records).encode())
    write_atomic(path.with_suffix(".json"), json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")
    return path


def against_reference(experiment: Experiment, config: Config, records: list[Record]) -> str:
    """Compare `records` with the reference records, and return the result as a text."""
    reference = reference_records(experiment.name)
    if reference is None:
        return "there are no reference records to compare with"
    if reason := outdated(experiment, config):
        return reason
    if records == reference:
        return "equal to the reference"
    if [_words(r) for r in records] != [_words(r) for r in reference]:
        return "different from the reference: other points, chosen settings or failed fits"
    far, where = max((_distance(one[key], other[key]), key) for one, other in zip(records, reference, strict=True) for key in one)
    return f"within {100 * far:.2g} % of the reference (largest difference: {where})"


def _words(record: Record) -> list[tuple[str, Any]]:
    return [(key, value if isinstance(value, str) else "") for key, value in record.items()]


def _distance(one: Any, other: Any) -> float:
    """Return the relative difference of two numbers. For two lists, return the largest relative difference of their elements."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((_distance(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if one == other:
        return 0.0
    if not all(isinstance(v, (int, float)) for v in (one, other)):
        return math.inf
    return float(abs(one - other) / max(abs(one), abs(other)))


# -- the ledger --------------------------------------------------------------------------------------------------------


COLUMNS = ("claim", "verdict", "after Holm", "measured", "paper", "source", "scale")


def ledger(method: str, scale: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return a table with one row for each claim of a method: its verdict, and the numbers measured at `scale`.

    With ``scale="reference"``, the numbers are from the reference records. At scale ``smoke``, no claim is decided. A claim whose
    run does not exist yet is open, and its row shows the command that starts the run. The column ``after Holm`` is the verdict
    after Holm's correction for the number of claims (Scand. J. Statist. 6, 1979), or "-" if the verdict is not based on
    intervals.
    """
    import pandas as pd

    stated, found = claims(method), judged(method, scale, root)
    changed = changes(method) if scale == "reference" else {}
    rows = []
    for claim, corrected in zip(stated, holm([*found.values()]), strict=True):
        remark = claim.remark() if scale == "reference" else ""
        measured = ". ".join(filter(None, (found[claim.id].measured, remark, changed.get(claim.id))))
        verdict = found[claim.id].verdict
        rows.append((claim.text, verdict, corrected, measured, claim.reported, claim.source, _scale(claim, scale)))
    return pd.DataFrame(rows, index=pd.Index([c.id for c in stated], name="id"), columns=[*COLUMNS])


def judged(method: str, scale: str = "laptop", root: Path | None = None) -> dict[str, Verdict]:
    """Return a dict from the id of each claim of a method to its verdict. `ledger` describes `scale`."""
    return {claim.id: _judge(claim, scale, root) for claim in claims(method)}


def changes(method: str) -> dict[str, str]:
    """Return the claims whose scope or check changed after their records were made: a dict from the id to the change."""
    path = methods.data_folder(method) / "papers" / "changed-claims.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["claim"]: f"{row['change']} ({row['date']})" for row in csv.DictReader(file) if row["method"] == method}


def _scale(claim: Claim, scale: str) -> str:
    if not claim.needs:
        return "-"
    return "laptop (reference)" if scale == "reference" else scale


def _judge(claim: Claim, scale: str, root: Path | None) -> Verdict:
    if not claim.needs:
        return claim.check([])
    experiment = get(claim.needs)
    if scale == "reference":
        records = reference_records(claim.needs)
        if records is not None and (reason := outdated(experiment, experiment.config.at("laptop"))):
            return Verdict("open", reason)
    else:
        try:
            records = runs.find(experiment, experiment.config.at(scale), root)
        except KnobError as error:
            return Verdict("undecidable here", str(error))
    if records is None:
        made = f"run {claim.needs} --scale {scale}"
        if scale == "reference":
            made = f"figures {experiment.method} --reference"
        return Verdict("open", f"not run yet; run: workbench {made}")
    found = claim.check(records)
    if scale == "smoke" and found.verdict in DECIDED:
        return Verdict("open", f"{found.measured} (at scale smoke, no claim is decided)")
    return found


def lines(table: pd.DataFrame) -> list[str]:
    """Return the ledger as lines for a terminal: the verdict and text of each claim, and the measured numbers below them."""
    found = []
    for name, row in table.iterrows():
        corrected = "" if row["after Holm"] in ("-", row["verdict"]) else f" (after Holm's correction: {row['after Holm']})"
        found += [f"{row['verdict']:16}  {name}: {row['claim']}{corrected}", f"{'':18}{row['measured']} [{row['scale']}]"]
    return found or ["no claims are declared"]


COLOURS = {"holds": inks.GREEN, "fails": inks.RED, "open": inks.ORANGE, "undecidable here": inks.GREY, "-": inks.GREY}


def styled(table: pd.DataFrame) -> Any:
    """Return the ledger as a table for a notebook: left-aligned, with coloured verdicts, and with all text escaped."""
    left = {"text-align": "left", "vertical-align": "top", "white-space": "normal"}
    sides = [("selector", "th, td"), ("props", list(left.items()))]
    return (
        table.style.set_uuid(f"{crc32(table.to_csv().encode()):08x}")  # the default id is random
        .set_properties(**left)
        .set_table_styles([dict(sides)])
        .map(
            lambda verdict: f"color: {inks.themed(inks.text(COLOURS[verdict]))}; font-weight: bold; white-space: nowrap",
            subset=["verdict", "after Holm"],
        )
        .format(escape="html")
    )
