"""RTN, GPTQ, GPTAQ, ResComp and our method `exact` as one loop over columns with three scalars. Read this module first.

H ``(in, in)`` is the Hessian and D ``(in, in)`` the cross statistics of `layer_statistics`. lam is the damping times the mean of
the diagonal of H. U is the upper triangular matrix with ``(H + lam I)^-1 = U'U``, and U' is its transpose. The matrix P is
``striu(D U') U``, and striu takes the strictly upper triangular part.

The loop quantizes the columns of the weight W ``(out, in)`` one after another. In step q, w is column q with the compensation of
all earlier columns, w^ is the rounded w, and w0 is the original column q. F is the set of later columns (those that are not
rounded yet). Rounding to nearest (RTN) leaves F unchanged. All other methods compensate with the same update::

    e = ((w - w^) + b_x (w0 - w)) / U[q, q]        s = a w + b_dx (w0 - w)
    W[:, F] -= e U[q, F] - s P[q, F]

They differ in the scalars a, b_x and b_dx:

- GPTQ (arXiv 2210.17323, section 3) sets all three to 0.
- GPTAQ (arXiv 2504.02692, equations 9 to 18) sets a > 0.
- ResComp (arXiv 2604.07955, section 3) adds b_x > 0 to GPTQ, or b_x > 0 and b_dx > 0 to GPTAQ. The second matrix P2 of the paper
  needs no matrix product of its own, since ``P2 = P + I - diag(U)^-1 U`` (section 5 of the notebook 02-inside).
- FOEM (``foem``) has the same scalars as ``gptq+rescomp``.
- ``exact`` first shifts the weight to ``W + rho W D (H + lam I)^-1``, and then runs GPTQ. This minimises ``||QX - W0 Xref||``
  column by column. Q is the quantized weight and W0 the original weight. X is the input of the layer in the model whose earlier
  layers are quantized, and Xref is the input of the layer in the original model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.quantization.config import SolverConfig
from workbench.quantization.grids import fit_grid


def column_loop(weight: Tensor, hessian: Tensor, cross: Tensor | None, config: SolverConfig) -> Tensor:
    """Return the quantized weight ``(out, in)`` in the dtype of `weight`. This loop is slow; `fast_solver` is not.

    Columns are quantized in their original order. The grid of a group is fitted when the first column of the group is reached.

    Args:
        weight: the weight ``(out, in)``, preferably in float64.
        hessian: the Hessian ``(in, in)`` from `layer_statistics`. Its diagonal must not contain zeros (dead columns).
        cross: the cross statistics ``(in, in)`` from `layer_statistics`, or None if X and Xref are equal.
        config: the method and its settings.
    """
    columns = len(hessian)
    group_size, (alpha, beta_x, beta_dx) = config.group_size or columns, config.strengths()
    d = torch.zeros_like(hessian) if cross is None else cross
    damped = hessian + config.damping * hessian.diagonal().mean() * torch.eye(columns, dtype=hessian.dtype)
    inverse = torch.linalg.inv(damped)
    u = torch.linalg.cholesky(inverse, upper=True)  # (H + lam I)^-1 = U'U
    p = torch.triu(d @ u.T, 1) @ u
    start = weight + config.rho * weight @ d @ inverse if config.method == "exact" else weight
    w = start.clone()
    for q in range(columns):
        if q % group_size == 0:
            part = w[:, q : q + group_size].T
            grid = fit_grid(part, config.bits, config.symmetric, config.grid, config.clip_search)
        before = w[:, q].clone()
        w[:, q] = grid.rounded(before)
        if config.method == "rtn":
            continue
        moved = start[:, q] - before
        e = ((before - w[:, q]) + beta_x * moved) / u[q, q]
        s = alpha * before + beta_dx * moved
        w[:, q + 1 :] -= torch.outer(e, u[q, q + 1 :]) - torch.outer(s, p[q, q + 1 :])
    return w
