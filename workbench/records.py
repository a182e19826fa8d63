"""What a run on disk looks like: checked field by field, since folders are exchanged, edited by hand, and cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.atomic import read_at_most
from workbench.experiment import LARGEST_RECORD, Record

ABOUT, RECORDS = "run.json", "records.jsonl"
LARGEST_ABOUT = 4_000_000  # bytes of run.json
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Cost(BaseModel):
    """What a comparison's fits have cost."""

    model_config = ConfigDict(strict=True, extra="allow")
    wall_seconds: Seconds


class About(BaseModel):
    """``run.json``: what made a run, the checksum of its records, and where and when. Provenance is in `model_extra`."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    experiment: str
    version: int
    config: dict[str, Any]
    inputs: list[str]
    records: Annotated[int, Field(ge=1)]
    records_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    wall_seconds: Seconds
    cpu_seconds: Seconds
    peak_memory_mb: Annotated[float, Field(ge=0)] = 0
    finished: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")]
    machine: str = "a machine that is not named"
    fits: Cost | None = None

    @property
    def spent(self) -> float:
        """Seconds of work: of its fits, for a comparison."""
        return self.fits.wall_seconds if self.fits else self.wall_seconds


def read_about(folder: Path) -> About:
    """The ``run.json`` of a folder; raises OSError where there is none, ValueError where it is not a run's."""
    try:
        about = json.loads(read_at_most(folder / ABOUT, LARGEST_ABOUT))
    except RecursionError:
        raise ValueError(f"{ABOUT} is nested without end") from None
    if not isinstance(about, dict):
        raise ValueError(f"{ABOUT} holds {type(about).__name__}; expected what a run says of itself")
    try:
        return About(**about)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{ABOUT}: {name}={repr(wrong['input'])[:60]}: {wrong['msg'].lower()}") from None


def read_records(data: bytes) -> list[Record]:
    """Records from their lines; raises ValueError for a line that is none."""
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            record = json.loads(line)
        except RecursionError:
            raise ValueError(f"{RECORDS}: line {number} is nested without end") from None
        if not isinstance(record, dict):
            raise ValueError(f"{RECORDS}: line {number} holds {type(record).__name__}; expected a record")
        found.append(record)
    return found


def check_record(record: Record, number: int) -> None:
    """Raise ValueError where a record of somebody's is not flat, or too large: numbers, texts, and arrays of them."""
    if len(json.dumps(record)) > LARGEST_RECORD:
        raise ValueError(f"{RECORDS}: line {number} is a record of over {LARGEST_RECORD} bytes")
    for name, value in record.items():
        if not _is_plain(value):
            raise ValueError(
                f"{RECORDS}: line {number}, {name!r}: expected a number, a text, or an array of them"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict)
