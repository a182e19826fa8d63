"""Report a failed or interrupted command in one line instead of a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_line() -> Iterator[None]:
    """If the user can correct an error, print it in one line and exit with status 2. After Ctrl-C, exit with status 130."""
    from workbench.datasets import DataError

    mendable: tuple[type[Exception], ...] = (ValueError, OSError, DataError)
    try:
        yield
    except KeyboardInterrupt as error:
        # the frames of the traceback hold progress bars, which would be drawn again after the last line if they were not released
        traceback.clear_frames(error.__traceback__)
        fits = sys.modules.get("workbench.fits")
        if fits:
            fits.end_workers()
        typer.echo("workbench: interrupted. Finished work is saved; run the same command again to continue", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        runs = sys.modules.get("workbench.runs")
        if not isinstance(error, mendable) and not (runs and isinstance(error, runs.RunError)):
            raise
        typer.echo("workbench: " + " | ".join(str(error).splitlines()), err=True)
        raise typer.Exit(2) from None
