"""Figures on the effect of single parts of MiSS and Bat-row, and on the effect of the rank."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from workbench.adapters.lab.colours import COLOURS, LOSS, MARKERS, NOTE, STYLE
from workbench.adapters.lab.study_figures import few_ticks, named
from workbench.experiment import Record
from workbench.intervals import interval, scores, summary
from workbench.measures import Panel, at, places, rows, sentence
from workbench.plotting import figure, finish, series


def draw_controls(records: Sequence[Record]) -> Figure:
    """Draw the test loss of MiSS, Bat-row and variants of them with one part changed, and the advantage of each variant.

    The advantage of a variant is the reduction of the loss compared with the unchanged method.
    """
    labels = places(records, "label")
    whole = {x: "miss" if x in ("miss", "orthogonal A") else "bat-row" for x in labels}
    panels = [Panel("", LOSS), Panel("advantage of the control", LOSS, {}, "nats per token", whole)]
    with figure() as fig:
        for axes, panel in zip(rows(fig, records, panels, STYLE, labels), panels, strict=True):
            few_ticks(axes, panel, records, labels)
        found = [
            (LOSS.lead(records, control, whole[control]), f"{STYLE.name(control)}:")
            for control in ("orthogonal A", "W permuted", "without W")
            if control in whole
        ]
        return finish(
            fig,
            sentence("Advantage over the unchanged method, nats per token: ", found, "Effect of the parts", "{1} {0}"),
            f"sums of two and three numbers; advantage: loss reduction at the same seed; {NOTE.of(records)}",
        )


def draw_ranks(records: Sequence[Record]) -> Figure:
    """Draw the norm of the first gradient, and the test loss, against the rank."""
    ranks = sorted({r["rank"] for r in records})
    with figure() as fig:
        for axes, (column, name) in zip(
            fig.subplots(1, 2), (("first_gradient", "norm of first gradient"), ("loss", "test loss, nats per token")), strict=True
        ):
            table = summary(records, column, "rank")
            series(axes, table, "rank", COLOURS, markers=MARKERS)
            axes.set(xlabel="rank", ylabel=name, xscale="log")
            axes.set_xticks(ranks, labels=[str(r) for r in ranks])
            axes.minorticks_off()
        labels = list(dict.fromkeys(r["label"] for r in records))
        found = [
            (
                label,
                scores(at(records, rank=ranks[0]), "loss", label=label)
                - scores(at(records, rank=ranks[-1]), "loss", label=label),
            )
            for label in labels
        ]
        said = ", ".join(f"{STYLE.name(label)} {interval(gap.dropna())}" for label, gap in found if len(gap.dropna()))
        title = f"Advantage of rank {ranks[-1]} over rank {ranks[0]}, nats per token: {said}" if said else "Effect of the rank"
        note = f"at the same rank, LoRA has about twice as many parameters as the others; {NOTE.of(records)}"
        return named(fig, title, note, labels)
