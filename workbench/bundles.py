"""Export runs to one zip file, called a bundle, and import the runs of a bundle after checking all its files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench import runs
from workbench.archive import folder_of
from workbench.experiment import Record, get
from workbench.records import ABOUT, LARGEST_ABOUT, RECORDS, About, check_record, read_about, read_records
from workbench.runs import RunError

FORMAT = "workbench runs 1"
MANIFEST = "manifest.json"
LARGEST = 2_000_000_000  # bytes: the largest total size of a bundle's files after decompression
LARGEST_PART = {MANIFEST: 20_000_000, ABOUT: LARGEST_ABOUT, RECORDS: 64_000_000}
KEPT = (ABOUT, RECORDS)  # files that each run in a bundle must have; artefacts are optional
FORGED = (
    "the checksums detect damage, but not forgery: the author of a bundle can write arbitrary records into it. "
    "Run an experiment again if you rely on its result"
)
ODD_ZIPS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError)


class Part(BaseModel):
    """The checksum and the size in bytes of one file in a bundle."""

    model_config = ConfigDict(strict=True, extra="forbid")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """The manifest of a bundle: its format, and the checksum and size of each file."""

    model_config = ConfigDict(strict=True, extra="forbid")
    format: Literal["workbench runs 1"]
    files: dict[str, Part]


def export(names: Sequence[str], path: Path, root: Path | None = None) -> Path:
    """Write runs and the checksums of their files into one zip file, and return its path.

    A bundle holds the records, artefacts and provenance of each run, but no checkpoints. Raises RunError if a
    run is unknown.
    """
    if not names:
        raise RunError("no runs to export; expected at least one run id. List the ids with: workbench runs")
    folders = [folder_of(name, root) for name in names]
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    path.parent.mkdir(parents=True, exist_ok=True)
    sums: dict[str, Part] = {}
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:
            for folder in folders:
                for file in _files(folder):
                    inside = f"{folder.name}/{file.relative_to(folder).as_posix()}"
                    data = file.read_bytes()
                    sums[inside] = Part(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
                    bundle.writestr(inside, data)
            bundle.writestr(MANIFEST, Manifest(format=FORMAT, files=sums).model_dump_json(indent=1))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in KEPT)
    artefacts = (folder / "artefacts").glob("*")
    yield from sorted(path for path in artefacts if path.is_file() and not path.is_symlink())


def bring(path: Path, root: Path | None = None) -> list[str]:
    """Import the runs of a bundle; return the ids of the runs that were not in the runs folder yet.

    The whole bundle is checked before any run is imported: no file is too large or outside the folder of its run, each
    file has the size and checksum given in the manifest, ``run.json`` has all required fields, the run id matches the
    configuration, and the experiment, if it is installed here, can display the records. If a check fails, RunError is
    raised and nothing is imported. The checks cannot show that the records were really computed (see `FORGED`).
    """
    target = root or runs.runs_folder()
    if not path.is_file():
        raise RunError(f"{path}: no such file; expected a bundle written by workbench runs --export")
    try:
        with zipfile.ZipFile(path) as bundle:
            manifest = _manifest(bundle, path)
            with _unfolded(bundle, manifest, target, path) as folder:
                names = sorted({inside.partition("/")[0] for inside in manifest.files})
                for name in names:
                    _check_run(name, folder / name, path)
                new = [name for name in names if runs.load(target / name) is None]
                for name in new:
                    _move(folder / name, target / name)
    except RunError:
        raise
    except OSError as error:
        raise RunError(f"{path} cannot be imported: {error}") from error
    except ODD_ZIPS as error:
        raise RunError(f"{path} is not a bundle of runs ({error}); expected a file from workbench runs --export") from error
    return new


def _manifest(bundle: zipfile.ZipFile, path: Path) -> Manifest:
    """Return the manifest of a bundle. Raises RunError if it does not match the files, or if a file is too large."""
    there = {info.filename: info for info in bundle.infolist()}
    if MANIFEST not in there:
        raise RunError(f"{path} is not a bundle of runs: it has no {MANIFEST}; expected a file from workbench runs --export")
    for inside, info in there.items():
        most = LARGEST_PART.get(inside.rpartition("/")[2], LARGEST)
        if info.file_size > most:
            raise RunError(f"{path}: {inside} has {info.file_size:,} bytes after decompression; expected at most {most:,}")
    if (whole := sum(info.file_size for info in there.values())) > LARGEST:
        raise RunError(
            f"{path} has {whole:,} bytes after decompression; expected at most {LARGEST:,}: export fewer runs to one file"
        )
    told = json.loads(bundle.read(MANIFEST))
    if isinstance(told, dict) and told.get("format", FORMAT) != FORMAT:
        raise RunError(f"{path} has the format {told['format']!r}; expected {FORMAT!r}, the format of this version of Workbench")
    try:
        manifest = Manifest.model_validate(told)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise RunError(f"{path} is not a bundle of runs: {MANIFEST} is not valid ({where}: {wrong['msg']})") from None
    if {*there} != {*manifest.files, MANIFEST} or len(bundle.infolist()) != len(there):
        raise RunError(f"{path}: its files differ from those listed in {MANIFEST}; the bundle was altered. Ask for a new export")
    for inside in manifest.files:
        name, _, rest = inside.partition("/")
        part = rest if rest in KEPT else rest.removeprefix("artefacts/")
        if not runs.is_plain(name) or not runs.is_plain(part) or (rest == part and rest not in KEPT):
            raise RunError(f"{path}: unexpected file {inside!r}; expected RUN/{ABOUT}, RUN/{RECORDS} or RUN/artefacts/NAME")
    return manifest


@contextmanager
def _unfolded(bundle: zipfile.ZipFile, manifest: Manifest, target: Path, path: Path) -> Iterator[Path]:
    """Extract a bundle into a temporary folder, and yield the folder. Raises RunError if a checksum is wrong."""
    target.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target, prefix=".importing-"))
    try:
        for inside, about in manifest.files.items():
            found, size = hashlib.sha256(), 0
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(inside) as packed, (folder / inside).open("wb") as file:
                while chunk := packed.read(1 << 20):
                    found.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if size != about.size or found.hexdigest() != about.sha256:
                raise RunError(f"{path}: {inside} does not match its checksum; it was altered or damaged. Ask for a new export")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_run(name: str, folder: Path, path: Path) -> None:
    """Raise RunError if a run is incomplete, does not match its id, or has damaged or invalid records."""
    if lacking := [part for part in KEPT if not (folder / part).exists()]:
        raise RunError(f"{path}: the run {name} has no {' and no '.join(lacking)}; ask for a new export")
    try:
        about, data = read_about(folder), (folder / RECORDS).read_bytes()
        made = runs.identity(about.experiment, about.version, about.config, about.inputs)
        if made != name:
            raise RunError(f"{path}: the run {name} has the config of another run, {made}; it was altered. Ask for a new export")
        if hashlib.sha256(data).hexdigest() != about.records_sha256:
            raise RunError(f"{path}: the records of {name} do not match their checksum; they were altered. Ask for a new export")
        records = read_records(data)
        if len(records) != about.records:
            raise ValueError(f"{RECORDS} has {len(records)} records; expected {about.records}, as in {ABOUT}")
        for number, record in enumerate(records, 1):
            check_record(record, number)
        _check_shown(about, records)
    except ValueError as error:
        raise RunError(f"{path}: the run {name} is not valid: {error}") from None


def _check_shown(about: About, records: list[Record]) -> None:
    """Raise ValueError if the experiment is installed here in the same version but cannot display these records."""
    try:
        experiment = get(about.experiment)
    except ValueError:  # the experiment is not installed here
        return
    if experiment.version != about.version:
        return
    try:
        experiment.tell(records, experiment.config(**about.config))
        if experiment.figure is not None:
            experiment.figure(records)
    except Exception as error:  # for unexpected records, drawing or describing them may raise any error
        raise ValueError(f"{about.experiment} cannot display its records ({type(error).__name__}: {error})") from error


def _move(made: Path, target: Path) -> None:
    """Move the files of a run into `target`; ``run.json``, which marks a run as complete, is moved last."""
    files = sorted((file for file in made.rglob("*") if file.is_file()), key=lambda file: file.name == ABOUT)
    for file in files:
        place = target / file.relative_to(made)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
