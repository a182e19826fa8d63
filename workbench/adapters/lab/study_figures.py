"""Figures of the comparisons of methods.

A method's own rate is the learning rate that was chosen for this method on held-out questions. The shared rate is one
learning rate for all methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from workbench.adapters.lab.colours import FORGETTING, LOSS, MARKERS, MODEL_NAMES, NAMES, NOTE, STYLE
from workbench.experiment import Record
from workbench.inks import FAINT, INK, text
from workbench.intervals import interval, judging_rows, summary
from workbench.measures import Measure, Panel, at, rows, sentence
from workbench.plotting import figure, finish


def at_both(records: Sequence[Record], one: str, over: str, measure: Measure = LOSS) -> list[tuple[str, str]]:
    """Return two pairs of texts for `sentence`: one for the shared learning rate, and one for each method's own rate.

    A pair holds the advantage of the method `one` over the method `over`, with its confidence interval, and a phrase that says
    which learning rates the methods have.
    """
    words = {"shared": "at the same rate", "own": "each at its own rate"}
    return [(measure.lead(records, one, over, rates=rates), said) for rates, said in words.items()]


def in_order(records: Sequence[Record]) -> list[str]:
    """Return the labels in the records, in the order of all figures. Labels outside `NAMES` (adapters of PEFT) come last."""
    found = dict.fromkeys(r["label"] for r in records)
    return [*(name for name in NAMES if name in found), *(name for name in found if name not in NAMES)]


def draw_methods(records: Sequence[Record]) -> Figure:
    """Draw the test loss with the same learning rate for all methods, and with the best learning rate of each method.

    A third panel shows the advantage over LoRA at the best learning rates, as the difference between fits with the same seed.
    """
    labels, own = in_order(records), {"rates": "own"}
    panels = [
        Panel("all at the same rate", LOSS, {"rates": "shared"}),
        Panel("each at its own rate", LOSS, own),
        Panel("advantage over LoRA", LOSS, own, "nats per token", dict.fromkeys(labels, "lora")),
    ]
    with figure() as fig:
        for axes, panel in zip(rows(fig, records, panels, STYLE, labels), panels, strict=True):
            few_ticks(axes, panel, records, labels)
        model = next((f"{MODEL_NAMES.get(r['model'], r['model'])}, " for r in records if "model" in r), "")
        guesses = (f"; loss of a guess that ignores the question: {r['guess']:.2f}" for r in records if r.get("guess"))
        title = sentence("Advantage of MiSS over LoRA, nats per token: ", at_both(records, "miss", "lora"), "Methods", "{} {}")
        return finish(
            fig,
            title,
            f"{model}sums of two and three numbers{next(guesses, '')}; "
            f"advantage: loss reduction at the same seed, each at its own rate; {NOTE.of(records)}",
        )


def few_ticks(axes: Axes, panel: Panel, records: Sequence[Record], labels: Sequence[str]) -> None:
    """Reduce the number of ticks. If one loss is far above the others, write it at the edge of the axes.

    The axes then cover only the other losses, so that these can be distinguished.
    """
    axes.locator_params(axis="x", nbins=4)
    if panel.over is None:
        table = panel.measure.table(at(records, **panel.where))
        _at_the_edge(axes, table[table["n"] > 0], {label: place for place, label in enumerate(labels)})


def _at_the_edge(axes: Axes, rows: pd.DataFrame, heights: Mapping[str, float]) -> None:
    """Write the largest mean at the edge of the axes if it is far above the other means.

    This is the case if there are at least four other means, and the largest mean exceeds all of them by more than twice their
    range.
    """
    *rest, last = rows.sort_values("mean").to_dict("records") or [None]
    span = rest[-1]["mean"] - rest[0]["mean"] if len(rest) > 3 else np.inf
    if span < np.inf and last["mean"] - rest[-1]["mean"] > 2 * span:
        edge = rest[-1]["mean"] + span / 2
        axes.set_xlim(rest[0]["mean"] - span / 5, edge)
        style = {"ha": "right", "va": "center", "fontsize": 8, "color": text(STYLE.colour(last["label"]))}
        axes.text(edge, heights[last["label"]], f"{STYLE.name(last['label'])} {last['mean']:.2f} \u2192", **style)


def draw_forgetting(records: Sequence[Record]) -> Figure:
    """Draw forgetting (the rise of the loss on prose) against the test loss.

    The panels show the methods at the same learning rate, at the best learning rate of each, and at every rate that was tried.
    """
    labels = [label for label in ("lora", "dora", "pissa", "hira", "miss", "bat-row", "full") if at(records, label=label)]
    with figure() as fig:
        *judged, path = fig.subplots(1, 3, sharey=True)
        for axes, rates, name in zip(judged, ("shared", "own"), ("all at the same rate", "each at its own rate"), strict=True):
            for label in labels:
                rows = [r for r in judging_rows(at(records, label=label, rates=rates)) if "forgetting" in r]
                if rows:
                    x, y = np.array([(r["loss"], r["forgetting"]) for r in rows]).T
                    axes.plot(x, y, ".", color=STYLE.colour(label), markersize=4, alpha=0.6)
                    axes.plot(x.mean(), y.mean(), STYLE.marker(label), color=STYLE.colour(label), markersize=7)
            axes.set(title=name, xlabel="test loss, nats per token")
            rows = [r for r in at(records, rates=rates) if r["label"] in labels]
            heights = summary(rows, "forgetting").set_index("label")["mean"].to_dict()
            _at_the_edge(axes, summary(rows, "loss").dropna(subset="mean"), heights)
        low = min((r["loss"] for r in records if r.get("loss") is not None), default=0.0)
        for label in labels:
            rows = [r for r in at(records, label=label, phase="choose") if r.get("forgetting") is not None]
            if rows:
                means = pd.DataFrame(rows).groupby("lr")[["loss", "forgetting"]].mean()
                path.plot(
                    *means.T.to_numpy(),
                    marker=STYLE.marker(label),
                    markersize=3.5,
                    color=STYLE.colour(label),
                    linewidth=_width(label),
                )
        path.set(title="at every rate tried", xlabel="test loss, nats per token", xlim=(low - 0.03, low + 0.3))
        judged[0].set(ylabel="rise of the prose loss, nats per token", yscale="log")
        log_ticks(judged[0].yaxis)
        found = at_both(records, "lora", "miss", FORGETTING)
        title = sentence("How much more MiSS forgets than LoRA, nats per token: ", found, "Learning and forgetting", "{} {}")
        note = NOTE.of(
            records, "small marks: one seed; large: mean; right: means of the seeds that choose the rate; lower left is better"
        )
        if any((r.get("forgetting") or 0) < 0 for r in records):
            note += "; negative values are not drawn"
        return named(fig, title, note, labels)


def _width(label: str) -> float:
    """Return the width of a line. The line of LoRA is the widest, since the line of DoRA covers most of it."""
    return 3 if label == "lora" else 1.3


def named(fig: Figure, title: str, note: str, labels: Sequence[str]) -> Figure:
    """Call `finish` with a legend that shows the colour and the marker of each method in `labels`."""
    names, colours = ({label: of(label) for label in labels} for of in (STYLE.name, STYLE.colour))
    return finish(fig, title, note, names, colours, MARKERS)


def log_ticks(axis: Axis) -> None:
    """Set a few ticks, labelled with plain numbers, on a logarithmic axis.

    The ticks are at 1, 2 and 5 in each decade if the range is below a factor of 20. Otherwise, they are at 1 and 3, or only at 1
    if the range touches more than 3 decades.
    """
    low, high = axis.get_view_interval()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if high < 20 * low else (1, 3) if len(decades) <= 4 else (1,)
    ticks = [step * 10.0**power for power in decades for step in steps if low <= step * 10.0**power <= high]
    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


SHOWN = ("lora", "lora+", "pissa", "hira", "miss", "bat-row", "full")  # drawn in colour; the other methods are grey


def draw_sweep(records: Sequence[Record]) -> Figure:
    """Draw the loss on held-out questions against the learning rate, and against the size of the first step at that rate."""
    tried = [r for r in records if r.get("phase") == "choose" and r.get("validation") is not None and not r.get("failed")]
    sizes = {r["label"]: r["step_size"] for r in records if r.get("step_size") is not None}
    labels = list(dict.fromkeys(r["label"] for r in tried))
    with figure() as fig:
        left, right = fig.subplots(1, 2, sharey=True)
        means = {
            label: pd.DataFrame([r for r in tried if r["label"] == label]).groupby("lr")["validation"].mean() for label in labels
        }
        best = {label: rows.idxmin() for label, rows in means.items()}
        for label, rows in means.items():
            look = {"color": STYLE.colour(label), "linewidth": 1.3} if label in SHOWN else {"color": FAINT, "linewidth": 0.5}
            for axes, size in ((left, 1.0), (right, sizes.get(label))):
                if size is not None:
                    axes.plot(rows.index * size, rows, **look)
                    if label in SHOWN:
                        axes.plot(best[label] * size, rows.min(), STYLE.marker(label), markersize=6, **look)
        for axes, name in ((left, "learning rate"), (right, "first step: mean weight change")):
            axes.set(xscale="log", xlabel=name)
            log_ticks(axes.xaxis)
        left.set_ylabel("held-out loss, nats per token")
        low = min((r["validation"] for r in tried), default=0.0)
        left.set_ylim(low - 0.05, low + 0.5)
        both = [label for label in ("miss", "lora") if label in best and label in sizes]
        title = "Best learning rate (mean weight change in the first step): " + ", ".join(
            f"{STYLE.name(label)} {best[label]:.2g} ({best[label] * sizes[label]:.2g})" for label in both
        )
        seeds = len({r["seed"] for r in tried})
        note = f"marks: best rate; lines: mean of the {seeds} seeds that choose the rate, cut off above {low + 0.5:.1f}"
        if others := len({*labels} - {*SHOWN}):
            steps = [best[label] * sizes[label] for label in best if label in sizes]
            note += f"; thin: {others} other methods; over all methods, the best rates differ by a factor of up to "
            note += f"{_apart([*best.values()])}, and the first steps at these rates by a factor of up to {_apart(steps)}"
        return named(fig, title if both else "Loss against the rate", note, [x for x in labels if x in SHOWN])


def _apart(values: Sequence[float]) -> str:
    return f"{max(values) / min(values):.2g}"


def draw_curves(records: Sequence[Record]) -> Figure:
    """Draw the held-out loss during training: all methods at the same learning rate, and each at its best learning rate."""
    judged = [r for r in judging_rows(records) if r.get("curve")]
    labels = [label for label in ("lora", "dora", "pissa", "lora-ga", "miss", "bat-row", "full") if at(judged, label=label)]
    with figure() as fig:
        for axes, (rates, name) in zip(
            fig.subplots(1, 2, sharey=True), (("shared", "all at the same rate"), ("own", "each at its own rate")), strict=True
        ):
            for label in labels:
                curves = np.array([r["curve"] for r in at(judged, label=label, rates=rates)])
                if len(curves):
                    axes.plot(
                        curves[0, 1:, 0],
                        curves[:, 1:, 1].mean(0),
                        marker=STYLE.marker(label),
                        markersize=3,
                        color=STYLE.colour(label),
                        linewidth=_width(label),
                        label=label,
                    )
            axes.set(title=name, xlabel="step")
        fig.axes[0].set_ylabel("held-out loss, nats per token")
        share, tuned = share_of_steps(judged, "miss", "lora"), at(judged, label="lora", rates="own")
        title = "Loss during training"
        if len(share):
            title = f"With each at its own rate, MiSS reaches LoRA's final loss (dashed) after {interval(share)} of the steps"
            last = np.mean([r["curve"][-1][1] for r in tuned])
            fig.axes[1].axhline(last, color=INK, linestyle="--", linewidth=1.1)
        note = f"mean of {len({r['seed'] for r in judged})} seeds; the loss before training is not drawn; the rate decays to zero"
        return named(fig, title, note, labels)


def share_of_steps(records: Sequence[Record], one: str, than: str) -> pd.Series:
    """Return, for each seed, the fraction of the steps after which the method `one` reaches the final loss of the method `than`.

    Both methods have their best learning rates. The loss between two evaluations is interpolated linearly. The fraction is 1 if
    `one` never reaches that loss.
    """
    found = {}
    for mine in at(judging_rows(records), label=one, rates="own"):
        other = next((r for r in at(judging_rows(records), label=than, rates="own") if r["seed"] == mine["seed"]), None)
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
        found[mine["seed"]] = float((steps[max(k - 1, 0)] + share * (steps[k] - steps[max(k - 1, 0)])) / steps[-1])
    return pd.Series(found, dtype=float).rename_axis("seed")
