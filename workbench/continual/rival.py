"""`Rival`, the base class for the parts of a method other than its optimizer: penalties, memories and distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.continual.tasks import masked_each


class Rival:
    """The parts of a method other than its optimizer, as hooks of the training loop. This base class does nothing.

    In the task-incremental scenario, `answers` holds the classes of each task, and only the outputs for the classes of a sample's
    task are used. In the other scenarios, `answers` is empty, and all outputs are used. `task` is the number of the current task.
    """

    answers: Sequence[Tensor] = ()
    task: int = 0

    def counted(self, logits: Tensor, tasks: Tensor | None) -> Tensor:
        """Return the logits ``(n, outputs)``, with -inf for the classes outside the task of each sample.

        `tasks` ``(n,)`` holds the task number of each sample. If `answers` is empty, the logits are not changed.
        """
        return masked_each(logits, tasks, self.answers) if self.answers else logits

    @property
    def open(self) -> Tensor | None:
        """The classes of the current task, or None if all outputs are used."""
        return self.answers[self.task] if self.answers else None

    @property
    def learnt(self) -> Tensor | None:
        """The classes of the current task and all earlier tasks, or None if all outputs are used."""
        return torch.cat([*self.answers[: self.task + 1]]).unique() if self.answers else None

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor | float:
        """Return a term that is added to the loss of a batch."""
        return 0.0

    def before_step(self) -> None:
        """Read or change the gradients before the optimizer's step."""

    def after_step(self) -> None:
        """Read the weights after the optimizer's step."""

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Process the training samples of the task that has just ended."""

    def stiffness(self) -> float:
        """Return the largest second derivative s of the quadratic penalty. SGD diverges if its learning rate is 2 / s or more."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the state, which is empty in this class."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
