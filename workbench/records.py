"""Read and validate the files of a run. Users may have edited or replaced them, and a crash may have truncated them."""

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
    """The total cost of the fits of a comparison."""

    model_config = ConfigDict(strict=True, extra="allow")
    wall_seconds: Seconds


class About(BaseModel):
    """The contents of ``run.json``: experiment, config, checksum of the records, cost, date and machine.

    Further fields, such as the provenance, are in `model_extra`.
    """

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
    machine: str = "an unnamed machine"
    fits: Cost | None = None

    @property
    def spent(self) -> float:
        """The wall time in seconds. For a comparison, this is the total of its fits."""
        return self.fits.wall_seconds if self.fits else self.wall_seconds


def read_about(folder: Path) -> About:
    """Read and validate ``run.json``. Raises OSError if the file cannot be read, and ValueError if it is not valid."""
    try:
        about = json.loads(read_at_most(folder / ABOUT, LARGEST_ABOUT))
    except RecursionError:
        raise ValueError(f"{ABOUT} is nested too deeply; expected one JSON object") from None
    if not isinstance(about, dict):
        raise ValueError(f"{ABOUT} holds a value of type {type(about).__name__}; expected a JSON object with the fields of a run")
    try:
        return About(**about)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{ABOUT}: {name}={repr(wrong['input'])[:60]}: {wrong['msg'].lower()}") from None


def read_records(data: bytes) -> list[Record]:
    """Parse JSON lines into records. Raises ValueError if a line is not a JSON object."""
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            record = json.loads(line)
        except RecursionError:
            raise ValueError(f"{RECORDS}: line {number} is nested too deeply; expected a JSON object") from None
        if not isinstance(record, dict):
            raise ValueError(f"{RECORDS}: line {number} holds a value of type {type(record).__name__}; expected a JSON object")
        found.append(record)
    return found


def check_record(record: Record, number: int) -> None:
    """Raise ValueError if a record, which is in line `number` of its file, is too large or contains a JSON object."""
    if len(json.dumps(record)) > LARGEST_RECORD:
        raise ValueError(f"{RECORDS}: line {number} is too large; expected a record of at most {LARGEST_RECORD} bytes")
    for name, value in record.items():
        if not _is_plain(value):
            raise ValueError(
                f"{RECORDS}: line {number}: {name!r} holds a JSON object; expected a number, a string, or an array of these"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict)
