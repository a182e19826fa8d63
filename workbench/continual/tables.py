"""A stream of one's own CSV files, of which nothing is taken for granted: header, label, order of columns, files and rows."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from workbench.continual.own import own, set_aside
from workbench.continual.tasks import Stream

SURE = (
    "label",
    "labels",
    "class",
    "classes",
    "target",
    "targets",
)  # its names; y too, where none of these is there
TEST_SHARE = 5  # one row in so many tests, where there is no file for it
NAME_IT = "Call the column that holds the label 'label'"
LONGEST = 4_000_000  # characters of a first line


@dataclass(frozen=True)
class Table:
    """The numbers of a file: features by name, ``(rows, features)``, labels ``(rows,)``, and what was made of it."""

    path: Path
    features: tuple[str, ...]
    named: bool  # whether the file has a header
    x: np.ndarray
    y: np.ndarray
    notes: tuple[str, ...]


def read_csv(folder: str | Path, scenario: str = "domain") -> Stream:
    """A stream of one's own files: each ``*.csv`` in the folder is a task, in the order of their names and numbers.

    A row is a sample: numbers, and a whole number in the column ``label`` (or ``class``, ``target``, or else in the last one). A
    file ``NAME_test.csv`` is the test part of ``NAME.csv`` or ``NAME_train.csv``; without one, a fifth of the rows is: the last
    ones, or, where these are sorted by class, some of each class. What was taken for granted stands in the stream's `note`.
    Raises ValueError naming the file, and where it can row and column, of what is wrong.
    """
    pairs = _paired(Path(folder).expanduser())
    tasks, notes, first = [], [], None
    for name, train, test in pairs:
        table = _read(train)
        first = first or table
        table = _ordered(table, first)
        parts = [table.x, table.y]
        notes += table.notes
        if test is not None:
            other = _ordered(_read(test), first)
            notes += other.notes
            tasks.append([*parts, other.x, other.y])
            continue
        if len(table.y) < TEST_SHARE:
            raise ValueError(f"{train}: {len(table.y)} rows; expected at least {TEST_SHARE}")
        kept, aside, note = set_aside(torch.tensor(table.y), TEST_SHARE)
        if note:
            notes.append(f"{name}: {note}, for testing")
        tasks.append([part[rows.numpy()] for rows in (kept, aside) for part in parts])
    stream = own(tasks, Path(folder).name, scenario, [name for name, _, _ in pairs])
    return replace(stream, note="; ".join([*dict.fromkeys(notes), *filter(None, [stream.note])]))


def _paired(folder: Path) -> list[tuple[str, Path, Path | None]]:
    """Name, training file and test file (or none) of each task, ``task2`` before ``task10``."""
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() == ".csv" and p.is_file())
    if not files:
        raise ValueError(f"{folder}: no *.csv in it; expected a file a task")
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        match = re.fullmatch(r"(.+)[_. -](train|test|val|valid|validation|dev)", file.stem, re.IGNORECASE)
        name, part = (match[1], match[2].lower()) if match else (file.stem, "train")
        if part not in ("train", "test"):
            raise ValueError(
                f"{file}: a {part} part; expected training and test parts alone: validation samples are set aside from training"
            )
        if part in found.setdefault(name, {}):
            raise ValueError(
                f"{file}: {found[name][part].name} is a {part} part of {name!r} too; expected one"
            )
        found[name][part] = file
    for name, parts in found.items():
        if "train" not in parts:
            raise ValueError(
                f"{parts['test']}: a test part without a training part; expected {name}.csv or {name}_train.csv beside it, or "
                "another name"
            )
    return [(name, found[name]["train"], found[name].get("test")) for name in sorted(found, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read(path: Path) -> Table:
    """A file's numbers; raises ValueError naming it."""
    header, cells = _header(path)
    names = [cell.strip() for cell in cells] if header else [f"column {k + 1}" for k in range(len(cells))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{path}: {names.count(twice)} columns are called {twice!r}; expected names that differ"
        )
    notes = [] if header else [f"{path.name} has no header: its last column is taken for the label"]
    label = _label(path, names) if header else None
    if header and label is None:
        notes.append(f"{path.name} has no column called label: its last one, {names[-1]!r}, is taken for it")
    frame = _numbers(path, names, header)
    if names[0] == "" and len(names) > 2 and label != "" and _counts_rows(frame[""]):
        frame = frame.drop(columns="")
        notes.append(f"{path.name}: its first column has no name and counts the rows; it is left out")
    if "" in frame:
        raise ValueError(f"{path}: column {names.index('') + 1} has no name; expected one in the first line")
    y = frame.pop(label if label is not None else names[-1])
    if frame.empty:
        raise ValueError(f"{path}: {len(frame)} rows of {frame.shape[1]} numbers and a label; expected some")
    _check_label(path, y, header, label is not None)
    return Table(path, tuple(frame.columns), header, frame.to_numpy(), y.to_numpy(), tuple(notes))


def _header(path: Path) -> tuple[bool, list[str]]:
    """Whether the first line of a file has names, and its cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(LONGEST)
        cells = next(csv.reader([line]), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; expected CSV in UTF-8") from None
    other = next((mark for mark in (";", "\t", "|") if mark in line), "")
    if len(cells) < 2:
        what = f"cells are separated by {other!r}" if other else f"its first line is {line.strip()[:60]!r}"
        raise ValueError(f"{path}: {what}; expected commas between the cells, and points in the numbers")
    numbers = [_is_number(cell) for cell in cells]
    counted = [cell.strip() for cell in cells] == [str(k) for k in range(len(cells))]  # pandas' own names
    return not all(numbers) or (counted and len(cells) > 2), cells


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label(path: Path, names: Sequence[str]) -> str | None:
    """The column that is called so; None where none is."""
    here = [name for name in names if name.lower() in SURE] or [name for name in names if name.lower() == "y"]
    if len(here) > 1:
        raise ValueError(
            f"{path}: columns {here[0]!r} and {here[1]!r} could both be the label, and samples would hold their answers; keep one"
        )
    return here[0] if here else None


def _numbers(path: Path, names: Sequence[str], header: bool) -> pd.DataFrame:
    """The rows of a file, all of them numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # rows with more cells than the first line
            frame = pd.read_csv(
                path, header=0 if header else None, names=list(names), index_col=False, skipinitialspace=True,
                skip_blank_lines=False, encoding="utf-8-sig", low_memory=False,
            )  # fmt: skip
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        said = str(error).strip().replace("\n", " ")
        raise ValueError(f"{path}: {said}; expected as many cells in each row as in the first line") from None
    frame = frame[frame.notna().any(axis=1)]  # without blank lines
    for name in frame:
        column = frame[name]
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            at = int(wrong[0])
            cell = column.iloc[at]
            what = (
                "is empty"
                if pd.isna(cell) and not isinstance(cell, str)
                else f"{str(cell)[:40]!r} is no finite number"
            )
            raise ValueError(
                f"{path}: row {_line(frame, at, header)}, column {name!r}: {what}; expected numbers, with a point, in all columns"
            )
    return frame.astype(float)


def _line(frame: pd.DataFrame, at: int, header: bool) -> int:
    """The line of a file in which a row stands."""
    return int(frame.index[at]) + 1 + header


def _counts_rows(column: pd.Series) -> bool:
    return bool((np.diff(column.to_numpy()) == 1).all())


def _check_label(path: Path, y: pd.Series, header: bool, named: bool) -> None:
    wrong = np.flatnonzero((y < 0) | (y != y.round()))
    if len(wrong):
        at = int(wrong[0])
        row, hint = _line(y.to_frame(), at, header), "" if named else f". {NAME_IT}"
        raise ValueError(
            f"{path}: row {row}, column {y.name!r}: label {y.iloc[at]:g}; expected whole numbers 0, 1, 2, ...{hint}"
        )
    if not named and (many := y.nunique()) > max(10, len(y) // 2):
        raise ValueError(
            f"{path}: column {y.name!r}, the last, has {many} different values in {len(y)} rows, and is no label. {NAME_IT}"
        )


def _ordered(table: Table, first: Table) -> Table:
    """A table with its columns in the order of the first file."""
    if not (table.named and first.named):
        if len(table.features) != len(first.features):
            raise ValueError(
                f"{table.path}: {len(table.features)} columns beside the label; expected {len(first.features)}, as in "
                f"{first.path.name}"
            )
        return table
    if table.features == first.features:
        return table
    lacking = [name for name in first.features if name not in table.features]
    more = [name for name in table.features if name not in first.features]
    if lacking or more:
        what = f"no column {lacking[0]!r}" if lacking else f"a column {more[0]!r}"
        raise ValueError(
            f"{table.path}: {what}; expected the columns of {first.path.name}: {', '.join(first.features)[:200]}"
        )
    order = [table.features.index(name) for name in first.features]
    note = f"{table.path.name}: its columns are put into the order of {first.path.name}"
    return replace(table, features=first.features, x=table.x[:, order], notes=(*table.notes, note))
