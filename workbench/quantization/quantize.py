"""`quantize_layer`: RTN, GPTQ, GPTAQ, ResComp and the exact target behind one call."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from workbench.quantization.config import SolverConfig
from workbench.quantization.fast_solver import LayerResult, LayerSolver
from workbench.quantization.published_solver import PublishedSolver


def layer_solver(weight: Tensor, hessian: Tensor, cross: Tensor | None, config: SolverConfig, trace: bool = False) -> LayerSolver:
    """The solver of one layer, for those who watch: ``for done in solver.steps()``, then ``solver.current()``."""
    kind = PublishedSolver if config.compat == "published" else LayerSolver
    return kind(weight, hessian, cross, config, trace)


def quantize_layer(
    weight: Tensor,
    hessian: Tensor,
    cross: Tensor | None = None,
    *,
    method: str = "gptaq+rescomp",
    bits: int = 3,
    group_size: int | None = None,
    symmetric: bool = True,
    grid: str = "quarot",
    clip_search: bool = False,
    damping: float = 0.01,
    act_order: bool = False,
    static_groups: bool = False,
    block_size: int = 128,
    alpha: float = 0.25,
    beta: float = 0.25,
    rho: float = 1.0,
    r2_part: str = "full",
    compat: str = "clean",
    trace: bool = False,
) -> LayerResult:
    """Quantize one linear layer.

    `weight` is ``(out, in)``; `hessian` and `cross` are ``(in, in)``, from `layer_statistics`. Without `cross` the
    two streams are taken to be equal. The options are explained in `SolverConfig`. Computes in the weight's dtype,
    at least float32. The clean mode does not depend on `block_size`; ``compat="published"`` repeats the published
    programs (stale groups, lazy updates with rounded or clamped columns) code for code, and does.

    Raises ValueError for a wrong shape, a non-finite value or an option out of range. What was mended on the way
    (dead columns, more damping, a fall-back to rounding) stands in ``result.notes``.
    """
    knobs: dict[str, Any] = {  # which the config validates
        "method": method, "bits": bits, "group_size": group_size, "symmetric": symmetric, "grid": grid,
        "clip_search": clip_search, "damping": damping, "act_order": act_order, "static_groups": static_groups,
        "block_size": block_size, "alpha": alpha, "beta": beta, "rho": rho, "r2_part": r2_part, "compat": compat,
    }  # fmt: skip
    solver = layer_solver(weight, hessian, cross, SolverConfig(**knobs), trace)
    for _ in solver.steps():
        pass
    return solver.result()
