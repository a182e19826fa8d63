"""Read this module first: RTN, GPTQ, GPTAQ, ResComp and the exact target as one loop over columns with three scalars.

H ``(in, in)`` is the Hessian and D ``(in, in)`` the cross statistics of `layer_statistics`; lam is the damping. U is the upper
triangular matrix with ``(H + lam I)^-1 = U'U``, and ``P = striu(D U') U``, in which striu is the strictly upper triangular part.
The loop quantizes one column of the weight W ``(out, in)`` after another. In step q, w is column q with the compensation of all
earlier columns, w^ is its rounded value, and w0 is the original column. F are the columns after q, which are still free.
Rounding to nearest (RTN) leaves F unchanged. All other methods compensate with the same update::

    e = ((w - w^) + b_x (w0 - w)) / U[q, q]        s = a w + b_dx (w0 - w)
    W[:, F] -= e U[q, F] - s P[q, F]

They differ in the scalars a, b_x and b_dx:

- GPTQ (arXiv 2210.17323, section 3) sets all three to 0.
- GPTAQ (arXiv 2504.02692, equations 9 to 18) adds a > 0.
- ResComp (arXiv 2604.07955, section 3) extends GPTQ by b_x > 0, and GPTAQ by b_x and b_dx > 0. The second matrix P2 of the paper
  and its product are not needed, since ``P2 = P + I - diag(U)^-1 U`` (step 5 of the notebook 02-inside).
- The error term of FOEM is that of ``gptq+rescomp``.
- ``exact`` first shifts the weight to ``W + rho W D (H + lam I)^-1``, and then runs GPTQ. This minimises ``||QX - W0 Xref||``
  column by column, for the quantized weight Q, the quantized stream X and the full-precision stream Xref.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.quantization.config import SolverConfig
from workbench.quantization.grids import fit_grid


def column_loop(weight: Tensor, hessian: Tensor, cross: Tensor | None, config: SolverConfig) -> Tensor:
    """Return the quantized weight ``(out, in)`` in the dtype of `weight`. This function is slow; use `fast_solver` instead.

    Columns are quantized in their own order, and the grid of a group is fitted when its first column is reached.

    Args:
        weight: the weight ``(out, in)``, preferably in float64.
        hessian: the Hessian ``(in, in)`` from `layer_statistics`. Its diagonal must not contain zeros (dead columns).
        cross: the cross statistics ``(in, in)`` from `layer_statistics`, or None if both streams are equal.
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
