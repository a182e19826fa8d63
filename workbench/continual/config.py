"""The knobs of continual learning, declared once: the stream, the network, the method, CLASSP's own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator
from torch import nn

from workbench import datasets
from workbench.continual import sentences, streams
from workbench.continual.fishers import ESTIMATORS
from workbench.continual.learner import Learner
from workbench.continual.methods import MEMORIES, METHODS, OPTIMIZERS, PULLS
from workbench.continual.nets import PaperNet, SentimentNet
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
SEVERAL = (
    lambda c: c.stream in ("split-fashion", "split-mnist", "permuted", "rotated"),
    "this stream has its own tasks",
)


class StreamConfig(Config):
    """A stream of tasks, and the network that learns it."""

    title: ClassVar[str] = "stream"
    stream: Literal[STREAMS] = knob(
        "split-fashion", "stream", "what is learnt in turn: classes of clothes or digits, pixels in other orders, turned digits, "
        "one set after the other, tweets to editorials (vader), financial news and then films (your folder)", essential=True,
    )  # fmt: skip
    data: Literal["10k", "full"] = knob(
        "10k", "pictures", "the bundled first 10,000 of a set, or all 70,000", when=OF_PICTURES
    )
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
    blend: float = knob(
        0.0, "gradual borders", "share of a task over which the neighbour's samples are mixed in", low=0.0, high=1.0, step=0.1,
        when=(lambda c: c.scenario != "task", "where a task's number is told, its border is sharp"),
    )  # fmt: skip
    network: Literal["perceptron", "paper"] = knob(
        "perceptron",
        "network",
        "a perceptron, or the paper's: two convolutions (1.2 M weights), or one transformer layer",
    )
    hidden: tuple[int, ...] = knob(
        (100, 100), "hidden units", "of each layer", low=1, high=2000, choices=((50,), (100, 100), (256, 256)),
        when=(lambda c: c.network == "perceptron", "the paper's network has its own"),
    )  # fmt: skip
    width: int = knob(
        60, "width", "of the embedding of the paper's sentence network (its own is 600)", low=6, high=600, step=6,
        when=(lambda c: c.network == "paper" and c.stream in TEXTS, "only that network has it"),
    )  # fmt: skip
    batch: int = knob(32, "batch size", "samples a step", low=1, high=1000, choices=(1, 10, 32, 100))
    passes: int = knob(1, "passes", "over each task", low=1, high=20)
    seed: int = knob(0, "seed", "first weights, choice and order of the samples", low=0, high=10**6)

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
        return streams.load(
            name, self.scenario if kind == "split" else "domain", self.tasks, self.samples, self.seed
        )


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


OURS = (lambda c: c.method == "classp", "only CLASSP has it")


class MethodConfig(StreamConfig):
    """What learns, and at which rate."""

    title: ClassVar[str] = "method"
    method: Literal[METHODS] = knob(
        "classp",
        "method",
        "CLASSP, a plain optimizer, a penalty, a memory; joint and cumulative see all tasks",
        essential=True,
    )
    lr: float = knob(
        0.003, "learning rate", "CLASSP's alpha: after task 1 where there is a rate for it", low=1e-6, high=1.0, log=True,
        essential=True,
    )  # fmt: skip
    first_lr: float = knob(
        0.1, "rate on task 1", "plain steps there (CLASSP sums up, but does not divide yet); 0: task 1 is like the others",
        low=0.0, high=1.0, step=0.01, essential=True,
        when=(lambda c: c.method not in ("joint", "sgd-cut"), "it has one rate, or cuts it by itself"),
    )  # fmt: skip
    cut: float = knob(
        0.1, "rate cut", "the rate is multiplied by it after each task", low=0.001, high=1.0, log=True,
        when=(lambda c: c.method == "sgd-cut", "only sgd-cut cuts its rate"),
    )  # fmt: skip
    optimizer: Literal[OPTIMIZERS] = knob(
        "sgd", "optimizer", "that the penalty or the memory sits on",
        when=(lambda c: c.method in (*PULLS, *MEMORIES, "joint", "cumulative"), "the method is an optimizer itself"),
    )  # fmt: skip
    strength: float = knob(
        100.0, "strength", "of the penalty (lambda, c)", low=1e-4, high=1e6, log=True, essential=True,
        when=(lambda c: c.method in PULLS, "only penalties have a strength"),
    )  # fmt: skip
    estimator: Literal[ESTIMATORS] = knob(
        "exact", "Fisher", "which of the five things that are called so",
        when=(lambda c: c.method in ("ewc", "ewc-online"), "only EWC has a Fisher"),
    )  # fmt: skip
    memory: int = knob(
        200, "memory", "samples kept", low=1, high=10_000, log=True, unit="samples",
        when=(lambda c: c.method in MEMORIES, "only replay and A-GEM keep samples"),
    )  # fmt: skip
    reset: bool = knob(False, "forget state", "the optimizer's history, at each border")


class ContinualConfig(MethodConfig):
    """One method on one stream."""

    title: ClassVar[str] = "CLASSP"
    power: float = knob(
        1.0,
        "power p",
        "of the sum and of its root; 2 is AdaGrad",
        low=0.25,
        high=8.0,
        step=0.25,
        essential=True,
        when=OURS,
    )
    threshold: float = knob(
        0.0, "threshold", "on the squared gradient of a weight: below it the weight rests; useful values lie near 1e-7", low=0.0,
        high=10.0, choices=(0.0, 1e-8, 1e-7, 1e-6, 1e-5, 0.5), essential=True, when=OURS,
    )  # fmt: skip
    eps: float = knob(1e-5, "eps", "added to the sum inside the root", low=1e-12, high=1.0, log=True)
    mode: Literal["paper", "repo"] = knob(
        "paper", "mode", "Algorithm 1, or gate, sum and root of the published program", when=OURS
    )
    order: Literal["inclusive", "exclusive"] = knob(
        "inclusive",
        "order",
        "the gradient is added before (Algorithm 1) or after (equation 1) it is divided",
        when=OURS,
    )
    cap: float = knob(0.0, "cap", "of the effective rate; 0: none", low=0.0, high=10.0, step=0.01, when=OURS)

    def _paper_network(self, stream: streams.Stream) -> nn.Module:
        if self.stream not in TEXTS:
            return PaperNet(self.seed, stream.outputs)
        words = 1 + int(max(task.x_train.max() for task in stream.tasks))
        return SentimentNet(self.seed, words, self.width, outputs=stream.outputs)

    def learner(self, watch: int, stream: streams.Stream | None = None, **more: Any) -> Learner:
        """A fit of this config, looked at every `watch` steps; `more` are knobs of `learner.fit` that it has not."""
        stream = stream or self.loaded()
        model = self._paper_network(stream) if self.network == "paper" else None
        knobs: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "lr", "batch", "passes", "seed", "hidden", "strength", "memory", "estimator", "cut", "reset", "blend", "power",
                "threshold", "eps", "mode", "order",
            )
        }  # fmt: skip
        warm = self.first_lr and self.method not in ("joint", "sgd-cut")
        knobs |= {
            "first_lr": self.first_lr if warm else None,
            "cap": self.cap or None,
            "watch": watch,
            **more,
        }
        return Learner(stream, self.method, self.optimizer, model, **knobs)
