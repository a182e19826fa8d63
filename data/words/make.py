"""Make last-word.jsonl.gz: questions whose answer is the last of three given words.

    python data/words/make.py

A language model of a million weights learns this task in about 80 steps, since it only has to copy a word. The seed is fixed. No
question occurs twice. All words occur in prose-calibration, the text on which the bundled tiny models were trained.
"""

import gzip
import hashlib
import itertools
import json
import random
from pathlib import Path

WORDS = "whale ship ocean captain sail harpoon mast island wind storm deck anchor boat crew harbor sea night morning sun moon"
SIZES = {"train": 2000, "validation": 300, "test": 500}


def rows() -> list[dict]:
    """Return all samples, each with the name of its part (train, validation or test)."""
    chance = random.Random(0)
    every = [*itertools.permutations(WORDS.split(), 3)]
    parts = [part for part, size in SIZES.items() for _ in range(size)]
    chosen = chance.sample(every, len(parts))
    return [
        {"part": part, "question": f"Last word of: {' '.join(words)}?", "answer": words[-1]}
        for part, words in zip(parts, chosen, strict=True)
    ]


if __name__ == "__main__":
    text = "".join(json.dumps(row) + "\n" for row in rows()).encode()
    Path(__file__).with_name("last-word.jsonl.gz").write_bytes(gzip.compress(text, 9, mtime=0))
    print(len(text), hashlib.sha256(text).hexdigest())
