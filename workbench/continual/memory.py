"""Methods with a memory of samples (experience replay and A-GEM), and the optimizer UPGD.

A-GEM is averaged gradient episodic memory, and UPGD is utility-based perturbed gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.continual.nets import trained
from workbench.continual.optimizer import loss_of
from workbench.continual.rival import Rival
from workbench.knobs import knob

MEMORIES = ("replay", "a-gem")
MEMORY = knob(
    200, "memory size", "Number of samples that replay and A-GEM store. A large memory reduces forgetting, but needs more space.",
    low=1, high=10_000, log=True, unit="samples",
    when=(lambda c: c.method in MEMORIES, "only replay and A-GEM store samples"),
)  # fmt: skip


class Reservoir:
    """A buffer of at most `size` samples, drawn uniformly from all samples seen so far (reservoir sampling, Vitter 1985)."""

    def __init__(self, size: int, seed: int = 0):
        if size < 1:
            raise ValueError(f"size={size}: expected a buffer size of at least 1 sample")
        self.size, self.seen = size, 0
        self.x: Tensor | None = None
        self.y = torch.zeros(0, dtype=torch.long)
        self.tasks: Tensor | None = None  # task number of each sample; None if `add` received no task numbers
        self._random = torch.Generator().manual_seed(seed)

    def add(self, x: Tensor, y: Tensor, task: int | None = None) -> None:
        """Offer the samples of a batch to the buffer, which may store only some. `task` is the number of their task, or None."""
        if self.x is None:
            self.x = x.new_zeros((0, *x.shape[1:]))
            self.tasks = None if task is None else y.new_zeros(0)
        for sample, label in zip(x, y, strict=True):
            if len(self.y) < self.size:
                place = len(self.y)
                self.x, self.y = torch.cat([self.x, sample[None]]), torch.cat([self.y, label[None]])
                if self.tasks is not None:
                    self.tasks = torch.cat([self.tasks, self.tasks.new_zeros(1)])
            else:
                place = int(torch.randint(self.seen + 1, (), generator=self._random))
            if place < self.size:
                self.x[place], self.y[place] = sample, label
                if self.tasks is not None:
                    self.tasks[place] = task
            self.seen += 1

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draw at most `count` samples without replacement. Returns the samples, their labels, and their task numbers or None."""
        rows = torch.randperm(len(self.y), generator=self._random)[:count]
        return self.x[rows], self.y[rows], None if self.tasks is None else self.tasks[rows]

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, the number of samples seen, and the state of the random number generator."""
        told = {} if self.tasks is None else {"tasks": self.tasks}
        return {"x": self.x, "y": self.y, "seen": self.seen, "random": self._random.get_state(), **told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.x, self.y, self.seen = state["x"], state["y"], state["seen"]
        self.tasks = state.get("tasks")
        self._random.set_state(state["random"])


class Replay(Rival):
    """Experience replay: the loss of a batch from the buffer is added to the loss of each batch."""

    def __init__(self, model: nn.Module, size: int, batch: int = 32, seed: int = 0):
        self.model, self.batch, self.buffer = model, batch, Reservoir(size, seed)
        self._now: tuple[Tensor, Tensor] | None = None

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch from the buffer, or 0 if the buffer is empty."""
        self._now = x, y
        if not self.buffer.seen:
            return logits.new_zeros(())
        return self._remembered()

    def _remembered(self) -> Tensor:
        """Return the loss of a batch from the buffer.

        In the task-incremental scenario, the logits of classes outside the task of a sample are masked.
        """
        old, labels, tasks = self.buffer.draw(self.batch)
        return nn.functional.cross_entropy(self.counted(self.model(old), tasks), labels)

    def remember(self, x: Tensor, y: Tensor) -> None:
        """Offer samples of the current task to the buffer."""
        self.buffer.add(x, y, self.task if self.answers else None)

    def after_step(self) -> None:
        """Offer the samples of the last batch to the buffer."""
        self.remember(*self._now)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.buffer.load_state_dict(state)


class AGEM(Replay):
    """A-GEM (Chaudhry et al. 2019): to first order, steps along the projected gradient do not raise the loss on earlier tasks.

    ``g`` is the gradient of a step, and ``ref`` is the gradient of the loss on a batch from the buffer, which holds samples of
    *earlier* tasks only. If ``g . ref < 0``, then ``g -= (g . ref) / (ref . ref) ref``.
    """

    def __init__(self, model: nn.Module, size: int, batch: int = 256, seed: int = 0):
        super().__init__(model, size, batch, seed)

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return logits.new_zeros(())

    def before_step(self) -> None:
        """Project the gradients of the model in place."""
        if not self.buffer.seen:
            return
        weights = list(trained(self.model).values())
        ref = torch.autograd.grad(self._remembered(), weights)
        project([p.grad for p in weights], ref)

    def after_step(self) -> None:  # noqa: D102
        pass

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """After a task, offer its training samples to the buffer."""
        self.remember(x, y)


@torch.no_grad()
def project(gradients: list[Tensor], ref: tuple[Tensor, ...] | list[Tensor]) -> bool:
    """Remove, in place, the component of `gradients` that is opposite to `ref`. Returns True if there was such a component."""
    along = sum((g * r).sum() for g, r in zip(gradients, ref, strict=True))
    length = sum((r * r).sum() for r in ref)
    if along >= 0 or length == 0:
        return False
    for g, r in zip(gradients, ref, strict=True):
        g.sub_(along / length * r)
    return True


class UPGD(torch.optim.Optimizer):
    """Utility-based perturbed gradient descent (UPGD; Elsayed and Mahmood, arXiv 2404.00781).

    Weights with a high utility move less. The utility ``u = beta u - (1 - beta) g w`` is a first-order estimate of how much the
    loss would rise if the weight were set to 0. The step is ``w -= lr (g + noise) (1 - sigmoid(u^ / max u^))`` with
    ``u^ = u / (1 - beta^t)``, and the maximum is taken over all weights.

    `sigma` is the standard deviation of the Gaussian noise, which is drawn from PyTorch's global generator. Raises ValueError if
    a value is out of range.
    """

    def __init__(self, params: Any, lr: float, beta: float = 0.999, sigma: float = 0.001):
        for name, value, fine in (("lr", lr, lr >= 0), ("beta", beta, 0 <= beta < 1), ("sigma", sigma, sigma >= 0)):
            if not fine:
                raise ValueError(f"{name}={value}: expected {'at least 0 and below 1' if name == 'beta' else 'at least 0'}")
        super().__init__(params, {"lr": lr, "beta": beta, "sigma": sigma})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. Returns the loss of `closure`, which evaluates the model again, or None without a closure."""
        loss = loss_of(closure)
        ready = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        useful = {}
        for group, p in ready:
            state, beta = self.state[p], group["beta"]
            if not state:
                state["step"], state["utility"] = 0, torch.zeros_like(p)
            state["step"] += 1
            state["utility"].mul_(beta).sub_((1 - beta) * p.grad * p)
            useful[p] = state["utility"] / (1 - beta ** state["step"])
        most = max((u.max() for u in useful.values()), default=torch.zeros(()))
        for group, p in ready:
            noise = group["sigma"] * torch.randn_like(p) if group["sigma"] else 0.0
            share = torch.sigmoid(useful[p] / most) if most != 0 else torch.full_like(p, 0.5)
            p.sub_(group["lr"] * (p.grad + noise) * (1 - share))
        return loss
