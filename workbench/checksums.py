"""Compute the checksums of files, and cache each checksum until its file changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path


def remembered(compute: Callable[[Path], str]) -> Callable[[Path], str]:
    """Decorate a function that computes the checksum of a file or folder, so that its results are cached in this process.

    The checksum is computed again if the modification time or the size of a file has changed, or if files were added to the
    folder or removed from it.
    """

    @cache
    def known(path: Path, about: tuple[tuple[str, int, int], ...]) -> str:
        return compute(path)

    @wraps(compute)
    def checksum(path: Path) -> str:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(file.name, file.stat()) for file in files]
        return known(path.resolve(), tuple((name, s.st_mtime_ns, s.st_size) for name, s in found))

    return checksum


@remembered
def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
