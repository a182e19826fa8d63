"""The command line: everything that a notebook does, without Jupyter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from tqdm.auto import tqdm

from workbench import datasets, models, papers, runs, sweep
from workbench.experiment import SCALES, Config, Experiment, Record, discover, get, parse_value
from workbench.plotting import encode

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Scale = Annotated[str | None, typer.Option(help="preset: smoke (seconds), laptop (minutes), paper (a GPU)")]
Set = Annotated[list[str] | None, typer.Option("--set", help="knob=value, any number of times")]


@contextmanager
def _one_line() -> Iterator[None]:
    """Errors that a user can mend become one line and exit status 2."""
    try:
        yield
    except (ValueError, OSError, datasets.DataError, runs.RunError) as error:
        typer.echo("workbench: " + " | ".join(str(error).splitlines()), err=True)
        raise typer.Exit(2) from None


@app.command("list")
def list_() -> None:
    """Experiments, data sets and models."""
    for experiment in discover().values():
        typer.echo(f"{experiment.name:32} {experiment.summary}")
    for dataset in datasets.DATASETS.values():
        typer.echo(f"data   {dataset.name:25} {dataset.about} ({dataset.licence})")
    for name in (models.SMOLLM2, models.TINY):
        typer.echo(f"model  {name:25} bundled; any hub id or folder may be given too")


@app.command()
def run(
    experiment: str,
    scale: Scale = None,
    set: Set = None,
    fresh: Annotated[
        bool, typer.Option(help="compute again from the start, also where the run is complete")
    ] = False,
) -> None:
    """Run one experiment, or read it if it is complete; prints its last record and its id."""
    with _one_line():
        found = get(experiment)
        config = found.config.at(scale, **found.config.parse(set or []))
        records = _pull(found, config, fresh)
        typer.echo("  ".join(f"{k}={v}" for k, v in records[-1].items() if not isinstance(v, list)))
        typer.echo(runs.run_id(found, config))


def _pull(experiment: Experiment, config: Config, fresh: bool = False) -> list[Record]:
    total = experiment.steps(config) if experiment.steps else None
    return list(tqdm(runs.stream(experiment, config, fresh=fresh), total=total, desc=experiment.name))


@app.command("sweep")
def sweep_(
    experiment: str,
    axis: Annotated[
        list[str], typer.Option(help="knob=value,value,... any number of times; all combinations are run")
    ],
    scale: Scale = None,
    set: Set = None,
    out: Annotated[Path | None, typer.Option(help="write all records to this CSV file")] = None,
) -> None:
    """Run every combination in parallel; points that are complete are read, a failing point is reported."""
    with _one_line():
        found = get(experiment)
        axes = {
            name: [parse_value(v) for v in str(text).split(",")] for name, text in (_pair(a) for a in axis)
        }
        configs = sweep.grid(found.config, axes, scale, **found.config.parse(set or []))
        if out is not None:
            runs.write_atomic(out, b"")  # before the work: can it be written?
        result = sweep.sweep(found, configs)
        table = result.frame()
        if out is not None:
            runs.write_atomic(out, table.to_csv(index=False).encode())
        for config, reason in result.failed:
            typer.echo(f"failed: {', '.join(f'{k}={getattr(config, k)}' for k in axes)}: {reason}", err=True)
        last = [
            {
                **{k: getattr(c, k) for k in axes},
                **{k: v for k, v in r[-1].items() if not isinstance(v, list)},
            }
            for c, r in result.done
        ]
        typer.echo(pd.DataFrame(last).to_string(index=False) if last else "no point succeeded")
        if result.failed:
            raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"--axis {text!r}: expected knob=value,value,...")
    return name, values


@app.command()
def figures(
    method: Annotated[str | None, typer.Argument(help="quantization, ... ; none = all")] = None,
    scale: Annotated[str, typer.Option(help=f"one of {', '.join(SCALES)}")] = "laptop",
    out: Annotated[
        Path | None, typer.Option(help="folder of the pictures; default: runs/figures/SCALE")
    ] = None,
    reference: Annotated[
        bool, typer.Option(help="also write the records to data/reference, which is committed")
    ] = False,
) -> None:
    """Draw all figures of a method, computing only what is missing, and print its ledger of claims."""
    with _one_line():
        chosen = [e for e in discover().values() if method in (None, e.method)]
        if not chosen:
            raise ValueError(
                f"no method {method!r}; methods: {', '.join(sorted({e.method for e in discover().values()}))}"
            )
        for experiment in chosen:
            if experiment.instant:
                records = runs.preview(experiment, experiment.config.at(scale))
            else:
                records = _pull(experiment, experiment.config.at(scale))
            folder = out or runs.runs_folder() / "figures" / scale
            path = folder / f"{experiment.name.replace('/', '-')}.png"
            runs.write_atomic(path, encode(experiment.figure(records)))
            typer.echo(f"{path}")
            if reference and experiment.paper:
                papers.write_reference(experiment, experiment.config.at(scale), records)
        for name in sorted({e.method for e in chosen}):
            with pd.option_context("display.max_colwidth", 60, "display.width", 220):
                typer.echo(papers.ledger(name, scale)[["claim", "measured", "verdict"]].to_string())


@app.command()
def fetch(name: str) -> None:
    """Download or install a data set or a model, and check it."""
    with _one_line():
        if name in datasets.DATASETS:
            typer.echo(f"{name}: {datasets.fetch(name)}")
        else:
            typer.echo(f"{name}: {models.fetch(name)}")


@app.command()
def notebook(
    path: Path,
    out: Annotated[
        Path | None, typer.Option(help="where the executed copy goes; default: beside the runs")
    ] = None,
    scale: Scale = None,
    set: Set = None,
    timeout: Annotated[int, typer.Option(help="seconds a cell may take")] = 600,
) -> None:
    """Execute a notebook by papermill with other parameters; an unknown parameter is refused."""
    from workbench import notebooks

    with _one_line():
        parameters = Config.parse(set or []) | ({"scale": scale} if scale else {})
        target = out or runs.runs_folder() / "notebooks" / path.name
        notebooks.execute(path, target, parameters, timeout)
        typer.echo(f"{target}")


if __name__ == "__main__":
    sys.exit(app())
