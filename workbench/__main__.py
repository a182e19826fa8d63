"""Run experiments, draw figures, and manage runs and data from the command line, without Jupyter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.endings import one_line

if TYPE_CHECKING:  # each command imports what it needs, so that help and errors appear without delay
    from workbench.experiment import Experiment, Record
    from workbench.knobs import Config

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Scale = Annotated[str | None, typer.Option(help="preset: smoke (takes seconds), laptop (minutes) or paper (needs a GPU)")]
Set = Annotated[list[str] | None, typer.Option("--set", help="knob=value; may be repeated; write tuples as 1,2,3")]
Link = Annotated[str, typer.Option(help="the line that the Link button of a panel shows")]
DESCRIBE = "To list knobs, presets and times, run: workbench describe EXPERIMENT"


@app.command("list")
def list_() -> None:
    """List the experiments, data sets and models."""
    from workbench import checkpoints, datasets
    from workbench.experiment import discover

    for experiment in discover().values():
        typer.echo(f"{experiment.name:32} {experiment.summary}")
    for dataset in datasets.DATASETS.values():
        typer.echo(f"data   {dataset.name:25} {dataset.about} ({dataset.licence})")
    for name in (checkpoints.SMOLLM2, *checkpoints.BUNDLED):
        typer.echo(f"model  {name:25} bundled; you can also use a folder, or the id of a model on the Hugging Face hub")
    typer.echo(f"model  {checkpoints.MINILM:25} a sentence encoder; to install it, run: workbench fetch {checkpoints.MINILM}")


@app.command("describe")
def describe_(experiment: str) -> None:
    """Describe the knobs of an experiment (* marks essential knobs), its presets, and the time of each preset."""
    from workbench import describe
    from workbench.experiment import get

    with one_line():
        for line in describe.lines(get(experiment)):
            typer.echo(line)


@app.command(epilog=DESCRIBE)
def run(
    experiment: Annotated[str | None, typer.Argument(help="may be omitted with --link")] = None,
    scale: Scale = None,
    set: Set = None,
    link: Link = "",
    fresh: Annotated[bool, typer.Option(help="compute the run from the start even if it is complete")] = False,
) -> None:
    """Run one experiment, or read its records if the run is complete. Print the last record, a summary and the run's id."""
    from workbench import runs

    with one_line():
        found, config = _asked(experiment, scale, set, link)
        records = _pull(found, config, fresh)
        typer.echo("  ".join(f"{k}={v}" for k, v in records[-1].items() if not isinstance(v, list)))
        typer.echo(found.tell(records, config))
        typer.echo(runs.run_id(found, config))


def _asked(experiment: str | None, scale: str | None, set: list[str] | None, link: str) -> tuple[Experiment, Config]:
    """Return the experiment and config that a user specifies by a name, scale and knobs, or by a panel's link and knobs."""
    from workbench import links
    from workbench.experiment import get

    if link:
        state = links.parse(link)
        if experiment not in (None, state.experiment.name) or scale:
            raise ValueError(f"--link gives the experiment ({state.experiment.name}) and its knobs; omit EXPERIMENT and --scale")
        if state.note:
            typer.echo(f"workbench: {state.note}", err=True)
        given = state.experiment.config.parse(set or [])
        found, config = state.experiment, state.config.replace(**given)
    elif experiment is None:
        raise ValueError("no experiment given; expected EXPERIMENT or --link. To list the experiments: workbench list")
    else:
        found = get(experiment)
        given = found.config.parse(set or [])
        config = found.config.at(scale, **given)
    _warn(config, given)
    return found, config


def _warn(config: Config, given: dict[str, Any]) -> None:
    """Print a warning for each given knob that has no effect with the values of the other knobs."""
    for name, reason in config.idle().items():
        if name in given:
            typer.echo(f"workbench: {name}={given[name]!r} has no effect here: {reason}", err=True)


def _pull(experiment: Experiment, config: Config, fresh: bool = False) -> list[Record]:
    from tqdm.auto import tqdm

    from workbench import runs

    total = experiment.steps(config) if experiment.steps else None
    return list(tqdm(runs.stream(experiment, config, fresh=fresh), total=total, desc=experiment.name))


@app.command("sweep", epilog=DESCRIBE)
def sweep_(
    experiment: str,
    axis: Annotated[list[str], typer.Option(help="knob=value,value,...; several axes form a grid; write tuples as knob=1,2;3,4")],
    scale: Scale = None,
    set: Set = None,
    out: Annotated[Path | None, typer.Option(help="write all records to this CSV file")] = None,
) -> None:
    """Run all combinations of knob values in parallel. Complete runs are read from disk; failed runs are reported."""
    import pandas as pd

    from workbench import sweep
    from workbench.atomic import write_atomic
    from workbench.experiment import get

    with one_line():
        found = get(experiment)
        axes = dict(_axis(found.config, text) for text in axis)
        configs = sweep.grid(found.config, axes, scale, **found.config.parse(set or []))
        if out is not None:
            write_atomic(out.with_name(f".{out.name}.probe"), b"")  # fail before the runs if the file cannot be written
            out.with_name(f".{out.name}.probe").unlink()
        result = sweep.sweep(found, configs)
        table = result.frame()
        if out is not None:
            write_atomic(out, table.to_csv(index=False).encode())
        for config, reason in result.failed:
            typer.echo(f"failed: {', '.join(f'{k}={getattr(config, k)}' for k in axes)}: {reason}", err=True)
        last = [
            {**{k: getattr(c, k) for k in axes}, **{k: v for k, v in r[-1].items() if not isinstance(v, list)}}
            for c, r in result.done
        ]
        typer.echo(pd.DataFrame(last).to_string(index=False) if last else "all runs failed")
        if result.failed:
            raise typer.Exit(1)


def _axis(config: type[Config], text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"--axis {text!r}: expected knob=value,value,...")
    tuples = isinstance(config.read(name, "1"), tuple)
    return name, [config.read(name, value) for value in values.split(";" if tuples else ",")]


@app.command()
def figures(
    method: Annotated[str | None, typer.Argument(help="such as quantization; default: all methods")] = None,
    scale: Annotated[str, typer.Option(help="preset: smoke, laptop or paper")] = "laptop",
    out: Annotated[Path | None, typer.Option(help="folder for the figures; default: runs/figures/SCALE")] = None,
    reference: Annotated[
        bool, typer.Option(help="also store the records as reference records, in the method's folder data/reference")
    ] = False,
) -> None:
    """Compute the missing runs of a method, draw all its figures, and print the verdict on each claim of its paper."""
    from workbench import findings, papers, runs
    from workbench.atomic import write_atomic
    from workbench.experiment import discover
    from workbench.pictures import encode

    with one_line():
        if reference and scale != "laptop":
            raise ValueError(f"--reference with --scale {scale}; expected --scale laptop, the scale of all reference records")
        every = discover().values()
        chosen = [e for e in every if method in (None, e.method)]
        if not chosen:
            raise ValueError(f"no method {method!r}; expected one of {', '.join(sorted({e.method for e in every}))}")
        for experiment in chosen:
            config = experiment.config.at(scale)
            records = runs.preview(experiment, config) if experiment.instant else _pull(experiment, config)
            folder = out or runs.runs_folder() / "figures" / scale
            path = folder / f"{experiment.name.replace('/', '-')}.png"
            assert experiment.figure is not None  # only fits (the parts of a comparison) have none; `discover` omits them
            write_atomic(path, encode(experiment.figure(records)))
            failed = sum(bool(record.get("failed")) for record in records)
            words = [str(path), f"{failed} of {len(records)} records failed" if failed else ""]
            if experiment.paper and scale == "laptop":
                words.append(papers.against_reference(experiment, config, records))
            typer.echo("; ".join(filter(None, words)))
            if reference and experiment.paper and experiment.of is None:
                papers.write_reference(experiment, config, records)
        for name in sorted({e.method for e in chosen}):
            if name in findings.every():
                typer.echo(f"sources for {name}: {findings.of(name).worked_from}")
            for line in papers.lines(papers.ledger(name, scale)):
                typer.echo(line)
        if reference:
            typer.echo(f"written: {', '.join(str(path) for path in findings.write(Path(__file__).parents[1]))}")


@app.command()
def fetch(name: str) -> None:
    """Download or install a data set or a model if it is missing, check it, and print its path."""
    from workbench import checkpoints, datasets

    with one_line():
        place = datasets.fetch(name) if name in datasets.DATASETS else checkpoints.fetch(name)
        typer.echo(f"{name}: {place}")


@app.command("runs")
def runs_(
    experiment: Annotated[str | None, typer.Argument(help="list only runs of this experiment; default: all")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="list only runs with knob=value; may be repeated")] = None,
    export: Annotated[Path | None, typer.Option(help="write the listed runs to this .zip file")] = None,
    bring: Annotated[Path | None, typer.Option("--import", help="import the runs from a file written by --export")] = None,
    delete: Annotated[list[str] | None, typer.Option(help="id of a run to delete; may be repeated")] = None,
) -> None:
    """List the saved runs, newest first. Options export them to one file, import such a file, or delete runs."""
    from workbench import archive, bundles
    from workbench.experiment import get

    with one_line():
        wanted = get(experiment).config.parse(only or []) if experiment else {}
        if only and not experiment:  # raised before anything is imported or deleted
            raise ValueError("--only without EXPERIMENT; add the name of the experiment that has these knobs")
        if bring is not None:
            new = bundles.bring(bring)
            typer.echo(f"{len(new)} new runs imported from {bring}; {bundles.FORGED}")
        archive.delete(delete or [])
        found = archive.chosen(experiment, wanted)
        for line in archive.lines(found):
            typer.echo(line)
        if export is not None:
            typer.echo(f"{len(found)} runs exported to {bundles.export([run.id for run in found], export)}")


@app.command(epilog=DESCRIBE)
def page(
    experiment: Annotated[str | None, typer.Argument(help="may be omitted with --link")] = None,
    scale: Scale = None,
    set: Set = None,
    link: Link = "",
    over: Annotated[
        list[str] | None, typer.Option(help="knob=value,value,...: a knob to change in the page; default: two knobs")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the HTML file; default: in runs/exports")] = None,
) -> None:
    """Write one HTML file that needs no server. It plays back a run or, for an instant experiment, has knobs to change."""
    from workbench import runs
    from workbench.atomic import write_atomic
    from workbench.ui.page import page as made

    with one_line():
        found, config = _asked(experiment, scale, set, link)
        lattice = dict(_axis(found.config, text) for text in over or [])
        path = out or runs.runs_folder() / "exports" / f"{runs.run_id(found, config)}.html"
        write_atomic(path, made(found, config, lattice).encode())
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


@app.command()
def dashboard(
    notebook: Annotated[Path, typer.Argument(help="such as notebooks/synapse/01-explore.ipynb")],
    port: Annotated[int, typer.Option(help="0 chooses a free port")] = 0,
    theme: Annotated[str, typer.Option(help="light or dark")] = "light",
    browser: Annotated[bool, typer.Option(help="open the dashboard in a browser")] = True,
) -> None:
    """Serve a notebook with Voila, without showing its code. The printed link works only on this machine."""
    from workbench.ui.dashboard import serve

    with one_line():
        serve(notebook, port, theme, browser)


@app.command()
def notebook(
    path: Path,
    out: Annotated[Path | None, typer.Option(help="path of the executed copy; default: in runs/notebooks")] = None,
    scale: Scale = None,
    set: Set = None,
    timeout: Annotated[int, typer.Option(help="time limit of each cell, in seconds")] = 600,
) -> None:
    """Execute a notebook with other values of its parameters, using papermill. An unknown parameter is an error."""
    from workbench import notebooks, runs
    from workbench.knobs import Config

    with one_line():
        parameters = Config.parse(set or []) | ({"scale": scale} if scale else {})
        target = out or runs.runs_folder() / "notebooks" / path.name
        notebooks.execute(path, target, parameters, timeout)
        typer.echo(f"{target}")


if __name__ == "__main__":
    sys.exit(app())
