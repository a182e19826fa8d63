"""The Bone family of adapters: a small trainable tensor, the shard, determines the update of a whole weight.

The weight W is ``(out, in)``; o is an output index and i an input index. ``W[a, b]`` is the ``(r, r)`` block of W in block row
a and block column b, and I is the identity. The shard starts at zero.

======== ============================ ===================================== =============================
method   shard                        update Delta of W                     other names, rank
======== ============================ ===================================== =============================
miss     D ``(r, out)``               ``Delta[o, i] = D[i mod r, o]``       Bone (v4); rank at most r
mini     D ``(r, q)``                 ``Delta[o, i] = D[i mod r, o mod q]`` rank at most min(r, q)
bat-col  B ``(out/r, r, r)``          ``Delta[a, b] = (W[a, b] + I) B[a]``  Bone (v1 to v3); PEFT's ``bat``
bat-row  B ``(in/r, r, r)``           ``Delta[a, b] = (W[a, b] + I) B[b]``  Bone (v1 to v3) in RWKV-PEFT
======== ============================ ===================================== =============================

Source: arXiv 2409.15371, whose versions (v1 to v12) use different names for the same methods. Some of them call the family
DiSHA. MiSS uses the index ``i mod r`` in the authors' code and in equations 4 to 6 of version 12, but the text of that version
describes another layout.

The functions ``*_delta`` return Delta. The functions ``*_output`` return the output of the layer without building Delta.
In MiSS, mini and Bat-row, this takes few operations, since each trained matrix is applied only once: to a block of the input,
or to the sum of all blocks. In Bat-col, each trained matrix is applied to every block of the input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]


def miss_delta(shard: Tensor, columns: int) -> Tensor:
    """Return Delta ``(out, columns)`` for D ``(r, out)``: copies of the transpose of D, side by side. The last one may be cut."""
    return shard.T.repeat(1, -(-columns // len(shard)))[:, :columns]


def mini_delta(shard: Tensor, rows: int, columns: int) -> Tensor:
    """Return Delta ``(rows, columns)`` for D ``(r, q)``; q must divide `rows`."""
    return miss_delta(shard.repeat(1, rows // shard.shape[1]), columns)


def bat_col_delta(shard: Tensor, weight: Tensor) -> Tensor:
    """Return Delta ``(out, in)`` for B ``(out/r, r, r)``, which has one matrix for each block row of W."""
    return torch.einsum("akbi,aij->akbj", _guide(weight, shard.shape[-1]), shard).reshape(weight.shape)


def bat_row_delta(shard: Tensor, weight: Tensor) -> Tensor:
    """Return Delta ``(out, in)`` for B ``(in/r, r, r)``, which has one matrix for each block column of W."""
    return torch.einsum("akbi,bij->akbj", _guide(weight, shard.shape[-1]), shard).reshape(weight.shape)


def _guide(weight: Tensor, r: int) -> Tensor:
    """Return the weight with the identity added to each block, as ``(out/r, r, in/r, r)``."""
    rows, columns = weight.shape
    return weight.view(rows // r, r, columns // r, r) + torch.eye(r, dtype=weight.dtype, device=weight.device)[:, None]


def fold(x: Tensor, r: int) -> Tensor:
    """Return s ``(..., r)``, where ``s[j]`` is the sum of all ``x[i]`` with ``i mod r = j``, for x ``(..., in)``."""
    lacking = -x.shape[-1] % r
    if lacking:
        x = torch.nn.functional.pad(x, (0, lacking))
    return x.unflatten(-1, (-1, r)).sum(-2)


def tile(s: Tensor, y: Tensor) -> Tensor:
    """Return `y` ``(..., out)`` after adding `s` ``(..., r)`` to each of the ``out/r`` blocks of `y`."""
    return (y.unflatten(-1, (-1, s.shape[-1])) + s.unsqueeze(-2)).flatten(-2)


def miss_output(x: Tensor, y: Tensor, shard: Tensor) -> Tensor:
    """Return ``y + Delta x``. For the backward pass, the r sums from `fold` are stored instead of Delta or x."""
    return y + fold(x, len(shard)) @ shard


def mini_output(x: Tensor, y: Tensor, shard: Tensor) -> Tensor:
    """Return ``y + Delta x``: fold the input, multiply by D, and tile the q outputs."""
    return tile(fold(x, len(shard)) @ shard, y)


def bat_row_output(x: Tensor, linear: Linear, shard: Tensor) -> Tensor:
    """Return ``linear(x) + Delta x`` without access to W: ``linear(x + u) + tile(sum of u)`` with ``u[b] = B[b] x[b]``.

    This is possible because ``Delta = (W + T) blockdiag(B)``, where every ``(r, r)`` block of T is an identity matrix. So
    ``blockdiag(B)`` can be applied to x before the layer is called.
    """
    blocks = x.unflatten(-1, (-1, shard.shape[-1]))
    u = torch.einsum("bij,...bj->...bi", shard, blocks)
    return tile(u.sum(-2), linear((blocks + u).flatten(-2)))


def bat_col_output(x: Tensor, y: Tensor, weight: Tensor, shard: Tensor) -> Tensor:
    """Return ``y + Delta x``. Unlike `bat_row_output`, which only calls the layer, this function needs the weight matrix itself.

    Each block row has its own matrix, so ``B[a] x[b]`` is computed for each pair of blocks. If there are few tokens, that takes
    fewer operations than building Delta.
    """
    r = shard.shape[-1]
    moved = torch.einsum("aij,...bj->...abi", shard, x.unflatten(-1, (-1, r)))
    return y + torch.einsum("akbi,...abi->...ak", _guide(weight, r), moved).flatten(-2)
