"""The colour and the display name of each method, the names of the streams, and the measures that the figures show."""

from __future__ import annotations

from workbench.inks import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, RED, SKY
from workbench.measures import Measure, Note, SeriesStyle

COLOURS = {
    "classp": ORANGE, "adagrad": PINK, "adagrad-reset": PINK, "adam": RED, "sgd": BLUE, "sgd-cut": SKY, "upgd": GREY,
    "ewc": GREEN, "ewc-online": GREEN, "l2": GREEN, "si": GREEN, "mas": GREEN, "lwf": GREEN,
    "classp, published": RED, "ewc, as scripted": GREEN, "replay": INK, "a-gem": INK, "joint": FAINT, "cumulative": FAINT,
}  # fmt: skip
NAMES = {
    "classp": "CLASSP", "adagrad": "AdaGrad", "adagrad-reset": "AdaGrad, reset", "adam": "Adam", "sgd": "SGD",
    "sgd-cut": "SGD, rate cut", "upgd": "UPGD", "ewc": "EWC, per-task terms", "ewc-online": "EWC online", "l2": "L2 to anchor",
    "classp, published": "published program", "ewc, as scripted": "EWC as scripted",
    "si": "SI", "mas": "MAS", "lwf": "LwF", "replay": "replay", "a-gem": "A-GEM", "joint": "joint", "cumulative": "cumulative",
}  # fmt: skip


def branch_name(branch: str) -> str:
    """Return the display name of a branch, which is given as METHOD@RATE."""
    method, _, rate = branch.partition("@")
    return f"{NAMES[method]} at {rate}"


STREAM_NAMES = {
    "split-fashion": "split Fashion", "split-mnist": "split MNIST", "permuted": "permuted MNIST",
    "rotated": "rotated MNIST", "mnist-fashion": "MNIST → Fashion", "fashion-mnist": "Fashion → MNIST",
    "vader": "tweets to editorials", "news-films": "news → films", "paper's net": "news → films, paper's net",
}  # fmt: skip
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")  # Fashion-MNIST


def task_name(stream: str, name: str) -> str:
    """Return the display name of a task. In split-fashion, it names the classes: ``0-1`` becomes ``T-shirt or trouser``."""
    classes = name.split("-")
    if "split-fashion" not in stream or not all(c.isdigit() and int(c) < len(CLOTHES) for c in classes):
        return name
    return " or ".join(CLOTHES[int(c)] for c in classes)


STYLE = SeriesStyle(NAMES, COLOURS)
ACCURACY = Measure("ACC", "accuracy on all tasks (%)", 100)
MOVED = Measure("moved", "changed weights (%)", 100)
ONLINE = Measure("online", "online accuracy (%)", 100)
NOTE = Note(
    "test accuracy of each method at the best of {tried} settings, chosen on validation samples; ",
    "test accuracy, one setting per point; ",
    "the chosen rate or strength is the smallest or the largest one tried",
)
