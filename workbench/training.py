"""The training loop that methods share: a step after the other, and a state from which a run that was cut off goes on.

What happens in a step depends on the seed and on its number alone: its batch (`Batches`) and its random numbers. So the state is
what has been learnt and how far, and a run that goes on from it ends with the bytes of one that was never cut.
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


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # of CUDA, Linux, Windows


class TrainingError(RuntimeError):
    """Training came to an end that no further step can mend; says at which step, and what to change."""


class Stateful(Protocol):
    """What has a state of its own: an optimizer, a schedule, a memory of samples."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Batches:
    """The samples of each step: all of them in an order that the seed draws anew for each pass, `size` at a time.

    The last batch of a pass is the smaller rest. Raises ValueError where there are no samples, or fewer than a batch has.
    """

    samples: int
    size: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.samples:
            raise ValueError(f"batch of {self.size} of {self.samples} samples: expected 1 to as many as there are")

    def __len__(self) -> int:
        """Steps of one pass."""
        return -(-self.samples // self.size)

    def __call__(self, step: int) -> Tensor:
        """Indices of the samples of this step, counted from 0 over all passes."""
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
    """A model in training. `schedule` is stepped after each step; `kept` is what else must go on after a cut.

    `before_step` sees the gradients and may change them, `after_step` the moved weights. With `draws` (dropout, noise) torch's
    random numbers are set anew for each step, and put back in the end.
    """

    model: nn.Module
    optimizer: Optimizer
    seed: int = 0
    schedule: Any = None
    kept: Mapping[str, Stateful] = field(default_factory=dict)
    draws: bool = True
    before_step: Callable[[], None] | None = None
    after_step: Callable[[], None] | None = None
    done: int = 0  # steps

    def __post_init__(self) -> None:
        self._saved, self._since, self._until = 0, monotonic(), 0

    def steps(self, loss_of: Callable[[int], Tensor], until: int) -> Iterator[tuple[int, float]]:
        """Train up to step `until`; yields each step's number, from 1, and its loss.

        ``loss_of(step)`` computes the loss of a step, counted from 0, on its batch. Raises TrainingError, before the weights are
        touched, where it is not finite.
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
        """Raise TrainingError where a number of the step under way is not finite; before its weights are touched."""
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} is {value} at step {self.done + 1} of {self._until}; {self._last_good()}. "
                "Take a lower rate, or check the data"
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
        return f"the state after step {self._saved} is kept" if self._saved else "no earlier state was kept"

    def due(self) -> bool:
        """Whether it is time to keep the state again."""
        return monotonic() - self._since > SAVE_EVERY

    def state_dict(self) -> dict[str, Any]:
        """What has been learnt, and how far: what is trained and buffers, optimizer, schedule, what else is kept, steps."""
        self._saved, self._since = self.done, monotonic()
        return {
            "done": self.done,
            "model": self._learnt(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "kept": {name: part.state_dict() for name, part in self.kept.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ValueError where it is the state of another model."""
        own, found = self._learnt(), state["model"]
        if own.keys() != found.keys() or any(own[name].shape != found[name].shape for name in own):
            other = next(n for n in (*own, *found) if n not in own or n not in found or own[n].shape != found[n].shape)
            raise ValueError(f"the state is of another model: {other!r} differs; expected the model that was being trained")
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
    """Context manager or decorator: raise a lack of memory, on CPU or GPU, as a TrainingError that says what to reduce."""
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
    """Inside it torch's random numbers are those of the seed; after it, as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed(seed, 0))
        yield


def mixed(seed: int, number: int) -> int:
    """One seed of two numbers, so that neighbours are far apart (splitmix64's finalizer)."""
    bits = (seed * 0x9E3779B97F4A7C15 + number + 1) & (1 << 64) - 1
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ bits >> shift) * factor & (1 << 64) - 1
    return (bits ^ bits >> 31) >> 1  # torch's seeds have a sign


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context manager: set the model to evaluation mode, and on exit each of its modules to the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
