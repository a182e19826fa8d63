"""Random numbers from a counter: each draw is a hash of (seed, step, layer, purpose, row, column).

A stream has no state, so a design gives the same result alone or in a batch of designs, on any number of threads, after
a cut, and in both forms of the simulation: the readable one here and the compiled one in `compiled`, which draws only
the numbers that it needs. The hash is a 32-bit finaliser of the kind of Murmur3's (constants by C. Wellons, "lowbias32").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
STRIDE = 0x9E3779B9  # 2^32 / golden ratio, odd
# purposes, so that no two kinds of draw share a stream: of a step of training, with (seed, step, layer, purpose) ...
ROUND, COIN, CYCLE, WRITE, READ, SLOT_ROW, SLOT_COLUMN, PROGRAM, TRANSPOSED, LOOK = range(1, 11)
START, DEVICES, ORDER, AGING = range(11, 15)  # ... and of a run, with (seed, layer, purpose)


def mix(x):
    """Hash 32-bit numbers held in Python integers or int64 tensors (whose products wrap, which the mask undoes)."""
    x = x ^ (x >> 16)
    x = (x * FIRST) & MASK
    x = x ^ (x >> 15)
    x = (x * SECOND) & MASK
    return x ^ (x >> 16)


def key(*words: int) -> int:
    """One 32-bit key from whole numbers: the seed, then step, layer, purpose."""
    found = 0
    for word in words:
        found = mix((found + (word + 1) * STRIDE) & MASK)
    return found


def _hash(key: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    row = mix((key + torch.arange(1, rows + 1, device=device) * STRIDE) & MASK)
    return mix((row[:, None] + torch.arange(1, columns + 1, device=device) * STRIDE) & MASK)


def uniform(key: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24, ``(rows, columns)``."""
    return (_hash(key, rows, columns, device) >> 8).to(dtype) * 2.0**-24


def normal(key: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Standard normal numbers by Box and Muller's transform, ``(rows, columns)``."""
    first = _hash(key, rows, columns, device)
    radius = ((first >> 8).double() + 0.5) * 2.0**-24
    angle = (mix(first ^ STRIDE) >> 8).double() * 2.0**-24
    return ((-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()).to(dtype)
