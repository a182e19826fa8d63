"""Questions to fine-tune on, with the answers to be written, and how a written answer is judged.

============== ========================================================== =======================================
name           what                                                       judged by
============== ========================================================== =======================================
sums           15 - 43 - 75 =                                             the whole answer
mixed          Calculate -33 / 11 + -22.                                  the whole answer
word-problems  a worked answer that ends in ``#### 28080``                its last number
svamp          one-step word problems (your folder)                       the whole answer
gsm8k          grade-school word problems, worked (your folder)           its last number
math-500       problems of MATH, worked (your folder)                     its boxed answer, normalised
a file or id   .jsonl, .csv or .parquet of yours, or a data set of the    its boxed answer or last number where the
               hub, with a question and an answer column                  answers have such, else the whole answer
============== ========================================================== =======================================
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench import datasets, qa
from workbench.checksums import sha256
from workbench.datasets import DataError
from workbench.qa import Encoded, Pair

BUNDLED = ("sums", "mixed", "word-problems")
FOLDER = {"svamp": ("svamp",), "gsm8k": ("gsm8k-train", "gsm8k-test"), "math-500": ("math-500",)}


@dataclass(frozen=True)
class Problems:
    """A set of them in three parts; ``final`` gives of an answer what is judged, None where it is the whole."""

    name: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    final: Callable[[str], str] | None = None


@lru_cache(maxsize=8)
def load(name: str) -> Problems:
    """The set of this name; raises DataError where it is not to be had."""
    if name in BUNDLED:
        rows = [row for row in datasets.load("arithmetic") if row["task"] == name]
        parts = [
            tuple(Pair(row["question"], row.get("worked", row["answer"])) for row in rows if row["part"] == part)
            for part in ("train", "validation", "test")
        ]
        return Problems(name, *parts, final=last_number if name == "word-problems" else None)
    if name == "gsm8k":
        train, test = ([Pair(r["question"], _plain(r["answer"])) for r in datasets.load(n)] for n in FOLDER[name])
        return Problems(name, tuple(train[:-300]), tuple(train[-300:]), tuple(test), last_number)
    if name == "svamp":
        rows = [Pair(f"{r['Body'].rstrip('. ')}. {r['Question']}", f"{r['Answer']:g}") for r in datasets.load(name)]
        return _split(name, rows, None)
    if name == "math-500":
        return _split(name, [Pair(r["problem"], r["solution"]) for r in datasets.load(name)], boxed)
    rows = _own(name)
    final = boxed if all("\\boxed" in p.answer for p in rows) else last_number if all("####" in p.answer for p in rows) else None
    return _split(name, rows, final)


def inputs(name: str) -> list[str]:
    """References of the data that a set is made of, for a run's identity."""
    if name in BUNDLED:
        return [datasets.ref("arithmetic")]
    if name in FOLDER:
        return [datasets.ref(one) for one in FOLDER[name]]
    sums = [sha256(path) for path in _tables(name)]
    whole = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    return [f"{name}@{whole[:16]}"]


def _plain(worked: str) -> str:
    """Without the marks of GSM8K's calculator."""
    return re.sub(r"<<.*?>>", "", worked)


def _split(name: str, rows: Sequence[Pair], final: Callable[[str], str] | None) -> Problems:
    """Seven tenths to train on, one to choose by, two to test on, in an order that does not change."""
    mixed = random.Random(0).sample(list(rows), len(rows))
    if len(mixed) < 10:
        raise DataError(f"{name} has {len(mixed)} questions; expected ten at least")
    first, second = 7 * len(mixed) // 10, 8 * len(mixed) // 10
    return Problems(name, tuple(mixed[:first]), tuple(mixed[first:second]), tuple(mixed[second:]), final)


def _own(name: str) -> list[Pair]:
    """The questions in a file of yours, or in a data set of the hub."""
    return [pair for path in _tables(name) for pair in qa.read(path)]


def _tables(name: str) -> list[Path]:
    return qa.tables(name, (*BUNDLED, *FOLDER))


# -- judging ---------------------------------------------------------------------------------------------------------------------


def last_number(text: str) -> str:
    """The number after ``####``, or else the last one, without commas and without ``.0``; "" where there is none."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text.rpartition("####")[2] if "####" in text else text)
    return re.sub(r"\.0+$", "", found[-1].replace(",", "")) if found else ""


def boxed(text: str) -> str:
    r"""The last ``\boxed{...}``, as it is compared: without spaces, sizes of brackets and units. "" where there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return ""
    depth, end = 0, len(text)
    for place in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            end = place
            break
    found = text[start + len("\\boxed{") : end]
    found = re.sub(r"\\text\{\s*([^}]*)\}", r"\1", found)
    for gone in ("\\left", "\\right", "\\!", "\\,", "\\ ", "\\$", "$", "^{\\circ}", "^\\circ", "\\%", "%", " "):
        found = found.replace(gone, "")
    found = re.sub(r"\\[dt]frac", r"\\frac", found).rstrip(".")
    found = re.sub(r"\\frac(\w)(\w)", r"\\frac{\1}{\2}", found)
    return re.sub(r"^\w=", "", found)


def guess(train: Sequence[Encoded], test: Sequence[Encoded]) -> float:
    """Nats a token of the test answers for one who knows how often each token stands at each place of an answer, no question.

    Counted on the training answers, one more for every token (Laplace): what a model must undercut to have learnt the task.
    """
    counts: dict[int, Counter[int]] = {}
    for sample in train:
        for place, token in enumerate(sample.ids[sample.start :].tolist()):
            counts.setdefault(place, Counter())[token] += 1
    kinds = len({token for seen in counts.values() for token in seen}) + 1
    found = []
    for sample in test:
        for place, token in enumerate(sample.ids[sample.start :].tolist()):
            seen = counts.get(place, Counter())
            found.append(-math.log((seen[token] + 1) / (seen.total() + kinds)))
    return sum(found) / len(found)
