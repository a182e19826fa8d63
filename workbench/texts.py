"""Read texts, JSON values and labelled sentences from plain or gzip-compressed files. Nothing is unpickled."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from workbench.checksums import remembered


def text(path: Path) -> str:
    """Return the content of a UTF-8 text file."""
    return path.read_text(encoding="utf-8")


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects in a file that has one object per line."""
    return [json.loads(line) for line in text(path).splitlines() if line.strip()]


def tree(path: Path) -> Any:
    """Return the JSON value in a file."""
    return json.loads(text(path))


def zipped_rows(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects in a gzip-compressed file that has one object per line."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


@remembered
def inside(path: Path) -> str:
    """Return the SHA-256 checksum of the content of a gzip-compressed file, which does not depend on how it was compressed."""
    return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()


def phrases(path: Path) -> list[tuple[str, str]]:
    """Return the label and the text of each line of a file. A line has the form ``text@label``."""
    lines = path.read_text(encoding="latin-1").removeprefix("\u00ef\u00bb\u00bf").splitlines()
    return [(label, text.strip()) for text, _, label in (line.rpartition("@") for line in lines if line.strip())]


def labelled(path: Path) -> list[tuple[str, str]]:
    """Return the label and the text of each line of a gzip-compressed file. A line has the form ``label<tab>text``."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [(label, text) for label, _, text in (line.partition("\t") for line in lines)]
