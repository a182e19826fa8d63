"""Questions that the panels ask before a run. The settings are those that the reference comparison chose for the stream.

There are two exceptions. In the questions on ten outputs and on the reset of the sums, CLASSP has the settings that were chosen
with two outputs and without the reset. The branch `sgd@0.009` has the learning rate to which SGD with rate cut falls
after task 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.continual.lab.colours import NAMES, branch_name
from workbench.experiment import Question, Record

# the settings that the reference comparison chose for Fashion-MNIST in five tasks (tests check this against its records)
CHOSEN: dict[str, dict[str, Any]] = {
    "classp": {"lr": 0.003, "first_lr": 0.0, "power": 1.0},
    "sgd": {"lr": 0.015},
    "sgd-cut": {"lr": 0.3, "cut": 0.2},
    "replay": {"lr": 0.01},
}
SPLIT = {"stream": "split-fashion", "scenario": "domain", "first_lr": 0.0, "threshold": 0.0, "mode": "paper"}
FIVE, TWO = "Fashion-MNIST in 5 tasks", "MNIST then Fashion-MNIST"  # names of the streams in the ledger of claims
FEWER = "This run has one seed and fewer images than the reference."


def _of(method: str, **more: Any) -> dict[str, Any]:
    return {**SPLIT, "method": method, **CHOSEN[method], **more}


def _mean(records: list[Record]) -> float:
    return 100 * float(np.mean(records[-1]["accuracies"]))


def _gap(now: list[Record], rival: list[Record], within: float = 1.0) -> int:
    """Return 0 if CLASSP is more accurate, 1 if the pinned method is, and 2 if they differ by less than `within` % points."""
    gap = _mean(now) - _mean(rival)
    return 2 if abs(gap) < within else int(gap < 0)


def _against(method: str) -> Callable[[list[Record], list[Record]], str]:
    """Return a function that describes the mean accuracy and the accuracy on task 1, for CLASSP and for the pinned method."""
    return lambda now, rival: (
        f"mean accuracy on the five tasks {_mean(now):.1f} % with CLASSP and {_mean(rival):.1f} % with {NAMES[method]}"
        f"; accuracy on task 1 (after task 1 → after task 5): {_first(now)} and {_first(rival)}"
    )


def _first(records: list[Record]) -> str:
    """Describe the accuracy on task 1, just after this task and at the end of the run."""
    then, now = (100 * a for a in (records[-1]["matrix"][0][0], records[-1]["accuracies"][0]))
    return f"{then:.0f} → {now:.0f} %"


def _lost(records: list[Record]) -> float:
    """Return the loss of accuracy on task 1 by the end of the run, in percentage points."""
    return 100 * (records[-1]["matrix"][0][0] - records[-1]["accuracies"][0])


def _moves(now: list[Record], rival: list[Record]) -> int:
    return int(np.searchsorted((-3.0, 0.0), _mean(now) - _mean(rival)))


def _answers(method: str) -> tuple[str, str, str]:
    return "CLASSP is more accurate", f"{NAMES[method]} is more accurate", "they differ by less than 1 point"


TRAIN = (
    Question(
        "Does slowing weights down help?",
        "CLASSP is compared with plain SGD (pinned), each at its best learning rate. Which has the higher mean accuracy on "
        "all five tasks after the last one?",
        _answers("sgd"), _gap, _of("classp"), _of("sgd"), measured=_against("sgd"), claim="sgd", agrees={"holds": (0,)},
        unlike=FEWER,
        why="SGD moves every weight at the same rate, so later tasks overwrite the weights that task 1 needs. CLASSP divides "
        "the rate of a weight by the sum of the sizes of its past gradients, so weights that mattered before now move "
        "little. Compare the dashed mean of CLASSP with the dotted mean of SGD. With CLASSP, task 1 stays high; task 2 "
        "(pullover or dress) is forgotten more, but less than with SGD.",
    ),
    Question(
        "Or is it only the lower rate?",
        "CLASSP slows learning down from task to task. A control does only that: SGD whose learning rate is multiplied by "
        "0.2 after each task (pinned). Which has the higher mean accuracy?",
        _answers("sgd-cut"), _gap, _of("classp"), _of("sgd-cut"), measured=_against("sgd-cut"),
        claim="cut", part=FIVE, agrees={"holds": (0, 2), "fails": (1,)}, unlike=FEWER,
        why="On this stream, most of the gain over SGD comes from the lower rate alone: the dotted mean of the control is "
        "close to the dashed one of CLASSP. But the control slows down all weights equally, and learns the last task "
        "less well in the reference. With CLASSP, weights with small past gradients can still learn. On another stream, "
        "Fashion-MNIST then MNIST, the control has the higher mean in the reference.",
    ),
    Question(
        "Can 200 stored images do the same?",
        "Replay stores 200 training images and mixes some of them into every batch (pinned). CLASSP stores no images. Which "
        "has the higher mean accuracy?",
        _answers("replay"), _gap, _of("classp"), _of("replay", memory=200), measured=_against("replay"), claim="replay",
        part=FIVE, agrees={"holds": (1,), "fails": (0, 2)}, unlike=FEWER,
        why="Replay computes gradients of the old tasks too, so it can correct an old answer that the new task has changed. "
        "CLASSP can only refrain from moving weights. Both learn the new tasks about equally well. The difference is mostly in "
        "task 2 (pullover or dress), which CLASSP forgets more: follow its curve after the second boundary.",
    ),
    Question(
        "What if the sums are reset after each task?",
        "The sums of past gradients are all that CLASSP stores about old tasks. The pinned run keeps the sums, and the next "
        "run resets them to zero at each task boundary. How does the mean accuracy change?",
        ("it falls by more than 3 points", "it falls by less", "it rises"), _moves, _of("classp", reset=True), {"reset": False},
        measured=lambda now, rival: f"mean accuracy {_mean(now):.1f} % with the reset and {_mean(rival):.1f} % without",
        claim="state", part=FIVE, agrees={"holds": (0, 1)}, unlike=FEWER,
        why="After a reset, no weight is slowed down by the old tasks, so the next task can overwrite all weights: the "
        "curves of tasks 1 and 2 end much lower. So at this learning rate, CLASSP keeps the old tasks only with its "
        "sums. In the ledger, each variant has the learning rate that is best for it. It is lower with the reset, which "
        "then loses less.",
    ),
    Question(
        "And with ten outputs?",
        "So far, all tasks shared two outputs. Now the network has ten outputs, one for each class, and the task of a test "
        "image is not known. How many percentage points of accuracy does CLASSP lose on task 1?",
        ("less than 10 points", "10 to 50 points", "more than 50 points"),
        lambda now, rival: int(np.searchsorted((10.0, 50.0), _lost(now))), _of("classp", scenario="class"),
        measured=lambda now, rival: f"accuracy on task 1 (after task 1 → after task 5): {_first(now)}",
        why="A batch of the new task contains no images of the old classes, so its gradient lowers the outputs of the old "
        "classes for every input. A small change of a few weights is enough for this, and slowing weights down does not "
        "prevent it. No method without stored samples does well here.",
    ),
    Question(
        "How much plasticity is left?",
        "The plasticity left in a layer is the greatest distance that its weights can move during the next task, in percent "
        "of the distance that untrained weights could move. How much plasticity is left in the first layer after five tasks?",
        ("less than 20 %", "20 to 60 %", "more than 60 %"),
        lambda now, rival: int(np.searchsorted((20.0, 60.0), 100 * now[-1]["gauge"][0])), _of("classp"),
        measured=lambda now, rival: f"{100 * now[-1]['gauge'][0]:.0f} % of the plasticity is left in the first layer",
        why="Each step is divided by the sum S of the sizes of the past gradients of the weight, and S only grows, so the "
        "first steps are the longest. With p = 1, the distance that a weight can have moved since the start grows only "
        "with the logarithm of S. So most of the plasticity is used in the first hundred steps: watch the bars during "
        "the run. The same limit protects the old tasks and slows down the new ones.",
    ),
)  # fmt: skip

FOUR = ("sgd@0.07", "sgd@0.009", "classp@0.03", "replay@0.2")
PAIR: dict[str, Any] = {"stream": "mnist-fashion", "first_lr": 0.1, "power": 1.0, "threshold": 0.0}


def _ends(records: list[Record]) -> dict[str, tuple[float, float]]:
    return {r["branch"]: (100 * r["old"], 100 * r["new"]) for r in records}


def _best(records: list[Record], names: Sequence[str]) -> int:
    ends = _ends(records)
    return int(np.argmax([sum(ends[name]) for name in names]))


def _both(records: list[Record], rival: list[Record]) -> str:
    """Describe the accuracy of each branch on the old and on the new task."""
    ends = _ends(records)
    return "; ".join(f"{branch_name(name)}: digits {old:.0f} %, clothes {new:.0f} %" for name, (old, new) in ends.items())


def _classp_keeps(records: list[Record], rival: list[Record]) -> int:
    ends = _ends(records)
    return int(ends["classp@0.03"][0] < ends["sgd@0.009"][0])


FORK = (
    Question(
        "Which branch ends best?",
        "The network has learnt digits (MNIST). Now four branches learn clothes (Fashion-MNIST): SGD at a high and at a low "
        "rate (0.07 and 0.009), CLASSP, and replay. Which branch has the highest mean accuracy on digits and clothes in the "
        "end?",
        tuple(branch_name(name) for name in FOUR), lambda now, rival: _best(now, FOUR), {**PAIR, "branches": FOUR},
        measured=_both, claim="replay", part=TWO, agrees={"holds": (3,), "fails": (0, 1, 2)}, unlike=FEWER,
        why="Follow the paths in the left plot: right means better on clothes, up means better on digits. A grey line joins "
        "points with the same mean accuracy. Plain SGD trades digits for clothes, and its ends at many rates form a curve. "
        "A method is better than SGD only if its path ends above or to the right of this curve.",
    ),
    Question(
        "Which keeps more digits?",
        "After the digits, CLASSP learns the clothes at its best rate, and SGD at 0.009, the rate to which the best SGD with "
        "rate cut falls after task 1. Which of the two is more accurate on digits in the end?",
        ("CLASSP", "SGD at the low rate"), _classp_keeps, {**PAIR, "branches": ("sgd@0.009", "classp@0.03")}, measured=_both,
        claim="retention", part=TWO, agrees={"holds": (0,), "fails": (1,)}, unlike=FEWER,
        why="CLASSP at this rate learns the clothes faster, because weights that the digits did not use still move fast. "
        "Whether CLASSP also keeps more digits depends on the step at which training stops. Therefore, the ledger of claims "
        "compares CLASSP and SGD at equal accuracy on clothes.",
    ),
)  # fmt: skip
