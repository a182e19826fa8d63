"""Records of comparisons in, matplotlib figures out: methods over bits, groups, strengths, tokens, block sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.experiment import Record
from workbench.plotting import BLACK, BLUE, GREEN, ORANGE, RED, figure
from workbench.quantization.figures import COLOURS, ERROR, LABELS


def _method_lines(axes: Axes, table: pd.DataFrame, x: str, column: str) -> None:
    """Mean and spread (standard deviation over samples) of each method along x."""
    for method, rows in table.groupby("method", sort=False):
        grouped = rows.groupby(x, sort=False)[column]
        mean, spread = 100 * grouped.mean(), 100 * grouped.std().fillna(0)
        axes.errorbar(
            mean.index,
            mean,
            yerr=spread,
            color=COLOURS[method],
            marker="o",
            markersize=3,
            capsize=2,
            label=LABELS[method],
        )


def draw_bits_groups(records: Sequence[Record]) -> Figure:
    """Held-out (line) error against group size, a panel a bit width."""
    table = pd.DataFrame(records)
    with figure(10.5, 3.8) as fig:
        bits = sorted(table["bits"].unique())
        for axes, b in zip(np.atleast_1d(fig.subplots(1, len(bits))), bits, strict=True):
            _method_lines(axes, table[table["bits"] == b], "groups", "held_out")
            axes.set(
                title=f"{b} bits",
                xlabel="columns that share a scale",
                ylabel=f"held-out {ERROR}" if b == bits[0] else "",
            )
        axes.legend()
        fig.suptitle(
            f"{table['layer'][0]}: error against bits and groups (bars: standard deviation over samples)",
            fontsize=10,
        )
    return fig


def draw_terms(records: Sequence[Record]) -> Figure:
    """Error of each set of terms relative to GPTQ's on the same layer and sample."""
    table = relative_to(pd.DataFrame(records), "gptq")
    with figure(10.5, 4.0) as fig:
        bits = sorted(table["bits"].unique())
        grid = fig.subplots(1, len(bits), sharey=True, squeeze=False)[0]
        for axes, b in zip(grid, bits, strict=True):
            part = table[table["bits"] == b]
            names = list(part["terms"].unique())
            for offset, (column, colour) in enumerate((("error", BLUE), ("held_out", ORANGE))):
                groups = [100 * part[part["terms"] == n][column].dropna().to_numpy() for n in names]
                for y, values in enumerate(groups):
                    at = y + 0.16 * (2 * offset - 1)
                    axes.plot(values, np.full(len(values), at), ".", color=colour, alpha=0.35, markersize=4)
                    if len(values):
                        axes.plot(values.mean(), at, "D", color=colour, markersize=5)
            axes.axvline(100, color=BLACK, linewidth=0.8)
            axes.set_xlim(
                0,
                max(
                    130,
                    5
                    + float(
                        np.nanmax(
                            100 * part[part["terms"] != "rtn"][["error", "held_out"]].to_numpy(), initial=0
                        )
                    ),
                ),
            )
            axes.set(
                title=f"{b} bits",
                xlabel="error, % of GPTQ's on the same layer and sample",
                yticks=range(len(names)),
                yticklabels=names,
            )
        if not grid[0].yaxis_inverted():
            grid[0].invert_yaxis()
        for colour, label in ((BLUE, "calibration"), (ORANGE, "held out")):
            grid[-1].plot([], [], "D", color=colour, label=label)
        grid[-1].legend(loc="lower left")
        fig.suptitle(
            f"terms on and off, {table['layer'].nunique()} layers; a dot is a layer and sample, a diamond their mean",
            fontsize=10,
        )
    return fig


def relative_to(table: pd.DataFrame, base: str) -> pd.DataFrame:
    """`error` and `held_out` divided by those of the terms `base` at the same layer, bits and seed."""
    keys = ["layer", "bits", "seed"]
    bases = table[table["terms"] == base].set_index(keys)[["error", "held_out"]]
    joined = table.join(bases, on=keys, rsuffix="_base")
    return joined.assign(
        error=joined["error"] / joined["error_base"], held_out=joined["held_out"] / joined["held_out_base"]
    )


def draw_strengths(records: Sequence[Record]) -> Figure:
    """Error over alpha and beta, calibration and held out; the least and the program's 0.25 are marked."""
    table = pd.DataFrame(records)
    with figure(9.5, 3.9) as fig:
        for axes, column, title in zip(
            fig.subplots(1, 2), ("error", "held_out"), ("calibration", "held out"), strict=True
        ):
            mean = 100 * table.pivot_table(index="beta", columns="alpha", values=column, aggfunc="mean")
            picture = axes.pcolormesh(
                mean.columns, mean.index, mean.to_numpy(), cmap="viridis_r", shading="nearest"
            )
            fig.colorbar(picture, ax=axes, label="error, % of $\\|W_0\\tilde X\\|$")
            least = mean.stack().idxmin()
            axes.plot(
                least[1], least[0], "*", color="white", markersize=13, markeredgecolor=BLACK, label="least"
            )
            axes.plot(
                0.25,
                0.25,
                "s",
                color="none",
                markersize=9,
                markeredgecolor="white",
                label="the authors' program",
            )
            axes.plot(
                1, 1, "D", color="none", markersize=9, markeredgecolor="white", label="the paper's formula"
            )
            axes.set(title=title, xlabel="alpha, strength of $r_1$", ylabel="beta, strength of $r_2$")
            axes.grid(visible=False)
        axes.legend(loc="upper left", labelcolor="white")
    return fig


def draw_tokens_damping(records: Sequence[Record]) -> Figure:
    """Calibration (faint) and held-out error against tokens, a panel a damping."""
    table = pd.DataFrame(records)
    with figure(9.5, 3.9) as fig:
        dampings = sorted(table["damping"].unique())
        for axes, damping in zip(
            np.atleast_1d(fig.subplots(1, len(dampings), sharey=True)), dampings, strict=True
        ):
            part = table[table["damping"] == damping]
            _method_lines(axes, part, "tokens", "held_out")
            for method, rows in part.groupby("method", sort=False):
                mean = 100 * rows.groupby("tokens")["error"].mean()
                axes.plot(mean.index, mean, ":", color=COLOURS[method], linewidth=1)
            axes.set_xscale("log", base=2)
            axes.set_xticks(part["tokens"].unique(), [str(t) for t in part["tokens"].unique()])
            axes.set(
                title=f"damping {damping:g}",
                xlabel="calibration tokens",
                ylabel=ERROR if damping == dampings[0] else "",
            )
        axes.legend()
        fig.suptitle(f"{table['layer'][0]}: held out (lines) and calibration (dotted)", fontsize=10)
    return fig


def draw_block_size(records: Sequence[Record]) -> Figure:
    """Share of codes that change with the block size, and what that does to the error."""
    table = pd.DataFrame(records)
    with figure(8.5, 3.2) as fig:
        codes, error = fig.subplots(1, 2)
        for compat, colour in (("clean", GREEN), ("reference", RED)):
            rows = table[table["compat"] == compat].groupby("block_size")
            if len(rows):
                codes.plot(
                    rows["codes_changed"].mean() * 100,
                    "-o",
                    color=colour,
                    label={"clean": "clean form", "reference": "authors' code"}[compat],
                )
                error.plot(rows["error"].mean() * 100, "-o", color=colour)
        codes.set(title="codes that differ from the smallest block's", xlabel="block size", ylabel="%")
        error.set(title="error", xlabel="block size", ylabel=ERROR)
        codes.legend()
    return fig
