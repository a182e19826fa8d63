"""Streams of tasks that are built from CSV files.

The header and the label column are detected, and every cell is checked.
"""

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

# Names of the label column. If no column has one of these names, the column "y" is the label column, or else the last column.
SURE = ("label", "labels", "class", "classes", "target", "targets")
TEST_SHARE = 5  # one in TEST_SHARE rows becomes a test sample if a task has no test file
NAME_IT = "Rename the column that holds the labels to 'label'"
LONGEST = 4_000_000  # largest number of characters read from the first line


@dataclass(frozen=True)
class Table:
    """The contents of a file: feature names, features `x` ``(rows, features)``, labels `y` ``(rows,)``, and notes."""

    path: Path
    features: tuple[str, ...]
    named: bool  # whether the file has a header
    x: np.ndarray
    y: np.ndarray
    notes: tuple[str, ...]


def read_csv(folder: str | Path, scenario: str = "domain") -> Stream:
    """Return a stream with one task for each training file in a folder of CSV files.

    Tasks are sorted by name; ``task2`` comes before ``task10``. Each row is a sample. The label column is called ``label``,
    ``class``, ``target`` or ``y``. If no column has such a name, the last column is the label column. Labels are class numbers
    (0, 1, 2 and so on), and all other columns hold numbers. A file ``NAME_test.csv`` holds the test set for the training file
    ``NAME.csv`` or ``NAME_train.csv``. If a task has no test file, the last fifth of the rows is used for testing. If the rows
    are sorted by class, or if the training or the test part would lack a class, one fifth of each class is drawn at random
    instead. The `note` of the stream lists these choices. Raises ValueError if a file is not valid. The message names the file
    and, if possible, the row and the column.
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
            raise ValueError(
                f"{train}: the file has {len(table.y)} rows; expected at least {TEST_SHARE}, since some are set aside for testing"
            )
        kept, aside, note = set_aside(torch.tensor(table.y), TEST_SHARE)
        if note:
            notes.append(f"{name}: {note} for testing")
        tasks.append([part[rows.numpy()] for rows in (kept, aside) for part in parts])
    stream = own(tasks, Path(folder).name, scenario, [name for name, _, _ in pairs])
    return replace(stream, note="; ".join([*dict.fromkeys(notes), *filter(None, [stream.note])]))


def _paired(folder: Path) -> list[tuple[str, Path, Path | None]]:
    """Return the name, the training file and the test file (or None) of each task; ``task2`` comes before ``task10``."""
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() == ".csv" and p.is_file())
    if not files:
        raise ValueError(f"{folder}: the folder contains no *.csv file; expected a folder with one CSV file per task")
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        match = re.fullmatch(r"(.+)[_. -](train|test|val|valid|validation|dev)", file.stem, re.IGNORECASE)
        name, part = (match[1], match[2].lower()) if match else (file.stem, "train")
        if part not in ("train", "test"):
            raise ValueError(
                f"{file}: the file name ends in {part}; expected only training and test files, since validation samples "
                "are taken from the training file. Remove or rename the file"
            )
        if part in found.setdefault(name, {}):
            raise ValueError(f"{file}: {found[name][part].name} is also a {part} file of the task {name!r}; expected only one")
        found[name][part] = file
    for name, parts in found.items():
        if "train" not in parts:
            raise ValueError(
                f"{parts['test']}: the test file has no training file; expected {name}.csv or {name}_train.csv "
                "in the same folder. Add the training file, or rename the test file"
            )
    return [(name, found[name]["train"], found[name].get("test")) for name in sorted(found, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read(path: Path) -> Table:
    """Read one CSV file. Raises ValueError if the file is not valid; the message names the file."""
    header, cells = _header(path)
    names = [cell.strip() for cell in cells] if header else [f"column {k + 1}" for k in range(len(cells))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: {names.count(twice)} columns are called {twice!r}; expected a different name for each column")
    notes = [] if header else [f"{path.name} has no header; its last column is used as the label"]
    label = _label(path, names) if header else None
    if header and label is None:
        notes.append(f"{path.name} has no column called label; its last column, {names[-1]!r}, is used as the label")
    frame = _numbers(path, names, header)
    if names[0] == "" and len(names) > 2 and label != "" and _counts_rows(frame[""]):
        frame = frame.drop(columns="")
        notes.append(f"{path.name}: the first column has no name and contains row numbers, so it is ignored")
    if "" in frame:
        raise ValueError(f"{path}: column {names.index('') + 1} has no name; expected a name for each column in the first line")
    y = frame.pop(label if label is not None else names[-1])
    if frame.empty:
        raise ValueError(
            f"{path}: the file has {len(frame)} rows and {frame.shape[1]} feature columns; expected at least one of each"
        )
    _check_label(path, y, header, label is not None)
    return Table(path, tuple(frame.columns), header, frame.to_numpy(), y.to_numpy(), tuple(notes))


def _header(path: Path) -> tuple[bool, list[str]]:
    """Return whether the first line is a header, and the cells of that line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(LONGEST)
        cells = next(csv.reader([line]), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected a CSV file encoded as UTF-8") from None
    other = next((mark for mark in (";", "\t", "|") if mark in line), "")
    if len(cells) < 2:
        what = f"cells are separated by {other!r}" if other else f"its first line is {line.strip()[:60]!r}"
        raise ValueError(f"{path}: {what}; expected cells separated by commas, and numbers with a decimal point")
    numbers = [_is_number(cell) for cell in cells]
    # pandas writes 0, 1, 2, ... as the header if the columns have no names
    counted = [cell.strip() for cell in cells] == [str(k) for k in range(len(cells))]
    return not all(numbers) or (counted and len(cells) > 2), cells


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label(path: Path, names: Sequence[str]) -> str | None:
    """Return the name of the label column, or None if no column has one of the names for labels."""
    here = [name for name in names if name.lower() in SURE] or [name for name in names if name.lower() == "y"]
    if len(here) > 1:
        raise ValueError(
            f"{path}: columns {here[0]!r} and {here[1]!r} could both be the label; expected one label column. Remove "
            "or rename the other column, since a feature must not contain the label"
        )
    return here[0] if here else None


def _numbers(path: Path, names: Sequence[str], header: bool) -> pd.DataFrame:
    """Read the rows of a file as numbers, and skip blank lines. Raises ValueError if a cell is not a finite number."""
    try:
        with warnings.catch_warnings():
            # pandas warns of rows with more cells than the first line
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path, header=0 if header else None, names=list(names), index_col=False, skipinitialspace=True,
                skip_blank_lines=False, encoding="utf-8-sig", low_memory=False,
            )  # fmt: skip
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        said = str(error).strip().replace("\n", " ")
        raise ValueError(f"{path}: {said}; expected the same number of cells in each row") from None
    frame = frame[frame.notna().any(axis=1)]  # without blank lines
    for name in frame:
        column = frame[name]
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            at = int(wrong[0])
            cell = column.iloc[at]
            what = (
                "the cell is empty"
                if pd.isna(cell) and not isinstance(cell, str)
                else f"{str(cell)[:40]!r} is not a finite number"
            )
            raise ValueError(
                f"{path}: row {_line(frame, at, header)}, column {name!r}: {what}; expected a number with a decimal "
                "point. Correct the cell or remove the row"
            )
    return frame.astype(float)


def _line(frame: pd.DataFrame, at: int, header: bool) -> int:
    """Return the line number of a row in its file, counted from 1."""
    return int(frame.index[at]) + 1 + header


def _counts_rows(column: pd.Series) -> bool:
    return bool((np.diff(column.to_numpy()) == 1).all())


def _check_label(path: Path, y: pd.Series, header: bool, named: bool) -> None:
    wrong = np.flatnonzero((y < 0) | (y != y.round()))
    if len(wrong):
        at = int(wrong[0])
        row, hint = _line(y.to_frame(), at, header), "" if named else f". {NAME_IT}"
        raise ValueError(
            f"{path}: row {row}, column {y.name!r}: the label is {y.iloc[at]:g}; expected a class number "
            f"(0, 1, 2 and so on){hint}"
        )
    if not named and (many := y.nunique()) > max(10, len(y) // 2):
        raise ValueError(
            f"{path}: the last column, {y.name!r}, has {many} different values in {len(y)} rows; expected the "
            f"labels of a few classes. {NAME_IT}"
        )


def _ordered(table: Table, first: Table) -> Table:
    """Return a table with its columns in the order of the first file. Raises ValueError if the files have different columns."""
    if not (table.named and first.named):
        if len(table.features) != len(first.features):
            raise ValueError(
                f"{table.path}: the file has {len(table.features)} feature columns; expected {len(first.features)}, "
                "as in "
                f"{first.path.name}"
            )
        return table
    if table.features == first.features:
        return table
    lacking = [name for name in first.features if name not in table.features]
    more = [name for name in table.features if name not in first.features]
    if lacking or more:
        what = f"the file has no column {lacking[0]!r}" if lacking else f"the file has an additional column {more[0]!r}"
        raise ValueError(f"{table.path}: {what}; expected the columns of {first.path.name}: {', '.join(first.features)[:200]}")
    order = [table.features.index(name) for name in first.features]
    note = f"{table.path.name}: the columns are reordered to match {first.path.name}"
    return replace(table, features=first.features, x=table.x[:, order], notes=(*table.notes, note))
