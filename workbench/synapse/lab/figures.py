"""Figures of the live experiments on a device, one synapse and one update; also the names and colours of all schemes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREEN, GREY, HAIR, INK, ORANGE, PINK, RED, SKY, text
from workbench.live import PIN_COLOURS, Pins, heading, live, part, stems, words
from workbench.measures import Measure, Note, SeriesStyle
from workbench.plotting import BEHIND

COLOURS = {
    "uni": RED, "alternating": GREEN, "push-pull": BLUE, "reference": PINK, "software": INK,
    "uni, no refresh": ORANGE, "software, then written": GREY, "reference, shifted": SKY,
}  # fmt: skip
LABELS = {
    "uni": "unidirectional", "alternating": "alternating", "push-pull": "push-pull", "reference": "one device",
    "software": "software back-propagation", "uni, no refresh": "unidirectional, no refresh",
    "reference, shifted": "one device, shifted",
    "software, then written": "software weights, written open-loop",
}  # fmt: skip
SHORT = {
    "uni": "unidirectional", "alternating": "alternating", "push-pull": "push-pull", "reference": "one device",
    "software": "software",
    "uni, no refresh": "no refresh", "reference, shifted": "one device, shifted", "software, then written": "software, written",
}  # fmt: skip
STYLES = {"reference": "--"}  # dashed, because the line of this scheme coincides with that of push-pull on linear devices
STYLE = SeriesStyle(SHORT, COLOURS)
ACCURACY = Measure("accuracy", "accuracy (%)", 100)
NOTE = Note(
    "test accuracy; the learning rate of each point is the best one on validation digits; ",
    "test accuracy; all points have the same learning rate; ",
    "the best learning rate is the lowest or highest one tried, so a rate outside this range might be better",
    failed="{failed} of {fits} runs stopped early because all hidden units were saturated",
    units="runs",
)
PLUS, MINUS = RED, SKY  # colours of the two conductances of a pair


@live
def draw_device(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw the conductance of a device against the number of pulses, and its step size against its conductance.

    Grey curves show the conductance of a few devices with variation.
    """
    record = records[-1]
    heading(fig, _device_title(record), _source(record))
    _stairs(part(fig, "stairs", 46, 56, 376, 326, gap=28), record, pinned)
    _steps(part(fig, "steps", 486, 56, 172, 326, gap=30), record)


def _stairs(stairs: Axes, record: Record, pinned: Pins) -> None:
    up, down, legend = record["levels"], record["levels_down"], []
    for (name, series), shade in zip(pinned, PIN_COLOURS, strict=False):
        _staircase(stairs, series[-1], shade)
        legend.append((f"– {name[:24]}  ", text(shade)))
    for curve in record["varied"]:
        stairs.plot(record["at"], curve, color=GREY, linewidth=0.7, alpha=0.7)
    if record["varied"]:
        legend.append(("– with variation  ", text(GREY)))
    at, g = np.array(record["at"]), np.array(record["g"])
    for colour, side in ((PLUS, at <= up), (BLUE, at >= up)):
        stairs.plot(at[side], g[side], color=colour, linewidth=1.5, drawstyle="steps-mid")
    if record["fit"]:
        stairs.plot(record["at"], record["fitted"], color=ORANGE, linewidth=1.2)
        legend.append(("– nearest exponential  ", text(ORANGE)))
    top = max([1.06, *(max(curve) + 0.04 for curve in record["varied"])])
    stairs.axvline(up, color=HAIR, linewidth=1)
    stairs.set(xlim=(0, up + down), ylim=(-0.04, top), yticks=(0, 0.5, 1), ylabel="conductance g", title="Pulse response")
    stairs.set(xlabel=f"pulse number: {up} up, then {down} down", xticks=(0, up, up + down) if down > 0.1 * up else (0, up))
    words(stairs, legend)


def _steps(steps: Axes, record: Record) -> None:
    g = np.linspace(0, 1, len(record["rise"]))
    steps.plot(g, record["rise"], color=PLUS)
    steps.plot(g, record["fall"], "--", color=BLUE)
    if record["symmetry_point"] is not None:
        steps.axvline(record["symmetry_point"], color=FAINT, linestyle=":", linewidth=1.2)
        side = "left" if record["symmetry_point"] < 0.5 else "right"
        steps.annotate(
            "symmetry point",
            (record["symmetry_point"], 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(4 if side == "left" else -4, 0),
            textcoords="offset points",
            ha=side,
            va="top",
            color=FAINT,
            fontsize=8,
        )
    most = max(1.2 * max(map(max, (record["rise"], record["fall"]))), 1.5)
    steps.set(
        xlim=(0, 1), xticks=(0, 0.5, 1), ylim=(0, most), xlabel="conductance g", ylabel="step / mean step", title="Step size"
    )
    steps.yaxis.set_major_locator(MaxNLocator(4))
    words(steps, [("– up  ", text(PLUS)), ("- - down", text(BLUE))])


def _staircase(axes: Axes, record: Record, colour: str) -> None:
    axes.plot(record["at"], record["g"], color=colour, linewidth=1.5, drawstyle="steps-mid")


def _device_title(record: Record) -> str:
    where = matching(record)
    return f"{record['levels']} levels up, {record['levels_down']} down: {where}"


def matching(record: Record) -> str:
    """Return the part of a sentence that states at which conductance the steps up and down are equal."""
    if record["symmetry_point"] is not None:
        return f"steps up and down are equal at g = {record['symmetry_point']:.2f}"
    apart = np.abs(np.subtract(record["rise"], record["fall"])).max()
    return f"steps up and down are equal {'everywhere' if apart < 0.05 else 'nowhere'}"


def _source(record: Record) -> str:
    """Return the subtitle: Gmax/Gmin, nu with NeuroSim's label, and the exponential fit or the source of the device."""
    parts = [f"Gmax/Gmin {record['on_off']:.3g}"]
    if record["labels"] is not None:
        up, down, label_up, label_down = record["labels"]
        parts.append(f"ν {up:.2g} up, {down:.2g} down (NeuroSim: {label_up:.2g}, {label_down:.2g})")
    if record["fit"] is not None:
        up, down, retraced, distance, residual = record["fit"]
        kind = "retraced" if retraced else "mirrored"
        parts.append(f"nearest exponential: ν {up:.2f} / {down:.2f} {kind}, rms distance {100 * distance:.2g} % of the range")
        if residual:
            parts.append(f"smoothing: {100 * residual:.2g} %")
    elif record["source"]:
        parts.append(record["source"])
    said = "; ".join(parts)
    return said if len(said) <= 118 else said[:117] + "…"


@live
def draw_one_synapse(fig: Figure, records: Sequence[Record], pinned: Pins = ()) -> None:
    """Draw the conductances of a pair during the pulses, their path in the plane (g+, g-), the weight, and the ideal weight."""
    record = records[-1]
    pulses, second = _pulses(record, "plus"), "g_ref" if record["scheme"] == "reference" else "g⁻"
    count = len(record["refreshed"])
    kept = f", refreshed {count} time{'s' * (count > 1)}" if count else ""
    heading(
        fig,
        f"Mean distance from the ideal weight over {pulses[-1]} pulses: {astray(record):.2f}",
        f"{LABELS[record['scheme']]}, {100 * record['up']:.0f} % of pulses up{kept}",
    )
    pair, weight = part(fig, "pair", 54, 56, 362, 136), part(fig, "weight", 54, 252, 362, 130)
    plane = part(fig, "plane", 462, 56, 196, 196, gap=24)
    legend = [("– g⁺  ", text(PLUS)), (f"– {second}", text(MINUS))]
    if count:
        refreshed = record["refreshed"]
        stems(pair, refreshed, -0.03, 1.05, color=GREY, linewidth=0.9, linestyle=":", rasterized=count > 300)
        legend.append(("  ⋮ refresh", text(GREY)))
    for key, colour in (("plus", PLUS), ("minus", MINUS)):
        for _, series in pinned:
            pair.plot(_pulses(series[-1], key), series[-1][key], ":", color=colour, linewidth=1)
        pair.plot(pulses, record[key], color=colour)
    if record["symmetry_point"] is not None and record["scheme"] != "uni":
        pair.axhline(record["symmetry_point"], color=FAINT, linestyle="--", linewidth=1)
        legend.append(("  - - symmetry point", FAINT))
    pair.set(xlim=(0, pulses[-1]), ylim=(-0.03, 1.05), ylabel="conductance", title="Two devices", xlabel="")
    words(pair, legend)
    legend = [("– ideal devices  ", text(GREY)), ("– actual", text(COLOURS[record["scheme"]]))]
    weight.plot(pulses, record["ideal"], color=GREY, linewidth=1)
    for name, series in pinned:
        weight.plot(_pulses(series[-1], "weight"), series[-1]["weight"], ":", color=COLOURS[series[-1]["scheme"]])
        legend.append((f"  ⋯ {name[:18]}", text(COLOURS[series[-1]["scheme"]])))
    weight.plot(pulses, record["weight"], color=COLOURS[record["scheme"]])
    reach = 1.1 * max(map(abs, [*record["weight"], *record["ideal"]])) + 0.02
    weight.set(xlim=(0, pulses[-1]), ylim=(-reach, reach), xlabel="pulses", ylabel="weight", title=f"Weight g⁺ − {second}")
    words(weight, legend)
    since = [0, *(at for at in record["refreshed"] if at < pulses[-1])][-1] // record["every"]
    plane.plot(record["plus"], record["minus"], color=GREY, linewidth=0.6, alpha=0.5)
    plane.plot(record["plus"][since:], record["minus"][since:], color=INK, linewidth=1.1)
    plane.plot(record["plus"][-1], record["minus"][-1], "o", color=COLOURS[record["scheme"]], markersize=7)
    pair_plane(plane, "Path (dot: now)", second)


def astray(record: Record) -> float:
    """Return the mean distance of the weight from the weight that ideal devices would have after the same pulses."""
    return float(np.abs(np.subtract(record["weight"], record["ideal"])).mean())


def pair_plane(axes: Axes, title: str, second: str = "g⁻") -> None:
    """Set up the plane of the two conductances of a pair, and draw the line of weight 0."""
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=":")
    axes.set(title=title, xlabel="g⁺", ylabel=second, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set(xticks=(0, 1), yticks=(0, 1))
    for said, x, y, side in (("weight < 0", 0.03, 0.9, "left"), ("weight > 0", 0.97, 0.04, "right")):
        axes.text(x, y, said, ha=side, color=FAINT, fontsize=8, bbox=BEHIND)


def _pulses(record: Record, key: str) -> np.ndarray:
    return record["every"] * np.arange(len(record[key]))


@live
def draw_update(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the distribution and the mean of the number of pulses that each rule sends, and the number that is required."""
    first = records[0]
    direction = "raise" if first["sign"] > 0 else "lower"
    right = sum(abs(r["mean"] - first["asked"]) < 0.1 for r in records)
    heading(
        fig,
        f"Required: {first['asked']:.2f} pulses; {right} of {len(records)} rules send about this number on average",
        f"the pulses {direction} the weight; one pulse changes it by {first['unit']:.4f}; 200 trials for each rule",
    )
    most = max([2, *(max(record["sizes"]) for record in records)]) + 0.6
    height = 320 / len(records) - 24
    for place, record in enumerate(records):
        axes = part(fig, record["rule"], 66, 72 + place * (height + 24), 440, height)
        stems(axes, record["sizes"], 0, record["share"], color=SKY, linewidth=9)
        axes.axvline(record["asked"], color=INK, linestyle="--", linewidth=1.3)
        axes.axvline(record["mean"], color=RED, linewidth=1.5)
        axes.set(xlim=(-0.6, most), ylim=(0, 1.02), yticks=(0, 1), ylabel="share", title=record["rule"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelbottom=place == len(records) - 1)
        said = f"{record['mean']:.2f} pulses on average"
        axes.annotate(
            said, (1, 0.5), xycoords="axes fraction", xytext=(10, -3), textcoords="offset points", fontsize=8.5, color=text(RED)
        )
        if not place:
            words(axes, [("▮ share of trials   ", text(SKY)), ("- - required   ", INK), ("– mean sent", text(RED))])
    axes.set_xlabel("pulses sent")
