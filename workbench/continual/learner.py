"""Train a model on a stream of tasks with one method, and measure learning and forgetting."""

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

ONE_RATE = ("joint", "sgd-cut")  # methods without a separate learning rate for task 1
LR = knob(
    0.003, "learning rate", "Learning rate of the optimizer (alpha in CLASSP). If task 1 has its own rate, this rate applies "
    "from task 2 on. A small rate learns slowly, and a large one can diverge.", low=1e-6, high=1.0, log=True, essential=True,
)  # fmt: skip
FIRST_LR = knob(
    0.1, "task 1 learning rate", "Learning rate on task 1. CLASSP and AdaGrad take plain SGD steps on task 1, but they already "
    "accumulate their sums. 0: task 1 is trained like the other tasks.", low=0.0, high=1.0, step=0.01, essential=True,
    when=(lambda c: c.method not in ONE_RATE, "this method has no separate rate for task 1"),
)  # fmt: skip
CUT = knob(
    0.1, "rate cut factor", "Factor by which the learning rate is multiplied after each task. 1 keeps the rate. A small "
    "factor slows both learning and forgetting on later tasks.", low=0.001, high=1.0, log=True,
    when=(lambda c: c.method == "sgd-cut", "only sgd-cut reduces its learning rate"),
)  # fmt: skip
RESET = knob(False, "reset optimizer", "Reset the state of the optimizer (its moments or sums) at each task boundary.")
BATCH = knob(32, "batch size", "Number of samples in each training step.", low=1, high=1000, choices=(1, 10, 32, 100))
PASSES = knob(1, "passes per task", "Number of passes over the training samples of each task.", low=1, high=20)
SEED = knob(0, "seed", "Random seed for the initial weights and for the choice and order of the samples.", low=0, high=10**6)
BLEND = knob(
    0.0, "gradual boundaries", "Share of a task in which some samples come from the neighboring task. One half of this share "
    "is at the start of the task, and the other half at its end. 0: tasks change abruptly.", low=0.0, high=1.0, step=0.1,
    when=(lambda c: c.scenario != "task", "in the task-incremental scenario, tasks always change abruptly"),
)  # fmt: skip
DECLARED = {  # each knob is declared in the module that uses it
    "lr": LR, "first_lr": FIRST_LR, "cut": CUT, "reset": RESET, "batch": BATCH, "passes": PASSES, "seed": SEED, "blend": BLEND,
    "hidden": HIDDEN, "strength": STRENGTH, "estimator": ESTIMATOR, "memory": MEMORY, "power": POWER, "threshold": THRESHOLD,
    "eps": EPS, "mode": MODE, "order": ORDER, "cap": CAP,
}  # fmt: skip
KNOBS: dict[str, Any] = {name: declared.default for name, declared in DECLARED.items()}
# In `fit`, task 1 has its own learning rate only if the caller passes `first_lr`.
KNOBS |= {"first_lr": 0.0, "first_passes": None, "watch": 50, "loss": "cross-entropy"}
LOSSES = ("cross-entropy", "summed squares")
LOOK = 1000  # largest number of test samples of each task for `curves`; the accuracy matrix uses all test samples
EARLY = 10  # divergence is checked in each of the first EARLY steps; after them, at least one weight must have changed


def fit(
    stream: str | Stream | Sequence[Any], method: str, optimizer: str = "sgd", model: nn.Module | None = None, **knobs: Any
) -> FitResult:
    """Train a model on a stream, task after task, and return the results.

    Args:
        stream: a name (see `streams.load`), a `Stream`, or a list of tasks ``(x_train, y_train, x_test, y_test)``.
        method: an optimizer (sgd, sgd-cut, adam, adagrad, adagrad-reset, upgd or classp), a penalty with the factor `strength`
            (ewc, ewc-online, l2, si, mas or lwf), a memory of `memory` samples (replay or a-gem), joint (all tasks at once) or
            cumulative (all tasks so far). sgd-cut is SGD that multiplies its learning rate by `cut` after each task.
        optimizer: sgd, adam, adagrad, upgd or classp. It is used if `method` is a penalty, a memory, joint or cumulative. If
            `reset` is True, the state of the optimizer is reset at each task boundary.
        model: a module that returns logits. The default is a perceptron with `hidden` units and random weights (see `seed`).
        knobs: the knobs listed below, and three more. `watch` is the number of steps between two measurements of the test
            accuracies (0: no measurements). `first_passes` is the number of passes over the first task (None: as many as over
            the others). `loss` is "cross-entropy" (the mean over the batch) or "summed squares" (half the squared error, summed
            over the batch and the classes).

    Raises:
        ValueError: if an argument is not valid.
        TrainingError: if training diverges, or if no weight changes in the first steps.
    """
    learner = Learner(stream, method, optimizer, model, **knobs)
    for _ in learner.run():
        pass
    return learner.result()


fit.__doc__ = f"{fit.__doc__}\n    Knobs, with their defaults:\n" + "".join(
    f"        {name} = {KNOBS[name]!r}: {declared.json_schema_extra['knob'].label}. {declared.description}\n"
    for name, declared in DECLARED.items()
)


class Learner:
    """A fit that runs step by step. Use ``for task, step, loss in learner.run()``, and then ``learner.result()``; see `fit`."""

    def __init__(
        self, stream: str | Stream | Sequence[Any], method: str, optimizer: str = "sgd", model: nn.Module | None = None,
        **knobs: Any,
    ):  # fmt: skip
        streams.known("method", method, METHODS)
        streams.known("optimizer", optimizer, OPTIMIZERS)
        streams.known("loss", knobs.get("loss", LOSSES[0]), LOSSES)
        unknown = [name for name in knobs if name not in KNOBS]
        if unknown:
            raise ValueError(f"{unknown[0]}: no knob has this name; expected one of {', '.join(KNOBS)}")
        self.knobs = k = {**KNOBS, **knobs}
        k["first_lr"], k["cap"] = k["first_lr"] or None, k["cap"] or None
        self.method = method
        given = streams.load(stream) if isinstance(stream, str) else stream
        self.stream: Stream = given if isinstance(given, Stream) else streams.own(given)
        tasks = self.stream.tasks
        if not 0 <= k["blend"] <= 1 or (k["blend"] and self.stream.scenario == "task"):
            raise ValueError(f"blend={k['blend']}: expected a number from 0 to 1; in the scenario 'task', expected 0")
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
        self.borders: list[int] = []  # the number of steps before each task
        self.tasks_done, self.before = 0, torch.zeros(0)  # `before` holds the weights at the start of the current task

    def use(self, rival: Rival) -> None:
        """Call the hooks of `rival` in each step from now on. The state of the training then includes the state of `rival`."""
        self.rival, rival.answers = rival, self._answers()
        self.training.kept = {"rival": rival}
        self.training.before_step, self.training.after_step = rival.before_step, rival.after_step

    def _answers(self) -> list[Tensor]:
        """Return the classes of each task in the task-incremental scenario, and an empty list in the other scenarios."""
        return [task.classes for task in self.stream.tasks] if self.stream.scenario == "task" else []

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        batch = self.knobs["batch"]
        return sum(self._passes(number) * -(-size // batch) for number, size in enumerate(self._sizes()))

    def _sizes(self) -> list[int]:
        """Return the number of samples in one pass over each task that is trained. In cumulative and joint, tasks are merged."""
        sizes = [len(task.x_train) for task in self.stream.tasks]
        if self.method == "joint":
            return [sum(sizes)]
        return [*accumulate(sizes)] if self.method == "cumulative" else sizes

    def _passes(self, number: int) -> int:
        first = self.knobs["first_passes"]
        return int(first if number == 0 and first is not None else self.knobs["passes"])

    def run(self) -> Iterator[tuple[int, int, float]]:
        """Train the model. Yields, for each step, the task number (from 0), the step number (from 1) and the loss."""
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
            self.matrix[number + 1 :] = self.accuracies()  # each later task overwrites its row; joint has no later task
            self.tasks_done, self.before = number + 1, torch.zeros(0)

    def state_dict(self) -> dict[str, Any]:
        """Return the current state. Save or copy it before the next step, since training changes the tensors in place."""
        return {
            "training": self.training.state_dict(), "matrix": self.matrix, "curves": self.curves,
            **{name: getattr(self, name) for name in KEPT},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
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
        """Return the task number of each training sample if several tasks are trained jointly, and None otherwise."""
        many = {"joint": len(self.stream.tasks), "cumulative": number + 1}.get(self.method)
        sizes = [len(task.x_train) for task in self.stream.tasks[:many]]
        return None if many is None else torch.arange(many).repeat_interleave(torch.tensor(sizes))

    def _batch(self, task: Task, rows: Tensor, number: int, place: float) -> tuple[Tensor, Tensor]:
        """Return the samples `rows` of a task. At a gradual boundary (`place` near 0 or 1), some are of the neighboring task."""
        x, y = task.x_train[rows], task.y_train[rows]
        half = self.knobs["blend"] / 2
        tasks, side = self.stream.tasks, number + (1 if place >= 0.5 else -1)
        near = half - min(place, 1 - place)
        if near <= 0 or not 0 <= side < len(tasks) or self.method in ("joint", "cumulative"):
            return x, y
        random = torch.Generator().manual_seed(mixed(self.knobs["seed"] + 1, self.training.done))
        other = torch.rand(len(rows), generator=random) < near / half / 2  # the probability is 1/2 at the boundary itself
        drawn = torch.randint(len(tasks[side].x_train), (int(other.sum()),), generator=random)
        x, y = x.clone(), y.clone()
        x[other], y[other] = tasks[side].x_train[drawn], tasks[side].y_train[drawn]
        return x, y

    def _check_early(self, step: int, loss: float) -> None:
        """Raise TrainingError if training diverges in the first steps, or if no weight has changed after them."""
        if loss > 1e3:
            raise TrainingError(
                f"the loss is {loss:.3g} at step {step}: training diverges with lr={self.knobs['lr']:g}. Reduce lr to a tenth"
            )
        if step < EARLY or not torch.equal(flat(self.model), self.before):
            return
        largest = max(p.grad.abs().max().item() for p in self.model.parameters() if p.grad is not None) ** 2
        text = f"no weight has changed in {EARLY} steps, and none would change later"
        if isinstance(self.optimizer, CLASSP) and self.knobs["threshold"] >= min(largest, 1.0):
            raise TrainingError(
                f"{text}: the largest squared gradient of any weight is {largest:.2g}, but the threshold is "
                f"{self.knobs['threshold']:g}. Set the threshold to a value from 1e-8 to 1e-5, or to 0"
            )
        raise TrainingError(f"{text} with lr={self.knobs['lr']:g}: expected a learning rate above 0")

    def border(self, number: int, task: Task) -> None:
        """Update the `Rival` and the optimizer after a task. Raises TrainingError if SGD will diverge on the next task."""
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
                f"lr * strength * F is {lr * stiff:.3g} after task {number + 1} (lr={lr:g}, largest strength * F {stiff:.3g}): "
                "SGD diverges if this product is 2 or more. Reduce the strength or lr"
            )
        if k["reset"] or self.method == "adagrad-reset":
            forget(self.optimizer, k["eps"])

    @torch.no_grad()
    def accuracies(self, most: int | None = None, validation: bool = False) -> Tensor:
        """Return the accuracies ``(tasks,)`` in evaluation mode, on at most `most` test (or validation) samples of each task."""
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
        """Return the number of bytes that the method stores in addition to the weights and gradients."""
        kept = [*self.optimizer.state.values(), self.rival.state_dict()]
        return sum(tensor.nbytes for tensor in tensors(kept) if tensor.dim())

    def result(self) -> FitResult:
        """Return the results after training."""
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
        """Return how many tasks have begun before a step. Joint training begins all tasks at once."""
        return len(self.stream.tasks) if self.method == "joint" else bisect_left(self.borders, step)


KEPT = ("online", "moved", "borders", "tasks_done", "before")  # attributes of `Learner` that are stored in its state


def plasticity(stream: Stream, found: FitResult, method: str, optimizer: str = "sgd", **knobs: Any) -> float:
    """Return the loss of plasticity, averaged over tasks. `found` is the result of `fit` with the same method and knobs.

    For one task, the loss of plasticity is the accuracy on this task of a new network that is trained only on it, minus the
    accuracy on this task in `found`, measured just after training on it.
    """
    fresh = [
        fit(Stream(stream.name, (task,), stream.outputs, stream.scenario), method, optimizer, **knobs) for task in stream.tasks
    ]
    return float((torch.stack([f.matrix[-1, 0] for f in fresh]) - torch.diagonal(found.matrix, offset=-1)).mean())
