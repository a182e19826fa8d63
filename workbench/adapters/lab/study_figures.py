"""Rows of comparisons in, matplotlib figures out: every method at the rate that held-out questions chose for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from workbench.adapters.lab.colours import COLOURS, MARKERS, MODEL_NAMES, NAMES, colour, marker, spoken
from workbench.experiment import Record
from workbench.inks import INK
from workbench.intervals import ahead, chosen, interval, marks, scores, summary
from workbench.plotting import figure, finish, name_rows, point, series


def at(records: Sequence[Record], **where: object) -> list[Record]:
    """The rows at these places."""
    return [r for r in records if all(r.get(name) == value for name, value in where.items())]


def setting(records: Sequence[Record], drawn: str = "") -> str:
    """What a picture of these records owes to its reader, below it; `drawn`: its marks, where they are not the common ones."""
    judged = chosen(records)
    tried = max((r["tried"] for r in judged), default=1)
    said = f"own rate: the best of {tried} on held-out data; " if tried > 1 else ""
    said += drawn or marks(records)
    if any(r["edge"] for r in judged):
        said += "; diamond: at an end of the rates tried"
    failed = [r for r in records if r.get("failed")]
    return said + (f". {len(failed)} of {len(records)} fits failed" if failed else "")


def difference(
    records: Sequence[Record], one: str, over: str, column: str = "loss", **where: object
) -> pd.Series:
    """By how much one label's loss is below another's, a value a seed: above zero is better."""
    first, second = (scores(records, column, label=label, **where) for label in (one, over))
    return second - first


def lead(records: Sequence[Record], one: str, over: str, column: str = "loss", **where: object) -> str:
    """`difference` in words, with its interval where there are enough seeds; "" where one is missing yet."""
    return ahead(difference(records, one, over, column, **where), 3)


def draw_methods(records: Sequence[Record]) -> Figure:
    """Loss at the one rate and at each one's own, and there how far each is below LoRA, seed by seed."""
    labels = list(dict.fromkeys(r["label"] for r in records))
    with figure() as fig:
        axes_of = fig.subplots(1, 3, sharey=True)
        for axes, rates, name in zip(
            axes_of, ("shared", "own"), ("all at one rate", "each at its own"), strict=False
        ):
            for _, row in summary(at(records, rates=rates), "loss").iterrows():
                if row["n"]:
                    point(axes, labels.index(row["label"]), row, colour(row["label"]), across=True)
            name_rows(axes, labels, NAMES, COLOURS)
            axes.set(title=name, xlabel="loss on test questions")
        _below_lora(axes_of[2], records, labels)
        model = next((MODEL_NAMES.get(r["model"], r["model"]) for r in records if "model" in r), "")
        found = [
            (words, lead(records, "miss", "lora", rates=rates))
            for rates, words in (("shared", "at one rate"), ("own", "each at its own"))
        ]
        said = "; ".join(f"{gap} {words}" for words, gap in found if gap)
        title = f"MiSS's loss below LoRA's: {said}" if said else "Methods"
        return finish(
            fig, title, f"{model + ', ' if model else ''}sums of two and three numbers; {setting(records)}"
        )


def _below_lora(axes: Axes, records: Sequence[Record], labels: Sequence[str]) -> None:
    """LoRA's loss less each method's, both at their own rates and of the same seed."""
    axes.axvline(0, color=INK, linestyle="--", linewidth=1.1)
    for place, label in enumerate(labels):
        gap = difference(records, label, "lora", rates="own").dropna()
        if label != "lora" and len(gap):
            row = {**interval(gap)._asdict(), "edge": "", "values": gap.tolist()}
            point(axes, place, row, colour(label), across=True)
    name_rows(axes, labels, NAMES, COLOURS)
    axes.set(title="below LoRA, at its own", xlabel="difference, same seed")


def draw_forgetting(records: Sequence[Record]) -> Figure:
    """Learning against forgetting: loss on test questions, and the rise of the loss on prose; also at every rate tried."""
    labels = [
        label
        for label in ("lora", "dora", "pissa", "hira", "miss", "bat-row", "full")
        if at(records, label=label)
    ]
    with figure() as fig:
        *judged, path = fig.subplots(1, 3, sharey=True)
        for axes, rates, name in zip(
            judged, ("shared", "own"), ("all at one rate", "each at its own"), strict=True
        ):
            for label in labels:
                rows = [r for r in chosen(at(records, label=label, rates=rates)) if "forgetting" in r]
                if rows:
                    x, y = np.array([(r["loss"], r["forgetting"]) for r in rows]).T
                    axes.plot(x, y, ".", color=colour(label), markersize=4, alpha=0.6)
                    axes.plot(x.mean(), y.mean(), marker(label), color=colour(label), markersize=7)
            axes.set(title=name, xlabel="loss on test questions")
        low = min((r["loss"] for r in records if r.get("loss") is not None), default=0.0)
        for label in labels:
            rows = [r for r in at(records, label=label, phase="choose") if r.get("forgetting") is not None]
            if rows:
                means = pd.DataFrame(rows).groupby("lr")[["loss", "forgetting"]].mean()
                path.plot(*means.T.to_numpy(), marker=marker(label), markersize=3.5, color=colour(label))
        path.set(title="at every rate tried", xlabel="loss on test questions", xlim=(low - 0.03, low + 0.3))
        judged[0].set(ylabel="rise of the loss on prose", yscale="log")
        log_ticks(judged[0].yaxis)
        found = [
            (words, lead(records, "lora", "miss", "forgetting", rates=rates))
            for rates, words in (("shared", "at one rate"), ("own", "each at its own"))
        ]
        said = "; ".join(f"{gap} {words}" for words, gap in found if gap)
        title = f"MiSS forgets more than LoRA by {said}" if said else "Learning and forgetting"
        note = setting(
            records, "small: a seed; large: their mean; right: of the choosing seeds; lower left is better"
        )
        if any((r.get("forgetting") or 0) < 0 for r in records):
            note += "; what fell is not drawn"
        return _named(fig, title, note, labels)


def _named(fig: Figure, title: str, note: str, labels: Sequence[str]) -> Figure:
    """`finish` with every method's colour and marker."""
    names, colours = ({label: of(label) for label in labels} for of in (spoken, colour))
    return finish(fig, title, note, names, colours, MARKERS)


def log_ticks(axis: Axis) -> None:
    """Few plain numbers on a logarithmic axis: 1, 3 and 10 of each decade, or decades alone where there are many."""
    low, high = axis.get_view_interval()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 3) if len(decades) <= 4 else (1,)
    ticks = [step * 10.0**power for power in decades for step in steps if low <= step * 10.0**power <= high]
    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def draw_sweep(records: Sequence[Record]) -> Figure:
    """Loss on held-out questions against the rate, and against the size of the first step that it makes."""
    tried = [
        r
        for r in records
        if r.get("phase") == "choose" and r.get("validation") is not None and not r.get("failed")
    ]
    sizes = {r["label"]: r["step_size"] for r in records if r.get("step_size") is not None}
    labels = list(dict.fromkeys(r["label"] for r in tried))
    with figure() as fig:
        left, right = fig.subplots(1, 2, sharey=True)
        means = {
            label: pd.DataFrame([r for r in tried if r["label"] == label]).groupby("lr")["validation"].mean()
            for label in labels
        }
        for label, rows in means.items():
            look = {"marker": marker(label), "markersize": 3.5, "linewidth": 1.1, "color": colour(label)}
            left.plot(rows.index, rows, **look, label=label)
            if label in sizes:
                right.plot(rows.index * sizes[label], rows, **look)
        for axes, name in ((left, "learning rate"), (right, "first step: mean move of a weight")):
            axes.set(xscale="log", xlabel=name)
            log_ticks(axes.xaxis)
        left.set_ylabel("loss on held-out questions")
        low = min((r["validation"] for r in tried), default=0.0)
        left.set_ylim(low - 0.05, low + 1.0)
        rates = {label: rows.idxmin() for label, rows in means.items()}
        steps = [rate * sizes[label] for label, rate in rates.items() if label in sizes]
        title = f"Best rates lie {_apart([*rates.values()])} apart" if rates else "Loss against the rate"
        if steps:
            title += f", their first steps {_apart(steps)}"
        seeds = len({r["seed"] for r in tried})
        note = f"mean over the choosing seeds ({seeds}); what lies above {low + 1:.1f} is cut off"
        return _named(fig, title, note, labels)


def _apart(values: Sequence[float]) -> str:
    return f"{max(values) / min(values):.2g}-fold"


def draw_curves(records: Sequence[Record]) -> Figure:
    """Loss on held-out questions on the way, at the shared rate and at each one's own."""
    judged = [r for r in chosen(records) if r.get("curve")]
    labels = [
        label
        for label in ("lora", "dora", "pissa", "lora-ga", "miss", "bat-row", "full")
        if at(judged, label=label)
    ]
    with figure() as fig:
        for axes, (rates, name) in zip(
            fig.subplots(1, 2, sharey=True),
            (("shared", "all at one rate"), ("own", "each at its own")),
            strict=True,
        ):
            for label in labels:
                curves = np.array([r["curve"] for r in at(judged, label=label, rates=rates)])
                if len(curves):
                    axes.plot(
                        curves[0, 1:, 0],
                        curves[:, 1:, 1].mean(0),
                        marker=marker(label),
                        markersize=3,
                        color=colour(label),
                        label=label,
                    )
            axes.set(title=name, xlabel="step")
        fig.axes[0].set_ylabel("loss on held-out questions")
        share = reach(judged, "miss", "lora")
        title = "Loss on the way"
        if len(share):
            title = f"MiSS reaches tuned LoRA's last loss after this share of the steps: {interval(share)}"
        note = f"mean over seeds ({len({r['seed'] for r in judged})}), from the first look on"
        return _named(fig, title, note, labels)


def reach(records: Sequence[Record], one: str, than: str) -> pd.Series:
    """Steps to the other's last loss at its own rate, over all steps, a value a seed: linear between looks; 1 where never."""
    found = {}
    for mine in at(chosen(records), label=one, rates="own"):
        other = next(
            (r for r in at(chosen(records), label=than, rates="own") if r["seed"] == mine["seed"]), None
        )
        if other is None or not mine.get("curve") or not other.get("curve"):
            continue
        steps, losses = np.array(mine["curve"]).T
        target = other["curve"][-1][1]
        below = np.nonzero(losses <= target)[0]
        if not len(below):
            found[mine["seed"]] = 1.0
            continue
        k = below[0]
        share = 0.0 if k == 0 else (losses[k - 1] - target) / (losses[k - 1] - losses[k])
        found[mine["seed"]] = float(
            (steps[max(k - 1, 0)] + share * (steps[k] - steps[max(k - 1, 0)])) / steps[-1]
        )
    return pd.Series(found, dtype=float).rename_axis("seed")


def draw_controls(records: Sequence[Record]) -> Figure:
    """Loss of MiSS and Bat-row, and of each with one part taken away or replaced."""
    labels = list(dict.fromkeys(r["label"] for r in records))
    with figure() as fig:
        axes = fig.subplots()
        for _, row in summary(records, "loss").iterrows():
            if row["n"]:
                point(axes, labels.index(row["label"]), row, colour(row["label"]), across=True)
        name_rows(axes, labels, NAMES, COLOURS)
        axes.set(xlabel="loss on test questions")
        found = [
            (words, lead(records, one, over))
            for one, over, words in (
                ("miss", "orthogonal A", "the tiling brings"),
                ("bat-row", "W permuted", "W's own entries bring"),
            )
        ]
        said = "; ".join(f"{words} {gap}" for words, gap in found if gap)
        return finish(
            fig,
            said[:1].upper() + said[1:] if said else "What the parts bring",
            f"sums of two and three numbers; {setting(records)}",
        )


def draw_ranks(records: Sequence[Record]) -> Figure:
    """First gradient norm, and loss, against the rank."""
    with figure() as fig:
        for axes, (column, name) in zip(
            fig.subplots(1, 2),
            (("first_gradient", "first gradient's norm"), ("loss", "loss on test questions")),
            strict=True,
        ):
            table = summary(records, column, "rank")
            series(axes, table, "rank", COLOURS)
            axes.set(xlabel="rank", ylabel=name, xscale="log")
            ranks = sorted({r["rank"] for r in records})
            axes.set_xticks(ranks, labels=[str(r) for r in ranks])
            axes.minorticks_off()
        labels = dict.fromkeys(r["label"] for r in records)
        norms = summary(records, "first_gradient", "rank").groupby("label")["mean"].agg(["first", "last"])
        title = "; ".join(
            f"{spoken(label)}'s first gradient: {row['first']:.2g} to {row['last']:.2g}"
            for label, row in norms.iterrows()
            if row.notna().all()
        )
        return finish(
            fig,
            title or "Against the rank",
            setting(records),
            {label: spoken(label) for label in labels},
            COLOURS,
        )
