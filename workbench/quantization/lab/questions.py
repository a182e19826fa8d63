"""The questions that the panels ask before a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from workbench.experiment import Question, Record

ONE_LAYER = "This run measures one layer with one calibration sample. The ledger averages over eight layers."


def _nearest(value: float, marks: Sequence[float]) -> int:
    return min(range(len(marks)), key=lambda k: abs(marks[k] - value))


def _saved(records: list[Record], rival: list[Record]) -> float:
    return 1 - records[-1]["held_out"] / rival[-1]["held_out"]


def _errors(
    one: str, pinned: str, column: str = "held_out", text: str = "held-out"
) -> Callable[[list[Record], list[Record]], str]:
    return lambda now, rival: (
        f"the output error on {text} text is {100 * now[-1][column]:.2f} % ({one}) and {100 * rival[-1][column]:.2f} % ({pinned})"
    )


def _finds(records: list[Record], method: str) -> int:
    errors = {r["method"]: r["error"] for r in records}
    return int(errors[method] > errors["best"] + 1e-9)


def _which_is_lower(now: list[Record], rival: list[Record]) -> int:
    """Return 0 if the pinned run has the lower error, 1 if this run has it, and 2 if the errors are equal up to rounding."""
    gap = now[-1]["error"] - rival[-1]["error"]
    return 2 if abs(gap) < 1e-6 else int(gap < 0)


def _two_errors(now: list[Record], rival: list[Record]) -> str:
    errors = {r["method"]: r["error"] for r in now}
    return f"the error is {errors['gptq']:.3g} at GPTQ's point and {errors['best']:.3g} at the best point"


LAYER_TRACE = (
    Question(
        "What does error compensation gain?",
        "Rounding to nearest (RTN, pinned) rounds each weight separately. GPTQ also changes the columns that are not rounded "
        "yet, to compensate for the errors of the rounded columns. By how much does this reduce the output error on held-out "
        "text?",
        ("not at all", "by about a seventh", "by about half"), lambda now, rival: _nearest(_saved(now, rival), (0, 1 / 7, 1 / 2)),
        {"method": "gptq"}, {"method": "rtn"}, measured=_errors("GPTQ", "RTN"),
        why="The inputs of the layer are correlated: when one input is large, others tend to be large too. So changing the"
        " weights of other columns can cancel much of the error of a rounded column. Compare the two error curves. Both start at "
        "the error that comes from the layers before this one. With RTN, which cancels nothing, the error then rises much "
        "further than with GPTQ.",
    ),
    Question(
        "Does ResComp help this layer?",
        "GPTAQ is pinned. ResComp also compensates the residual r₂, the effect on the output of the changes that compensation "
        "has made to this layer's weights. The strength is 0.25, as in the published program. Does the output error on held-out "
        "text fall?",
        ("it falls", "it rises or stays the same"), lambda now, rival: int(now[-1]["held_out"] >= rival[-1]["held_out"]),
        {"method": "gptaq+rescomp", "beta": 0.25}, {"method": "gptaq"}, measured=_errors("GPTAQ + ResComp", "GPTAQ"),
        claim="rescomp", part="held-out error of gptq + r1 + r2 relative to gptq + r1, 3 bits",
        agrees={"holds": (0,), "fails": (1,)}, unlike=ONE_LAYER,
        why="GPTQ and GPTAQ change the columns that are not rounded yet, to keep the output error small. ResComp treats part "
        "of this change as an error and reverses that part. On average over the layers of the ledger, this does not lower the "
        "error. The paper reports gains for whole models, which are not measured here.",
    ),
    Question(
        "What happens at two bits?",
        "With 3 bits (pinned), a weight has 8 levels. With 2 bits, a weight has 4 levels. The layers before this one get the "
        "same number of bits. How much larger is the output error on the calibration text with 2 bits?",
        ("less than 2 times", "2 to 4 times", "more than 4 times"),
        lambda now, rival: int(np.searchsorted((2, 4), now[-1]["error"] / rival[-1]["error"])),
        {"method": "gptq", "bits": 2}, {"method": "gptq", "bits": 3},
        measured=_errors("2 bits", "3 bits", "error", "calibration"),
        why="The largest weight is 1 step away from 0 with 2 bits, and 3 steps away with 3 bits. So with 2 bits each step is "
        "3 times as long. The same holds in the layers before this one, and most of the error comes from them: compare the left "
        "ends of the two curves. If only this layer is quantized (layers before = none), the error is 3 to 4 times as "
        "large with 2 bits as with 3 bits.",
    ),
    Question(
        "What if the earlier layers were not quantized?",
        "With layers before = none, the layer gets the same inputs in the full-precision and in the quantized model. Which method"
        " has the lower output error, GPTQ (pinned) or GPTAQ?",
        ("GPTQ", "GPTAQ", "they are equal"),
        _which_is_lower,
        {"method": "gptaq", "upstream": "none"}, {"method": "gptq"}, measured=_errors("GPTAQ", "GPTQ", "error", "calibration"),
        claim="gptaq", part="held-out error of gptq + r1 relative to gptq, 3 bits", agrees={},
        why="GPTAQ also compensates the residual r₁, the output error that comes from the different inputs in the two models. "
        "If the earlier layers are not quantized, the inputs are equal, and r₁ is zero. Then GPTAQ computes the same as GPTQ, up "
        "to the precision of the numbers.",
    ),
    Question(
        "Can a method fit the calibration text too well?",
        "The exact target has the lowest error of all methods on the calibration text. Here both methods get only 256 tokens. "
        "Is it better than GPTQ (pinned) on held-out text?",
        ("no, GPTQ is better", "yes, the exact target is better"),
        lambda now, rival: int(now[-1]["held_out"] < rival[-1]["held_out"]), {"method": "exact", "tokens": 256},
        {"method": "gptq"}, measured=_errors("the exact target", "GPTQ"), claim="exact", agrees={},
        why="The layer has 576 inputs, more than there are tokens. The exact target then fits peculiarities of these few "
        "tokens, which other text does not have. This is overfitting: compare the errors of the exact target on the two"
        " texts. The claim in the ledger was measured with 4,096 tokens.",
    ),
    Question(
        "What if fewer weights share a scale?",
        "In the pinned run, all 576 weights of a row share one scale. In the next run, each group of 32 weights has its own"
        " scale. The layers before this one get the same groups. By how much does this reduce the output error on held-out "
        "text?",
        ("hardly at all", "by about a third", "by about two thirds"),
        lambda now, rival: _nearest(_saved(now, rival), (0, 1 / 3, 2 / 3)),
        {"method": "gptq", "group_size": 32}, {"method": "gptq", "group_size": None},
        measured=_errors("groups of 32", "one scale per row"),
        why="The largest weight of a group determines the distance between its levels. In a small group the largest weight "
        "is smaller on average, so the levels are closer together. The price is more scales to store: one for every 32"
        " weights instead of one for 576.",
    ),
)  # fmt: skip

TWO_WEIGHTS = (
    Question(
        "Does GPTQ find the best point?",
        "There are two weights, and their inputs are correlated. GPTQ rounds the first weight, and then compensates with the"
        " second. Does it end at the best of all grid points?",
        ("yes", "no"), lambda now, rival: _finds(now, "gptq"), {"w1": 0.44, "w2": 0.3, "correlation": 0.8, "shift": 0.0},
        measured=_two_errors,
        why="GPTQ rounds the first weight to its nearest level without regard to the second. If the best grid point has "
        "another level for the first weight, GPTQ cannot return to it. It is greedy: fast, but not optimal.",
    ),
)  # fmt: skip
