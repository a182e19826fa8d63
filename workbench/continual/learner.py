"""One model, one stream, one method: `fit` trains task after task and measures what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.continual import streams
from workbench.continual.memory import AGEM, UPGD, Replay
from workbench.continual.metrics import accuracy_metrics
from workbench.continual.nets import draws, perceptron
from workbench.continual.optimizer import CLASSP
from workbench.continual.penalties import EWC, L2, MAS, SI, LwF, trained
from workbench.continual.streams import Stream, Task
from workbench.training import Batches, Training, TrainingError, mixed

# what a method does besides stepping; None: it is an optimizer, or an order of the data
RIVALS: dict[str, Callable[..., Any] | None] = {
    "sgd": None, "sgd-cut": None, "adam": None, "adagrad": None, "adagrad-reset": None, "upgd": None, "classp": None,
    "ewc": lambda m, k: EWC(m, k["strength"], estimator=k["estimator"]),
    "ewc-online": lambda m, k: EWC(m, k["strength"], online=True, estimator=k["estimator"]),
    "l2": lambda m, k: L2(m, k["strength"]), "si": lambda m, k: SI(m, k["strength"]), "mas": lambda m, k: MAS(m, k["strength"]),
    "lwf": lambda m, k: LwF(m, k["strength"]), "replay": lambda m, k: Replay(m, k["memory"], k["batch"], k["seed"]),
    "a-gem": lambda m, k: AGEM(m, k["memory"], seed=k["seed"]), "joint": None, "cumulative": None,
}  # fmt: skip
METHODS = tuple(RIVALS)
OPTIMIZERS = ("sgd", "adam", "adagrad", "upgd", "classp")
KNOBS: dict[str, Any] = {
    "lr": 0.03, "batch": 32, "passes": 1, "seed": 0, "hidden": (100, 100), "strength": 1.0, "memory": 200, "estimator": "exact",
    "cut": 0.1, "first_lr": None, "reset": False, "power": 1.0, "threshold": 0.0, "eps": 1e-5, "mode": "paper", "watch": 50,
}  # fmt: skip


@dataclass
class Fit:
    """What a fit has measured.

    matrix: accuracies ``(tasks + 1, tasks)`` on test samples, row 0 before training. online: mean accuracy of the prediction made
    for each batch before it is learnt. anytime: mean over watched moments of the mean accuracy on the tasks seen. lowest: the
    lowest watched accuracy of each task after it was learnt (NaN for the last). state_bytes: of all that the method keeps besides
    weights and gradients. moved: share of the weights that each task has moved; never_moved; overlap ``(tasks, tasks)``: of the
    weights that either of two tasks moved, the share that both did.
    """

    matrix: Tensor
    online: float
    anytime: float
    lowest: Tensor
    state_bytes: int
    moved: list[float]
    never_moved: float
    overlap: Tensor
    model: nn.Module
    note: str = ""
    curves: list[tuple[int, list[float]]] = field(default_factory=list)  # step, accuracy on each task

    @property
    def metrics(self) -> dict[str, float]:
        """ACC, BWT, F, FWT, LA; see `accuracy_metrics`."""
        return accuracy_metrics(self.matrix)


def fit(
    stream: str | Stream | Sequence,
    method: str,
    optimizer: str = "sgd",
    model: nn.Module | None = None,
    **knobs: Any,
) -> Fit:
    """Train on a stream, task after task.

    Args:
        stream: a name (`streams.load`), a `Stream`, or tasks of ``(x_train, y_train, x_test, y_test)``.
        method: sgd, sgd-cut (the rate times `cut` after each task), adam, adagrad, adagrad-reset, upgd, classp; ewc, ewc-online,
            l2, si, mas, lwf, with a `strength`; replay, a-gem, with a `memory` of samples; joint (all tasks at once), cumulative.
        optimizer: that penalties and replay sit on: sgd, adam, adagrad, upgd, classp; `reset` forgets its state at borders.
        model: returns logits; by default a perceptron with `hidden` units, by `seed`.
        knobs: lr, batch, passes, seed, hidden, strength, memory, estimator, cut, reset, watch (steps between two looks), and of
            CLASSP power, threshold, eps, mode, and first_lr: SGD at this rate on the first task, with decay off, then `lr`.

    Raises:
        ValueError: for what cannot be trained. TrainingError: where training flies off.
    """
    learner = Learner(stream, method, optimizer, model, **knobs)
    for _ in learner.run():
        pass
    return learner.result()


class Learner:
    """A fit under way: ``for step in learner.run()``, then ``learner.result()``."""

    def __init__(
        self,
        stream: str | Stream | Sequence,
        method: str,
        optimizer: str = "sgd",
        model: nn.Module | None = None,
        **knobs: Any,
    ):
        streams.known("method", method, METHODS)
        streams.known("optimizer", optimizer, OPTIMIZERS)
        unknown = [name for name in knobs if name not in KNOBS]
        if unknown:
            raise ValueError(f"{unknown[0]}: no such knob; knobs: {', '.join(KNOBS)}")
        self.knobs = k = {**KNOBS, **knobs}
        self.method = method
        self.stream = streams.load(stream) if isinstance(stream, str) else stream
        self.stream = self.stream if isinstance(self.stream, Stream) else streams.own(self.stream)
        tasks = self.stream.tasks
        self.model = (
            perceptron(tasks[0].x_train[0].numel(), k["hidden"], self.stream.outputs, k["seed"])
            if model is None
            else model
        )
        own = (
            method
            if method in OPTIMIZERS
            else {"sgd-cut": "sgd", "adagrad-reset": "adagrad"}.get(method, optimizer)
        )
        self.optimizer = optimizer_of(own, self.model, k)
        make = RIVALS[method]
        self.rival = make(self.model, k) if make else None
        kept = {} if self.rival is None else {"rival": self.rival}
        self.training = Training(
            self.model, self.optimizer, k["seed"], kept=kept, draws=own == "upgd" or draws(self.model)
        )
        self.matrix = torch.zeros(len(tasks) + 1, len(tasks), dtype=torch.float64)
        self.curves: list[tuple[int, list[float]]] = []
        self._online = [0, 0]
        self._moved: list[Tensor] = []
        self._task, self._first, self._before = (
            0,
            0,
            torch.zeros(0),
        )  # task, and step and weights at its border

    def run(self) -> Iterator[tuple[int, int, float]]:
        """Train; yields the task, the step and the loss of each step."""
        tasks = self.stream.tasks
        parts = [together(tasks)] if self.method == "joint" else tasks
        if not self.training.done:
            self.matrix[0] = self.accuracies()
        while self._task < len(parts):
            number = self._task
            task = together(tasks[: number + 1]) if self.method == "cumulative" else parts[number]
            if not len(self._before):
                self._first, self._before = self.training.done, flat(self.model)
            yield from self._learn(number, task)
            self._moved.append(flat(self.model) != self._before)
            self.border(number, task)
            self.matrix[number + 1 :] = self.accuracies()  # what follows is overwritten, but by joint
            self._task, self._before = number + 1, torch.zeros(0)

    def state_dict(self) -> dict[str, Any]:
        """All that a run goes on from, between two steps; to be written at once, since its tensors go on changing."""
        own = {name: getattr(self, f"_{name}") for name in ("online", "moved", "task", "first", "before")}
        return {"training": self.training.state_dict(), "matrix": self.matrix, "curves": self.curves, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.training.load_state_dict(state["training"])
        self.matrix, self.curves = state["matrix"], [(step, list(found)) for step, found in state["curves"]]
        for name in ("online", "moved", "task", "first", "before"):
            setattr(self, f"_{name}", state[name])

    def _learn(self, number: int, task: Task) -> Iterator[tuple[int, int, float]]:
        k, x, y = self.knobs, task.x_train, task.y_train
        batches = Batches(len(x), k["batch"], mixed(k["seed"], number))
        first = self._first

        def loss_of(step: int) -> Tensor:
            rows = batches(step - first)
            logits = masked(self.model(x[rows]), task.classes)
            self._online[0] += int((logits.detach().argmax(-1) == y[rows]).sum())
            self._online[1] += len(rows)
            loss = nn.functional.cross_entropy(logits, y[rows])
            if isinstance(self.rival, Replay):
                return loss + self.rival.extra_loss(x[rows], logits, y[rows])
            return loss + self.rival.extra_loss(x[rows], logits) if isinstance(self.rival, LwF) else loss

        self.training.before_step = getattr(self.rival, "before_step", None)
        self.training.after_step = getattr(self.rival, "after_step", None)
        for step, loss in self.training.steps(loss_of, first + k["passes"] * len(batches)):
            if k["watch"] and step % k["watch"] == 0:
                self.curves.append((step, self.accuracies().tolist()))
            yield number, step, loss

    def border(self, number: int, task: Task) -> None:
        """What happens between two tasks."""
        k = self.knobs
        if hasattr(self.rival, "end_task"):
            self.rival.end_task(task.x_train, task.y_train)
        stiff = getattr(self.rival, "stiffness", lambda: 0.0)()
        if type(self.optimizer) is torch.optim.SGD and k["lr"] * stiff >= 2:
            raise TrainingError(
                f"lr {k['lr']:g} times the largest strength * F, {stiff:.3g}, is {k['lr'] * stiff:.3g} after task {number + 1}: "
                "from 2 on steps of SGD fly off under such a pull. Take a lower strength or a lower lr"
            )
        if self.method == "sgd-cut":
            for group in self.optimizer.param_groups:
                group["lr"] *= k["cut"]
        if k["first_lr"] is not None and number == 0 and isinstance(self.optimizer, CLASSP):
            for group in self.optimizer.param_groups:
                group["lr"], group["decay"] = k["lr"], True
        if k["reset"] or self.method == "adagrad-reset":
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": {}})
            if isinstance(self.optimizer, torch.optim.Adagrad):
                for p in self.model.parameters():
                    self.optimizer.state[p] = {"step": torch.tensor(0.0), "sum": torch.full_like(p, k["eps"])}

    @torch.no_grad()
    def accuracies(self) -> Tensor:
        """On the test samples of each task, in evaluation mode."""
        training = self.model.training
        self.model.eval()
        try:
            found = [
                (masked(self.model(t.x_test), t.classes).argmax(-1) == t.y_test).double().mean()
                for t in self.stream.tasks
            ]
        finally:
            self.model.train(training)
        return torch.stack(found)

    def state_bytes(self) -> int:
        """Of all that the method keeps besides weights and gradients."""
        kept = [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        kept += list(self.rival.state_dict().values()) if self.rival is not None else []
        return sum(tensor.nbytes for tensor in tensors(kept) if tensor.dim())

    def result(self) -> Fit:
        """What was measured."""
        tasks, moved = len(self.stream.tasks), torch.stack(self._moved)
        seen = [accuracies[: self._task_of(step)] for step, accuracies in self.curves]
        lowest = torch.full((tasks,), float("nan"), dtype=torch.float64)
        for j in range(tasks - 1):
            after = [accuracies[j] for step, accuracies in self.curves if self._task_of(step) > j + 1]
            lowest[j] = min([*after, self.matrix[-1, j].item()])
        both = (moved[:, None] & moved[None]).sum(-1).double()
        either = (moved[:, None] | moved[None]).sum(-1).double().clamp(min=1)
        return Fit(
            self.matrix, self._online[0] / max(self._online[1], 1), float(torch.tensor([sum(s) / len(s) for s in seen]).mean()),
            lowest, self.state_bytes(), moved.double().mean(1).tolist(), (~moved.any(0)).double().mean().item(), both / either,
            self.model, self.stream.note, self.curves,
        )  # fmt: skip

    def _task_of(self, step: int) -> int:
        """How many tasks have begun at a step; all of them where they are trained together."""
        if self.method == "joint":
            return len(self.stream.tasks)
        k, end, samples = self.knobs, 0, 0
        for number, task in enumerate(self.stream.tasks):
            samples = len(task.x_train) + (samples if self.method == "cumulative" else 0)
            end += k["passes"] * -(-samples // k["batch"])
            if step <= end:
                return number + 1
        return len(self.stream.tasks)


def optimizer_of(name: str, model: nn.Module, k: dict[str, Any]) -> torch.optim.Optimizer:
    """An optimizer by name, with the knobs that it has."""
    weights, lr = list(trained(model).values()), k["lr"]
    if name == "classp":
        first = k["first_lr"]
        return CLASSP(
            trained(model).items(),
            lr if first is None else first,
            k["power"],
            k["threshold"],
            k["eps"],
            first is None,
            k["mode"],
        )
    make = {
        "sgd": lambda: torch.optim.SGD(weights, lr),
        "adam": lambda: torch.optim.Adam(weights, lr),
        "adagrad": lambda: torch.optim.Adagrad(weights, lr, initial_accumulator_value=k["eps"], eps=0),
        "upgd": lambda: UPGD(weights, lr),
    }
    return make[name]()


def together(tasks: Sequence[Task]) -> Task:
    """Tasks as one."""
    parts = [torch.cat([task[i] for task in tasks]) for i in range(1, 7)]
    return Task("together", *parts, torch.cat([task.classes for task in tasks]).unique())


def masked(logits: Tensor, classes: Tensor) -> Tensor:
    """Only these answers count."""
    if len(classes) == logits.shape[1]:
        return logits
    if len(classes) and int(classes.max()) >= logits.shape[1]:
        raise ValueError(f"label {int(classes.max())}: the model has outputs for 0 to {logits.shape[1] - 1}")
    out = torch.full_like(logits, float("-inf"))
    out[:, classes] = logits[:, classes]
    return out


def flat(model: nn.Module) -> Tensor:
    """All weights that are trained, in one row."""
    return torch.cat([p.detach().flatten() for p in trained(model).values()])


def tensors(found: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and dicts."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        yield from tensors(list(found.values()))
    elif isinstance(found, (list, tuple)):
        for each in found:
            yield from tensors(each)
