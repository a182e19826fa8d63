"""Figures of what single parts of Bone bring, and what the rank does."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from workbench.adapters.lab.colours import COLOURS, MARKERS, spoken
from workbench.adapters.lab.study_figures import at, below, lead, losses, named, setting
from workbench.experiment import Record
from workbench.intervals import interval, scores, summary
from workbench.plotting import figure, finish, series


def draw_controls(records: Sequence[Record]) -> Figure:
    """Loss of MiSS and Bat-row, and of each with one part taken away or replaced; and what that part brings, seed by seed."""
    labels = list(dict.fromkeys(r["label"] for r in records))
    with figure() as fig:
        left, right = fig.subplots(1, 2, sharey=True)
        losses(left, records, labels)
        below(right, records, {x: "miss" if x in ("miss", "orthogonal A") else "bat-row" for x in labels})
        right.set(title="below its method (dashed)", xlabel="its method's loss minus its, same seed")
        found = [
            (words, lead(records, one, over))
            for one, over, words in (
                ("miss", "orthogonal A", "the tiling brings"),
                ("bat-row", "W permuted", "where W's entries stand brings"),
                ("bat-row", "without W", "that it has W at all brings"),
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
    ranks = sorted({r["rank"] for r in records})
    with figure() as fig:
        for axes, (column, name) in zip(
            fig.subplots(1, 2),
            (("first_gradient", "first gradient's norm"), ("loss", "loss on test questions")),
            strict=True,
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
        said = ", ".join(
            f"{spoken(label)} {interval(gap.dropna())}" for label, gap in found if len(gap.dropna())
        )
        title = (
            f"What rank {ranks[-1]} has gained over rank {ranks[0]}: {said}" if said else "Against the rank"
        )
        note = f"at one rank LoRA has about twice the numbers of the others; {setting(records)}"
        return named(fig, title, note, labels)
