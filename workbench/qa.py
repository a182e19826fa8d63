"""Questions with answers: read from tables, turned into batches of tokens; the loss on answers alone; a choice among answers."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.checkpoints import first_line
from workbench.datasets import DataError
from workbench.models import LanguageModel
from workbench.rwkv6 import RWKV6
from workbench.training import enough_memory

COLUMNS = (
    ("question", "answer"), ("query", "response"), ("query", "answer"), ("problem", "solution"), ("instruction", "output"),
    ("prompt", "completion"),
)  # fmt: skip
# in this order, since a .json of a data set often only describes it
FORMATS = (".parquet", ".jsonl", ".csv", ".json")
ALPACA = (  # of Stanford's Alpaca
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


@dataclass(frozen=True)
class Pair:
    """A question, and the answer to be written after it."""

    question: str
    answer: str


# -- tables ----------------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Pair]:
    """The pairs in a table (.csv, .json, .jsonl, .parquet) whose columns are one pair of `COLUMNS`.

    Rows that lack a question or an answer are left out, with a warning. Raises DataError for a file that cannot be read, that
    has no such columns, or whose questions or answers are neither text nor numbers.
    """
    try:
        rows = _rows(path)
    except ImportError as error:  # 170 MB, which nothing else here needs
        raise DataError(f"{path} is a parquet table, which needs pyarrow: pip install pyarrow") from error
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); expected a table of questions and answers") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} holds no rows; expected a table of questions and answers, such as a JSON list of objects")
    columns = next((pair for pair in COLUMNS if all(name in rows[0] for name in pair)), None)
    if columns is None:
        raise DataError(f"{path} has the columns {', '.join(map(str, rows[0]))}; expected one of {COLUMNS}")
    cells = [[_text(row.get(name), f"{path}, row {number}: {name}") for name in columns] for number, row in enumerate(rows, 1)]
    whole = [Pair(question, answer) for question, answer in cells if question and answer]
    if len(whole) < len(cells):
        warnings.warn(f"{path}: {len(cells) - len(whole)} of {len(cells)} rows have no {' or no '.join(columns)}", stacklevel=2)
    return whole


def _rows(path: Path) -> Any:
    """What a table holds: a list of rows, each a dict, if it is one."""
    import pandas as pd

    if path.suffix == ".parquet":
        table = pd.read_parquet(path).convert_dtypes()  # else a whole number beside a gap is 7.0
        return table.astype(object).where(table.notna(), None).to_dict("records")
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")  # "None" may be an answer
    text = path.read_text(encoding="utf-8-sig")
    return [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else json.loads(text)


def _text(value: Any, where: str) -> str:
    if value is not None and not isinstance(value, (str, int, float)):
        raise DataError(f"{where} is a {type(value).__name__}; expected text or a number")
    return "" if value is None or value != value else str(value)  # NaN is nothing, too


def tables(name: str, known: Sequence[str] = ()) -> list[Path]:
    """A file of yours, or the tables of a data set of the hub (shards, or one for each subject) without those of its test part.

    Raises DataError where neither is to be had; `known` are the names that it may have meant instead.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DataError(f"no data {name!r}: expected {', '.join([*known, 'a file that exists'])}, or a hub id such as org/name")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns=[f"*{kind}" for kind in FORMATS]))
    except Exception as error:  # the hub's client raises many types of errors; each means that the data is not available
        raise DataError(f"data {name!r} is neither a file nor a hub id that can be reached ({first_line(error)})") from error
    for kind in FORMATS:
        found = [p for p in folder.rglob(f"*{kind}") if not re.search(r"\btest", str(p.relative_to(folder)))]
        if found:
            return sorted(found)
    raise DataError(f"data {name!r} has no {', '.join(FORMATS)} table in it")


# -- tokens ----------------------------------------------------------------------------------------------------------------------


def prompt(question: str, template: Literal["plain", "alpaca"] = "plain") -> str:
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
    lm: LanguageModel, pairs: Sequence[Pair], template: Literal["plain", "alpaca"] = "plain", length: int = 512
) -> list[Encoded]:
    """Question, answer, end, as tokens; what is longer than `length` of them is cut at its end, a question to ``length - 1``.

    An answer is one line where the model ends answers with a line break.
    """
    if not pairs:
        return []
    texts = [prompt(pair.question, template) for pair in pairs]
    samples = _encoded(lm, texts, [pair.answer for pair in pairs], length)
    end = torch.tensor([lm.end])
    return [Encoded(torch.cat([sample.ids, end])[:length], sample.start) for sample in samples]


def _encoded(lm: LanguageModel, texts: Sequence[str], answers: Sequence[str], length: int | None = None) -> list[Encoded]:
    """Texts with their answers, without an end; a text is cut to ``length - 1`` tokens."""
    answers = [" " + (answer.replace("\n", " ") if lm.one_line else answer) for answer in answers]
    firsts = [ids[: None if length is None else length - 1] for ids in lm.prompt_ids(texts)]
    seconds = lm.tokenizer(answers, add_special_tokens=False)["input_ids"]
    return [Encoded(torch.tensor([*a, *b]), len(a)) for a, b in zip(firsts, seconds, strict=True)]


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


# -- the loss on answers ---------------------------------------------------------------------------------------------------------


def answer_logits(model: Any, batch: Batch) -> Tensor:
    """Logits ``(answer tokens, vocabulary)`` of the answers' tokens alone, in float32: the head is much of the work."""
    if head_alone_gives_logits(model):
        found: Tensor = head(model)(hidden_states(model, batch.ids)[batch.rows, batch.columns])
    else:
        found = model(input_ids=batch.ids).logits[batch.rows, batch.columns]
    return found.float()


def answer_loss(model: Any, batch: Batch) -> Tensor:
    """Mean loss in nats of the answers' tokens, a scalar to differentiate. Raises TrainingError where memory does not suffice."""
    with enough_memory():
        return F.cross_entropy(answer_logits(model, batch), batch.targets)


def hidden_states(model: Any, ids: Tensor) -> Tensor:
    """What the model's head reads, ``(batch, tokens, width)``."""
    if isinstance(model, RWKV6):
        return model.hidden(ids)[0]
    found: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return found


def head(model: Any) -> Any:
    """The model's last layer, from hidden states to logits."""
    return model.head if isinstance(model, RWKV6) else model.get_output_embeddings()


_HEAD_ALONE: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def head_alone_gives_logits(model: Any) -> bool:
    """Whether the head on the hidden states gives the model's own logits, which some models cap or scale; tried once a model."""
    if model not in _HEAD_ALONE:
        ids = torch.arange(3, device=next(model.parameters()).device)[None]
        _HEAD_ALONE[model] = head(model) is not None and torch.equal(
            head(model)(hidden_states(model, ids)), model(input_ids=ids).logits
        )
    return _HEAD_ALONE[model]


@enough_memory()
@torch.no_grad()
def judge(lm: LanguageModel, samples: Sequence[Encoded], size: int = 32) -> dict[str, float]:
    """Mean ``loss`` a token of the answers, and the share of them that greedy decoding would write, ``exact``; `size` at once.

    Greedy decoding writes an answer if each of its tokens is the likeliest after those before it: one pass shows both. Leaves
    the model in evaluation mode. Raises TrainingError where memory does not suffice.
    """
    if not samples:
        raise ValueError("there are no samples to judge; expected one at least")
    lm.model.eval()
    total, tokens, right = 0.0, 0, 0
    for batch in _batches(lm, samples, size):
        logits = answer_logits(lm.model, batch)
        total += F.cross_entropy(logits, batch.targets, reduction="sum").item()
        tokens += len(batch.targets)
        wrong = batch.rows[logits.argmax(-1) != batch.targets]
        right += len(batch.ids) - len(wrong.unique())
    return {"loss": total / tokens, "exact": right / len(samples)}


def _batches(lm: LanguageModel, samples: Sequence[Encoded], size: int) -> Iterator[Batch]:
    """Batches of samples of similar length, which need little padding."""
    by_length = sorted(samples, key=lambda sample: len(sample.ids))
    for start in range(0, len(by_length), size):
        yield collate(by_length[start : start + size]).to(lm.model.device)


# -- a choice among answers ------------------------------------------------------------------------------------------------------


@enough_memory()
@torch.no_grad()
def choose(lm: LanguageModel, text: str, options: Sequence[str]) -> tuple[int, list[float]]:
    """The likeliest of `options` to follow a text after a blank, and the mean log-likelihood a token of each, in nats.

    Runs in evaluation mode. Raises ValueError where there are no options, an empty one, or more tokens than the model reads.
    """
    if not options or not all(option.strip() for option in options):
        raise ValueError(f"options={list(options)!r}: expected one text at least, and none that is empty")
    samples = _encoded(lm, [text] * len(options), options)
    longest = max(len(sample.ids) for sample in samples)
    most = getattr(getattr(lm.model, "config", None), "max_position_embeddings", None) or longest
    if longest > most:
        raise ValueError(f"text and option have {longest} tokens, and {lm.name} reads at most {most}: shorten them")
    lm.model.eval()
    batch = collate(samples).to(lm.model.device)
    losses = F.cross_entropy(answer_logits(lm.model, batch), batch.targets, reduction="none")
    scores = [-losses[batch.rows == number].mean().item() for number in range(len(options))]
    return max(range(len(scores)), key=scores.__getitem__), scores


def accuracy(lm: LanguageModel, questions: Sequence[dict[str, Any]]) -> float:
    """Share of questions with options (question, options, answer: the number of the right one) that `choose` gets right.

    The model reads ``Question: ...``, a line break and ``Answer:``.
    """
    chosen = [choose(lm, f"Question: {q['question']}\nAnswer:", q["options"])[0] for q in questions]
    return sum(one == int(q["answer"]) for one, q in zip(chosen, questions, strict=True)) / len(questions)
