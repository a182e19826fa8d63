"""Live experiments on streams of tasks.

They show one method on a stream, several methods that continue from the end of task 1, the sums of gradients at a chosen moment
of a training run, and the share of the weights that a threshold on the squared gradient lets move.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any, ClassVar, Self

import torch
from pydantic import model_validator

from workbench.continual.config import TEXTS, ContinualConfig, inputs
from workbench.continual.lab import figures, history_figures, questions, stories
from workbench.continual.lab.fork import EVERY, NO_PAPER, Branches, ForkConfig
from workbench.continual.lab.looking import RATES, SQUARES, SUMS, first_weights, gauges, histogram, moments
from workbench.continual.learner import Learner
from workbench.continual.rule import rates
from workbench.experiment import Record, experiment
from workbench.knobs import knob
from workbench.runs import Run


def warm_up() -> None:
    """Compile the fused step of CLASSP in advance, so that the first run starts without a delay."""
    from workbench.continual import fused  # imported here, since the import prepares a cache folder

    fused.warm_up()


PRESETS = {"smoke": {"samples": 1400, "passes": 3, "every": 12}, "laptop": {"samples": 1400, "every": 10}, "paper": NO_PAPER}


class TrainConfig(ContinualConfig):
    """The knobs of a training run that is shown live."""

    every: int = EVERY
    presets = PRESETS


def _looks(config: TrainConfig) -> int:
    return config.learner(0).steps // config.every + 1


@experiment(
    "continual/train",
    version=2,
    inputs=inputs,
    figure=figures.draw_train,
    story=stories.tell_train,
    place=lambda record: f"step {record['step']} of {record['of']}",
    prepare=warm_up,
    questions=questions.TRAIN,
    steps=_looks,
)
def train(config: TrainConfig, run: Run) -> Iterator[Record]:
    """Train one method, task after task, and show the accuracy on each task, the accuracy matrix and the plasticity left."""
    learner = config.learner(0)
    state = run.load()
    if state is not None:
        learner.load_state_dict(state)
    else:
        yield _look(learner, 0)
    for number, step, _ in learner.run():
        if step % config.every and step != learner.steps:
            continue
        yield _look(learner, number)
        if learner.training.due():
            run.save(learner.state_dict())


def _look(learner: Learner, number: int) -> Record:
    tasks, step = learner.stream.tasks, learner.training.done
    seen = len(tasks) if learner.method == "joint" else number + 1
    accuracies = learner.accuracies(1000)
    online, samples = learner.online
    return {
        "step": step,
        "of": learner.steps,
        "task": seen - 1,
        "names": [task.name for task in tasks],
        "accuracies": accuracies,
        "mean": accuracies[:seen].mean(),  # mean over the tasks whose training has begun
        "online": online / max(samples, 1),
        # the last row is the current state of the task in training
        "matrix": torch.cat([learner.matrix[1 : learner.tasks_done + 1], accuracies[None]]) if step else [],
        "borders": learner.borders,
        "note": learner.stream.note,
        **gauges(learner),
    }


@experiment(
    "continual/fork",
    version=1,
    inputs=inputs,
    figure=figures.draw_fork,
    story=stories.tell_fork,
    place=lambda record: f"step {record['step']} of {record['of']}",
    prepare=warm_up,
    per_moment=lambda c: len(c.branches),
    questions=questions.FORK,
    steps=lambda c: len(c.branches) * Branches.looks(c),
)
def fork(config: ForkConfig, run: Run) -> Iterator[Record]:
    """Learn task 1 once, then continue with several methods and learning rates side by side."""
    branches = Branches(config)
    for looked in branches.go():
        for name, learner in looked.items():
            accuracies = learner.accuracies(1000)
            seen = max(learner.begun(learner.training.done), 1)
            yield {
                "branch": name,
                "step": learner.training.done,
                "of": learner.steps,
                "border": branches.border,
                "accuracies": accuracies,
                "old": accuracies[: max(seen - 1, 1)].mean(),
                "new": accuracies[seen - 1] if seen > 1 else accuracies[1],
                "names": [task.name for task in learner.stream.tasks],
                "failed": branches.failed.get(name),
            }


class HistoryConfig(ContinualConfig):
    """The knobs of a view of the network at one moment of a training run."""

    title: ClassVar[str] = "moment"
    moment: int = knob(
        1, "moment",
        "The moment that is shown. 0: the first step. 1: the end of task 1. 2: the first step of task 2. 3: the end of task 2, "
        "and so on.",
        low=0,
        high=lambda c: 2 * c.task_count() - 1, essential=True,
    )  # fmt: skip
    presets = {"smoke": {"samples": 500}, "laptop": {"samples": 1400}, "paper": NO_PAPER}
    swept = ("strength", "estimator", "memory", "optimizer", "cut")  # these knobs concern methods that store no sums of gradients

    @model_validator(mode="after")
    def _keeps_sums(self) -> Self:
        if self.method not in ("classp", "adagrad"):
            raise ValueError(
                f"method={self.method!r}: the view shows sums of gradients, which this method lacks; expected classp or adagrad"
            )
        return self


class UnitsConfig(HistoryConfig):
    """The knobs of the view of the sums, the effective rates and the first-layer weights."""

    title: ClassVar[str] = "moment"
    units: int = knob(
        0,
        "first unit shown",
        "Index (from 0) of the first of the six units shown. All of them are in the first hidden layer.",
        low=0,
        high=lambda c: max(c.hidden[0] - 6, 0),
    )


def _run_of(config: ContinualConfig) -> Any:
    learned = config.of(ContinualConfig)
    return moments(learned.model_dump_json(), tuple(inputs(learned)))


@experiment(
    "continual/history",
    version=1,
    inputs=inputs,
    figure=history_figures.draw_history,
    story=stories.tell_history,
    prepare=warm_up,
    instant=True,
)
def history(config: UnitsConfig, run: Any) -> Iterator[Record]:
    """Show the sums of gradients and the effective rates of each layer, and the plasticity left in first-layer weights."""
    every, rule, names = _run_of(config)
    moment = every[config.moment]
    last = every[-1].layers
    found: Record = {"moment": moment.name, "names": names, "accuracies": moment.accuracies, "tasks": moment.tasks}
    found["sums"] = [histogram(layer.total, SUMS) for layer in moment.layers]
    found["rates"] = [histogram(rates(layer.total, rule), RATES) for layer in moment.layers]
    found["untouched"] = [(layer.total == 0).double().mean().item() for layer in moment.layers]
    mass = last[0].total / len(names)  # average increase of the sums of the first layer in one task
    units = list(range(config.units, min(config.units + 6, len(last[0].weight))))
    if config.network == "perceptron" and config.stream not in TEXTS and _as_images(last[0].weight):
        found |= first_weights(moment.layers, rule, mass, units)
    found["units"] = units
    yield found


def _as_images(weight: torch.Tensor) -> bool:
    """Check whether each row of the weights ``(units, inputs)`` can be drawn as a square image of at least 8 x 8 pixels."""
    inputs = weight.shape[1]
    return inputs >= 64 and isqrt(inputs) ** 2 == inputs


class ThresholdConfig(HistoryConfig):
    """The knobs of the view of the squared gradients of one batch, with a threshold."""

    title: ClassVar[str] = "moment"
    cut_at: float = knob(
        -7.0,
        "threshold, 10^x",
        "Exponent x of the threshold 10^x. A weight moves only if its squared gradient is above the threshold. The published "
        "threshold of 0.5 is x = -0.3.",
        low=-16.0,
        high=0.0,
        step=0.1,
        essential=True,
    )
    swept = (*HistoryConfig.swept, "threshold")


@experiment(
    "continual/threshold",
    version=1,
    inputs=inputs,
    figure=history_figures.draw_threshold,
    story=stories.tell_threshold,
    prepare=warm_up,
    instant=True,
)
def threshold(config: ThresholdConfig, run: Any) -> Iterator[Record]:
    """Show the squared gradients of all weights on one batch, and the share of the weights that a threshold lets move."""
    every, _, names = _run_of(config)
    squares = every[config.moment].squares
    yield {
        "moment": every[config.moment].name,
        "names": names,
        "histogram": histogram(squares, SQUARES, 64),
        "cut_at": config.cut_at,
        "through": (squares > 10.0**config.cut_at).double().mean(),
        "zero": (squares == 0).double().mean(),
        "largest": squares.max(),
        "median": torch.quantile(squares[:: max(1, len(squares) // 10_000)], 0.5),
    }
