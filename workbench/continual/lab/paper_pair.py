"""The paper's vision experiment at its full size: MNIST, then Fashion-MNIST, with the network of the author's program.

As in that program, training makes by default four passes over MNIST and one over Fashion-MNIST, in batches of 32, and pixels are
normalised by the mean and standard deviation of MNIST. The comparison `paper-choice` chooses the settings, by default on 8,000
images of each set. The comparison `paper-pair` uses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure

from workbench import papers, runs
from workbench.comparison import Point, Setting, candidates, comparison, fit
from workbench.continual.config import inputs
from workbench.continual.lab.colours import ACCURACY, COLOURS, NOTE, STYLE
from workbench.continual.lab.fits import FitConfig, StudyConfig, record_of
from workbench.continual.learner import Learner
from workbench.continual.nets import PaperNet, trained
from workbench.continual.penalties import EWC
from workbench.continual.streams import Stream, Task, masked
from workbench.experiment import Record, get
from workbench.intervals import judging_rows
from workbench.knobs import KnobError, knob, vary
from workbench.measures import Measure, Panel, places, rows, sentence
from workbench.plotting import figure, finish, published
from workbench.runs import Run
from workbench.training import Batches, mixed

MEAN, DEVIATION = 0.1307, 0.3081  # mean and standard deviation of the pixels of MNIST, used for both sets
# In the author's program, lambda is 5000 and the penalty has no factor 1/2. Our penalty has it, so the strength is doubled.
SCRIPTED = {"lr": 0.25, "strength": 10_000.0}


class PaperConfig(FitConfig):
    """The knobs of one fit on both image sets with the paper's network."""

    title: ClassVar[str] = "pair"
    first_passes: int = knob(4, "passes over MNIST", "Number of passes over MNIST, the first task.", low=1, high=20)
    tested: int = knob(
        10_000,
        "test samples",
        "Largest number of test samples per set. With more samples, the measured accuracy is more precise, but tests take "
        "longer.",
        low=50, high=10_000, log=True,
    )  # fmt: skip
    scripted: bool = knob(
        False,
        "EWC as scripted",
        "Compute the penalty of EWC with the weights and the Fisher information of another network, as in the author's program.",
    )


@fit("continual/paper-net", version=1, inputs=inputs)
def on_pair(config: PaperConfig, run: Run) -> Record:
    """Train one method on both image sets. An interrupted fit resumes from its saved state."""
    stream = config.loaded()
    stream = Stream(stream.name, tuple(_normalised(task, config.tested) for task in stream.tasks), stream.outputs)
    learner = config.watched(stream, first_passes=config.first_passes)
    if config.scripted:
        learner.use(scripted(learner, stream, config))
    state = run.load()
    if state is not None:
        learner.load_state_dict(state)
    return record_of(learner, run) | published_accuracy(learner, stream)


def _normalised(task: Task, most: int) -> Task:
    x_train, x_validation, x_test = ((x - MEAN) / DEVIATION for x in (task.x_train, task.x_validation[:most], task.x_test[:most]))
    y_validation, y_test = task.y_validation[:most], task.y_test[:most]
    return Task(task.name, x_train, task.y_train, x_validation, y_validation, x_test, y_test, task.classes)


def published_accuracy(learner: Learner, stream: Stream, most: int = 10_000) -> Record:
    """Return the accuracy on each set as the author's program measures it: on training images, with dropout active.

    Only the first `most` training images of each set are used.
    """
    learner.model.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        said = [torch.cat([learner.model(x).argmax(1) for x in t.x_train[:most].split(1000)]) for t in stream.tasks]
    return {"published": [(y == t.y_train[:most]).double().mean() for y, t in zip(said, stream.tasks, strict=True)]}


class Scripted(EWC):
    """EWC as in the author's program: from the second pass on, a penalty pulls the weights towards those of another network.

    The penalty on each weight is multiplied by the Fisher information of that other network.
    """

    def __init__(self, model: torch.nn.Module, strength: float, other: list, after: int):
        super().__init__(model, strength, online=True)
        self.terms, self.after, self.seen = other, after, 0

    def before_step(self) -> None:  # noqa: D102
        self.seen += 1
        if self.seen > self.after:
            super().before_step()

    def end_task(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Do nothing, since the anchor is fixed from the start."""

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {**super().state_dict(), "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        super().load_state_dict(state)
        self.seen = state["seen"]


def scripted(learner: Learner, stream: Stream, config: PaperConfig) -> Scripted:
    """Train another network for one pass, and return EWC with the weights of that network as the anchor.

    The Fisher information is the sum of the squared batch gradients of that pass, divided by the number of samples.
    """
    task = stream.tasks[0]
    other = PaperNet(config.seed + 1_000_003, stream.outputs)
    optimizer = torch.optim.SGD(other.parameters(), config.lr)
    batches = Batches(len(task.x_train), config.batch, mixed(config.seed, 99))
    fisher = {name: torch.zeros_like(p) for name, p in trained(other).items()}
    with torch.random.fork_rng(devices=[]):
        for step in range(len(batches)):
            torch.manual_seed(mixed(config.seed + 1, step))
            rows = batches(step)
            optimizer.zero_grad()
            logits = masked(other(task.x_train[rows]), task.classes)
            torch.nn.functional.cross_entropy(logits, task.y_train[rows]).backward()
            for name, p in trained(other).items():
                fisher[name] += p.grad.square()
            optimizer.step()
    term = {name: (fisher[name] / len(task.x_train), p.detach().clone()) for name, p in trained(other).items()}
    return Scripted(learner.model, config.strength, [term], len(batches))


# -- the comparisons -----------------------------------------------------------------------------------------------------------

PAIR = {"stream": "mnist-fashion", "network": "paper"}
CLASSP = candidates(lr=(0.003, 0.01, 0.03), threshold=(0.0, 1e-7))
CHOICE: dict[str, tuple[dict[str, Any], list[Setting]]] = {
    "classp": ({"method": "classp", "first_lr": 0.1}, CLASSP),
    "classp, published": (
        {"method": "classp", "first_lr": 0.1, "mode": "repo"}, candidates(lr=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)),
    ),
    "sgd": ({"method": "sgd", "first_lr": 0.0}, candidates(lr=(0.003, 0.01, 0.02, 0.05, 0.1, 0.2))),
    "sgd-cut": ({"method": "sgd", "first_lr": 0.1}, candidates(lr=(0.0003, 0.001, 0.003, 0.005, 0.01, 0.03))),
    "ewc-online": (
        {"method": "ewc-online", "first_lr": 0.1, "estimator": "empirical"},
        candidates(lr=(0.01, 0.03), strength=(300.0, 1000.0, 3000.0)),
    ),
}  # fmt: skip
KNOBS = ("stream", "network", "method", "lr", "first_lr", "threshold", "mode", "strength", "estimator", "scripted", "power")


def draw_pair(records: Sequence[Record]) -> Figure:
    """Draw the final accuracy of each method on each set.

    Hollow marks show the accuracy that the author's program would print.
    """
    labels = places(records, "label")
    judged = [r for r in judging_rows(records) if "matrix" in r]
    ends = [{**r, "MNIST": r["matrix"][-1][0], "Fashion-MNIST": r["matrix"][-1][1]} for r in judged]
    panels = [Panel(name, Measure(name, "final accuracy (%)", 100)) for name in ("MNIST", "Fashion-MNIST")]
    with figure() as fig:
        for number, axes in enumerate(rows(fig, ends, panels, STYLE, labels)):
            for label in labels:
                printed = [100 * r["published"][number] for r in judged if r["label"] == label]
                if printed:
                    published(axes, [np.mean(printed)], [labels.index(label)], COLOURS[label])
        found = [(ACCURACY.lead(records, "classp", over), words) for over, words in OVER.items()]
        title = sentence("CLASSP on MNIST, then Fashion-MNIST, in points: ", found, "The paper's vision experiment", "{} over {}")
        note = "hollow: accuracy on training images with dropout active, as the author's program measures it"
        return finish(fig, title, f"{NOTE.of(records)}; {note}")


OVER = {"sgd-cut": "SGD with a lower rate", "ewc-online": "EWC", "ewc, as scripted": "EWC as scripted"}
OWN_SIZE = "use the scale laptop: with it, this comparison has its full size"
SMALL = {"samples": 64, "seeds": 1, "looks": 1, "first_passes": 1, "tested": 100}


class ChoiceConfig(StudyConfig, PaperConfig):
    """The knobs of the comparison that chooses the settings for `paper-pair` on fewer images."""

    samples: int = vary(
        StudyConfig.model_fields["samples"], 8000, label="samples per set", help="Largest number of training images of each set."
    )
    budget: int = vary(StudyConfig.model_fields["budget"], 6, high=6)


@comparison(
    "continual/paper-choice",
    version=2,
    fit=on_pair,
    figure=draw_pair,
    presets={"smoke": {**SMALL, "choosing": 1, "budget": 1}, "laptop": {"data": "full", "tested": 2000}, "paper": OWN_SIZE},
    swept=(*KNOBS, "streams"),
    paper="the vision experiment with the paper's network, by default on 8,000 images of each set. It chooses the settings of "
    "paper-pair",
)
def paper_choice(config: ChoiceConfig) -> Iterator[Point]:
    """Choose the setting of each method with the paper's network, by default on 8,000 images of each set."""
    for label, (knobs, settings) in CHOICE.items():
        yield Point(label, {"stream": PAIR["stream"]}, {**PAIR, **knobs}, config.settings(settings))


class PairConfig(StudyConfig, PaperConfig):
    """The knobs of the comparison of methods, by default on all images of both sets."""

    samples: int = vary(
        StudyConfig.model_fields["samples"],
        60_000,
        label="samples per set",
        help="Largest number of training images of each set.",
    )


@comparison(
    "continual/paper-pair",
    version=2,
    fit=on_pair,
    figure=draw_pair,
    presets={"smoke": SMALL, "laptop": {"data": "full"}, "paper": OWN_SIZE},
    swept=(*KNOBS, "streams", "budget", "choosing"),
    paper="MNIST, then Fashion-MNIST: the paper's vision experiment",
)
def paper_pair(config: PairConfig) -> Iterator[Point]:
    """Compare methods on the paper's vision experiment at its full size, with the settings that `paper-choice` chose.

    EWC is also run as in the author's program.
    """
    settings = chosen_settings() if config.samples >= 8000 else {}
    for label, (knobs, every) in CHOICE.items():
        setting = settings.get(label, every[len(every) // 2])
        yield Point(label, {"stream": PAIR["stream"]}, {**PAIR, **knobs}, [setting])
    scripted = {**PAIR, "method": "ewc-online", "first_lr": 0.0, "scripted": True, **SCRIPTED}
    yield Point("ewc, as scripted", {"stream": PAIR["stream"]}, scripted)


def chosen_settings() -> dict[str, Setting]:
    """Return the setting that `paper-choice` chose for each method.

    The settings are read from the user's run of `paper-choice` at the scale laptop. If there is no such run, they are read from
    the reference records. Raises KnobError if these do not exist either.
    """
    choice = get("continual/paper-choice")
    records = runs.find(choice, choice.config.at("laptop")) or papers.reference_records(choice.name)
    if records is None:
        raise KnobError("no settings have been chosen yet; run: workbench run continual/paper-choice --scale laptop")
    names = {label: list(settings[0]) for label, (_, settings) in CHOICE.items()}
    return {r["label"]: {name: r[name] for name in names[r["label"]]} for r in judging_rows(records)}
