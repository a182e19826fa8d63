"""Many runs over a standard `concurrent.futures.Executor`: spawned processes here, Dask or a cluster elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from dataclasses import dataclass, field
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
    """Configs with their records, and the points that failed with the reason."""

    done: list[tuple[Config, list[Record]]] = field(default_factory=list)
    failed: list[tuple[Config, str]] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """All records, each with the knobs of its run."""
        import pandas as pd

        rows = [{**config.model_dump(), **record} for config, records in self.done for record in records]
        return pd.DataFrame.from_records(rows)


def grid(
    config: type[Config], axes: Mapping[str, Iterable[Any]], scale: str | None = None, /, **knobs: Any
) -> list[Config]:
    """Every combination of `axes` on top of a preset and `knobs`; all are validated before any runs."""
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [config.at(scale, **{**knobs, **p}) for p in points]


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
    found = get(experiment)
    root = root or runs.runs_folder()
    if executor is not None:
        outcomes = _outcomes(executor, found, configs, root, progress)
    else:
        with processes(max(1, min(len(configs), cores()))) as pool:
            try:
                outcomes = _outcomes(pool, found, configs, root, progress)
            except BaseException:  # Ctrl-C: do not wait for what has not begun
                pool.shutdown(cancel_futures=True)
                raise
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, BrokenExecutor):  # a worker died and took the pool along: one by one
                with processes(1) as pool:
                    outcomes[index] = _outcomes(pool, found, configs[index : index + 1], root, False)[0]
    result = Sweep()
    for config, outcome in zip(configs, outcomes, strict=True):
        if isinstance(outcome, BrokenExecutor):
            result.failed.append((config, DIED))
        elif isinstance(outcome, BaseException):
            result.failed.append((config, f"{type(outcome).__name__}: {outcome}"))
        else:
            result.done.append((config, outcome))
    return result


def _outcomes(
    pool: Executor, experiment: Experiment, configs: Sequence[Config], root: Path, progress: bool
) -> list[list[Record] | BaseException]:
    """Records, or the error, of each config."""
    futures = []
    for config in configs:
        try:
            futures.append(pool.submit(_point, experiment.name, config, root))
        except BrokenExecutor as error:
            futures.append(Future())
            futures[-1].set_exception(error)
    for _ in tqdm(as_completed(futures), total=len(futures), desc=experiment.name, disable=not progress):
        pass
    return [future.exception() or future.result() for future in futures]


def _point(name: str, config: Config, root: Path) -> list[Record]:
    return list(runs.stream(get(name), config, root))
