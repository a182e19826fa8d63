"""Stories (short summaries of the records) of the live experiments, and the questions that are asked before a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.adapters.lab.colours import NAMES
from workbench.adapters.lab.figures import right
from workbench.experiment import Question, Record
from workbench.knobs import Config
from workbench.live import Pins


def tell_train(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Report the loss, the answers, the largest change of a layer, and the difference in loss to a pinned run."""
    last = records[-1]
    answered = f"{right(last)} held-out questions are answered exactly"
    if not last["step"]:
        return f"Before training, the update of {NAMES[last['method']]} is zero, so the model is unchanged; {answered}."
    deepest = max(max(row) for row in last["moved"])
    told = (
        f"After step {last['step']:,} the held-out loss is {last['held_out']:.2f} nats per token (before training: "
        f"{records[0]['held_out']:.2f}), and {answered}. In the layer that changed most, the norm of the update is "
        f"{deepest:.2g} % of that of the weight"
    )
    for name, rows in pinned[:1]:
        gap = last["held_out"] - rows[-1]["held_out"]
        told += f". The loss is {abs(gap):.2f} nats per token {'above' if gap > 0 else 'below'} that of the pinned run ({name})"
    return f"{told}."


def tell_ask(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Report whether the answers are right, or, if the right answer is not known, whether training changed the answer."""
    last = records[-1]
    if last["right"] is None:
        same = last["before"] == last["after"]
        return f"Training with {NAMES[last['method']]} {'left the answer as it was' if same else 'changed the answer'}."
    before, after = ("right" if last[name] == last["right"] else "wrong" for name in ("before", "after"))
    return (
        f"The right answer is {last['right']}. The model's answer is {before} before training, and {after} after "
        f"{last['steps']:,} steps."
    )


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
