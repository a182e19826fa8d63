"""The knobs of the layer solver, declared once for `quantize_layer`, the panels, the sweeps and the command line."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from workbench.experiment import Config, knob

Method = Literal["rtn", "gptq", "gptq+rescomp", "foem", "gptaq", "gptaq+rescomp", "exact"]
# each method once, to compare them all: foem is gptq+rescomp under another name
METHODS = ("rtn", "gptq", "gptq+rescomp", "gptaq", "gptaq+rescomp", "exact")


class GridConfig(Config):
    """Which values the weights may take."""

    bits: Literal[2, 3, 4, 5, 6, 7, 8, 16] = knob(3, "bits a weight; 16 leaves the layer as it is")
    group_size: int | None = knob(
        None,
        "input columns that share a scale; none = the whole row",
        low=1,
        choices=(None, 16, 32, 64, 96, 128),
    )
    symmetric: bool = knob(True, "grid symmetric about zero")
    grid: Literal["quarot", "ist"] = knob(
        "quarot", "symmetric convention: QuaRot and GPTAQ's, or IST-DASLab's"
    )
    clip_search: bool = knob(False, "search the clipping range with the least |q - w|^2.4")


class SolverConfig(GridConfig):
    """How a layer is quantized."""

    method: Method = knob("gptaq+rescomp", "solver; foem's error term is gptq+rescomp under another name")
    damping: float = knob(
        0.01, "added to the Hessian's diagonal, as a share of its mean", low=0.0, high=1.0, log=True
    )
    act_order: bool = knob(False, "quantize the columns with the largest inputs first")
    static_groups: bool = knob(False, "fit all groups before the first column, in the original order")
    block_size: int = knob(
        128,
        "columns between two lazy updates of the rest",
        low=1,
        high=65536,
        choices=(1, 16, 32, 64, 128, 256),
    )
    alpha: float = knob(0.25, "strength of r1, GPTAQ's term", low=0.0, high=1.0, step=0.05)
    beta: float = knob(
        0.25, "strength of r2, ResComp's compensation-aware error", low=0.0, high=1.0, step=0.05
    )
    rho: float = knob(
        1.0, "how far 'exact' shifts the weights to the full-precision target", low=0.0, high=1.0, step=0.05
    )
    r2_part: Literal["full", "x", "dx"] = knob(
        "full", "part of r2 that is repaid: all, its X part, its dX part"
    )
    compat: Literal["clean", "reference"] = knob("clean", "clean, or the authors' program code for code")

    @model_validator(mode="after")
    def _groups_fit_blocks(self) -> Self:
        group, block = self.group_size, self.block_size
        if self.compat == "reference" and group and group % block and block % group:
            raise ValueError(
                f"group_size={group}, block_size={block}: expected one to divide the other with compat='reference', "
                "where the grid would otherwise depend on the block; use block_size=128, or compat='clean'"
            )
        return self

    def strengths(self) -> tuple[float, float, float]:
        """(r1, X part of r2, dX part of r2): the three scalars that tell the methods apart."""
        alpha = self.alpha if self.method.startswith("gptaq") else 0.0
        beta = self.beta if self.method.endswith("rescomp") or self.method == "foem" else 0.0
        x, dx = (beta if self.r2_part in ("full", part) else 0.0 for part in ("x", "dx"))
        return alpha, x, dx if self.method == "gptaq+rescomp" else 0.0
