"""Counter-based random numbers: each number is a hash of integers, usually (seed, step, layer, purpose, row, column).

The generator has no state. Therefore the result of a network does not depend on other networks that are trained beside it,
on the number of threads, or on whether training is split into parts. The readable and the compiled implementation draw the
same numbers, but the compiled one computes only those that it needs. The hash is a 32-bit finalizer similar to that of
MurmurHash3, with the constants of "lowbias32" (C. Wellons).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
STRIDE = 0x9E3779B9  # 2^32 / golden ratio, rounded to an odd number
# Each purpose has its own stream of random numbers. For the first ten purposes, the key begins with (seed, step, layer, purpose).
ROUND, COIN, CYCLE, WRITE, READ, SLOT_ROW, SLOT_COLUMN, PROGRAM, TRANSPOSED, LOOK = range(1, 11)
START, DEVICES, ORDER, AGING = range(11, 15)  # drawn once for each run, with a key made of (seed, layer, purpose)


def mix(x):
    """Hash 32-bit numbers, given as a Python integer or an int64 tensor.

    Products of int64 tensors may overflow. The mask keeps the low 32 bits, which overflow does not change.
    """
    x = x ^ (x >> 16)
    x = (x * FIRST) & MASK
    x = x ^ (x >> 15)
    x = (x * SECOND) & MASK
    return x ^ (x >> 16)


def key(*words: int) -> int:
    """Hash integers, usually the seed, the step, the layer and the purpose, into one 32-bit key."""
    found = 0
    for word in words:
        found = mix((found + (word + 1) * STRIDE) & MASK)
    return found


def _hash(key: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    row = mix((key + torch.arange(1, rows + 1, device=device) * STRIDE) & MASK)
    return mix((row[:, None] + torch.arange(1, columns + 1, device=device) * STRIDE) & MASK)


def uniform(key: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Draw uniform random numbers of shape ``(rows, columns)``. They are multiples of 2^-24 in [0, 1)."""
    return (_hash(key, rows, columns, device) >> 8).to(dtype) * 2.0**-24


def normal(key: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Draw standard normal random numbers of shape ``(rows, columns)`` by the Box-Muller transform."""
    first = _hash(key, rows, columns, device)
    radius = ((first >> 8).double() + 0.5) * 2.0**-24
    angle = (mix(first ^ STRIDE) >> 8).double() * 2.0**-24
    return ((-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()).to(dtype)
