"""An independent reference in float64, written from the papers' formulas and as slow as they read.

One column at a time over the whole layer, an inverse of the free block at each step, ResComp's second matrix formed
in full: nothing is shared with `workbench.quantization` but the meaning of the names.
"""

import numpy as np


def fit(part, bits, symmetric, grid, clip):
    """Scale, zero, lowest and highest code of `part` (out, g), row by row."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric and grid == "quarot" else (0, 2**bits - 1)
    shrink = [1 - i / 100 for i in range(80)] if clip else [1]
    scales, zeros = [], []
    for row in part:
        candidates = [_one(row, p, bits, symmetric, grid, high) for p in shrink]
        errors = [np.sum(np.abs(rounded(row, s, z, low, high) - row) ** 2.4) for s, z in candidates]
        s, z = candidates[int(np.argmin(errors))]
        scales.append(s)
        zeros.append(z)
    return np.array(scales), np.array(zeros), low, high


def _one(row, p, bits, symmetric, grid, high):
    lo, hi = p * min(row.min(), 0), p * max(row.max(), 0)
    if symmetric and grid == "quarot":
        return max(-lo, hi, 1e-5) / high, 0.0
    if symmetric:
        hi = max(-lo, hi)
        lo = -hi if lo < 0 else lo
    if lo == 0 and hi == 0:
        lo, hi = -1.0, 1.0
    scale = max(hi - lo, 1e-5) / high
    return scale, float(2 ** (bits - 1)) if symmetric else float(np.round(-lo / scale))


def rounded(x, scale, zero, low, high):
    """The grid value nearest to x."""
    return scale * (np.clip(np.round(x / scale) + zero, low, high) - zero)


def quantize(W0, H, D, *, a1=0.0, a2=0.0, rho=None, bits=3, group=None, symmetric=True, grid="quarot", clip=False,
             damping=0.01, act_order=False, static=False):  # fmt: skip
    """Quantized weight (out, in) by dense linear algebra, and the weights just before rounding."""
    W0, H = W0.astype(np.float64).copy(), H.astype(np.float64).copy()
    n = W0.shape[1]
    D = np.zeros_like(H) if D is None else D.astype(np.float64).copy()
    dead = np.diag(H) == 0
    W0[:, dead], D[:, dead] = 0, 0
    H[dead, dead] = np.diag(H)[~dead].mean()
    group = min(group or n, n)
    order = np.argsort(-np.diag(H), kind="stable") if act_order else np.arange(n)
    back = np.argsort(order)
    Hd = H + damping * np.mean(np.diag(H)) * np.eye(n)
    if rho is not None:
        W0 = W0 + rho * W0 @ D @ np.linalg.inv(Hd)
    grids = [fit(W0[:, i : i + group], bits, symmetric, grid, clip) for i in range(0, n, group)]
    T = (H + D)[np.ix_(order, order)]  # Xref X'
    W0, Hd, D = W0[:, order], Hd[np.ix_(order, order)], D[np.ix_(order, order)]
    W, now, before = W0.copy(), None, W0.copy()
    for q in range(n):
        if static or group == n:
            now = grids[order[q] // group]
        elif q % group == 0:
            now = fit(W[:, q : q + group], bits, symmetric, grid, clip)
        w, w0 = W[:, q].copy(), W0[:, q]
        before[:, q] = w
        W[:, q] = value = rounded(w, *now)
        if q == n - 1:
            break
        here, free = np.arange(q, n), np.arange(q + 1, n)
        G = np.linalg.inv(Hd[np.ix_(here, here)])
        F = np.linalg.inv(Hd[np.ix_(free, free)])
        W[:, free] -= np.outer((w - value) / G[0, 0], G[0, 1:])
        W[:, free] += a1 * np.outer(w, D[q, free] @ F) + a2 * np.outer(w0 - w, T[q, free] @ F)
    return W[:, back], before[:, back]
