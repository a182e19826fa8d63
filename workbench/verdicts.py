"""Decide by confidence intervals whether claims hold, and apply Holm's correction for the number of claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.experiment import FEW, Record
from workbench.intervals import Interval, level

State = Literal["holds", "fails", "open"]
DECIDED: tuple[State, State] = ("holds", "fails")


@dataclass(frozen=True)
class Verdict:
    """The decision whether a claim holds on the given records, with the measured numbers and the p-value of the decision.

    `p` is None if the verdict is not based on intervals, and 1 if the verdict is open. `findings` are the findings that the
    verdict combines; there are none if it is not based on intervals.
    """

    verdict: Literal["holds", "fails", "open", "undecidable here"]
    measured: str
    p: float | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A measured 95 % confidence interval, and the range from `low` to `high` in which the number must be if the claim holds."""

    text: str
    found: Interval
    low: float = -math.inf
    high: float = math.inf

    @property
    def state(self) -> State:
        """The state of the finding.

        It holds if the whole confidence interval is between `low` and `high`, and fails if the whole interval is outside. It is
        open otherwise, and also if there is no interval because only one unit, such as one seed, was measured.
        """
        if self.low < self.found.low and self.found.high < self.high:
            return "holds"
        return "fails" if self.found.high <= self.low or self.found.low >= self.high else "open"

    @property
    def p(self) -> float:
        """The p-value of the state: the smallest significance level at which it is decided. If the finding is open, p is 1."""
        ends = [end for end in (self.low, self.high) if math.isfinite(end)]
        if self.state == "open":
            return 1.0
        levels = [level(self.found, end) for end in ends]
        return max(levels, default=0.0) if self.state == "holds" else min(levels)

    def __str__(self) -> str:
        few = f", from only {self.found.n} units" if 1 < self.found.n < FEW else ""
        return f"{self.text} {self.found}{few}".strip()


def verdict(*findings: Finding | Verdict, any_of: bool = False, measured: str = "") -> Verdict:
    """Return the verdict of a claim that consists of several findings.

    The claim holds if all findings hold, fails if at least one fails, and is open otherwise. With `any_of`, it holds if at least
    one finding holds, fails if all fail, and is open otherwise. A verdict can take the place of a finding, so that the two rules
    can be nested. `measured` replaces the text of the verdict, which otherwise lists all findings. If one of k findings decides
    the claim, its p-value is multiplied by k (Bonferroni).
    """
    states = [f.state if isinstance(f, Finding) else f.verdict for f in findings]
    if not states:
        return Verdict("undecidable here", measured or "nothing to judge")
    one, every = DECIDED if any_of else (DECIDED[1], DECIDED[0])
    state: State = one if one in states else every if {*states} == {every} else "open"
    parts = [str(f) if isinstance(f, Finding) else f.measured for f in findings]
    levels = _joint_p(state, one, [(s, f.p) for s, f in zip(states, findings, strict=True)])
    leaves = tuple(leaf for f in findings for leaf in ((f,) if isinstance(f, Finding) else f.findings))
    return Verdict(state, measured or "; ".join(parts), levels, leaves)


def _joint_p(state: str, one: str, each: list[tuple[str, float | None]]) -> float | None:
    """Return the p-value of a verdict from the states and p-values of its findings. A single finding in state `one` decides."""
    if state == "open":
        return 1.0
    chosen = [p for found, p in each if found == state]
    levels = [p for p in chosen if p is not None]
    if len(levels) < len(chosen):
        return None
    return min(1.0, len(each) * min(levels)) if state == one else max(levels)


def undecidable(reason: str) -> Callable[[list[Record]], Verdict]:
    """Return the check of a claim that Workbench cannot decide, for the given reason."""
    return lambda records: Verdict("undecidable here", reason)


LEVEL = 0.05  # largest probability that any decided verdict of a method is wrong by chance, after the correction


def holm(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the state of each verdict after Holm's step-down correction over all verdicts with a p-value; "-" for the others."""
    tested = sorted((v.p, k) for k, v in enumerate(verdicts) if v.p is not None)
    found, rejecting = ["-"] * len(verdicts), True
    for rank, (p, k) in enumerate(tested):
        rejecting = rejecting and p * (len(tested) - rank) <= LEVEL
        found[k] = verdicts[k].verdict if rejecting else "open"
    return found
