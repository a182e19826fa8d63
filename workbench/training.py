"""The training loop that the methods share, with a state from which an interrupted run can resume.

The batch of a step (`Batches`) and its random numbers depend only on the seed and the number of the step. Therefore the state
needs to hold only the trained parameters and the buffers of the model, the states of the optimizer, of the schedule and of the
objects in `Training.kept`, and the number of completed steps. A resumed run ends with exactly the same weights, bit for bit, as
an uninterrupted run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SAVE_EVERY = 5.0  # seconds between two checkpoints


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # messages of CUDA, Linux and Windows


class TrainingError(RuntimeError):
    """Raised if training cannot continue. The message says what happened and what to change."""


class Stateful(Protocol):
    """Protocol of objects with a state that can be saved, such as an optimizer, a schedule, or a memory of samples."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Batches:
    """The batches of a training: for each step, the indices of its `size` samples.

    Each pass contains all samples once. With `shuffle`, each pass has its own random order, which depends only on the seed and on
    the number of the pass. Without `shuffle`, the order of the data is kept. The last batch of a pass is smaller if `size` does
    not divide the number of samples. Raises ValueError if `size` is less than 1 or greater than the number of samples.
    """

    samples: int
    size: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.samples:
            raise ValueError(f"batch size {self.size} for {self.samples} samples: expected a size from 1 to {self.samples}")

    def __len__(self) -> int:
        """Return the number of steps in one pass."""
        return -(-self.samples // self.size)

    def __call__(self, step: int) -> Tensor:
        """Return the indices of the samples of `step`, which is counted from 0 over all passes."""
        epoch, place = divmod(step, len(self))
        return self._order(epoch)[place * self.size : (place + 1) * self.size]

    def _order(self, epoch: int) -> Tensor:
        kept = self.__dict__.get("_kept")
        if kept is None or kept[0] != epoch:
            order = torch.arange(self.samples)
            if self.shuffle:
                order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(mixed(self.seed, epoch)))
            object.__setattr__(self, "_kept", (epoch, order))
            return order
        return kept[1]


@dataclass
class Training:
    """The training of a model, which can be saved after any step and resumed.

    `schedule` is a learning rate schedule, which advances after each step. `kept` maps names to further objects whose states are
    saved too. `before_step` is called after the backward pass and may change the gradients; `after_step` is called after the
    optimizer's step and may change the weights. With `draws`, torch's random generator is seeded for each step, and its previous
    state is restored at the end. A loss that uses random numbers, such as dropout or noise, needs this.
    """

    model: nn.Module
    optimizer: Optimizer
    seed: int = 0
    schedule: Any = None
    kept: Mapping[str, Stateful] = field(default_factory=dict)
    draws: bool = True
    before_step: Callable[[], None] | None = None
    after_step: Callable[[], None] | None = None
    done: int = 0  # number of completed steps

    def __post_init__(self) -> None:
        self._saved, self._since, self._until = 0, monotonic(), 0

    def steps(self, loss_of: Callable[[int], Tensor], until: int) -> Iterator[tuple[int, float]]:
        """Train until `until` steps are completed; yield the number of each step, counted from 1, and its loss.

        ``loss_of(step)`` computes the loss on the batch of a step. Its argument is the number of the step, counted from 0.
        If the loss is not finite, TrainingError is raised before the weights change.
        """
        before = torch.get_rng_state() if self.draws else None
        self._until = until
        try:
            while self.done < until:
                if self.draws:
                    torch.manual_seed(mixed(self.seed, self.done))
                yield self.done + 1, self._step(loss_of(self.done))
        finally:
            if before is not None:
                torch.set_rng_state(before)

    def check(self, what: str, value: float) -> None:
        """Raise TrainingError if `value` is not finite. `what` is the name of this value in the message, such as "loss".

        Call this before the weights change.
        """
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} is {value} at step {self.done + 1} of {self._until}; {self._last_good()}. "
                "Lower the learning rate, or check the data"
            )

    def _step(self, loss: Tensor) -> float:
        value = loss.item()
        self.check("loss", value)
        self.optimizer.zero_grad()
        loss.backward()
        if self.before_step is not None:
            self.before_step()
        try:
            self.optimizer.step()
        except FloatingPointError as error:
            raise TrainingError(f"step {self.done + 1} of {self._until}: {error}; {self._last_good()}") from error
        if self.after_step is not None:
            self.after_step()
        if self.schedule is not None:
            self.schedule.step()
        self.done += 1
        return value

    def _last_good(self) -> str:
        return f"the state after step {self._saved} is saved" if self._saved else "no earlier state is saved"

    def due(self) -> bool:
        """Return whether it is time to save the state again."""
        return monotonic() - self._since > SAVE_EVERY

    def state_dict(self) -> dict[str, Any]:
        """Return the number of completed steps, the parameters and buffers, and the states of optimizer, schedule and `kept`."""
        self._saved, self._since = self.done, monotonic()
        return {
            "done": self.done,
            "model": self._learnt(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "kept": {name: part.state_dict() for name, part in self.kept.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state`. Raises ValueError if it is the state of a different model."""
        own, found = self._learnt(), state["model"]
        if own.keys() != found.keys() or any(own[name].shape != found[name].shape for name in own):
            other = next(n for n in (*own, *found) if n not in own or n not in found or own[n].shape != found[n].shape)
            raise ValueError(f"the state belongs to another model: tensor {other!r} differs; resume with the saved model")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(found[name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        for name, part in self.kept.items():
            part.load_state_dict(state["kept"][name])
        self.done = self._saved = state["done"]

    def _learnt(self) -> dict[str, Tensor]:
        trained = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        return trained | dict(self.model.named_buffers())


@contextmanager
def enough_memory() -> Iterator[None]:
    """Convert an out-of-memory error of the CPU or the GPU to a TrainingError that says what to reduce.

    It can be used as a context manager or as a decorator.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).lower()
        if isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY):
            raise TrainingError(
                "out of memory: lower the batch size, the length of a sample or the rank of an adapter, or use a smaller model"
            ) from error
        raise


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """Seed torch's random generator inside the with block, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed(seed, 0))
        yield


def mixed(seed: int, number: int) -> int:
    """Combine two numbers into one seed with the finalizer of splitmix64, so that neighbouring numbers give unrelated seeds."""
    bits = (seed * 0x9E3779B97F4A7C15 + number + 1) & (1 << 64) - 1
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ bits >> shift) * factor & (1 << 64) - 1
    return (bits ^ bits >> 31) >> 1  # torch's seeds are signed 64-bit integers


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set the model to evaluation mode inside the with block, and restore the mode of each module afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
