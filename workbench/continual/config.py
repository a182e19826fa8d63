"""Configs of the continual-learning experiments, with the knobs of the stream, the network, the method and CLASSP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator
from torch import nn

from workbench import datasets
from workbench.continual import folder, sentences, streams
from workbench.continual.fishers import ESTIMATORS
from workbench.continual.learner import BATCH, BLEND, CUT, DECLARED, FIRST_LR, LR, ONE_RATE, PASSES, RESET, SEED, Learner
from workbench.continual.memory import MEMORIES, MEMORY
from workbench.continual.methods import MEANINGS, METHODS, OPTIMIZERS
from workbench.continual.nets import HIDDEN, PaperNet, SentimentNet
from workbench.continual.penalties import ESTIMATOR, PULLS, STRENGTH
from workbench.continual.rule import CAP, EPS, MODE, ORDER, POWER, THRESHOLD
from workbench.knobs import Config, knob

PICTURES = {
    "split-fashion": ("split", "fashion-mnist"),
    "split-mnist": ("split", "mnist"),
    "permuted": ("permuted", "mnist"),
    "rotated": ("rotated", "mnist"),
    "mnist-fashion": ("sequence", "mnist", "fashion-mnist"),
    "fashion-mnist": ("sequence", "fashion-mnist", "mnist"),
}
TEXTS = ("vader", "news-films")
STREAMS = (*PICTURES, *TEXTS)
OF_PICTURES = (lambda c: c.stream in PICTURES, "only the built-in image streams use it")
OF_TEXTS = (lambda c: c.stream in TEXTS, "only text streams use it")
SEVERAL = (
    lambda c: c.stream in ("split-fashion", "split-mnist", "permuted", "rotated"),
    "the number of tasks in this stream is fixed",
)


class StreamConfig(Config):
    """The knobs of a stream of tasks, and of the network that learns the stream."""

    title: ClassVar[str] = "stream"
    stream: str = knob(
        "split-fashion", "stream", "The sequence of tasks. split: each task has different classes of Fashion-MNIST or MNIST. "
        "permuted: each task has a different order of the pixels. rotated: each task has a different rotation of the digits. "
        "mnist-fashion, fashion-mnist: one image set after the other. vader: four text domains, from tweets to editorials. "
        "news-films: financial news, then film reviews (you must provide the data files). You can also give the path of a "
        "folder with your own tasks. It must contain one CSV file for each task. Each row is a sample, all columns hold "
        "numbers, and the column label holds the class 0, 1, 2, ... A file NAME_test.csv holds the test samples of NAME.csv. "
        "Example: " + folder.EXAMPLE,
        essential=True, free=True, choices=STREAMS,
    )  # fmt: skip
    data: Literal["10k", "full"] = knob(
        "10k", "image set size", "10k: the first 10,000 images of each set, which are bundled. full: all 70,000 images.",
        when=OF_PICTURES,
    )  # fmt: skip
    features: Literal["words", "minilm", "numbered"] = knob(
        "words",
        "sentence features",
        "How a sentence becomes the input of the network. words: a bag of hashed words. minilm: the sentence embedding of "
        "MiniLM. numbered: one number per word, for the network of the paper.",
        when=OF_TEXTS,
    )
    labels: Literal["corrected", "published"] = knob(
        "corrected",
        "film review labels",
        "corrected: positive reviews have the label of positive news. published: positive reviews have the label of neutral "
        "news, as in the published program.",
        when=(lambda c: c.stream == "news-films", "only the stream news-films has a neutral class"),
    )
    scenario: Literal["domain", "task", "class"] = knob(
        "domain", "scenario", "domain: all tasks share the same labels. task: each task has its own classes, and the task number "
        "of each sample is known. class: each task has its own classes, and the task number is not known.",
        when=(lambda c: c.is_own or c.stream.startswith("split"), "only split streams and your own tasks have other scenarios"),
    )  # fmt: skip
    tasks: int = knob(5, "number of tasks", "Number of tasks that are learnt one after another.", low=2, high=20, when=SEVERAL)
    samples: int = knob(
        1000, "samples per task", "Largest number of training samples of each task. More samples take longer.",
        low=50, high=60_000, log=True,
    )  # fmt: skip
    blend: float = BLEND
    network: Literal["perceptron", "paper"] = knob(
        "perceptron", "network", "perceptron: a multilayer perceptron. paper: the network of the author's program, with two "
        "convolutions (1.2 million weights) for images, or one transformer layer for sentences.",
    )  # fmt: skip
    hidden: tuple[int, ...] = HIDDEN
    width: int = knob(
        60, "embedding width", "Size of the word embedding in the paper's sentence network. The published program uses 600.",
        low=6, high=600, step=6,
        when=(lambda c: c.network == "paper" and c.stream in TEXTS, "only the paper's sentence network uses it"),
    )  # fmt: skip
    batch: int = BATCH
    passes: int = PASSES
    seed: int = SEED

    offered: ClassVar[Sequence[str]] = STREAMS

    @property
    def is_own(self) -> bool:
        """True if the stream is a folder with the user's own tasks, that is, if it is not one of the streams in `offered`."""
        return self.stream not in self.offered

    def task_count(self) -> int:
        """Return the number of tasks of the stream."""
        if self.is_own:
            return len(folder.read(self.stream, self.scenario, self.offered).tasks)
        return self.tasks if SEVERAL[0](self) else 4 if self.stream == "vader" else 2

    @model_validator(mode="after")
    def _own_tasks_can_be_read(self) -> Self:
        if self.is_own:
            inputs = folder.read(self.stream, self.scenario, self.offered).tasks[0].x_train.shape[1]
            if self.network == "paper" and inputs != 28 * 28:
                raise ValueError(
                    f"network='paper': this network reads images of 784 pixels, but a sample in {self.stream} has {inputs} "
                    "numbers; expected network='perceptron'"
                )
        return self

    @model_validator(mode="after")
    def _network_can_read(self) -> Self:
        numbered = self.stream in TEXTS and self.features == "numbered"
        if self.stream in TEXTS and numbered != (self.network == "paper"):
            raise ValueError(
                f"features={self.features!r}: expected 'numbered' with network='paper', and 'words' or 'minilm' with "
                "network='perceptron'. Change one of the two knobs"
            )
        return self

    def loaded(self) -> streams.Stream:
        """Load and return the stream of tasks."""
        if self.is_own:
            return folder.load(self.stream, self.scenario, self.samples, self.seed)
        if self.stream == "vader":
            return sentences.vader(self.features, self.samples, self.seed)
        if self.stream == "news-films":
            return sentences.news_films(self.features, self.labels, self.samples, self.seed)
        kind, *data = PICTURES[self.stream]
        name = f"{kind}-{'+'.join(one + ('-10k' if self.data == '10k' else '') for one in data)}"
        return streams.load(name, self.scenario if kind == "split" else "domain", self.tasks, self.samples, self.seed)


# Version of the scenario "task", which is part of the identity of a run. From version 2 on, the outputs of other tasks
# are masked in every computation of a method, not only in the loss. Therefore, runs of versions 1 and 2 cannot be compared.
TASKS_TOLD = "scenario-task@2"


def inputs(config: StreamConfig) -> list[str]:
    """Return references (name and checksum) to the data sets and models from which the stream is built.

    In the scenario "task", `TASKS_TOLD` is added for split streams and for the user's own tasks.
    """
    if config.stream in TEXTS:
        return sentences.inputs(config.stream, config.features)
    told = [TASKS_TOLD] if config.scenario == "task" else []
    if config.is_own:
        return [folder.ref(config.stream), *told]
    kind, *names = PICTURES[config.stream]
    tail = "-10k" if config.data == "10k" else ""
    told = told if kind == "split" else []
    return [*(datasets.ref(name + tail) for name in names), *told]


class MethodConfig(StreamConfig):
    """The knobs of the learning method, its optimizer and its learning rates."""

    title: ClassVar[str] = "method"
    method: Literal[METHODS] = knob(
        "classp", "method", "How the network learns.\n" + "\n".join(f"{name}: {said}." for name, said in MEANINGS.items()),
        essential=True,
    )  # fmt: skip
    lr: float = LR
    first_lr: float = FIRST_LR
    cut: float = CUT
    optimizer: Literal[OPTIMIZERS] = knob(
        "sgd", "base optimizer", "The optimizer that takes the steps if the method is a penalty, a memory, joint or cumulative.",
        when=(lambda c: c.method in (*PULLS, *MEMORIES, "joint", "cumulative"), "this method is itself an optimizer"),
    )  # fmt: skip
    strength: float = STRENGTH
    estimator: Literal[ESTIMATORS] = ESTIMATOR
    memory: int = MEMORY
    reset: bool = RESET


class ContinualConfig(MethodConfig):
    """The knobs of one method that learns one stream."""

    title: ClassVar[str] = "CLASSP"
    power: float = POWER
    threshold: float = THRESHOLD
    eps: float = EPS
    mode: Literal["paper", "repo"] = MODE
    order: Literal["inclusive", "exclusive"] = ORDER
    cap: float = CAP

    def _paper_network(self, stream: streams.Stream) -> nn.Module:
        if self.stream not in TEXTS:
            return PaperNet(self.seed, stream.outputs)
        words = 1 + int(max(task.x_train.max() for task in stream.tasks))
        return SentimentNet(self.seed, words, self.width, outputs=stream.outputs)

    def learner(self, watch: int, stream: streams.Stream | None = None, **more: Any) -> Learner:
        """Return a `Learner` for this config that measures the test accuracies every `watch` steps (0: never).

        `stream` replaces the stream of the config. `more` holds further knobs of `learner.fit`, which have priority over the
        knobs of the config.
        """
        stream = stream or self.loaded()
        model = self._paper_network(stream) if self.network == "paper" else None
        knobs = {name: getattr(self, name) for name in DECLARED}
        if self.method in ONE_RATE:
            del knobs["first_lr"]
        return Learner(stream, self.method, self.optimizer, model, watch=watch, **{**knobs, **more})
