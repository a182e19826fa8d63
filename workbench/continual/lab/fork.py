"""A fork at a task boundary: SGD learns task 1 once, and several branches continue from there with different methods."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import torch
from pydantic import model_validator
from torch import nn

from workbench.continual.config import ContinualConfig, StreamConfig
from workbench.continual.folder import EXAMPLE
from workbench.continual.lab.fits import NO_PAPER
from workbench.continual.learner import FIRST_LR, Learner
from workbench.continual.memory import MEMORY
from workbench.continual.methods import METHODS
from workbench.continual.nets import trained
from workbench.continual.penalties import SI, STRENGTH
from workbench.continual.rival import Rival
from workbench.continual.rule import POWER, THRESHOLD
from workbench.knobs import knob, vary
from workbench.training import TrainingError

OF_IMAGES = ("mnist-fashion", "fashion-mnist", "split-fashion", "split-mnist", "permuted", "rotated")
FORKED = tuple(name for name in METHODS if name not in ("sgd-cut", "joint", "cumulative", "adagrad-reset"))


BRANCHES = (
    ("sgd@0.1", "sgd@0.01", "classp@0.003", "ewc-online@0.1", "replay@0.1"),
    ("sgd@0.1", "sgd@0.03", "sgd@0.01", "sgd@0.003"),
    ("classp@0.001", "classp@0.003", "classp@0.01", "classp@0.03"),
    ("classp@0.003", "adagrad@0.003", "sgd@0.01", "adam@0.0003"),
    ("sgd@0.03", "ewc-online@0.03", "l2@0.03", "si@0.03", "mas@0.03"),
)
# The best learning rates in the reference comparison (MNIST first). SGD with rate cut has 0.009 after task 1.
BEST = ("sgd@0.07", "sgd@0.009", "classp@0.03", "replay@0.2")


EVERY = knob(
    10, "evaluate every", "Steps between two evaluations. Smaller values give finer curves but take longer.", low=1, high=1000,
    unit="steps",
)  # fmt: skip


class ForkConfig(StreamConfig):
    """The knobs of a fork: task 1 is learnt once by SGD, then several methods learn the rest of the stream side by side."""

    title: ClassVar[str] = "branches"
    stream: str = vary(
        StreamConfig.model_fields["stream"], "mnist-fashion", choices=OF_IMAGES,
        help="The sequence of tasks. All branches share task 1 and then learn the other tasks. You can also give the path of a "
        f"folder with your own tasks: one CSV file for each task, with the class in the column label. Example: {EXAMPLE}",
    )  # fmt: skip
    first_lr: float = vary(
        FIRST_LR, help="Learning rate of SGD on task 1, which all branches share.", low=0.001, step=None, log=True, when=None
    )
    branches: tuple[str, ...] = knob(
        BRANCHES[0],
        "branches",
        "One to six branches. METHOD@RATE is a branch that continues after task 1 with this method at this learning rate.",
        essential=True,
        free=True,
        choices=BRANCHES,
    )
    power: float = vary(
        POWER, help="CLASSP accumulates a sum S of |gradient|^p for each weight, and divides its steps by the p-th root of S. "
        "p = 2 with threshold 0 is AdaGrad.", when=None,
    )  # fmt: skip
    threshold: float = vary(
        THRESHOLD, help="With CLASSP, a weight moves only if its squared gradient is above the threshold. 0 moves every weight.",
        choices=(), essential=False, when=None,
    )  # fmt: skip
    strength: float = vary(
        STRENGTH, 10.0, help="Factor of the penalty of EWC, L2, SI, MAS and LwF. A large value reduces forgetting, but also "
        "learning.", when=None,
    )  # fmt: skip
    memory: int = vary(MEMORY, help="Number of samples that replay and A-GEM store.", unit="", when=None)
    every: int = EVERY
    offered = OF_IMAGES
    presets = {
        "smoke": {"samples": 4000, "every": 10, "branches": BEST},
        "laptop": {"samples": 8000, "every": 10},
        "paper": NO_PAPER,
    }

    @model_validator(mode="after")
    def _branches_can_be_read(self) -> Self:
        Branches.read(self.branches)
        return self


class Watching(Rival):
    """An observer of the steps of SGD on task 1. It records the sums of |gradient|^p and the state of SI for the branches."""

    def __init__(self, model: nn.Module, powers: Sequence[float]):
        self.model, self.si = model, SI(model, 0.0)
        self.sums = {power: [torch.zeros_like(p) for p in trained(model).values()] for power in powers}

    def before_step(self) -> None:  # noqa: D102
        for power, sums in self.sums.items():
            for total, p in zip(sums, trained(self.model).values(), strict=True):
                total += p.grad.abs() ** power
        self.si.before_step()

    def after_step(self) -> None:  # noqa: D102
        self.si.after_step()


class Branches:
    """The branches of a fork. Each is named METHOD@RATE, and is a learner that continues from the end of task 1."""

    def __init__(self, config: ForkConfig):
        self.config = config
        self.stream = config.loaded()
        self.failed: dict[str, str] = {}  # error message of each branch whose training failed
        self.trunk = self._learner("sgd", config.first_lr)
        self.border = config.passes * -(-len(self.stream.tasks[0].x_train) // config.batch)
        self.watching = Watching(self.trunk.model, sorted({config.power, 2.0}))
        self.trunk.use(self.watching)

    @staticmethod
    def read(names: Sequence[str]) -> dict[str, tuple[str, float]]:
        """Return the method and the learning rate of each branch. Raises ValueError if a name is not valid."""
        found = {}
        for name in names:
            method, _, rate = name.partition("@")
            try:
                number = float(rate)
            except ValueError:
                number = -1.0
            if method not in FORKED or not 0 < number < float("inf"):
                raise ValueError(
                    f"branches: {name!r} is not METHOD@RATE; expected one of the methods {', '.join(FORKED)} and a "
                    "positive learning rate, as in classp@0.003"
                )
            found[name] = method, number
        if not 1 <= len(found) == len(names) <= 6:
            raise ValueError(f"branches: found {', '.join(names) or 'none'}; expected one to six different branches")
        return found

    @classmethod
    def looks(cls, config: ForkConfig) -> int:
        """Return the number of evaluations of each branch, including the one at the end of task 1."""
        branches = cls(config)
        end, every = branches.trunk.steps, config.every
        return 1 + end // every - branches.border // every + (end % every > 0)

    def _learner(self, method: str, rate: float) -> Learner:
        knobs = {name: value for name, value in self.config.model_dump().items() if name in ContinualConfig.model_fields}
        made = ContinualConfig(**{**knobs, "method": method, "lr": rate, "first_lr": self.config.first_lr})
        return made.learner(0, self.stream)

    def go(self) -> Iterator[dict[str, Learner]]:
        """Learn task 1, then train all branches step by step. Yields the branches at the end of task 1 and at each evaluation."""
        steps = self.trunk.run()
        for _ in range(self.border):
            next(steps)
        branches = {name: self._branch(*how) for name, how in self.read(self.config.branches).items()}
        yield branches
        running = {name: learner.run() for name, learner in branches.items()}
        for step in range(self.border + 1, self.trunk.steps + 1):
            for name, one in [*running.items()]:
                try:
                    next(one)
                except TrainingError as error:  # the other branches continue
                    self.failed[name] = str(error)
                    del running[name]
            if step % self.config.every == 0 or step == self.trunk.steps:
                yield branches

    def _branch(self, method: str, rate: float) -> Learner:
        """Return a learner that continues from the current state of the trunk, which is the learner of task 1.

        The sums of CLASSP and AdaGrad, the state of SI and the buffer of replay are filled as if the method had learnt task 1.
        """
        learner = self._learner(method, rate)
        state, trunk = learner.state_dict(), copy.deepcopy(self.trunk.state_dict())
        own, common = state["training"], trunk.pop("training")
        own |= {"done": common["done"], "model": common["model"]}
        optimizer, power = own["optimizer"], 2.0 if method == "adagrad" else self.config.power
        if method in ("classp", "adagrad"):
            optimizer["state"] = {n: {"sum": total.clone()} for n, total in enumerate(self.watching.sums[power])}
        if method == "si":
            own["kept"]["rival"] |= copy.deepcopy({k: getattr(self.watching.si, k) for k in ("omega", "start")})
        learner.load_state_dict({**trunk, "training": own})
        if method == "replay":
            task = self.stream.tasks[0]
            learner.rival.remember(task.x_train, task.y_train)
        return learner
