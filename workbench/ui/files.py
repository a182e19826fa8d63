"""The files of a panel: uploads, which are stored in the runs folder, and exports of records and pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench import runs
from workbench.atomic import write_atomic
from workbench.experiment import Record

LARGEST_UPLOAD = 20_000_000  # bytes
MIMES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv"}


def export_path(name: str) -> Path:
    """Return the path at which the exported file `name` is saved."""
    return runs.runs_folder() / "exports" / name


def csv(records: Sequence[Record]) -> bytes:
    """Return the records as a CSV table."""
    return pd.DataFrame.from_records(records).to_csv(index=False).encode()


def keep(file: str, data: bytes, suffix: str) -> Path:
    """Save an uploaded file under a name that contains a part of its checksum, and return the path.

    `file` is the name of the file and `data` its bytes. Raises ValueError if the name does not end with `suffix`, or if the file
    has more than `LARGEST_UPLOAD` bytes.
    """
    if len(data) > LARGEST_UPLOAD:
        raise ValueError(f"{file}: {len(data):,} bytes; expected at most {LARGEST_UPLOAD:,}")
    given = Path(file)
    if given.suffix.lower() != suffix:
        raise ValueError(f"{file}: expected a {suffix} file")
    path = runs.runs_folder() / "uploads" / f"{given.stem}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}"
    write_atomic(path, data)
    return path
