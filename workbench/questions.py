"""The answer to the question of a panel: the result of the run, its explanation, and the finding of the ledger.

The ledger is the table of all claims of a method with their verdicts (`papers.ledger`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from workbench import papers
from workbench.experiment import Experiment, Question, Record
from workbench.verdicts import Verdict, holm


@dataclass(frozen=True)
class Answer:
    """The answer that a panel shows after the run."""

    right: int  # index of the right answer
    measured: str  # the measured numbers
    answer: str  # text of the right answer
    reply: str  # tells the reader whether the guess was right
    why: str  # explanation of the result
    ledger: str  # the finding of the ledger, or "" if the question concerns no claim


@dataclass(frozen=True)
class Evidence:
    """The finding of the ledger that a question concerns: its state, and a sentence with its numbers."""

    state: str
    text: str


def answer(experiment: Experiment, question: Question, guess: int, records: Sequence[Record], rival: Sequence[Record]) -> Answer:
    """Return the answer to a question, with a reply to `guess`, the index of the answer that the reader expects.

    `records` are the records of the run. `rival` holds the records of the rival run (see `Question`), and is empty without one.
    """
    right = question.right([*records], [*rival])
    numbers = question.measured([*records], [*rival])
    seeds = len({r["seed"] for r in records if "seed" in r})
    where = "This run" if experiment.instant else f"These {seeds} seeds" if seeds > 1 else "This run, one seed"
    found = f"{where}: {numbers}." if numbers else f"{where}:"
    reply = "Your guess is right." if guess == right else f"You guessed: {question.answers[guess]}."
    said = question.answers[right]
    return Answer(right, found, said[:1].upper() + said[1:], reply, question.why, line(experiment, question, right))


def line(experiment: Experiment, question: Question, right: int) -> str:
    """Return the finding of the ledger as a sentence, or "" if the question concerns no claim.

    `right` is the index of the right answer. If the ledger contradicts this answer, the explanation `question.unlike` is added.
    """
    found = evidence(experiment, question)
    if found is None:
        return ""
    return f"{found.text} {question.unlike}".strip() if contradicts(question, found, right) else found.text


def contradicts(question: Question, found: Evidence, right: int) -> bool:
    """Return whether the answer with the index `right`, which one run gave, contradicts the finding of the ledger."""
    return right not in question.agrees.get(found.state, range(len(question.answers)))


def evidence(experiment: Experiment, question: Question) -> Evidence | None:
    """Return the finding, computed from the reference records, that a question concerns, or None if it concerns no claim."""
    if not question.claim:
        return None
    judged, corrected = _judged(experiment.method)[question.claim]
    meant = [f for f in judged.findings if f.text.startswith(question.part)]
    state: str
    if question.part and meant:
        subject, state, said = "The whole claim", meant[0].state, str(meant[0])
    else:
        subject, state, said = "It", judged.verdict, judged.measured
    whole = f" {subject} is {corrected} after Holm's correction for the number of claims."
    counts = {f.found.n for f in meant} - {1}
    over = f", over {min(counts)} {experiment.units}" if counts else ""
    return Evidence(state, f"Ledger, claim “{question.claim}”{over}: {said}: {state}.{whole * (corrected not in ('-', state))}")


@lru_cache(maxsize=8)
def _judged(method: str) -> dict[str, tuple[Verdict, str]]:
    """Return the verdict of each claim from the reference records, and the state of the claim after Holm's correction."""
    judged = papers.judged(method, "reference")
    return dict(zip(judged, zip(judged.values(), holm([*judged.values()]), strict=True), strict=True))
