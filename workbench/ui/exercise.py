"""The exercises of a method, each with a checked answer: a box, a reply that says why, and the score."""

from __future__ import annotations

import ipywidgets as w

from workbench import exercises, runs
from workbench.atomic import write_atomic


class Exercises(w.VBox):
    """Ask the exercises of `method`; their answers lie in its package and are computed when asked for."""

    def __init__(self, method: str):
        self.method, self.asked = method, exercises.exercises(method)
        self.boxes, self.replies = [], []
        self.solved: set[int] = set()
        self.score = w.HTML("")
        rows = [self._row(number) for number in range(len(self.asked))]
        export = _button("Sheet for a class", "Save the questions as a Markdown file beside the runs", self.export)
        super().__init__([*rows, w.HBox([self.score, export])])
        self._count()

    def __repr__(self) -> str:
        return f"Exercises({self.method}): {len(self.asked)}"

    def _row(self, number: int) -> w.VBox:
        box = w.Text(placeholder="your answer", description=f"answer {number + 1}", continuous_update=False)
        reply = w.Label("")
        self.boxes.append(box)
        self.replies.append(reply)
        check = _button("Check", "Check the answer", lambda: self.check(number, box.value), "primary")
        give_up = _button("Show the answer", "Show the answer, and why", lambda: self.give_up(number))
        question = w.Label(f"{number + 1}. {self.asked[number].question}")
        return w.VBox([question, w.HBox([box, check, give_up]), reply])

    def check(self, number: int, given: str) -> str:
        """Judge the reply to exercise `number`."""
        exercise = self.asked[number]
        right = exercise.right(given)
        if right:
            self.solved.add(number)
        self.replies[number].value = f"right: {exercise.why}" if right else f"not yet: {exercise.hint}"
        self._count()
        return self.replies[number].value

    def give_up(self, number: int) -> str:
        """Show the answer to exercise `number`, which then counts no more."""
        self.solved.discard(number)
        self.replies[number].value = self.asked[number].solution()
        self._count()
        return self.replies[number].value

    def export(self) -> None:
        """Save the sheet of questions."""
        path = runs.runs_folder() / "exports" / f"exercises-{self.method}.md"
        write_atomic(path, exercises.sheet(self.method).encode())
        self.score.value = f"saved exports/{path.name} in the runs folder"

    def _count(self) -> None:
        self.score.value = f"<b>{len(self.solved)} of {len(self.asked)}</b> solved"


def _button(label: str, hint: str, act, style: str = "") -> w.Button:
    made = w.Button(description=label, tooltip=hint, button_style=style, layout=w.Layout(width="auto"))
    made.on_click(lambda _: act())
    return made
