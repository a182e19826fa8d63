"""Write files atomically, and read small files with a limit on their size."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to a file so that readers see either the old or the complete new content, even after a power failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # files made by tempfile are readable only by their owner, which would be wrong in a shared folder
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_at_most(path: Path, most: int) -> bytes:
    """Return the content of a file. Raises ValueError, without reading all of it, if the file has more than `most` bytes."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} is too large; expected at most {most:,} bytes")
    return data
