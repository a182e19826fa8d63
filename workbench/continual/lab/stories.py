"""Stories: functions that write the text above a live picture. The text describes what the picture currently shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.continual.lab.colours import branch_name, task_name
from workbench.continual.lab.history_figures import power_of_ten
from workbench.experiment import Record, signed
from workbench.knobs import Config
from workbench.live import Pins


def tell_train(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """Describe the accuracy on the current and the first task, and the plasticity left in the first layer."""
    last = records[-1]
    if not last["step"]:
        return "Training has not started yet, so the accuracy on every task is at chance level."
    task, accuracies = last["task"], [100 * a for a in last["accuracies"]]
    told = f"After step {last['step']:,}, in task {task + 1} ({task_name(config.stream, last['names'][task])}), "
    told += f"the test accuracy is {accuracies[task]:.1f} % on this task"
    if config.method == "joint":
        told = f"After step {last['step']:,} on all tasks together, the mean test accuracy is {100 * last['mean']:.1f} %"
    elif task and last["matrix"]:
        then = 100 * last["matrix"][0][0]
        told += f" and {accuracies[0]:.1f} % on task 1 ({then:.1f} % when task 1 ended)"
    if "gauge" in last:
        told += (
            f". First-layer weights can still move {100 * last['gauge'][0]:.0f} % as far as untrained weights (plasticity left)"
        )
    for name, rows in pinned[:1]:
        gap = 100 * (last["mean"] - rows[-1]["mean"])
        told += f". Mean accuracy is {abs(gap):.1f} percentage points {'above' if gap >= 0 else 'below'} the pinned run ({name})"
    return f"{told}. {last['note'][:1].upper()}{last['note'][1:]}".strip().removesuffix(".") + "."


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
    return f"The two numbers are the test accuracies on the old tasks and on the new task. {'; '.join(told)}."


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
    """Describe where the weight ends under each update rule, and how far CLASSP moves it in percent of the upper bound."""
    record = records[-1]
    ends = {name: record[f"weight_{name}"][-1] for name in ("paper", "adagrad", "sgd")}
    used = record["way"][-1] / max(record["bound"][-1], 1e-300)
    same = np.allclose(record["weight_paper"], record["weight_published"], atol=1e-12)
    return (
        f"The weight ends at {signed(ends['paper'], 3)} with CLASSP, {signed(ends['adagrad'], 3)} with AdaGrad, and "
        f"{signed(ends['sgd'], 3)} with SGD. In total, CLASSP moves it by {100 * used:.0f} % of the upper bound. "
        f"{100 * record['passed']:.0f} % of the squared gradients are above the threshold. "
        f"The published program gives {'the same result as CLASSP' if same else 'another result'}."
    )
