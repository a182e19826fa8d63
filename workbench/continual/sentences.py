"""Streams of sentences: VADER's four domains, and the paper's pair, financial news and then film reviews."""

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
LENGTH = 30  # words of a sentence that are read, as in the author's program
SURE = 0.5  # of valence, -4 to 4: nearer to 0 a sentence is left out
CLASH = (
    "the published program gives film reviews the labels negative 0, positive 1, where 1 is 'neutral' in the financial news: "
    "part of what is forgotten is this change of meaning"
)


Rows = list[tuple[str, int]]  # texts and labels
Parts = dict[str, Rows]  # train, validation, test


def vader(features: str = "words", samples: int | None = None, seed: int = 0) -> Stream:
    """Tweets, films, products, editorials: positive or negative, by mean valence; sentences within 0.5 of neutral are left out.

    A sixth of the documents (the part of the id before "_") is for testing, a sixth of the rest for validation. Do not put it
    beside NLTK's sentence_polarity, which is the same film texts. `samples`: training sentences of a domain, at most.
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
    """Financial PhraseBank, then IMDB, the paper's sentiment pair: negative, neutral, positive; both from the user's folder.

    `labels`: "corrected", or "published", where positive reviews have the label of neutral news. Of the news a sixth is for
    testing; a sixth of what is for training validates. Raises DataError where the data are missing.
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
    """References of what a stream is made of."""
    names = ["vader"] if stream == "vader" else ["financial-phrasebank", "imdb-train", "imdb-test"]
    return [*map(datasets.ref, names), *([checkpoints.ref(checkpoints.MINILM)] if features == "minilm" else [])]


@lru_cache(maxsize=1)
def _vader() -> list[dict[str, Any]]:
    return datasets.load("vader")


@lru_cache(maxsize=3)
def _read(name: str) -> list[tuple[str, str]]:
    return datasets.load(name)


def _part(document: str) -> str:
    """Which part a document belongs to, by its name alone: a sixth tests, a sixth of the rest validates."""
    digest = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big")
    return "test" if digest % 6 == 0 else "validation" if digest // 6 % 6 == 0 else "train"


def _parted() -> Parts:
    return {"train": [], "validation": [], "test": []}


def _drawn(rows: Rows, most: int | None, seed: int) -> Rows:
    return [rows[i] for i in some(torch.arange(len(rows)), most, seed).tolist()]


def _stream(name: str, found: Mapping[str, Parts], features: str, outputs: int, note: str = "") -> Stream:
    """A task a named set of parts."""
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


# -- what a network is given of a sentence -----------------------------------------------------------------------------------


def split(text: str) -> list[str]:
    """Words in lower case, and marks one by one; the author's program has spaCy's, whose model is no package."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[^\w\s]", text.lower())


def hashed(texts: Sequence[str]) -> Tensor:
    """Bags of words ``(n, 1024)``: 1 where one of a sentence's words falls into the bucket, by its CRC-32."""
    rows = torch.zeros(len(texts), BUCKETS)
    for row, text in zip(rows, texts, strict=True):
        row[_buckets(text)] = 1.0
    return rows


@lru_cache(maxsize=1 << 17)
def _buckets(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % BUCKETS for word in split(text)]


def _numbering(texts: Sequence[str]) -> Callable[[Sequence[str]], Tensor]:
    """Number the words that are there twice or more; 0 pads, 1 is any other word."""
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
    """MiniLM's sentence vectors ``(n, 384)`` of length 1, the mean over tokens; kept in the cache, since they take minutes."""
    from safetensors.torch import load_file, save

    key = hashlib.sha256("\0".join([checkpoints.MINILM_SHA256, *texts]).encode()).hexdigest()[:24]
    path = datasets.cache_folder() / "features" / f"minilm-{key}.safetensors"
    if path.exists():
        return load_file(path)["x"]
    found = _encode(texts, batch)
    try:
        write_atomic(path, save({"x": found}))
    except OSError as error:
        print(f"the features cannot be kept in {path.parent} ({error.strerror}): set WORKBENCH_CACHE", file=sys.stderr)
    return found


@torch.no_grad()
def _encode(texts: Sequence[str], batch: int) -> Tensor:
    from transformers import AutoModel, AutoTokenizer

    folder = checkpoints.find(checkpoints.MINILM)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
        AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval(),
    )
    # texts of similar length in a batch need little padding
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows: dict[int, Tensor] = {}
    for start in range(0, len(order), batch):
        phases.say(f"MiniLM reads sentence {start} of {len(order)}")
        part = order[start : start + batch]
        given = tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=128, return_tensors="pt")
        mask = given["attention_mask"][..., None].float()
        mean = (model(**given).last_hidden_state * mask).sum(1) / mask.sum(1)
        rows |= dict(zip(part, torch.nn.functional.normalize(mean), strict=True))
    return torch.stack([rows[i] for i in range(len(texts))]) if texts else torch.zeros(0, 384)
