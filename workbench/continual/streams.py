"""Streams of tasks: pictures split by class, permuted or rotated, or one's own arrays.

In the three scenarios of van de Ven and Tolias (arXiv 1904.07734) a task's number is known when it is asked about
(task-incremental: only its classes are answers), is not known and does not matter (domain-incremental: all tasks share their
answers), or must be found out (class-incremental: all classes of all tasks are answers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.digits import Digits, load_digits
from workbench.training import mixed

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


def load(
    name: str, scenario: str = "domain", tasks: int = 5, samples: int | None = None, seed: int = 0
) -> Stream:
    """A stream by name, ``KIND-DATA``: KIND one of split, permuted, rotated; DATA a set of pictures, such as mnist-10k.

    Or ``sequence-DATA+DATA+...``, one set after the other, as in sequence-mnist-10k+fashion-mnist-10k, the paper's pair.
    `samples` is how many training samples a task has at most. `seed` chooses them. Raises ValueError for another name, DataError
    where the data are missing.
    """
    kind, _, data = name.partition("-")
    if kind == "sequence" and data:
        return sequence(name, data.split("+"), scenario, samples, seed)
    if kind not in KINDS or not data:
        raise ValueError(
            f"stream {name!r}: expected sequence, {', '.join(KINDS)} and a set of pictures, as in split-mnist-10k"
        )
    return KINDS[kind](load_digits(data), name, scenario, tasks, samples, seed)


def split(digits: Digits, name: str, scenario: str, tasks: int, samples: int | None, seed: int) -> Stream:
    """Consecutive classes, as many in each task; domain-incremental: which of a task's classes it is, first, second, ..."""
    known("scenario", scenario, SCENARIOS)
    count = int(digits.labels.max()) + 1
    if not 1 <= tasks <= count // 2 or count % tasks:
        raise ValueError(
            f"tasks={tasks}: expected a divisor of {count} classes, with two or more classes in each task"
        )
    each, found = count // tasks, []
    for k in range(tasks):
        classes = torch.arange(k * each, (k + 1) * each)

        def part(
            x: Tensor, labels: Tensor, most: int | None = None, classes: Tensor = classes, k: int = k
        ) -> tuple:
            rows = torch.isin(labels, classes).nonzero()[:, 0]
            rows = some(rows, most, mixed(seed, k))
            y = labels[rows]
            return x[rows], (y - classes[0] if scenario == "domain" else y)

        answers = (
            torch.arange(each)
            if scenario == "domain"
            else classes
            if scenario == "task"
            else torch.arange(count)
        )
        found.append(_task(f"{int(classes[0])}-{int(classes[-1])}", digits, part, samples, answers))
    note = WARNING if scenario == "class" else ""
    return Stream(name, tuple(found), each if scenario == "domain" else count, scenario, note)


def sequence(name: str, data: Sequence[str], scenario: str, samples: int | None, seed: int) -> Stream:
    """Sets of pictures of one size one after the other, with answers that they share: digit 3 and the dress are both class 3."""
    if scenario != "domain":
        raise ValueError(
            f"scenario={scenario!r}: expected 'domain' for {name}, whose tasks share their answers"
        )
    sets = [load_digits(one) for one in data]
    outputs = max(int(digits.labels.max()) for digits in sets) + 1
    found = []
    for k, (one, digits) in enumerate(zip(data, sets, strict=True)):
        if digits.x.shape[1] != sets[0].x.shape[1]:
            raise ValueError(
                f"{one}: {digits.x.shape[1]} pixels; expected {sets[0].x.shape[1]}, as in {data[0]}"
            )

        def part(x: Tensor, labels: Tensor, most: int | None = None, k: int = k) -> tuple:
            rows = some(torch.arange(len(x)), most, mixed(seed, k))
            return x[rows], labels[rows]

        found.append(_task(one, digits, part, samples, torch.arange(outputs)))
    return Stream(name, tuple(found), outputs)


def permuted(digits: Digits, name: str, scenario: str, tasks: int, samples: int | None, seed: int) -> Stream:
    """The pixels as they are, then in other orders, by ``torch.randperm`` of a generator with seed 0, as is usual."""
    generator, pixels = torch.Generator().manual_seed(0), digits.x.shape[1]
    orders = [torch.arange(pixels), *(torch.randperm(pixels, generator=generator) for _ in range(tasks - 1))]
    return _changed(
        digits,
        name,
        scenario,
        samples,
        seed,
        [(f"order {k}", lambda x, o=o: x[:, o]) for k, o in enumerate(orders)],
    )


def rotated(digits: Digits, name: str, scenario: str, tasks: int, samples: int | None, seed: int) -> Stream:
    """The pictures turned by 0 to 180 degrees less one step, in even steps."""
    side = round(digits.x.shape[1] ** 0.5)

    def turn(x: Tensor, angle: float) -> Tensor:
        c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(x), 2, 3)
        grid = nn.functional.affine_grid(matrix, [len(x), 1, side, side], align_corners=False)
        return nn.functional.grid_sample(x.view(-1, 1, side, side), grid, align_corners=False).flatten(1)

    angles = [180 * k / tasks for k in range(tasks)]
    turns = [
        (f"{angle:.0f}°", lambda x, a=angle: turn(x, a * torch.pi / 180) if a else x) for angle in angles
    ]
    return _changed(digits, name, scenario, samples, seed, turns)


KINDS = {"split": split, "permuted": permuted, "rotated": rotated}


def _changed(
    digits: Digits, name: str, scenario: str, samples: int | None, seed: int, changes: list
) -> Stream:
    """A task a change of all pictures."""
    if scenario != "domain":
        raise ValueError(
            f"scenario={scenario!r}: expected 'domain' for {name}, whose tasks have the same classes"
        )
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
    """At most so many of the rows, drawn by the seed, in the order in which they are."""
    if most is None or most >= len(rows):
        return rows
    if most < 1:
        raise ValueError(f"samples={most}: expected at least 1")
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most].sort().values]


class Reordered:
    """Samples ``(n, features)`` whose features are put into another order as they are looked at."""

    def __init__(self, x: Tensor, order: Tensor):
        self.x, self.order = x, order

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Tensor:
        return self.x[rows][..., self.order]


def together(tasks: Sequence[Task]) -> Task:
    """Tasks as one."""
    parts = [torch.cat([task[i] for task in tasks]) for i in range(1, 7)]
    return Task("together", *parts, torch.cat([task.classes for task in tasks]).unique())


def masked(logits: Tensor, classes: Tensor) -> Tensor:
    """Only these answers count."""
    if len(classes) == logits.shape[1]:
        return logits
    if len(classes) and int(classes.max()) >= logits.shape[1]:
        raise ValueError(f"label {int(classes.max())}: the model has outputs for 0 to {logits.shape[1] - 1}")
    out = torch.full_like(logits, float("-inf"))
    out[:, classes] = logits[:, classes]
    return out


def own(tasks: Sequence[Sequence[Any]], name: str = "own arrays", scenario: str = "domain") -> Stream:
    """A stream of one's own: tasks of ``(x_train, y_train, x_test, y_test)``, arrays or tensors.

    A sixth of each training part is set aside for validation. Raises ValueError naming the task and what is wrong with it.
    """
    known("scenario", scenario, SCENARIOS)
    if not len(tasks):
        raise ValueError("no tasks; expected at least one (x_train, y_train, x_test, y_test)")
    found = []
    for k, task in enumerate(tasks):
        if len(task) != 4:
            raise ValueError(f"task {k}: {len(task)} arrays; expected (x_train, y_train, x_test, y_test)")
        x, y, x_test, y_test = (torch.as_tensor(array) for array in task)
        for part, samples, labels in (("train", x, y), ("test", x_test, y_test)):
            _check(f"task {k}, {part}", samples, labels, x)
        x, x_test, y, y_test = x.float(), x_test.float(), y.long(), y_test.long()
        cut = max(1, len(x) - len(x) // 6)
        found.append(
            Task(
                f"task {k}",
                x[:cut],
                y[:cut],
                x[cut:],
                y[cut:],
                x_test,
                y_test,
                torch.cat([y, y_test]).unique(),
            )
        )
        if found[0].x_train.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"task {k}: samples of shape {tuple(x.shape[1:])}; expected {tuple(found[0].x_train.shape[1:])}, as in task 0"
            )
    outputs = max(int(task.classes.max()) for task in found) + 1
    if outputs < 2:
        raise ValueError("all labels are 0; expected at least two classes")
    if scenario != "task":
        found = [task._replace(classes=torch.arange(outputs)) for task in found]
    return Stream(name, tuple(found), outputs, scenario, WARNING if scenario == "class" else "")


def read_csv(folder: str | Path, scenario: str = "domain") -> Stream:
    """A stream of one's own files: each ``*.csv`` in the folder is a task, in the order of their names.

    A row is a sample: numbers, and a whole number in the column ``label`` (or else in the last one). The last fifth of each file
    is its test part. Raises ValueError naming the file and what is wrong with it.
    """
    files = sorted(Path(folder).expanduser().glob("*.csv"))
    if not files:
        raise ValueError(f"{folder}: no *.csv in it; expected a file a task")
    tasks = []
    for file in files:
        try:
            table = pd.read_csv(file)
            label = "label" if "label" in table else table.columns[-1]
            x, y = table.drop(columns=label).to_numpy(float), table[label].to_numpy(float)
        except (ValueError, OSError, IndexError) as error:
            raise ValueError(f"{file}: {error}; expected a head and numbers in every column") from error
        if len(y) < 5:
            raise ValueError(f"{file}: {len(y)} rows; expected at least 5")
        cut = len(y) - len(y) // 5
        tasks.append([torch.tensor(part) for part in (x[:cut], y[:cut], x[cut:], y[cut:])])
    stream = own(tasks, Path(folder).name, scenario)
    return replace(
        stream, tasks=tuple(t._replace(name=f.stem) for t, f in zip(stream.tasks, files, strict=True))
    )


def _check(where: str, x: Tensor, y: Tensor, like: Tensor) -> None:
    if x.dim() < 2 or not len(x):
        raise ValueError(
            f"{where}: samples of shape {tuple(x.shape)}; expected (n, ...) with n of at least 1"
        )
    if x.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"{where}: samples of shape {tuple(x.shape[1:])}; expected {tuple(like.shape[1:])}, as in training"
        )
    if y.shape != x.shape[:1]:
        raise ValueError(f"{where}: labels of shape {tuple(y.shape)}; expected ({len(x)},)")
    if y.is_floating_point() and not (y == y.round()).all():
        raise ValueError(f"{where}: labels that are no whole numbers; expected 0, 1, 2, ...")
    if y.min() < 0:
        raise ValueError(f"{where}: label {int(y.min())}; expected 0, 1, 2, ...")
    if not x.float().isfinite().all():
        row = int((~x.float().isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{where}: sample {row} has a value that is not finite; mend or leave it out")


def known(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse what is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
