"""Fast implementations of `rule.update`: `foreach` updates many tensors per operation, and `fused` passes over memory once.

The results are equal to those of `rule.update` up to rounding errors. On the CPU, numba compiles the fused loop, so no C
compiler is needed. The fast-math option of numba is off, so that the loop can detect values that are not finite. On CUDA,
`torch.compile` compiles `rule.update` itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numba import carray, njit, types
from numba.extending import intrinsic
from torch import Tensor

from workbench.compiling import keep
from workbench.continual.rule import Moved, Rule, gate, loop, update

PART = 1 << 18  # large tensors are split into parts of this many weights, which are distributed over the threads
KEPT_IN = keep("continual", "CLASSP's step", [__file__])
compiled = njit(nogil=True, error_model="numpy", cache=KEPT_IN is not None)


def suits(weight: Tensor, gradient: Tensor) -> bool:
    """Check whether `fused` supports this tensor.

    It supports all tensors on CUDA, and contiguous float32 and float64 tensors on the CPU.
    """
    if weight.is_cuda:
        return True
    plain = weight.dtype == gradient.dtype and weight.dtype in (torch.float32, torch.float64)
    return plain and weight.device.type == "cpu" and weight.is_contiguous() and gradient.is_contiguous()


def foreach(tensors: list[Moved], rule: Rule) -> list[Tensor]:
    """Update all tensors of the same device and dtype together, with one call per operation.

    If a value is not finite, `loop` updates the tensors of that device and dtype instead, since it finds the weights that must
    not be changed. Returns, for each tensor, the number of weights that were not changed.
    """
    if rule.eps == 0:  # the step is 0 / 0 for weights that have not received a gradient yet
        return loop(tensors, rule)
    kinds = defaultdict(list)
    for at, (_, weight, _, total) in enumerate(tensors):
        kinds[weight.device, weight.dtype, total.dtype, weight.numel() == 0].append(at)
    bad: list[Tensor] = [torch.zeros(())] * len(tensors)
    for (*_, empty), places in kinds.items():
        if not empty:
            of_this_kind = [tensors[at] for at in places]
            if not _foreach(of_this_kind, rule):
                for at, count in zip(places, loop(of_this_kind, rule), strict=True):
                    bad[at] = count
    return bad


def _foreach(tensors: list[Moved], rule: Rule) -> bool:
    """Update all tensors if all values are finite, and no tensor otherwise. Returns True if all values are finite."""
    _, weights, gradients, totals = (list(column) for column in zip(*tensors, strict=True))
    k = [gate(g.to(total.dtype), rule) for g, total in zip(gradients, totals, strict=True)]
    added = torch._foreach_abs(k)
    if rule.mode == "paper" and rule.power != 1:
        torch._foreach_pow_(added, rule.power)
    grown, steps = torch._foreach_add(totals, added), k
    if rule.decay:
        steps = torch._foreach_add(grown if rule.order == "inclusive" else totals, rule.eps)
        if rule.power != 1:
            torch._foreach_pow_(steps, 1 / rule.power)
        torch._foreach_reciprocal_(steps)
        torch._foreach_mul_(steps, rule.lr)
        if rule.cap < math.inf:
            torch._foreach_clamp_max_(steps, rule.cap)
        torch._foreach_mul_(steps, k)
    largest = [*torch._foreach_norm(steps, math.inf), *torch._foreach_norm(grown, math.inf)]
    largest += torch._foreach_norm([g.to(t.dtype) for g, t in zip(gradients, totals, strict=True)], math.inf)
    if not torch.stack(largest).isfinite().all():
        return False
    torch._foreach_copy_(totals, grown)
    steps = [step.to(weight.dtype) for step, weight in zip(steps, weights, strict=True)]
    torch._foreach_add_(weights, steps, alpha=-1.0 if rule.decay else -rule.lr)
    return True


def fused(tensors: list[Moved], rule: Rule) -> list[Tensor]:
    """Update the tensors in one pass over memory. Returns, for each tensor, the number of weights that were not changed.

    A weight is not changed if its gradient, its new sum or its step is not finite. On the CPU, a large update is split
    over ``torch.get_num_threads()`` threads.
    """
    if tensors[0][1].is_cuda:
        return _on_cuda(tensors, rule)
    found: list[Any] = [0] * len(tensors)
    for number in {tensor[1].dtype for tensor in tensors}:
        table = [
            (at, w.data_ptr(), g.data_ptr(), s.data_ptr(), w.numel())
            for at, (_, w, g, s) in enumerate(tensors)
            if w.dtype == number
        ]
        kernel, given = _kernel(rule, np.float32 if number == torch.float32 else np.float64)
        for at, bad in _moved(table, number.itemsize, kernel, given):
            found[at] += bad
    return found


@lru_cache(maxsize=64)
def _kernel(rule: Rule, number: type) -> tuple[Callable, tuple]:
    """Return the compiled function for a rule and a number type, and the arguments that follow the table of addresses."""
    limit = -1.0 if rule.threshold == 0 else math.sqrt(rule.threshold)
    if rule.mode == "repo":
        limit = math.inf if rule.threshold >= 1 else -1.0
    given = tuple(number(v) for v in (rule.lr, rule.eps, limit, rule.cap, rule.power))
    plain = rule.decay and rule.order == "inclusive" and (rule.mode == "paper" or rule.power == 1)
    if plain and rule.eps and rule.power in (1, 2):
        return (_all_one if rule.power == 1 else _all_two), (*given, *BITS[number])
    return _all_any, (*given, rule.decay, rule.mode == "repo", rule.order == "inclusive")


def _moved(table: list, size: int, kernel: Callable, given: tuple) -> Iterable[tuple[int, int]]:
    """Update the weights at the addresses in `table`.

    A row of the table holds the index of a tensor, the addresses of its weights, gradients and sums, and its size. Returns pairs
    of a tensor index and a number of weights that were not changed. A tensor that is split into parts occurs in several pairs.
    """
    threads = torch.get_num_threads()
    if threads == 1 or sum(row[-1] for row in table) < 2 * PART:
        bad = kernel(np.array(table, np.int64), *given)
        return [(row[0], int(count)) for row, count in zip(table, bad, strict=True) if count]
    parts = np.array(
        [
            (at, *(address + size * first for address in addresses), min(PART, count - first))
            for at, *addresses, count in table
            for first in range(0, count, PART)
        ],
        np.int64,
    )
    shares = [parts[thread::threads] for thread in range(threads)]
    found = _threads(threads).map(lambda share: kernel(share, *given), shares)
    return [
        (int(row[0]), int(count)) for share, bad in zip(shares, found, strict=True) for row, count in zip(share, bad, strict=True)
    ]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "workbench-classp")


@intrinsic
def _pointer(typing, address, like):
    """Convert an address to a pointer to numbers of the type of `like`."""
    kind = types.CPointer(like)

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(address, like), generate


@compiled
def _any(weight, gradient, total, lr, eps, limit, cap, power, decay, repo, inclusive):
    """Update the weights for any p, mode and order, with or without decay. Returns the number of weights not changed."""
    bad, zero, infinite, one = 0, lr - lr, total.dtype.type(np.inf), power / power
    for i in range(weight.size):
        g = gradient[i]
        k = zero if abs(g) <= limit else g
        grown = total[i] + (abs(k) if repo else abs(k) ** power)
        rate = lr
        if decay:
            rate = min(lr / ((grown if inclusive else total[i]) + eps) ** (one / power), cap)
        step = k * rate if k != zero else zero
        if (abs(g) < infinite) & (grown < infinite) & (abs(step) < infinite):
            total[i] = grown
            weight[i] -= step
        else:
            bad += 1
    return bad


# The weights are updated in blocks. If all gradients of a block are small, its weights need no check for values that are not
# finite. To find the largest gradient, the bits of the gradients are compared as integers, without the sign bit. These
# integers have the same order as the absolute values, and NaN is above infinity. Vector instructions compare 16 integers at a
# time. This test also loads the gradients into the CPU cache, so the update that follows is fast.
BLOCK = 1024
BITS = {  # for each type: the bits of the limit for small gradients, and a mask of all bits except the sign bit
    np.float32: (np.float32(1e18).view(np.int32), np.int32(2**31 - 1)),
    np.float64: (np.float64(1e150).view(np.int64), np.int64(2**63 - 1)),
}


@compiled
def _small(bits, largest, mask):
    top = bits[0] & mask
    for i in range(bits.size):
        here = bits[i] & mask
        top = here if here > top else top
    return top < largest


@compiled
def _one(weight, gradient, total, bits, lr, eps, limit, cap, power, largest, mask):
    """Update the weights for p = 1. Returns the number of weights that were not changed."""
    bad, zero = 0, lr - lr
    for first in range(0, weight.size, BLOCK):
        w, g, s = (weight[first : first + BLOCK], gradient[first : first + BLOCK], total[first : first + BLOCK])
        if not _small(bits[first : first + BLOCK], largest, mask):
            bad += _any(w, g, s, lr, eps, limit, cap, power, True, False, True)
            continue
        for i in range(w.size):
            k = zero if abs(g[i]) <= limit else g[i]
            grown = s[i] + abs(k)
            s[i] = grown
            w[i] -= k * min(lr / (grown + eps), cap)
    return bad


@compiled
def _two(weight, gradient, total, bits, lr, eps, limit, cap, power, largest, mask):
    """Update the weights for p = 2. Returns the number of weights that were not changed."""
    bad, zero = 0, lr - lr
    for first in range(0, weight.size, BLOCK):
        w, g, s = (weight[first : first + BLOCK], gradient[first : first + BLOCK], total[first : first + BLOCK])
        if not _small(bits[first : first + BLOCK], largest, mask):
            bad += _any(w, g, s, lr, eps, limit, cap, power, True, False, True)
            continue
        for i in range(w.size):
            k = zero if abs(g[i]) <= limit else g[i]
            grown = s[i] + k * k
            s[i] = grown
            w[i] -= k * min(lr / np.sqrt(grown + eps), cap)
    return bad


@compiled
def _all_one(table, lr, eps, limit, cap, power, largest, mask):
    """Call `_one` for each row of the table. Returns, for each row, the number of weights that were not changed."""
    found = np.zeros(len(table), np.int64)
    for at in range(len(table)):
        size = table[at, 4]
        w = carray(_pointer(table[at, 1], lr), size)
        g = carray(_pointer(table[at, 2], lr), size)
        s = carray(_pointer(table[at, 3], lr), size)
        bits = carray(_pointer(table[at, 2], mask), size)
        found[at] = _one(w, g, s, bits, lr, eps, limit, cap, power, largest, mask)
    return found


@compiled
def _all_two(table, lr, eps, limit, cap, power, largest, mask):
    found = np.zeros(len(table), np.int64)
    for at in range(len(table)):
        size = table[at, 4]
        w = carray(_pointer(table[at, 1], lr), size)
        g = carray(_pointer(table[at, 2], lr), size)
        s = carray(_pointer(table[at, 3], lr), size)
        bits = carray(_pointer(table[at, 2], mask), size)
        found[at] = _two(w, g, s, bits, lr, eps, limit, cap, power, largest, mask)
    return found


@compiled
def _all_any(table, lr, eps, limit, cap, power, decay, repo, inclusive):
    found = np.zeros(len(table), np.int64)
    for at in range(len(table)):
        size = table[at, 4]
        w = carray(_pointer(table[at, 1], lr), size)
        g = carray(_pointer(table[at, 2], lr), size)
        s = carray(_pointer(table[at, 3], lr), size)
        found[at] = _any(w, g, s, lr, eps, limit, cap, power, decay, repo, inclusive)
    return found


@cache
def _compiled_by_torch():
    def updates(weights, gradients, totals, rule):
        return [update(*one, rule).sum() for one in zip(weights, gradients, totals, strict=True)]

    return torch.compile(updates)


def _on_cuda(tensors: list[Moved], rule: Rule) -> list[Tensor]:
    _, weights, gradients, totals = (list(column) for column in zip(*tensors, strict=True))
    # If the learning rate were a Python number, it would be a constant of the compiled code, and each new value would trigger a
    # new compilation.
    lr = torch.tensor(rule.lr, device=weights[0].device)
    return _compiled_by_torch()(weights, gradients, totals, rule._replace(lr=lr))


def warm_up() -> None:
    """Compile the fused updates for p = 1, 2 and 3 in float32 and float64, by updating one weight with each."""
    for power in (1.0, 2.0, 3.0):
        for dtype in (torch.float32, torch.float64):
            weight, gradient, total = (torch.zeros(1, dtype=dtype), torch.ones(1, dtype=dtype), torch.zeros(1, dtype=dtype))
            fused([(0, weight, gradient, total)], Rule(0.1, power, 0.0, 1e-5, True, "paper", "inclusive", math.inf))
