"""Figures of the live experiments, drawn from records: the training of an adapter, and the answers of the model."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from workbench.adapters.lab.colours import COLOURS, NAMES
from workbench.experiment import Record
from workbench.inks import FAINT, HAIR, INK, ORANGE, SKY, text
from workbench.live import PIN_COLOURS, Pins, heading, live, part
from workbench.plotting import BEHIND


@live
def draw_train(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw the loss, the gradient norm, the step size, an update, its singular values, the change of each layer, and answers."""
    last = records[-1]
    share = 100 * last["trained"] / last["whole"]
    heading(
        fig,
        f"{NAMES[last['method']]}: loss {last['held_out']:.3f} on held-out questions, {right(last)} answered exactly",
        f"step {last['step']:,} of {last['of']:,}; {last['trained']:,} trained parameters, {share:.1f} % of the layers' weights",
    )
    _loss(part(fig, "loss", 36, 62, 172, 160), records, pinned)
    _path(part(fig, "gradient", 246, 62, 92, 66), records, pinned, "gradient", 1, "Gradient norm")
    _path(part(fig, "move", 246, 154, 92, 68), records, pinned, "move", 1000, "Step, × 1,000")
    _update(part(fig, "update", 390, 62, 126, 126, gap=18), last)
    _values(part(fig, "values", 556, 62, 104, 160, gap=28), last, pinned)
    layer_map(part(fig, "moved", 60, 284, 232, 106, gap=50), last["modules"], last["moved"], "Moved, % of the weight")
    _answers(part(fig, "answers", 322, 284, 342, 110), records)


def right(record: Record) -> str:
    """Return how many of the held-out questions were answered exactly, as text: ``3 of 32``."""
    return f"{round(record['exact'] * record['judged'])} of {record['judged']}"


def _loss(axes: Axes, records: Sequence[Record], pinned: Pins) -> None:
    """Draw the loss on training batches (thin) and held-out questions (thick), and the held-out loss of pinned runs (dotted)."""
    last = records[-1]
    colour = COLOURS[last["method"]]
    steps = [r["step"] for r in records]
    for (_, rows), shade in zip(pinned, PIN_COLOURS, strict=False):
        axes.plot([r["step"] for r in rows], [r["held_out"] for r in rows], ":", color=shade, linewidth=1.6)
    trained = [r for r in records if r["loss"] is not None]
    axes.plot([r["step"] for r in trained], [r["loss"] for r in trained], color=colour, linewidth=0.8, alpha=0.6)
    axes.plot(steps, [r["held_out"] for r in records], color=colour, linewidth=2)
    values = [r["held_out"] for r in records] + [r["loss"] for r in trained]
    values += [r["held_out"] for _, rows in pinned for r in rows]
    low, high = min(values), max(values)
    low = low if high > low else 0.0  # before training there is only one value, and the axis begins at zero
    rim = 0.05 * (high - low) + 0.01
    end = max(steps[-1] * 1.02, 0.1 * last["of"])
    axes.set(xlim=(0, end), ylim=(low - rim, high + rim), xlabel="step", title="Loss, nats per token")
    said = (("held out", text(colour)), ("thin: batches", FAINT), *([("dotted: pinned", FAINT)] if pinned else ()))
    for row, (words, shade) in enumerate(said):  # the upper right corner is empty if the loss falls
        axes.text(
            0.98, 0.97 - 0.09 * row, words, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=shade, bbox=BEHIND
        )


def _path(axes: Axes, records: Sequence[Record], pinned: Pins, column: str, times: float, title: str) -> None:
    """Draw a column of the records against the step, for this run and for pinned runs.

    The values are multiplied by `times`, and the vertical axis begins at zero.
    """
    runs = [(rows, shade, ":") for (_, rows), shade in zip(pinned, PIN_COLOURS, strict=False)]
    highest = 0.0
    for rows, shade, style in (*runs, (records, COLOURS[records[-1]["method"]], "-")):
        found = [(r["step"], times * r[column]) for r in rows if r.get(column) is not None]
        if found:
            axes.plot(*zip(*found, strict=True), style, color=shade, linewidth=1.5)
            highest = max(highest, *(value for _, value in found))
    axes.set(xlim=(0, max(records[-1]["step"] * 1.02, 0.1 * records[-1]["of"])), ylim=(0, 1.1 * highest or 1), title=title)
    axes.locator_params(nbins=3)
    axes.tick_params(labelbottom=column == "move")  # only the lower of the two panels shows the steps
    if column == "move":
        axes.set_xlabel("step")


def tinted(values: np.ndarray, up: str = ORANGE, down: str = SKY) -> np.ndarray:
    """Return RGBA colours for numbers from -1 to 1. The opacity is the absolute value, so zero has the colour of the page."""
    shades = np.zeros((*values.shape, 4))
    shades[..., :3] = np.where(values[..., None] < 0, to_rgb(down), to_rgb(up))
    shades[..., 3] = np.abs(values).clip(0, 1)
    return shades


def _update(axes: Axes, last: Record) -> None:
    """Draw the upper left corner of a layer's update. For MiSS, mini and Bat with r > 3, thin lines separate the blocks."""
    values = np.array(last["update"]) / 99
    # The square root makes small entries visible, also on a dark page.
    axes.imshow(tinted(np.sign(values) * np.sqrt(np.abs(values))), aspect="auto", interpolation="nearest")
    rows, columns = values.shape
    if last["method"] in ("miss", "mini", "bat-col", "bat-row") and last["r"] > 3:
        for edge in range(last["r"], max(values.shape), last["r"]):
            if edge < columns:
                axes.axvline(edge - 0.5, color=HAIR, linewidth=0.7)
            if edge < rows and last["method"] in ("bat-col", "bat-row"):
                axes.axhline(edge - 0.5, color=HAIR, linewidth=0.7)
    block, _, module = last["layer"].partition(" ")
    axes.set(title=f"Update: {module.rpartition('.')[2].removesuffix('_proj')} of block {block}",
             xlabel=f"inputs 1 to {columns} of {last['shape'][1]}\nlargest entry: {last['most']:.2g}",
             ylabel=f"outputs 1 to {rows} of {last['shape'][0]}")  # fmt: skip
    axes.xaxis.set_label_coords(0.5, -0.03)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _values(axes: Axes, last: Record, pinned: Pins) -> None:
    others = [(rows[-1]["values"], shade) for (_, rows), shade in zip(pinned, PIN_COLOURS, strict=False)]
    spectrum(axes, last["values"], COLOURS[last["method"]], last["r"], others)


def spectrum(axes: Axes, values: Sequence[float], shade: str, r: int, others: Sequence[tuple[list, str]] = ()) -> None:
    """Draw the singular values of an update, divided by its norm, and those of other updates as dotted lines.

    Values up to 0.001 are not drawn. A dashed line marks r. For each other update, `others` holds its values and a colour.
    """
    for found, colour, style in ((values, shade, "-"), *((other, pin, ":") for other, pin in others)):
        found = np.array(found)
        axes.plot(np.arange(1, len(found) + 1), np.where(found > 1e-3, found, np.nan), style, color=colour)
    axes.axvline(r + 0.5, color=FAINT, linestyle="--", linewidth=1)
    axes.set(yscale="log", ylim=(1e-3, 1.3), xlim=(0.5, len(values) + 0.5), xlabel="index (dashed: r)", title="Singular values")
    axes.set_yticks((1e-3, 1e-2, 1e-1, 1), labels=("0.001", "0.01", "0.1", "1"))
    axes.minorticks_off()


def layer_map(axes: Axes, modules: Sequence[str], rows: Sequence[Sequence[float]], title: str) -> None:
    """Draw one number for each layer, as a map with a row for each module and a column for each block.

    If there are at most 40 cells, the numbers are written in them. Otherwise, the title gives the range of the numbers.
    """
    blocks = max(len(row) for row in rows)
    grid = np.full((len(rows), blocks), np.nan)
    for place, row in enumerate(rows):
        grid[place, : len(row)] = row
    most = np.nanmax(grid)
    shares = np.nan_to_num(grid / most) if most else np.zeros_like(grid)
    # Text is not readable on a more opaque cell in the dark theme.
    axes.imshow(tinted(0.55 * shares), aspect="auto", interpolation="nearest")
    axes.set_xlabel("block")
    axes.set_yticks(range(len(modules)), labels=[m.rpartition(".")[2].removesuffix("_proj") for m in modules])
    every = 1 if blocks <= 12 else 5
    axes.set_xticks(range(0, blocks, every), labels=[str(k) for k in range(0, blocks, every)])
    axes.grid(visible=False)
    whole = not np.nan_to_num(grid % 1).any()
    digits = 0 if most >= 10 or whole else 1 if most >= 1 else 2
    if grid.size > 40:
        axes.set_title(f"{title}: {np.nanmin(grid):.{digits}f} to {most:.{digits}f}")
        return
    axes.set_title(title)
    for (y, x), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axes.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=8, color=INK)


def _answers(axes: Axes, records: Sequence[Record]) -> None:
    """Write a few questions, the right answers, and the model's answers before training and after the last step."""
    axes.set_axis_off()
    first, last = records[0], records[-1]
    axes.set(xlim=(0, 1), ylim=(5, 0), title="Answers" + ("" if last["told"] and last["step"] else ": shown after the last step"))
    columns = (0.0, 0.37, 0.5, 0.76)
    for place, name in zip(columns, ("question", "right", "before", "now"), strict=True):
        axes.text(place, 0.5, name, fontsize=8, color=FAINT, va="center")
    now = last["told"] if last["step"] and last["told"] else [""] * len(first["asked"])
    for row, found in enumerate(zip(first["asked"], first["right"], first["told"], now, strict=False), 1):
        for place, said, width in zip(columns, found, (19, 7, 13, 10), strict=True):
            said = _cut(said, width, end=place == columns[0])  # the end of a question is the most informative part
            if place == columns[3] and last["step"] and last["told"]:
                said = f"{'✓' if said == found[1] else '✗'} {said}"
            axes.text(place, row + 0.5, said, fontsize=8, va="center", color=INK, parse_math=False)


def _cut(said: str, width: int, end: bool = False) -> str:
    """Return a text on one line, cut to its first `width` characters, or to its last ones if `end` is True."""
    said = " ".join(said.split())
    if len(said) <= width:
        return said
    return "…" + said[1 - width :] if end else said[: width - 1] + "…"


@live
def draw_ask(fig: Figure, records: Sequence[Record]) -> None:
    """Write a question, the right answer if it is known, and the answers of the model before and after training."""
    last = records[-1]
    heading(
        fig,
        "Answers before and after training",
        f"{last['model']}, {last['steps']} steps of {NAMES[last['method']]} on {last['data']}; "
        f"at most {last['tokens']} tokens per answer",
    )
    axes = part(fig, "said", 20, 70, 630, 340)
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(1, 0))
    place = 0.02
    rows = [("question", INK), ("right", INK), ("before", text(SKY)), ("after", text(ORANGE))]
    for name, colour in (row for row in rows if last[row[0]] is not None):
        axes.text(0, place + 0.01, name, fontsize=11, color=FAINT, va="top")
        lines = textwrap.wrap(last[name], 44)[:3] or ["(nothing)"]
        axes.text(0.16, place, "\n".join(lines), fontsize=16, color=colour, va="top", parse_math=False)
        place += 0.14 + 0.1 * len(lines)
