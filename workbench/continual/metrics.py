"""What continual learning is judged by: numbers of the matrix of accuracies, and of what was seen along the way.

The matrix has a row for each moment, row 0 before training and row i after task i, and a column for each task.
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
        online: mean accuracy of the predictions on each batch, made before the batch is learnt.
        anytime: mean accuracy on the tasks seen so far, averaged over the watched steps.
        lowest: lowest watched accuracy of each task after it was learnt; NaN for the last task.
        state_bytes: bytes that the method stores besides weights and gradients.
        moved: for each task, the share of the weights that it changed.
        never_moved: share of the weights that no task changed.
        overlap: ``(tasks, tasks)``; of the weights that either of two tasks changed, the share that both changed.
        validation: mean accuracy on the validation samples of all tasks after training, to choose hyperparameters.
        model: the trained model.
        note: the note of the stream, to be shown with the results.
        curves: pairs of a step and the accuracies on each task at that step.
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
        """ACC, BWT, F, FWT, LA; see `accuracy_metrics`."""
        return accuracy_metrics(self.matrix)


def accuracy_metrics(matrix: Any) -> dict[str, float]:
    """ACC, BWT, F, FWT and LA of a matrix ``(tasks + 1, tasks)``; those that need a second task are NaN with one.

    With ``a[i, j]`` the accuracy on task j after task i (Lopez-Paz and Ranzato 2017; Chaudhry et al. 2018):

    ===== ===================================================== ==========================================
    ACC   mean of ``a[K, j]``                                   accuracy in the end
    BWT   mean over j < K of ``a[K, j] - a[j, j]``              backward transfer; below 0: forgetting
    F     mean over j < K of ``max_i>=j a[i, j] - a[K, j]``     forgetting of the best that was reached
    FWT   mean over j > 1 of ``a[j - 1, j] - a[0, j]``          forward transfer; needs one output space
    LA    mean of ``a[j, j]``                                   learning accuracy, just after each task
    ===== ===================================================== ==========================================

    Raises ValueError for another shape, and for what is not a number.
    """
    a = checked(matrix)
    own = np.diagonal(a, offset=-1)  # a[j, j]: row 0 is before training
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
    """Mean over all moments after a task of the mean accuracy on the tasks seen until then."""
    a = checked(matrix)
    return float(np.mean([a[i, :i].mean() for i in range(1, len(a))]))


def intransigence(matrix: Any, joint: Any) -> float:
    """How far each task stays below what training on all together reaches on it, just after it was learnt (mean)."""
    a, joint = checked(matrix), np.asarray(joint, float)
    if joint.shape != (a.shape[1],):
        raise ValueError(f"joint: shape {joint.shape}; expected ({a.shape[1]},), an accuracy a task")
    return float((joint - np.diagonal(a, offset=-1)).mean())


def checked(matrix: Any) -> np.ndarray:
    """The matrix in float64; raises ValueError where it is none of accuracies."""
    try:
        a = np.asarray(matrix, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"matrix: expected numbers in rows of one length ({error})") from None
    if a.ndim != 2 or a.shape[1] < 1 or a.shape[0] != a.shape[1] + 1:
        raise ValueError(f"matrix: shape {a.shape}; expected (tasks + 1, tasks), whose first row is before training")
    if not np.isfinite(a).all():
        row, column = np.argwhere(~np.isfinite(a))[0]
        raise ValueError(f"matrix[{row}, {column}]={a[row, column]}: expected an accuracy")
    return a
