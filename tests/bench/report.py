"""Results of the benchmarks: entries in ``data/reference/speed.json``, and the tables in ``speed.md`` that show them.

A row is one measured quantity. It has one entry per processor and thread count. A new run on the same processor replaces its
entry, and the entries of other processors stay. The environment variable WORKBENCH_SPEED names another JSON file, for example
for a trial run whose numbers should not be kept. The tables are written next to the JSON file.

    python tests/bench/report.py        # write the tables again from the JSON file
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from workbench.atomic import write_atomic

COMMITTED = Path(__file__).parents[2] / "data" / "reference" / "speed.json"
CPUINFO = Path("/proc/cpuinfo")  # exists on Linux only
NUMBER = r"\d[\d,]*(?:\.\d+)?"

# Key, title and introduction of each table.
TABLES = {
    "quantization": (
        "Quantization",
        "A made layer of n x n weights in float32, quantized to 3 bits. Each time is the median of interleaved rounds.",
    ),
    "synapse": (
        "Device networks",
        "Perceptrons of simulated devices on MNIST's digits. The comparison with aihwkit (C++) uses the coincidence rule and "
        "linear devices of 64 levels.",
    ),
    "continual": (
        "Continual learning",
        "CLASSP's step against the fused optimizers of torch (best of interleaved rounds), and whole fits against Avalanche on "
        "the same tasks.",
    ),
    "adapters": (
        "Adapters",
        "Forward and backward pass of one layer, and whole training steps of SmolLM2-135M (4 x 128 tokens, half of them "
        "answers), against PEFT. Each time is the median of interleaved rounds. LoRA and DoRA have half the rank r, and so as "
        "many trained numbers as MiSS.",
    ),
    "generation": ("Text generation", "Greedy text of SmolLM2-135M in float32. Each time is the shortest of a few runs."),
    "browser": (
        "Panels in a browser",
        "Headless Chromium with a window of 1360 x 800 pixels, measured by `make browser-test`. These entries are typed by hand.",
    ),
}


def _one_line(text: str) -> str:
    if "\n" in text or "|" in text or text != text.strip():
        raise ValueError("must be one line without `|` and without spaces at its ends, since it is a cell of a table")
    return text


Text = Annotated[str, Field(min_length=1)]


class Entry(BaseModel):
    """One measurement on one processor.

    `value` is a number, or a short text with its unit. `goal` begins with "at most", "at least" or "less than" and a number if
    the table is to show whether it is met. The time and the peak memory are both optional, but one of them is needed. `date` is
    None and `versions` lacks a package if they were not recorded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    method: str
    what: Text
    goal: str = ""
    processor: Text
    threads: int = Field(ge=1)
    value: int | float | Text | None = None
    memory: str = ""
    remark: str = ""
    versions: dict[str, str] = {}
    date: str | None = None

    @field_validator("method")
    @classmethod
    def _table(cls, method: str) -> str:
        if method not in TABLES:
            raise ValueError(f"{method!r} has no table; expected one of {', '.join(TABLES)}")
        return method

    @field_validator("what", "goal", "processor", "memory", "remark")
    @classmethod
    def _cell(cls, text: str) -> str:
        return _one_line(text)

    @field_validator("value")
    @classmethod
    def _value(cls, value: Any) -> Any:
        return _one_line(value) if isinstance(value, str) else value

    def model_post_init(self, context: Any) -> None:
        """Refuse an entry that has neither a value nor a peak memory."""
        if self.value is None and not self.memory:
            raise ValueError(f"{self.what!r} has neither a value nor a peak memory; give one of them")

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The key that identifies the entry. A new entry replaces the old one with the same key."""
        return self.method, self.what, self.processor, self.threads

    @property
    def verdict(self) -> str:
        """The verdict on the goal: "met", "missed", "met in part" (only some numbers of the value meet it), or "" if unknown."""
        rule = re.match(rf"(at most|at least|less than) ({NUMBER})", self.goal)
        if not rule:
            return ""
        limit, measured = number(rule[2]), str(self.memory if self.value is None else self.value)
        met = {
            {"at most": found <= limit, "at least": found >= limit, "less than": found < limit}[rule[1]]
            for found in map(number, re.findall(NUMBER, measured))
        }
        return {(True,): "met", (False,): "missed", (): ""}.get(tuple(met), "met in part")


def number(text: str) -> float:
    """Return the number that a text such as "26,500" shows."""
    return float(text.replace(",", ""))


ENTRIES = TypeAdapter(list[Entry])


def processor() -> str:
    """Return the name of this machine's processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else None
    return " ".join((found[1] if found else platform.processor() or platform.machine() or "unknown processor").split())


def natural(text: str) -> list[tuple[int, float, str]]:
    """Return a key that sorts texts by the numbers in them: n = 512 comes before n = 1024."""
    parts = re.split(rf"({NUMBER})", text)
    return [(0, number(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts) if part]


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries in the order of the tables, their rows, processors and threads."""
    tables = list(TABLES)
    return sorted(entries, key=lambda e: (tables.index(e.method), natural(e.what), natural(e.processor), e.threads))


def speed_file() -> Path:
    """Return the path of the JSON file, which is WORKBENCH_SPEED if it is set, and the committed file otherwise."""
    return Path(os.environ.get("WORKBENCH_SPEED") or COMMITTED)


def load(path: Path) -> list[Entry]:
    """Return the entries of a JSON file, or none if it does not exist. Raises ValueError if it is damaged."""
    if not path.exists():
        return []
    mend = "Restore it (git checkout), or delete it to start with an empty file."
    try:
        entries = ENTRIES.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path.name} is damaged: {place}: {first['msg']}. {mend}") from None
    seen = set()
    for entry in entries:
        if entry.key in seen:
            raise ValueError(f"{path.name} is damaged: it has two entries of {entry.key}; expected one. {mend}")
        seen.add(entry.key)
    return entries


def save(path: Path, entries: Iterable[Entry]) -> None:
    """Write the JSON file with one entry per line, and the tables next to it."""
    entries = ordered(entries)
    lines = [json.dumps(entry.model_dump(exclude_defaults=True), ensure_ascii=False) for entry in entries]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, ("[\n" + ",\n".join(lines) + "\n]\n").encode())
    write_atomic(path.with_suffix(".md"), tables(entries).encode())


def keep(path: Path, entry: Entry) -> None:
    """Add an entry to the JSON file. It replaces the entry of the same row, processor and thread count."""
    save(path, [*(old for old in load(path) if old.key != entry.key), entry])


class Report:
    """The results of one benchmark. A damaged JSON file is reported here, before anything is measured."""

    def __init__(self, method: str):
        self.method = method
        load(speed_file())

    def row(
        self,
        what: str,
        value: float | str | None = None,
        *,
        goal: str = "",
        memory: str = "",
        threads: int | None = None,
        remark: str = "",
        if_missed: str = "",
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Record a measurement of this machine. `if_missed` is the remark if the goal is missed; torch's version is added."""
        entry = Entry(
            method=self.method,
            what=what,
            goal=goal,
            processor=processor(),
            threads=threads or torch.get_num_threads(),
            value=value,
            memory=memory,
            remark=remark,
            versions={"torch": str(torch.__version__), **(versions or {})},
            date=datetime.date.today().isoformat(),
        )
        if if_missed and entry.verdict in ("missed", "met in part"):
            entry = entry.model_copy(update={"remark": if_missed})
        keep(speed_file(), entry)


def tables(entries: Sequence[Entry]) -> str:
    """Return the text of ``speed.md``: one table per method."""
    text = [
        "# Speed",
        "",
        "`make bench` measures again and writes this file from `speed.json`. Do not edit it. A row `A / B` is the time of A",
        "divided by the time of B, unless the row names another quantity. So a ratio of times below 1 means that A is faster.",
    ]
    for method, (title, introduction) in TABLES.items():
        mine = [entry for entry in ordered(entries) if entry.method == method]
        if mine:
            text += ["", f"## {title}", "", introduction, "", *_table(mine), "", *_versions(mine)]
    return "\n".join(text) + "\n"


def _table(entries: Sequence[Entry]) -> list[str]:
    """Return the lines of a table. The measured quantity and the goal are left out if they repeat those of the row above."""
    with_memory = any(entry.memory for entry in entries)
    head = ["What was measured", "Goal", "Processor", "Threads", "Value", *(["Peak memory"] if with_memory else []), "Remark"]
    lines, above = [head, ["---"] * len(head)], ("", "")
    for entry in entries:
        what, goal = (entry.what, entry.goal) if entry.what != above[0] else ("", entry.goal if entry.goal != above[1] else "")
        value = "" if entry.value is None else entry.value if isinstance(entry.value, str) else f"{entry.value:,}"
        remark = (": " if entry.verdict == "missed" else "; ").join(part for part in (entry.verdict, entry.remark) if part)
        memory = [entry.memory] if with_memory else []
        lines.append([what, goal, entry.processor, str(entry.threads), value, *memory, remark])
        above = entry.what, entry.goal
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _versions(entries: Sequence[Entry]) -> list[str]:
    """Return a line for each processor and date, with the versions of the packages."""
    found: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        versions = {"torch": "(version not recorded)", **entry.versions}
        named = found.setdefault((entry.processor, entry.date or "date not recorded"), set())
        named.update(f"{name} {version}" for name, version in versions.items())
    return [f"- {name}, {date}: {', '.join(sorted(named))}" for (name, date), named in sorted(found.items())]


if __name__ == "__main__":
    save(speed_file(), load(speed_file()))
    print(f"wrote {speed_file().with_suffix('.md')}")
