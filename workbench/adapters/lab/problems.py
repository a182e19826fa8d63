"""Sets of questions and answers for fine-tuning, and the rules that judge an answer.

A worked answer contains the steps of the solution. The sets marked with * are read from your data folder.

============== ========================================================== =============================================
name           questions, or an example                                   judged part of the answer
============== ========================================================== =============================================
last-word      ``Last word of: sea night deck?``                          the whole answer
sums           ``15 - 43 - 75 =``                                         the whole answer
mixed          ``Calculate -33 / 11 + -22.``                              the whole answer
word-problems  with a worked answer that ends in ``#### 28080``           the last number
svamp *        one-step word problems                                     the whole answer
gsm8k *        grade-school word problems with worked answers             the last number
math-500 *     problems of MATH with worked answers                       the boxed answer, normalised
a file or id   your .jsonl, .csv or .parquet file, or a data set of the   the boxed answer or the number after ``####``
               hub, with a question column and an answer column           if all answers have one, else the whole answer
============== ========================================================== =============================================
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

BUNDLED = {"last-word": "last-word", "sums": "arithmetic", "mixed": "arithmetic", "word-problems": "arithmetic"}
FOLDER = {"svamp": ("svamp",), "gsm8k": ("gsm8k-train", "gsm8k-test"), "math-500": ("math-500",)}


@dataclass(frozen=True)
class Problems:
    """A set of questions in three parts.

    ``final(answer)`` returns the part of an answer that is judged. If `final` is None, the whole answer is judged.
    """

    name: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    final: Callable[[str], str] | None = None


@lru_cache(maxsize=8)
def load(name: str) -> Problems:
    """Return the set with the name `name`. Raises DataError if the set is not available."""
    if name in BUNDLED:
        rows = [row for row in datasets.load(BUNDLED[name]) if row.get("task", name) == name]
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
    """Return references (name and checksum) to the data of a set. These references are part of the identity of a run."""
    if name in BUNDLED:
        return [datasets.ref(BUNDLED[name])]
    if name in FOLDER:
        return [datasets.ref(one) for one in FOLDER[name]]
    sums = [sha256(path) for path in _tables(name)]
    whole = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    return [f"{name}@{whole[:16]}"]


def _plain(worked: str) -> str:
    """Return a worked answer without the calculator annotations of GSM8K."""
    return re.sub(r"<<.*?>>", "", worked)


def _split(name: str, rows: Sequence[Pair], final: Callable[[str], str] | None) -> Problems:
    """Shuffle the questions in a fixed random order and split them into 70 % training, 10 % validation and 20 % test."""
    mixed = random.Random(0).sample(list(rows), len(rows))
    if len(mixed) < 10:
        raise DataError(f"{name} has {len(mixed)} questions; expected at least 10: add more, or choose another set")
    first, second = 7 * len(mixed) // 10, 8 * len(mixed) // 10
    return Problems(name, tuple(mixed[:first]), tuple(mixed[first:second]), tuple(mixed[second:]), final)


def _own(name: str) -> list[Pair]:
    """Return the questions of a local file or of a data set of the hub."""
    return [pair for path in _tables(name) for pair in qa.read(path)]


def _tables(name: str) -> list[Path]:
    return qa.tables(name, (*BUNDLED, *FOLDER))


# -- judging ---------------------------------------------------------------------------------------------------------------------


def last_number(text: str) -> str:
    """Return the last number of a text, or of the part after the last ``####`` if the text contains this mark.

    Commas and a final ``.0`` are removed. If there is no number, "" is returned.
    """
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text.rpartition("####")[2] if "####" in text else text)
    return re.sub(r"\.0+$", "", found[-1].replace(",", "")) if found else ""


def boxed(text: str) -> str:
    r"""Return the content of the last ``\boxed{...}`` in normal form, or "" if the text has no box.

    The normal form has no spaces, no ``\left``, ``\right`` or ``\text``, no signs for degrees, dollars and percent, no final
    full stop, and no variable with an equals sign at the start, such as ``x=``. It writes fractions as ``\frac{a}{b}``.
    """
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
    """Return the test loss, in nats per token, of a guess that ignores the question.

    The guess predicts a token by its frequency at the same position in the training answers, with Laplace smoothing (every
    count is increased by one). A model has learnt the task only if its loss is lower.
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
