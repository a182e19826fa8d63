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
from typing import Any

import torch
from torch import Tensor

from workbench import datasets
from workbench.checksums import sha256
from workbench.datasets import DataError

BUNDLED = ("sums", "mixed", "word-problems")
FOLDER = {"svamp": ("svamp",), "gsm8k": ("gsm8k-train", "gsm8k-test"), "math-500": ("math-500",)}
COLUMNS = (
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("instruction", "output"),
    ("prompt", "completion"),
)
FORMATS = (
    ".parquet",
    ".jsonl",
    ".csv",
    ".json",
)  # the first that a data set has: .json often only describes it
ALPACA = (  # of Stanford's Alpaca; the paper's scripts use it
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


@dataclass(frozen=True)
class Problem:
    """A question, and the answer to be written after it."""

    question: str
    answer: str


@dataclass(frozen=True)
class Problems:
    """A set of them in three parts; ``final`` gives of an answer what is judged, None where it is the whole."""

    name: str
    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    test: tuple[Problem, ...]
    final: Callable[[str], str] | None = None


@lru_cache(maxsize=8)
def load(name: str) -> Problems:
    """The set of this name; raises DataError where it is not to be had."""
    if name in BUNDLED:
        rows = [row for row in datasets.load("arithmetic") if row["task"] == name]
        parts = [
            tuple(
                Problem(row["question"], row.get("worked", row["answer"]))
                for row in rows
                if row["part"] == part
            )
            for part in ("train", "validation", "test")
        ]
        return Problems(name, *parts, final=last_number if name == "word-problems" else None)
    if name == "gsm8k":
        train, test = (
            [Problem(r["question"], _plain(r["answer"])) for r in datasets.load(n)] for n in FOLDER[name]
        )
        return Problems(name, tuple(train[:-300]), tuple(train[-300:]), tuple(test), last_number)
    if name == "svamp":
        rows = [
            Problem(f"{r['Body'].rstrip('. ')}. {r['Question']}", f"{r['Answer']:g}")
            for r in datasets.load(name)
        ]
        return _split(name, rows, None)
    if name == "math-500":
        return _split(name, [Problem(r["problem"], r["solution"]) for r in datasets.load(name)], boxed)
    rows = _own(name)
    final = (
        boxed
        if all("\\boxed" in p.answer for p in rows)
        else last_number
        if all("####" in p.answer for p in rows)
        else None
    )
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


def _split(name: str, rows: Sequence[Problem], final: Callable[[str], str] | None) -> Problems:
    """Seven tenths to train on, one to choose by, two to test on, in an order that does not change."""
    mixed = random.Random(0).sample(list(rows), len(rows))
    if len(mixed) < 10:
        raise DataError(f"{name} has {len(mixed)} questions; expected ten at least")
    first, second = 7 * len(mixed) // 10, 8 * len(mixed) // 10
    return Problems(name, tuple(mixed[:first]), tuple(mixed[first:second]), tuple(mixed[second:]), final)


def _tables(name: str) -> list[Path]:
    """A file of one's own, or the tables of a data set of the hub but those of its test part: shards, or one a subject."""
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DataError(
            f"no data {name!r}: expected {', '.join((*BUNDLED, *FOLDER))}, a file that exists, or a hub id such as org/name"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(name, repo_type="dataset", allow_patterns=[f"*{kind}" for kind in FORMATS])
        )
    except (
        Exception
    ) as error:  # the hub's client raises a dozen kinds; all mean that the data is not to be had
        raise DataError(
            f"data {name!r} is neither a file nor a hub id that can be reached ({str(error).splitlines()[0][:200]})"
        ) from error
    for kind in FORMATS:
        tables = [p for p in folder.rglob(f"*{kind}") if not re.search(r"\btest", str(p.relative_to(folder)))]
        if tables:
            return sorted(tables)
    raise DataError(f"data {name!r} has no {', '.join(FORMATS)} table in it")


def _own(name: str) -> list[Problem]:
    """The questions in one's own file, or in a data set of the hub."""
    return [problem for path in _tables(name) for problem in _read(path)]


def _read(path: Path) -> list[Problem]:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str)
        else:
            table = pd.read_json(path, lines=path.suffix == ".jsonl", dtype=False)
    except ImportError as error:  # 170 MB, which nothing else here needs
        raise DataError(f"{path} is a parquet table, which needs pyarrow: pip install pyarrow") from error
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); expected a table of questions and answers"
        ) from error
    columns = next(((q, a) for q, a in COLUMNS if q in table and a in table), None)
    if columns is None:
        raise DataError(f"{path} has the columns {', '.join(map(str, table))}; expected one of {COLUMNS}")
    return [Problem(str(q), str(a)) for q, a in table[list(columns)].dropna().itertuples(index=False)]


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
    for gone in (
        "\\left",
        "\\right",
        "\\!",
        "\\,",
        "\\ ",
        "\\$",
        "$",
        "^{\\circ}",
        "^\\circ",
        "\\%",
        "%",
        " ",
    ):
        found = found.replace(gone, "")
    found = re.sub(r"\\[dt]frac", r"\\frac", found).rstrip(".")
    found = re.sub(r"\\frac(\w)(\w)", r"\\frac{\1}{\2}", found)
    return re.sub(r"^\w=", "", found)


# -- tokens ----------------------------------------------------------------------------------------------------------------------


def prompt(question: str, template: str = "plain") -> str:
    """What the model reads: the question, for ``plain``, with a word that asks for the answer unless it asks itself."""
    if template == "alpaca":
        return ALPACA.format(question=question)
    return question if question.endswith("=") else f"{question}\nAnswer:"


@dataclass(frozen=True)
class Encoded:
    """Token ids ``(tokens,)`` of a question and its answer, of which the answer begins at `start`."""

    ids: Tensor
    start: int


def encode(
    tokenizer: Any,
    problems: Sequence[Problem],
    template: str = "plain",
    length: int = 512,
    end: int | None = None,
) -> list[Encoded]:
    """Question, answer, end (of text, unless given); what is longer than `length` tokens is cut at its end.

    With an end of its own (a line break) an answer is one line.
    """
    if not problems:
        return []
    answers = [" " + (p.answer if end is None else p.answer.replace("\n", " ")) for p in problems]
    texts = [prompt(p.question, template) for p in problems], answers
    firsts, answers = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in texts)
    found = []
    for first, answer in zip(firsts, answers, strict=True):
        first = first[: length - 1]
        ids = [*first, *answer, tokenizer.eos_token_id if end is None else end]
        found.append(Encoded(torch.tensor(ids[:length]), len(first)))
    return found


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


@dataclass(frozen=True)
class Batch:
    """Ids ``(samples, tokens)``, padded at the right; which of them predict an answer's token, and which that is.

    ``rows`` and ``columns`` are the places that predict, ``targets`` the tokens that follow there, all ``(answer tokens,)``.
    """

    ids: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor

    def to(self, device: Any) -> Batch:
        """The same there."""
        return Batch(*(getattr(self, name).to(device) for name in ("ids", "rows", "columns", "targets")))


def collate(samples: Sequence[Encoded], pad: int = 0) -> Batch:
    """A batch of these samples. A causal model needs no mask for what stands at the right of all that is asked."""
    longest = max(len(s.ids) for s in samples)
    ids = torch.full((len(samples), longest), pad)
    rows, columns = [], []
    for number, sample in enumerate(samples):
        ids[number, : len(sample.ids)] = sample.ids
        places = torch.arange(sample.start - 1, len(sample.ids) - 1)
        rows.append(torch.full_like(places, number))
        columns.append(places)
    row, column = torch.cat(rows), torch.cat(columns)
    return Batch(ids, row, column, ids[row, column + 1])
