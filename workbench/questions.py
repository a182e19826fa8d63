"""The answer to a panel's question: what the run measured, why, and what the ledger says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from workbench import papers
from workbench.experiment import Experiment, Question, Record
from workbench.verdicts import Verdict, holm


@dataclass(frozen=True)
class Answer:
    """The place of the right answer, the measured numbers, its text, a reply to the guess, the explanation, the ledger's line."""

    right: int
    measured: str
    answer: str
    reply: str
    why: str
    ledger: str


@dataclass(frozen=True)
class Evidence:
    """What the ledger says about a question: the state of the finding that is meant, and a sentence with its numbers."""

    state: str
    text: str


def answer(experiment: Experiment, question: Question, guess: int, records: Sequence[Record], rival: Sequence[Record]) -> Answer:
    """Judge a guess by the records of a run, and by those of its rival."""
    right = question.right([*records], [*rival])
    numbers = question.measured([*records], [*rival])
    seeds = len({r["seed"] for r in records if "seed" in r})
    where = "This run" if experiment.instant else f"These {seeds} seeds" if seeds > 1 else "This run, one seed"
    found = f"{where}: {numbers}." if numbers else f"{where}:"
    reply = "Your guess is right." if guess == right else f"You guessed: {question.answers[guess]}."
    said = question.answers[right]
    return Answer(right, found, said[:1].upper() + said[1:], reply, question.why, line(experiment, question, right))


def line(experiment: Experiment, question: Question, right: int) -> str:
    """The ledger's line for a question whose run came out as answer `right`; "" if it concerns no claim."""
    found = evidence(experiment, question)
    if found is None:
        return ""
    return f"{found.text} {question.unlike}".strip() if contradicts(question, found, right) else found.text


def contradicts(question: Question, found: Evidence, right: int) -> bool:
    """Whether one run's answer contradicts the ledger's finding."""
    return right not in question.agrees.get(found.state, range(len(question.answers)))


def evidence(experiment: Experiment, question: Question) -> Evidence | None:
    """The ledger's finding about a question, from the committed records; None if it concerns no claim."""
    if not question.claim:
        return None
    judged, corrected = _judged(experiment.method)[question.claim]
    meant = [f for f in judged.findings if f.text.startswith(question.part)]
    state: str
    if question.part and meant:
        state, said = meant[0].state, f"{meant[0]}: {meant[0].state}"
    else:
        state, said = judged.verdict, f"{judged.measured}: {judged.verdict}"
        if corrected not in ("-", state):
            said += f" ({corrected} after Holm's correction for the number of claims)"
    counts = {f.found.n for f in meant} - {1}
    over = f", over {min(counts)} {experiment.units}" if counts else ""
    return Evidence(state, f"Ledger, claim “{question.claim}”{over}: {said}.")


@lru_cache(maxsize=8)
def _judged(method: str) -> dict[str, tuple[Verdict, str]]:
    """The verdict of each claim on the committed records, and its state after Holm's correction."""
    judged = papers.judged(method, "reference")
    return dict(zip(judged, zip(judged.values(), holm([*judged.values()]), strict=True), strict=True))
