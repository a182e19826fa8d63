"""Streams of tasks that are built from image sets or from the user's own arrays.

An image set is split by class, permuted or rotated. In a sequence, each task is another image set.

There are three scenarios (van de Ven and Tolias, arXiv 1904.07734):

- task-incremental: the task number of each test sample is known, and only the classes of this task are possible answers;
- domain-incremental: the task number is not known, but all tasks share the same labels;
- class-incremental: the task number is not known, and all classes of all tasks are possible answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.continual.own import own
from workbench.continual.tables import read_csv
from workbench.continual.tasks import SCENARIOS, WARNING, Stream, Task, known, masked, merged
from workbench.digits import Digits, load_digits
from workbench.training import mixed

__all__ = [
    "SCENARIOS", "Reordered", "Stream", "Task", "known", "load", "masked", "merged", "own", "permuted", "read_csv", "rotated",
    "sequence", "some", "split",
]  # fmt: skip


def load(name: str, scenario: str = "domain", tasks: int = 5, samples: int | None = None, seed: int = 0) -> Stream:
    """Return the stream of images with the given name.

    Args:
        name: ``KIND-DATA`` or ``sequence-DATA+DATA+...``. KIND is split, permuted or rotated, and DATA is an image set, such as
            mnist-10k. A sequence has one task for each image set. For example, the paper's pair of image sets is
            sequence-mnist-10k+fashion-mnist-10k.
        scenario: "domain", "task" or "class". Only split streams support "task" and "class".
        tasks: the number of tasks. It has no effect on a sequence.
        samples: the largest number of training samples of each task; None for all.
        seed: the random seed for the choice of these samples.

    Raises:
        ValueError: if there is no stream of this name, or if an argument is not valid.
        DataError: if the data are missing.
    """
    kind, _, data = name.partition("-")
    if kind == "sequence" and data:
        return sequence(name, data.split("+"), scenario, samples, seed)
    if kind not in KINDS or not data:
        raise ValueError(
            f"stream {name!r}: expected a kind (one of sequence, {', '.join(KINDS)}) and an image set, as in split-mnist-10k"
        )
    return KINDS[kind](load_digits(data), name, scenario, tasks, samples, seed)


def split(digits: Digits, name: str, scenario: str, tasks: int, samples: int | None, seed: int) -> Stream:
    """Return a stream whose tasks have equal numbers of consecutive classes.

    In the domain-incremental scenario, the label is the position of the class in its task: 0, 1, and so on.
    """
    known("scenario", scenario, SCENARIOS)
    count = int(digits.labels.max()) + 1
    if not 1 <= tasks <= count // 2 or count % tasks:
        raise ValueError(
            f"tasks={tasks}: expected a divisor of {count} (the number of classes) that leaves at least 2 classes per task"
        )
    each, found = count // tasks, []
    for k in range(tasks):
        classes = torch.arange(k * each, (k + 1) * each)

        def part(x: Tensor, labels: Tensor, most: int | None = None, classes: Tensor = classes, k: int = k) -> tuple:
            rows = torch.isin(labels, classes).nonzero()[:, 0]
            rows = some(rows, most, mixed(seed, k))
            y = labels[rows]
            return x[rows], (y - classes[0] if scenario == "domain" else y)

        answers = torch.arange(each) if scenario == "domain" else classes if scenario == "task" else torch.arange(count)
        found.append(_task(f"{int(classes[0])}-{int(classes[-1])}", digits, part, samples, answers))
    note = WARNING if scenario == "class" else ""
    return Stream(name, tuple(found), each if scenario == "domain" else count, scenario, note)


def sequence(name: str, data: Sequence[str], scenario: str, samples: int | None, seed: int) -> Stream:
    """Return a stream with one task for each image set.

    The tasks share their labels, so the digit 3 and the dress of Fashion-MNIST are both class 3. All images must have the same
    number of pixels.
    """
    if scenario != "domain":
        raise ValueError(f"scenario={scenario!r}: expected 'domain' for {name}, whose tasks share their labels")
    sets = [load_digits(one) for one in data]
    outputs = max(int(digits.labels.max()) for digits in sets) + 1
    found = []
    for k, (one, digits) in enumerate(zip(data, sets, strict=True)):
        if digits.x.shape[1] != sets[0].x.shape[1]:
            raise ValueError(f"{one}: {digits.x.shape[1]} pixels per image; expected {sets[0].x.shape[1]}, as in {data[0]}")

        def part(x: Tensor, labels: Tensor, most: int | None = None, k: int = k) -> tuple:
            rows = some(torch.arange(len(x)), most, mixed(seed, k))
            return x[rows], labels[rows]

        found.append(_task(one, digits, part, samples, torch.arange(outputs)))
    return Stream(name, tuple(found), outputs)


def permuted(digits: Digits, name: str, scenario: str, tasks: int, samples: int | None, seed: int) -> Stream:
    """Return a stream whose tasks have different orders of the pixels.

    Task 1 has the original order. ``torch.randperm`` with a generator of seed 0 draws the other orders.
    """
    generator, pixels = torch.Generator().manual_seed(0), digits.x.shape[1]
    orders = [torch.arange(pixels), *(torch.randperm(pixels, generator=generator) for _ in range(tasks - 1))]
    return _changed(digits, name, scenario, samples, seed, [(f"order {k}", lambda x, o=o: x[:, o]) for k, o in enumerate(orders)])


def rotated(digits: Digits, name: str, scenario: str, tasks: int, samples: int | None, seed: int) -> Stream:
    """Return a stream of rotated images. Task k, counted from 0, rotates them by ``180 k / tasks`` degrees."""
    side = round(digits.x.shape[1] ** 0.5)

    def turn(x: Tensor, angle: float) -> Tensor:
        c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(x), 2, 3)
        grid = nn.functional.affine_grid(matrix, [len(x), 1, side, side], align_corners=False)
        return nn.functional.grid_sample(x.view(-1, 1, side, side), grid, align_corners=False).flatten(1)

    angles = [180 * k / tasks for k in range(tasks)]
    turns = [(f"{angle:.0f}°", lambda x, a=angle: turn(x, a * torch.pi / 180) if a else x) for angle in angles]
    return _changed(digits, name, scenario, samples, seed, turns)


KINDS = {"split": split, "permuted": permuted, "rotated": rotated}


def _changed(digits: Digits, name: str, scenario: str, samples: int | None, seed: int, changes: list) -> Stream:
    """Return a stream with one task for each of `changes`, which are pairs of a name and a function that changes all images."""
    if scenario != "domain":
        raise ValueError(f"scenario={scenario!r}: expected 'domain' for {name}, whose tasks have the same classes")
    if not changes:
        raise ValueError("tasks=0: expected at least 1")
    answers, found = torch.arange(int(digits.labels.max()) + 1), []
    for k, (label, change) in enumerate(changes):

        def part(x: Tensor, labels: Tensor, most: int | None = None, change=change, k: int = k) -> tuple:
            rows = some(torch.arange(len(x)), most, mixed(seed, k))
            return change(x[rows]), labels[rows]

        found.append(_task(label, digits, part, samples, answers))
    return Stream(name, tuple(found), len(answers))


def _task(name: str, digits: Digits, part: Any, samples: int | None, answers: Tensor) -> Task:
    return Task(
        name, *part(digits.x, digits.labels, samples), *part(digits.x_validation, digits.labels_validation),
        *part(digits.x_test, digits.labels_test), answers,
    )  # fmt: skip


def some(rows: Tensor, most: int | None, seed: int) -> Tensor:
    """Return at most `most` of the rows, drawn at random with `seed`, in their original order.

    If `most` is None, all rows are returned.
    """
    if most is None or most >= len(rows):
        return rows
    if most < 1:
        raise ValueError(f"samples={most}: expected at least 1 sample")
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most].sort().values]


class Reordered:
    """Samples ``(n, features)`` with reordered features. To save memory, the features are reordered only when rows are read."""

    def __init__(self, x: Tensor, order: Tensor):
        self.x, self.order = x, order

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Tensor:
        return self.x[rows][..., self.order]
