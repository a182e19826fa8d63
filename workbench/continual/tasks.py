"""Tasks, streams of tasks, and functions that mask the logits outside a task's classes (for the task-incremental scenario)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

SCENARIOS = ("domain", "task", "class")
WARNING = (
    "class-incremental scenario: a sample may belong to any class of any task. Penalties and optimizers, including CLASSP, "
    "hardly reduce forgetting here, but replay does (arXiv 1904.07734)"
)


class Task(NamedTuple):
    """The samples and labels of one task.

    The validation samples are used to choose hyperparameters. `classes` holds the classes that are possible answers in this task.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Stream:
    """A sequence of tasks. `outputs` is the number of outputs of the model, and `note` is shown with every result."""

    name: str
    tasks: tuple[Task, ...]
    outputs: int
    scenario: str = "domain"
    note: str = ""


def merged(tasks: Sequence[Task]) -> Task:
    """Concatenate several tasks into one task."""
    parts = [torch.cat([task[i] for task in tasks]) for i in range(1, 7)]
    return Task("together", *parts, torch.cat([task.classes for task in tasks]).unique())


def masked(logits: Tensor, classes: Tensor | None) -> Tensor:
    """Return the logits ``(n, outputs)`` with -inf for all outputs that are not in `classes`.

    If `classes` is None, the logits are not changed.
    """
    if classes is None or len(classes) == logits.shape[1]:
        return logits
    if len(classes) and int(classes.max()) >= logits.shape[1]:
        raise ValueError(
            f"label {int(classes.max())}: the model has outputs only for classes 0 to {logits.shape[1] - 1}; "
            "use a model with more outputs"
        )
    others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    others[classes] = False
    return logits.masked_fill(others, float("-inf"))


def masked_each(logits: Tensor, tasks: Tensor, answers: Sequence[Tensor]) -> Tensor:
    """Return the logits ``(n, outputs)`` with -inf for outputs outside the task of each sample.

    `tasks` ``(n,)`` is the task number of each sample, and `answers` holds the classes of each task.
    """
    counts = torch.zeros(len(answers), logits.shape[1], dtype=torch.bool, device=logits.device)
    for row, classes in zip(counts, answers, strict=True):
        row[classes] = True
    return logits.masked_fill(~counts[tasks], float("-inf"))


def loss_on(logits: Tensor, y: Tensor, kind: str) -> Tensor:
    """Return the loss of a batch. `kind` is the argument `loss` of `fit`. Logits of -inf are ignored."""
    if kind == "cross-entropy":
        return nn.functional.cross_entropy(logits, y)
    error = logits - nn.functional.one_hot(y, logits.shape[1])
    return error.masked_fill(logits.isneginf(), 0.0).square().sum() / 2


def known(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError if `value` is not one of `choices`. `name` is the name of the argument in the error message."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
