"""Exercises of a method: questions whose answers are computed when they are needed, and a printable sheet of all questions."""

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
    """A question with a function `answer` that computes the correct answer.

    After a wrong reply, `hint` is shown. After a correct reply, the explanation `why` is shown. A number is correct if its
    relative error is at most `tolerance`. Texts are compared without regard to case.
    """

    question: str
    answer: Callable[[], Any]
    hint: str
    why: str
    tolerance: float = 0.02

    def right(self, given: str) -> bool:
        """Check whether `given`, the reply that the user has typed, is correct."""
        value, answer = parse_value(given.strip()), self.answer()
        if isinstance(answer, str):
            return str(value).strip().lower() == answer.lower()
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isclose(value, answer, rel_tol=self.tolerance, abs_tol=1e-9)

    def solution(self) -> str:
        """Return the answer and its explanation."""
        answer = self.answer()
        return f"{answer if isinstance(answer, str) else format(answer, '.4g')}: {self.why}"


def declare(method: str, *exercises: Exercise) -> None:
    """Register the exercises of a method."""
    EXERCISES[method] = list(exercises)


def exercises(method: str) -> list[Exercise]:
    """Import the lab of a method (see `methods`), and return the exercises of the method. Raises KnobError if there are none."""
    if method in methods.methods():
        methods.load(method)
    if method not in EXERCISES:
        raise KnobError(f"no exercises for the method {method!r}; methods with exercises: {', '.join(sorted(EXERCISES))}")
    return EXERCISES[method]


def sheet(method: str, answers: bool = False) -> str:
    """Return all exercises of a method as Markdown for printing. If `answers` is true, the sheet contains the solutions."""
    lines = [f"# Exercises: {method}", ""]
    for number, exercise in enumerate(exercises(method), 1):
        lines += [f"**{number}.** {exercise.question}", ""]
        lines += [f"*{exercise.solution()}*" if answers else "Answer: ______________________", ""]
    return "\n".join(lines)
