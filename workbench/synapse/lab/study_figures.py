"""Figures of the comparisons. Every point is shown at its best learning rate, which is chosen on validation digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from workbench.experiment import Record, signed
from workbench.intervals import interval, judging_rows, scores, summary
from workbench.plotting import cells, dots, figure, finish, greek, name_ends, series, target
from workbench.synapse.lab.figures import ACCURACY, COLOURS, NOTE, SHORT, STYLE, STYLES


def accuracies(records: Sequence[Record], *columns: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables of accuracies in percent, with their intervals: one for networks of devices, and one for software.

    The tables have one row for each label and each combination of values of `columns`. Labels without a colour are left out.
    """
    table = ACCURACY.table(records, *columns)
    table = table[table["label"].isin(COLOURS)]
    software = table["label"] == "software"
    return table[~software], table[software]


def note_of_means(records: Sequence[Record]) -> str:
    """Return the note below a figure that shows means without intervals."""
    runs = len({r["seed"] for r in judging_rows(records)})
    return replace(NOTE, edge="").of(records, f"mean of {runs} runs")


def uni_over(records: Sequence[Record], over: str, **where: object) -> str:
    """Return the lead of unidirectional updating over the scheme `over` as text, or "" if a result is missing.

    `where` gives the values that columns of the records must have.
    """
    found = ACCURACY.lead(records, "uni", over, **where)
    return f"{found} points over {SHORT[over]}" if found else ""


def _lines(records: Sequence[Record], x: str, title: str, xlabel: str, panel: str = "", **settings) -> Figure:
    """Draw accuracy against the column `x`, with a line for each series and a panel for each value of the column `panel`."""
    table, software = accuracies(records, x, *([panel] if panel else []))
    parts = list(table.groupby(panel, sort=False)) if panel else [("", table)]
    with figure() as fig:
        axes = None
        for axes, (name, part) in zip(fig.subplots(1, max(len(parts), 1), sharey=True, squeeze=False)[0], parts, strict=False):
            series(axes, part, x, COLOURS, STYLES)
            if len(software):
                target(axes, software["mean"].iloc[0], "software")
            axes.set(xlabel=xlabel, title=greek(str(name)), **settings)
            if "xscale" in settings:
                ticks = sorted(set(part[x]))
                axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
                axes.minorticks_off()
        fig.axes[0].set_ylabel("accuracy (%)")
        if panel:
            return finish(fig, title, NOTE.of(records), STYLE.named([*software["label"], *table["label"]]), COLOURS)
        if axes is not None:
            name_ends(axes, SHORT)
        return finish(fig, title, NOTE.of(records))


def _dots(records: Sequence[Record], group: str, title: str, panel: str = "") -> Figure:
    """Draw the accuracy of each series as a dot with its interval, grouped by the column `group`.

    The accuracy of software is drawn as a line. There is one panel for each value of the column `panel`.
    """
    table, software = accuracies(records, group, *([panel] if panel else []))
    parts = list(table.groupby(panel, sort=False)) if panel else [("", table)]
    with figure() as fig:
        grid = fig.subplots(1, max(len(parts), 1), sharey=True, squeeze=False)[0]
        for axes, (name, part) in zip(grid, parts, strict=False):
            dots(axes, part, group, COLOURS)
            if len(software):
                target(axes, software["mean"].iloc[0], "software", across=True)
            axes.set(xlabel="accuracy (%)", title=greek(str(name)))
        return finish(fig, title, NOTE.of(records), STYLE.named([*software["label"], *table["label"]]), COLOURS)


def draw_nonlinearity(records: Sequence[Record]) -> Figure:
    """Draw accuracy against the nonlinearity nu of LTP and mirrored LTD."""
    found = uni_over(records, "push-pull", nu=5.0)
    title = f"Nonlinear devices (ν = 5): unidirectional accuracy {found}" if found else "Accuracy against nonlinearity"
    return _lines(records, "nu", title, "nonlinearity ν of LTP and of mirrored LTD (0: linear)")


def draw_abruptness(records: Sequence[Record]) -> Figure:
    """Draw accuracy against the nonlinearity nu of LTD."""
    found = uni_over(records, "push-pull", nu=10.0)
    title = f"Abrupt LTD (ν = 10): unidirectional accuracy {found}" if found else "Accuracy against the abruptness of LTD"
    return _lines(records, "nu", title, "nonlinearity ν of LTD (ν of LTP: 1); a large ν is abrupt LTD")


def draw_levels(records: Sequence[Record]) -> Figure:
    """Draw accuracy against the number of levels."""
    table, software = accuracies(records, "levels")
    uni, title = table[table["label"] == "uni"], "Accuracy against the number of levels"
    if len(uni) and len(software):
        last = uni.sort_values("levels").iloc[-1]
        gap = software["mean"].iloc[0] - last["mean"]
        title = f"With {last['levels']} levels, the unidirectional accuracy is {gap:.1f} points below software"
    return _lines(records, "levels", title, "levels (pulses from Gmin to Gmax)", xscale="log")


def draw_variation(records: Sequence[Record]) -> Figure:
    """Draw accuracy against the device-to-device spread, with one panel for each kind of spread."""
    words = []
    for kind in ("step", "range"):
        lost = _loss(records, {"kind": kind, "sigma": 0.0}, {"kind": kind, "sigma": 0.3})
        if lost:
            words.append(f"with a {kind} spread of 0.3: {lost}")
    title = f"Points of accuracy lost {'; '.join(words)}" if words else "Accuracy against variation"
    return _lines(records, "sigma", title, "device spread (std. deviation / mean)", "kind")


def _loss(records: Sequence[Record], alike: dict, spread: dict, labels: Sequence[str] = ("uni", "push-pull")) -> str:
    """Return the percentage points of accuracy that each scheme in `labels` loses, as text.

    The loss is the accuracy of the records whose columns equal `alike`, minus that of the records whose columns equal `spread`.
    """
    words = []
    for label in labels:
        before, after = (scores(records, "accuracy", label=label, **where) for where in (alike, spread))
        lost = 100 * (before - after)
        if len(lost.dropna()):
            words.append(f"{SHORT[label]} {lost.mean():.1f}".replace(" -", " −"))
    return ", ".join(words)


def draw_batches(records: Sequence[Record]) -> Figure:
    """Draw accuracy against the batch size, with one panel for each device response."""
    lost = _loss(records, {"response": "linear", "batch": 1}, {"response": "linear", "batch": 10})
    title = (
        f"Points of accuracy lost at batch size 10 instead of 1, on linear devices: {lost}"
        if lost
        else "Accuracy against the batch size"
    )
    return _lines(records, "batch", title, "batch size", "response", xscale="log")


def draw_schemes(records: Sequence[Record]) -> Figure:
    """Draw the accuracy of all schemes on each device response. The accuracy of software is drawn as a line."""
    parts = [("abrupt LTD", "abrupt LTD"), ("nu = 5", "ν = 5"), ("nu = 5, retraced", "retraced")]
    found = [(name, uni_over(records, "alternating", response=response)) for response, name in parts]
    words = ", ".join(f"{words.partition(' ')[0]} ({name})" for name, words in found if words)
    return _dots(
        records,
        "response",
        f"Unidirectional minus alternating accuracy, in points: {words}"
        if words
        else "Accuracy of the schemes by device response",
    )


def draw_factors(records: Sequence[Record]) -> Figure:
    """Draw the accuracy with one imperfection removed at a time."""
    table, _ = accuracies(records, "without")
    uni = table[table["label"] == "uni"].set_index("without")["mean"]
    title = "Accuracy with one imperfection removed"
    if "as it is" in uni and len(uni) > 1:
        gain = (uni - uni["as it is"]).drop("as it is")
        low, high = (f"{signed(gain[name], 1)} ({name})" for name in (gain.idxmin(), gain.idxmax()))
        title = f"A single change alters the unidirectional accuracy by {low} to {high} points"
    return _dots(records, "without", title)


def draw_rules(records: Sequence[Record]) -> Figure:
    """Draw the accuracy of all schemes under each rule, with one panel for each device response."""
    table, _ = accuracies(records, "rule", "response")
    uni, title = table[table["label"] == "uni"], "Accuracy under each update rule"
    if len(uni):
        best, worst = uni.loc[uni["mean"].idxmax()], uni.loc[uni["mean"].idxmin()]
        low = f"{worst['mean']:.0f} % ({worst['rule']}, {worst['response']})"
        title = f"Unidirectional accuracy under these rules: {low} to {best['mean']:.0f} % ({best['rule']})"
    return _dots(records, "rule", greek(title), "response")


def draw_compensation(records: Sequence[Record]) -> Figure:
    """Draw one map for each scheme: the accuracy lost through each kind of variation (rows) under each update rule (columns)."""
    table, _ = accuracies(records, "rule", "kind")
    lost = {label: _lost(part) for label, part in table.groupby("label", sort=False)}
    most = max((part.max().max() for part in lost.values() if part.size), default=1.0)
    kinds = list(dict.fromkeys(kind for part in lost.values() for kind in part.index))
    with figure() as fig:
        grid = fig.subplots(1, max(len(lost), 1), sharey=True, squeeze=False)[0]
        for axes, (label, part) in zip(grid, lost.items(), strict=False):
            if kinds:
                cells(axes, part.reindex(kinds), max(most, 1.0))
            axes.set_title(SHORT[label])
            axes.tick_params(axis="x", rotation=60)
        worst = {label: part.max().max() for label, part in lost.items() if part.size and part.notna().any().any()}
        words = ", ".join(f"{SHORT[label]} {value:.0f}" for label, value in worst.items())
        title = f"Largest loss of accuracy through variation, in points: {words}" if words else "Points lost through variation"
        return finish(fig, title, note_of_means(records) + ". Negative numbers: points gained; dot: not measured")


def _lost(part: pd.DataFrame) -> pd.DataFrame:
    """Return the percentage points that one scheme loses through each kind of variation (rows) under each rule (columns).

    Each loss is relative to the accuracy on the same device response without variation.
    """
    wide = part.pivot_table(index="kind", columns="rule", values="mean", sort=False)
    found = {}
    for kind in wide.index:
        alike = "nu = 3" if kind.startswith("nu = 3") else "none"
        if kind != alike and alike in wide.index:
            found[kind] = wide.loc[alike] - wide.loc[kind]
    return pd.DataFrame(found, index=wide.columns).T


def draw_refresh(records: Sequence[Record]) -> Figure:
    """Draw accuracy and refresh pulses against the refresh period.

    There is one line for each device response, and a single point for each refresh policy.
    """
    never = 30_000
    with figure() as fig:
        both = fig.subplots(1, 2)
        for axes, column, factor in zip(both, ("accuracy", "refresh_cost"), (100, 1), strict=True):
            rows = [{**r, column: factor * r[column]} for r in records if r.get(column) is not None]
            rows = [{**r, "period": r["period"] or never, "label": _line_of(r)} for r in rows]
            table = summary(rows, column, "period") if rows else pd.DataFrame(columns=["label"])
            series(axes, table, "period", REFRESH_COLOURS, {"nu = 3": "--"})
            axes.set(xlabel="samples between refreshes", xscale="log")
            axes.set_xticks([100, 300, 1000, 3000, 10_000, never], labels=["100", "300", "1k", "3k", "10k", "never"])
            axes.minorticks_off()
        both[0].set_ylabel("accuracy (%)")
        both[1].set_ylabel("refresh pulses per training pulse")
        words = []
        for response in dict.fromkeys(r["response"] for r in records if r["label"] == "uni"):
            at = {"label": "uni", "response": response}
            gain = ACCURACY.gap(records, 1000, 0, "period", **at).dropna()
            if len(gain):
                words.append(f"{signed(interval(gain).mean, 1)} ({greek(response)})")
        title = (
            f"Points of accuracy gained by refresh every 1,000 samples: {', '.join(words)}"
            if words
            else "Accuracy and refresh pulses against the refresh period"
        )
        names = {name: greek(name) for name in REFRESH_COLOURS}
        return finish(fig, title, NOTE.of(records), names, REFRESH_COLOURS)


REFRESH_COLOURS = {
    "linear": COLOURS["uni"],
    "nu = 3": COLOURS["uni, no refresh"],
    "open-loop": COLOURS["push-pull"],
    "write-verify": COLOURS["alternating"],
    "ideal": COLOURS["reference"],
}


def _line_of(record: Record) -> str:
    return record["response"] if record["label"] == "uni" else record["label"]
