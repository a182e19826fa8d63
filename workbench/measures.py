"""How a column of a comparison's rows is shown and judged: axis and unit, a picture of rows, its note, the check of a claim.

A `Measure` says how to show one column, a `SeriesStyle` how to show the labels. `rows` draws one row for each label, `Note` words
what a reader must know about a picture, and `better` makes the check "one label is better than others" of a claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench import plotting
from workbench.experiment import Record
from workbench.inks import FAINT, INK
from workbench.intervals import ahead, interval, judging_rows, marks, refused, scores, summary
from workbench.verdicts import Finding, Verdict, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SeriesStyle:
    """The name, colour and marker of each label of a comparison; one without a style has its own name and a faint colour."""

    names: Mapping[str, str]
    colours: Mapping[str, str]
    markers: Mapping[str, str] = field(default_factory=dict)

    def name(self, label: str) -> str:
        """Return the display name of a label, by default the label itself."""
        return self.names.get(label, label)

    def colour(self, label: str) -> str:
        """Return the colour of the lines and points of a label, by default a faint one."""
        return self.colours.get(label, FAINT)

    def named(self, labels: Iterable[str]) -> dict[str, str]:
        """The distinct labels with their names, in order, as `plotting.finish` takes them."""
        return {label: self.name(label) for label in dict.fromkeys(labels)}

    def marker(self, label: str) -> str:
        """Return the marker of the points of a label, by default a circle."""
        return self.markers.get(label, "o")


@dataclass(frozen=True)
class Measure:
    """How a column of rows is shown: its axis label, the factor to its unit, digits in a sentence, which way is better."""

    column: str
    axis: str
    scale: float = 1.0  # 100: a share, in percent
    digits: int = 1
    lower: bool = False  # lower values are better

    def table(self, records: Sequence[Record], *places: str) -> pd.DataFrame:
        """`intervals.summary` of the column, in the measure's unit."""
        name = self.column
        rows = [{**r, name: self.scale * r[name]} if r.get(name) is not None else r for r in records]
        return summary(rows, name, *places)

    def scores(self, records: Sequence[Record], **where: Any) -> pd.Series:
        """`intervals.scores` of the column, one value for each seed, in the measure's unit."""
        return self.scale * scores(records, self.column, **where)

    def gap(self, records: Sequence[Record], one: Any, over: Any, by: str = "label", **where: Any) -> pd.Series:
        """Return by how much `one` is better than `over`, one value for each seed; both are values of the column `by`."""
        first, second = (scores(records, self.column, **{by: name}, **where) for name in (one, over))
        return self.scale * (second - first if self.lower else first - second)

    def lead(self, records: Sequence[Record], one: str, over: str, **where: Any) -> str:
        """The mean of `gap` as text, with a 95 % interval if there are enough seeds, "" if no seed has a value for both."""
        return ahead(self.gap(records, one, over, **where), self.digits)


def places(records: Sequence[Record], name: str) -> list[Any]:
    """The distinct values of a column (stream, part, rates, label), in the order of the comparison."""
    return list(dict.fromkeys(r[name] for r in records if name in r))


def at(records: Sequence[Record], **where: Any) -> list[Record]:
    """Return the rows in which each column named in `where` has the given value."""
    return [r for r in records if all(r.get(name) == value for name, value in where.items())]


def sentence(begins: str, parts: Iterable[tuple[str, str]], otherwise: str, form: str = "{} ({})") -> str:
    """`begins`, then each pair (found, where) as ``found (where)``; `otherwise` where nothing has been found yet."""
    said = "; ".join(form.format(found, where) for found, where in parts if found)
    return f"{begins}{said}" if said else otherwise


@dataclass(frozen=True)
class Note:
    """The note below the pictures of a lab: how settings were chosen, what the marks show, which fits failed."""

    tuned: str  # how settings were chosen, with {tried} for how many there were
    plain: str  # the same where each point has one setting
    edge: str = "a setting chosen at an end of those tried"
    spared: str = ""  # added if fits failed, but none of a chosen setting
    failed: str = "{failed} of {fits} fits failed"
    units: str = "seeds"

    def of(self, records: Sequence[Record], drawn: str = "") -> str:
        """The note for these rows; `drawn` describes the marks where they are not the usual ones."""
        judging = judging_rows(records)
        tried = max((r.get("tried", 1) for r in judging), default=1)
        text = (self.tuned if tried > 1 else self.plain).format(tried=tried) + (drawn or marks(records, self.units))
        if self.edge and any(r.get("edge") for r in judging):
            text += f"; diamond: {self.edge}"
        failed = [r for r in records if r.get("failed")]
        if failed:
            text += ". " + self.failed.format(failed=len(failed), fits=len(records))
            text += "" if any(r.get("failed") for r in judging) else self.spared
        return text


# -- a picture of rows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A measure where the columns `where` have these values. With `over`: how much better each label is than another one."""

    title: str
    measure: Measure
    where: Mapping[str, Any] = field(default_factory=dict)
    axis: str = ""  # label of the x-axis; by default that of the measure
    over: Mapping[str, str] | None = None


def rows(
    fig: Figure,
    records: Sequence[Record],
    panels: Sequence[Panel],
    style: SeriesStyle | None,
    labels: Sequence[str] | None = None,
    row: str = "label",
    colour: str = INK,
    missing: str = "",
) -> list[Axes]:
    """Draw panels beside one another, each with one row (mean and spread) for each label; returns their axes.

    `labels` are the rows from top to bottom, by default all in the order of the comparison. A row may stand for the values of
    another column, named by `row`. Without a `style` all rows have one `colour`. `missing` is written in a row none of whose
    fits has worked. In a panel with `over` a dashed line marks 0.
    """
    found = list(labels or places(judging_rows(records), row))
    grid = fig.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=False):
        axes.set(title=panel.title, xlabel=panel.axis or panel.measure.axis)
        if panel.over is not None:
            axes.axvline(0, color=INK, linestyle="--", linewidth=1.1)
        for _, one in _table(records, panel, found, row).iterrows():
            place = found.index(one[row])
            if one["n"] or not missing:
                plotting.point(axes, place, one, style.colour(one[row]) if style else colour, across=True)
            else:
                words = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 7.5}
                axes.text(0.04, place, missing, **words)
        if style:
            plotting.name_rows(axes, found, style.names, style.colours)
        else:
            axes.set_ylim(len(found) - 0.5, -0.5)
            axes.set_yticks(range(len(found)), labels=found)
    return list(grid)


def _table(records: Sequence[Record], panel: Panel, labels: Sequence[str], row: str) -> pd.DataFrame:
    """The rows of a panel: means of the measure, or of how much better it is than elsewhere, seed by seed."""
    here = at(records, **panel.where)
    if panel.over is None:
        table = panel.measure.table(here, *([] if row == "label" else [row]))
        return table[table[row].isin(labels)]
    drawn = []
    for one, other in panel.over.items():
        if one not in labels:
            continue
        gap = panel.measure.gap(here, one, other, row).dropna()
        if one != other and len(gap):
            drawn.append({row: one, **interval(gap)._asdict(), "edge": "", "values": gap.tolist()})
    return pd.DataFrame(drawn)


# -- the check of a claim --------------------------------------------------------------------------------------------------------


def better(
    measure: Measure,
    one: Any,
    *over: Any,
    say: Callable[[Any, Any, Any], str],
    by: str = "label",
    per: str = "",
    among: Sequence[Any] = (),
    low: float = 0.0,
    high: float = math.inf,
    absent: str = "",
    **where: Any,
) -> Callable[[list[Record]], Verdict]:
    """Return the check of a claim: seed by seed, `one` is better than each of `over` by more than `low` and less than `high`.

    `one` and `over` are labels, or values of the column `by`. With `per`, it must hold at each value of that column (or at those
    in `among`). ``say(one, other, value of per)`` words a finding. `where` restricts the rows. With
    `absent`, the claim is open, for this reason, while there are no rows at these values.
    """

    def check(records: list[Record]) -> Verdict:
        if not records or (absent and not at(records, **where)):
            return Verdict("open", absent) if absent else verdict()
        spots = [{per: p} for p in places(records, per) if not among or p in among] if per else [{}]
        found = [
            Finding(say(one, other, spot.get(per)), interval(measure.gap(records, one, other, by, **where, **spot)), low, high)
            for spot in spots
            for other in over
        ]
        if not found and absent:
            return Verdict("open", absent)
        judged = verdict(*found)
        compared = [r for name in (one, *over) for spot in spots for r in at(records, **{by: name}, **where, **spot)]
        return replace(judged, measured=". ".join(filter(None, (judged.measured, refusals(compared, not measure.lower)))))

    return check


def refusals(records: Sequence[Record], higher: bool = True) -> str:
    """Sentences on candidates that could not be chosen since they failed on some seeds, but were better on the others; or ""."""
    points: dict[str, list[Record]] = {}
    for record in records:
        if "setting" not in record:
            continue
        settings = {part.partition("=")[0] for part in record["setting"].split(", ")}
        head = list(record)[: list(record).index("setting")]
        points.setdefault(", ".join(str(record[name]) for name in head if name not in settings), []).append(record)
    return ". ".join(
        f"{point}: {lost.setting} failed on {lost.failed} of {lost.seeds} choosing seeds, so it could not be chosen; "
        f"on the others it scored {100 * lost.score:.1f} % on validation data, the chosen setting {100 * lost.chosen:.1f} %"
        for point, rows in points.items()
        for lost in refused(rows, higher=higher)
    )
