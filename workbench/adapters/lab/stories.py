"""The stories of the live experiments. A story is the text above the picture."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.adapters.lab.colours import NAMES
from workbench.adapters.lab.figures import right
from workbench.experiment import Record
from workbench.knobs import Config
from workbench.live import Pins


def tell_train(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Report the loss, the answers, the largest change of a layer, and the difference in loss from a pinned run."""
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
    """Report whether the answers before and after training are right.

    If the right answer is not known, report whether training changed the answer.
    """
    last = records[-1]
    if last["right"] is None:
        same = last["before"] == last["after"]
        return f"Training with {NAMES[last['method']]} {'left the answer as it was' if same else 'changed the answer'}."
    before, after = ("right" if last[name] == last["right"] else "wrong" for name in ("before", "after"))
    return (
        f"The right answer is {last['right']}. The model's answer is {before} before training, and {after} after "
        f"{last['steps']:,} steps."
    )
