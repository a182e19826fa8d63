"""What a method does besides stepping: nothing here; pulls, memories and an older self's answers are of this shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.continual.tasks import masked_each


class Rival:
    """The parts of a method besides its optimizer, as hooks of the training loop; this base class does nothing.

    `answers` holds the classes of each task if the task of a sample is known and only its classes count
    (task-incremental). It is empty if all outputs count for all samples. `task` is the number of the current task.
    """

    answers: Sequence[Tensor] = ()
    task: int = 0

    def counted(self, logits: Tensor, tasks: Tensor | None) -> Tensor:
        """Return the logits ``(n, outputs)`` with -inf for classes outside each sample's task, `tasks` ``(n,)``."""
        return masked_each(logits, tasks, self.answers) if self.answers else logits

    @property
    def open(self) -> Tensor | None:
        """The classes of the current task; None if all outputs count."""
        return self.answers[self.task] if self.answers else None

    @property
    def learnt(self) -> Tensor | None:
        """The classes of the current and all earlier tasks; None if all outputs count."""
        return torch.cat([*self.answers[: self.task + 1]]).unique() if self.answers else None

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor | float:
        """What is added to the loss of a batch."""
        return 0.0

    def before_step(self) -> None:
        """See the gradients, and change them."""

    def after_step(self) -> None:
        """See the moved weights."""

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """See the training samples of the task that has ended."""

    def stiffness(self) -> float:
        """The largest second derivative of what it adds to the loss: steps of SGD with a rate of 2 over it or more fly off."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """What it keeps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
