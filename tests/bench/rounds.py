"""Functions that several benchmarks use: they time contenders in turns, and install peer libraries in separate environments."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PEERS = Path(__file__).parents[2] / ".venv-peers"


def medians(contenders: dict, rounds: int = 7) -> dict[str, float]:
    """Return the median time of each contender in seconds. All contenders run once per round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for index in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def environment(folder: Path, *installs: list[str]) -> bool:
    """Build the virtual environment of a peer library in `folder`, unless it exists. Each of `installs` is one call of pip.

    Return whether the environment is ready. If a step fails, the step is printed.
    """
    if (folder / "ready").exists():
        return True
    python = str(folder / "bin" / "python")
    steps = [[sys.executable, "-m", "venv", str(folder)]]
    steps += [[python, "-m", "pip", "install", "-q", *packages] for packages in installs]
    for step in steps:
        if subprocess.run(step).returncode:
            print(f"the peer is left out: {' '.join(step)} failed")
            return False
    (folder / "ready").touch()
    return True
