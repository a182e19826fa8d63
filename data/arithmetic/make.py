"""Make arithmetic.jsonl.gz: sums, mixed expressions and word problems with worked answers, from reasoning-gym.

    python -m venv .venv-peers/gym && .venv-peers/gym/bin/pip install reasoning-gym==0.1.25
    .venv-peers/gym/bin/python data/arithmetic/make.py

The seed is fixed. No question occurs twice within a task, neither in one part nor in two parts (training, validation, test). Only
this script needs reasoning-gym, which has eleven dependencies.
"""

import gzip
import hashlib
import json
import random
from pathlib import Path

import reasoning_gym

TASKS = {
    "sums": ("chain_sum", {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}),
    "mixed": ("basic_arithmetic", {"min_terms": 2, "max_terms": 4, "min_digits": 1, "max_digits": 2}),
    "word-problems": ("gsm_symbolic", {}),
}
SIZES = {"train": 4000, "validation": 300, "test": 500}


def question(task: str, item: dict) -> str:
    """Return the text of a question. For sums, it is only the expression, because all sums are asked in the same words."""
    return f"{item['metadata']['expression']} =" if task == "sums" else item["question"].strip()


def same(task: str, text: str) -> str:
    """Return a key that is equal for questions that count as the same: for sums, those with the same terms in any order.

    The committed file was made without this rule: 102 of its 500 test sums have the terms of a training sum in another order.
    """
    if task != "sums":
        return text
    first, *rest = text.removesuffix("=").split()
    signed = [int(first), *(int(term) * (1 if sign == "+" else -1) for sign, term in zip(rest[::2], rest[1::2], strict=True))]
    return " ".join(map(str, sorted(signed)))


def rows(task: str) -> list[dict]:
    """Return all samples of a task, each with the name of its part (train, validation or test)."""
    name, knobs = TASKS[task]
    wanted = sum(SIZES.values())
    parts = [part for part, size in SIZES.items() for _ in range(size)]
    found: dict[str, dict] = {}
    for item in reasoning_gym.create_dataset(name, size=4 * wanted, seed=0, **knobs):
        row = {"task": task, "question": question(task, item), "answer": item["answer"]}
        if "answer_cot" in item["metadata"]:
            row["worked"] = item["metadata"]["answer_cot"]
        found.setdefault(same(task, row["question"]), row)
        if len(found) == wanted:
            # The samples are shuffled. Otherwise the short sums, which come early, would all be in the training part.
            mixed = random.Random(0).sample([*found.values()], wanted)
            return [{**row, "part": part} for row, part in zip(mixed, parts, strict=True)]
    raise SystemExit(f"{task}: only {len(found)} questions that differ; expected {wanted}")


def main() -> None:
    """Write the file, and print the number of rows, the size of the file and the checksum of its text."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for task in TASKS for row in rows(task)).encode()
    out = Path(__file__).with_name("arithmetic.jsonl.gz")
    out.write_bytes(gzip.compress(lines, 9, mtime=0))
    print(len(lines.splitlines()), "rows,", out.stat().st_size, "bytes; of the text within:", hashlib.sha256(lines).hexdigest())


if __name__ == "__main__":
    main()
