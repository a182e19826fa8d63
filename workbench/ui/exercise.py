"""The exercises of a method, with an input box for each answer, a reply that explains the answer, and the score."""

from __future__ import annotations

import html

import ipywidgets as w

from workbench import exercises, runs
from workbench.atomic import write_atomic

WIDE = w.Layout(width="auto", max_width="900px")  # long texts wrap


class Exercises(w.VBox):
    """The exercises of `method`. The key Enter and the button Check compare an answer with the result that Workbench computes."""

    def __init__(self, method: str):
        self.method, self.asked = method, exercises.exercises(method)
        self.boxes, self.replies = [], []
        self.solved: set[int] = set()
        self.score = w.HTML("")
        rows = [self._row(number) for number in range(len(self.asked))]
        export = _button("Sheet for a class", "Save the questions as a Markdown file in the runs folder", self.export)
        super().__init__([*rows, w.HBox([self.score, export])])
        self._count()

    def __repr__(self) -> str:
        return f"Exercises({self.method}): {len(self.asked)}"

    def _row(self, number: int) -> w.VBox:
        box = w.Text(placeholder="your answer, then Enter", description=f"answer {number + 1}", continuous_update=False)
        # with continuous_update=False, the value changes only when Enter is pressed
        box.observe(lambda change: self.check(number, change["new"]) if change["new"].strip() else None, "value")
        reply = w.HTML("", layout=WIDE)
        self.boxes.append(box)
        self.replies.append(reply)
        check = _button("Check", "Check the answer", lambda: self.check(number, box.value), "primary")
        give_up = _button("Show the answer", "Show the answer and the explanation", lambda: self.give_up(number))
        question = w.HTML(html.escape(f"{number + 1}. {self.asked[number].question}"), layout=WIDE)
        return w.VBox([question, w.HBox([box, check, give_up]), reply])

    def check(self, number: int, given: str) -> str:
        """Check `given`, the reader's answer to exercise `number`; show and return the reply."""
        exercise = self.asked[number]
        right = exercise.right(given)
        if right:
            self.solved.add(number)
        return self._reply(number, f"right: {exercise.why}" if right else f"not yet: {exercise.hint}")

    def give_up(self, number: int) -> str:
        """Show and return the solution of exercise `number`, which then no longer counts as solved."""
        self.solved.discard(number)
        return self._reply(number, self.asked[number].solution())

    def _reply(self, number: int, text: str) -> str:
        self.replies[number].value = html.escape(text)
        self._count()
        return text

    def export(self) -> None:
        """Save the questions as a Markdown file in the subfolder ``exports`` of the runs folder."""
        path = runs.runs_folder() / "exports" / f"exercises-{self.method}.md"
        write_atomic(path, exercises.sheet(self.method).encode())
        self._count(f"; saved exports/{path.name} in the runs folder")

    def _count(self, more: str = "") -> None:
        self.score.value = html.escape(f"{len(self.solved)} of {len(self.asked)} solved{more}")


def _button(label: str, hint: str, act, style: str = "") -> w.Button:
    made = w.Button(description=label, tooltip=hint, button_style=style, layout=w.Layout(width="auto"))
    made.on_click(lambda _: act())
    return made
