"""Methods that add a penalty to the loss of later tasks.

Elastic weight consolidation (EWC), L2, synaptic intelligence (SI) and memory aware synapses (MAS) add a quadratic penalty on the
distance of each weight w to an anchor, the value of this weight at the end of an earlier task. These methods add the gradient of
the penalty, ``strength * F * (w - anchor)``, to the gradient of the task's loss before each step, so they work with any
optimizer. F is the importance of the weight. Learning without forgetting (LwF) adds a distillation loss with respect to the
earlier model.
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
    100.0, "strength", "Factor of the penalty (lambda in EWC, c in SI). A large value reduces forgetting, but slows or prevents "
    "the learning of new tasks.", low=1e-4, high=1e6, log=True, essential=True,
    when=(lambda c: c.method in PULLS, "only penalty methods have a strength"),
)  # fmt: skip
ESTIMATOR = knob(
    "exact", "Fisher estimator", "How EWC estimates the diagonal of the Fisher information. The estimates differ in scale, so "
    "the best strength depends on the estimator.",
    when=(lambda c: c.method in ("ewc", "ewc-online"), "only EWC uses the Fisher information"),
)  # fmt: skip


class Pull(Rival, ABC):
    """A quadratic penalty, ``sum_k strength / 2 sum_i F_ki (w_i - anchor_ki)^2``, in which each term k has its own anchor.

    Subclasses compute the importance F of each weight in `importance`, and decide in `merged` which terms they keep.
    """

    def __init__(self, model: nn.Module, strength: float):
        if not 0 <= strength < float("inf"):
            raise ValueError(f"strength={strength}: expected a finite number, at least 0")
        self.model, self.strength = model, strength
        self.terms: list[dict[str, tuple[Tensor, Tensor]]] = []  # each term holds F and the anchor, by parameter name

    @abstractmethod
    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the importance F of each weight for the task that has just ended."""

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Add a term for the task that has just ended; `x` and `y` are its training samples."""
        found = self.importance(x, y)
        self.terms = self.merged({name: (found[name], p.detach().clone()) for name, p in trained(self.model).items()})

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """Return the terms after `term` is added. In this class, there is one term per task."""
        return [*self.terms, term]

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the gradient of the penalty to the gradients of the weights."""
        for name, p in trained(self.model).items():
            for term in self.terms:
                importance, anchor = term[name]
                pull = self.strength * importance * (p - anchor)
                p.grad = pull if p.grad is None else p.grad.add_(pull)

    def penalty(self) -> Tensor:
        """Return the value of the penalty, whose gradient `before_step` adds."""
        total = torch.zeros((), dtype=next(self.model.parameters()).dtype)
        for name, p in trained(self.model).items():
            for term in self.terms:
                importance, anchor = term[name]
                total = total + self.strength / 2 * (importance * (p - anchor).square()).sum()
        return total

    def stiffness(self) -> float:
        """Return the largest ``strength * sum_k F_k`` of any weight; see `Rival.stiffness`."""
        if not self.terms:
            return 0.0
        return max(self.strength * sum(term[name][0] for term in self.terms).max().item() for name in self.terms[0])

    def state_dict(self) -> dict[str, Any]:
        """Return all terms."""
        return {"terms": [{n: list(pair) for n, pair in term.items()} for term in self.terms]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.terms = [{n: tuple(pair) for n, pair in term.items()} for term in state["terms"]]


class EWC(Pull):
    """Elastic weight consolidation (EWC): F is the diagonal of the Fisher information.

    By default, there is one term per task (Kirkpatrick et al. 2017). If `online` is True, there is a single term. Its anchors are
    the weights at the end of the latest task, and its F is ``gamma`` times the old F plus the new F (Schwarz et al. 2018).
    `estimator` is one of `fishers.ESTIMATORS`, and `samples` is the largest number of samples that the estimate uses (None: all).
    """

    def __init__(
        self, model: nn.Module, strength: float, online: bool = False, gamma: float = 1.0, estimator: str = ESTIMATOR.default,
        samples: int | None = 1000,
    ):  # fmt: skip
        super().__init__(model, strength)
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma={gamma}: expected a number above 0 and at most 1")
        self.online, self.gamma, self.estimator, self.samples = online, gamma, estimator, samples

    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # noqa: D102
        return fisher(self.model, x[: self.samples], y[: self.samples], self.estimator, classes=self.open)

    def merged(self, term: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:  # noqa: D102
        if not self.online or not self.terms:
            return super().merged(term)
        (old,) = self.terms
        return [{name: (self.gamma * old[name][0] + new, anchor) for name, (new, anchor) in term.items()}]


class L2(Pull):
    """An L2 penalty on the distance to the weights at the end of the latest task: EWC with F = 1, as a baseline for EWC.

    In the task-incremental scenario, weights that affect only the outputs of later tasks are not penalized.
    """

    def importance(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # noqa: D102
        ones = {name: torch.ones_like(p) for name, p in trained(self.model).items()}
        if self.learnt is None:
            return ones
        untrained = self._untrained(x[:100])
        return {name: one * ~untrained[name] for name, one in ones.items()}

    def _untrained(self, x: Tensor) -> dict[str, Tensor]:
        """Return, for each parameter, a mask of the weights that affect only outputs that have not been trained so far."""
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
    """Memory aware synapses (MAS; Aljundi et al. 2018): F is the mean of ``|d ||f(x)||^2 / d w|`` over samples and tasks.

    F is first averaged over the samples of a task, and then over the tasks. There is a single term, and its anchors are the
    weights at the end of the latest task. In the task-incremental scenario, f(x) holds only the outputs of the current task.
    `samples` is the largest number of samples that the mean uses (None: all).
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
    """Synaptic intelligence (SI; Zenke et al. 2017): F is the loss decrease due to a weight, divided by its squared displacement.

    In each step of a task, ``omega -= g dw``. Here dw is the change of the weight, and g is the gradient of the task's loss
    without the penalty. At the end of the task, ``F += 2 max(omega, 0) / ((w - start)^2 + xi)``, where start is the weight at
    the start of the task. The factor 2 is needed because the penalty of the paper, ``c sum F (w - anchor)^2``, has no factor
    1/2. There is a single term, and its anchors are the weights at the end of the latest task.
    """

    def __init__(self, model: nn.Module, strength: float, xi: float = 0.1):
        super().__init__(model, strength)
        if not xi > 0:
            raise ValueError(f"xi={xi}: expected a number above 0")
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
        """Update omega, the estimated loss decrease due to each weight."""
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
    """Learning without forgetting (LwF; Li and Hoiem 2016): distill the earlier model on the samples of the new task.

    The teacher is a copy of the model at the end of the latest task. With the temperature T and the logits z, LwF adds the loss
    ``strength T^2 KL(softmax(z_teacher / T) || softmax(z / T))`` over the classes of earlier tasks. In the
    task-incremental scenario, it adds one such loss for each earlier task, over the classes of that task.
    """

    def __init__(self, model: nn.Module, strength: float, temperature: float = 2.0):
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: expected a number above 0")
        self.model, self.strength, self.temperature = model, strength, temperature
        self.teacher: nn.Module | None = None
        self.old = torch.zeros(0, dtype=torch.long)  # classes of earlier tasks

    def extra_loss(self, x: Tensor, logits: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        if self.teacher is None:
            return logits.new_zeros(())
        # The given logits are -inf outside the classes of the current task, so the logits of all classes are computed again.
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
        """Copy the model as the new teacher."""
        self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.old = torch.cat([self.old, y.unique()]).unique()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the teacher, and the classes of earlier tasks."""
        return {"teacher": None if self.teacher is None else self.teacher.state_dict(), "old": self.old}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.old, self.teacher = state["old"], None
        if state["teacher"] is not None:
            self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
            self.teacher.load_state_dict(state["teacher"])
