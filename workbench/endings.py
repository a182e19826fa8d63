"""How a command ends when it does not end well: with one line, not with a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_line() -> Iterator[None]:
    """Errors that a user can mend become one line and exit status 2; Ctrl-C one line and 130."""
    from workbench.datasets import DataError

    mendable: tuple[type[Exception], ...] = (ValueError, OSError, DataError)
    try:
        yield
    except KeyboardInterrupt as error:
        traceback.clear_frames(error.__traceback__)  # a progress bar left in them draws itself once more
        fits = sys.modules.get("workbench.fits")
        if fits:
            fits.end_workers()
        typer.echo(
            "workbench: stopped; what was finished is kept, and the same command goes on from there", err=True
        )
        raise typer.Exit(130) from None
    except Exception as error:
        runs = sys.modules.get("workbench.runs")
        if not isinstance(error, mendable) and not (runs and isinstance(error, runs.RunError)):
            raise
        typer.echo("workbench: " + " | ".join(str(error).splitlines()), err=True)
        raise typer.Exit(2) from None
