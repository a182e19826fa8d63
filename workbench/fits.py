"""Fits under way: read where they are kept, else computed on an executor; those that share work go to one worker in turn."""

from __future__ import annotations

import concurrent.futures as futures
import os
import signal
import threading
from collections.abc import Hashable, Iterable, Sequence
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench import phases, runs
from workbench.datasets import DataError
from workbench.experiment import Record, get
from workbench.knobs import Config
from workbench.provenance import cores
from workbench.records import read_about

if TYPE_CHECKING:
    from workbench.comparison import Fit


class Job(NamedTuple):
    """A fit to be made: its run's id, its config, and what its row begins with."""

    id: str
    config: Config
    head: Record


CHUNK = 8  # fits that share work which one worker is given at once: what goes on after Stop
LOOK = 0.2  # seconds between two looks for fits that a worker has kept
DIED = "its process died: out of memory, or a crash in compiled code"
_shared: dict[
    str, futures.Executor
] = {}  # one pool of processes for all comparisons: starting one takes seconds


class Fits:
    """The fits of one comparison. Leaving it early waits for nothing; fits under way are still kept."""

    def __init__(self, fit: Fit, run: runs.Run):
        self.fit, self.run, self.root = fit, run, run.fits
        self._records: dict[str, Record | None] = {}  # by id; None while a fit is under way
        self._waiting: dict[Hashable, list[Job]] = {}  # jobs that share work, to be done in turn
        self._working: dict[
            futures.Future, tuple[list[Job], list[Job]]
        ] = {}  # what is under way, and what follows it
        self._own: list[futures.Executor] = []
        self._careful: futures.Executor | None = None

    def __enter__(self) -> Fits:
        return self

    def __exit__(self, *error: Any) -> None:
        for future in self._working:
            future.cancel()
        for executor in self._own:
            executor.shutdown(wait=False, cancel_futures=True)

    def record(self, job: Job) -> Record | None:
        """The record of a fit that has ended; None while it is under way."""
        return self._records[job.id]

    def start(self, jobs: Iterable[Job]) -> None:
        """Read the fits of `jobs`, or have them computed."""
        for job in jobs:
            if job.id in self._records:
                continue
            if self.run.fresh:  # from here on it is as if it had never been made
                for file in ("run.json", "checkpoint.pt"):
                    (self.root / job.id / file).unlink(missing_ok=True)
            if not self._kept(job):
                key = self.fit.together(job.config) if self.fit.together else job.id
                # beside those that wait already: what they share is made once for all of them
                self._waiting.setdefault(key, []).append(job)
        self._begin()

    def wait(self) -> None:
        """Wait until another fit has ended; raises Stopped where whoever pulls wants no more."""
        if self.run.stopped():
            raise runs.Stopped(f"stopped; {sum(r is not None for r in self._records.values())} fits are kept")
        phases.say(
            f"{sum(r is not None for r in self._records.values())} of {len(self._records)} fits so far"
        )
        done, _ = futures.wait(self._working, LOOK, futures.FIRST_COMPLETED)
        for future in done:
            jobs, rest = self._working.pop(future)
            rest = self._take(jobs, future) + rest
            if rest:  # at once, so that the worker that has what they share goes on with it
                self._submit(rest)
        self._begin()
        for jobs, _ in self._working.values():  # what a worker has kept is there before its whole chunk is
            for job in jobs:
                if self.record(job) is None and not self._kept(job):
                    break

    def cost(self) -> dict[str, Any]:
        """What all these fits have cost, whenever they were made."""
        about = []
        for name in self._records:
            try:
                about.append(read_about(self.root / name))
            except (OSError, ValueError):  # failed, or died
                continue
        return {
            "count": len(about),
            "wall_seconds": round(sum(one.wall_seconds for one in about), 3),
            "cpu_seconds": round(sum(one.cpu_seconds for one in about), 3),
            "peak_memory_mb": max((one.peak_memory_mb for one in about), default=0),
        }

    def _kept(self, job: Job) -> bool:
        records = runs.load(self.root / job.id)
        self._records[job.id] = records[0] if records else None
        return bool(records)

    # -- the executor ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Have work done: jobs that share some on as many cores as there are, so that none is taken up twice; others at once."""
        own = self.run.executor is None and self.fit.together is not None
        while self._waiting and not (own and len(self._working) >= cores()):
            self._submit(self._waiting.pop(next(iter(self._waiting))))

    def _submit(self, jobs: list[Job]) -> None:
        part, rest = jobs[:CHUNK], jobs[CHUNK:]
        task = self.fit.experiment.name, [job.config for job in part], self.root
        if not self._careful:
            try:
                future = self._executor(part[0]).submit(work, *task)
            except futures.BrokenExecutor:  # while it was idle: a new one
                _shared.pop("pool", None)
                future = self._executor(part[0]).submit(work, *task)
        else:
            future = self._careful.submit(alone, *task)
        self._working[future] = part, rest

    def _executor(self, job: Job) -> futures.Executor:
        if self.run.executor is not None:
            return self.run.executor
        if self.fit.threads(job.config) or parent_process() is not None:  # a sweep's worker starts no others
            if not self._own:
                self._own.append(futures.ThreadPoolExecutor(1 if parent_process() else cores()))
            return self._own[0]
        if "pool" not in _shared:
            _shared["pool"] = processes(cores())
        return _shared["pool"]

    def _be_careful(self) -> None:
        """After a worker has died and taken its pool along: a process of its own for each group, on as many cores."""
        if self._careful is None:
            _shared.pop("pool", None)
            self._careful = futures.ThreadPoolExecutor(cores())
            self._own.append(self._careful)

    def _take(self, jobs: list[Job], future: futures.Future) -> list[Job]:
        """Take what a worker has found; returns the jobs that it did not get to, since it died."""
        try:
            found = future.result()
        except futures.BrokenExecutor:
            self._be_careful()
            return [job for job in jobs if not self._kept(job)]
        self._records.update({job.id: record for job, record in zip(jobs, found, strict=True)})
        return []


def processes(count: int) -> futures.ProcessPoolExecutor:
    """Spawned processes that end with this one, however it ends, and at an interrupt without a word."""
    return futures.ProcessPoolExecutor(count, get_context("spawn"), initializer=_begin_worker)


def _begin_worker() -> None:
    signal.signal(
        signal.SIGINT, lambda *_: os._exit(130)
    )  # it reaches the whole group; the parent says what there is to say

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(name: str, configs: Sequence[Config], root: Path) -> list[Record]:
    """The records of fits, one after another in this process; one that is refused, or goes wrong, says so."""
    found: list[Record] = []
    for config in configs:
        try:
            found += runs.stream(get(name), config, root)
        except (runs.RunError, DataError, OSError, MemoryError):  # of the machine, not of this fit
            raise
        except Exception as error:
            known = isinstance(error, (ValueError, ArithmeticError))
            found.append({"failed": str(error) if known else f"{type(error).__name__}: {error}"})
    return found


def alone(name: str, configs: Sequence[Config], root: Path) -> list[Record]:
    """The same, one by one in a process of its own; a fit on which it dies has failed, the others go on."""
    found: list[Record] = []
    while len(found) < len(configs):
        with processes(1) as pool:
            try:
                pool.submit(os.getpid).result()
            except futures.BrokenExecutor:
                raise runs.RunError(
                    "no worker process can be started: a script must have what it runs under if __name__ == '__main__':"
                ) from None
            for config in configs[len(found) :]:
                try:
                    found += pool.submit(work, name, [config], root).result()
                except futures.BrokenExecutor:
                    found.append({"failed": DIED})
                    break
    return found
