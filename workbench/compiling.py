"""Where code that numba compiles is kept between processes."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numba

from workbench.datasets import cache_folder

GIVEN = numba.config.CACHE_DIR  # by the user


def keep(name: str, what: str, sources: Iterable[str | Path]) -> Path | None:
    """Set the folder for functions that are decorated from now on with ``njit(cache=...)``; None where nothing can be kept.

    It is another one for each state of `sources`, across which the functions depend on each other: numba looks only at a
    function's own file. Where nothing can be kept, that is said, and each process compiles anew.
    """
    version = hashlib.sha256(b"".join(Path(path).read_bytes() for path in sources)).hexdigest()[:16]
    folder = Path(GIVEN or cache_folder() / "compiled" / f"{name}-{version}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(
            f"{what}, once compiled, cannot be kept in {folder} ({error.strerror}): it is compiled in each process; set "
            "WORKBENCH_CACHE to a folder that you can write",
            file=sys.stderr,
        )
        numba.config.CACHE_DIR = ""
        return None
    numba.config.CACHE_DIR = str(folder)
    return folder
