"""Stories (the text above a live picture that describes its current state), and questions to answer before a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.continual.lab.colours import branch_name
from workbench.continual.lab.history_figures import power_of_ten
from workbench.experiment import Question, Record, signed
from workbench.knobs import Config
from workbench.live import Pins


def tell_train(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe the accuracy on the current and the first task, and the plasticity left in the first layer."""
    last = records[-1]
    if not last["step"]:
        return "Training has not started yet, so the accuracy on every task is at chance level."
    task, accuracies = last["task"], [100 * a for a in last["accuracies"]]
    told = (
        f"After step {last['step']:,}, in task {task + 1} ({last['names'][task]}), "
        f"the test accuracy is {accuracies[task]:.1f} % on this task"
    )
    if task and last["matrix"]:
        then = 100 * last["matrix"][0][0]
        told += f" and {accuracies[0]:.1f} % on task 1 ({then:.1f} % when task 1 ended)"
    if "gauge" in last:
        told += (
            f". First-layer weights can still move {100 * last['gauge'][0]:.0f} % as far as untrained weights (plasticity left)"
        )
    for name, rows in pinned[:1]:
        gap = 100 * (last["mean"] - rows[-1]["mean"])
        told += f". Mean accuracy is {abs(gap):.1f} percentage points {'above' if gap >= 0 else 'below'} the pinned run ({name})"
    return f"{told}. {last['note'].capitalize()}".strip().removesuffix(".") + "."


def tell_fork(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe the accuracy of each branch on the old tasks and on the new task."""
    ends: dict[str, Record] = {record["branch"]: record for record in records}
    if all(r["step"] == r["border"] for r in ends.values()):
        return (
            "All branches start here, at the end of task 1, from the same network. "
            "They will see the same samples, and differ only in the method and its learning rate."
        )
    told = [
        f"{branch_name(name)} failed ({r['failed'].partition(':')[0]})"
        if r["failed"]
        else f"{branch_name(name)}: {100 * r['old']:.0f} % and {100 * r['new']:.0f} %"
        for name, r in ends.items()
    ]
    return f"Test accuracy on the old tasks and on the new task. {'; '.join(told)}."


def tell_history(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe how many weights have received no gradient yet, and which of the units shown is the most frozen."""
    record = records[-1]
    untouched = 100 * record["untouched"][0]
    told = (
        f"When {record['moment']}, {untouched:.0f} % of the weights of the first layer have received no gradient yet, "
        "so they are not slowed down"
    )
    if "free" in record:
        each = [np.mean(free) for free in record["free"]]
        least = record["units"][int(np.argmin(each))]
        told += (
            f". Of the six units shown, unit {least} is the most frozen: its weights can still move {min(each):.0f} % as far as "
            "untrained weights (plasticity left)"
        )
    return f"{told}."


def tell_threshold(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe how many weights the threshold lets move, and whether the published threshold lets any move."""
    record = records[-1]
    through = 100 * record["through"]
    published = "none" if record["largest"] <= 0.5 else "some"
    return (
        f"When {record['moment']}, {through:.3g} % of the weights have a squared gradient above the threshold "
        f"{power_of_ten(record['cut_at'])}, so only these would move. The median is {record['median']:.1g}. "
        f"The published threshold of 0.5, applied to each weight, would let {published} move."
    )


def tell_weight(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe where the weight ends under each update rule, and how much of its bound CLASSP has used."""
    record = records[-1]
    ends = {name: record[f"weight_{name}"][-1] for name in ("paper", "adagrad", "sgd")}
    used = record["way"][-1] / max(record["bound"][-1], 1e-300)
    same = np.allclose(record["weight_paper"], record["weight_published"], atol=1e-12)
    return (
        f"The weight ends at {signed(ends['paper'], 3)} with CLASSP, {signed(ends['adagrad'], 3)} with AdaGrad, and "
        f"{signed(ends['sgd'], 3)} with SGD. CLASSP moves it by {100 * used:.0f} % of the distance that its bound allows. "
        f"{100 * record['passed']:.0f} % of the gradients are above the threshold. "
        f"The published program gives {'the same result as CLASSP' if same else 'another result'}."
    )


# -- questions ----------------------------------------------------------------------------------------------------------------


def _mean(records: list[Record]) -> float:
    return 100 * float(np.mean(records[-1]["accuracies"]))


def _gap(now: list[Record], rival: list[Record], within: float = 1.0) -> int:
    """0: this run is right on more of all tasks; 1: the pinned one; 2: nearer than `within` points."""
    gap = _mean(now) - _mean(rival)
    return 2 if abs(gap) < within else int(gap < 0)


SPLIT = {"stream": "split-fashion", "scenario": "domain", "first_lr": 0.1, "power": 1.0, "threshold": 0.0, "mode": "paper"}
OURS = {**SPLIT, "method": "classp", "lr": 0.003}
MORE = ("this one", "the pinned one", "within 1 point")


def _lost(records: list[Record]) -> float:
    """Points of task 1 that are gone in the end."""
    return 100 * (records[-1]["matrix"][0][0] - records[-1]["accuracies"][0])


def _moves(now: list[Record], rival: list[Record]) -> int:
    gap = _mean(now) - _mean(rival)
    return int(np.searchsorted((-3.0, 3.0), gap))


def _freed(now: list[Record], rival: list[Record]) -> int:
    return int(np.searchsorted((20.0, 60.0), 100 * now[-1]["gauge"][0]))


TRAIN = (
    Question(
        "Does slowing weights down help?",
        "CLASSP (alpha 0.003) against plain SGD at 0.1, pinned: which is right on more samples of all five tasks in the end?",
        MORE, _gap, OURS, {**SPLIT, "method": "sgd", "lr": 0.1},
    ),
    Question(
        "Or is it only the lower rate?",
        "The control: SGD whose rate is cut to a tenth after each task is pinned. Is CLASSP right on more of all tasks?",
        MORE, _gap, OURS, {**SPLIT, "method": "sgd-cut", "lr": 0.1, "cut": 0.1},
    ),
    Question(
        "Two hundred pictures in a box",
        "Replay keeps 200 old pictures and looks at some with every batch (pinned). Does CLASSP, which keeps none, come as far?",
        MORE, _gap, OURS, {**SPLIT, "method": "replay", "lr": 0.1, "memory": 200},
    ),
    Question(
        "Forget the history at each border",
        "The sums are all that CLASSP knows of old tasks. Kept (pinned), then forgotten at each border: what does that change?",
        ("more than 3 points worse", "less than 3 points", "more than 3 points better"), _moves,
        {**OURS, "reset": True}, {"reset": False},
    ),
    Question(
        "All classes, no hint",
        "All ten classes are answers, and no task says which are meant. How many points of task 1 does CLASSP lose?",
        ("less than 10", "10 to 50", "more than 50"),
        lambda now, rival: int(np.searchsorted((10.0, 50.0), _lost(now))), {**OURS, "scenario": "class"},
    ),
    Question(
        "How much is left?",
        "After five tasks: of the way that a fresh first layer could go, what can this one still go?",
        ("less than 20 %", "20 to 60 %", "more than 60 %"), _freed, OURS,
    ),
)  # fmt: skip


def _ends(records: list[Record]) -> dict[str, tuple[float, float]]:
    return {r["branch"]: (100 * r["old"], 100 * r["new"]) for r in records}


def _best(records: list[Record], names: Sequence[str]) -> int:
    ends = _ends(records)
    return int(np.argmax([sum(ends[name]) for name in names]))


def _keeps_more(now: list[Record], rival: list[Record]) -> int:
    ends = _ends(now)
    return int(ends["classp@0.003"][0] < ends["sgd@0.01"][0])


FOUR = ("sgd@0.1", "sgd@0.01", "classp@0.003", "replay@0.1")
PAIR: dict[str, Any] = {"stream": "mnist-fashion", "first_lr": 0.1, "power": 1.0, "threshold": 0.0}
FORK = (
    Question(
        "Who ends best?",
        "Digits are learnt; now come clothes. Which branch is best on the mean of both in the end?",
        tuple(branch_name(name) for name in FOUR),
        lambda now, rival: _best(now, FOUR), {**PAIR, "branches": FOUR},
    ),
    Question(
        "Who keeps more digits?",
        "CLASSP at 0.003 or SGD at a tenth of its rate: which is right on more digits after the clothes?",
        ("CLASSP", "SGD at 0.01"), _keeps_more, {**PAIR, "branches": ("sgd@0.01", "classp@0.003")},
    ),
)  # fmt: skip
