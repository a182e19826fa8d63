"""What is read off an optimizer's history: sums, effective rates, plasticity left, gradients that a threshold lets through."""

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
SUMS = (-9.0, 3.0)  # log10 of the sums shown
RATES = (-5.0, 3.0)  # of the effective rates
SQUARES = (-16.0, 0.0)  # of the squared gradients


class Layer(NamedTuple):
    """A layer's weights and the sums of its gradients."""

    name: str
    weight: Tensor
    total: Tensor


def layers(learner: Learner) -> list[Layer]:
    """The matrices and kernels of a network whose optimizer keeps sums (CLASSP, AdaGrad); none where it keeps none."""
    found = []
    for p in learner.model.parameters():
        state = learner.optimizer.state.get(p, {})
        if p.dim() > 1 and "sum" in state:
            start = 0.0 if isinstance(learner.optimizer, CLASSP) else learner.knobs["eps"]
            found.append(Layer(f"layer {len(found) + 1}", p.detach(), state["sum"] - start))
    return found


def rule_of(learner: Learner) -> Rule:
    """The rule by which its sums slow weights down, once decay is on."""
    k = learner.knobs
    if isinstance(learner.optimizer, CLASSP):
        return checked({**learner.optimizer.param_groups[0], "lr": k["lr"], "decay": True})
    return Rule(k["lr"], 2.0, 0.0, k["eps"], True, "paper", "inclusive", float("inf"))


def gauges(learner: Learner) -> Record:
    """Of each layer: the plasticity left, median and ends of the effective rate; the histograms of its sums."""
    found, rule = layers(learner), rule_of(learner)
    tasks = max(learner.training.done / max(learner.steps, 1) * len(learner.stream.tasks), 1e-9)
    gauge, spread, sums = [], [], []
    for _, _, total in found:
        # if the next task brings each weight as much gradient as a task has brought it so far
        gauge.append(left(total, total / tasks, rule).mean().item())
        rate = rates(total, rule).flatten()
        kept = rate[:: max(1, len(rate) // 10_000)]  # quantiles of ten thousand are near enough
        spread.append(torch.quantile(kept, torch.tensor([0.01, 0.5, 0.99])).tolist())
        sums.append(histogram(total, SUMS))
    return {"gauge": gauge, "rates": spread, "sums": sums} if found else {}


def histogram(values: Tensor, ends: tuple[float, float], bins: int = BINS) -> list[float]:
    """Share of positive `values` in each bin of their log10; what lies outside is in the end bins, zeros are left out."""
    positive = values[values > 0]
    logs = positive.log10().clamp(*ends).float()
    return (torch.histc(logs, bins, *ends) / max(values.numel(), 1)).tolist()


# -- moments of a run that is made once and looked at from all sides ----------------------------------------------------------


class Moment(NamedTuple):
    """A network at one moment: its layers, the squared gradients of its next batch, accuracy on each task."""

    name: str
    layers: list[Layer]
    squares: Tensor
    accuracies: list[float]
    tasks: int  # learnt so far


@lru_cache(maxsize=4)
def moments(text: str) -> tuple[list[Moment], Rule, list[str]]:
    """The moments of the run of a config (as JSON): its first step, then the end and the new task's first step at each border."""
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
    """Of some units of the first layer: their incoming weights (in percent of the largest), and the plasticity left in each."""
    _, weight, total = model_layers[0]
    chosen, share = weight[units], left(total[units], mass[units], rule)
    most = chosen.abs().amax(1, keepdim=True).clamp(min=1e-12)
    return {"weights": (100 * chosen / most).round().int().tolist(), "free": (100 * share).round().int().tolist()}
