"""Draw one column of a comparison's records, and check claims about this column.

A label names what is compared, such as a method. A `Measure` describes how to show one column, and a `SeriesStyle` how to show
the labels. `rows` draws a figure with one row for each label, and a `Note` is the text below the figure. `better` returns the
check of a claim that one label is better than others.
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
    """The name, colour and marker of each label of a comparison.

    A label without an entry is shown as it is, in a faint colour and with a circle as its marker.
    """

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
        """Return a dict from each distinct label to its name, in order, for the argument `names` of `plotting.finish`."""
        return {label: self.name(label) for label in dict.fromkeys(labels)}

    def marker(self, label: str) -> str:
        """Return the marker of the points of a label, by default a circle."""
        return self.markers.get(label, "o")


@dataclass(frozen=True)
class Measure:
    """One column of the records: the axis label, unit and digits with which it is shown, and which of two values is better."""

    column: str
    axis: str  # label of the axis
    scale: float = 1.0  # factor that converts values to the unit shown; 100 shows a share in percent
    digits: int = 1  # number of decimals in a sentence
    lower: bool = False  # whether lower values are better

    def table(self, records: Sequence[Record], *places: str) -> pd.DataFrame:
        """Return `intervals.summary` of the column, in the unit of the measure."""
        name = self.column
        rows = [{**r, name: self.scale * r[name]} if r.get(name) is not None else r for r in records]
        return summary(rows, name, *places)

    def scores(self, records: Sequence[Record], **where: Any) -> pd.Series:
        """Return `intervals.scores` of the column, in the unit of the measure: one value for each seed."""
        return self.scale * scores(records, self.column, **where)

    def gap(self, records: Sequence[Record], one: Any, over: Any, by: str = "label", **where: Any) -> pd.Series:
        """Return by how much the label `one` is better than the label `over`, as a series with one value for each seed.

        The result is in the unit of the measure. `one` and `over` may also be values of another column `by`.
        """
        first, second = (scores(records, self.column, **{by: name}, **where) for name in (one, over))
        return self.scale * (second - first if self.lower else first - second)

    def lead(self, records: Sequence[Record], one: str, over: str, **where: Any) -> str:
        """Return the mean of `gap` as text, with a 95 % interval if there are enough seeds.

        The text is empty if no seed has values for both labels.
        """
        return ahead(self.gap(records, one, over, **where), self.digits)


def places(records: Sequence[Record], name: str) -> list[Any]:
    """Return the distinct values of the column `name`, such as the label, in the order of the records."""
    return list(dict.fromkeys(r[name] for r in records if name in r))


def at(records: Sequence[Record], **where: Any) -> list[Record]:
    """Return the records in which each column named in `where` has the given value."""
    return [r for r in records if all(r.get(name) == value for name, value in where.items())]


def sentence(begins: str, parts: Iterable[tuple[str, str]], otherwise: str, form: str = "{} ({})") -> str:
    """Return a sentence: `begins`, followed by each pair ``(found, where)`` of `parts` in the format `form`.

    Pairs with an empty text `found` are left out. If no pair remains, the result is `otherwise`.
    """
    said = "; ".join(form.format(found, where) for found, where in parts if found)
    return f"{begins}{said}" if said else otherwise


@dataclass(frozen=True)
class Note:
    """The note below a figure, which explains how settings were chosen, what the marks show, and how many fits failed."""

    tuned: str  # text that explains how settings were chosen; {tried} stands for the number of settings tried
    plain: str  # text that replaces `tuned` if no more than one setting was tried
    edge: str = "a chosen value is the smallest or largest tried"
    spared: str = ""  # text that is added if some fits failed, but no fit with a chosen setting
    failed: str = "{failed} of {fits} fits failed"
    units: str = "seeds"

    def of(self, records: Sequence[Record], drawn: str = "") -> str:
        """Return the note for these records. `drawn` describes the marks; if it is empty, `intervals.marks` describes them."""
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


# -- a figure of rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: the measure of each label or, if `over` is given, how much better one label is than another."""

    title: str
    measure: Measure
    where: Mapping[str, Any] = field(default_factory=dict)  # the values that columns of the records must have
    axis: str = ""  # label of the x-axis; by default that of the measure
    over: Mapping[str, str] | None = None  # for each label, the label with which it is compared


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
    """Draw panels side by side, each with one row (mean and interval) for each label; return their axes.

    `labels` are the labels from top to bottom, by default all of them in the order of the records. If `row` names another column,
    there is one row for each value of that column. Without a `style`, all rows have the colour `colour`. If all fits of a row
    failed, the text `missing` is written in that row. In a panel that has the field `over`, a dashed line marks 0.
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
    """Return the table of a panel: the mean and interval of the measure, or of the paired differences if `over` is given."""
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
    """Return the check of the claim that `one` is better than each of `over`, by more than `low` and less than `high`.

    The differences are paired by seed. `one` and `over` are labels, or values of the column `by`. If `per` names a column, the
    claim must hold at each value of that column. If `among` is given too, the claim must hold only at the values in `among`.
    ``say(one, other, value)`` returns the text of a finding; `value` is the value of the column `per`. `where` gives the values
    that other columns must have. If no record has these values and `absent` is given, the claim is open for the reason `absent`.
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
    """Return sentences about settings that failed on some seeds, but were better than the chosen setting on the others.

    The text is empty if there are no such settings.
    """
    points: dict[str, list[Record]] = {}
    for record in records:
        if "setting" not in record:
            continue
        settings = {part.partition("=")[0] for part in record["setting"].split(", ")}
        head = list(record)[: list(record).index("setting")]
        points.setdefault(", ".join(str(record[name]) for name in head if name not in settings), []).append(record)
    return ". ".join(
        f"{point}: {lost.setting} failed on {lost.failed} of the {lost.seeds} seeds that choose the setting, so it could not be "
        f"chosen; on the others it scored {100 * lost.score:.1f} % on validation data, and the chosen setting scored "
        f"{100 * lost.chosen:.1f} %"
        for point, rows in points.items()
        for lost in refused(rows, higher=higher)
    )
