"""A run on disk: identity, records, artefacts, checkpoint, provenance.

A run's id is a hash of experiment, version, config and the checksums of its inputs: the same question has the same
id in the panel, under papermill and on the command line. ``runs/<id>/`` holds ``records.jsonl``, ``artefacts/``, a
checkpoint while it is unfinished, and ``run.json``, written last: only with it, and with its checksum of the
records, is a run believed. A run that was cut off goes on from its checkpoint, or is done again.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout

from workbench.atomic import write_atomic
from workbench.experiment import Experiment, Record, get, plain_record
from workbench.knobs import Config
from workbench.provenance import provenance
from workbench.records import ABOUT, RECORDS, read_about, read_records
from workbench.threads import torch_threads

if TYPE_CHECKING:
    from concurrent.futures import Executor


class RunError(RuntimeError):
    """A run that cannot be written or read; the message says what to do."""


class Stopped(RunError):
    """A comparison that was asked to stop while it waited for a fit."""


def runs_folder() -> Path:
    """Where runs are kept: ``WORKBENCH_RUNS``, or ``runs`` in the project, or, where that cannot be written, right here."""
    chosen = os.environ.get("WORKBENCH_RUNS")
    project = Path(__file__).parents[1]
    ours = (project / "pyproject.toml").exists() and os.access(project, os.W_OK)
    return Path(chosen) if chosen else (project if ours else Path.cwd()) / "runs"


def run_id(experiment: Experiment, config: Config) -> str:
    """The run's content address."""
    knobs = config.model_dump(mode="json")
    return identity(experiment.name, experiment.version, knobs, experiment.inputs(config))


def identity(experiment: str, version: int, config: dict[str, Any], inputs: Sequence[str]) -> str:
    """The content address of what a run says that it is."""
    parts = {"experiment": experiment, "version": version, "config": config, "inputs": sorted(inputs)}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{experiment.replace('/', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Progress:
    """What a checkpoint knows of the records written before it."""

    records: int
    size: int
    sha256: str


class Run:
    """What a generator sees of its run: a place for artefacts and a checkpoint.

    A comparison also sees the folder of `fits`, the `executor` that whoever pulls has chosen (None: its own), whether to
    begin `fresh`, whether it is `stopped`, and `about`, which it may add to what is kept of the run.
    """

    def __init__(
        self, folder: Path, executor: Executor | None = None, fresh: bool = False, stopped: Callable[[], bool] = lambda: False
    ):
        self.folder, self.executor, self.fresh, self.stopped = folder, executor, fresh, stopped
        self.fits, self.about = folder.parent / "fits", {}
        self._written = Progress(0, 0, hashlib.sha256().hexdigest())
        self._state: Any = None

    def path(self, name: str) -> Path:
        """A file of this run for a large artefact."""
        if not is_plain(name):
            raise RunError(f"artefact {name!r}: expected a plain file name")
        folder = self.folder / "artefacts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def save(self, state: Any) -> None:
        """Checkpoint `state` (tensors, numbers, strings, lists, dicts) as of the records yielded so far."""
        import torch

        buffer = io.BytesIO()
        torch.save({"progress": self._written.__dict__, "state": state}, buffer)
        with _writing(self.folder):
            write_atomic(self.folder / "checkpoint.pt", buffer.getvalue())

    def load(self) -> Any:
        """The state of the last checkpoint, or None at the start."""
        return self._state


class _RunWriter(Run):
    """The writing side: appends records, takes up a checkpoint, closes the run."""

    def begin(self) -> list[Record]:
        """Take up the last checkpoint; returns the records that stand before it."""
        kept, records = b"", []
        found = self._checkpoint()
        if found:
            self._written, self._state = Progress(**found["progress"]), found["state"]
            kept = self._file.read_bytes()[: self._written.size]
            records = [json.loads(line) for line in kept.splitlines()]
        self._hash = hashlib.sha256(kept)
        with _writing(self.folder):
            (self.folder / ABOUT).unlink(missing_ok=True)
            # temporary files of a process that was killed while it wrote
            for left_behind in (*self.folder.glob(".*"), *self.folder.glob("artefacts/.*")):
                left_behind.unlink(missing_ok=True)
            write_atomic(self._file, kept)
            self._out = self._open()
        return records

    def _open(self) -> BinaryIO:
        return self._file.open("ab")

    @property
    def _file(self) -> Path:
        return self.folder / RECORDS

    def _checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint, if it is whole and the records before it are too."""
        import torch

        path = self.folder / "checkpoint.pt"
        try:
            found = torch.load(path, weights_only=True)
            progress = Progress(**found["progress"])
            before = self._file.read_bytes()[: progress.size]
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the file, the run is done again from the start
            print(f"checkpoint of {self.folder.name} is unreadable ({type(error).__name__}): starting again", file=sys.stderr)
            return None
        return found if hashlib.sha256(before).hexdigest() == progress.sha256 else None

    def add(self, record: Record) -> None:
        line = json.dumps(record).encode() + b"\n"
        with _writing(self.folder):
            self._out.write(line)
            self._out.flush()
        self._hash.update(line)
        w = self._written
        self._written = Progress(w.records + 1, w.size + len(line), self._hash.hexdigest())

    def close(self, about: dict[str, Any]) -> None:
        about = {**about, "records": self._written.records, "records_sha256": self._written.sha256}
        with _writing(self.folder):
            os.fsync(self._out.fileno())
            write_atomic(self.folder / ABOUT, json.dumps(about, indent=2, sort_keys=True).encode() + b"\n")
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def end(self) -> None:
        """Let go of the records file; unless `close` came first, the run stays unfinished."""
        with suppress(OSError):  # a full disk was already reported by `add`
            self._out.close()


def load(folder: Path) -> list[Record] | None:
    """The records of the complete run in `folder`; None where it is missing, unfinished or damaged."""
    try:
        about = read_about(folder)
        data = (folder / RECORDS).read_bytes()
        if hashlib.sha256(data).hexdigest() != about.records_sha256:
            raise ValueError("its records do not match their checksum")
        return read_records(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        print(f"run {folder.name} is damaged ({error}); it is ignored, and will be computed when it is needed", file=sys.stderr)
        return None


def is_plain(name: str) -> bool:
    """Return whether `name` is a file name without a path that does not start with a dot."""
    return Path(name).name == name and name not in ("", ".", "..") and name[0] != "." and "\\" not in name


def find(experiment: Experiment, config: Config, root: Path | None = None) -> list[Record] | None:
    """The records of this run if it is complete."""
    return load((root or runs_folder()) / run_id(experiment, config))


def stream(
    experiment: Experiment,
    config: Config,
    root: Path | None = None,
    fresh: bool = False,
    executor: Executor | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """The run's records one at a time: read if it is complete, else computed and written as they come.

    Whoever stops pulling stops the run. A second process that asks for the same run waits for the first. `fresh` computes
    again what is there, the fits of a comparison too; `executor` is what a comparison's fits run on, in place of its own;
    a comparison asks `stopped` while it waits for fits, and raises Stopped.
    Raises RunError where the folder cannot be written.
    """
    folder = (root or runs_folder()) / run_id(experiment, config)
    stored = None if fresh else load(folder)
    if stored is not None:
        yield from stored
        return
    lock = _lock(folder)
    try:
        if fresh:
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        stored = None if fresh else load(folder)  # another process may have finished it meanwhile
        run = _RunWriter(folder, executor, fresh, stopped)
        yield from _compute(experiment, config, run) if stored is None else stored
    finally:
        lock.release()


def _compute(experiment: Experiment, config: Config, run: _RunWriter) -> Iterator[Record]:
    # fits run side by side in threads: each counts its own
    clock = time.thread_time if experiment.hidden else time.process_time
    started, cpu = time.time(), clock()
    before = run.begin()
    generator = experiment.generate(config, run)
    try:
        yield from before
        with torch_threads(experiment.threads):
            for record in generator:
                record = plain_record(record)
                run.add(record)
                yield record
        run.close(
            {
                "id": run.folder.name,
                "experiment": experiment.name,
                "version": experiment.version,
                "config": config.model_dump(mode="json"),
                "inputs": sorted(experiment.inputs(config)),
                "resumed_at_record": len(before),
                "wall_seconds": round(time.time() - started, 3),
                "cpu_seconds": round(clock() - cpu, 3),
                **provenance(),
                **run.about,
            }
        )
    finally:
        generator.close()
        run.end()


def _lock(folder: Path) -> FileLock:
    """Hold the run: one process computes it, the others wait. A killed process lets go by itself."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"), thread_local=False)
        try:
            return lock.acquire(timeout=0).lock
        except Timeout:
            pass
        # a worker that reads its parent's script would wait for the parent, which waits for the worker
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RunError("a script must have what it runs under if __name__ == '__main__': its workers read it too")
        print(f"another run of {folder.name} is not finished: waiting for it", file=sys.stderr)
        try:
            return lock.acquire().lock
        except RuntimeError as error:
            raise RunError(f"{folder.name} is under way in this thread: close that stream first") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write the run to {folder} ({error.strerror or error}): free some space, or set WORKBENCH_RUNS to a "
            "folder that you can write; what was finished before is kept"
        ) from error


def preview(experiment: Experiment, config: Config) -> list[Record]:
    """The records, computed and not kept: for instant experiments, where each slider position is a run."""
    with tempfile.TemporaryDirectory() as folder, torch_threads(experiment.threads):
        return [plain_record(record) for record in experiment.generate(config, Run(Path(folder)))]


def run(experiment: str | Experiment, scale: str | None = None, root: Path | None = None, **knobs: Any) -> list[Record]:
    """Run `experiment` (or read it, if it is complete) and return its records.

    ``run("quantization/layer-trace", scale="smoke", bits=4)``
    """
    found = get(experiment)
    return list(stream(found, found.config.at(scale, **knobs), root))
