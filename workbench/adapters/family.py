"""Bone's family: one small matrix, used for every block of a weight.

W is ``(out, in)``; ``W[a, b]`` is its ``(r, r)`` block in block row a and block column b.

======== ============================ ==================================== =============================
name     trained, from zero           update Delta of W                    also called
======== ============================ ==================================== =============================
miss     D ``(r, out)``               ``Delta[o, i] = D[i mod r, o]``      Bone (v4), DiSHA; rank at most r
mini     D ``(r, q)``                 ``D[i mod r, o mod q]``              rank at most min(r, q)
bat-col  B ``(out/r, r, r)``          ``Delta[a, b] = (W[a, b] + I) B[a]`` Bone (v1 to v3); PEFT's ``bat``
bat-row  B ``(in/r, r, r)``           ``Delta[a, b] = (W[a, b] + I) B[b]`` Bone (v1 to v3) of RWKV-PEFT
======== ============================ ==================================== =============================

Source: arXiv 2409.15371, whose versions gave these methods four names. MiSS's index is ``i mod r`` in the authors' code and in
equations 4 to 6 of version 12; its text describes another layout. The first four functions are these formulas; the four after
them give the layer's output without Delta, where the sums over equal blocks can be taken first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]


def miss_delta(shard: Tensor, columns: int) -> Tensor:
    """Delta ``(out, columns)`` of D ``(r, out)``: the same r columns again and again, the last copy cut off."""
    return shard.T.repeat(1, -(-columns // len(shard)))[:, :columns]


def mini_delta(shard: Tensor, rows: int, columns: int) -> Tensor:
    """Delta ``(rows, columns)`` of D ``(r, q)``; q divides the rows."""
    return miss_delta(shard.repeat(1, rows // shard.shape[1]), columns)


def bat_col_delta(shard: Tensor, weight: Tensor) -> Tensor:
    """Delta ``(out, in)`` of B ``(out/r, r, r)``: one matrix for each row of blocks."""
    return torch.einsum("akbi,aij->akbj", _guide(weight, shard.shape[-1]), shard).reshape(weight.shape)


def bat_row_delta(shard: Tensor, weight: Tensor) -> Tensor:
    """Delta ``(out, in)`` of B ``(in/r, r, r)``: one matrix for each column of blocks."""
    return torch.einsum("akbi,bij->akbj", _guide(weight, shard.shape[-1]), shard).reshape(weight.shape)


def _guide(weight: Tensor, r: int) -> Tensor:
    """``W + [I I ...]``, the weight with an identity added to each block, as ``(out/r, r, in/r, r)``."""
    rows, columns = weight.shape
    return weight.view(rows // r, r, columns // r, r) + torch.eye(r, dtype=weight.dtype, device=weight.device)[:, None]


def fold(x: Tensor, r: int) -> Tensor:
    """``s[j]``, the sum of all ``x[i]`` with ``i mod r = j``: ``(..., in)`` to ``(..., r)``; the last copy may be incomplete."""
    lacking = -x.shape[-1] % r
    if lacking:
        x = torch.nn.functional.pad(x, (0, lacking))
    return x.unflatten(-1, (-1, r)).sum(-2)


def tile(s: Tensor, y: Tensor) -> Tensor:
    """Add `s` ``(..., r)`` to each r-wide part of `y` ``(..., out)``."""
    return (y.unflatten(-1, (-1, s.shape[-1])) + s.unsqueeze(-2)).flatten(-2)


def miss_output(x: Tensor, y: Tensor, shard: Tensor) -> Tensor:
    """``y + Delta x``: x is folded into r numbers, so neither Delta nor x is kept for the gradient."""
    return y + fold(x, len(shard)) @ shard


def mini_output(x: Tensor, y: Tensor, shard: Tensor) -> Tensor:
    """``y + Delta x``, by the same fold, and a tile of what comes out."""
    return tile(fold(x, len(shard)) @ shard, y)


def bat_row_output(x: Tensor, linear: Linear, shard: Tensor) -> Tensor:
    """``linear(x) + Delta x = linear(x + u) + tile(sum of u)`` with ``u[b] = B[b] x[b]``: the frozen layer is only called.

    Since ``Delta = (W + [I I ...]) blockdiag(B)``: what the columns of blocks share stands at the right, next to x.
    """
    blocks = x.unflatten(-1, (-1, shard.shape[-1]))
    u = torch.einsum("bij,...bj->...bi", shard, blocks)
    return tile(u.sum(-2), linear((blocks + u).flatten(-2)))


def bat_col_output(x: Tensor, y: Tensor, weight: Tensor, shard: Tensor) -> Tensor:
    """``y + Delta x``; here B stands between W and x: a product for each pair of blocks, cheaper than Delta for few tokens."""
    r = shard.shape[-1]
    moved = torch.einsum("aij,...bj->...abi", shard, x.unflatten(-1, (-1, r)))
    return y + torch.einsum("akbi,...abi->...ak", _guide(weight, r), moved).flatten(-2)
