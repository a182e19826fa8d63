"""Live figures, drawn from records: a network at one moment of its training, a threshold on its gradients, and one weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from workbench.continual.lab.colours import COLOURS
from workbench.continual.lab.looking import RATES, SQUARES, SUMS
from workbench.experiment import Record
from workbench.inks import BLUE, FAINT, GREEN, GREY, HAIR, INK, ORANGE, PINK, RED, SKY, text
from workbench.live import heading, live, part, words

LAYERS = (ORANGE, BLUE, GREEN, PINK, SKY)


def _staircase(axes: Axes, shares: Sequence[float], ends: tuple[float, float], colour: str, fill: bool = False) -> None:
    edges = np.linspace(*ends, len(shares) + 1)
    axes.stairs(100 * np.array(shares), edges, color=colour, linewidth=1.3)
    if fill:
        axes.stairs(100 * np.array(shares), edges, color=colour, fill=True, alpha=0.3)


def _powers(axes: Axes, ends: tuple[float, float], every: int = 3) -> None:
    ticks = [t for t in range(round(ends[0]), round(ends[1]) + 1) if t % every == 0]
    axes.set_xticks(ticks, labels=[f"1e{t}" for t in ticks])
    axes.set_xlim(*ends)


@live
def draw_history(fig: Figure, records: Sequence[Record]) -> None:
    """Draw first-layer weights coloured by the plasticity left, and histograms of the sums and effective rates of each layer."""
    record = records[-1]
    free = np.array(record.get("free", [[0]])).mean()
    title = f"When {record['moment']}"
    if "free" in record:
        title += f", these six units have {free:.0f} % of their plasticity left"
    right = ", ".join(f"{100 * a:.0f}" for a in record["accuracies"])
    heading(
        fig,
        title,
        f"{record['tasks']} of {len(record['names'])} tasks learnt; test accuracy on all tasks, learnt or not: {right} %",
    )
    if "free" in record:
        _pictures(part(fig, "weights", 8, 62, 654, 128), record)
    for name, left, key, ends, label in (
        ("sums", 46, "sums", SUMS, "sum S of |g|^p"),
        ("rates", 392, "rates", RATES, "effective rate alpha / (eps + S)^(1/p)"),
    ):
        axes = part(fig, name, left, 232, 268, 150, gap=28)
        for layer, shares in enumerate(record[key]):
            _staircase(axes, shares, ends, LAYERS[layer % len(LAYERS)])
        _powers(axes, ends)
        axes.set(xlabel=label, ylim=(0, None))
        axes.set_title("Weights by sum (%)" if key == "sums" else "Weights by rate (%)")
        if key == "sums":
            none = ", ".join(f"{100 * share:.0f}" for share in record["untouched"])
            axes.text(0.02, 0.97, f"S = 0: {none} %", transform=axes.transAxes, va="top", fontsize=8, color=FAINT)
        if key == "rates":
            words(axes, [(f"– {k + 1} ", text(LAYERS[k % len(LAYERS)])) for k in range(len(record[key]))] + [("layer", FAINT)])


def _pictures(axes: Axes, record: Record) -> None:
    """Draw the incoming weights of six units: opaque if large, orange if free to move, blue if frozen, grey in between."""
    side = round(len(record["weights"][0]) ** 0.5)
    warm, cold, between = (np.array(to_rgb(colour)) for colour in (ORANGE, SKY, GREY))
    for place, (weights, free) in enumerate(zip(record["weights"], record["free"], strict=True)):
        share = np.array(free, float).reshape(side, side, 1) / 100
        shades = np.zeros((side, side, 4))
        towards = np.abs(2 * share - 1)  # in between is grey, since a mixture of orange and blue would be a muddy brown
        shades[..., :3] = towards * np.where(share < 0.5, cold, warm) + (1 - towards) * between
        shades[..., 3] = 0.15 + 0.85 * np.abs(np.array(weights, float).reshape(side, side)) / 100
        left = 1.08 * place
        axes.imshow(shades, interpolation="nearest", extent=(left, left + 1, 0, 1))
        axes.text(left, 1.04, f"unit {record['units'][place]}: {np.mean(free):.0f} %", fontsize=8)
    axes.text(
        1.08 * 6 - 0.08,
        -0.06,
        "percentage: plasticity left; orange: free to move, blue: frozen; opaque: large weight",
        ha="right",
        va="top",
        fontsize=8,
        color=FAINT,
    )
    axes.set(xlim=(-0.01, 6.42), ylim=(-0.16, 1.16), aspect="auto")
    axes.set_axis_off()


def power_of_ten(exponent: float) -> str:
    """Return 10 to the power `exponent` as text. The exponent is rounded to one decimal and written in superscript digits."""
    small = f"{exponent:.1f}".removesuffix(".0").translate(str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{small}"


@live
def draw_threshold(fig: Figure, records: Sequence[Record]) -> None:
    """Draw a histogram of the squared gradients of all weights on one batch. The bars above the threshold are filled."""
    record = records[-1]
    heading(
        fig, f"A threshold of {power_of_ten(record['cut_at'])} lets {100 * record['through']:.3g} % of the weights move",
        f"when {record['moment']}: squared gradients of one batch; the largest is {record['largest']:.2g}",
    )  # fmt: skip
    axes = part(fig, "squares", 46, 62, 612, 320)
    shares = 100 * np.array(record["histogram"])
    edges = np.linspace(*SQUARES, len(shares) + 1)
    passed = edges[:-1] >= record["cut_at"]
    axes.stairs(shares, edges, color=GREY, linewidth=1.2)
    axes.stairs(np.where(passed, shares, 0), edges, color=ORANGE, fill=True, alpha=0.6)
    top = max(shares.max() * 1.18, 1.0)
    axes.axvline(record["cut_at"], color=ORANGE, linewidth=2)
    axes.axvline(np.log10(0.5), color=FAINT, linestyle="--", linewidth=1.2)
    axes.text(np.log10(0.5) - 0.1, 0.97 * top, "published: 0.5", ha="right", va="top", fontsize=8, color=FAINT)
    _powers(axes, SQUARES, 2)
    axes.set(ylim=(0, top), xlabel="squared gradient of a weight", title="Weights (%)")
    words(
        axes,
        [
            ("▮ above the threshold   ", text(ORANGE)),
            ("– at or below it   ", text(GREY)),
            (f"{100 * record['zero']:.0f} % have gradient 0", FAINT),
        ],
    )


SWITCHES = {"paper": ORANGE, "published": RED, "adagrad": COLOURS["adagrad"], "sgd": COLOURS["sgd"]}
SWITCH_NAMES = {"paper": "CLASSP", "published": "published program", "adagrad": "AdaGrad", "sgd": "SGD"}


@live
def draw_weight(fig: Figure, records: Sequence[Record]) -> None:
    """Draw the value of one weight with four update rules, the distance that CLASSP moves it, and the mean step sizes.

    The dashed line shows the upper bound of the distance.
    """
    record = records[-1]
    bound, way = record["bound"], record["way"][-1]
    heading(
        fig, f"CLASSP moves the weight by {way:.2g} in total; the upper bound is {bound[-1]:.2g}",
        f"{record['steps']} gradients: {record['words']}; p = {record['power']:g}, alpha = {record['lr']:g}, "
        f"learning rate of SGD {record['sgd_lr']:g}",
    )  # fmt: skip
    steps = np.arange(len(record["weight_paper"]))
    axes = part(fig, "weight", 46, 62, 372, 320)
    for name, colour in SWITCHES.items():
        line = "--" if name == "published" else "-"
        axes.plot(steps, record[f"weight_{name}"], line, color=colour, linewidth=1.8)
    inside = np.concatenate([record["weight_paper"], record["weight_adagrad"]])
    span = max(inside.max() - inside.min(), 1e-9)
    low, high = inside.min() - 0.35 * span, inside.max() + 0.35 * span
    axes.set(xlim=(0, steps[-1]), ylim=(low, high), xlabel="step", title="Weight")
    if record["border"]:
        axes.axvline(record["border"], color=HAIR, linewidth=1.4)
    words(axes, [(f"– {SWITCH_NAMES[n]} ", text(c)) for n, c in SWITCHES.items()])
    path = part(fig, "way", 484, 62, 174, 140, gap=32)
    path.plot(steps, record["way"], color=ORANGE)
    path.plot(steps, bound, "--", color=INK, linewidth=1.1)
    path.set(xlim=(0, steps[-1]), ylim=(0, None), title="Distance")
    words(path, [("– CLASSP ", text(ORANGE)), ("- - bound", INK)])
    size = part(fig, "step", 484, 252, 174, 130, gap=32)
    every = -(-len(steps) // 60)  # each mean is over this many steps, since single steps are noisy
    for name in ("paper", "adagrad", "sgd"):
        moved = np.abs(np.diff(record[f"weight_{name}"]))
        means = np.array([part.mean() for part in np.array_split(moved, range(every, len(moved), every))])
        size.plot(steps[1::every][: len(means)], np.log10(np.maximum(means, 1e-9)), color=SWITCHES[name], linewidth=1.3)
    low, high = (round(end) for end in size.get_ylim())
    ticks = range(low, high + 1, max(1, (high - low) // 3))
    size.set_yticks(ticks, labels=[f"1e{tick}" for tick in ticks])
    size.set(xlim=(0, steps[-1]), xlabel="step", title="Mean step size")
