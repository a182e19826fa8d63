"""Records in, one sentence out: what an adapter has learnt; and what to guess at before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.adapters.lab.colours import NAMES
from workbench.adapters.lab.figures import right
from workbench.experiment import Question, Record
from workbench.knobs import Config
from workbench.live import Pins


def tell_train(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """What was learnt, how far the weights moved, how it stands against the pinned run."""
    last = records[-1]
    answered = f"{right(last)} held-out questions are answered right"
    if not last["step"]:
        return f"Nothing is changed yet: {NAMES[last['method']]} begins as no update at all, and {answered}."
    deepest = max(max(row) for row in last["moved"])
    told = (
        f"After step {last['step']:,} the loss is {last['held_out']:.2f} (it began at {records[0]['held_out']:.2f}) and "
        f"{answered}; the layer that moved most did so by {deepest:.2g} % of its weight"
    )
    for name, rows in pinned[:1]:
        gap = last["held_out"] - rows[-1]["held_out"]
        told += f". The loss is {abs(gap):.2f} {'above' if gap > 0 else 'below'} the pinned ({name})"
    return f"{told}."


def tell_ask(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Whether the answer changed."""
    last = records[-1]
    if last["right"] is None:
        same = last["before"] == last["after"]
        return f"{NAMES[last['method']]} {'left the answer as it was' if same else 'changed the answer'}."
    before, after = ("right" if last[name] == last["right"] else "wrong" for name in ("before", "after"))
    return f"{last['right']} is right: the answer before was {before}, and after {last['steps']:,} steps it is {after}."


def _lower(records: list[Record], rival: list[Record]) -> int:
    """0: the pinned ends lower, 1: this run does, 2: within 0.03."""
    gap = records[-1]["held_out"] - rival[-1]["held_out"]
    return 2 if abs(gap) < 0.03 else 1 if gap < 0 else 0


QUICK = {"model": "tiny-llama", "steps": 100, "samples": 1000, "batch": 16, "every": 5}
WHICH = "as low, within 0.03"


def _at(method: str, lr: float, r: int = 16) -> dict[str, Any]:
    return {**QUICK, "method": method, "r": r, "lr": lr}


def _directions(records: list[Record], rival: list[Record]) -> int:
    """How many of the shown singular values are above a thousandth of the whole: 16 at most, 48 at most, more."""
    many = sum(value > 1e-3 for value in records[-1]["values"])
    return 0 if many <= 16 else 1 if many <= 48 else 2


TRAIN = (
    Question(
        "One rate for both", "LoRA (pinned) and MiSS, both at 0.001: the paper gives all methods one rate. Which ends lower?",
        ("LoRA", "MiSS", WHICH), _lower, _at("miss", 0.001), _at("lora", 0.001, 9),
    ),
    Question(
        "Each its own rate", "The same, but LoRA (pinned) at 0.004 and MiSS at 0.0035, each near its own best. Which ends lower?",
        ("LoRA", "MiSS", WHICH), _lower, _at("miss", 0.0035), _at("lora", 0.004, 9),
    ),
    Question(
        "Four times the rank", "MiSS at rank 16 (pinned) and at rank 64, at the same rate. Does the larger one end lower?",
        ("no, the smaller", "yes", WHICH), _lower, _at("miss", 0.0035, 64), _at("miss", 0.0035),
    ),
    Question(
        "How many directions", "Bat-row at r = 16 trains an eighth of the numbers. How many singular values of its "
        "update are above a thousandth of the whole?",
        ("16 at most", "17 to 48", "more than 48"), _directions, _at("bat-row", 0.003),
    ),
    Question(
        "The whole layers", "All weights of the layers (full, at 0.001) against MiSS at 0.0035 (pinned). Which ends lower?",
        ("MiSS", "full", WHICH), _lower, _at("full", 0.001), _at("miss", 0.0035),
    ),
    Question(
        "A rate too far", "MiSS at 0.01, three times what suits it, against 0.0035 (pinned). What happens?",
        ("it ends higher", "it ends lower", "nothing, within 0.03"), _lower, _at("miss", 0.01), _at("miss", 0.0035),
    ),
)  # fmt: skip
