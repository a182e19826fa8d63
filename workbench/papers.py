"""What the papers report, what they claim, and the verdict of the measurements.

Reported values are rows of ``data/papers/<method>.csv``; a claim's verdict is computed from records, never typed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from workbench import runs
from workbench.datasets import bundled_folder
from workbench.experiment import Config, Experiment, KnobError, Record, get
from workbench.provenance import provenance


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on the records at hand, and the measured numbers."""

    verdict: Literal["holds", "fails", "undecidable here"]
    measured: str


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper with a check.

    `source` is the table, figure or section; `reported` what the paper reports; `needs` the experiment whose
    records decide it, or "" where nothing here can; ``check(records)`` gives the verdict.
    """

    id: str
    text: str
    source: str
    reported: str
    needs: str
    check: Callable[[list[Record]], Verdict]


def undecidable(reason: str) -> Callable[[list[Record]], Verdict]:
    """The check of a claim that this workbench cannot decide."""
    return lambda records: Verdict("undecidable here", reason)


def reported(method: str) -> pd.DataFrame:
    """The values that the paper of `method` reports: table or figure, setting, value, how it was obtained."""
    return pd.read_csv(bundled_folder() / "papers" / f"{method}.csv", keep_default_na=False)


def claims(method: str) -> list[Claim]:
    """The claims of a method's paper."""
    return list(importlib.import_module(f"workbench.{method}.claims").CLAIMS)


def reference_records(name: str) -> list[Record] | None:
    """The committed laptop-scale records of the experiment `name`, made by ``workbench figures``."""
    path = reference_path(name)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else None


def reference_path(name: str) -> Path:
    """Where those records lie."""
    method, _, short = name.partition("/")
    return bundled_folder() / "reference" / method / f"{short}.jsonl"


def write_reference(experiment: Experiment, config: Config, records: list[Record]) -> Path:
    """Write `records` as the committed reference, with the config and where they were made."""
    path = reference_path(experiment.name)
    about = {
        "experiment": experiment.name,
        "version": experiment.version,
        "run": runs.run_id(experiment, config),
    }
    about |= {"config": config.model_dump(mode="json"), **provenance()}
    runs.write_atomic(path, "".join(json.dumps(record) + "\n" for record in records).encode())
    runs.write_atomic(path.with_suffix(".json"), json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")
    return path


def ledger(method: str, scale: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Claim, what the paper reports, what was measured at `scale`, verdict.

    ``scale="reference"`` reads the committed records. A claim whose run is not there yet is undecidable, and the
    row says which command makes it.
    """
    rows = []
    for claim in claims(method):
        verdict = _judge(claim, scale, root)
        rows.append(
            {
                "claim": claim.text,
                "source": claim.source,
                "paper": claim.reported,
                "measured": verdict.measured,
                "scale": scale if claim.needs else "-",
                "verdict": verdict.verdict,
            }
        )
    return pd.DataFrame(rows, index=pd.Index([c.id for c in claims(method)], name="id"))


def _judge(claim: Claim, scale: str, root: Path | None) -> Verdict:
    if not claim.needs:
        return claim.check([])
    if scale == "reference":
        records = reference_records(claim.needs)
    else:
        experiment = get(claim.needs)
        try:
            records = runs.find(experiment, experiment.config.at(scale), root)
        except KnobError as error:
            return Verdict("undecidable here", str(error))
    if records is None:
        return Verdict("undecidable here", f"not run yet: workbench run {claim.needs} --scale {scale}")
    return claim.check(records)
