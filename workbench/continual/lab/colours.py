"""One colour a method in all pictures of continual learning, and its name in words."""

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
    "sgd-cut": "SGD, rate cut", "upgd": "UPGD", "ewc": "EWC, a term a task", "ewc-online": "EWC online", "l2": "L2 to anchor",
    "classp, published": "published program", "ewc, as scripted": "EWC as scripted",
    "si": "SI", "mas": "MAS", "lwf": "LwF", "replay": "replay", "a-gem": "A-GEM", "joint": "joint", "cumulative": "cumulative",
}  # fmt: skip


def branch_name(branch: str) -> str:
    """A branch, METHOD@RATE, in words."""
    method, _, rate = branch.partition("@")
    return f"{NAMES[method]} at {rate}"


STREAM_NAMES = {
    "split-fashion": "clothes, 5 tasks", "split-mnist": "digits, 5 tasks", "permuted": "permuted digits",
    "rotated": "turned digits", "mnist-fashion": "digits → clothes", "fashion-mnist": "clothes → digits",
    "vader": "tweets to editorials", "news-films": "news → films", "paper's net": "the same, paper's net",
}  # fmt: skip
STYLE = SeriesStyle(NAMES, COLOURS)
ACCURACY = Measure("ACC", "accuracy on all tasks (%)", 100)
MOVED = Measure("moved", "weights a task moves (%)", 100)
ONLINE = Measure("online", "accuracy (%)", 100)
NOTE = Note(
    "test accuracy, each at the best of {tried} settings (chosen on validation samples); ",
    "test accuracy, one setting each; ",
    "a rate or strength chosen at an end of those tried",
)
