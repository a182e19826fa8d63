"""Records in, matplotlib figures out: two schemes in training, a digit's currents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.experiment import Record
from workbench.plotting import GREEN, GREY, RED, figure
from workbench.synapse.lab.figures import COLOURS, LABELS, Pinned, pair_plane


def draw_train(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """Two schemes in training: accuracy, conductances of three synapses, the histogram, what it cost."""
    with figure(10.5, 6.0, layout=None) as fig:
        margins = {"left": 0.06, "right": 0.985, "bottom": 0.08, "top": 0.93, "wspace": 0.2, "hspace": 0.38}
        accuracy, paths, histogram, cost = fig.subplots(2, 2, gridspec_kw=margins).flat
        series = _by_scheme(records)
        if pinned:
            for name, rows in _by_scheme(pinned[1]).items():
                accuracy.plot(
                    _of(rows, "samples"),
                    100 * _of(rows, "accuracy"),
                    ":",
                    color=COLOURS[name],
                    label=f"{LABELS[name]}, pinned",
                )
        for place, (name, rows) in enumerate(series.items()):
            label = f"{LABELS[name]}: {100 * rows[-1]['accuracy']:.1f} %"
            width = 1.6 if place else 2.4  # so that both are seen where they coincide
            accuracy.plot(
                _of(rows, "samples"),
                100 * _of(rows, "accuracy"),
                color=COLOURS[name],
                linewidth=width,
                label=label,
            )
        accuracy.set(title="test accuracy (%)", xlabel="samples", ylim=(0, 102), xlim=(0, records[-1]["of"]))
        accuracy.legend(loc="lower right")
        _paths(paths, series)
        _histograms(histogram, series)
        _cost(cost, series, records[-1]["of"])
    return fig


def _by_scheme(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["scheme"], []).append(record)
    return found


def _of(rows: Sequence[Record], key: str) -> np.ndarray:
    return np.array([row[key] for row in rows], float)


def _paths(axes: Axes, series: dict[str, list[Record]]) -> None:
    """(G+, G-) of the followed synapses, from a cross to a dot."""
    for name, rows in series.items():
        if "plus" not in rows[-1]:
            continue
        plus, minus = (np.array([row[key] for row in rows]) for key in ("plus", "minus"))
        for k in range(plus.shape[1]):
            axes.plot(plus[:, k], minus[:, k], "-", color=COLOURS[name], linewidth=0.9, alpha=0.8)
            axes.plot(plus[0, k], minus[0, k], "x", color=COLOURS[name], markersize=4)
            axes.plot(plus[-1, k], minus[-1, k], "o", color=COLOURS[name], markersize=4)
    pair_plane(axes, "three synapses on their way, x to dot (dashed: weight 0)")


def _histograms(axes: Axes, series: dict[str, list[Record]]) -> None:
    for name, rows in series.items():
        if "histogram" in rows[-1]:
            shares = 100 * np.array(rows[-1]["histogram"])
            axes.stairs(
                shares, np.linspace(0, 1, len(shares) + 1), color=COLOURS[name], fill=True, alpha=0.25
            )
            axes.stairs(
                shares,
                np.linspace(0, 1, len(shares) + 1),
                color=COLOURS[name],
                label=f"{100 * rows[-1]['full']:.1f} % full (g > .99)",
            )
    axes.set(title="all conductances now", xlabel="g", ylabel="% of devices", xlim=(0, 1))
    axes.legend(loc="upper right")


def _cost(axes: Axes, series: dict[str, list[Record]], samples: int) -> None:
    for name, rows in series.items():
        seen = _of(rows, "samples")
        spent, refreshed, refresh = (
            np.diff(_of(rows, key)) / np.maximum(np.diff(seen), 1)
            for key in ("pulses", "refreshed", "refresh_pulses")
        )
        axes.plot(seen[1:], spent, color=COLOURS[name])
        if refreshed.any():
            axes.plot(seen[1:], refresh, "--", color=COLOURS[name], linewidth=1)
            axes.plot(
                seen[1:][refreshed > 0],
                np.zeros(int((refreshed > 0).sum())),
                "|",
                color=COLOURS[name],
                markersize=9,
            )
    axes.set(
        title="pulses a sample (dashed: of refresh; ticks: when)",
        xlabel="samples",
        xlim=(0, samples),
    )
    axes.set_ylim(bottom=-0.03 * max(axes.get_ylim()[1], 1))


def draw_currents(records: Sequence[Record]) -> Figure:
    """A digit, the currents that it drives through the two devices of each pixel's synapse, and the sums they make."""
    record = records[-1]
    side = record["side"]
    with figure(10.0, 4.4, layout=None) as fig:
        grid = fig.add_gridspec(2, 4, left=0.045, right=0.99, top=0.87, bottom=0.1, hspace=0.5, wspace=0.2)
        plus, minus = (np.array(record[key]).reshape(side, side) for key in ("plus", "minus"))
        most = max(plus.max(), minus.max(), 1e-6)
        second = "$x\\,G_{ref}$" if record["scheme"] == "reference" else "$x\\,G^-$"
        pictures = (
            (np.array(record["pixels"]).reshape(side, side), "Greys", 0, 1, f"digit, a {record['label']}"),
            (plus, "Reds", 0, most, f"$x\\,G^+$, unit {record['unit']}: {plus.sum():.2f}"),
            (minus, "Blues", 0, most, f"{second}: {minus.sum():.2f}"),
            (plus - minus, "RdBu_r", -most, most, f"difference: {(plus - minus).sum():+.2f}"),
        )
        for place, (picture, colours, low, high, title) in enumerate(pictures):
            axes = fig.add_subplot(grid[0, place])
            axes.imshow(picture, cmap=colours, vmin=low, vmax=high)
            axes.set(title=title, xticks=[], yticks=[])
            axes.grid(visible=False)
        hidden, outputs = fig.add_subplot(grid[1, :2]), fig.add_subplot(grid[1, 2:])
        colours = [RED if i == record["unit"] else GREY for i in range(len(record["hidden"]))]
        hidden.bar(np.arange(len(record["hidden"])), record["hidden"], color=colours)
        hidden.set(
            title="hidden activations (red: this unit)",
            xlabel="hidden unit",
            ylim=(min(0, *record["hidden"]), 1.05),
        )
        answer = int(np.argmax(record["outputs"]))
        outputs.bar(
            np.arange(10),
            record["outputs"],
            color=[GREEN if i == record["label"] else RED if i == answer else GREY for i in range(10)],
        )
        outputs.set(
            title=f"outputs: answer {answer}, {'right' if answer == record['label'] else 'wrong'}",
            xlabel="digit",
            ylim=(0, 1.05),
            xticks=range(10),
        )
        fig.suptitle(
            f"currents in units of Gmax x full drive, {LABELS[record['scheme']]}",
            fontsize=10,
            x=0.045,
            ha="left",
        )
    return fig
