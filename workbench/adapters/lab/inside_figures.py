"""Records in, matplotlib figures out: one layer's update, its cost, its first step, its merge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.adapters.lab.colours import COLOURS, NAMES
from workbench.adapters.lab.figures import tinted
from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREY, HAIR, INK, ORANGE, text
from workbench.live import heading, live, part, words


def colour_of(label: str) -> str:
    """The colour of a method, or of a variant of it (what stands before a comma or colon)."""
    return COLOURS.get(label.partition(",")[0].partition(":")[0], GREY)


@live
def draw_shards(fig: Figure, records: Sequence[Record]) -> None:
    """What is trained, the update that comes of it, its singular values."""
    last = records[-1]
    heading(
        fig,
        f"{last['method']}: {last['numbers']:,} numbers for {last['weight']:,} weights, an update of rank {last['rank']}",
        f"a layer of {len(last['update'])} outputs and {len(last['update'][0])} inputs; r = {last['r']}; orange up, blue down",
    )
    places = {"A": (40, 62, 250, 44), "D": (40, 62, 250, 44), "B": (40, 62, 90, 300)}
    if last["names"] == ["A", "B"]:
        places = {"A": (40, 62, 250, 44), "B": (40, 150, 90, 240)}
    for name, values in zip(last["names"], last["parts"], strict=True):
        axes = part(fig, f"part {name}", *places[name], gap=18)
        grid = np.array(values) / 99
        axes.imshow(tinted(grid), aspect="auto", interpolation="nearest")
        axes.set(title=f"{name}: {grid.shape[0]} x {grid.shape[1]}")
        _bare(axes)
    _whole(part(fig, "update", 330, 62, 330, 220, gap=18), last)
    values = np.maximum(last["values"], 1e-4)
    axes = part(fig, "values", 366, 330, 294, 62, gap=28)
    axes.plot(np.arange(1, len(values) + 1), values, color=colour_of(last["method"]))
    axes.axvline(last["r"], color=HAIR, linewidth=1)
    axes.set(
        yscale="log",
        ylim=(8e-5, 1.3),
        xlim=(0.5, len(values) + 0.5),
        xlabel="singular value, by size; the line is r",
        title="Spectrum",
    )
    axes.set_yticks((1e-3, 1e-1), labels=("10⁻³", "0.1"))
    axes.minorticks_off()


def _whole(axes: Axes, last: Record) -> None:
    values = np.array(last["update"]) / 99
    axes.imshow(tinted(values), aspect="auto", interpolation="nearest")
    for edge in range(last["r"], values.shape[1], last["r"]):
        axes.axvline(edge - 0.5, color=HAIR, linewidth=0.8)
    if last["method"].startswith("bat"):
        for edge in range(last["r"], values.shape[0], last["r"]):
            axes.axhline(edge - 0.5, color=HAIR, linewidth=0.8)
    axes.set(title="The update" + (": the same shard again and again" if last["is_miss"] else ""))
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


@live
def draw_cost(fig: Figure, records: Sequence[Record]) -> None:
    """Extra multiply-adds over the layer's own, and mebibytes kept for the gradient, a row a form."""
    last = records[-1]
    adds = dict(zip(last["labels"], last["adds"], strict=True))
    heading(
        fig,
        f"Bat-row adds {100 * adds['bat-row']:.2g} % to the layer's work, Bat-col {100 * adds['bat-col']:.2g} %",
        f"the layer: {last['layer']:,} multiply-adds; dashed: as much again, and its weight, {last['weight']:.3g} MiB in float32",
    )
    names = [spoken(label) for label in last["labels"]]
    for name, left, title, values in (
        ("adds", 152, "Extra work, over the layer's", last["adds"]),
        ("kept", 440, "Kept for the gradient, MiB", last["kept"]),
    ):
        axes = part(fig, name, left, 66, 220, 320)
        low = min(values) / 3
        for place, (label, value) in enumerate(zip(last["labels"], values, strict=True)):
            axes.plot([low, value], [place, place], color=HAIR, linewidth=1)
            axes.plot(value, place, "o", color=colour_of(label), markersize=6)
            axes.annotate(
                _figure(value),
                (value, place),
                xytext=(7, -3),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
        axes.set(xscale="log", xlim=(low, max(values) * 6), ylim=(len(values) - 0.5, -0.5), title=title)
        axes.minorticks_off()
        axes.set_yticks(range(len(values)), labels=names if name == "adds" else [""] * len(values))
        axes.axvline(last["weight"] if name == "kept" else 1, color=INK, linestyle="--", linewidth=1)


def spoken(label: str) -> str:
    """A form in words."""
    name, comma, rest = label.partition(",")
    return NAMES[name] + comma + rest


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


@live
def draw_step(fig: Figure, records: Sequence[Record]) -> None:
    """How far a weight moves in the first step of AdamW over the rate, and the gradient's norm over that of full fine-tuning."""
    last = records[-1]
    moved = dict(zip(last["labels"], last["moved"], strict=True))
    heading(
        fig,
        f"At one rate LoRA's first step is {moved['lora'] / moved['miss']:.2g} of MiSS's",
        "a real layer, a random target; crosses: what theory says of LoRA",
    )
    for name, left, title, theory in (
        ("moved", 80, "A weight's mean move, over the rate", "theory"),
        ("gradient", 410, "Gradient norm, over full's", "gradient_theory"),
    ):
        axes, values = part(fig, name, left, 66, 240, 310), last[name]
        for place, (label, value) in enumerate(zip(last["labels"], values, strict=True)):
            axes.plot([0, value], [place, place], color=HAIR, linewidth=1)
            axes.plot(value, place, "o", color=COLOURS[label], markersize=6)
            axes.annotate(
                f"{value:.2f}", (value, place), xytext=(7, -3), textcoords="offset points", fontsize=8
            )
        axes.plot(last[theory], last["labels"].index("lora"), "x", color=INK, markersize=8)
        axes.set(xlim=(0, max(*values, last[theory]) * 1.25), ylim=(len(values) - 0.5, -0.5), title=title)
        axes.set_yticks(range(len(values)), labels=[NAMES[label] for label in last["labels"]])
        for tick, label in zip(axes.get_yticklabels(), last["labels"], strict=True):
            tick.set_color(text(COLOURS[label]))


@live
def draw_merge(fig: Figure, records: Sequence[Record]) -> None:
    """Asked against got, an entry a dot; and what is lost at each size of the update."""
    last = records[-1]
    heading(
        fig,
        f"{last['lost']:.2g} % of the update lost, {last['unchanged']:.0f} % of the entries as they were",
        f"merged into a weight of {last['dtype']}, root mean square {last['rms']:.2g}",
    )
    axes = part(fig, "entries", 66, 66, 250, 310, gap=46)
    asked, got = np.array(last["asked"]), np.array(last["got"])
    power = int(np.floor(np.log10(np.abs(asked).max())))
    asked, got = asked / 10.0**power, got / 10.0**power
    most = 1.05 * max(np.abs(asked).max(), np.abs(got).max())
    axes.plot([-most, most], [-most, most], color=HAIR, linewidth=1)
    axes.plot(asked, got, ".", color=ORANGE, markersize=4)
    axes.set(
        xlim=(-most, most),
        ylim=(-most, most),
        xlabel=f"update asked for, 10^{power}",
        title="What an entry got",
    )
    axes = part(fig, "sizes", 390, 66, 270, 310, gap=28)
    axes.plot(last["sizes"], last["lost_at"], color=ORANGE)
    axes.plot(last["sizes"], last["unchanged_at"], color=BLUE)
    axes.axvline(last["size"], color=INK, linestyle="--", linewidth=1)
    axes.set(xlim=(-6, -1), ylim=(-2, 102), xlabel="update, root mean square, 10^x", title="%")
    words(axes, [("error  ", text(ORANGE)), ("unchanged  ", text(BLUE)), ("- - here", FAINT)])
