"""The fast forms of `optimizer.update`: all tensors at a time, or each in one pass over memory. Equal to it within rounding.

On the CPU the pass is compiled by numba (LLVM, in a wheel: no compiler is needed), without fast mathematics: what is not finite
is found in the same pass. On CUDA it is `update` itself under `torch.compile`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from torch import Tensor

from workbench.compiling import keep
from workbench.continual.optimizer import Rule, loop, update

PART = 1 << 18  # weights that are worth a thread
KEPT_IN = keep("continual", "CLASSP's step", [__file__])
compiled = njit(nogil=True, error_model="numpy", cache=KEPT_IN is not None)


def suits(weight: Tensor, gradient: Tensor) -> bool:
    """Whether `fused` can move this tensor: on CUDA any, on the CPU contiguous ones of 32 or 64 bits."""
    if weight.is_cuda:
        return True
    plain = weight.dtype == gradient.dtype and weight.dtype in (torch.float32, torch.float64)
    return plain and weight.device.type == "cpu" and weight.is_contiguous() and gradient.is_contiguous()


def foreach(tensors: list, rule: Rule) -> list[Tensor]:
    """`update` with one call an operation for all tensors of a kind; where something is not finite, the loop sorts it out."""
    if rule.eps == 0:  # 0 / 0 where nothing has come yet
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


def _foreach(tensors: list, rule: Rule) -> bool:
    """Move all, or none; returns whether all is finite."""
    from workbench.continual.optimizer import gate

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


def fused(tensors: list, rule: Rule) -> list[Tensor | int]:
    """`update` in one pass over memory a tensor, in as many threads as torch has where it is large."""
    if tensors[0][1].is_cuda:
        return _on_cuda(tensors, rule)
    return [_move(weight, gradient, total, rule) for _, weight, gradient, total in tensors]


def _move(weight: Tensor, gradient: Tensor, total: Tensor, rule: Rule) -> int:
    arrays = [tensor.detach().view(-1).numpy() for tensor in (weight, gradient, total)]
    number = arrays[0].dtype.type
    limit = -1.0 if rule.threshold == 0 else math.sqrt(rule.threshold)
    if rule.mode == "repo":
        limit = math.inf if rule.threshold >= 1 else -1.0
    given = [number(v) for v in (rule.lr, rule.eps, limit, rule.cap)]
    plain = rule.decay and rule.order == "inclusive" and (rule.mode == "paper" or rule.power == 1)
    if plain and rule.power in (1, 2):
        kernel = _one if rule.power == 1 else _two
    else:
        kernel = _any
        given += [number(rule.power), rule.decay, rule.mode == "repo", rule.order == "inclusive"]
    parts = min(torch.get_num_threads(), -(-weight.numel() // PART))
    if parts < 2:
        return kernel(*arrays, *given)
    cuts = np.linspace(0, weight.numel(), parts + 1, dtype=int)
    jobs = [[array[a:b] for array in arrays] for a, b in pairwise(cuts)]
    return sum(_threads(parts).map(lambda job: kernel(*job, *given), jobs))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "workbench-classp")


@compiled
def _one(weight, gradient, total, lr, eps, limit, cap):
    """At p = 1; returns how many weights were left as they were."""
    bad, zero, infinite = 0, lr - lr, total.dtype.type(np.inf)
    for i in range(weight.size):
        g = gradient[i]
        k = zero if abs(g) <= limit else g
        grown = total[i] + abs(k)
        step = k * min(lr / (grown + eps), cap) if k != zero else zero
        fine = (abs(g) < infinite) & (grown < infinite) & (abs(step) < infinite)
        total[i] = grown if fine else total[i]
        weight[i] -= step if fine else zero
        bad += not fine
    return bad


@compiled
def _two(weight, gradient, total, lr, eps, limit, cap):
    """At p = 2, as `_one`."""
    bad, zero, infinite = 0, lr - lr, total.dtype.type(np.inf)
    for i in range(weight.size):
        g = gradient[i]
        k = zero if abs(g) <= limit else g
        grown = total[i] + k * k
        step = k * min(lr / np.sqrt(grown + eps), cap) if k != zero else zero
        fine = (abs(g) < infinite) & (grown < infinite) & (abs(step) < infinite)
        total[i] = grown if fine else total[i]
        weight[i] -= step if fine else zero
        bad += not fine
    return bad


@compiled
def _any(weight, gradient, total, lr, eps, limit, cap, power, decay, repo, inclusive):
    """Any p, both modes and orders, with and without decay: as `_one`."""
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


@cache
def _compiled_by_torch():
    def updates(weights, gradients, totals, rule):
        return [update(*one, rule).sum() for one in zip(weights, gradients, totals, strict=True)]

    return torch.compile(updates)


def _on_cuda(tensors: list, rule: Rule) -> list[Tensor]:
    _, weights, gradients, totals = (list(column) for column in zip(*tensors, strict=True))
    # as a tensor: a schedule would compile anew at every rate
    lr = torch.tensor(rule.lr, device=weights[0].device)
    return _compiled_by_torch()(weights, gradients, totals, rule._replace(lr=lr))


def warm_up() -> None:
    """Compile what panels and comparisons run, once, by moving one weight."""
    from workbench.continual.optimizer import CLASSP

    for power in (1.0, 2.0, 3.0):
        for dtype in (torch.float32, torch.float64):
            weight = torch.zeros(1, dtype=dtype, requires_grad=True)
            weight.grad = torch.ones_like(weight)
            CLASSP([weight], lr=0.1, power=power, form="fused").step()
