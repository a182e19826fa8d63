"""Describe the machine and software that compute a run. Find the cores that this process may use, and its peak memory."""

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
    """Return the commit, package versions, machine, time (UTC) and peak memory (MiB) of this process, for ``run.json``."""
    torch = sys.modules.get("torch")
    return {
        **_environment(),
        **({"torch_threads": torch.get_num_threads()} if torch else {}),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "peak_memory_mb": peak_memory() // 2**20,
    }


def cores() -> int:
    """Return the number of cores that this process may use, given its CPU affinity and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # the file contains quota and period in microseconds; "max", which means no limit, raises ValueError
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


def peak_memory() -> int:
    """Return the peak memory of this process in bytes, or its current memory if the system does not record the peak."""
    import psutil

    now = psutil.Process().memory_info()
    try:  # Linux
        most = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        most = None
    return 1024 * int(most[1]) if most else getattr(now, "peak_wset", now.rss)  # Windows has peak_wset


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
        "dirty": bool(_git("status", "--porcelain", "--", ".")),  # whether the package has uncommitted changes
    }


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
