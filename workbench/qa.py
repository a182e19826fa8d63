"""Question answering: read pairs from tables, tokenize and batch them, and compute loss and accuracy on the answers only."""

from __future__ import annotations

import json
import math
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
from workbench.decoding import few_tokens
from workbench.models import LanguageModel
from workbench.rwkv6 import RWKV6
from workbench.training import enough_memory, evaluating

COLUMNS = (
    ("question", "answer"), ("query", "response"), ("query", "answer"), ("problem", "solution"), ("instruction", "output"),
    ("prompt", "completion"),
)  # fmt: skip
TEST = re.compile(r"(?<![a-z])test(s|ing)?(?![a-z])", re.IGNORECASE)  # a path with this word is part of the test split
# Data sets are searched for tables in these formats, in this order. A .json file often holds only metadata, so .json comes last.
FORMATS = (".parquet", ".jsonl", ".csv", ".json")
ALPACA = (  # the prompt of Stanford's Alpaca
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


@dataclass(frozen=True)
class Pair:
    """A question and its answer."""

    question: str
    answer: str


# -- tables ----------------------------------------------------------------------------------------------------------------------


def read(path: str | Path) -> list[Pair]:
    """Read the pairs of a table (.csv, .json, .jsonl, .parquet) that has the two columns of one entry of `COLUMNS`.

    Rows without a question or an answer are left out, with a warning. Raises DataError if the file cannot be read, if it has no
    such columns, or if a question or an answer is neither text nor a number.
    """
    path = Path(path)
    try:
        rows = _rows(path)
    except ImportError as error:  # pyarrow (170 MB) is not a dependency
        raise DataError(f"{path} is a parquet table, which needs pyarrow; run: pip install pyarrow") from error
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); expected .csv, .json, .jsonl or .parquet") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} holds no rows; expected a table of questions and answers, such as a JSON list of objects")
    columns = next((pair for pair in COLUMNS if all(name in rows[0] for name in pair)), None)
    if columns is None:
        raise DataError(f"{path} has the columns {', '.join(map(str, rows[0]))}; expected one of the pairs {COLUMNS}")
    cells = [[_text(row.get(name), f"{path}, row {number}: {name}") for name in columns] for number, row in enumerate(rows, 1)]
    whole = [Pair(question, answer) for question, answer in cells if question.strip() and answer.strip()]
    if len(whole) < len(cells):
        warnings.warn(
            f"{path}: {len(cells) - len(whole)} of {len(cells)} rows are left out, since they have no {' or no '.join(columns)}",
            stacklevel=2,
        )
    return whole


def _rows(path: Path) -> Any:
    """Return the rows of a table as a list of dicts; for JSON that holds no table, return its content."""
    import pandas as pd

    kind = path.suffix.lower()
    if kind == ".parquet":
        table = pd.read_parquet(path).convert_dtypes()  # otherwise pandas reads 7 as 7.0 if the column has missing values
        return table.astype(object).where(table.notna(), None).to_dict("records")
    if kind == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")  # "None" may be an answer
    text = path.read_text(encoding="utf-8-sig")
    return [json.loads(line) for line in text.split("\n") if line.strip()] if kind == ".jsonl" else json.loads(text)


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or (value is not None and not isinstance(value, (str, int, float))):
        raise DataError(f"{where} is a {type(value).__name__}; expected text or a number")
    if isinstance(value, float) and math.isinf(value):
        raise DataError(f"{where} is {value}; expected text or a finite number")
    return "" if value is None or value != value else str(value)  # NaN also means that the value is missing


def tables(name: str, known: Sequence[str] = ()) -> list[Path]:
    """Return the path of a local file, or download a Hugging Face data set and return the paths of its tables.

    Tables whose path contains the word ``test``, ``tests`` or ``testing`` are left out. Raises DataError if `name` is neither a
    file nor a data set that can be reached, or if it has no table. `known` lists other accepted names for the error message.
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
        raise DataError(
            f"data set {name!r} is neither a file nor a hub id that can be reached ({first_line(error)}); check the name and the "
            "network connection"
        ) from error
    for kind in FORMATS:
        found = [p for p in folder.rglob(f"*{kind}") if not TEST.search(str(p.relative_to(folder)))]
        if found:
            return sorted(found)
    raise DataError(f"data set {name!r} has no table outside its test split; expected a file of type {', '.join(FORMATS)}")


# -- tokens ----------------------------------------------------------------------------------------------------------------------


def prompt(question: str, template: Literal["plain", "alpaca"] = "plain") -> str:
    """Return the prompt of a question. With ``plain``, a line ``Answer:`` is added unless the question ends with ``=``."""
    if template == "alpaca":
        return ALPACA.format(question=question)
    return question if question.endswith("=") else f"{question}\nAnswer:"


@dataclass(frozen=True)
class Encoded:
    """Token ids ``(tokens,)`` of a question and its answer; ``ids[start]`` is the first token of the answer."""

    ids: Tensor
    start: int


def encode(
    lm: LanguageModel, pairs: Sequence[Pair], template: Literal["plain", "alpaca"] = "plain", length: int = 512
) -> list[Encoded]:
    """Tokenize each pair as question, answer and end token; return one `Encoded` for each pair.

    A prompt (the question in its template) is cut off after ``length - 1`` tokens, and the whole of prompt, answer and end token
    is cut off after `length` tokens. No warning is given. If ``lm.one_line`` is set, line breaks in an answer become spaces.
    Raises DataError if the tokenizer has no end token.
    """
    if not pairs:
        return []
    texts = [prompt(pair.question, template) for pair in pairs]
    if length < 2:
        raise ValueError(f"length={length}: expected at least 2 tokens, one of the question and one of the answer")
    samples = _encoded(lm, texts, [pair.answer for pair in pairs], length)
    end = torch.tensor([lm.end])
    return [Encoded(torch.cat([sample.ids, end])[:length], sample.start) for sample in samples]


def _encoded(lm: LanguageModel, texts: Sequence[str], answers: Sequence[str], length: int | None = None) -> list[Encoded]:
    """Tokenize each text with its answer, without an end token. Only the text is cut off, after ``length - 1`` tokens."""
    answers = [" " + (answer.replace("\n", " ") if lm.one_line else answer) for answer in answers]
    most = None if length is None else length - 1
    plain, wholes, alone = (
        lm.tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
        for part in (list(texts), [text + answer for text, answer in zip(texts, answers, strict=True)], answers)
    )
    found = []
    for begun, first, whole, second in zip(lm.prompt_ids(texts), plain, wholes, alone, strict=True):
        if not begun:
            raise ValueError("a text has no tokens; expected a non-empty text that an answer can follow")
        # Some tokenizers prepend a space to each text. Tokenized alone, an answer would then begin with an extra space.
        if whole[: len(first)] == first:
            second = whole[len(first) :]
        found.append(Encoded(torch.tensor([*begun[:most], *second]), len(begun[:most])))
    return found


@dataclass(frozen=True)
class Batch:
    """Token ids ``(samples, tokens)``, padded at the right, and the positions at which tokens of answers are predicted.

    The logits at ``[rows, columns]`` predict the token ids `targets`. Each of `rows`, `columns` and `targets` has the shape
    ``(answer tokens,)``.
    """

    ids: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor

    def to(self, device: Any) -> Batch:
        """Return a copy of the batch on `device`."""
        return Batch(*(getattr(self, name).to(device) for name in ("ids", "rows", "columns", "targets")))


def collate(samples: Sequence[Encoded], pad: int = 0) -> Batch:
    """Combine samples into a batch. A causal model needs no attention mask, since padding at the right affects no prediction."""
    if any(s.start < 1 for s in samples):
        raise ValueError("a sample begins with its answer; expected at least one token of a question before the answer")
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
    """Return float32 logits ``(answer tokens, vocabulary)``; if possible, apply the head only at the positions needed."""
    if head_alone_gives_logits(model):
        found: Tensor = model.get_output_embeddings()(hidden_states(model, batch.ids)[batch.rows, batch.columns])
    else:
        found = model(input_ids=batch.ids).logits[batch.rows, batch.columns]
    return found.float()


def answer_loss(model: Any, batch: Batch) -> Tensor:
    """Return the mean cross-entropy in nats per answer token, as a differentiable scalar.

    Raises TrainingError if there is not enough memory.
    """
    with enough_memory():
        return F.cross_entropy(answer_logits(model, batch), batch.targets)


def hidden_states(model: Any, ids: Tensor) -> Tensor:
    """Return the final hidden states, the input of the model's head: ``(batch, tokens, width)``."""
    if isinstance(model, RWKV6):
        return model.hidden(ids)[0]
    found: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return found


_HEAD_ALONE: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def head_alone_gives_logits(model: Any) -> bool:
    """Return whether applying the head to the hidden states gives the model's logits.

    The result is False if the model caps or scales its logits. The first call for a model compares the logits of a few tokens in
    evaluation mode, and the result is stored.
    """
    if model not in _HEAD_ALONE:
        ids, last = few_tokens(model), model.get_output_embeddings()
        with evaluating(model):
            _HEAD_ALONE[model] = last is not None and torch.equal(last(hidden_states(model, ids)), model(input_ids=ids).logits)
    return _HEAD_ALONE[model]


@enough_memory()
@torch.no_grad()
def judge(lm: LanguageModel, samples: Sequence[Encoded], size: int = 32) -> dict[str, float]:
    """Return ``loss``, the mean loss in nats per answer token, and ``exact``, the share of answers that are reproduced.

    An answer is reproduced if greedy decoding would generate it, that is, if each of its tokens is the most likely one after the
    tokens before it. Therefore one forward pass gives both numbers. `size` samples form a batch. The model runs in evaluation
    mode. Raises ValueError if there are no samples, and TrainingError if there is not enough memory.
    """
    if not samples:
        raise ValueError("there are no samples to judge; expected at least one")
    total, tokens, right = 0.0, 0, 0
    for batch in _batches(lm, samples, size):
        with evaluating(lm.model):
            logits = answer_logits(lm.model, batch)
        total += F.cross_entropy(logits, batch.targets, reduction="sum").item()
        tokens += len(batch.targets)
        wrong = batch.rows[logits.argmax(-1) != batch.targets]
        right += len(batch.ids) - len(wrong.unique())
    return {"loss": total / tokens, "exact": right / len(samples)}


def _batches(lm: LanguageModel, samples: Sequence[Encoded], size: int) -> Iterator[Batch]:
    """Yield batches on the model's device, sorted by length to reduce padding."""
    by_length = sorted(samples, key=lambda sample: len(sample.ids))
    for start in range(0, len(by_length), size):
        yield collate(by_length[start : start + size]).to(lm.model.device)


# -- a choice among answers ------------------------------------------------------------------------------------------------------


@enough_memory()
@torch.no_grad()
def choose(lm: LanguageModel, text: str, options: Sequence[str]) -> tuple[int, list[float]]:
    """Return the index of the most likely option, and for each option its mean log-likelihood in nats per token.

    Each option is appended to `text` after a space. The model runs in evaluation mode. Raises ValueError if there are no options,
    if an option is empty, if the text has no tokens, or if the text with an option exceeds the model's context. Raises
    TrainingError if there is not enough memory.
    """
    if not options or not all(option.strip() for option in options):
        raise ValueError(f"options={list(options)!r}: expected at least one text, and no empty text")
    samples = _encoded(lm, [text] * len(options), options)
    longest = max(len(sample.ids) for sample in samples)
    if lm.context is not None and longest > lm.context:
        raise ValueError(f"text and option have {longest} tokens; {lm.name} accepts at most {lm.context}: shorten the text")
    batch = collate(samples).to(lm.model.device)
    with evaluating(lm.model):
        losses = F.cross_entropy(answer_logits(lm.model, batch), batch.targets, reduction="none")
    scores = [-losses[batch.rows == number].mean().item() for number in range(len(options))]
    return max(range(len(scores)), key=scores.__getitem__), scores


def accuracy(lm: LanguageModel, questions: Sequence[dict[str, Any]]) -> float:
    """Return the share of multiple-choice questions that `choose` answers correctly.

    A question is a dict with the keys ``question`` (text), ``options`` (texts) and ``answer`` (index of the correct option, from
    0). The prompt consists of ``Question: ...``, a line break and ``Answer:``.
    """
    if not questions:
        raise ValueError("there are no questions; expected at least one")
    chosen = [choose(lm, f"Question: {q['question']}\nAnswer:", q["options"])[0] for q in questions]
    return sum(one == int(q["answer"]) for one, q in zip(chosen, questions, strict=True)) / len(questions)
