"""The function `quantize_layer`, which runs RTN, GPTQ, GPTAQ, ResComp or our method `exact` on one layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from workbench.quantization.config import SolverConfig
from workbench.quantization.fast_solver import LayerResult, LayerSolver
from workbench.quantization.published_solver import PublishedSolver


def layer_solver(weight: Tensor, hessian: Tensor, cross: Tensor | None, config: SolverConfig, trace: bool = False) -> LayerSolver:
    """Return the solver of one layer. ``for done in solver.steps(): solver.current()`` gives the weight after each block."""
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

    The computation uses the dtype of the weight, but at least float32.

    Args:
        weight: the weight ``(out, in)``.
        hessian: the Hessian ``(in, in)`` from `layer_statistics`.
        cross: the cross statistics ``(in, in)`` from `layer_statistics`. None means that the quantized and the
            full-precision stream are equal.
        method: how rounding errors are compensated. `SolverConfig` explains this and all further options.
        compat: ``"clean"`` follows the papers; the result does not depend on `block_size`. ``"published"`` gives the same codes
            as the published programs (see `published_solver`), which depend on `block_size`.
        trace: whether to record in ``result.trace`` how each column is quantized.

    Returns:
        The quantized layer. ``result.notes`` lists problems that the solver handled: dead columns, a damping that had to be
        raised, or a Hessian with which only rounding to nearest was possible.

    Raises:
        ValueError: if a shape is wrong, a value is not finite, or an option is out of range.
    """
    knobs: dict[str, Any] = {  # validated by SolverConfig
        "method": method, "bits": bits, "group_size": group_size, "symmetric": symmetric, "grid": grid,
        "clip_search": clip_search, "damping": damping, "act_order": act_order, "static_groups": static_groups,
        "block_size": block_size, "alpha": alpha, "beta": beta, "rho": rho, "r2_part": r2_part, "compat": compat,
    }  # fmt: skip
    solver = layer_solver(weight, hessian, cross, SolverConfig(**knobs), trace)
    for _ in solver.steps():
        pass
    return solver.result()
