"""Compute the fits of a comparison on an executor, or read them if they are saved.

A fit is a run that computes one record, for example by training a network. Fits that share work are sent to the same worker,
one after another. The docstring of the module `comparison` shows the states of a fit in a diagram.
"""

from __future__ import annotations

import concurrent.futures as futures
import os
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

from workbench import phases, runs
from workbench.datasets import DataError
from workbench.experiment import Experiment, Record, get
from workbench.knobs import Config
from workbench.provenance import cores
from workbench.records import read_about


@dataclass(frozen=True)
class Fit:
    """The experiment that computes a fit of a method, and the rules by which the fits are distributed over workers.

    `comparison.fit` creates a `Fit`. `score` names the column of the record by which the best setting is chosen. If `higher` is
    true, a higher score is better. Fits with the same key ``together(config)`` share work, so one worker computes them one after
    another. Fits for which ``in_threads(config)`` is true run in threads, and all other fits run in processes.
    """

    experiment: Experiment
    score: str
    higher: bool
    together: Callable[[Any], Hashable] | None
    in_threads: Callable[[Any], bool]


class Job(NamedTuple):
    """A fit to compute: the id of its run, its config, and the columns that the comparison puts before its record (`head`)."""

    id: str
    config: Config
    head: Record


CHUNK = 8  # number of fits with shared work that a worker receives at a time; a stop of the comparison does not interrupt them
LOOK = 0.2  # seconds between two checks for fits that a worker has saved
DIED = "its process died; possible causes are a lack of memory and a crash in compiled code"
# one process pool for all comparisons, because starting a pool takes seconds
_shared: dict[str, futures.Executor] = {}


class FitQueue:
    """The queue of the fits of one comparison. It is a context manager.

    Leaving the context early does not wait for running fits; their results are still saved.
    """

    def __init__(self, fit: Fit, run: runs.Run):
        self.fit, self.run, self.root = fit, run, run.fits
        self._records: dict[str, Record | None] = {}  # records by the id of the run; None until the fit has ended
        self._waiting: dict[Hashable, list[Job]] = {}  # groups of jobs that share work, by key
        # for each task on an executor: its jobs, the jobs that follow them on the same worker, and the executor
        self._working: dict[futures.Future, tuple[list[Job], list[Job], futures.Executor]] = {}
        self._own: dict[str, futures.Executor] = {}
        self._broken: set[int] = set()  # ids of executors that the caller passed and whose workers died

    def __enter__(self) -> FitQueue:
        return self

    def __exit__(self, *error: Any) -> None:
        for future in self._working:
            future.cancel()
        for executor in self._own.values():
            executor.shutdown(wait=False, cancel_futures=True)

    def record(self, job: Job) -> Record | None:
        """Return the record of a fit, or None if the fit has not ended yet."""
        return self._records[job.id]

    def start(self, jobs: Iterable[Job]) -> None:
        """Read the fits of `jobs` that are saved, and queue the others."""
        for job in jobs:
            if job.id in self._records:
                continue
            if self.run.fresh:  # make the saved fit incomplete, so that it is computed again
                for file in ("run.json", "checkpoint.pt"):
                    (self.root / job.id / file).unlink(missing_ok=True)
            if not self._kept(job):
                self._waiting.setdefault(self._key(job), []).append(job)
        self._begin()

    def _key(self, job: Job) -> Hashable:
        """Return the key of the group of jobs that share work with `job`. A group is computed by one worker, job after job."""
        return self.fit.together(job.config) if self.fit.together else job.id

    def wait(self) -> None:
        """Wait up to `LOOK` seconds for a task to end, and store its records. Raises Stopped if the caller requests a stop."""
        if self.run.stopped():
            raise runs.Stopped(f"stopped; {sum(r is not None for r in self._records.values())} fits are saved")
        phases.say(f"{sum(r is not None for r in self._records.values())} of {len(self._records)} fits finished")
        done, _ = futures.wait(self._working, LOOK, futures.FIRST_COMPLETED)
        for future in done:
            jobs, rest, executor = self._working.pop(future)
            lost = self._take(jobs, future, executor)
            # if the caller's executor is broken, use one of our own
            if lost and executor is self.run.executor:
                self._waiting.setdefault(self._key(jobs[0]), []).extend(lost + rest)
            elif lost:  # one of these jobs may have killed its worker: repeat them in a separate process
                self._submit(lost, rest, alone=True)
            elif rest:  # submit the rest now, so that the worker with the results of the shared work continues
                died = any((self.record(job) or {}).get("failed") == DIED for job in jobs)
                self._submit(rest[:CHUNK], rest[CHUNK:], alone=died)
        self._begin()
        for jobs, _, _ in self._working.values():  # read each saved fit before the whole chunk has finished
            for job in jobs:
                if self.record(job) is None and not self._kept(job):
                    break

    def cost(self) -> dict[str, Any]:
        """Return the number of fits (saved ones included), their total times in seconds, and their peak memory in MiB."""
        about = []
        for name in self._records:
            try:
                about.append(read_about(self.root / name))
            except (OSError, ValueError):  # a failed fit has no valid run.json
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
        """Submit the waiting jobs.

        An executor that the caller passed receives all jobs. Our own executors receive only enough jobs to keep them
        busy, so that few jobs are lost if a worker dies.
        """
        given = self.run.executor is not None and id(self.run.executor) not in self._broken
        # one task per core if jobs share work, so that the shared work is not computed twice
        most = cores() if self.fit.together else 2 * cores()
        while self._waiting and (given or len(self._working) < most):
            jobs = self._waiting.pop(next(iter(self._waiting)))
            self._submit(jobs[:CHUNK], jobs[CHUNK:])

    def _submit(self, part: list[Job], rest: list[Job], alone: bool = False) -> None:
        """Submit the jobs of `part`, which are computed in order, and store `rest`, the jobs to submit afterwards.

        If `alone` is true, the jobs run in a separate process. If a job kills this process, the other workers are not
        affected.
        """
        task = self.fit.experiment.name, [job.config for job in part], self.root
        executor = self._threads("careful", cores()) if alone else self._executor(part[0])
        try:
            future = executor.submit(in_a_process_of_its_own if alone else work, *task)
        except futures.BrokenExecutor:  # a worker died while the executor was idle: use another executor
            self._let_go(executor)
            executor = self._executor(part[0])
            future = executor.submit(work, *task)
        self._working[future] = part, rest, executor

    def _executor(self, job: Job) -> futures.Executor:
        if self.run.executor is not None and id(self.run.executor) not in self._broken:
            return self.run.executor
        if self.fit.in_threads(job.config) or parent_process() is not None:  # a worker of a sweep starts no processes
            return self._threads("own", 1 if parent_process() else cores())
        if "pool" not in _shared:
            _shared["pool"] = processes(cores())
        return _shared["pool"]

    def _threads(self, name: str, count: int) -> futures.Executor:
        if name not in self._own:
            self._own[name] = futures.ThreadPoolExecutor(count)
        return self._own[name]

    def _let_go(self, executor: futures.Executor) -> None:
        """Stop using an executor that is broken because one of its workers died."""
        if _shared.get("pool") is executor:
            del _shared["pool"]
        elif executor is self.run.executor and id(executor) not in self._broken:
            print("the executor is broken because one of its workers died; continuing with local processes", file=sys.stderr)
            self._broken.add(id(executor))

    def _take(self, jobs: list[Job], future: futures.Future, executor: futures.Executor) -> list[Job]:
        """Store the records of a finished task; return the jobs that have no record because the worker died."""
        try:
            found = future.result()
        except futures.BrokenExecutor:
            self._let_go(executor)
            return [job for job in jobs if not self._kept(job)]
        self._records.update({job.id: record for job, record in zip(jobs, found, strict=True)})
        return []


class _Workers(futures.ProcessPoolExecutor):
    """A pool of processes in which Ctrl-C does not interrupt the start of a worker.

    Any submission may start a worker. If the start were interrupted, the worker would never receive its code, and
    would report an error when the main process exits.
    """

    def submit(self, *args: Any, **kwargs: Any) -> futures.Future:
        with _interrupts_held():
            return super().submit(*args, **kwargs)


def processes(count: int) -> futures.ProcessPoolExecutor:
    """Return a pool of spawned processes that ignore Ctrl-C and exit when the main process exits."""
    pool = _Workers(count, get_context("spawn"), initializer=_begin_worker)
    pool.submit(os.getpid)  # starts the first worker
    return pool


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay the effect of Ctrl-C until the end of the ``with`` statement.

    If the system supports signal masks, SIGINT is also masked in this thread. A worker that is started meanwhile inherits
    the mask, so that an interrupt cannot kill the worker before it ignores SIGINT.
    """
    caught: list[tuple[Any, ...]] = []
    handler = signal.getsignal(signal.SIGINT)
    # another thread may receive the signal, since it is masked only here; Python still calls the handler in the main thread
    held = threading.current_thread() is threading.main_thread() and callable(handler)
    masked = hasattr(signal, "pthread_sigmask")
    if held:
        signal.signal(signal.SIGINT, lambda *given: caught.append(given))
    if masked:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if held:
            signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C sends SIGINT to the whole process group
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_workers() -> None:
    """Kill all worker processes before this process exits. Running fits are lost; finished fits are saved."""
    threading.excepthook = lambda *_: None  # suppress the traceback of the pool's management thread
    for child in active_children():
        child.kill()


def work(name: str, configs: Sequence[Config], root: Path) -> list[Record]:
    """Compute fits one after another in this process and return their records.

    If a fit raises an error, its record contains only the key ``failed`` with the reason. Errors that are caused by the
    machine, such as a full disk, are raised.
    """
    found: list[Record] = []
    for config in configs:
        try:
            found += runs.stream(get(name), config, root)
        except (runs.RunError, DataError, OSError, MemoryError):  # caused by the machine, not by this fit
            raise
        except Exception as error:
            known = isinstance(error, (ValueError, ArithmeticError))
            found.append({"failed": str(error) if known else f"{type(error).__name__}: {error}"})
    return found


def in_a_process_of_its_own(name: str, configs: Sequence[Config], root: Path) -> list[Record]:
    """Compute fits like `work`, but in a separate process. A fit that kills that process is recorded as failed."""
    found: list[Record] = []
    while len(found) < len(configs):
        with processes(1) as pool:
            try:
                pool.submit(os.getpid).result()
            except futures.BrokenExecutor:
                raise runs.RunError(
                    "no worker process can be started; in a script, put the code under if __name__ == '__main__':"
                ) from None
            for config in configs[len(found) :]:
                try:
                    found += pool.submit(work, name, [config], root).result()
                except futures.BrokenExecutor:
                    found.append({"failed": DIED})
                    break
    return found
