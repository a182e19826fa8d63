"""Texts, rows and labelled sentences from files, gzipped or not; nothing is unpickled."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from workbench.checksums import remembered


def text(path: Path) -> str:
    """The whole file."""
    return path.read_text(encoding="utf-8")


def rows(path: Path) -> list[dict[str, Any]]:
    """A JSON object a line."""
    return [json.loads(line) for line in text(path).splitlines() if line.strip()]


def tree(path: Path) -> Any:
    """One JSON value."""
    return json.loads(text(path))


def zipped_rows(path: Path) -> list[dict[str, Any]]:
    """A JSON object a line, gzipped."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


@remembered
def inside(path: Path) -> str:
    """Checksum of what a gzipped file holds, whatever wrote it."""
    return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()


def phrases(path: Path) -> list[tuple[str, str]]:
    """Label and text of each line ``text@label``."""
    lines = path.read_text(encoding="latin-1").removeprefix("\u00ef\u00bb\u00bf").splitlines()
    return [(label, text.strip()) for text, _, label in (line.rpartition("@") for line in lines if line.strip())]


def labelled(path: Path) -> list[tuple[str, str]]:
    """Label and text of each line ``label<tab>text``, gzipped."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [(label, text) for label, _, text in (line.partition("\t") for line in lines)]
