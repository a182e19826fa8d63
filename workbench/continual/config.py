"""The knobs of continual learning, declared once: the stream, the network, the method, CLASSP's own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator
from torch import nn

from workbench import datasets
from workbench.continual import sentences, streams
from workbench.continual.fishers import ESTIMATORS
from workbench.continual.learner import BATCH, BLEND, CUT, DECLARED, FIRST_LR, LR, ONE_RATE, PASSES, RESET, SEED, Learner
from workbench.continual.memory import MEMORIES, MEMORY
from workbench.continual.methods import METHODS, OPTIMIZERS
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
OF_PICTURES = (lambda c: c.stream not in TEXTS, "sentences are no pictures")
OF_TEXTS = (lambda c: c.stream in TEXTS, "only sentences have it")
SEVERAL = (lambda c: c.stream in ("split-fashion", "split-mnist", "permuted", "rotated"), "this stream has its own tasks")


class StreamConfig(Config):
    """A stream of tasks, and the network that learns it."""

    title: ClassVar[str] = "stream"
    stream: Literal[STREAMS] = knob(
        "split-fashion", "stream", "what is learnt in turn: classes of clothes or digits, pixels in other orders, turned digits, "
        "one set after the other, tweets to editorials (vader), financial news and then films (your folder)", essential=True,
    )  # fmt: skip
    data: Literal["10k", "full"] = knob("10k", "pictures", "the bundled first 10,000 of a set, or all 70,000", when=OF_PICTURES)
    features: Literal["words", "minilm", "numbered"] = knob(
        "words",
        "features",
        "of a sentence: hashed words, MiniLM's vector, or words by number (for the paper's net)",
        when=OF_TEXTS,
    )
    labels: Literal["corrected", "published"] = knob(
        "corrected",
        "labels of films",
        "positive is positive, or, as in the published program, what was neutral in the news",
        when=(lambda c: c.stream == "news-films", "only the news have a third label"),
    )
    scenario: Literal["domain", "task", "class"] = knob(
        "domain", "scenario", "what is known: answers are shared (domain), the task's number is told (task), or neither (class)",
        when=(lambda c: c.stream.startswith("split"), "only tasks with classes of their own have another scenario"),
    )  # fmt: skip
    tasks: int = knob(5, "tasks", "how many are learnt in turn", low=2, high=20, when=SEVERAL)
    samples: int = knob(1000, "samples a task", "training samples, at most", low=50, high=60_000, log=True)
    blend: float = BLEND
    network: Literal["perceptron", "paper"] = knob(
        "perceptron", "network", "a perceptron, or the paper's: two convolutions (1.2 M weights), or one transformer layer"
    )
    hidden: tuple[int, ...] = HIDDEN
    width: int = knob(
        60, "width", "of the embedding of the paper's sentence network (its own is 600)", low=6, high=600, step=6,
        when=(lambda c: c.network == "paper" and c.stream in TEXTS, "only that network has it"),
    )  # fmt: skip
    batch: int = BATCH
    passes: int = PASSES
    seed: int = SEED

    @model_validator(mode="after")
    def _network_can_read(self) -> Self:
        numbered = self.stream in TEXTS and self.features == "numbered"
        if self.stream in TEXTS and numbered != (self.network == "paper"):
            raise ValueError(
                f"features={self.features!r}: expected 'numbered' with network='paper', which embeds words, and others without"
            )
        return self

    def loaded(self) -> streams.Stream:
        """The stream."""
        if self.stream == "vader":
            return sentences.vader(self.features, self.samples, self.seed)
        if self.stream == "news-films":
            return sentences.news_films(self.features, self.labels, self.samples, self.seed)
        kind, *data = PICTURES[self.stream]
        name = f"{kind}-{'+'.join(one + ('-10k' if self.data == '10k' else '') for one in data)}"
        return streams.load(name, self.scenario if kind == "split" else "domain", self.tasks, self.samples, self.seed)


# Version of the task-incremental scenario, as a part of a run's identity. From version 2 on, the outputs of
# other tasks are masked in every computation of a method, not only in the loss. Earlier runs are not comparable.
TASKS_TOLD = "scenario-task@2"


def inputs(config: StreamConfig) -> list[str]:
    """References of the data that a stream is made of."""
    if config.stream in TEXTS:
        return sentences.inputs(config.stream, config.features)
    kind, *names = PICTURES[config.stream]
    tail = "-10k" if config.data == "10k" else ""
    told = [TASKS_TOLD] if kind == "split" and config.scenario == "task" else []
    return [*(datasets.ref(name + tail) for name in names), *told]


class MethodConfig(StreamConfig):
    """What learns, and at which rate."""

    title: ClassVar[str] = "method"
    method: Literal[METHODS] = knob(
        "classp", "method", "CLASSP, a plain optimizer, a penalty, a memory; joint and cumulative see all tasks", essential=True
    )
    lr: float = LR
    first_lr: float = FIRST_LR
    cut: float = CUT
    optimizer: Literal[OPTIMIZERS] = knob(
        "sgd", "optimizer", "that the penalty or the memory sits on",
        when=(lambda c: c.method in (*PULLS, *MEMORIES, "joint", "cumulative"), "the method is an optimizer itself"),
    )  # fmt: skip
    strength: float = STRENGTH
    estimator: Literal[ESTIMATORS] = ESTIMATOR
    memory: int = MEMORY
    reset: bool = RESET


class ContinualConfig(MethodConfig):
    """One method on one stream."""

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
        """A fit of this config, looked at every `watch` steps; `more` are knobs of `learner.fit` that it has not."""
        stream = stream or self.loaded()
        model = self._paper_network(stream) if self.network == "paper" else None
        knobs = {name: getattr(self, name) for name in DECLARED}
        if self.method in ONE_RATE:
            del knobs["first_lr"]
        return Learner(stream, self.method, self.optimizer, model, watch=watch, **{**knobs, **more})
