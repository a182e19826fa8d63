"""Choose the folder in which Numba saves compiled code, so that later processes need not compile it again."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numba

from workbench.datasets import cache_folder

GIVEN = numba.config.CACHE_DIR  # set by the user in the environment variable NUMBA_CACHE_DIR


def keep(name: str, what: str, sources: Iterable[str | Path]) -> Path | None:
    """Set the cache folder for functions that are later decorated with ``njit(cache=...)``, and return the folder.

    `sources` are the files of functions that call each other. Numba detects changes only in the file of the cached
    function itself, so the folder is named by `name` and a hash of all these files. If the user has set NUMBA_CACHE_DIR, that
    folder is used instead. If the folder is not writable, a message that names the code (`what`) is printed, None is
    returned, and each process compiles the code again.
    """
    version = hashlib.sha256(b"".join(Path(path).read_bytes() for path in sources)).hexdigest()[:16]
    folder = Path(GIVEN or cache_folder() / "compiled" / f"{name}-{version}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(
            f"the compiled code of {what} cannot be saved in {folder} ({error.strerror}), so each process compiles it again. "
            "Set WORKBENCH_CACHE to a writable folder",
            file=sys.stderr,
        )
        numba.config.CACHE_DIR = ""
        return None
    numba.config.CACHE_DIR = str(folder)
    return folder
