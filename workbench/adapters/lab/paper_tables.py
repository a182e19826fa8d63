"""Two result tables of the paper (version 12), each with our own results below those of the paper.

Our models and tasks differ from the paper's, so only the order within a row can be compared: the order of the methods in Table 5,
and the order of the ranks in Table 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import methods, papers
from workbench.adapters.lab.colours import MODEL_NAMES, NAMES
from workbench.experiment import Record
from workbench.intervals import judging_rows

RATES = {"shared": "same rate", "own": "each at its own rate"}


def results() -> pd.DataFrame:
    """Return Table 5 of the paper for four methods, with our results below.

    The paper reports the accuracy in percent. Our rows report the test loss on sums and, for SmolLM2-135M, also the percentage
    of sums that are answered exactly. The column `ahead` names the method with the best value in each row, even if the
    difference is within the uncertainty. The paper does not report the uncertainty; our figures show it.
    """
    ours = []
    for name in ("methods", "rwkv", "smollm2", "answers"):
        records = judging_rows(papers.reference_records(f"adapters/{name}") or ())
        for rates, said in RATES.items():
            rows = [r for r in records if r.get("rates", "own") == rates]
            said = "600 steps" if name == "answers" else said
            ours += _means(rows, "loss", f"loss on sums, {said}", lambda r: NAMES[r["label"]])
            if name in ("smollm2", "answers"):
                ours += _means(rows, "exact", f"correct sums, %, {said}", lambda r: NAMES[r["label"]], 100)
    table = _beside(5, ours, ["LoRA", "DoRA", "PiSSA", "MiSS"])
    lower = table.index.get_level_values("measured").str.startswith("loss")
    best = np.where(lower, table.idxmin(axis=1), table.idxmax(axis=1))
    return _said(table).assign(ahead=best)


def ranks() -> pd.DataFrame:
    """Return Table 7 of the paper, which compares the ranks of MiSS, with our results below.

    The paper reports the accuracy in percent. Our rows report the test loss, with each rank at its own best learning rate.
    """
    rows = [r for r in judging_rows(papers.reference_records("adapters/ranks") or ()) if r["label"] == "miss"]
    ours = _means(rows, "loss", "loss on sums, each rank at its own rate", lambda r: str(r["rank"]))
    return _said(_beside(7, ours, [str(2**k) for k in range(2, 8)]))


def _means(
    records: Sequence[Record], column: str, measured: str, place: Callable[[Record], str], times: float = 1
) -> list[dict[str, object]]:
    """Average the field `column` of the records for each model and each column of the table, and return one row for each mean.

    ``place(record)`` returns the column of the table to which a record belongs. The values are multiplied by `times`.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for r in records:
        if r.get(column) is not None:
            found.setdefault((MODEL_NAMES.get(r["model"], r["model"]), place(r)), []).append(times * r[column])
    return [
        {"from": "here", "model": model, "task": measured, "column": where, "value": np.mean(values)}
        for (model, where), values in found.items()
    ]


def _beside(number: int, ours: Sequence[dict[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Return table `number` of the paper with the rows `ours` below it."""
    path: Path = methods.data_folder("adapters") / "papers" / "adapters-tables.csv"
    paper = pd.read_csv(path, dtype={"column": str}).query("table == @number").assign(**{"from": "paper"})
    table = pd.concat([paper, pd.DataFrame(ours, columns=["from", "model", "task", "column", "value"])])
    table = table.rename(columns={"task": "measured"})
    table = table.pivot_table("value", ["from", "model", "measured"], "column", sort=False)
    return table.reindex(columns=columns).dropna(how="all").rename_axis(columns=None)


def _said(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as it is displayed: with three decimals, and a dash for a missing value."""
    return table.round(3).astype(object).where(table.notna(), "-")
