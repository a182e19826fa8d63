"""Run an experiment at many configs with any `concurrent.futures.Executor`: local processes, Dask, or a cluster."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, as_completed, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from workbench import runs
from workbench.experiment import Experiment, Record, get
from workbench.fits import DIED, processes
from workbench.knobs import Config
from workbench.provenance import cores

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Sweep:
    """The result of a sweep.

    `done` holds each config whose run completed, with its records. `failed` holds each config whose run failed, with the reason.
    """

    done: list[tuple[Config, list[Record]]] = field(default_factory=list)
    failed: list[tuple[Config, str]] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """Return a table of all records, with the knobs of their runs as further columns."""
        import pandas as pd

        rows = [{**config.model_dump(), **record} for config, records in self.done for record in records]
        return pd.DataFrame.from_records(rows)


def grid(config: type[Config], axes: Mapping[str, Iterable[Any]], scale: str | None = None, /, **knobs: Any) -> list[Config]:
    """Return the configs of all combinations of the values in `axes`, based on the preset `scale` and `knobs`.

    Raises KnobError if any combination is invalid, so that errors appear before the first run.
    """
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [config.at(scale, **{**knobs, **p}) for p in points]


def sweep(
    experiment: str | Experiment,
    configs: Sequence[Config],
    executor: Executor | None = None,
    root: Path | None = None,
    progress: bool = True,
) -> Sweep:
    """Run `experiment` with each config. Return the records of each run, or the reason why it failed.

    A complete run that is saved is loaded and not computed again. A failure does not stop the other runs. Without `executor`, the
    runs are computed in one spawned process per core, with one torch thread each. Any `Executor` can be used: for example,
    ``dask.distributed.Client(...).get_executor()`` runs the sweep on a cluster. The results are in the order of `configs`.
    """
    found = get(experiment)
    root = root or runs.runs_folder()
    with tqdm(total=len(configs), desc=found.name, disable=not progress) as bar:
        how = _on_processes if executor is None else partial(_on, executor)
        outcomes = how([(found.name, config, root) for config in configs], bar)
    result = Sweep()
    for config, outcome in zip(configs, outcomes, strict=True):
        if isinstance(outcome, BrokenExecutor):
            result.failed.append((config, DIED))
        elif isinstance(outcome, BaseException):
            result.failed.append((config, f"{type(outcome).__name__}: {outcome}"))
        else:
            result.done.append((config, outcome))
    return result


Call = tuple[str, Config, Path]
Outcome = list[Record] | BaseException


def _on(pool: Executor, calls: Sequence[Call], bar: tqdm) -> list[Outcome]:
    """Run all calls on an executor; return the records of each call, or the exception that it raised."""
    futures = []
    for call in calls:
        try:
            futures.append(pool.submit(_point, *call))
        except BrokenExecutor as error:
            futures.append(Future())
            futures[-1].set_exception(error)
    for _ in as_completed(futures):
        bar.update()
    return [future.exception() or future.result() for future in futures]


def _on_processes(calls: Sequence[Call], bar: tqdm) -> list[Outcome]:
    """Run all calls on worker processes; return the records of each call, or the exception that it raised.

    If a worker process dies, each call that was running is repeated in a separate process. Then the other calls continue.
    """
    waiting, found = deque(range(len(calls))), {}
    while waiting:
        for number in _until_one_dies(calls, waiting, found, bar):
            with processes(1) as pool:
                (found[number],) = _on(pool, [calls[number]], bar)
    return [found[number] for number in range(len(calls))]


def _until_one_dies(calls: Sequence[Call], waiting: deque[int], found: dict[int, Outcome], bar: tqdm) -> list[int]:
    """Run the waiting calls, at most one per core at the same time, and store their outcomes in `found`.

    Returns the indices of the calls that were running when a process died, or an empty list if none died.
    """
    count, under_way = max(1, min(len(waiting), cores())), {}
    pool = processes(count)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < count:
                under_way[pool.submit(_point, *calls[waiting[0]])] = waiting[0]
                waiting.popleft()
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    raise error
                found[under_way.pop(future)] = error or future.result()
                bar.update()
    except BrokenExecutor:
        return sorted(under_way.values()) or [waiting.popleft()]
    finally:  # also after Ctrl-C, when the process must not wait for running calls
        pool.shutdown(wait=False, cancel_futures=True)
    return []


def _point(name: str, config: Config, root: Path) -> list[Record]:
    return list(runs.stream(get(name), config, root))
