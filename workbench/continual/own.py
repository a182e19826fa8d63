"""Streams of tasks that are built from the user's arrays.

The arrays are checked, and a part of each task is set aside for validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.continual.tasks import SCENARIOS, WARNING, Stream, Task, known

SHARE = 6  # one in SHARE training samples is set aside for validation
MOST_OUTPUTS = 1000  # with more model outputs than this, at least a tenth of the class numbers must occur as labels


def own(tasks: Sequence[Sequence[Any]], name: str = "own arrays", scenario: str = "domain", names: Sequence[str] = ()) -> Stream:
    """Return a stream of the tasks ``(x_train, y_train, x_test, y_test)``, given as arrays or tensors.

    `names` holds the names of the tasks. The last sixth of each training set is used for validation. If the samples are sorted by
    class, or if the training or the validation part would lack a class, one sixth of each class is drawn at random instead, and
    the `note` of the stream reports this. Raises ValueError if a task is not valid. The message names the task and the problem.
    """
    known("scenario", scenario, SCENARIOS)
    if not len(tasks):
        raise ValueError("no tasks; expected at least one (x_train, y_train, x_test, y_test)")
    names = names or [f"task {k}" for k in range(len(tasks))]
    found, notes = [], [WARNING] if scenario == "class" else []
    for called, task in zip(names, tasks, strict=True):
        made, note = _task(called, task)
        found.append(made)
        notes += note
        if found[0].x_train.shape[1:] != made.x_train.shape[1:]:
            like = tuple(found[0].x_train.shape[1:])
            raise ValueError(f"{called}: samples have shape {tuple(made.x_train.shape[1:])}; expected {like}, as in {names[0]}")
    outputs = _outputs(torch.cat([task.classes for task in found]))
    if scenario != "task":
        found = [task._replace(classes=torch.arange(outputs)) for task in found]
    return Stream(name, tuple(found), outputs, scenario, "; ".join(notes))


def _task(name: str, task: Sequence[Any]) -> tuple[Task, list[str]]:
    if len(task) != 4:
        raise ValueError(f"{name} has {len(task)} arrays; expected four: (x_train, y_train, x_test, y_test)")
    x, y, x_test, y_test = (_numbers(f"{name}, {part}", array) for part, array in zip(PARTS, task, strict=True))
    for part, samples, labels in (("train", x, y), ("test", x_test, y_test)):
        _check(f"{name}, {part}", samples, labels, x)
    x, x_test, y, y_test = x.float(), x_test.float(), y.long(), y_test.long()
    kept, aside, note = set_aside(y, SHARE)
    notes = [f"{name}: {note} for validation"] if note else []
    if alone := sorted({*y_test.tolist()} - {*y.tolist()}):
        notes.append(f"{name}: the test set has samples of {_classes(alone)}, but the training set does not")
    if grouped(y_test):  # accuracies during training use only the first samples, which must not all have one class
        order = mixed_up(len(y_test))
        x_test, y_test = x_test[order], y_test[order]
    classes = torch.cat([y, y_test]).unique()
    return Task(name, x[kept], y[kept], x[aside], y[aside], x_test, y_test, classes), notes


PARTS = ("x_train", "y_train", "x_test", "y_test")


def set_aside(y: Tensor, share: int) -> tuple[Tensor, Tensor, str]:
    """Split the samples with the labels `y` ``(n,)`` into two parts. One in `share` samples is set aside.

    Returns the indices of the samples to keep, the indices of the samples to set aside, and a note. Usually, the last samples are
    set aside, and the note is empty. If the labels are sorted by class, or if one of the two parts would lack a class, one in
    `share` samples of each class is drawn at random instead, and the note gives the reason.
    """
    cut = max(1, len(y) - len(y) // share)
    rows = torch.arange(len(y))
    lacking, together = _lacking(y[:cut], y, 2) + _lacking(y[cut:], y, share), grouped(y)
    if cut == len(y) or not (lacking or together):
        return rows[:cut], rows[cut:], ""
    mixed = mixed_up(len(y))
    aside = torch.cat([of[: len(of) // share] for c in y.unique() for of in [mixed[y[mixed] == c]]])
    if not len(aside):  # every class has fewer than `share` samples
        return rows[:cut], rows[cut:], ""
    is_aside = torch.isin(mixed, aside)
    why = "samples are grouped by class" if together else f"one part would lack {_classes(lacking)}"
    return mixed[~is_aside], mixed[is_aside], f"{why}, so one in {share} samples of each class is set aside"


def _lacking(part: Tensor, whole: Tensor, least: int) -> list[int]:
    """Return the classes with at least `least` samples in `whole` and none in `part`."""
    classes, counts = whole.unique(return_counts=True)
    return [int(c) for c in classes[counts >= least] if not (part == c).any()]


def _classes(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)
    return f"{'classes' if len(numbers) > 1 else 'class'} {shown}"


def grouped(y: Tensor) -> bool:
    """Check whether the samples are grouped by class.

    The answer is yes if adjacent labels differ less than half as often as they would in a random order.
    """
    counts = y.unique(return_counts=True)[1].double()
    n = float(len(y))
    if n < 2:
        return False
    expected = (n - 1) * (1 - (counts * (counts - 1)).sum().item() / (n * (n - 1)))
    return int((y[1:] != y[:-1]).sum()) < expected / 2


def mixed_up(count: int) -> Tensor:
    """Return a random permutation of `count` indices, with a fixed seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _outputs(classes: Tensor) -> int:
    """Return the number of model outputs that these labels require. Raises ValueError if the labels are implausible."""
    outputs, distinct = int(classes.max()) + 1, len(classes.unique())
    if outputs < 2:
        raise ValueError("all labels are 0; expected at least two classes")
    if outputs > max(MOST_OUTPUTS, 10 * distinct):
        raise ValueError(
            f"label {outputs - 1}: the model would need {outputs:,} outputs for {distinct} different labels. "
            "Expected classes 0, 1, 2, ...: renumber the labels, or check that the array holds class labels and not, "
            "for example, ids"
        )
    return outputs


def _numbers(where: str, array: Any) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach()
    try:
        return torch.as_tensor(np.require(np.asarray(array), requirements="W"))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: the {type(array).__name__} cannot be converted to a tensor ({error}); expected an array of numbers"
        ) from None


def _check(where: str, x: Tensor, y: Tensor, like: Tensor) -> None:
    if x.dim() < 2 or not len(x):
        raise ValueError(f"{where}: the array of samples has shape {tuple(x.shape)}; expected (n, ...) with n of at least 1")
    if x.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"{where}: samples have shape {tuple(x.shape[1:])}; expected {tuple(like.shape[1:])}, as in the training set"
        )
    if y.shape != x.shape[:1]:
        raise ValueError(f"{where}: the labels have shape {tuple(y.shape)}; expected ({len(x)},), one label per sample")
    if y.is_floating_point() and not (y.isfinite() & (y == y.round())).all():
        raise ValueError(f"{where}: some labels are not whole numbers; expected class numbers 0, 1, 2, ...")
    if y.min() < 0:
        raise ValueError(f"{where}: label {int(y.min())} is negative; expected class numbers 0, 1, 2, ...")
    if not x.float().isfinite().all():
        row = int((~x.float().isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"{where}: sample {row} has a value that is not finite; expected finite numbers. Correct or remove the sample"
        )
