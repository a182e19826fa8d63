"""Compute checksums of files, and cache them until the file changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path


def remembered(compute: Callable[[Path], str]) -> Callable[[Path], str]:
    """Decorate a checksum function of a file or folder, so that its result is cached in this process.

    The checksum is computed again if a file's modification time or size has changed, or if the folder has other files.
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
