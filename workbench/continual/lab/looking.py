"""Measurements during a run of CLASSP or AdaGrad: sums of gradients, effective rates, plasticity left, and squared gradients."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.continual.budget import left
from workbench.continual.config import ContinualConfig
from workbench.continual.learner import Learner
from workbench.continual.optimizer import CLASSP, checked
from workbench.continual.rule import Rule, rates
from workbench.experiment import Record

BINS = 40
SUMS = (-9.0, 3.0)  # range of log10 of the sums
RATES = (-5.0, 3.0)  # range of log10 of the effective rates
SQUARES = (-16.0, 0.0)  # range of log10 of the squared gradients


class Layer(NamedTuple):
    """The weights of a layer, and the accumulated sum S of each weight."""

    name: str
    weight: Tensor
    total: Tensor


def layers(learner: Learner) -> list[Layer]:
    """Return the weight matrices and convolution kernels of the network, with the sums of CLASSP or AdaGrad.

    The list is empty if the optimizer stores no sums.
    """
    found = []
    for p in learner.model.parameters():
        state = learner.optimizer.state.get(p, {})
        if p.dim() > 1 and "sum" in state:
            start = 0.0 if isinstance(learner.optimizer, CLASSP) else learner.knobs["eps"]
            found.append(Layer(f"layer {len(found) + 1}", p.detach(), state["sum"] - start))
    return found


def rule_of(learner: Learner) -> Rule:
    """Return the update rule of CLASSP or AdaGrad with decay on, so that each step is divided by the p-th root of the sum."""
    k = learner.knobs
    if isinstance(learner.optimizer, CLASSP):
        return checked({**learner.optimizer.param_groups[0], "lr": k["lr"], "decay": True})
    return Rule(k["lr"], 2.0, 0.0, k["eps"], True, "paper", "inclusive", float("inf"))


def gauges(learner: Learner) -> Record:
    """Return the plasticity left, quantiles of the effective learning rate, and a histogram of the sums, for each layer.

    The quantiles are those at 1 %, 50 % and 99 %. The record is empty if the optimizer stores no sums.
    """
    found, rule = layers(learner), rule_of(learner)
    tasks = max(learner.training.done / max(learner.steps, 1) * len(learner.stream.tasks), 1e-9)
    gauge, spread, sums = [], [], []
    for _, _, total in found:
        # This assumes that the next task adds as much to each sum as the tasks so far have added on average.
        gauge.append(left(total, total / tasks, rule).mean().item())
        rate = rates(total, rule).flatten()
        kept = rate[:: max(1, len(rate) // 10_000)]  # ten thousand values give sufficiently exact quantiles
        spread.append(torch.quantile(kept, torch.tensor([0.01, 0.5, 0.99])).tolist())
        sums.append(histogram(total, SUMS))
    return {"gauge": gauge, "rates": spread, "sums": sums} if found else {}


def histogram(values: Tensor, ends: tuple[float, float], bins: int = BINS) -> list[float]:
    """Return the share of `values` in each of `bins` equal bins of log10(value) between the two `ends`.

    Values outside this range are counted in the first or the last bin. Zeros are in no bin, but are included in the total number.
    """
    positive = values[values > 0]
    logs = positive.log10().clamp(*ends).float()
    return (torch.histc(logs, bins, *ends) / max(values.numel(), 1)).tolist()


# -- moments of a training run, which is computed once for all views ------------------------------------------------------------


class Moment(NamedTuple):
    """The network at one moment of a training run: the layers, the squared gradients of one batch, and the accuracies."""

    name: str
    layers: list[Layer]
    squares: Tensor
    accuracies: list[float]
    tasks: int  # number of tasks learnt so far


@lru_cache(maxsize=4)
def moments(text: str, inputs: tuple[str, ...] = ()) -> tuple[list[Moment], Rule, list[str]]:
    """Train with the config `text` (JSON), and return the moments of the run, the update rule, and the names of the tasks.

    The moments are the first step of the run, the end of each task, and the first step of each later task. `inputs` holds
    references (name and checksum) to the data. Because of them, runs on different data have different entries in the cache.
    """
    config = ContinualConfig.model_validate_json(text)
    learner = config.learner(0)
    found: list[Moment] = []
    steps = learner.run()
    ends = list(itertools.accumulate(-(-len(t.x_train) // config.batch) * config.passes for t in learner.stream.tasks))
    for number, step, _ in steps:
        if step == 1:
            found.append(_moment(learner, "training begins", 0))
        elif step - 1 in ends:
            found.append(_moment(learner, f"task {number + 1} begins", number))
        if step in ends:
            found.append(_moment(learner, f"task {number + 1} ends", number + 1))
    return found, rule_of(learner), [task.name for task in learner.stream.tasks]


def _moment(learner: Learner, name: str, tasks: int) -> Moment:
    squares = torch.cat([p.grad.flatten() for p in learner.model.parameters()]).square()
    kept = [Layer(layer.name, layer.weight.clone(), layer.total.clone()) for layer in layers(learner)]
    return Moment(name, kept, squares, learner.accuracies(500).tolist(), tasks)


def first_weights(model_layers: list[Layer], rule: Rule, mass: Tensor, units: list[int]) -> dict[str, Any]:
    """Return the incoming weights of some units of the first layer, and the plasticity left in each weight, both in percent.

    For a weight, 100 % is the largest absolute weight of the same unit. For the plasticity, 100 % is that of a weight whose sum
    is 0. `mass` is the amount that the next task is assumed to add to each sum.
    """
    _, weight, total = model_layers[0]
    chosen, share = weight[units], left(total[units], mass[units], rule)
    most = chosen.abs().amax(1, keepdim=True).clamp(min=1e-12)
    return {"weights": (100 * chosen / most).round().int().tolist(), "free": (100 * share).round().int().tolist()}
