"""Statistics of a comparison's records, for figures and claims: scores by seed, means with 95 % intervals, and a table.

A comparison chooses the setting of each point (a label, such as the name of a method, in one condition). It fits all candidates
on some seeds, which are called choosing seeds. Then it fits the chosen setting on other seeds, and these fits are called judging
fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import stdtr, stdtrit

from workbench.experiment import FEW, Record, signed


class Interval(NamedTuple):
    """A mean over `n` independent units, with its 95 % confidence interval by Student's t-distribution.

    If the interval cannot be computed, for example from a single unit, `low` and `high` are NaN.
    """

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
    """Return the mean of `values` over independent units, with its 95 % confidence interval.

    `unit` is the level of the index that names the unit, such as the seed. Several values of one unit are averaged first. If a
    value is missing because a fit failed, the mean and the interval are NaN.
    """
    each = values.groupby(level=unit, sort=False).mean() if not values.isna().any() else values * math.nan
    n, mean = len(each), float(each.mean())
    half = float(stdtrit(n - 1, 0.975) * each.std() / n**0.5) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half, n)


def level(found: Interval, value: float) -> float:
    """Return the two-sided p-value of Student's t-test for the hypothesis that the mean is `value`.

    The standard error is computed from the 95 % confidence interval. For an interval of width 0, such as that of a count, the
    p-value is 0, since the number does not depend on chance.
    """
    if found.low == found.high:
        return 0.0
    error = (found.high - found.mean) / stdtrit(found.n - 1, 0.975)
    return float(2 * stdtr(found.n - 1, -abs(found.mean - value) / error))


def ahead(differences: pd.Series, digits: int) -> str:
    """Return the mean of `differences` as text, with its sign, and with its 95 % interval if there are at least `FEW` values.

    Missing values are left out. The text is empty if no value remains.
    """
    differences = differences.dropna()
    if not len(differences):
        return ""
    mean, low, high, n = interval(differences)
    ends = f" ({signed(low, digits)} to {signed(high, digits)})" if n >= FEW else ""
    return f"{signed(mean, digits)}{ends}"


def marks(records: Iterable[Record], units: str = "seeds") -> str:
    """Return a text that explains the marks in a figure of these records, for example "mean and 95 % interval of 5 seeds"."""
    count = len({r["seed"] for r in judging_rows(records)})
    if count == 1:
        return f"one {units.removesuffix('s')}"
    return f"mean and 95 % interval of {count} {units}" if count >= FEW else f"mean of {count} {units} (one dot for each)"


def exactly(value: float) -> Interval:
    """Return an interval of width 0, for a number without uncertainty, such as a count."""
    return Interval(value, value, value, 1)


def judging_rows(records: Iterable[Record]) -> list[Record]:
    """Return the records of the judging fits, which measure the chosen settings on fresh seeds.

    There is one such record for each point and each of these seeds. A record without a ``phase`` is returned too.
    """
    return [r for r in records if r.get("phase", "judge") == "judge"]


def _judging(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["phase"] == "judge"] if "phase" in table else table


def scores(records: Sequence[Record], column: str, by: Sequence[str] = ("seed",), **where: Any) -> pd.Series:
    """Return the values of `column` in the records of the judging fits, as a series with the index `by`.

    Two such series can be subtracted. `where` gives the values that other columns must have. Records with the same index are
    averaged. The average is NaN if one of their fits failed.
    """
    table = _judging(pd.DataFrame(records))
    for name, value in where.items():
        table = table[table[name] == value]
    if column not in table:
        table = table.assign(**{column: math.nan})
    return table.groupby(list(by), sort=False)[column].agg(lambda values: values.mean(skipna=False))


class Refused(NamedTuple):
    """A setting that was tried and failed on some choosing seeds, but was better than the chosen setting on the others.

    The choosing seeds are the seeds on which all settings that were tried are compared.
    """

    setting: str
    failed: int  # number of choosing seeds on which this setting failed
    seeds: int  # number of all choosing seeds
    score: float  # mean score of this setting on the seeds on which it did not fail
    chosen: float  # mean score of the chosen setting on the same seeds


def refused(records: Iterable[Record], score: str = "validation", higher: bool = True) -> list[Refused]:
    """Return the settings that failed on some choosing seeds, but were better than the chosen setting on the others.

    A setting that fails on one choosing seed cannot be chosen. `records` are the records of one point. `score` is the column by
    which the settings are compared. `higher` is true if a higher score is better.
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
    """Return a table with one row for each point, that is, for each label and combination of values of the columns `places`.

    The other columns of the table are:

    - `setting`: the chosen setting;
    - `mean`, `low`, `high`, `n`: the mean of `column` with its interval, as in `Interval`;
    - `values`: one value of `column` for each unit;
    - `edge`: the knobs whose chosen value is the smallest or largest one that was tried;
    - `fits`: the number of fits that were computed for the point;
    - `failed`: the number of these fits that failed.
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
        if len(measured) < len(values):  # if a fit failed, the mean of the other fits has no interval
            found = Interval(float(measured.mean()), math.nan, math.nan, measured.index.nunique())
        row = dict(zip(keys, at, strict=True)) | {"setting": part["setting"].iloc[0], **found._asdict()}
        row |= {"values": measured.groupby(level=unit).mean().tolist(), "edge": part["edge"].iloc[0]}
        rows.append(row | {"fits": len(every), "failed": int(every["failed"].fillna("").astype(bool).sum())})
    return pd.DataFrame(rows, columns=[*keys, "setting", *Interval._fields, "values", "edge", "fits", "failed"])
