"""Figures of the live experiments on networks: two update schemes in training, and the currents that one digit causes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from workbench.experiment import Record, signed
from workbench.inks import BLUE, FAINT, GREEN, GREY, RED, text
from workbench.live import Pins, heading, live, part, stems, words
from workbench.plotting import BEHIND, spread
from workbench.synapse.lab.figures import COLOURS, LABELS, SHORT, pair_plane

EDGES = "min", "middle", "max"


@live
def draw_train(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw two schemes in training: the accuracy of both, the path of three pairs, and the conductances of all devices."""
    series = by_scheme(records)
    ours, *others = series.items()
    now = f"{LABELS[ours[0]]} {100 * ours[1][-1]['accuracy']:.1f} %"
    beside = f", {LABELS[others[0][0]]} {100 * others[0][1][-1]['accuracy']:.1f} %" if others else ""
    heading(
        fig,
        f"Test accuracy: {now}{beside}",
        f"after {records[-1]['samples']:,} of {records[-1]['of']:,} training digits; the test digits are not among them",
    )
    _accuracy(part(fig, "accuracy", 46, 62, 312, 320), series, pinned)
    plane = part(fig, "plane", 428, 62, 230, 158, gap=26)
    _paths(plane, series)
    _fullness(part(fig, "full", 428, 282, 230, 100, gap=28), series)


def by_scheme(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each scheme, in the order in which the schemes first appear."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["scheme"], []).append(record)
    return found


def points(record: Record) -> float:
    """Return the accuracy in percent, rounded to one decimal as in the figure.

    So the difference of two results agrees with the two accuracies that the figure shows.
    """
    return round(100 * record["accuracy"], 1)


def _of(rows: Sequence[Record], key: str) -> np.ndarray:
    return np.array([row[key] for row in rows], float)


def _accuracy(axes: Axes, series: dict[str, list[Record]], pinned: Pins) -> None:
    lowest, ends, legend = 100.0, [], []
    for _, records in pinned:
        for name, rows in by_scheme(records).items():
            axes.plot(_of(rows, "samples"), 100 * _of(rows, "accuracy"), ":", color=COLOURS[name], linewidth=1.3)
    for name, rows in series.items():
        x, y = _of(rows, "samples"), 100 * _of(rows, "accuracy")
        axes.plot(x, y, color=COLOURS[name], linewidth=2.2)
        axes.plot(x[-1], y[-1], "o", color=COLOURS[name], markersize=5)
        lowest = min(lowest, y[1:].min() if len(y) > 1 else y.min())
        ends.append((y[-1], x[-1], name))
        legend.append((f"● {SHORT[name]}", text(COLOURS[name])))
    low = max(0.0, lowest - 8)
    seen, of = max(x for _, x, _ in ends), next(iter(series.values()))[-1]["of"]
    end = max(1.12 * seen, 0.1 * of)
    gap, ends = 0.045 * (101 - low), sorted(ends)
    for (y, x, name), place in zip(ends, spread([y - 0.3 * gap for y, _, _ in ends], gap, np.inf), strict=True):
        style = {"xytext": (7, 0), "textcoords": "offset points", "fontsize": 9, "weight": "bold", "bbox": BEHIND}
        axes.annotate(f"{y:.1f}", (x, place), color=text(COLOURS[name]), **style)
    axes.set(xlim=(0, end), ylim=(low, 101), xlabel="training digits", title="% correct")
    if pinned:
        legend.append((f"⋯ {'; '.join(name for name, _ in pinned)[:24]}", FAINT))
    words(axes, legend)


def _paths(axes: Axes, series: dict[str, list[Record]]) -> None:
    """Draw the path of each recorded pair in the plane (g+, g-).

    The whole path is drawn faintly and its last part strongly. A dot marks the current state.
    """
    for name, rows in series.items():
        if "plus" not in rows[-1]:
            continue
        plus, minus = (np.array([row[key] for row in rows]) for key in ("plus", "minus"))
        axes.plot(plus, minus, color=COLOURS[name], linewidth=0.6, alpha=0.35)
        axes.plot(plus[-6:], minus[-6:], color=COLOURS[name], linewidth=1.5)
        axes.plot(plus[-1], minus[-1], "o", color=COLOURS[name], markersize=6)
    pair_plane(axes, "Three pairs of devices")


def _fullness(axes: Axes, series: dict[str, list[Record]]) -> None:
    most = 1.0
    for name, rows in series.items():
        if "histogram" in rows[-1]:
            shares = 100 * np.array(rows[-1]["histogram"])
            edges = np.linspace(0, 1, len(shares) + 1)
            axes.stairs(shares, edges, color=COLOURS[name], fill=True, alpha=0.3)
            axes.stairs(shares, edges, color=COLOURS[name], linewidth=1.2)
            most = max(most, 1.08 * shares.max())
    axes.set(title="Conductance of all devices", xlim=(0, 1), ylim=(0, most), ylabel="% of devices")
    axes.set_xticks((0, 0.5, 1), labels=EDGES)


def _clear(colour: str, low: str = "") -> LinearSegmentedColormap:
    """Return a colour map from transparent to `colour`.

    If `low` is given, the map is for values of both signs. It goes from the colour `low` through transparent to `colour`.
    """
    rgb = to_rgb(colour)
    stops = [(*to_rgb(low), 1.0), (*to_rgb(low), 0.0), (*rgb, 0.0), (*rgb, 1.0)] if low else [(*rgb, 0.0), (*rgb, 1.0)]
    places = [0, 0.5, 0.5, 1] if low else [0, 1]
    return LinearSegmentedColormap.from_list("clear", list(zip(places, stops, strict=True)), N=256)


INKED, PLUS_MAP, MINUS_MAP, SIGNED = _clear(GREY), _clear(RED), _clear(BLUE), _clear(RED, BLUE)


@live
def draw_currents(fig: Figure, records: Sequence[Record]) -> None:
    """Draw a digit, the currents that its pixels send through the devices of one hidden unit, and the outputs of all units."""
    record = records[-1]
    side, answer = record["side"], int(np.argmax(record["outputs"]))
    right = answer == record["label"]
    heading(
        fig,
        f"The network answers {answer}: {'correct' if right else 'wrong, it is a ' + str(record['label'])}",
        f"{LABELS[record['scheme']]}; unit of current: one device at Gmax with input 1",
    )
    plus, minus = (np.array(record[key]).reshape(side, side) for key in ("plus", "minus"))
    net = plus - minus
    most, largest = max(plus.max(), minus.max(), 1e-6), max(np.abs(net).max(), 1e-6)
    second = "g_ref" if record["scheme"] == "reference" else "g⁻"
    pictures = (
        (np.array(record["pixels"]).reshape(side, side), INKED, 0, 1, f"digit: {record['label']}"),
        (plus, PLUS_MAP, 0, most, f"current of g⁺: {plus.sum():.2f}"),
        (minus, MINUS_MAP, 0, most, f"current of {second}: {minus.sum():.2f}"),
        (net, SIGNED, -largest, largest, f"difference: {signed(net.sum(), 2)}"),
    )
    axes = part(fig, "pictures", 8, 62, 654, 162)  # shared by all pictures, since creating axes is slow
    for place, (picture, colours, low, high, title) in enumerate(pictures):
        left = 1.05 * place
        axes.imshow(picture, cmap=colours, vmin=low, vmax=high, interpolation="nearest", extent=(left, left + 1, 0, 1))
        axes.plot([left, left + 1, left + 1, left, left], [0, 0, 1, 1, 0], color=FAINT, linewidth=0.8)
        axes.text(left, 1.03, title, fontsize=8.5)
    axes.set(xlim=(-0.005, 4.155), ylim=(-0.005, 1.1), aspect="auto")
    axes.set_axis_off()
    hidden, outputs = (part(fig, name, left, 262, 290, 120, gap=20) for name, left in (("hidden", 40), ("outputs", 368)))
    _hidden(hidden, record)
    _answers(outputs, record, answer)


def _hidden(hidden: Axes, record: Record) -> None:
    x = np.arange(len(record["hidden"]))
    hidden.axvline(record["unit"], color=RED, linewidth=0.8, alpha=0.5)
    stems(hidden, x, 0, record["hidden"], color=GREY, linewidth=max(1.0, 150 / len(x)))
    hidden.plot(record["unit"], record["hidden"][record["unit"]], "o", color=RED, markersize=6)
    hidden.set(
        xlim=(-1, len(x)),
        ylim=(min(0, *record["hidden"]), 1.05),
        yticks=(0, 1),
        xlabel="hidden unit",
        ylabel="output",
        title="Hidden units",
    )
    words(hidden, [(f"● unit {record['unit']}, shown above", text(RED))])


def _answers(outputs: Axes, record: Record, answer: int) -> None:
    right = answer == record["label"]
    shades = [GREEN if i == record["label"] else RED if i == answer else GREY for i in range(10)]
    outputs.vlines(np.arange(10), 0, record["outputs"], color=shades, linewidth=12)
    outputs.set(
        xlim=(-0.7, 9.7), ylim=(0, 1.05), yticks=(0, 1), xticks=range(10), xlabel="digit", ylabel="output", title="Answers"
    )
    words(
        outputs,
        [
            ("▮ the true digit, and the answer" if right else "▮ the true digit   ", text(GREEN)),
            *([] if right else [("▮ the answer", text(RED))]),
        ],
    )
