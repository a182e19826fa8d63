"""The fits of the comparisons, and the settings that are tried for each method. Each fit trains one method on one stream."""

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
    """The knobs of one fit of a comparison."""

    title: ClassVar[str] = "evaluation"
    looks: int = knob(
        20, "evaluations", "Approximate number of evaluations during training. More evaluations take longer.", low=1, high=1000
    )

    def watched(self, stream: Stream, **more: Any) -> Learner:
        """Return a learner for this config that measures the test accuracies about `looks` times during training.

        `more` holds further knobs of `learner.fit`.
        """
        learner = self.learner(1, stream, **more)
        learner.knobs["watch"] = max(1, learner.steps // self.looks)
        return learner


@fit("continual/stream", version=1, inputs=inputs)
def on_stream(config: FitConfig, run: Run) -> Record:
    """Train one method on one stream and return the measurements.

    The measurements include the accuracy matrix and its metrics, the accuracy during training, the number of bytes that the
    method stores, and the share of the weights that a task changes.
    """
    return record_of(config.watched(config.loaded()))


def record_of(learner: Learner, run: Run | None = None) -> Record:
    """Train to the end and return the measurements. If `run` is given, a long fit saves its state from time to time."""
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
        "old": found.matrix[-1, :-1].mean(),  # final accuracy on all tasks but the last
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


# -- the settings that are tried for each method: sixteen at full budget --------------------------------------------------------

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
# Settings for streams of two image sets, one after the other. They replace the settings in `FULL`, the best of which had the
# smallest or the largest value tried.
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
# Settings for streams of sentences. For all other methods, the settings in `FULL` are used.
WORDS: dict[str, list[Setting]] = {"ewc-online": candidates(lr=(0.01, 0.03, 0.1, 0.3), strength=(10.0, 30.0, 100.0, 300.0))}
PLAIN = {"first_lr": 0.0}  # 0: the same learning rate on all tasks, unless the method has its own schedule


class StudyConfig(ComparisonConfig, FitConfig):
    """The knobs of a comparison.

    The setting of each method is chosen on validation samples with some seeds. Its test accuracy is measured with other seeds.
    """

    title: ClassVar[str] = "budget"
    choosing: int = vary(ComparisonConfig.model_fields["choosing"], 3)
    budget: int = knob(
        16,
        "settings tried",
        "Number of settings tried for each method. More settings take longer.",
        low=1,
        high=16,
        essential=True,
    )
    streams: tuple[str, ...] = knob(
        STREAMS,
        "streams",
        "The streams on which the methods are compared.",
        choices=(STREAMS, ("split-fashion",), ("mnist-fashion",)),
        essential=True,
    )

    def settings(self, every: Sequence[Setting]) -> list[Setting]:
        """Return as many of the settings in `every` as the budget allows, evenly spaced."""
        count = min(self.budget, len(every))
        return [every[(2 * k + 1) * len(every) // (2 * count)] for k in range(count)]

    def point(self, method: str, at: dict[str, Any], label: str = "", **knobs: Any) -> Point:
        """Return the point of one method in the comparison, with the settings that are tried for the method.

        `at` holds the columns that identify the point in the figure, such as the stream. `label` replaces the name of the method.
        `knobs` holds further knobs of the fit, including the stream.
        """
        knobs = {**PLAIN, "method": method, **knobs}
        every = PAIRS.get(method, FULL[method]) if knobs["stream"] in STREAMS[1:] else FULL[method]
        return Point(label or method, at, knobs, self.settings(every))

    def place(self, stream: str) -> dict[str, Any]:
        """Return the knobs that depend on the stream: the stream itself, and the number of samples per task.

        A task of ten classes has 8/3 times as many samples as a task of two classes, for example 8,000 instead of 3,000.
        """
        return {"stream": stream, "samples": 8 * self.samples // 3 if stream in STREAMS[1:] else self.samples}


JUDGED = {"samples": 200, "hidden": (30,), "seeds": 2, "choosing": 1, "budget": 2, "looks": 4}
LAPTOP = {"samples": 3000, "data": "full"}
NO_PAPER = "another comparison has the paper's size; run: workbench run continual/paper-pair --scale laptop"
SCALES = {"smoke": JUDGED, "laptop": LAPTOP, "paper": NO_PAPER}
