"""Records in, matplotlib figures out: an adapter that learns, and what the model says."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from workbench.adapters.lab.colours import COLOURS, NAMES
from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREY, HAIR, INK, ORANGE, SKY, text
from workbench.live import PINS, Pins, heading, live, part, words


@live
def draw_train(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Loss against the step; a corner of one layer's update; its singular values; how far each layer has moved; answers."""
    last = records[-1]
    share = 100 * last["trained"] / last["whole"]
    heading(
        fig,
        f"{NAMES[last['method']]}: loss {last['held_out']:.3f} on held-out questions, {100 * last['exact']:.0f} % answered right",
        f"step {last['step']:,} of {last['of']:,}; {last['trained']:,} numbers trained, {share:.1f} % of the layers' weights",
    )
    _loss(part(fig, "loss", 46, 62, 262, 168), records, pinned)
    _update(part(fig, "update", 366, 62, 168, 168, gap=24), last)
    _values(part(fig, "values", 576, 62, 84, 168, gap=28), last, pinned)
    _moved(part(fig, "moved", 92, 290, 216, 100, gap=60), last)
    _answers(part(fig, "answers", 330, 290, 330, 110), records)


def _loss(axes: Axes, records: Sequence[Record], pinned: Pins) -> None:
    """On the batches as they come (thin) and on held-out questions, with those of pinned runs."""
    last = records[-1]
    colour = COLOURS[last["method"]]
    steps = [r["step"] for r in records]
    for (_, rows), shade in zip(pinned, PINS, strict=False):
        axes.plot([r["step"] for r in rows], [r["held_out"] for r in rows], ":", color=shade, linewidth=1.6)
    trained = [r for r in records if r["loss"] is not None]
    axes.plot(
        [r["step"] for r in trained], [r["loss"] for r in trained], color=colour, linewidth=0.8, alpha=0.6
    )
    axes.plot(steps, [r["held_out"] for r in records], color=colour, linewidth=2)
    values = [r["held_out"] for r in records] + [r["loss"] for r in trained]
    values += [r["held_out"] for _, rows in pinned for r in rows]
    low, high = min(values), max(values)
    rim = 0.05 * (high - low) + 0.01
    end = max(steps[-1] * 1.02, 0.1 * last["of"])
    axes.set(xlim=(0, end), ylim=(low - rim, high + rim), xlabel="step", title="Loss, nats")
    words(
        axes,
        [
            ("held out  ", text(colour)),
            ("thin: batches", FAINT),
            *([("  ⋯ pinned", FAINT)] if pinned else []),
        ],
    )


def tinted(values: np.ndarray, up: str = ORANGE, down: str = BLUE) -> np.ndarray:
    """Numbers from -1 to 1 as colours with transparency, which the page shows through."""
    shades = np.zeros((*values.shape, 4))
    shades[..., :3] = np.where(values[..., None] < 0, to_rgb(down), to_rgb(up))
    shades[..., 3] = np.abs(values).clip(0, 1)
    return shades


def _update(axes: Axes, last: Record) -> None:
    """The corner of the shown layer's update; equal shards are seen as a repeated pattern."""
    values = np.array(last["update"]) / 99
    axes.imshow(tinted(values), aspect="auto", interpolation="nearest")
    rows, columns = values.shape
    if last["method"] in ("miss", "mini", "bat-col", "bat-row") and last["r"] > 3:
        for edge in range(last["r"], max(values.shape), last["r"]):
            if edge < columns:
                axes.axvline(edge - 0.5, color=HAIR, linewidth=0.7)
            if edge < rows and last["method"] in ("bat-col", "bat-row"):
                axes.axhline(edge - 0.5, color=HAIR, linewidth=0.7)
    axes.set(title=f"Update of {last['layer'].rpartition('.')[2]}", xlabel=f"input 1 to {columns} of {last['shape'][1]}",
             ylabel=f"output 1 to {rows} of {last['shape'][0]}")  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _values(axes: Axes, last: Record, pinned: Pins) -> None:
    values = np.array(last["values"])
    for (_, rows), shade in zip(pinned, PINS, strict=False):
        other = np.array(rows[-1]["values"])
        axes.plot(np.arange(1, len(other) + 1), np.maximum(other, 1e-4), ":", color=shade, linewidth=1.4)
    axes.plot(np.arange(1, len(values) + 1), np.maximum(values, 1e-4), color=COLOURS[last["method"]])
    axes.set(yscale="log", ylim=(8e-5, 1.3), xlim=(0.5, len(values) + 0.5), xlabel="number", title="Spectrum")
    axes.set_yticks((1e-3, 1e-1), labels=("10⁻³", "0.1"))
    axes.minorticks_off()


def _moved(axes: Axes, last: Record) -> None:
    """``||Delta|| / ||W||``, a cell a layer: modules down, blocks across."""
    names, rows = last["modules"], last["moved"]
    blocks = max(len(row) for row in rows)
    grid = np.full((len(rows), blocks), np.nan)
    for place, row in enumerate(rows):
        grid[place, : len(row)] = row
    most = np.nanmax(grid)
    axes.imshow(
        tinted(np.nan_to_num(grid / most if most else grid * 0)), aspect="auto", interpolation="nearest"
    )
    axes.set(title=f"Moved, % (darkest {most:.2g})", xlabel="block")
    axes.set_yticks(range(len(names)), labels=[name.removesuffix("_proj") for name in names])
    every = 1 if blocks <= 12 else 5
    axes.set_xticks(range(0, blocks, every), labels=[str(k) for k in range(0, blocks, every)])
    axes.grid(visible=False)


def _answers(axes: Axes, records: Sequence[Record]) -> None:
    """A few questions, what the untrained model wrote and what it writes now."""
    axes.set_axis_off()
    first, last = records[0], records[-1]
    axes.set(
        xlim=(0, 1),
        ylim=(5, 0),
        title="Asked" + ("" if last["told"] and last["step"] else ": answers come at the end"),
    )
    columns = (0.0, 0.42, 0.62, 0.82)
    heads = (("question", FAINT), ("right", FAINT), ("before", text(SKY)), ("now", text(ORANGE)))
    for place, (name, colour) in zip(columns, heads, strict=True):
        axes.text(place, 0.5, name, fontsize=8, color=colour, va="center")
    now = last["told"] if last["step"] and last["told"] else [""] * len(first["asked"])
    for row, found in enumerate(zip(first["asked"], first["right"], first["told"], now, strict=False), 1):
        for place, said, width in zip(columns, found, (24, 9, 9, 9), strict=True):
            colour = INK if place != columns[3] or said == found[1] else GREY
            axes.text(
                place, row + 0.5, _cut(said, width), fontsize=8, va="center", color=colour, parse_math=False
            )


def _cut(said: str, width: int) -> str:
    """A text of a model, short enough for its place."""
    said = " ".join(said.split())
    return said if len(said) <= width else said[: width - 1] + "…"


@live
def draw_ask(fig: Figure, records: Sequence[Record]) -> None:
    """A question, and what the model wrote to it before and after."""
    last = records[-1]
    heading(fig, "Asked before and after", f"{NAMES[last['method']]}, {last['steps']} steps")
    axes = part(fig, "said", 20, 70, 630, 340)
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(1, 0))
    place = 0.02
    said_of = {"question": INK, "before": text(SKY), "after": text(ORANGE)}
    for name, colour in said_of.items():
        axes.text(0, place, name, fontsize=9, color=FAINT, va="top")
        lines = textwrap.wrap(last[name], 70)[:4] or ["(nothing)"]
        axes.text(0.14, place, "\n".join(lines), fontsize=11, color=colour, va="top", parse_math=False)
        place += 0.1 + 0.07 * len(lines)
