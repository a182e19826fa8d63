"""The knobs of the layer solver, declared once for `quantize_layer`, the panels, the sweeps and the command line."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from workbench.knobs import Config, knob

Method = Literal["rtn", "gptq", "gptq+rescomp", "foem", "gptaq", "gptaq+rescomp", "exact"]
# each method once, to compare them all: foem is gptq+rescomp under another name
METHODS = ("rtn", "gptq", "gptq+rescomp", "gptaq", "gptaq+rescomp", "exact")
REPAYS_R2 = ("gptq+rescomp", "gptaq+rescomp", "foem")


def _upstream(config: Any) -> bool:
    """Whether layers before this one, if the config has any, are quantized by GPTQ, which some of these knobs reach too."""
    return getattr(config, "upstream", "none") == "gptq"


def _damped(config: Any) -> bool:
    return config.method != "rtn" or (_upstream(config) and config.upstream_damping is None)


ROUNDS = "rounding to nearest compensates nothing"
COMPENSATES = (lambda c: c.method != "rtn", ROUNDS)


class GridConfig(Config):
    """Which values the weights may take."""

    title: ClassVar[str] = "grid"
    bits: Literal[2, 3, 4, 5, 6, 7, 8, 16] = knob(3, "bits per weight", "16 leaves the layer as it is", essential=True)
    group_size: int | None = knob(
        None,
        "group size",
        "input columns that share a scale; none: the whole row",
        low=1,
        choices=(None, 16, 32, 64, 96, 128),
        essential=True,
    )
    symmetric: bool = knob(True, "symmetric", "whether the grid is symmetric about zero")
    grid: Literal["quarot", "ist"] = knob(
        "quarot",
        "grid convention",
        "of symmetric grids: QuaRot and GPTAQ's, or IST-DASLab's",
        when=(lambda c: c.symmetric, "there is one asymmetric grid only"),
    )
    clip_search: bool = knob(False, "clipping search", "search the clipping range with the least |q - w|^2.4")


class SolverConfig(GridConfig):
    """How a layer is quantized."""

    title: ClassVar[str] = "solver"
    method: Method = knob("gptaq+rescomp", "method", "foem's error term is gptq+rescomp under another name", essential=True)
    damping: float = knob(
        0.01,
        "damping",
        "added to the Hessian's diagonal, as a share of its mean",
        low=0.0,
        high=1.0,
        log=True,
        when=(_damped, ROUNDS),
    )
    act_order: bool = knob(
        False,
        "activation order",
        "quantize the columns with the largest inputs first",
        when=(lambda c: c.method != "rtn" or _upstream(c), ROUNDS),
    )
    static_groups: bool = knob(
        False,
        "static groups",
        "fit all groups before the first column, in the original order",
        when=(lambda c: c.group_size is not None and c.method != "rtn", "whole rows and plain rounding know no other"),
    )
    block_size: int = knob(
        128,
        "block size",
        "columns between two lazy updates of the rest",
        low=1,
        high=65536,
        choices=(1, 16, 32, 64, 128, 256),
        when=(
            lambda c: c.compat == "published" and c.method != "rtn",
            "in the clean form, and in plain rounding, it changes only the speed",
        ),
    )
    alpha: float = knob(
        0.25,
        "strength of r1",
        "alpha: the share of the stream difference that each column repays (GPTAQ)",
        low=0.0,
        high=1.0,
        step=0.05,
        essential=True,
        when=(
            lambda c: c.method.startswith("gptaq") and getattr(c, "upstream", "") != "none",
            "only GPTAQ has this term, and only where the streams differ",
        ),
    )
    beta: float = knob(
        0.25,
        "strength of r2",
        "beta: the share of the compensation-aware error that each column repays (ResComp)",
        low=0.0,
        high=1.0,
        step=0.05,
        essential=True,
        when=(lambda c: c.method in REPAYS_R2, "only ResComp (and FOEM) has this term"),
    )
    rho: float = knob(
        1.0,
        "shift to the target",
        "how far exact shifts the weights to the full-precision target",
        low=0.0,
        high=1.0,
        step=0.05,
        when=(
            lambda c: c.method == "exact" and getattr(c, "upstream", "") != "none",
            "only the exact target shifts, and only where the streams differ",
        ),
    )
    r2_part: Literal["full", "x", "dx"] = knob(
        "full",
        "part of r2",
        "which is repaid: all, its X part, its dX part",
        when=(lambda c: c.method in REPAYS_R2 and c.beta > 0, "no part of r2 is repaid"),
    )
    compat: Literal["clean", "published"] = knob(
        "clean", "form", "clean, or the published program code for code", when=COMPENSATES
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
                f"group_size={group}, block_size={block}: expected one to divide the other with compat='published', "
                "where the grid would otherwise depend on the block; use block_size=128, or compat='clean'"
            )
        return self

    def strengths(self) -> tuple[float, float, float]:
        """(r1, X part of r2, dX part of r2): the three scalars that tell the methods apart."""
        alpha = self.alpha if self.method.startswith("gptaq") else 0.0
        beta = self.beta if self.method in REPAYS_R2 else 0.0
        x, dx = (beta if self.r2_part in ("full", part) else 0.0 for part in ("x", "dx"))
        return alpha, x, dx if self.method == "gptaq+rescomp" else 0.0
