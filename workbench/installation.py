"""Check the installation: packages, data sets, models and the folder for runs. Report how to solve each problem."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from workbench import checkpoints, datasets, runs
from workbench.atomic import write_atomic


def problems() -> list[str]:
    """Return one line for each problem of the installation. The line also says how to solve the problem."""
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
            found.append(f"package {need.name} has version {have}; expected {need.specifier}; run: pip install '{need}'")
    for name, dataset in datasets.DATASETS.items():
        if dataset.bundled:  # the others are downloaded only when a user needs them
            found += _missing(lambda name=name: datasets.find(name))
    for name in (*checkpoints.BUNDLED, checkpoints.SMOLLM2, checkpoints.MINILM):
        found += _missing(lambda name=name: checkpoints.find(name))
    try:
        write_atomic(runs.runs_folder() / ".writable", b"")
    except OSError as error:
        found.append(f"folder {runs.runs_folder()} is not writable ({error.strerror}); set WORKBENCH_RUNS to a writable folder")
    return found


def _missing(find) -> list[str]:
    try:
        find()
    except datasets.DataError as error:
        return [str(error)]
    return []


def report() -> None:
    """Print the problems of the installation, or one line if there are none."""
    found = problems()
    print("\n".join(f"problem: {line}" for line in found) or "no problems with packages, data sets, models or the runs folder")
