"""What a method does besides stepping: nothing here; pulls, memories and an older self's answers are of this shape."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Rival:
    """What a method does besides stepping, at each of these moments; nothing, for an optimizer."""

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
