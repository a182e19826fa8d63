"""The settings of the layer solver, shared by `quantize_layer`, the panels, the comparisons and the command line."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from workbench.knobs import Config, knob

Method = Literal["rtn", "gptq", "gptq+rescomp", "foem", "gptaq", "gptaq+rescomp", "exact"]
# the methods that are compared; foem is left out, since it is the same as gptq+rescomp
METHODS = ("rtn", "gptq", "gptq+rescomp", "gptaq", "gptaq+rescomp", "exact")
MEANINGS = {
    "rtn": "rounds each weight to its nearest level, without compensation",
    "gptq": "rounds one column after another, and adjusts the remaining columns to keep the output nearly the same",
    "gptq+rescomp": "GPTQ that also corrects the residual r2, the effect of the changes that compensation has made",
    "foem": "the same as gptq+rescomp",
    "gptaq": "GPTQ that also corrects the residual r1, the output error that comes from the quantized layers before this one",
    "gptaq+rescomp": "GPTQ that corrects both residuals",
    "exact": "shifts all weights once to the least-squares solution for the full-precision output, then runs GPTQ",
}
REPAYS_R2 = ("gptq+rescomp", "gptaq+rescomp", "foem")


def _upstream(config: Any) -> bool:
    """Return whether earlier layers of the model are quantized with GPTQ. If so, some knobs of this layer apply to them too."""
    return getattr(config, "upstream", "none") == "gptq"


def _damped(config: Any) -> bool:
    return config.method != "rtn" or (_upstream(config) and config.upstream_damping is None)


ROUNDS = "rounding to nearest (rtn) does not compensate for errors"
COMPENSATES = (lambda c: c.method != "rtn", ROUNDS)


class GridConfig(Config):
    """The grid: the values that quantized weights can take."""

    title: ClassVar[str] = "grid"
    bits: Literal[2, 3, 4, 5, 6, 7, 8, 16] = knob(
        3,
        "bits per weight",
        "The number of bits of a quantized weight. Fewer bits give a larger error; 16 leaves the layer unchanged.",
        essential=True,
    )
    group_size: int | None = knob(
        None,
        "group size",
        "The number of consecutive input columns that share one scale in each row. Small groups follow the weights more closely "
        "but need more scales. none: one scale for the whole row.",
        low=1,
        choices=(None, 16, 32, 64, 96, 128),
        essential=True,
    )
    symmetric: bool = knob(
        True,
        "symmetric grid",
        "Use a grid that is symmetric about zero. Off: the grid covers the range from the lowest to the highest weight.",
    )
    grid: Literal["quarot", "ist"] = knob(
        "quarot",
        "grid convention",
        "The convention for symmetric grids. quarot: as in QuaRot and GPTAQ. ist: as in the GPTQ program of IST-DASLab.",
        when=(lambda c: c.symmetric, "there is only one convention for asymmetric grids"),
    )
    clip_search: bool = knob(
        False,
        "clipping search",
        "Search for a smaller range of the grid that gives a smaller rounding error (the sum of |q - w|^2.4 for weights w and "
        "rounded weights q). Off: the grid covers the full range of the weights.",
    )


class SolverConfig(GridConfig):
    """The settings with which a layer is quantized."""

    title: ClassVar[str] = "solver"
    method: Method = knob(
        "gptaq+rescomp",
        "method",
        "The method that compensates for rounding errors.\n" + "\n".join(f"{name}: {said}." for name, said in MEANINGS.items()),
        essential=True,
    )
    damping: float = knob(
        0.01,
        "damping",
        "The number that is added to the diagonal of the Hessian, as a fraction of the mean of the diagonal. More damping makes "
        "the compensation more stable, but weaker.",
        low=0.0,
        high=1.0,
        log=True,
        when=(_damped, ROUNDS),
    )
    act_order: bool = knob(
        False,
        "activation order",
        "Quantize the columns with the largest mean squared inputs first. Off: keep the original order of the columns.",
        when=(lambda c: c.method != "rtn" or _upstream(c), ROUNDS),
    )
    static_groups: bool = knob(
        False,
        "static groups",
        "Fit the grids of all groups before the first column is quantized, with groups in the original column order. Off: fit "
        "the grid of a group when the first column of the group is reached.",
        when=(
            lambda c: c.group_size is not None and c.method != "rtn",
            "without groups, or with rounding to nearest, static groups change nothing",
        ),
    )
    block_size: int = knob(
        128,
        "block size",
        "The number of columns that are quantized before all later columns are updated (lazy update). In the published programs, "
        "the result depends on the block size.",
        low=1,
        high=65536,
        choices=(1, 16, 32, 64, 128, 256),
        when=(
            lambda c: c.compat == "published" and c.method != "rtn",
            "in our implementation, and with rounding to nearest, the block size changes only the speed",
        ),
    )
    alpha: float = knob(
        0.25,
        "strength of r1",
        "alpha: the fraction of r1 that GPTAQ corrects. r1 is the output error that comes from the quantized layers before this "
        "one. 0 corrects nothing, 1 corrects all of r1.",
        low=0.0,
        high=1.0,
        step=0.05,
        essential=True,
        when=(
            lambda c: c.method.startswith("gptaq") and getattr(c, "upstream", "") != "none",
            "only GPTAQ corrects r1, and r1 is 0 unless earlier layers are quantized",
        ),
    )
    beta: float = knob(
        0.25,
        "strength of r2",
        "beta: the fraction of r2 that ResComp corrects. r2, the compensation-aware error, is (W0 - W) Xref with the original "
        "weight W0, the current weight W and the full-precision input Xref. 0 corrects nothing, 1 corrects all of r2.",
        low=0.0,
        high=1.0,
        step=0.05,
        essential=True,
        when=(lambda c: c.method in REPAYS_R2, "only ResComp and FOEM correct r2"),
    )
    rho: float = knob(
        1.0,
        "shift to the target",
        "How far the method exact shifts the weights towards the full-precision target before it quantizes them. 0: no shift, as "
        "in GPTQ. 1: the full shift.",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(
            lambda c: c.method == "exact" and getattr(c, "upstream", "") != "none",
            "only the method exact shifts the weights, and only if earlier layers are quantized",
        ),
    )
    r2_part: Literal["full", "x", "dx"] = knob(
        "full",
        "part of r2",
        "The part of r2 that is corrected. full: all of it, (W0 - W) Xref. x: only (W0 - W) X. dx: only (W0 - W) (Xref - X). X "
        "is the input of the layer after earlier layers were quantized, and Xref is its full-precision input.",
        when=(lambda c: c.method in REPAYS_R2 and c.beta > 0, "no part of r2 is corrected"),
    )
    compat: Literal["clean", "published"] = knob(
        "clean",
        "implementation",
        "clean: the equations of the papers. published: the published programs, including their deviations from the papers.",
        when=COMPENSATES,
    )

    @field_validator("compat", mode="before")
    @classmethod
    def _former_name(cls, value: object) -> object:
        return "published" if value == "reference" else value

    @model_validator(mode="after")
    def _groups_fit_blocks(self) -> Self:
        group, block = self.group_size, self.block_size
        if self.compat == "published" and group and group % block and block % group:
            raise ValueError(
                f"group_size={group}, block_size={block}: expected that one is a multiple of the other, since with "
                "compat='published' the grids depend on where blocks end; change block_size, or use compat='clean'"
            )
        return self

    def strengths(self) -> tuple[float, float, float]:
        """Return the three scalars of `column_loop`: a (strength of r1), b_x and b_dx (strengths of the X and dX parts of r2)."""
        alpha = self.alpha if self.method.startswith("gptaq") else 0.0
        beta = self.beta if self.method in REPAYS_R2 else 0.0
        x, dx = (beta if self.r2_part in ("full", part) else 0.0 for part in ("x", "dx"))
        return alpha, x, dx if self.method == "gptaq+rescomp" else 0.0
