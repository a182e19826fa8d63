"""One weight under a microscope, for the teaching notebook and its tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.continual.budget import movable
from workbench.continual.lab import history_figures, stories
from workbench.continual.rule import EPS, POWER, THRESHOLD, Rule, gate, rates, update
from workbench.experiment import Record, experiment
from workbench.knobs import Config, knob, vary

KINDS = {
    "noise": "noise about a small push",
    "constant": "all equal",
    "two tasks": "a push up, then a push down after the border",
    "never, then often": "none before the border, noise after it",
}


def gradients(kind: str, steps: int, size: float, seed: int) -> Tensor:
    """A series of gradients ``(steps,)`` of a weight, in float64, of about `size`."""
    generator = torch.Generator().manual_seed(seed)
    noise = size * torch.randn(steps, generator=generator, dtype=torch.float64)
    half = torch.arange(steps) < steps // 2
    if kind == "constant":
        return torch.full_like(noise, size)
    if kind == "two tasks":
        return noise + torch.where(half, -size, size)
    return torch.where(half, 0.0, noise) if kind == "never, then often" else noise - 0.3 * size


def walk(series: Tensor, rule: Rule) -> dict[str, list[float]]:
    """Where `update` takes a weight that begins at 0: weight, way so far and sum, ``(steps + 1,)`` each."""
    weight, total = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    found: dict[str, list[float]] = {"weight": [0.0], "way": [0.0], "sum": [0.0]}
    for gradient in series:
        before = weight.item()
        update(weight, gradient[None], total, rule)
        found["weight"].append(weight.item())
        found["way"].append(found["way"][-1] + abs(weight.item() - before))
        found["sum"].append(total.item())
    return found


def at_once(series: Tensor, rule: Rule) -> dict[str, list[float]]:
    """The same as `walk`, all steps in a few operations, since no gradient depends on the weight: for what follows a slider."""
    k = gate(series, rule)
    total = (k.abs() if rule.mode == "repo" else k.abs() ** rule.power).cumsum(0)
    before = total if rule.order == "inclusive" else torch.cat([total.new_zeros(1), total[:-1]])
    step = torch.where(k == 0, 0.0, k * rates(before, rule)) if rule.decay else rule.lr * k
    paths = {"weight": -step.cumsum(0), "way": step.abs().cumsum(0), "sum": total}
    return {name: [0.0, *path.tolist()] for name, path in paths.items()}


def follow(series: Tensor, make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> float:
    """Where an optimizer of torch's, made by ``make([weight])``, takes a weight that begins at 0."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make([weight])
    for gradient in series:
        weight.grad = gradient[None].clone()
        optimizer.step()
    return weight.item()


class WeightConfig(Config):
    """A series of gradients, and the rule that one weight follows."""

    kind: Literal[tuple(KINDS)] = knob("two tasks", "gradients", "what the weight sees", essential=True)
    size: float = knob(0.01, "their size", "deviation of the gradients", low=1e-6, high=1.0, log=True, essential=True)
    steps: int = knob(400, "steps", "in all; a border in the middle", low=20, high=600, step=20, essential=True)
    lr: float = knob(0.01, "alpha", "in units of the weight", low=1e-4, high=1.0, log=True, essential=True)
    sgd_lr: float = knob(0.1, "rate of SGD", "beside it", low=1e-4, high=10.0, log=True)
    power: float = vary(POWER, help="of the sum and of its root", when=None)
    threshold: float = vary(THRESHOLD, help="on the squared gradient", high=1.0, choices=(0.0, 1e-6, 1e-5, 1e-4, 0.5), when=None)
    eps: float = EPS
    seed: int = knob(0, "seed", "of the gradients", low=0, high=10**6)
    presets = {"smoke": {}, "laptop": {}, "paper": "the paper has no such picture"}


@experiment("continual/one-weight", version=1, figure=history_figures.draw_weight, story=stories.tell_weight, instant=True)
def one_weight(config: WeightConfig, run: Any) -> Iterator[Record]:
    """One weight under four switches: the paper's rule, the published program's, AdaGrad's, SGD's."""
    series = gradients(config.kind, config.steps, config.size, config.seed)
    common = (config.lr, config.power, config.threshold, config.eps, True)
    rules = {
        "paper": Rule(*common, "paper", "inclusive", float("inf")),
        "published": Rule(*common, "repo", "inclusive", float("inf")),
        "adagrad": Rule(config.lr, 2.0, 0.0, config.eps, True, "paper", "inclusive", float("inf")),
        "sgd": Rule(config.sgd_lr, 1.0, 0.0, config.eps, False, "paper", "inclusive", float("inf")),
    }
    walks = {name: at_once(series, rule) for name, rule in rules.items()}
    sums = torch.tensor(walks["paper"]["sum"], dtype=torch.float64)
    steps = torch.arange(len(sums)).clamp(min=1)
    bound = movable(torch.zeros_like(sums), sums, rules["paper"], steps).tolist()
    yield {
        **{f"weight_{name}": _short(walked["weight"]) for name, walked in walks.items()},
        "way": _short(walks["paper"]["way"]),
        "bound": _short(bound),
        "border": 0 if config.kind in ("noise", "constant") else config.steps // 2,
        "steps": config.steps,
        "words": KINDS[config.kind],
        "power": config.power,
        "lr": config.lr,
        "sgd_lr": config.sgd_lr,
        "passed": (series.square() > config.threshold).double().mean(),
    }


def _short(values: list[float]) -> list[float]:
    """Six digits: enough to be drawn, and half the size."""
    return [float(f"{value:.6g}") for value in values]
