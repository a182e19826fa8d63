"""What the benchmarks share: contenders that take turns, and peers in environments of their own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PEERS = Path(__file__).parents[2] / ".venv-peers"


def medians(contenders: dict, rounds: int = 7) -> dict[str, float]:
    """Median seconds of each contender; all take turns in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for index in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def environment(folder: Path, *installs: list[str]) -> bool:
    """Build a peer's environment in `folder` once, a pip call each; False, with the reason printed, where that fails."""
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
