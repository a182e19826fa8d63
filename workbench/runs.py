"""Compute runs, store them on disk, and read them back. A run is one computation of an experiment with one config.

The id of a run contains a hash of the experiment's name and version, the config, and the checksums of the inputs. The same
computation therefore has the same id in the panel, under papermill and on the command line. The folder ``runs/<id>/``
contains the records (``records.jsonl``), large files (``artefacts/``), the provenance (``run.json``) and, until the run is
complete, a checkpoint. ``run.json`` is written last. A run is complete only if ``run.json`` exists and its checksum matches
the records. An interrupted run continues from its checkpoint; without a checkpoint, it starts again.
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
    """The error for a run that cannot be written or read. The message explains what to do."""


class Stopped(RunError):
    """The error that ends a comparison if the caller requests a stop while the comparison waits for fits."""


def runs_folder() -> Path:
    """Return the folder of all runs: ``WORKBENCH_RUNS`` if it is set, else ``runs`` in the project.

    If the project is not a writable checkout, ``runs`` is in the current folder instead.
    """
    chosen = os.environ.get("WORKBENCH_RUNS")
    project = Path(__file__).parents[1]
    ours = (project / "pyproject.toml").exists() and os.access(project, os.W_OK)
    return Path(chosen) if chosen else (project if ours else Path.cwd()) / "runs"


def run_id(experiment: Experiment, config: Config) -> str:
    """Return the id of the run of `experiment` with `config`."""
    knobs = config.model_dump(mode="json")
    return identity(experiment.name, experiment.version, knobs, experiment.inputs(config))


def identity(experiment: str, version: int, config: dict[str, Any], inputs: Sequence[str]) -> str:
    """Return a run id: the name of the experiment and a hash of name, version, config and inputs (each NAME@CHECKSUM)."""
    parts = {"experiment": experiment, "version": version, "config": config, "inputs": sorted(inputs)}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{experiment.replace('/', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Progress:
    """The number of records written so far, their size in bytes, and their checksum; stored in each checkpoint."""

    records: int
    size: int
    sha256: str


class Run:
    """The run that is passed to the generator of an experiment, which uses it to store artefacts and checkpoints.

    Comparisons also use the following attributes. `fits` is the folder of the fits. `executor` computes the fits; if it is
    None, the comparison creates its own executors. If `fresh` is true, saved fits are computed again. ``stopped()`` returns
    whether the caller has requested a stop. The entries of the dict `about` are written to ``run.json``.
    """

    def __init__(
        self, folder: Path, executor: Executor | None = None, fresh: bool = False, stopped: Callable[[], bool] = lambda: False
    ):
        self.folder, self.executor, self.fresh, self.stopped = folder, executor, fresh, stopped
        self.fits, self.about = folder.parent / "fits", {}
        self._written = Progress(0, 0, hashlib.sha256().hexdigest())
        self._state: Any = None

    def path(self, name: str) -> Path:
        """Return the path of the artefact (a large file) `name`. Raises RunError if `name` is not a plain file name."""
        if not is_plain(name):
            raise RunError(f"artefact {name!r}: expected a plain file name, without a folder and without a leading dot")
        folder = self.folder / "artefacts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def save(self, state: Any) -> None:
        """Write a checkpoint with the number of records so far and `state` (tensors, numbers, strings, lists, dicts)."""
        import torch

        buffer = io.BytesIO()
        torch.save({"progress": self._written.__dict__, "state": state}, buffer)
        with _writing(self.folder):
            write_atomic(self.folder / "checkpoint.pt", buffer.getvalue())

    def load(self) -> Any:
        """Return the state of the last checkpoint, or None if the run starts from the beginning."""
        return self._state


class _RunWriter(Run):
    """A run that is being computed, with methods that restore the last checkpoint, append records, and complete the run."""

    def begin(self) -> list[Record]:
        """Restore the last checkpoint and return the records that were written before it."""
        kept, records = b"", []
        found = self._checkpoint()
        if found:
            self._written, self._state = Progress(**found["progress"]), found["state"]
            kept = self._file.read_bytes()[: self._written.size]
            records = [json.loads(line) for line in kept.splitlines()]
        self._hash = hashlib.sha256(kept)
        with _writing(self.folder):
            (self.folder / ABOUT).unlink(missing_ok=True)
            # remove the temporary files of a process that was killed while it was writing
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
        """Return the checkpoint if it can be read and the records before it are undamaged; otherwise None."""
        import torch

        path = self.folder / "checkpoint.pt"
        try:
            found = torch.load(path, weights_only=True)
            progress = Progress(**found["progress"])
            before = self._file.read_bytes()[: progress.size]
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged file can raise any error; the run then starts again
            print(f"checkpoint of {self.folder.name} is damaged ({type(error).__name__}); the run starts again", file=sys.stderr)
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
        """Close the file of records. The run is complete only if `close` was called before."""
        with suppress(OSError):  # a full disk was already reported by `add`
            self._out.close()


def load(folder: Path) -> list[Record] | None:
    """Return the records of the run in `folder`, or None if the run is missing, unfinished or damaged."""
    try:
        about = read_about(folder)
        data = (folder / RECORDS).read_bytes()
        if hashlib.sha256(data).hexdigest() != about.records_sha256:
            raise ValueError("its records do not match their checksum")
        return read_records(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        print(f"run {folder.name} is damaged ({error}); it is ignored and computed again when it is needed", file=sys.stderr)
        return None


def is_plain(name: str) -> bool:
    """Check whether `name` is a plain file name, which contains no path and does not start with a dot."""
    return Path(name).name == name and name not in ("", ".", "..") and name[0] != "." and "\\" not in name


def find(experiment: Experiment, config: Config, root: Path | None = None) -> list[Record] | None:
    """Return the records of `experiment` with `config` if this run is complete; otherwise return None."""
    return load((root or runs_folder()) / run_id(experiment, config))


def stream(
    experiment: Experiment,
    config: Config,
    root: Path | None = None,
    fresh: bool = False,
    executor: Executor | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Yield the records of a run one at a time. If the run is not complete on disk, compute it and save it.

    The run stops when the caller closes this generator. A second process that requests the same run waits for the first.
    If `fresh` is true, the run and, for a comparison, its fits are computed again even if they are complete. A comparison
    computes its fits on `executor`, or on its own executors if `executor` is None. While it waits for fits, it calls
    `stopped`, and raises Stopped if the result is true. Raises RunError if the folder cannot be written.
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
        stored = None if fresh else load(folder)  # another process may have completed the run in the meantime
        run = _RunWriter(folder, executor, fresh, stopped)
        yield from _compute(experiment, config, run) if stored is None else stored
    finally:
        lock.release()


def _compute(experiment: Experiment, config: Config, run: _RunWriter) -> Iterator[Record]:
    # several fits may run at the same time in threads of one process, so count the CPU time of this thread only
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
    """Lock the run, so that one process computes it while others wait. If this process is killed, the lock is released."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"), thread_local=False)
        try:
            return lock.acquire(timeout=0).lock
        except Timeout:
            pass
        # a spawned worker imports its parent's script; here it would wait for the parent, which waits for the worker
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RunError(
                "a worker process imported this script; put the code that starts runs under if __name__ == '__main__':"
            )
        print(f"another process is computing the run {folder.name}; waiting until it ends", file=sys.stderr)
        try:
            return lock.acquire().lock
        except RuntimeError as error:
            raise RunError(f"this thread is already computing the run {folder.name}; close its generator first") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Convert an OSError, such as a full disk or a read-only folder, to a RunError that explains what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write the run to {folder} ({error.strerror or error}). Free some disk space, or set WORKBENCH_RUNS to "
            "a writable folder. Finished work is saved"
        ) from error


def preview(experiment: Experiment, config: Config) -> list[Record]:
    """Compute and return the records without saving them.

    The panel uses this function for instant experiments, which are computed again at each change of a knob.
    """
    with tempfile.TemporaryDirectory() as folder, torch_threads(experiment.threads):
        return [plain_record(record) for record in experiment.generate(config, Run(Path(folder)))]


def run(experiment: str | Experiment, scale: str | None = None, root: Path | None = None, **knobs: Any) -> list[Record]:
    """Return the records of `experiment`. If the run is complete, it is read from disk; otherwise it is computed.

    Example: ``run("quantization/layer-trace", scale="smoke", bits=4)``
    """
    found = get(experiment)
    return list(stream(found, found.config.at(scale, **knobs), root))
