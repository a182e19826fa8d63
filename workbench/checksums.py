"""Checksums of files, remembered until the file changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path


def remembered(compute: Callable[[Path], str]) -> Callable[[Path], str]:
    """The same function, which computes again only where a file, or one in a folder, has another time or size than before."""

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
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
