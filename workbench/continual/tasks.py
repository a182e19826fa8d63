"""A task and a stream of tasks; and which answers count, where a task's number is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

SCENARIOS = ("domain", "task", "class")
WARNING = (
    "class-incremental: no task says which of the earlier classes could be meant, so penalties and optimizers, CLASSP included, "
    "do almost nothing; replay does (arXiv 1904.07734)"
)


class Task(NamedTuple):
    """Samples and labels of one task; settings are chosen on the validation part. `classes` are the answers it can have."""

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
    """Tasks in their order; `outputs` is how many answers the model has, `note` what must be said of any result."""

    name: str
    tasks: tuple[Task, ...]
    outputs: int
    scenario: str = "domain"
    note: str = ""


def together(tasks: Sequence[Task]) -> Task:
    """Tasks as one."""
    parts = [torch.cat([task[i] for task in tasks]) for i in range(1, 7)]
    return Task("together", *parts, torch.cat([task.classes for task in tasks]).unique())


def masked(logits: Tensor, classes: Tensor | None) -> Tensor:
    """Only these answers count; None: all."""
    if classes is None or len(classes) == logits.shape[1]:
        return logits
    if len(classes) and int(classes.max()) >= logits.shape[1]:
        raise ValueError(f"label {int(classes.max())}: the model has outputs for 0 to {logits.shape[1] - 1}")
    others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    others[classes] = False
    return logits.masked_fill(others, float("-inf"))


def masked_each(logits: Tensor, tasks: Tensor, answers: Sequence[Tensor]) -> Tensor:
    """Only the answers of each sample's own task count: `tasks` ``(n,)`` are their numbers, `answers` those of each task."""
    counts = torch.zeros(len(answers), logits.shape[1], dtype=torch.bool, device=logits.device)
    for row, classes in zip(counts, answers, strict=True):
        row[classes] = True
    return logits.masked_fill(~counts[tasks], float("-inf"))


def loss_on(logits: Tensor, y: Tensor, kind: str) -> Tensor:
    """The loss of a batch; see `fit`. Answers that do not count are -inf."""
    if kind == "cross-entropy":
        return nn.functional.cross_entropy(logits, y)
    error = logits - nn.functional.one_hot(y, logits.shape[1])
    return error.masked_fill(logits.isneginf(), 0.0).square().sum() / 2


def known(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse what is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
