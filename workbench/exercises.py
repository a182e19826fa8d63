"""Exercises of a method: questions whose answers are computed when asked for; a score, and a sheet for a class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench import methods
from workbench.knobs import KnobError, parse_value
from workbench.registry import EXERCISES


@dataclass(frozen=True)
class Exercise:
    """A question; `answer` computes what is right, `hint` follows a wrong reply, `why` a right one.

    Numbers are right within `tolerance` (relative); texts are compared without case.
    """

    question: str
    answer: Callable[[], Any]
    hint: str
    why: str
    tolerance: float = 0.02

    def right(self, given: str) -> bool:
        """Whether a reply, as it was typed, is right."""
        value, answer = parse_value(given.strip()), self.answer()
        if isinstance(answer, str):
            return str(value).strip().lower() == answer.lower()
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isclose(value, answer, rel_tol=self.tolerance, abs_tol=1e-9)

    def solution(self) -> str:
        """The answer, and why."""
        answer = self.answer()
        return f"{answer if isinstance(answer, str) else format(answer, '.4g')}: {self.why}"


def declare(method: str, *exercises: Exercise) -> None:
    """Make the exercises of a method known."""
    EXERCISES[method] = list(exercises)


def exercises(method: str) -> list[Exercise]:
    """The exercises of a method, after importing its lab; raises KnobError where there are none."""
    if method in methods.methods():
        methods.load(method)
    if method not in EXERCISES:
        raise KnobError(f"no exercises for {method!r}; there are some for: {', '.join(sorted(EXERCISES))}")
    return EXERCISES[method]


def sheet(method: str, answers: bool = False) -> str:
    """All exercises of a method as Markdown, to be printed for a class; with `answers`, for who teaches it."""
    lines = [f"# Exercises: {method}", ""]
    for number, exercise in enumerate(exercises(method), 1):
        lines += [f"**{number}.** {exercise.question}", ""]
        lines += [f"*{exercise.solution()}*" if answers else "Answer: ______________________", ""]
    return "\n".join(lines)
