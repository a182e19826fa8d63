"""Metrics of continual learning, which are computed from the accuracy matrix.

The accuracy matrix has one row before training (row 0), one row after each task i (row i), and one column for each task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn


@dataclass
class FitResult:
    """The results of a fit.

    Attributes:
        matrix: test accuracies ``(tasks + 1, tasks)``; row 0 is before training, and row i is after task i.
        online: share of the training samples that the model classified correctly just before it trained on them.
        anytime: mean accuracy on the tasks seen so far, averaged over the measurements in `curves`.
        lowest: for each task, the lowest accuracy measured after training on this task; NaN for the last task.
        state_bytes: number of bytes that the method stores in addition to the weights and gradients.
        moved: for each task, the share of the weights that the task changed.
        never_moved: share of the weights that no task changed.
        overlap: ``(tasks, tasks)``; of the weights that at least one of two tasks changed, the share that both tasks changed.
        validation: mean accuracy on the validation samples of all tasks after training; used to choose hyperparameters.
        model: the trained model.
        note: the note of the stream, to be shown with the results.
        curves: the measurements during training, as pairs: a step, and the accuracy on each task at that step.
    """

    matrix: Tensor
    online: float
    anytime: float
    lowest: Tensor
    state_bytes: int
    moved: list[float]
    never_moved: float
    overlap: Tensor
    validation: float
    model: nn.Module
    note: str = ""
    curves: list[tuple[int, list[float]]] = field(default_factory=list)  # step, accuracy on each task

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics ACC, BWT, F, FWT and LA; see `accuracy_metrics`."""
        return accuracy_metrics(self.matrix)


def accuracy_metrics(matrix: Any) -> dict[str, float]:
    """Return ACC, BWT, F, FWT and LA of an accuracy matrix ``(tasks + 1, tasks)``.

    ``a[i, j]`` is the accuracy on task j after task i (for i = 0, before training), and K is the number of tasks. The metrics are
    from Lopez-Paz and Ranzato 2017 and Chaudhry et al. 2018. With a single task, BWT, F and FWT are NaN.

    ===== ===================================================== ==========================================
    ACC   mean of ``a[K, j]``                                   final accuracy
    BWT   mean over j < K of ``a[K, j] - a[j, j]``              backward transfer; below 0: forgetting
    F     mean over j < K of ``max_i>=j a[i, j] - a[K, j]``     forgetting, relative to the best accuracy
    FWT   mean over j > 1 of ``a[j - 1, j] - a[0, j]``          forward transfer, if tasks share outputs
    LA    mean of ``a[j, j]``                                   learning accuracy, just after each task
    ===== ===================================================== ==========================================

    Raises ValueError if the matrix has another shape or an entry that is not a finite number.
    """
    a = checked(matrix)
    own = np.diagonal(a, offset=-1)  # the entries a[j, j]; row 0 is before training
    last, count = a[-1], a.shape[1]
    best = np.array([a[j + 1 :, j].max() for j in range(count)])
    later = slice(0, count - 1)
    found = {
        "ACC": last.mean(),
        "BWT": (last - own)[later].mean() if count > 1 else np.nan,
        "F": (best - last)[later].mean() if count > 1 else np.nan,
        "FWT": np.mean([a[j, j] - a[0, j] for j in range(1, count)]) if count > 1 else np.nan,
        "LA": own.mean(),
    }
    return {name: float(value) for name, value in found.items()}


def average_incremental_accuracy(matrix: Any) -> float:
    """Return the average incremental accuracy.

    After each task, the mean accuracy on the tasks learnt so far is taken. The result is the average of these means.
    """
    a = checked(matrix)
    return float(np.mean([a[i, :i].mean() for i in range(1, len(a))]))


def intransigence(matrix: Any, joint: Any) -> float:
    """Return the intransigence: the accuracy of joint training minus the accuracy just after each task, averaged over tasks.

    `joint` ``(tasks,)`` holds the accuracy on each task of a model that was trained on all tasks together.
    """
    a, joint = checked(matrix), np.asarray(joint, float)
    if joint.shape != (a.shape[1],):
        raise ValueError(f"joint: the array has shape {joint.shape}; expected ({a.shape[1]},), one accuracy per task")
    return float((joint - np.diagonal(a, offset=-1)).mean())


def checked(matrix: Any) -> np.ndarray:
    """Return the accuracy matrix as float64. Raises ValueError if the shape is wrong or an entry is not finite."""
    try:
        a = np.asarray(matrix, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"matrix: cannot be converted to an array ({error}); expected numbers in rows of equal length") from None
    if a.ndim != 2 or a.shape[1] < 1 or a.shape[0] != a.shape[1] + 1:
        raise ValueError(
            f"matrix: the array has shape {a.shape}; expected (tasks + 1, tasks). Row 0 holds the accuracies before training"
        )
    if not np.isfinite(a).all():
        row, column = np.argwhere(~np.isfinite(a))[0]
        raise ValueError(f"matrix[{row}, {column}]={a[row, column]}: expected an accuracy, a finite number")
    return a
