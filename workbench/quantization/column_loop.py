"""Read this first: RTN, GPTQ, GPTAQ, ResComp and the exact target as one column loop and three scalars.

Column q of the layer, after all compensation so far, is w; its rounded value is w^; w0 is the original column. With
``(H + lam I)^-1 = U'U`` and ``P = striu(D U') U`` every method is the same update of the columns F still free::

    e = ((w - w^) + b_x (w0 - w)) / U[q, q]        s = a w + b_dx (w0 - w)
    W[:, F] -= e U[q, F] - s P[q, F]

GPTQ (arXiv 2210.17323, sec. 3): a = b = 0.  GPTAQ (2504.02692, eqs. 9 to 18): a.  ResComp (2604.07955, sec. 3): b on top of
either, b_dx only with GPTAQ. Its own second matrix and product are not needed, since ``P2 = P + I - diag(U)^-1 U``
(02-inside, step 5). FOEM's error term is ``gptq+rescomp``. ``exact`` shifts the weights once, to ``W + rho W D (H + lam I)^-1``,
and is GPTQ from there: the minimiser of ``||QX - W0 Xref||`` column by column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.quantization.config import SolverConfig
from workbench.quantization.grids import fit_grid


def column_loop(weight: Tensor, hessian: Tensor, cross: Tensor | None, config: SolverConfig) -> Tensor:
    """The quantized weight ``(out, in)``, as slow as it reads; in the dtype of `weight`, best float64.

    `weight` is ``(out, in)``, `hessian` and `cross` ``(in, in)`` as from `layer_statistics`. Columns are taken in their own
    order, groups are fitted when their first column is reached; all columns must be alive. `fast_solver` is the one to use.
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
