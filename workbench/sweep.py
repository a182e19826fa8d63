"""Many runs over a standard `concurrent.futures.Executor`: spawned processes here, Dask or a cluster elsewhere."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from workbench import runs
from workbench.experiment import Config, Experiment, Record, get


@dataclass
class Sweep:
    """Configs with their records, and the points that failed with the reason."""

    done: list[tuple[Config, list[Record]]] = field(default_factory=list)
    failed: list[tuple[Config, str]] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """All records, each with the knobs of its run."""
        rows = [{**config.model_dump(), **record} for config, records in self.done for record in records]
        return pd.DataFrame.from_records(rows)


def grid(
    config: type[Config], axes: Mapping[str, Iterable[Any]], scale: str | None = None, **knobs: Any
) -> list[Config]:
    """Every combination of `axes` on top of a preset and `knobs`; all are validated before any runs."""
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [config.at(scale, **{**knobs, **p}) if scale else config(**{**knobs, **p}) for p in points]


def sweep(
    experiment: str | Experiment,
    configs: Sequence[Config],
    executor: Executor | None = None,
    root: Path | None = None,
    progress: bool = True,
) -> Sweep:
    """Run `experiment` at each config, skipping what is complete; one failing point is reported, not fatal.

    Without `executor`, spawned processes with one torch thread each, one a core. Any `Executor` will do:
    ``dask.distributed.Client(...).get_executor()`` runs the same sweep on a cluster. Results keep the order of
    `configs`.
    """
    found = experiment if isinstance(experiment, Experiment) else get(experiment)
    own = executor is None
    pool = executor or ProcessPoolExecutor(
        _workers(len(configs)), mp_context=get_context("spawn"), initializer=_one_thread
    )
    try:
        futures = [pool.submit(_point, found.name, config, root or runs.runs_folder()) for config in configs]
        for _ in tqdm(as_completed(futures), total=len(futures), desc=found.name, disable=not progress):
            pass
    finally:
        if own:
            pool.shutdown(cancel_futures=True)
    result = Sweep()
    for config, future in zip(configs, futures, strict=True):
        reason = _failure(future)
        if reason is None:
            result.done.append((config, future.result()))
        else:
            result.failed.append((config, reason))
    return result


def _workers(points: int) -> int:
    return max(1, min(points, os.cpu_count() or 1))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _point(name: str, config: Config, root: Path) -> list[Record]:
    return list(runs.stream(get(name), config, root))


def _failure(future: Future[Any]) -> str | None:
    error = future.exception()
    return None if error is None else f"{type(error).__name__}: {error}"
