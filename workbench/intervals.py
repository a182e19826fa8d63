"""What figures and claims read of a comparison's rows: scores that pair, means with 95 % intervals, one table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import stdtr, stdtrit

from workbench.experiment import FEW, Record, signed


class Interval(NamedTuple):
    """A mean with its 95 % interval (Student's t over independent units); NaN ends for one unit."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.4g}"
        if math.isnan(self.mean):
            return "not measured: a fit failed"
        if not self.low < self.high:
            return f"{self.mean:.3g} (one unit, no interval)"
        digits = min(max(1 - math.floor(math.log10((self.high - self.low) / 2)), 0), 4)
        mean, low, high = (f"{round(v, digits) + 0:.{digits}f}" for v in self[:3])  # no -0.0
        return f"{mean} ({low} to {high})"


def interval(values: pd.Series, unit: str = "seed") -> Interval:
    """The mean of `values` over independent units (an index level); several values of one unit are averaged first.

    A value that is not there (of a fit that failed) leaves no interval.
    """
    each = values.groupby(level=unit, sort=False).mean() if not values.isna().any() else values * math.nan
    n, mean = len(each), float(each.mean())
    half = float(stdtrit(n - 1, 0.975) * each.std() / n**0.5) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half, n)


def level(found: Interval, value: float) -> float:
    """The two-sided p-value of Student's t-test that the mean is `value`: the level at which the interval just excludes it.

    The standard error is recovered from the 95 % interval. It is 0 for an interval of no width (a count), where no chance
    is involved.
    """
    if found.low == found.high:
        return 0.0
    error = (found.high - found.mean) / stdtrit(found.n - 1, 0.975)
    return float(2 * stdtr(found.n - 1, -abs(found.mean - value) / error))


def ahead(differences: pd.Series, digits: int) -> str:
    """Their mean with its sign, and its interval where it is of enough units; "" where none is there."""
    differences = differences.dropna()
    if not len(differences):
        return ""
    mean, low, high, n = interval(differences)
    ends = f" ({signed(low, digits)} to {signed(high, digits)})" if n >= FEW else ""
    return f"{signed(mean, digits)}{ends}"


def marks(records: Iterable[Record], units: str = "seeds") -> str:
    """What the marks of a picture of these rows are, in words."""
    count = len({r["seed"] for r in judging_rows(records)})
    if count == 1:
        return f"one {units.removesuffix('s')}"
    return f"mean and 95 % interval of {count} {units}" if count >= FEW else f"mean of {count} {units}, each a dot"


def exactly(value: float) -> Interval:
    """A count or an identity: an interval of no width."""
    return Interval(value, value, value, 1)


def judging_rows(records: Iterable[Record]) -> list[Record]:
    """The rows of the fits that judge: those of the chosen settings on fresh seeds, one for each point and seed."""
    return [r for r in records if r.get("phase", "judge") == "judge"]


def _judging(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["phase"] == "judge"] if "phase" in table else table


def scores(records: Sequence[Record], column: str, by: Sequence[str] = ("seed",), **where: Any) -> pd.Series:
    """`column` of the judging fits at `where`, indexed by what pairs them: subtract or divide two such series."""
    table = _judging(pd.DataFrame(records))
    for name, value in where.items():
        table = table[table[name] == value]
    if column not in table:
        table = table.assign(**{column: math.nan})
    return table.groupby(list(by), sort=False)[column].agg(lambda values: values.mean(skipna=False))


class Refused(NamedTuple):
    """A candidate that failed on some choosing seeds, and that was better than the chosen one on the others."""

    setting: str
    failed: int  # choosing seeds
    seeds: int
    score: float  # mean on the seeds on which it did not fail
    chosen: float  # mean of the chosen setting on the same seeds


def refused(records: Iterable[Record], score: str = "validation", higher: bool = True) -> list[Refused]:
    """The candidates of one point that could not be chosen although they scored higher where they did not fail.

    A candidate that fails on one choosing seed cannot be chosen. `records` are the rows of one point, and `score` is the column
    that chooses.
    """
    found, rows = [], [r for r in records if r.get("phase") == "choose" and (r.get("failed") or score in r)]
    chosen = {r["setting"] for r in judging_rows(records)}
    for setting in dict.fromkeys(r["setting"] for r in rows):
        own = {r["seed"]: r[score] for r in rows if r["setting"] == setting and not r.get("failed")}
        seeds = sum(r["setting"] == setting for r in rows)
        best = [r[score] for r in rows if r["setting"] in chosen and r["seed"] in own and not r.get("failed")]
        if not 0 < len(own) < seeds or not best:
            continue
        mean, other = sum(own.values()) / len(own), sum(best) / len(best)
        if (mean > other) if higher else (mean < other):
            found.append(Refused(setting, seeds - len(own), seeds, mean, other))
    return found


def summary(records: Sequence[Record], column: str, *places: str, unit: str = "seed") -> pd.DataFrame:
    """One row a point: label, places, chosen setting, mean, low, high, n, values (a unit each), edge, fits, failed.

    `edge` names what of the chosen setting lies at an end of its candidates; `fits` were spent on the point, `failed` of them
    failed.
    """
    keys, rows, table = ["label", *places], [], pd.DataFrame(records)
    if "failed" not in table:
        table["failed"] = None
    for at, every in table.groupby(keys, dropna=False, sort=False):
        part = _judging(every)
        if not len(part):
            continue
        values = part.set_index(unit)[column] if column in part else pd.Series(math.nan, part[unit])
        measured = values.dropna()
        found = interval(values, unit) if len(measured) else Interval(*(math.nan,) * 3, 0)
        if len(measured) < len(values):  # no interval over those that did not fail
            found = Interval(float(measured.mean()), math.nan, math.nan, measured.index.nunique())
        row = dict(zip(keys, at, strict=True)) | {"setting": part["setting"].iloc[0], **found._asdict()}
        row |= {"values": measured.groupby(level=unit).mean().tolist(), "edge": part["edge"].iloc[0]}
        rows.append(row | {"fits": len(every), "failed": int(every["failed"].fillna("").astype(bool).sum())})
    return pd.DataFrame(rows, columns=[*keys, "setting", *Interval._fields, "values", "edge", "fits", "failed"])
