"""List, select and delete the runs in the runs folder. The module `bundles` exports and imports runs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench import runs
from workbench.experiment import LARGEST_RECORD, Record, get
from workbench.knobs import Config, text_of
from workbench.records import ABOUT, RECORDS, read_about, read_records
from workbench.runs import RunError

if TYPE_CHECKING:
    import pandas as pd


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Kept:
    """A complete run in the runs folder.

    `knobs` are the knobs that differ from their defaults. `last` maps names to the numbers in the last record, and
    `records` is the number of records. `seconds` is the wall time (for a comparison, the total of its fits), `size` is the
    size of the folder in bytes, and `finished` is the date and time (UTC).
    """

    id: str
    experiment: str
    version: int
    config: dict[str, Any]
    knobs: dict[str, Any]
    last: dict[str, float]
    records: int
    seconds: float
    size: int
    finished: str


def kept(root: Path | None = None, told: Callable[[str], None] = _say) -> list[Kept]:
    """Return all complete runs, newest first. The fits of which comparisons consist are not in the list.

    For each folder whose ``run.json`` or records are not valid, `told` is called with a message of one line.
    """
    folder = root or runs.runs_folder()
    found = []
    for path in sorted(folder.glob(f"*/{ABOUT}")):
        try:
            found.append(_read(path.parent))
        except FileNotFoundError:  # the run is being deleted
            continue
        except (OSError, ValueError) as error:
            told(f"{path.parent} is not listed because it contains no valid run: {error}")
    return sorted(found, key=lambda run: run.finished, reverse=True)


def chosen(experiment: str | None = None, knobs: dict[str, Any] | None = None) -> list[Kept]:
    """Return the complete runs whose knobs have the given values. If `experiment` is not None, only its runs are returned."""
    wanted = {name: text_of(value) for name, value in (knobs or {}).items()}
    return [
        run
        for run in kept()
        if experiment in (None, run.experiment) and all(text_of(run.config.get(name)) == text for name, text in wanted.items())
    ]


def _read(folder: Path) -> Kept:
    if folder.is_symlink():
        raise ValueError("the folder is a symbolic link")
    about = read_about(folder)
    with (folder / RECORDS).open("rb") as file:
        last = _last_record(file)
    return Kept(
        folder.name,
        about.experiment,
        about.version,
        about.config,
        _changed(about.experiment, about.config),
        {k: v for k, v in last.items() if isinstance(v, (int, float)) and not isinstance(v, bool)},
        about.records,
        about.spent,
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()),
        about.finished,
    )


def _last_record(file: BinaryIO) -> Record:
    """Return the last record of the file without reading the whole file. If the file is empty, return an empty record."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - 2 * LARGEST_RECORD))
    lines = file.read().splitlines()
    return read_records(lines[-1])[0] if lines else {}


def _changed(experiment: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the knobs that differ from their defaults, or all knobs if the experiment is not installed here."""
    try:
        fields = get(experiment).config.model_fields
    except ValueError:
        return config
    default = {name: _json(field.get_default()) for name, field in fields.items()}
    return {name: value for name, value in config.items() if value != default.get(name, ...)}


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def table(found: Sequence[Kept]) -> pd.DataFrame:
    """Return a table with one row per run.

    The columns are the experiment, the knobs in which the runs differ, the numbers of the last record, the number of records,
    the wall time in seconds, the size in bytes, and the date.
    """
    import pandas as pd

    names = differing(found)
    rows = [
        {
            "experiment": run.experiment,
            **{name: run.config.get(name) for name in names},
            **run.last,
            "run_records": run.records,
            "run_seconds": run.seconds,
            "run_bytes": run.size,
            "run_finished": run.finished,
        }
        for run in found
    ]
    return pd.DataFrame(rows, index=pd.Index([run.id for run in found], name="id"))


def lines(found: Sequence[Kept]) -> Iterator[str]:
    """Yield two lines for each run.

    The first has its id, date, wall time and size. The second has the knobs that differ from their defaults, and up to four
    numbers of the last record.
    """
    for run in found:
        knobs = ", ".join(f"{name}={value}" for name, value in run.knobs.items())
        last = "  ".join(f"{name}={value:.4g}" for name, value in [*run.last.items()][-4:])
        when = run.finished[:16].replace("T", " ")
        yield f"{run.id}  {when}  {run.seconds:.1f} s  {run.size / 1e3:.0f} kB"
        yield f"    {knobs or 'the defaults'}: {last}"


def differing(found: Sequence[Kept]) -> list[str]:
    """Return the names of the knobs in which the runs differ."""
    names = dict.fromkeys(name for run in found for name in run.config)
    return [n for n in names if len({json.dumps(run.config.get(n)) for run in found}) > 1]


def config_of(run: Kept) -> Config:
    """Return the config of a saved run. Raises KnobError if the installed version of the experiment rejects this config."""
    return get(run.experiment).config(**run.config)


def folder_of(name: str, root: Path | None = None) -> Path:
    """Return the folder of the run with the id `name`. Raises RunError if there is no such run."""
    inside = root or runs.runs_folder()
    folder = inside / name
    if not runs.is_plain(name) or folder.is_symlink() or not (folder / ABOUT).is_file():
        raise RunError(f"no run {name!r} in {inside}; expected a run id. List the ids with: workbench runs")
    return folder


def delete(names: Sequence[str], root: Path | None = None) -> None:
    """Delete runs by their ids. If one of the ids is unknown, RunError is raised and no run is deleted."""
    for folder in [folder_of(name, root) for name in names]:
        (folder / ABOUT).unlink()  # delete this file first: a partly deleted folder without it is not listed as a run
        shutil.rmtree(folder)
        folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)
