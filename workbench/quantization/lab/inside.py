"""Functions for the notebook `02-inside`, which compares formulas of the algorithm with direct computations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench import models
from workbench.quantization.config import SolverConfig
from workbench.quantization.lab.layers import LayerSource, load_layer
from workbench.quantization.quantize import layer_solver
from workbench.quantization.statistics import factor_hessian, layer_statistics, propagation


@dataclass(frozen=True)
class SmallLayer:
    """A small part of a real layer in float64. It has few columns, so that its equations can be solved directly."""

    weight: Tensor  # (out, in)
    x: Tensor  # (tokens, in), quantized stream
    full_precision: Tensor  # (tokens, in), full-precision stream
    hessian: Tensor
    cross: Tensor
    upper: Tensor  # the factor U of the damped Hessian (see `factor_hessian`)


def small_layer(columns: int = 4, rows: int = 8, damping: float = 0.0) -> SmallLayer:
    """Return the first columns and rows of a real layer: the output projection in block 1 of the bundled tiny llama.

    `damping` is used only for the factor `upper`. The field `hessian` is not damped.
    """
    solver = (("bits", 3), ("group_size", 32))
    layer = load_layer(LayerSource(models.TINY, 1, "o_proj", tokens=512, upstream_solver=solver))
    weight, x, full = (layer.weight[:rows, :columns], layer.inputs[:, :columns], layer.full_precision[:, :columns])
    weight, x, full = weight.double(), x.double(), full.double()
    hessian, cross = layer_statistics(x, full)
    factor = factor_hessian(hessian, damping)
    assert factor is not None  # the Hessian of 512 tokens of real text is positive definite
    assert cross is not None
    return SmallLayer(weight, x, full, hessian, cross, factor.upper)


def best_free_columns(done: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Return, by least squares, the free columns ``(out, in - q)`` that best compensate for the errors of the rounded columns.

    Free columns are those that are not rounded yet. `done` holds the q rounded columns ``(out, q)``, `x` the inputs of the layer
    ``(tokens, in)``, and `target` the desired outputs of the layer ``(tokens, out)``.
    """
    q = done.shape[1]
    return torch.linalg.lstsq(x[:, q:], target - x[:, :q] @ done.T).solution.T


def second_matrix(hessian: Tensor, cross: Tensor, upper: Tensor) -> Tensor:
    """Return the matrix P2 of ResComp as the paper computes it: by a separate matrix product, from ``Xref X' = H + D``.

    H is `hessian`, and D is `cross`.
    """
    return propagation(hessian + cross, upper)


def second_matrix_closed(cross: Tensor, upper: Tensor) -> Tensor:
    """Return the matrix P2 of ResComp by the formula ``P + I - diag(U)^-1 U``, which needs only the matrix products for P.

    P is GPTAQ's matrix (see `propagation`), and U is `upper`.
    """
    return propagation(cross, upper) + torch.eye(len(upper), dtype=upper.dtype) - upper / upper.diagonal()[:, None]


@dataclass(frozen=True)
class Contributions:
    """The largest changes that the term r2 would make to a weight that is not rounded yet, over all steps of GPTQ.

    `whole` is the largest change if r2 includes the changes of all columns. `decomposed` is the largest change if r2 includes
    only the change of the column that is rounded in the step (neuron decomposition).
    """

    whole: float
    decomposed: float


def r2_contributions(layer: SmallLayer, bits: int = 3) -> Contributions:
    """Run GPTQ with equal streams and without damping, and return the largest changes that r2 would make to free weights.

    A weight is free as long as it is not rounded.
    """
    config = SolverConfig(method="gptq", bits=bits, damping=0.0, block_size=1)
    solver = layer_solver(layer.weight, layer.hessian, None, config, trace=True)
    whole = decomposed = 0.0
    for done in solver.steps():
        free = slice(done, None)
        if done < len(layer.hessian):
            moved = layer.weight - solver.current()  # w0 - w, all columns
            inverse = torch.linalg.inv(layer.hessian[free, free])
            whole = max(whole, (moved @ layer.hessian[:, free] @ inverse).abs().max().item())
            one = (layer.weight - solver.trace().before)[:, done - 1]
            decomposed = max(decomposed, torch.outer(one, layer.hessian[done - 1, free] @ inverse).abs().max().item())
    return Contributions(whole, decomposed)


def update_terms(layer: SmallLayer, column: int, row: int, bits: int, alpha: float, beta: float) -> dict[str, Tensor]:
    """Return the terms ``gptq``, ``r1`` and ``r2`` that rounding column `column` adds to the later weights of output row `row`.

    The layer is quantized with GPTAQ + ResComp up to and including this column. The result also has the key ``fused``, the single
    update that equals the sum of the three terms.
    """
    config = SolverConfig(method="gptaq+rescomp", bits=bits, damping=0.0, block_size=1, alpha=alpha, beta=beta)
    solver = layer_solver(layer.weight, layer.hessian, layer.cross, config, trace=True)
    for done in solver.steps():
        if done > column:
            break
    free = slice(column + 1, None)
    w, w0, q = solver.trace().before[row, column], layer.weight[row, column], solver.current()[row, column]
    u, d = layer.upper[column, free], layer.upper[column, column]
    p, p2 = (
        propagation(layer.cross, layer.upper)[column, free],
        second_matrix(layer.hessian, layer.cross, layer.upper)[column, free],
    )
    return {
        "gptq": -(w - q) / d * u,
        "r1": alpha * w * p,
        "r2": beta * (w0 - w) * p2,
        "fused": -((w - q) + beta * (w0 - w)) / d * u + (alpha * w + beta * (w0 - w)) * p,
    }
