"""Files that are whole or not there, and none that is read without a bound."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees the whole new file or none of it, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not by tempfile, whose files only their owner may read: a shared folder keeps its umask
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
    """The bytes of a small file; raises ValueError where it has more than `most`, before they are read."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} has over {most:,} bytes; expected a small file")
    return data
