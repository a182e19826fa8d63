"""One model, one stream, one method: `fit` trains task after task and measures what is kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from workbench.continual import streams
from workbench.continual.memory import MEMORIES, MEMORY
from workbench.continual.methods import METHODS, OPTIMIZERS, STEPS_WITH, forget, optimizer_of, rival_of
from workbench.continual.metrics import FitResult
from workbench.continual.nets import HIDDEN, draws, flat, perceptron, refuse_single_samples, tensors
from workbench.continual.optimizer import CLASSP
from workbench.continual.penalties import ESTIMATOR, STRENGTH
from workbench.continual.rival import Rival
from workbench.continual.rule import CAP, EPS, MODE, ORDER, POWER, THRESHOLD
from workbench.continual.tasks import Stream, Task, loss_on, masked, merged
from workbench.knobs import knob
from workbench.training import Batches, Training, TrainingError, mixed

ONE_RATE = ("joint", "sgd-cut")  # one rate throughout, or one that the method cuts by itself
LR = knob(
    0.003, "learning rate", "CLASSP's alpha: after task 1 where there is a rate for it", low=1e-6, high=1.0, log=True,
    essential=True,
)  # fmt: skip
FIRST_LR = knob(
    0.1, "rate on task 1", "plain steps there (CLASSP sums up, but does not divide yet); 0: task 1 is like the others",
    low=0.0, high=1.0, step=0.01, essential=True,
    when=(lambda c: c.method not in ONE_RATE, "it has one rate, or cuts it by itself"),
)  # fmt: skip
CUT = knob(
    0.1, "rate cut", "the rate is multiplied by it after each task", low=0.001, high=1.0, log=True,
    when=(lambda c: c.method == "sgd-cut", "only sgd-cut cuts its rate"),
)  # fmt: skip
RESET = knob(False, "forget state", "the optimizer's history, at each border")
BATCH = knob(32, "batch size", "samples a step", low=1, high=1000, choices=(1, 10, 32, 100))
PASSES = knob(1, "passes", "over each task", low=1, high=20)
SEED = knob(0, "seed", "first weights, choice and order of the samples", low=0, high=10**6)
BLEND = knob(
    0.0, "gradual borders", "share of a task over which the neighbour's samples are mixed in", low=0.0, high=1.0, step=0.1,
    when=(lambda c: c.scenario != "task", "where a task's number is told, its border is sharp"),
)  # fmt: skip
DECLARED = {  # each next to the code that it belongs to
    "lr": LR, "first_lr": FIRST_LR, "cut": CUT, "reset": RESET, "batch": BATCH, "passes": PASSES, "seed": SEED, "blend": BLEND,
    "hidden": HIDDEN, "strength": STRENGTH, "estimator": ESTIMATOR, "memory": MEMORY, "power": POWER, "threshold": THRESHOLD,
    "eps": EPS, "mode": MODE, "order": ORDER, "cap": CAP,
}  # fmt: skip
KNOBS: dict[str, Any] = {name: declared.default for name, declared in DECLARED.items()}
# a fit has a rate of its own on task 1 only where it is given one
KNOBS |= {"first_lr": 0.0, "first_passes": None, "watch": 50, "loss": "cross-entropy"}
LOSSES = ("cross-entropy", "summed squares")
LOOK = 1000  # test samples of each task at a watched moment; the matrix is of all
EARLY = 10  # steps within which a run must have moved


def fit(
    stream: str | Stream | Sequence[Any], method: str, optimizer: str = "sgd", model: nn.Module | None = None, **knobs: Any
) -> FitResult:
    """Train on a stream, task after task.

    Args:
        stream: a name (`streams.load`), a `Stream`, or tasks of ``(x_train, y_train, x_test, y_test)``.
        method: sgd, sgd-cut (the rate times `cut` after each task), adam, adagrad, adagrad-reset, upgd, classp; ewc, ewc-online,
            l2, si, mas, lwf, with a `strength`; replay, a-gem, with a `memory` of samples; joint (all tasks at once), cumulative.
        optimizer: that penalties and replay sit on: sgd, adam, adagrad, upgd, classp; `reset` forgets its state at borders.
        model: returns logits; by default a perceptron with `hidden` units, by `seed`.
        knobs: those of `DECLARED`, listed below, and watch (steps between two looks, 0: none), first_passes (over the first
            task; None: as over the others), and loss, "cross-entropy" (mean over the batch) or "summed squares" (half the
            squared error, summed over batch and classes).

    Raises:
        ValueError: for what cannot be trained. TrainingError: where training flies off, or where nothing moves.
    """
    learner = Learner(stream, method, optimizer, model, **knobs)
    for _ in learner.run():
        pass
    return learner.result()


fit.__doc__ = f"{fit.__doc__}\n    Knobs, with their defaults:\n" + "".join(
    f"        {name} = {KNOBS[name]!r}: {declared.json_schema_extra['knob'].label}, {declared.description}\n"
    for name, declared in DECLARED.items()
)


class Learner:
    """A fit under way: ``for step in learner.run()``, then ``learner.result()``."""

    def __init__(
        self,
        stream: str | Stream | Sequence[Any],
        method: str,
        optimizer: str = "sgd",
        model: nn.Module | None = None,
        **knobs: Any,
    ):
        streams.known("method", method, METHODS)
        streams.known("optimizer", optimizer, OPTIMIZERS)
        streams.known("loss", knobs.get("loss", LOSSES[0]), LOSSES)
        unknown = [name for name in knobs if name not in KNOBS]
        if unknown:
            raise ValueError(f"{unknown[0]}: no such knob; knobs: {', '.join(KNOBS)}")
        self.knobs = k = {**KNOBS, **knobs}
        k["first_lr"], k["cap"] = k["first_lr"] or None, k["cap"] or None
        self.method = method
        given = streams.load(stream) if isinstance(stream, str) else stream
        self.stream: Stream = given if isinstance(given, Stream) else streams.own(given)
        tasks = self.stream.tasks
        if not 0 <= k["blend"] <= 1 or (k["blend"] and self.stream.scenario == "task"):
            raise ValueError(f"blend={k['blend']}: expected 0 to 1, and 0 where a task's number is known: its borders are sharp")
        if model is None:
            model = perceptron(tasks[0].x_train[0].numel(), k["hidden"], self.stream.outputs, k["seed"])
        self.model = model
        steps_with = STEPS_WITH.get(method, optimizer)
        self.optimizer = optimizer_of(steps_with, model, k)
        self.training = Training(model, self.optimizer, k["seed"], draws=steps_with == "upgd" or draws(model))
        refuse_single_samples(model, tasks[0].x_train, self._sizes(), k["batch"], k["memory"] if method in MEMORIES else None)
        self.use(rival_of(method, model, k))
        self.matrix = torch.zeros(len(tasks) + 1, len(tasks), dtype=torch.float64)
        self.curves: list[tuple[int, list[float]]] = []
        self.online = [0, 0]
        self.moved: list[Tensor] = []
        self.borders: list[int] = []  # the step at which each task began
        self.tasks_done, self.before = 0, torch.zeros(0)  # the task under way, and the weights at its border

    def use(self, rival: Rival) -> None:
        """Have `rival` see each step from now on, and keep its state with the rest."""
        self.rival, rival.answers = rival, self._answers()
        self.training.kept = {"rival": rival}
        self.training.before_step, self.training.after_step = rival.before_step, rival.after_step

    def _answers(self) -> list[Tensor]:
        """Return the classes of each task if task numbers are known; an empty list if all outputs always count."""
        return [task.classes for task in self.stream.tasks] if self.stream.scenario == "task" else []

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        batch = self.knobs["batch"]
        return sum(self._passes(number) * -(-size // batch) for number, size in enumerate(self._sizes()))

    def _sizes(self) -> list[int]:
        """Return the number of samples in one pass over each task."""
        sizes = [len(task.x_train) for task in self.stream.tasks]
        if self.method == "joint":
            return [sum(sizes)]
        return [*accumulate(sizes)] if self.method == "cumulative" else sizes

    def _passes(self, number: int) -> int:
        first = self.knobs["first_passes"]
        return int(first if number == 0 and first is not None else self.knobs["passes"])

    def run(self) -> Iterator[tuple[int, int, float]]:
        """Train; yields the task, the step and the loss of each step."""
        tasks = self.stream.tasks
        parts = [merged(tasks)] if self.method == "joint" else tasks
        if not self.training.done:
            self.matrix[0] = self.accuracies()
        while self.tasks_done < len(parts):
            number = self.tasks_done
            task = merged(tasks[: number + 1]) if self.method == "cumulative" else parts[number]
            if not len(self.before):
                self.borders.append(self.training.done)
                self.before = flat(self.model)
            yield from self._learn(number, task)
            self.moved.append(flat(self.model) != self.before)
            self.border(number, task)
            self.matrix[number + 1 :] = self.accuracies()  # what follows is overwritten, but by joint
            self.tasks_done, self.before = number + 1, torch.zeros(0)

    def state_dict(self) -> dict[str, Any]:
        """All that a run goes on from, between two steps; to be written at once, since its tensors go on changing."""
        return {
            "training": self.training.state_dict(),
            "matrix": self.matrix,
            "curves": self.curves,
            **{name: getattr(self, name) for name in KEPT},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.training.load_state_dict(state["training"])
        self.matrix, self.curves = state["matrix"], [(step, list(found)) for step, found in state["curves"]]
        for name in KEPT:
            setattr(self, name, state[name])

    def _learn(self, number: int, task: Task) -> Iterator[tuple[int, int, float]]:
        k, first = self.knobs, self.borders[-1]
        self.rival.task, several = number, self._tasks(number)
        batches = Batches(len(task.x_train), k["batch"], mixed(k["seed"], number))
        steps = self._passes(number) * len(batches)

        def loss_of(step: int) -> Tensor:
            rows = batches(step - first)
            x, y = self._batch(task, rows, number, (step - first) / steps)
            logits = self.model(x)
            if self.rival.answers and several is not None:
                logits = self.rival.counted(logits, several[rows])
            else:
                logits = masked(logits, task.classes)
            self.online[0] += int((logits.detach().argmax(-1) == y).sum())
            self.online[1] += len(y)
            return loss_on(logits, y, k["loss"]) + self.rival.extra_loss(x, logits, y)

        for step, loss in self.training.steps(loss_of, first + steps):
            if step <= EARLY:
                self._check_early(step, loss)
            if k["watch"] and step % k["watch"] == 0:
                self.curves.append((step, self.accuracies(LOOK).tolist()))
            yield number, step, loss

    def _tasks(self, number: int) -> Tensor | None:
        """Return the task number of each training sample if several tasks are learnt jointly; otherwise None."""
        many = {"joint": len(self.stream.tasks), "cumulative": number + 1}.get(self.method)
        sizes = [len(task.x_train) for task in self.stream.tasks[:many]]
        return None if many is None else torch.arange(many).repeat_interleave(torch.tensor(sizes))

    def _batch(self, task: Task, rows: Tensor, number: int, place: float) -> tuple[Tensor, Tensor]:
        """A batch at `place` (0 to 1) of a task; near a gradual border each sample may be one of the neighbour's."""
        x, y = task.x_train[rows], task.y_train[rows]
        half = self.knobs["blend"] / 2
        tasks, side = self.stream.tasks, number + (1 if place >= 0.5 else -1)
        near = half - min(place, 1 - place)
        if near <= 0 or not 0 <= side < len(tasks) or self.method in ("joint", "cumulative"):
            return x, y
        random = torch.Generator().manual_seed(mixed(self.knobs["seed"] + 1, self.training.done))
        other = torch.rand(len(rows), generator=random) < near / half / 2  # half of them at the border itself
        drawn = torch.randint(len(tasks[side].x_train), (int(other.sum()),), generator=random)
        x, y = x.clone(), y.clone()
        x[other], y[other] = tasks[side].x_train[drawn], tasks[side].y_train[drawn]
        return x, y

    def _check_early(self, step: int, loss: float) -> None:
        """Say within the first steps that a run goes nowhere."""
        if loss > 1e3:
            raise TrainingError(
                f"the loss is {loss:.3g} at step {step}: training flies off with lr={self.knobs['lr']:g}. Take a tenth of it"
            )
        if step < EARLY or not torch.equal(flat(self.model), self.before):
            return
        largest = max(p.grad.abs().max().item() for p in self.model.parameters() if p.grad is not None) ** 2
        text = f"no weight has moved in {EARLY} steps, and none would"
        if isinstance(self.optimizer, CLASSP) and self.knobs["threshold"] >= min(largest, 1.0):
            raise TrainingError(
                f"{text}: the largest squared gradient of any weight is {largest:.2g}, the threshold is "
                f"{self.knobs['threshold']:g}. Take one of 1e-8 to 1e-5, or 0"
            )
        raise TrainingError(f"{text} with lr={self.knobs['lr']:g}: expected a rate above 0")

    def border(self, number: int, task: Task) -> None:
        """What happens after a task; after the last one no penalty pulls any more."""
        k = self.knobs
        self.rival.end_task(task.x_train, task.y_train)
        if number == 0 and k["first_lr"] is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = k["lr"]
                if isinstance(self.optimizer, CLASSP):
                    group["decay"] = True
        if self.method == "sgd-cut":
            for group in self.optimizer.param_groups:
                group["lr"] *= k["cut"]
        lr, stiff = self.optimizer.param_groups[0]["lr"], self.rival.stiffness()
        sgd, more = type(self.optimizer) is torch.optim.SGD, number + 1 < len(self.stream.tasks)
        if sgd and more and lr * stiff >= 2:
            raise TrainingError(
                f"lr {lr:g} times the largest strength * F, {stiff:.3g}, is {lr * stiff:.3g} after task {number + 1}: "
                "from 2 on steps of SGD fly off under such a pull. Take a lower strength or a lower lr"
            )
        if k["reset"] or self.method == "adagrad-reset":
            forget(self.optimizer, k["eps"])

    @torch.no_grad()
    def accuracies(self, most: int | None = None, validation: bool = False) -> Tensor:
        """On the test (or validation) samples of each task, at most so many, in evaluation mode."""
        training = self.model.training
        self.model.eval()
        try:
            found = []
            for task in self.stream.tasks:
                x, y = (task.x_validation, task.y_validation) if validation else (task.x_test, task.y_test)
                right = masked(self.model(x[:most]), task.classes).argmax(-1) == y[:most]
                found.append(right.double().mean())
        finally:
            self.model.train(training)
        return torch.stack(found)

    def state_bytes(self) -> int:
        """Of all that the method keeps besides weights and gradients."""
        kept = [*self.optimizer.state.values(), self.rival.state_dict()]
        return sum(tensor.nbytes for tensor in tensors(kept) if tensor.dim())

    def result(self) -> FitResult:
        """What was measured."""
        tasks, moved = len(self.stream.tasks), torch.stack(self.moved)
        seen = [accuracies[: self.begun(step)] for step, accuracies in self.curves]
        lowest = torch.full((tasks,), float("nan"), dtype=torch.float64)
        for j in range(tasks - 1):
            after = [accuracies[j] for step, accuracies in self.curves if self.begun(step) > j + 1]
            lowest[j] = min([*after, self.matrix[-1, j].item()])
        both = (moved[:, None] & moved[None]).sum(-1).double()
        either = (moved[:, None] | moved[None]).sum(-1).double().clamp(min=1)
        return FitResult(
            self.matrix, self.online[0] / max(self.online[1], 1), float(torch.tensor([sum(s) / len(s) for s in seen]).mean()),
            lowest, self.state_bytes(), moved.double().mean(1).tolist(), (~moved.any(0)).double().mean().item(), both / either,
            self.accuracies(validation=True).mean().item(), self.model, self.stream.note, self.curves,
        )  # fmt: skip

    def begun(self, step: int) -> int:
        """How many tasks have begun at a step; all of them where they are trained together."""
        return len(self.stream.tasks) if self.method == "joint" else bisect_left(self.borders, step)


KEPT = ("online", "moved", "borders", "tasks_done", "before")  # of a learner's own, when it is cut


def plasticity(stream: Stream, found: FitResult, method: str, optimizer: str = "sgd", **knobs: Any) -> float:
    """How far each task, just after it was learnt, stays below what a fresh network of the same method reaches on it (mean)."""
    fresh = [
        fit(Stream(stream.name, (task,), stream.outputs, stream.scenario), method, optimizer, **knobs) for task in stream.tasks
    ]
    return float((torch.stack([f.matrix[-1, 0] for f in fresh]) - torch.diagonal(found.matrix, offset=-1)).mean())
