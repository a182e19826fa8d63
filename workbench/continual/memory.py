"""Rivals that keep samples: experience replay, and A-GEM, which only lets them veto a step."""

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
    200, "memory", "samples kept", low=1, high=10_000, log=True, unit="samples",
    when=(lambda c: c.method in MEMORIES, "only replay and A-GEM keep samples"),
)  # fmt: skip


class Reservoir:
    """At most `size` of all samples seen, each with the same chance (Vitter 1985)."""

    def __init__(self, size: int, seed: int = 0):
        if size < 1:
            raise ValueError(f"size={size}: expected a buffer of at least 1 sample")
        self.size, self.seen = size, 0
        self.x: Tensor | None = None
        self.y = torch.zeros(0, dtype=torch.long)
        self.tasks: Tensor | None = None  # task number of each sample; None if `add` received no task numbers
        self._random = torch.Generator().manual_seed(seed)

    def add(self, x: Tensor, y: Tensor, task: int | None = None) -> None:
        """Offer a batch to the reservoir; `task` is the task number of its samples, or None if it is not known."""
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
        """Draw at most `count` samples without replacement; return samples, labels, and task numbers or None."""
        rows = torch.randperm(len(self.y), generator=self._random)[:count]
        return self.x[rows], self.y[rows], None if self.tasks is None else self.tasks[rows]

    def state_dict(self) -> dict[str, Any]:
        """Samples, how many were seen, and where its random numbers stand."""
        told = {} if self.tasks is None else {"tasks": self.tasks}
        return {"x": self.x, "y": self.y, "seen": self.seen, "random": self._random.get_state(), **told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.x, self.y, self.seen = state["x"], state["y"], state["seen"]
        self.tasks = state.get("tasks")
        self._random.set_state(state["random"])


class Replay(Rival):
    """Experience replay: the loss of a batch from the buffer is added to that of each batch."""

    def __init__(self, model: nn.Module, size: int, batch: int = 32, seed: int = 0):
        self.model, self.batch, self.buffer = model, batch, Reservoir(size, seed)
        self._now: tuple[Tensor, Tensor] | None = None

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """The loss on what is remembered."""
        self._now = x, y
        if not self.buffer.seen:
            return logits.new_zeros(())
        return self._remembered()

    def _remembered(self) -> Tensor:
        """Return the loss of a batch from the buffer; logits outside the task of a sample are masked."""
        old, labels, tasks = self.buffer.draw(self.batch)
        return nn.functional.cross_entropy(self.counted(self.model(old), tasks), labels)

    def remember(self, x: Tensor, y: Tensor) -> None:
        """Offer samples of the current task to the buffer."""
        self.buffer.add(x, y, self.task if self.answers else None)

    def after_step(self) -> None:
        """Remember the batch."""
        self.remember(*self._now)

    def state_dict(self) -> dict[str, Any]:
        """The buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a buffer."""
        self.buffer.load_state_dict(state)


class AGEM(Replay):
    """A-GEM (Chaudhry et al. 2019): a step that would raise the loss on earlier tasks loses that part of its direction.

    With ``ref`` the gradient on a batch from the buffer of *earlier* tasks: where ``g . ref < 0``,
    ``g -= (g . ref) / (ref . ref) ref``.
    """

    def __init__(self, model: nn.Module, size: int, batch: int = 256, seed: int = 0):
        super().__init__(model, size, batch, seed)

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return logits.new_zeros(())

    def before_step(self) -> None:
        """Project the gradients."""
        if not self.buffer.seen:
            return
        weights = list(trained(self.model).values())
        ref = torch.autograd.grad(self._remembered(), weights)
        project([p.grad for p in weights], ref)

    def after_step(self) -> None:  # noqa: D102
        pass

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Let the reservoir see the samples of the task that has ended."""
        self.remember(x, y)


@torch.no_grad()
def project(gradients: list[Tensor], ref: tuple[Tensor, ...] | list[Tensor]) -> bool:
    """Take from `gradients`, in place, what goes against `ref`; returns whether anything did."""
    along = sum((g * r).sum() for g, r in zip(gradients, ref, strict=True))
    length = sum((r * r).sum() for r in ref)
    if along >= 0 or length == 0:
        return False
    for g, r in zip(gradients, ref, strict=True):
        g.sub_(along / length * r)
    return True


class UPGD(torch.optim.Optimizer):
    """Utility-based perturbed gradient descent (Elsayed and Mahmood, arXiv 2404.00781): useful weights move less.

    ``u = beta u - (1 - beta) g w`` estimates what the loss would gain by a weight's loss (first order); then
    ``w -= lr (g + noise) (1 - sigmoid(u^ / max u^))``, with ``u^ = u / (1 - beta^t)`` and the maximum over all weights.

    `sigma` is the noise's deviation, drawn from torch's random numbers. Raises ValueError for values out of range.
    """

    def __init__(self, params: Any, lr: float, beta: float = 0.999, sigma: float = 0.001):
        for name, value, fine in (("lr", lr, lr >= 0), ("beta", beta, 0 <= beta < 1), ("sigma", sigma, sigma >= 0)):
            if not fine:
                raise ValueError(f"{name}={value}: expected {'0 to below 1' if name == 'beta' else 'at least 0'}")
        super().__init__(params, {"lr": lr, "beta": beta, "sigma": sigma})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the weights; `closure` computes the loss anew."""
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
