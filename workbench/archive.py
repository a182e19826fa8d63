"""The runs that are kept: what there is, in a table; delete, and exchange as one checked file."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import runs
from workbench.atomic import write_atomic
from workbench.experiment import Record, get
from workbench.knobs import Config, text_of
from workbench.runs import RunError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "workbench runs 1"
LARGEST = 4_000_000_000  # bytes that a bundle may unfold to
KEPT = ("run.json", "records.jsonl")  # of a run, beside its artefacts


@dataclass(frozen=True)
class Kept:
    """A complete run: its id, what made it, the knobs that differ from their defaults, its last numbers, its cost."""

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


def kept(root: Path | None = None) -> list[Kept]:
    """All complete runs, the newest first; fits of comparisons are not among them."""
    folder = root or runs.runs_folder()
    found = [run for path in folder.glob("*/run.json") if (run := _read(path.parent)) is not None]
    return sorted(found, key=lambda run: run.finished, reverse=True)


def chosen(experiment: str | None = None, knobs: dict[str, Any] | None = None) -> list[Kept]:
    """Of the complete runs those of an experiment (None: all) that have these values of knobs."""
    wanted = {name: text_of(value) for name, value in (knobs or {}).items()}
    return [
        run
        for run in kept()
        if experiment in (None, run.experiment)
        and all(text_of(run.config.get(name)) == text for name, text in wanted.items())
    ]


def _read(folder: Path) -> Kept | None:
    try:
        about = json.loads((folder / "run.json").read_bytes())
        with (folder / "records.jsonl").open("rb") as file:
            last = _last_line(file)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        config = about["config"]
        return Kept(
            folder.name,
            about["experiment"],
            about["version"],
            config,
            _changed(about["experiment"], config),
            {k: v for k, v in last.items() if isinstance(v, (int, float)) and not isinstance(v, bool)},
            about["records"],
            about.get("fits", about)["wall_seconds"],
            size,
            about["finished"],
        )
    except (OSError, ValueError, KeyError, TypeError):  # not a run, or being deleted
        return None


def _last_line(file: Any) -> Record:
    """The last record, without reading those before it."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - 128 * 1024))
    lines = file.read().splitlines()
    return json.loads(lines[-1]) if lines else {}


def _changed(experiment: str, config: dict[str, Any]) -> dict[str, Any]:
    """The knobs that differ from their defaults; all of them where the experiment is not known here."""
    try:
        fields = get(experiment).config.model_fields
    except ValueError:
        return config
    default = {name: _json(field.get_default()) for name, field in fields.items()}
    return {name: value for name, value in config.items() if value != default.get(name, ...)}


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def table(found: Sequence[Kept]) -> pd.DataFrame:
    """A row a run: experiment, the knobs in which these runs differ, their last numbers, time, size."""
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
    """The runs for a terminal: id, when, cost; below it knobs and last numbers."""
    for run in found:
        knobs = ", ".join(f"{name}={value}" for name, value in run.knobs.items())
        last = "  ".join(f"{name}={value:.4g}" for name, value in [*run.last.items()][-4:])
        when = run.finished[:16].replace("T", " ")
        yield f"{run.id}  {when}  {run.seconds:.1f} s  {run.size / 1e3:.0f} kB"
        yield f"    {knobs or 'the defaults'}: {last}"


def differing(found: Sequence[Kept]) -> list[str]:
    """The knobs in which runs differ."""
    names = dict.fromkeys(name for run in found for name in run.config)
    return [n for n in names if len({json.dumps(run.config.get(n)) for run in found}) > 1]


def config_of(run: Kept) -> Config:
    """The config of a kept run; raises KnobError where the experiment, as it is now, does not take it."""
    return get(run.experiment).config(**run.config)


def folder_of(name: str, root: Path | None = None) -> Path:
    """The folder of the run `name`; raises RunError where there is none."""
    folder = (root or runs.runs_folder()) / name
    if Path(name).name != name or not (folder / "run.json").exists():
        raise RunError(f"no run {name!r} in {folder.parent}: workbench runs lists them")
    return folder


def delete(names: Sequence[str], root: Path | None = None) -> None:
    """Delete runs; raises RunError for a name that is none, before anything is deleted."""
    for folder in [folder_of(name, root) for name in names]:
        (folder / "run.json").unlink()  # from here on it is not believed, whatever happens
        shutil.rmtree(folder)
        folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)


# -- bundles -------------------------------------------------------------------------------------------------------------


def export(names: Sequence[str], path: Path, root: Path | None = None) -> Path:
    """Write runs into one zip file, with the checksum of each file; records, artefacts and provenance, no checkpoint."""
    if not names:
        raise RunError("no run to export: name some, as workbench runs lists them")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    path.parent.mkdir(parents=True, exist_ok=True)
    sums: dict[str, dict[str, Any]] = {}
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name in names:
                for file in _files(folder_of(name, root)):
                    inside = f"{name}/{file.relative_to(folder_of(name, root)).as_posix()}"
                    data = file.read_bytes()
                    sums[inside] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
                    bundle.writestr(inside, data)
            bundle.writestr("manifest.json", json.dumps({"format": FORMAT, "files": sums}, indent=1))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in KEPT)
    yield from sorted(path for path in (folder / "artefacts").glob("*") if path.is_file())


def bring(path: Path, root: Path | None = None) -> list[str]:
    """Take in the runs of a bundle; returns the ids of those that were not here yet.

    Nothing is believed: names are plain, each file has the size and checksum of the manifest, a run's id follows from what it
    says that it is, and its records match their checksum. Raises RunError, and takes nothing, where one of these fails.
    """
    target = root or runs.runs_folder()
    try:
        with zipfile.ZipFile(path) as bundle:
            files = _checked(bundle, path)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise RunError(f"{path} is not a bundle of runs: {error}") from error
    found: dict[str, dict[str, bytes]] = {}
    for inside, data in files.items():
        name, _, rest = inside.partition("/")
        found.setdefault(name, {})[rest] = data
    for name, parts in found.items():
        _check_run(name, parts, path)
    new = [name for name in found if runs.load(target / name) is None]
    for name in new:
        for rest, data in sorted(
            found[name].items(), key=lambda part: part[0] == "run.json"
        ):  # which closes a run: last
            write_atomic(target / name / rest, data)
    return new


def _checked(bundle: zipfile.ZipFile, path: Path) -> dict[str, bytes]:
    """The files of a bundle, each as the manifest says."""
    manifest = json.loads(bundle.read("manifest.json"))
    if manifest.get("format") != FORMAT:
        raise RunError(f"{path} has the format {manifest.get('format')!r}; expected {FORMAT!r}")
    sums, there = manifest["files"], {info.filename: info for info in bundle.infolist()}
    if {*there} != {*sums, "manifest.json"} or len(bundle.infolist()) != len(there):
        raise RunError(f"{path}: its files are not those of its manifest; it was altered")
    if sum(info.file_size for info in there.values()) > LARGEST:
        raise RunError(f"{path} unfolds to more than {LARGEST:,} bytes")
    files = {}
    for inside, about in sums.items():
        name, _, rest = inside.partition("/")
        plain = rest in KEPT or (rest.startswith("artefacts/") and Path(rest).name == rest.partition("/")[2])
        if Path(name).name != name or name.startswith(".") or not plain or "\\" in inside or ".." in rest:
            raise RunError(
                f"{path}: a file {inside!r}; expected RUN/run.json, RUN/records.jsonl or RUN/artefacts/NAME"
            )
        data = bundle.read(inside)
        if len(data) != about["size"] or hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise RunError(f"{path}: {inside} does not match its checksum; it was altered or damaged")
        files[inside] = data
    return files


def _check_run(name: str, parts: dict[str, bytes], path: Path) -> None:
    """A run is what its id says, and its records are whole."""
    if not {*KEPT} <= {*parts}:
        raise RunError(f"{path}: the run {name} lacks {' or '.join(KEPT)}")
    about = json.loads(parts["run.json"])
    made = runs.identity(about["experiment"], about["version"], about["config"], about["inputs"])
    if made != name:
        raise RunError(f"{path}: the run {name} has the config of {made}; it was altered")
    if hashlib.sha256(parts["records.jsonl"]).hexdigest() != about["records_sha256"]:
        raise RunError(f"{path}: the records of {name} do not match their checksum; they were altered")
