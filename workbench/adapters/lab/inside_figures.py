"""Figures of the experiments on one layer, drawn from records: an update, the cost of methods, the first step, and a merge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.adapters.lab.colours import COLOURS, NAMES
from workbench.adapters.lab.figures import spectrum, tinted
from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREY, HAIR, INK, ORANGE, text
from workbench.live import heading, live, part, words


def colour_of(label: str) -> str:
    """Return the colour of the method with which a label begins. Its name ends at the first comma or colon, or with the label."""
    return COLOURS.get(label.partition(",")[0].partition(":")[0], GREY)


CELL = 4.6  # pixels for each weight
FORMULAS = {"lora": "s B A", "miss": "D' [I I …]", "mini": "[D'; D'; …] [I I …]",
            "bat-row": "(W + I) B, one B per block column",
            "bat-col": "(W + I) B, one B per block row"}  # fmt: skip


@live
def draw_shards(fig: Figure, records: Sequence[Record]) -> None:
    """Draw an update, the matrices that form it (aligned with its rows and columns), and its singular values."""
    last = records[-1]
    method, r = last["method"].partition(":")[0], last["r"]
    heading(
        fig,
        f"{method_name(last['method'])}: {last['numbers']:,} parameters for {last['weight']:,} weights, "
        f"an update of rank {last['rank']}",
        "noise in place of trained parameters (training starts at zero); orange: above 0, blue: below, grey: frozen",
    )
    parts = [np.array(values) / 99 for values in last["parts"]]
    delta = np.array(last["update"]) / 99
    tiles = np.tile(np.eye(r), -(-delta.shape[1] // r))[:, : delta.shape[1]]
    left, top, width, height = 128, 166, CELL * delta.shape[1], CELL * delta.shape[0]
    above, beside = _around(method, parts, tiles)
    for name, values in (above, beside):
        if values is None:
            continue
        high, wide = CELL * values.shape[0], CELL * values.shape[1]
        is_above = values is above[1]
        axes = part(fig, f"part {name}", *((left, top - 22 - high) if is_above else (left - 14 - wide, top)), wide, high)
        fixed = name == "A" and (method != "lora" or ":" in last["method"])
        axes.imshow(tinted(values, *((GREY, GREY) if fixed else ())), aspect="auto", interpolation="nearest")
        said = f"{name}: {values.shape[0]} x {values.shape[1]}"
        axes.set(**{"title" if is_above else "xlabel": said})
        axes.xaxis.set_label_coords(0.5, -8 / high)
        _bare(axes)
    axes = part(fig, "update", left, top, width, height)
    axes.imshow(tinted(delta), aspect="auto", interpolation="nearest")
    _edges(axes, last, delta.shape)
    axes.set_title(f"Update: {FORMULAS[method]}")
    _bare(axes)
    spectrum(part(fig, "values", 486, 166, 176, 150), last["values"], colour_of(method), r)


def _around(method: str, parts: list[np.ndarray], tiles: np.ndarray) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Return the matrices to draw above the update and to the left of it, each with its name; ("", None) means no matrix."""
    if method == "lora":
        return ("A", parts[0]), ("B", parts[1])
    if method in ("miss", "mini"):
        return ("A", tiles), ("D'", parts[0].T)
    if method == "bat-col":
        return ("", None), ("B", parts[0])
    r = parts[0].shape[1]
    return ("B", np.concatenate(np.split(parts[0], len(parts[0]) // r), axis=1)), ("", None)


def _edges(axes: Axes, last: Record, shape: tuple[int, int]) -> None:
    """Draw thin lines between the blocks of an update of MiSS, mini or Bat, or of LoRA with a tiled A."""
    if not last["is_miss"] and not last["method"].startswith(("mini", "bat")):
        return
    for edge in range(last["r"], shape[1], last["r"]):
        axes.axvline(edge - 0.5, color=HAIR, linewidth=0.8)
    if last["method"].startswith("bat"):
        for edge in range(last["r"], shape[0], last["r"]):
            axes.axhline(edge - 0.5, color=HAIR, linewidth=0.8)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


@live
def draw_cost(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the computation and the memory that each method adds to a layer.

    The left panel shows the extra multiply-adds of a forward pass, in percent of those of the layer itself. The right panel
    shows the memory that is kept for the backward pass, in MiB.
    """
    last = records[-1]
    adds = {label: f"{100 * value:.3g} %" for label, value in zip(last["labels"], last["adds"], strict=True)}
    heading(
        fig,
        f"Bat-row adds {adds['bat-row']} to the layer's multiply-adds, Bat-col {adds['bat-col, as a weight']}",
        f"one forward pass; dashed: the layer itself ({last['layer']:,} multiply-adds; weight of {last['weight']:.3g} MiB)",
    )
    labels = [method_name(label) for label in last["labels"]]
    labels[:2] = [f"{label}, r = {last['half']}" for label in labels[:2]]
    for name, left, title, values, said, line in (
        ("adds", 156, "Extra multiply-adds, %", [100 * v for v in last["adds"]], list(adds.values()), 100),
        ("kept", 432, "Kept for backward, MiB", last["kept"], [_figure(v) for v in last["kept"]], last["weight"]),
    ):
        axes = part(fig, name, left, 66, 184, 320)
        axes.axvline(line, color=INK, linestyle="--", linewidth=1)
        for place, (label, value, number) in enumerate(zip(last["labels"], values, said, strict=True)):
            axes.plot(value, place, "o", color=colour_of(label), markersize=6)
            _beside(axes, place, number)
        axes.set(xscale="log", xlim=(min(values) / 3, 3 * max(*values, line)), ylim=(len(values) - 0.5, -0.5), title=title,
                 xlabel="logarithmic scale")  # fmt: skip
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:g}")  # plain text, since mathtext takes a third of the drawing time
        axes.set_yticks(range(len(values)), labels=labels if name == "adds" else [""] * len(values))


def method_name(label: str) -> str:
    """Return a label such as ``bat-col, built twice`` with the display name of the method in place of its id."""
    name = re.split("[,:]", label)[0]
    return NAMES[name] + label.removeprefix(name)


def _beside(axes: Axes, place: float, number: str) -> None:
    """Write a number to the right of the axes, at the height `place`."""
    axes.text(1.03, place, number, fontsize=8, va="center", color=INK, transform=axes.get_yaxis_transform())


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


@live
def draw_step(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the mean weight change in the first step of AdamW, and the norm of the first gradient.

    The weight change is divided by the learning rate, and the gradient norm by that of full fine-tuning.
    """
    last = records[-1]
    moved = dict(zip(last["labels"], last["moved"], strict=True))
    heading(
        fig,
        f"In the first step of AdamW, LoRA moves a weight {moved['lora'] / moved['miss']:.2g} times as far as MiSS",
        "one layer of the tiny llama, random targets, one learning rate; dashed: full fine-tuning; ring: theory for LoRA",
    )
    for name, left, title, theory in (
        ("moved", 80, "Mean weight change / rate", "theory"),
        ("gradient", 410, "First gradient norm / that of full", "gradient_theory"),
    ):
        axes, values = part(fig, name, left, 66, 220, 310), last[name]
        for place, (label, value) in enumerate(zip(last["labels"], values, strict=True)):
            axes.plot(value, place, "o", color=COLOURS[label], markersize=6)
            _beside(axes, place, f"{value:.2f}")
        axes.axvline(1, color=INK, linestyle="--", linewidth=1)
        axes.plot(last[theory], last["labels"].index("lora"), "o", color=INK, markerfacecolor="none", markersize=11)
        axes.set(xlim=(0, max(*values, last[theory]) * 1.25), ylim=(len(values) - 0.5, -0.5), title=title)
        axes.set_yticks(range(len(values)), labels=[NAMES[label] for label in last["labels"]])
        for tick, label in zip(axes.get_yticklabels(), last["labels"], strict=True):
            tick.set_color(text(COLOURS[label]))


@live
def draw_merge(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the actual change of weight entries against the intended change, and the rounding error against the update's size."""
    last = records[-1]
    heading(
        fig,
        f"Rounding error: {last['lost']:.2g} % of the update; {last['unchanged']:.2g} % of the entries unchanged",
        f"merge into a {last['dtype']} weight with root mean square {last['rms']:.2g}; left: {len(last['asked'])} of its entries",
    )
    axes = part(fig, "entries", 66, 72, 270, 270, gap=40)
    asked, got = np.array(last["asked"]), np.array(last["got"])
    power = int(np.floor(np.log10(np.abs(asked).max())))
    asked, got = asked / 10.0**power, got / 10.0**power
    most = 1.05 * max(np.abs(asked).max(), np.abs(got).max())
    axes.plot([-most, most], [-most, most], color=HAIR, linewidth=1)
    axes.plot(asked[got != 0], got[got != 0], ".", color=ORANGE, markersize=4)
    axes.plot(asked[got == 0], got[got == 0], ".", color=BLUE, markersize=4)
    unit = f"10{str(power).translate(RAISED)}"
    axes.set(
        xlim=(-most, most),
        ylim=(-most, most),
        xlabel=f"intended change, {unit}",
        ylabel=f"actual change, {unit}",
        title="Entries",
    )
    words(axes, [("unchanged  ", text(BLUE)), ("line: exact", FAINT)])
    axes = part(fig, "sizes", 400, 72, 254, 270, gap=30)
    axes.plot(last["sizes"], last["lost_at"], color=ORANGE)
    axes.plot(last["sizes"], last["unchanged_at"], ":", color=BLUE, linewidth=2)
    axes.axvline(last["size"], color=INK, linestyle="--", linewidth=1)
    axes.set(xlim=(-6, -1), ylim=(-2, 102), xlabel="root mean square of the update", ylabel="%")
    axes.set_xticks(range(-6, 0), labels=[f"10{str(k).translate(RAISED)}" for k in range(-6, 0)])
    words(axes, [("rounding error   ", text(ORANGE)), ("⋯ entries unchanged  ", text(BLUE)), ("- - this update", FAINT)])


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
