"""The experiment with a single weight, for the notebook `02-inside` and the tests."""

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
    "noise": "noise with a small constant mean",
    "constant": "all equal",
    "two tasks": "upward push in task 1, downward push in task 2",
    "never, then often": "zero in task 1, noise in task 2",
}


def gradients(kind: str, steps: int, size: float, seed: int) -> Tensor:
    """Return a series of gradients ``(steps,)`` of one weight, in float64. `kind` is one of `KINDS`.

    `size` is the constant gradient, or the standard deviation of the noise. The mean of a noisy series, or of each half of it, is
    a multiple of `size`.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = size * torch.randn(steps, generator=generator, dtype=torch.float64)
    half = torch.arange(steps) < steps // 2
    if kind == "constant":
        return torch.full_like(noise, size)
    if kind == "two tasks":
        return noise + torch.where(half, -size, size)
    return torch.where(half, 0.0, noise) if kind == "never, then often" else noise - 0.3 * size


def walk(series: Tensor, rule: Rule) -> dict[str, list[float]]:
    """Apply `update` to a weight that starts at 0, gradient after gradient.

    Returns the weight, the distance moved so far (way) and the sum S, each with ``steps + 1`` values.
    """
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
    """Return the result of `walk`, but compute all steps at once, which is fast enough to follow a slider.

    This is possible because the gradients do not depend on the weight.
    """
    k = gate(series, rule)
    total = (k.abs() if rule.mode == "repo" else k.abs() ** rule.power).cumsum(0)
    before = total if rule.order == "inclusive" else torch.cat([total.new_zeros(1), total[:-1]])
    step = torch.where(k == 0, 0.0, k * rates(before, rule)) if rule.decay else rule.lr * k
    paths = {"weight": -step.cumsum(0), "way": step.abs().cumsum(0), "sum": total}
    return {name: [0.0, *path.tolist()] for name, path in paths.items()}


def follow(series: Tensor, make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> float:
    """Return the final value of a weight that starts at 0 and is moved by the torch optimizer ``make([weight])``."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make([weight])
    for gradient in series:
        weight.grad = gradient[None].clone()
        optimizer.step()
    return weight.item()


class WeightConfig(Config):
    """The knobs of the single weight: the series of its gradients, and the update rule."""

    kind: Literal[tuple(KINDS)] = knob(
        "two tasks", "gradients", "The series of gradients that the weight receives.", essential=True
    )
    size: float = knob(
        0.01, "gradient size", "Standard deviation of the noise, or the size of a constant gradient.", low=1e-6, high=1.0,
        log=True,
        essential=True,
    )  # fmt: skip
    steps: int = knob(
        400,
        "steps",
        "Number of gradients in total. The task boundary is in the middle.",
        low=20,
        high=600,
        step=20,
        essential=True,
    )
    lr: float = knob(
        0.01, "alpha", "Learning rate of CLASSP (alpha in the paper) and of AdaGrad. The first step has about this size.",
        low=1e-4, high=1.0, log=True, essential=True,
    )  # fmt: skip
    sgd_lr: float = knob(
        0.1, "rate of SGD", "Learning rate of SGD, which is shown for comparison.", low=1e-4, high=10.0, log=True
    )
    power: float = vary(
        POWER, help="CLASSP accumulates a sum S of |gradient|^p, and divides the steps of the weight by the p-th root of S. "
        "p = 2 with threshold 0 is AdaGrad.", when=None,
    )  # fmt: skip
    threshold: float = vary(
        THRESHOLD, help="The weight moves only if its squared gradient is above the threshold. 0: it always moves.", high=1.0,
        choices=(0.0, 1e-6, 1e-5, 1e-4, 0.5), when=None,
    )  # fmt: skip
    eps: float = EPS
    seed: int = knob(0, "seed", "Random seed of the gradients.", low=0, high=10**6)
    presets = {"smoke": {}, "laptop": {}, "paper": "the paper has no such figure"}


@experiment("continual/one-weight", version=1, figure=history_figures.draw_weight, story=stories.tell_weight, instant=True)
def one_weight(config: WeightConfig, run: Any) -> Iterator[Record]:
    """Move one weight by four update rules: those of the paper, of the published program, of AdaGrad and of SGD."""
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
    """Round to six significant digits, which suffice for drawing and halve the size of the record."""
    return [float(f"{value:.6g}") for value in values]
