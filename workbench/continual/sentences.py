"""Streams of sentences: the four domains of the VADER data, and the paper's pair of financial news and film reviews."""

from __future__ import annotations

import hashlib
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from workbench import checkpoints, datasets, phases
from workbench.atomic import write_atomic
from workbench.continual.streams import Stream, Task, known, some
from workbench.training import mixed

FEATURES = ("words", "minilm", "numbered")
DOMAINS = ("tweets", "movies", "products", "editorials")
MAPS = {"corrected": {"neg": 0, "pos": 2}, "published": {"neg": 0, "pos": 1}}
NEWS = {"negative": 0, "neutral": 1, "positive": 2}
BUCKETS = 1024
LENGTH = 30  # number of words that are read from each sentence, as in the author's program
SURE = 0.5  # sentences with a mean valence between -SURE and SURE, on VADER's scale from -4 to 4, are left out
CLASH = (
    "the published program gives positive film reviews label 1, which means 'neutral' in the financial news: a part of the "
    "forgetting is due to this change of meaning"
)


Rows = list[tuple[str, int]]  # pairs of a text and its label
Parts = dict[str, Rows]  # the rows of the parts "train", "validation" and "test"


def vader(features: str = "words", samples: int | None = None, seed: int = 0) -> Stream:
    """Return VADER's four domains (tweets, movies, products, editorials) as tasks with the labels 0 (negative) and 1 (positive).

    The label is the sign of the mean valence, which is on a scale from -4 to 4. Sentences with a mean valence from -0.5 to 0.5
    are left out. About one sixth of the documents is used for testing, and one sixth of the remaining ones for validation. All
    sentences of a document are used for the same purpose; their ids are the same up to the first "_". Do not combine
    this stream with NLTK's sentence_polarity, which contains the same movie texts.

    Args:
        features: one of `FEATURES`.
        samples: the largest number of training sentences of each domain; None for all.
        seed: the random seed for the choice of these sentences.
    """
    known("features", features, FEATURES)
    found = {domain: _parted() for domain in DOMAINS}
    for row in _vader():
        if abs(row["valence"]) > SURE:
            part = _part(f"{row['domain']} {row['id'].partition('_')[0]}")
            found[row["domain"]][part].append((row["text"], int(row["valence"] > 0)))
    for number, parts in enumerate(found.values()):
        parts["train"] = _drawn(parts["train"], samples, mixed(seed, number))
    return _stream("vader", found, features, 2)


def news_films(features: str = "words", labels: str = "corrected", samples: int | None = None, seed: int = 0) -> Stream:
    """Return the paper's sentiment pair as two tasks: the Financial PhraseBank, and then the film reviews of IMDB.

    The labels are 0 (negative), 1 (neutral) and 2 (positive). Both data sets are read from the user's data folder. About one
    sixth of the news is used for testing, and one sixth of the rest for validation. About one seventh of the training set of IMDB
    is used for validation. Each validation set has at most 2,000 samples, and each test set at most 4,000.

    Args:
        features: one of `FEATURES`.
        labels: "corrected", or "published", in which positive reviews have label 1, the label of neutral news.
        samples: the largest number of training samples of each task; None for all.
        seed: the random seed for the choice of these samples.

    Raises:
        DataError: if the data are missing.
    """
    known("features", features, FEATURES)
    known("labels", labels, tuple(MAPS))
    news, films = _parted(), _parted()
    for label, text in _read("financial-phrasebank"):
        news[_part(text)].append((text, NEWS[label]))
    for label, text in _read("imdb-train"):
        part = "validation" if _part(text) == "validation" else "train"
        films[part].append((text, MAPS[labels][label]))
    films["test"] = [(text, MAPS[labels][label]) for label, text in _read("imdb-test")]
    found = {"news": news, "films": films}
    for number, parts in enumerate(found.values()):
        for part, most, drawn_by in (("train", samples, seed), ("validation", 2000, 0), ("test", 4000, 0)):
            parts[part] = _drawn(parts[part], most, mixed(drawn_by, number))
    return _stream("news-films", found, features, 3, CLASH if labels == "published" else "")


def inputs(stream: str, features: str) -> list[str]:
    """Return references (name and checksum) to the data sets and models from which a stream is built."""
    names = ["vader"] if stream == "vader" else ["financial-phrasebank", "imdb-train", "imdb-test"]
    return [*map(datasets.ref, names), *([checkpoints.ref(checkpoints.MINILM)] if features == "minilm" else [])]


@lru_cache(maxsize=1)
def _vader() -> list[dict[str, Any]]:
    return datasets.load("vader")


@lru_cache(maxsize=3)
def _read(name: str) -> list[tuple[str, str]]:
    return datasets.load(name)


def _part(document: str) -> str:
    """Return "test", "validation" or "train", depending on a hash of `document`, the name or the text of a document.

    About one sixth of all documents is for testing, and one sixth of the remaining ones for validation.
    """
    digest = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big")
    return "test" if digest % 6 == 0 else "validation" if digest // 6 % 6 == 0 else "train"


def _parted() -> Parts:
    return {"train": [], "validation": [], "test": []}


def _drawn(rows: Rows, most: int | None, seed: int) -> Rows:
    return [rows[i] for i in some(torch.arange(len(rows)), most, seed).tolist()]


def _stream(name: str, found: Mapping[str, Parts], features: str, outputs: int, note: str = "") -> Stream:
    """Return a stream with one task for each entry of `found`. `features` is one of `FEATURES`."""
    if features == "numbered":
        made = _numbering([text for parts in found.values() for text, _ in parts["train"]])
    else:
        made = hashed if features == "words" else embedded
    tasks = []
    for task, parts in found.items():
        flat = []
        for rows in parts.values():  # train, validation, test
            flat += [made([text for text, _ in rows]), torch.tensor([label for _, label in rows])]
        tasks.append(Task(task, *flat, torch.arange(outputs)))
    return Stream(name, tuple(tasks), outputs, "domain", note)


# -- features of sentences ---------------------------------------------------------------------------------------------------


def split(text: str) -> list[str]:
    """Return the words of a text in lower case; each punctuation mark is a word of its own.

    The author's program uses the tokenizer of spaCy. That tokenizer is not used here, since its model is not a Python package.
    """
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[^\w\s]", text.lower())


def hashed(texts: Sequence[str]) -> Tensor:
    """Return bags of words ``(n, 1024)``: entry k is 1 if the sentence has a word whose CRC-32 checksum modulo 1,024 is k."""
    rows = torch.zeros(len(texts), BUCKETS)
    for row, text in zip(rows, texts, strict=True):
        row[_buckets(text)] = 1.0
    return rows


@lru_cache(maxsize=1 << 17)
def _buckets(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % BUCKETS for word in split(text)]


def _numbering(texts: Sequence[str]) -> Callable[[Sequence[str]], Tensor]:
    """Return a function that converts texts to word numbers ``(n, 30)``.

    Words that occur at least twice in `texts` have numbers from 2 on. 0 is padding, and all other words have the number 1.
    """
    counts = Counter(word for text in texts for word in split(text)[:LENGTH])
    numbers = {word: k for k, word in enumerate(sorted(w for w, c in counts.items() if c > 1), 2)}

    def numbered(texts: Sequence[str]) -> Tensor:
        rows = torch.zeros(len(texts), LENGTH)
        for row, text in zip(rows, texts, strict=True):
            found = [numbers.get(word, 1) for word in split(text)[:LENGTH]]
            row[: len(found)] = torch.tensor(found, dtype=torch.float32)
        return rows

    return numbered


def embedded(texts: Sequence[str], batch: int = 64) -> Tensor:
    """Return the sentence embeddings ``(n, 384)`` of MiniLM: the mean over the tokens, scaled to unit length.

    The computation takes minutes, so the embeddings are stored in the cache folder.
    """
    from safetensors.torch import load_file, save

    key = hashlib.sha256("\0".join([checkpoints.MINILM_SHA256, *texts]).encode()).hexdigest()[:24]
    path = datasets.cache_folder() / "features" / f"minilm-{key}.safetensors"
    if path.exists():
        return load_file(path)["x"]
    found = _encode(texts, batch)
    try:
        write_atomic(path, save({"x": found}))
    except OSError as error:
        print(
            f"the features cannot be stored in {path.parent} ({error.strerror}), so they must be computed again each time. Set "
            "WORKBENCH_CACHE to a folder that you can write to",
            file=sys.stderr,
        )
    return found


@torch.no_grad()
def _encode(texts: Sequence[str], batch: int) -> Tensor:
    from transformers import AutoModel, AutoTokenizer

    folder = checkpoints.find(checkpoints.MINILM)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
        AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval(),
    )
    # Texts of similar length are put in the same batch, so that they need little padding.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows: dict[int, Tensor] = {}
    for start in range(0, len(order), batch):
        phases.say(f"computing MiniLM embeddings: sentence {start} of {len(order)}")
        part = order[start : start + batch]
        given = tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=128, return_tensors="pt")
        mask = given["attention_mask"][..., None].float()
        mean = (model(**given).last_hidden_state * mask).sum(1) / mask.sum(1)
        rows |= dict(zip(part, torch.nn.functional.normalize(mean), strict=True))
    return torch.stack([rows[i] for i in range(len(texts))]) if texts else torch.zeros(0, 384)
