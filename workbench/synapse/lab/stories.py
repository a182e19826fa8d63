"""Records in, one sentence out: the present state of what is looked at live; and what to guess at before it is run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.experiment import Question, Record, signed
from workbench.knobs import Config
from workbench.live import Pins
from workbench.synapse.lab.figures import LABELS, SHORT, astray, matching
from workbench.synapse.lab.network_figures import by_scheme, points


def tell_device(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """How uneven the steps are, and where those up and down match."""
    record = records[-1]
    rise, fall = (np.array(record[key]) for key in ("rise", "fall"))
    up, down = (f"{side.max() / max(side[side > 0].min(), 1e-9):.3g}" for side in (rise, fall))
    return (
        f"{record['levels']} pulses fill the device, {record['levels_down']} empty it. The largest step up is {up} times the "
        f"smallest one up, the largest down {down} times the smallest one down; {matching(record)}."
    )


def tell_one_synapse(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Where the pair has come to, and how much of its weight it lost."""
    record = records[-1]
    full = [name for name, key in (("g⁺", "plus"), ("g⁻", "minus")) if record[key][-1] > 0.99]
    state = f"; {' and '.join(full)} {'is full and takes' if len(full) == 1 else 'are full and take'} no more" if full else ""
    if record["symmetry_point"] is not None and record["scheme"] != "uni":
        place, late = record["symmetry_point"], float(np.mean(record["plus"][-len(record["plus"]) // 4 :]))
        state += f"; g⁺ is about {late:.2f} of late, and steps up and down match at {place:.2f}"
    told = f"; refreshed {len(record['refreshed'])} times" if record["refreshed"] else ""
    return (
        f"The weight is {signed(record['weight'][-1], 2)}; without the devices' limits the same pulses would have made it "
        f"{signed(record['ideal'][-1], 2)}. On the way it was {astray(record):.2f} off on average{told}{state}."
    )


def tell_update(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Which rules send, on average, what the gradient asks for."""
    asked = records[0]["asked"]
    sent = ", ".join(f"{r['rule']} sends {r['mean']:.2f}" for r in records)
    return f"Asked for: {asked:.2f} pulses; only whole ones can be sent. On average {sent}."


def tell_train(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Accuracy of both schemes, who is ahead, and what it cost."""
    seen = max(r["samples"] for r in records)
    if not seen:
        return "Random weights: one digit in ten is right by chance."
    (ours, rows), *others = by_scheme(records).items()
    last = rows[-1]
    told = f"After {seen:,} digits {LABELS[ours]} is right on {100 * last['accuracy']:.1f} %"
    if others:
        gap = points(last) - points(others[0][1][-1])
        told += f", {abs(gap):.1f} points {'ahead of' if gap > 0 else 'behind'} {SHORT[others[0][0]]}"
    if pinned:
        then = by_scheme(pinned[0][1]).get(ours)
        if then:
            gap = points(last) - points(then[-1])
            told += f", {abs(gap):.1f} {'above' if gap > 0 else 'below'} the pinned ({pinned[0][0]})"
    if last.get("pulses"):
        told += f". {LABELS[ours].capitalize()} sent {last['pulses'] / seen:,.0f} pulses a digit"
    if last.get("refreshed"):
        told += f" and refreshed {int(last['refreshed']):,} pairs"
    return f"{told}."


def tell_currents(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """The answer, how sure it is, and what one unit's two currents make."""
    record = records[-1]
    order = np.argsort(record["outputs"])[::-1]
    answer, second = int(order[0]), int(order[1])
    right = "right" if answer == record["label"] else f"wrong, it is a {record['label']}"
    lead = record["outputs"][answer] - record["outputs"][second]
    plus, minus = sum(record["plus"]), sum(record["minus"])
    return (
        f"The network says {answer} ({right}); of outputs from 0 to 1 it is ahead of {second} by {lead:.2f}. Hidden unit "
        f"{record['unit']} gets a current of {plus:.2f} through its g⁺ less {minus:.2f} through the other: "
        f"{signed(plus - minus, 2)}."
    )


# -- questions ----------------------------------------------------------------------------------------------------------


def _ends(records: list[Record]) -> dict[str, float]:
    return {name: rows[-1]["accuracy"] for name, rows in by_scheme(records).items()}


def _ahead(records: list[Record], one: str, other: str, within: float = 0.02) -> int:
    """0: the one is ahead; 1: the other; 2: nearer than `within`."""
    ends = _ends(records)
    gap = ends[one] - ends[other]
    return 2 if abs(gap) < within else int(gap < 0)


def _falls(records: list[Record], scheme: str) -> int:
    """0: the accuracy is near its best at the end; 1: it has fallen from it."""
    accuracy = [r["accuracy"] for r in by_scheme(records)[scheme]]
    return int(max(accuracy) - accuracy[-1] > 0.03)


def _loses_more(now: list[Record], rival: list[Record], one: str, other: str) -> int:
    """0: the one loses more from the rival run to this; 1: the other."""
    before, after = _ends(rival), _ends(now)
    return int(before[one] - after[one] < before[other] - after[other])


BOTH = {"scheme": "uni", "rival": "push-pull"}
TRAIN = (
    Question(
        "When depression is abrupt",
        "Going down, the first pulse undoes most of what many pulses up have built (ν = 10). Which scheme "
        "gets more digits right?",
        ("unidirectional", "push-pull", "both within 2 points"),
        lambda now, rival: _ahead(now, "uni", "push-pull"),
        {**BOTH, "nonlinearity_up": 1.0, "nonlinearity_down": 10.0},
    ),
    Question(
        "Without refresh",
        "Unidirectional pairs only ever fill up. What happens to their accuracy when nobody refreshes them?",
        ("it keeps its best", "it rises, then falls"),
        lambda now, rival: _falls(now, "uni"),
        {**BOTH, "refresh": "none", "samples": 12_000},
    ),
    Question(
        "No two devices are alike",
        "A run with equal devices is pinned; then each device gets a step of its own (30 % spread). The "
        "paper's abstract says that "
        "unidirectional updating compensates this. Which scheme loses more?",
        ("unidirectional", "push-pull"),
        lambda now, rival: _loses_more(now, rival, "uni", "push-pull"),
        {**BOTH, "step_spread": 0.3},
        {"step_spread": 0.0},
    ),
    Question(
        "Perfect devices",
        "Linear steps, the same up and down, 256 of them: what is left between unidirectional updating and software?",
        ("less than 3 points", "3 to 10 points", "more than 10 points"),
        lambda now, rival: int(np.searchsorted((0.03, 0.10), _ends(now)["software"] - _ends(now)["uni"])),
        {"scheme": "uni", "rival": "software", "nonlinearity_up": 0.0, "nonlinearity_down": 0.0, "levels": 256},
    ),
    Question(
        "A handful of levels",
        "64 levels are pinned; then a device has 8, so that each pulse is eight times as large. What "
        "happens to unidirectional updating?",
        ("it gains", "it loses less than 10 points", "it loses more than 10 points"),
        lambda now, rival: int(np.searchsorted((0.0, 0.10), _ends(rival)["uni"] - _ends(now)["uni"])),
        {**BOTH, "levels": 8},
        {"levels": 64},
    ),
    Question(
        "One pulse for every update",
        "The rule 'single' sends one pulse whenever input and error are large enough, whatever their size. Against 'stochastic' "
        "(pinned): does unidirectional updating get more digits right?",
        ("more", "fewer", "within 2 points"),
        lambda now, rival: (lambda gap: 2 if abs(gap) < 0.02 else int(gap < 0))(_ends(now)["uni"] - _ends(rival)["uni"]),
        {**BOTH, "rule": "single"},
        {"rule": "stochastic"},
    ),
)

ONE_SYNAPSE = (
    Question(
        "Random pulses, uneven steps",
        "Push-pull with ν = 1 up and 10 down, as many pulses up as down: a weight would stay about where "
        "it is. Where do both devices "
        "end?",
        ("near the middle", "near the top", "near the bottom"),
        lambda now, rival: int(np.argmin([abs(np.mean(now[-1]["plus"][-100:]) - place) for place in (0.5, 0.9, 0.15)])),
        {"scheme": "push-pull", "nonlinearity_up": 1.0, "nonlinearity_down": 10.0, "up": 0.5, "pulses": 1000},
    ),
)
