"""Where and with what a run was made, and what this process may use."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "numpy", "pandas", "matplotlib", "pydantic", "safetensors", "numba")


def provenance() -> dict[str, Any]:
    """Where a run was made: commit, versions, machine, peak memory of this process so far."""
    torch = sys.modules.get("torch")
    return {
        **_environment(),
        **({"torch_threads": torch.get_num_threads()} if torch else {}),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "peak_memory_mb": peak_memory() // 2**20,
    }


def cores() -> int:
    """How many cores this process may use: its affinity, and its container's share, of what the machine has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # "max 100000", or microseconds of each period
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; what it holds now where the system keeps no record."""
    import psutil

    now = psutil.Process().memory_info()
    try:  # Linux
        most = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        most = None
    return 1024 * int(most[1]) if most else getattr(now, "peak_wset", now.rss)  # Windows has a peak too


@cache
def _environment() -> dict[str, Any]:
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "packages": packages,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {cores()} cores",
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", ".")),  # of the package
    }


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
