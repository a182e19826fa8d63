"""Rivals that hold weights back: EWC, L2 to the anchor, SI, MAS by a quadratic pull, LwF by an older self's answers.

A pull adds its gradient, ``strength * F * (w - anchor)``, to that of the task's loss before each step, so it combines with any
optimizer.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from workbench.continual.fishers import fisher, summed
from workbench.continual.nets import trained
from workbench.continual.rival import Rival
from workbench.knobs import knob

PULLS = ("ewc", "ewc-online", "l2", "si", "mas", "lwf")
STRENGTH = knob(
    100.0, "strength", "of the penalty (lambda, c)", low=1e-4, high=1e6, log=True, essential=True,
    when=(lambda c: c.method in PULLS, "only penalties have a strength"),
)  # fmt: skip
ESTIMATOR = knob(
    "exact", "Fisher", "which of the five things that are called so",
    when=(lambda c: c.method in ("ewc", "ewc-online"), "only EWC has a Fisher"),
)  # fmt: skip


class Pull(Rival, ABC):
    """A quadratic pull to anchors, ``sum_k strength / 2 sum_i F_ki (w_i - anchor_ki)^2``; F comes from `importance`."""

    def __init__(self, model: nn.Module, strength: float):
        if not 0 <= strength < float("inf"):
            raise ValueError(f"strength={strength}: expected a finite number of at least 0")
        self.model, self.strength = model, strength
        self.terms: list[dict[str, tuple[Tensor, Tensor]]] = []  # of each: F and anchor, by parameter

    @abstractmethod
    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """How much each weight mattered to the task that has just ended."""

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Take up a term for the task of which these were the training samples."""
        found = self.importance(x, y)
        self.terms = self.merged({name: (found[name], p.detach().clone()) for name, p in trained(self.model).items()})

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """The terms from now on; here one for each task."""
        return [*self.terms, term]

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the pull to the gradients."""
        for name, p in trained(self.model).items():
            for term in self.terms:
                importance, anchor = term[name]
                pull = self.strength * importance * (p - anchor)
                p.grad = pull if p.grad is None else p.grad.add_(pull)

    def penalty(self) -> Tensor:
        """Its value, whose gradient `before_step` adds."""
        total = torch.zeros((), dtype=next(self.model.parameters()).dtype)
        for name, p in trained(self.model).items():
            for term in self.terms:
                importance, anchor = term[name]
                total = total + self.strength / 2 * (importance * (p - anchor).square()).sum()
        return total

    def stiffness(self) -> float:
        """The largest ``strength * F``: steps of SGD with a rate of 2 over it or more fly off."""
        if not self.terms:
            return 0.0
        return max(self.strength * sum(term[name][0] for term in self.terms).max().item() for name in self.terms[0])

    def state_dict(self) -> dict[str, Any]:
        """All terms."""
        return {"terms": [{n: list(pair) for n, pair in term.items()} for term in self.terms]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the terms of an earlier run."""
        self.terms = [{n: tuple(pair) for n, pair in term.items()} for term in state["terms"]]


class EWC(Pull):
    """Elastic weight consolidation, a term a task (Kirkpatrick et al. 2017), or online: one term, whose anchor is the latest
    and whose F is ``gamma`` times the old plus the new (Schwarz et al. 2018). `estimator`: which Fisher (`fishers`).
    """

    def __init__(
        self, model: nn.Module, strength: float, online: bool = False, gamma: float = 1.0, estimator: str = ESTIMATOR.default,
        samples: int | None = 1000,
    ):  # fmt: skip
        super().__init__(model, strength)
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma={gamma}: expected above 0 and at most 1")
        self.online, self.gamma, self.estimator, self.samples = online, gamma, estimator, samples

    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # noqa: D102
        return fisher(self.model, x[: self.samples], y[: self.samples], self.estimator, classes=self.open)

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:  # noqa: D102
        if not self.online or not self.terms:
            return super().merged(term)
        (old,) = self.terms
        return [{name: (self.gamma * old[name][0] + new, anchor) for name, (new, anchor) in term.items()}]


class L2(Pull):
    """A pull of the same strength on each weight, to where the last task left it: EWC's control, with a Fisher of 1.

    If task numbers are known, weights that only affect the outputs of later tasks are not penalized.
    """

    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # noqa: D102
        ones = {name: torch.ones_like(p) for name, p in trained(self.model).items()}
        if self.learnt is None:
            return ones
        untrained = self._untrained(x[:100])
        return {name: one * ~untrained[name] for name, one in ones.items()}

    def _untrained(self, x: Tensor) -> dict[str, Tensor]:
        """Return for each parameter a mask of the weights that affect only outputs not trained so far."""
        learnt = torch.isin(torch.arange(self.model(x[:1]).shape[-1]), self.learnt)

        def reached(which: Tensor) -> dict[str, Tensor]:
            model = copy.deepcopy(self.model).eval()
            given = torch.zeros(len(x), dtype=torch.long), torch.ones(len(x))
            return summed(model, lambda out, _: out[:, which].square().sum(), Tensor.abs, x, *given)

        found = {}
        for (name, own), others in zip(reached(learnt).items(), reached(~learnt).values(), strict=True):
            rows = [part.reshape(len(part), -1).any(1) for part in (own, others)]
            found[name] = (~rows[0] & rows[1]).view(-1, *[1] * (own.ndim - 1)).expand(own.shape)
        return found

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:  # noqa: D102
        return [term]


class MAS(Pull):
    """Memory aware synapses (Aljundi et al. 2018): F is the mean over samples of ``|d ||f(x)||^2 / d w|``, then over tasks.

    If task numbers are known, f(x) holds only the outputs of the current task.
    """

    def __init__(self, model: nn.Module, strength: float, samples: int | None = 1000):
        super().__init__(model, strength)
        self.samples, self.tasks = samples, 0

    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # noqa: D102
        x, model = x[: self.samples], copy.deepcopy(self.model).eval()
        given = slice(None) if self.open is None else self.open
        found = summed(model, lambda out, _: out[:, given].square().sum(), Tensor.abs, x, y[: len(x)], torch.ones(len(x)))
        return {name: total / len(x) for name, total in found.items()}

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:  # noqa: D102
        self.tasks += 1
        if not self.terms:
            return [term]
        (old,) = self.terms
        return [{n: (old[n][0] + (new - old[n][0]) / self.tasks, anchor) for n, (new, anchor) in term.items()}]

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {**super().state_dict(), "tasks": self.tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        super().load_state_dict(state)
        self.tasks = state["tasks"]


class SI(Pull):
    """Synaptic intelligence (Zenke et al. 2017): F is the loss that a weight's own way has taken down, over its square.

    During a task ``omega -= g dw``, with the gradient of the task's loss alone; at its end
    ``F += 2 max(omega, 0) / ((w - start)^2 + xi)``. The 2 is because the paper's penalty, ``c sum F (w - anchor)^2``, has
    no half.
    """

    def __init__(self, model: nn.Module, strength: float, xi: float = 0.1):
        super().__init__(model, strength)
        if not xi > 0:
            raise ValueError(f"xi={xi}: expected above 0")
        self.xi = xi
        self.omega = {name: torch.zeros_like(p) for name, p in trained(model).items()}
        self.start = {name: p.detach().clone() for name, p in trained(model).items()}
        self._before: dict[str, tuple[Tensor, Tensor]] = {}

    def before_step(self) -> None:  # noqa: D102
        self._before = {
            name: (p.detach().clone(), p.grad.clone()) for name, p in trained(self.model).items() if p.grad is not None
        }
        super().before_step()

    def after_step(self) -> None:
        """Book what the step has brought."""
        for name, (before, gradient) in self._before.items():
            self.omega[name] -= gradient * (dict(self.model.named_parameters())[name].detach() - before)

    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # noqa: D102
        found = {}
        for name, p in trained(self.model).items():
            way = (p.detach() - self.start[name]).square() + self.xi
            found[name] = 2 * self.omega[name].clamp(min=0) / way
            self.omega[name].zero_()
            self.start[name] = p.detach().clone()
        return found

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:  # noqa: D102
        if not self.terms:
            return [term]
        (old,) = self.terms
        return [{name: (old[name][0] + new, anchor) for name, (new, anchor) in term.items()}]

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {**super().state_dict(), "omega": self.omega, "start": self.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        super().load_state_dict(state)
        self.omega, self.start = state["omega"], state["start"]


class LwF(Rival):
    """Learning without forgetting (Li and Hoiem 2016): on the new task's samples, answer for old classes as before.

    Adds ``strength T^2 KL(softmax(z_before / T) || softmax(z / T))`` over the classes of earlier tasks. If task
    numbers are known, it adds the sum of such terms, one over the classes of each earlier task.
    """

    def __init__(self, model: nn.Module, strength: float, temperature: float = 2.0):
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: expected above 0")
        self.model, self.strength, self.temperature = model, strength, temperature
        self.teacher: nn.Module | None = None
        self.old = torch.zeros(0, dtype=torch.long)  # classes

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        if self.teacher is None:
            return logits.new_zeros(())
        # the given logits are -inf outside the classes of the current task: compute the logits of all classes
        if self.answers:
            logits = self.model(x)
        with torch.no_grad():
            taught = self.teacher(x)
        distance = logits.new_zeros(())
        for classes in self.answers[: self.task] if self.answers else [self.old]:
            before, now = ((z[:, classes] / self.temperature).log_softmax(-1) for z in (taught, logits))
            distance = distance + nn.functional.kl_div(now, before, log_target=True, reduction="batchmean")
        return self.strength * self.temperature**2 * distance

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """The model as it is becomes the teacher."""
        self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.old = torch.cat([self.old, y.unique()]).unique()

    def state_dict(self) -> dict[str, Any]:
        """The teacher's weights, and the classes that it knows."""
        return {"teacher": None if self.teacher is None else self.teacher.state_dict(), "old": self.old}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the teacher of an earlier run."""
        self.old, self.teacher = state["old"], None
        if state["teacher"] is not None:
            self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
            self.teacher.load_state_dict(state["teacher"])
