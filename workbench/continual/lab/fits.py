"""What comparisons fit: one method on one stream; and the settings that each method may choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from workbench.comparison import ComparisonConfig, Point, Setting, candidates, fit
from workbench.continual.config import ContinualConfig, inputs
from workbench.continual.learner import Learner
from workbench.continual.streams import Stream
from workbench.experiment import Record
from workbench.knobs import knob, vary
from workbench.runs import Run


class FitConfig(ContinualConfig):
    """One method on one stream, looked at on the way."""

    title: ClassVar[str] = "looks"
    looks: int = knob(20, "looks", "on the way, about", low=1, high=1000)

    def watched(self, stream: Stream, **more: Any) -> Learner:
        """A fit of this config that is looked at about so many times; `more` are further knobs of `learner.fit`."""
        learner = self.learner(1, stream, **more)
        learner.knobs["watch"] = max(1, learner.steps // self.looks)
        return learner


@fit("continual/stream", version=1, inputs=inputs)
def on_stream(config: FitConfig, run: Run) -> Record:
    """One method on one stream: the matrix and its numbers, what was seen on the way, what is kept, what moved."""
    return record_of(config.watched(config.loaded()))


def record_of(learner: Learner, run: Run | None = None) -> Record:
    """Train to the end; what was measured. With `run` a long fit keeps its state now and then."""
    for _ in learner.run():
        if run is not None and learner.training.due():
            run.save(learner.state_dict())
    found, tasks = learner.result(), learner.stream.tasks
    others = ~torch.eye(len(found.overlap), dtype=torch.bool)
    return {
        **found.metrics,
        "validation": found.validation,
        "matrix": found.matrix,
        "names": [task.name for task in tasks],
        "counts": [len(task.x_train) for task in tasks],
        "old": found.matrix[-1, :-1].mean(),  # accuracy in the end on all tasks but the last
        "new": found.matrix[-1, -1],
        "online": found.online,
        "anytime": found.anytime,
        "lowest": found.lowest[:-1].mean(),
        "state_bytes": found.state_bytes,
        "parameters": sum(p.numel() for p in learner.model.parameters()),
        "moved": sum(found.moved) / len(found.moved),
        "never_moved": found.never_moved,
        "overlap": found.overlap[others].mean() if others.any() else None,
    }


# -- what each method may choose from: sixteen settings each at full budget ---------------------------------------------------

RATES = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1.0)
SMALL_RATES = (5e-6, 1e-5, 2e-5, 3e-5, 5e-5, 7e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 2e-3, 5e-3, 1e-2)
SQUARE_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.1)
FULL: dict[str, list[Setting]] = {
    "sgd": candidates(lr=RATES),
    "sgd-cut": candidates(lr=(0.1, 0.2, 0.3, 0.5), cut=(0.03, 0.1, 0.2, 0.4)),
    "adam": candidates(lr=SMALL_RATES),
    "adagrad": candidates(first_lr=(0.0, 0.1), lr=SQUARE_RATES),
    "adagrad-reset": candidates(lr=[rate / 10 for rate in RATES]),
    "upgd": candidates(lr=RATES),
    "classp": candidates(first_lr=(0.0, 0.1), power=(1.0, 2.0), lr=(0.001, 0.003, 0.01, 0.03)),
    "ewc": candidates(lr=(0.003, 0.01, 0.03, 0.1), strength=(30.0, 100.0, 300.0, 1000.0)),
    "ewc-online": candidates(lr=(0.003, 0.01, 0.03, 0.1), strength=(30.0, 100.0, 300.0, 1000.0)),
    "l2": candidates(lr=(0.01, 0.03, 0.1, 0.3), strength=(0.3, 1.0, 3.0, 10.0)),
    "si": candidates(lr=(0.003, 0.01, 0.03, 0.1), strength=(30.0, 100.0, 300.0, 1000.0)),
    "mas": candidates(lr=(0.003, 0.01, 0.03, 0.1), strength=(10.0, 30.0, 100.0, 300.0)),
    "lwf": candidates(lr=(0.003, 0.01, 0.03, 0.1), strength=(1.0, 3.0, 10.0, 30.0)),
    "replay": candidates(lr=RATES),
    "a-gem": candidates(lr=RATES),
    "joint": candidates(lr=RATES),
    "cumulative": candidates(lr=RATES),
}
# where one set follows another: moved to where the best lay at an end of the above
PAIRS: dict[str, list[Setting]] = {
    "sgd-cut": candidates(lr=(0.2, 0.3, 0.5, 1.0), cut=(0.01, 0.03, 0.1, 0.2)),
    "classp": candidates(first_lr=(0.0, 0.1), power=(1.0, 2.0), lr=(0.003, 0.01, 0.03, 0.1)),
    "ewc": candidates(lr=(0.03, 0.1, 0.3, 1.0), strength=(3.0, 10.0, 30.0, 100.0)),
    "ewc-online": candidates(lr=(0.03, 0.1, 0.3, 1.0), strength=(3.0, 10.0, 30.0, 100.0)),
    "l2": candidates(lr=(0.03, 0.1, 0.3, 0.5), strength=(0.03, 0.1, 0.3, 1.0)),
    "si": candidates(lr=(0.03, 0.1, 0.3, 1.0), strength=(0.01, 0.1, 1.0, 10.0)),
    "mas": candidates(lr=(0.03, 0.1, 0.3, 1.0), strength=(0.03, 0.1, 0.3, 1.0)),
    "lwf": candidates(lr=(0.01, 0.03, 0.1, 0.3), strength=(0.3, 1.0, 3.0, 10.0)),
}
STREAMS = ("split-fashion", "mnist-fashion", "fashion-mnist")
# sentences
WORDS: dict[str, list[Setting]] = {"ewc-online": candidates(lr=(0.01, 0.03, 0.1, 0.3), strength=(10.0, 30.0, 100.0, 300.0))}
PLAIN = {"first_lr": 0.0}  # one rate throughout, unless the method has a schedule of its own


class StudyConfig(ComparisonConfig, FitConfig):
    """Methods on streams: some seeds choose each one's rate and strength on validation samples, fresh ones judge."""

    title: ClassVar[str] = "budget"
    choosing: int = vary(ComparisonConfig.model_fields["choosing"], 3)
    budget: int = knob(16, "settings tried", "for each method", low=1, high=16, essential=True)
    streams: tuple[str, ...] = knob(
        STREAMS, "streams", "gone through", choices=(STREAMS, ("split-fashion",), ("mnist-fashion",)), essential=True
    )

    def settings(self, every: Sequence[Setting]) -> list[Setting]:
        """As many of a method's settings as the budget allows, from the middle of each stretch of them."""
        count = min(self.budget, len(every))
        return [every[(2 * k + 1) * len(every) // (2 * count)] for k in range(count)]

    def point(self, method: str, at: dict[str, Any], label: str = "", **knobs: Any) -> Point:
        """A method at one place, choosing from its settings."""
        knobs = {**PLAIN, "method": method, **knobs}
        every = PAIRS.get(method, FULL[method]) if knobs["stream"] in STREAMS[1:] else FULL[method]
        return Point(label or method, at, knobs, self.settings(every))

    def place(self, stream: str) -> dict[str, Any]:
        """The knobs of one stream: a set of ten classes has 8/3 of the samples of a task of two (8,000 to 3,000)."""
        return {"stream": stream, "samples": 8 * self.samples // 3 if stream in STREAMS[1:] else self.samples}


JUDGED = {"samples": 200, "hidden": (30,), "seeds": 2, "choosing": 1, "budget": 2, "looks": 4}
LAPTOP = {"samples": 3000, "data": "full"}
NO_PAPER = "the paper's size is one comparison of its own: workbench run continual/paper-pair --scale laptop"
SCALES = {"smoke": JUDGED, "laptop": LAPTOP, "paper": NO_PAPER}
