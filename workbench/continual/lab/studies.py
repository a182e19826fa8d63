"""Comparisons of methods on streams of images and sentences, ablations of CLASSP, and a map of its accuracy over p and alpha."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workbench.comparison import Point, Setting, candidates, comparison, view
from workbench.continual.lab import study_figures as figures
from workbench.continual.lab.fits import FULL, JUDGED, LAPTOP, NO_PAPER, PLAIN, SCALES, STREAMS, WORDS, StudyConfig, on_stream
from workbench.continual.methods import METHODS
from workbench.knobs import knob

KNOBS = ("method", "lr", "first_lr", "cut", "strength", "power")
SWEPT = ("stream", *KNOBS)
ONE_STREAM = (*SWEPT, "streams")


@comparison(
    "continual/rivals",
    version=2,
    fit=on_stream,
    figure=figures.draw_rivals,
    presets={**SCALES, "smoke": {**JUDGED, "streams": STREAMS[:1]}},
    swept=SWEPT,
    paper="CLASSP against EWC, AdaGrad, SGD and Adam (vision)",
)
def rivals(config: StudyConfig) -> Iterator[Point]:
    """Compare all methods on streams of images. The setting of each method is chosen on validation samples of the stream."""
    for stream in config.streams:
        for method in METHODS:
            yield config.point(method, {"stream": stream}, **config.place(stream))


memory = view(
    "continual/memory", of=rivals, figure=figures.draw_memory, swept=("streams",),
    only=lambda place: place["stream"] == STREAMS[0],
    about="Compare the accuracy of all methods with the memory that they need in addition to weights and gradients. The stream "
    "is Fashion-MNIST, split into tasks (by default 5).",
    paper="memory of CLASSP against that of EWC (abstract)",
)  # fmt: skip
FIVE = ("sgd", "sgd-cut", "classp", "ewc-online", "replay")
matrices = view(
    "continual/matrices", of=rivals, figure=figures.draw_matrices,
    swept=("streams",), only=lambda place: place["stream"] == STREAMS[0] and place["label"] in FIVE,
    about="Show the accuracy matrices of five methods: the accuracy on each task, after each task. The stream is Fashion-MNIST, "
    "split into tasks (by default 5).",
    paper="accuracy matrices (our addition: the public parts of the paper do not mention them)",
)  # fmt: skip


# Learning rates on the second task. SGD, Adam and replay use the same rate on the first task; the others use SGD at 0.1 there.
SECOND = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
RETENTION: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "sgd": ({"method": "sgd"}, (0.003, 0.01, 0.03, 0.1, 0.2, 0.3)),
    "sgd-cut": ({"method": "sgd", "first_lr": 0.1}, SECOND),
    "adam": ({"method": "adam"}, (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    "adagrad": ({"method": "adagrad", "first_lr": 0.1}, SECOND),
    "classp": ({"method": "classp", "first_lr": 0.1, "power": 1.0}, SECOND),
    "ewc-online": ({"method": "ewc-online", "first_lr": 0.1}, SECOND),
    "replay": ({"method": "replay"}, (0.003, 0.01, 0.03, 0.1, 0.2, 0.3)),
}


@comparison(
    "continual/retention",
    version=2,
    fit=on_stream,
    figure=figures.draw_retention,
    presets={"smoke": {**JUDGED, "streams": STREAMS[1:2]}, "laptop": {**LAPTOP, "streams": STREAMS[1:]}, "paper": NO_PAPER},
    swept=SWEPT,
    paper="accuracy on both tasks (vision). The paper stops training at equal accuracy on the new task, so compare points with "
    "equal accuracy on the new task",
)
def retention(config: StudyConfig) -> Iterator[Point]:
    """Compare old-task and new-task accuracy at several rates of each method. Only a curve above that of SGD is a gain."""
    for stream in config.streams:
        for label, (knobs, rates) in RETENTION.items():
            for rate in rates[:: 1 if config.budget > 2 else 3]:
                strengths = (10.0, 100.0, 1000.0) if label == "ewc-online" else (1.0,)
                settings = candidates(strength=strengths) if len(strengths) > 1 else [{}]
                at = {"stream": stream, "rate": rate}
                given = {**PLAIN, **config.place(stream), **knobs, "lr": rate}
                yield Point(label, at, given, settings, why="only EWC has a strength to choose")


OWN = candidates(lr=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3))
BASE = {"method": "classp", "first_lr": 0.1, "power": 1.0}
PARTS: dict[str, dict[str, Any]] = {
    "CLASSP, p = 1": BASE,
    "decay off": {"method": "sgd", "first_lr": 0.1},
    "decay from step 1": {**BASE, "first_lr": 0.0},
    "p = 0.5": {**BASE, "power": 0.5},
    "p = 2": {**BASE, "power": 2.0},
    "sum reset at borders": {**BASE, "reset": True},
    "threshold 1e-8": {**BASE, "threshold": 1e-8},
    "threshold 1e-7": {**BASE, "threshold": 1e-7},
    "threshold 1e-6": {**BASE, "threshold": 1e-6},
    "threshold 1e-5": {**BASE, "threshold": 1e-5},
    "threshold 0.5": {**BASE, "threshold": 0.5},
    "published, threshold 0.5": {**BASE, "mode": "repo", "threshold": 0.5},
    "published, p = 2": {**BASE, "mode": "repo", "power": 2.0},
}


@comparison(
    "continual/ablations",
    version=1,
    fit=on_stream,
    figure=figures.draw_ablations,
    presets={"smoke": {**JUDGED, "streams": STREAMS[:1]}, "laptop": {**LAPTOP, "streams": STREAMS[:2]}, "paper": NO_PAPER},
    swept=(*SWEPT, "threshold", "reset", "mode"),
    paper="the ablations of decay and of the threshold",
)
def ablations(config: StudyConfig) -> Iterator[Point]:
    """Change one part of CLASSP at a time, and also run the published program. Each variant has the rate that is best for it."""
    for stream in config.streams:
        for label, knobs in PARTS.items():
            at = {"stream": stream, "part": label}
            yield Point("classp", at, {**config.place(stream), **knobs}, config.settings(OWN))


@comparison(
    "continual/map",
    version=1,
    fit=on_stream,
    figure=figures.draw_map,
    presets={"smoke": {**JUDGED, "seeds": 1}, "laptop": LAPTOP, "paper": NO_PAPER},
    swept=ONE_STREAM,
    paper="accuracy for pairs of p and alpha (our addition: the public parts of the paper do not report it)",
)
def power_map(config: StudyConfig) -> Iterator[Point]:
    """Measure the accuracy of CLASSP for several powers p and learning rates alpha."""
    for power in (0.5, 1.0, 1.5, 2.0, 4.0):
        for rate in (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)[:: 1 if config.budget > 2 else 2]:
            at = {"power": power, "rate": rate}
            knobs = {**config.place(STREAMS[0]), **BASE, "power": power, "lr": rate}
            yield Point("classp", at, knobs)


# A fit of the paper's network takes about 15 s, so fewer methods are compared, with four settings each.
NETWORK = "paper's net"
SENTENCES = {
    "vader": {"stream": "vader", "features": "words", "samples": 60_000, "hidden": (32,), "passes": 4},
    "news-films": {"stream": "news-films", "features": "words", "samples": 8000, "hidden": (32,), "passes": 2},
    NETWORK: {"stream": "news-films", "features": "numbered", "network": "paper", "samples": 4000, "passes": 8, "batch": 96},
}
OF_NETWORK: dict[str, list[Setting]] = {
    "sgd": candidates(lr=(0.1, 0.2, 0.3, 0.5)),
    "sgd-cut": candidates(lr=(0.3, 0.5), cut=(0.1, 0.3)),
    "adam": candidates(lr=(3e-4, 7e-4, 1e-3, 2e-3)),
    "adagrad": candidates(lr=(0.003, 0.01, 0.02, 0.03)),
    "classp": candidates(power=(1.0, 2.0), lr=(0.003, 0.01)),
    "ewc-online": candidates(lr=(0.2, 0.3), strength=(10.0, 100.0)),
}


class SentimentConfig(StudyConfig):
    """The knobs of a comparison of methods on streams of sentences."""

    streams: tuple[str, ...] = knob(
        tuple(SENTENCES),
        "streams",
        "The streams on which the methods are compared.",
        choices=(tuple(SENTENCES), ("vader",), ("news-films",)),
        essential=True,
    )


@comparison(
    "continual/sentiment",
    version=2,
    fit=on_stream,
    figure=figures.draw_rivals,
    presets={
        "smoke": {k: v for k, v in JUDGED.items() if k != "hidden"} | {"streams": ("vader",)},
        "laptop": {},
        "paper": "a step at width 600 takes 8 s on a CPU; on a GPU, run: workbench run continual/sentiment --scale laptop "
        "--set width=600",
    },
    swept=(*SWEPT, "features", "network", "hidden", "passes", "batch"),
    paper="CLASSP against EWC, AdaGrad, SGD and Adam (sentiment)",
)
def sentiment(config: SentimentConfig) -> Iterator[Point]:
    """Compare methods on sentences: VADER's four domains, and the paper's two data sets.

    On the paper's data sets, some methods also train the paper's network (by default at width 60).
    """
    for stream in config.streams:
        knobs = SENTENCES[stream]
        if config.budget < 4:
            knobs = {**knobs, "samples": min(knobs["samples"], config.samples), "passes": 1}
        for method in OF_NETWORK if stream == NETWORK else SPOKEN:
            settings = OF_NETWORK[method] if stream == NETWORK else config.settings(WORDS.get(method, FULL[method]))
            given = {**PLAIN, "method": method, **knobs}
            yield Point(
                method, {"stream": stream}, given, settings, why="the paper's network takes longer, so fewer settings are tried"
            )


SPOKEN = ("sgd", "sgd-cut", "adam", "adagrad", "classp", "ewc-online", "replay", "joint")
