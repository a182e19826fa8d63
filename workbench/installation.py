"""Is everything here? What is missing, and the command that brings it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from workbench import checkpoints, datasets, runs
from workbench.atomic import write_atomic


def problems() -> list[str]:
    """One line for each thing that is missing, with what to do; empty where all is well."""
    found = []
    for text in requires("workbench") or []:
        need = Requirement(text)
        if need.marker is not None:
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            found.append(f"package {need.name} is missing; run: pip install '{need}'")
            continue
        if re.match(r"\d", have) and not need.specifier.contains(have, prereleases=True):
            found.append(f"package {need.name} {have}: expected {need.specifier}; run: pip install '{need}'")
    for name, dataset in datasets.DATASETS.items():
        if dataset.bundled:  # others are to be had when they are wanted
            found += _missing(lambda name=name: datasets.find(name))
    for name in (*checkpoints.BUNDLED, checkpoints.SMOLLM2, checkpoints.MINILM):
        found += _missing(lambda name=name: checkpoints.find(name))
    try:
        write_atomic(runs.runs_folder() / ".writable", b"")
    except OSError as error:
        found.append(f"the runs folder {runs.runs_folder()} cannot be written ({error.strerror}); set WORKBENCH_RUNS")
    return found


def _missing(find) -> list[str]:
    try:
        find()
    except datasets.DataError as error:
        return [str(error)]
    return []


def report() -> None:
    """Print what is missing, or that all is well."""
    found = problems()
    print("\n".join(f"missing: {line}" for line in found) or "everything is here: packages, data, models, a runs folder")
