"""Records in, matplotlib figures out: a device, one synapse, one update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workbench.experiment import Record
from workbench.plotting import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, figure

Pinned = tuple[str, list[Record]] | None
COLOURS = {
    "uni": RED, "alternating": GREEN, "push-pull": BLUE, "reference": PINK, "software": BLACK,
    "uni, no refresh": ORANGE, "software, then written": GREY, "reference, shifted": SKY,
}  # fmt: skip
LABELS = {
    "uni": "unidirectional", "alternating": "alternating", "push-pull": "push-pull", "reference": "one device + reference",
    "software": "software back-propagation", "uni, no refresh": "unidirectional, no refresh",
    "reference, shifted": "one device + reference at its symmetry point",
    "software, then written": "software weights, written open-loop",
}  # fmt: skip
SHORT = {
    "uni": "unidirectional", "alternating": "alternating", "push-pull": "push-pull", "reference": "one device",
    "software": "software",
    "uni, no refresh": "no refresh", "reference, shifted": "one device, shifted", "software, then written": "written",
}  # fmt: skip
STYLES = {"reference": "--"}  # on linear devices it lies on push-pull
PLUS, MINUS = RED, SKY  # the two conductances of a pair


def draw_device(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """The staircase of a device, its steps against conductance, and a few devices as they come out of the fab."""
    record = records[-1]
    # drawn at each move of a slider: no constrained layout, few artists
    with figure(8.6, 3.1, layout=None) as fig:
        stairs, steps = fig.subplots(
            1,
            2,
            width_ratios=[3, 2],
            gridspec_kw={"left": 0.075, "right": 0.985, "bottom": 0.215, "top": 0.84, "wspace": 0.2},
        )
        if pinned:
            _staircase(stairs, pinned[1][-1], PINK, "pinned")
        for curve in record["varied"]:
            stairs.plot(record["at"], curve, color=GREY, linewidth=0.6, alpha=0.7)
        _staircase(stairs, record, BLACK, "conductance")
        if record["fit"]:
            stairs.plot(record["at"], record["fitted"], color=ORANGE, linewidth=1)
        stairs.set_title(_device_title(record), fontsize=9)
        top = max([1.06, *(max(curve) + 0.04 for curve in record["varied"])])
        stairs.set(xlabel="pulses: LTP up, then LTD down", ylabel="g", ylim=(-0.04, top), yticks=(0, 0.5, 1))
        fig.text(0.075, 0.015, _source(record), fontsize=7, color=GREY)
        up, down = record["levels"], record["levels_down"]
        stairs.set_xticks((0, up, up + down) if down > 0.1 * up else (0, up))  # a tick costs 2 ms
        g = np.linspace(0, 1, len(record["rise"]))
        steps.plot(g, record["rise"], color=PLUS, label="LTP, up")
        steps.plot(g, record["fall"], "--", color=BLUE, label="LTD, down")
        steps.set_title(_step_title(record), fontsize=9)
        if record["symmetry_point"] is not None:
            steps.axvline(record["symmetry_point"], color=GREY, linestyle="--", linewidth=1)
        steps.set(
            xlabel="g",
            xticks=(0, 0.5, 1),
            ylabel="step, in 1 / levels",
            ylim=(0, max(1.2 * max(map(max, (record["rise"], record["fall"]))), 1.5)),
        )
        steps.yaxis.set_major_locator(MaxNLocator(4))
        for place, (colour, label) in enumerate(
            ((PLUS, "LTP, up"), (BLUE, "LTD, down"))
        ):  # a legend costs 10 ms
            steps.text(0.3 + 0.25 * place, 0.9, label, color=colour, transform=steps.transAxes)
    return fig


def _staircase(axes: Axes, record: Record, colour: str, label: str) -> None:
    style = {"linewidth": 1.4, "drawstyle": "steps-mid"}
    axes.plot(record["at"], record["g"], color=colour, label=label, **style)


def _device_title(record: Record) -> str:
    return f"{record['device']}: {record['levels']} up, {record['levels_down']} down, Gmax/Gmin {record['on_off']:.3g}"


def _source(record: Record) -> str:
    if record["fit"] is None:
        return record["source"]
    up, down, retraced, distance, residual = record["fit"]
    kind = "retraced" if retraced else "mirrored"
    smoothed = f"; smoothing moved the curve by {100 * residual:.2g} %" if residual else ""
    return (
        f"orange: the nearest exponential device, ν {up:.2f} / {down:.2f} {kind}, {100 * distance:.2g} % of the range away "
        f"(rms){smoothed}"
    )


def _step_title(record: Record) -> str:
    point = record["symmetry_point"]
    where = "no symmetry point" if point is None else f"g* = {point:.2f}"
    if record["labels"] is None:
        return where
    up, down, label_up, label_down = record["labels"]
    return f"ν {up:.2g} / {down:.2g}, NL {label_up:.2g} / {label_down:.2g}, {where}"


def draw_one_synapse(records: Sequence[Record], pinned: Pinned = None) -> Figure:
    """The pair against the pulses, its weight against an ideal one, and its path in the plane of (G+, G-)."""
    record = records[-1]
    with figure(10.0, 3.2, layout=None) as fig:
        pair, weight, plane = fig.subplots(
            1, 3, gridspec_kw={"left": 0.055, "right": 0.99, "bottom": 0.16, "top": 0.86, "wspace": 0.22}
        )
        pulses = _pulses(record, "plus")
        single = record["scheme"] == "reference"
        for key, colour, label in (
            ("plus", PLUS, "$g^+$"),
            ("minus", MINUS, "$g_{ref}$" if single else "$g^-$"),
        ):
            pair.plot(pulses, record[key], color=colour, label=label)
            if pinned:
                other = pinned[1][-1]
                pair.plot(_pulses(other, key), other[key], ":", color=colour, linewidth=1)
        if record["symmetry_point"] is not None and record["scheme"] != "uni":
            pair.axhline(record["symmetry_point"], color=GREY, linestyle="--", linewidth=1, label="$g^*$")
        for step in record["refreshed"]:
            pair.axvline(step, color=ORANGE, linewidth=0.7)
        pair.legend(ncols=3, loc="upper right")
        pair.set(
            title=f"{LABELS[record['scheme']]}, {100 * record['up']:.0f} % of pulses up",
            xlabel="pulses",
            ylabel="g",
            ylim=(-0.03, 1.18),
        )
        weight.plot(pulses, record["ideal"], color=GREY, label="without limits", linewidth=1)
        weight.plot(pulses, record["weight"], color=COLOURS[record["scheme"]], label="of the devices")
        if pinned:
            other = pinned[1][-1]
            weight.plot(
                _pulses(other, "weight"),
                other["weight"],
                ":",
                color=COLOURS[other["scheme"]],
                label="pinned",
            )
        reach = 1.15 * max(map(abs, record["weight"])) + 0.05
        weight.set(
            title="the weight" + (", lines: refresh" if record["refreshed"] else ""),
            xlabel="pulses",
            ylabel="w",
            ylim=(-reach, reach),
        )
        weight.legend(loc="lower left", ncols=2)
        plane.plot(record["plus"], record["minus"], color=BLACK, linewidth=0.8)
        plane.plot(record["plus"][-1], record["minus"][-1], "o", color=RED, markersize=5)
        pair_plane(plane, "its path (dashed: weight 0)")
    return fig


def pair_plane(axes: Axes, title: str) -> None:
    """The plane of the two conductances of a pair, with the line of weight 0."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle="--")
    ends = {"xlim": (-0.03, 1.03), "ylim": (-0.03, 1.03)}
    axes.set(title=title, xlabel="$g^+$", ylabel="$g^-$", **ends)


def _pulses(record: Record, key: str) -> np.ndarray:
    return record["every"] * np.arange(len(record[key]))


def draw_update(records: Sequence[Record]) -> Figure:
    """Pulses sent for one input and error: how often each number, and the mean against what the gradient asks for."""
    with figure(9.6, 2.8, layout=None) as fig:
        axes = fig.subplots(
            1,
            len(records),
            sharey=True,
            squeeze=False,
            gridspec_kw={"left": 0.06, "right": 0.99, "bottom": 0.18, "top": 0.8, "wspace": 0.08},
        )
        most = max([4, *(max(record["sizes"]) + 1 for record in records)])
        for place, (record, axis) in enumerate(zip(records, axes[0], strict=True)):
            axis.bar(record["sizes"], record["share"], color=SKY, width=0.8)
            axis.axvline(record["asked"], color=BLACK, linestyle="--", linewidth=1.2)
            axis.axvline(record["mean"], color=RED, linewidth=1.2)
            axis.set(title=record["rule"], xlabel="pulses", xlim=(-0.6, most), ylim=(0, 1.02))
            if not place:
                axis.set_ylabel("share of tries")
        first = records[0]
        direction = "raise" if first["sign"] > 0 else "lower"
        fig.suptitle(
            f"one update ({direction} the weight): dashed, what the gradient asks for, {first['asked']:.2f} pulses "
            f"of {first['unit']:.4f}; red, what is sent on average",
            fontsize=10, x=0.06, ha="left",
        )  # fmt: skip
    return fig
