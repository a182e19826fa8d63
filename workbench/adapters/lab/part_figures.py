"""Figures of what single parts of Bone bring, and what the rank does."""

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
    """Loss of MiSS and Bat-row, and of each with one part taken away or replaced; and what that part brings, seed by seed."""
    labels = places(records, "label")
    whole = {x: "miss" if x in ("miss", "orthogonal A") else "bat-row" for x in labels}
    panels = [Panel("", LOSS), Panel("below its method (dashed)", LOSS, {}, "its method's loss minus its, same seed", whole)]
    with figure() as fig:
        for axes, panel in zip(rows(fig, records, panels, STYLE, labels), panels, strict=True):
            few_ticks(axes, panel, records, labels)
        found = [
            (LOSS.lead(records, one, over), words)
            for one, over, words in (
                ("miss", "orthogonal A", "the tiling brings"),
                ("bat-row", "W permuted", "where W's entries stand brings"),
                ("bat-row", "without W", "that it has W at all brings"),
            )
        ]
        said = sentence("", found, "What the parts bring", "{1} {0}")
        return finish(fig, said[:1].upper() + said[1:], f"sums of two and three numbers; {NOTE.of(records)}")


def draw_ranks(records: Sequence[Record]) -> Figure:
    """First gradient norm, and loss, against the rank."""
    ranks = sorted({r["rank"] for r in records})
    with figure() as fig:
        for axes, (column, name) in zip(
            fig.subplots(1, 2), (("first_gradient", "first gradient's norm"), ("loss", "loss on test questions")), strict=True
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
        title = f"What rank {ranks[-1]} has gained over rank {ranks[0]}: {said}" if said else "Against the rank"
        note = f"at one rank LoRA has about twice the numbers of the others; {NOTE.of(records)}"
        return named(fig, title, note, labels)
