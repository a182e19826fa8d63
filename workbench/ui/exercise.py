"""An exercise with a checked answer: a question, a box, and a reply that says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from workbench.knobs import parse_value


class Exercise(w.VBox):
    """Ask `question`; `answer` is computed by the caller, never typed; `hint` follows a wrong reply.

    Numbers are right within `tolerance` (relative); texts are compared without case.
    """

    def __init__(
        self, question: str, answer: Callable[[], Any], hint: str, why: str, tolerance: float = 0.02
    ):
        self._answer, self._hint, self._why, self._tolerance = answer, hint, why, tolerance
        self.box = w.Text(placeholder="your answer", continuous_update=False, layout=w.Layout(width="14em"))
        check = w.Button(
            description="Check", tooltip="Check", button_style="primary", layout=w.Layout(width="auto")
        )
        give_up = w.Button(
            description="Show the answer", tooltip="Show the answer", layout=w.Layout(width="auto")
        )
        self.reply = w.Label("")
        check.on_click(lambda _: setattr(self.reply, "value", self.check(self.box.value)))
        give_up.on_click(lambda _: setattr(self.reply, "value", self.solution()))
        self._question = question
        super().__init__([w.Label(question), w.HBox([self.box, check, give_up]), self.reply])

    def __repr__(self) -> str:
        return f"Exercise: {self._question}"

    def check(self, given: Any) -> str:
        """The reply to an answer."""
        given, answer = parse_value(given.strip()) if isinstance(given, str) else given, self._answer()
        if isinstance(answer, str):
            right = str(given).strip().lower() == answer.lower()
        else:
            number = isinstance(given, (int, float)) and not isinstance(given, bool)
            right = number and math.isclose(given, answer, rel_tol=self._tolerance, abs_tol=1e-9)
        return f"right: {self._why}" if right else f"not yet: {self._hint}"

    def solution(self) -> str:
        """The answer, and why."""
        answer = self._answer()
        return f"{answer if isinstance(answer, str) else format(answer, '.4g')}: {self._why}"
