"""Streams of the user's own tasks, which are read from a folder with one CSV file for each task.

The last few folders are cached. A folder is read again after one of its files has changed.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from workbench import datasets
from workbench.checksums import sha256
from workbench.continual.streams import Stream, read_csv, some
from workbench.training import mixed

EXAMPLE = "data/examples/tasks"
MOST = 30  # largest number of tasks, so that figures stay readable


def read(text: str, scenario: str = "domain", known: Sequence[str] = ()) -> Stream:
    """Return the stream of the tasks in the folder `text`, with all samples.

    A relative path is looked up from the current folder, then from the project. Raises ValueError if the folder does not
    exist or is not valid. The message begins with ``stream=`` and names the file. If the error is in a cell, it also names the
    row and the column. `known` holds the names of other streams. The message lists them if the folder does not exist.
    """
    folder = _folder(text, known)
    try:
        stream = _read(folder, _state(folder), scenario)
    except ValueError as error:
        said = str(error).replace(f"{folder}{os.sep}", "").removeprefix(f"{folder}: ")
        raise ValueError(f"stream={text!r}: {said}") from None
    if not 2 <= len(stream.tasks) <= MOST:
        raise ValueError(
            f"stream={text!r}: the number of tasks is {len(stream.tasks)}; expected 2 to {MOST}. Save the samples of each task "
            "in a separate CSV file"
        )
    return stream


def load(text: str, scenario: str, samples: int, seed: int) -> Stream:
    """Return the stream of the folder `text`, with at most `samples` training samples of each task.

    `seed` is the random seed for the choice of these samples.
    """
    stream, tasks = read(text, scenario), []
    for k, task in enumerate(stream.tasks):
        rows = some(torch.arange(len(task.x_train)), samples, mixed(seed, k))
        tasks.append(task._replace(x_train=task.x_train[rows], y_train=task.y_train[rows]))
    return replace(stream, tasks=tuple(tasks))


def ref(text: str) -> str:
    """Return the reference of a folder, which is part of the identity of a run.

    The reference consists of the path and a checksum of the names and the contents of the CSV files.
    """
    files = _tables(_folder(text, ()))
    whole = hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()
    return f"{text}@{whole[:16]}"


def _folder(text: str, known: Sequence[str]) -> Path:
    path = datasets.own_path(text)
    if text and os.path.isdir(path):
        return path
    near = difflib.get_close_matches(text, known, 1)
    wanted = f"expected {', '.join([*known, ''])}or a folder with a CSV file for each of your tasks, such as {EXAMPLE}"
    if near:
        hint = f"Did you mean {near[0]!r}?"
    elif os.path.isfile(path):
        hint = "This path is a file; give the folder that contains the file"
    else:
        hint = f"There is no such folder{datasets.searched(text)}"
    raise ValueError(f"stream={text!r}: {wanted}. {hint}")


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv" and p.is_file())


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    return tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in _tables(folder))


@lru_cache(maxsize=4)
def _read(folder: Path, state: tuple[tuple[str, int, int], ...], scenario: str) -> Stream:
    return read_csv(folder, scenario)
