"""Find, download and load data sets by name. Each name refers to the same bytes on every machine.

``load(name)`` searches your folder (``WORKBENCH_DATA``), then the bundled files in ``data/``, then installed packages,
then earlier downloads. A file is used only if it has the checksum in the catalogue. Therefore a result does not
depend on the place where its data was found. A bundled subset has another checksum, so it also has another name than the full
data set.
"""

from __future__ import annotations

import difflib
import os
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

from workbench.catalogue import DATASETS as DATASETS
from workbench.catalogue import Dataset as Dataset


class DataError(RuntimeError):
    """Raised if a data set or model is not available or not valid. The message explains what to do."""


def bundled_folder() -> Path:
    """Return the project's folder ``data/``."""
    return Path(__file__).parents[1] / "data"


def own_path(text: str) -> Path:
    """Return the path of a file or folder that the user has given as `text`.

    ``~`` is the home folder. A relative path is searched in the current folder, and then in the project (the folder that contains
    ``data/``). If neither contains it, the path in the current folder is returned.
    """
    path = os.path.expanduser(text)
    in_project = bundled_folder().parent / path
    return in_project if not os.path.exists(path) and os.path.exists(in_project) else Path(path)


def searched(text: str) -> str:
    """Return the last part of an error message: the folders in which `own_path` searches for the path `text`.

    The result is empty if the path is absolute.
    """
    if os.path.isabs(os.path.expanduser(text)):
        return ""
    return f" in {' or in '.join(dict.fromkeys([str(Path.cwd()), str(bundled_folder().parent)]))}"


def cache_folder() -> Path:
    """Return the folder for downloads and converted models: ``WORKBENCH_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("WORKBENCH_CACHE") or platformdirs.user_cache_dir("workbench"))


def get(name: str) -> Dataset:
    """Return the description of the data set `name`. Raises DataError, with a suggestion, if there is no such data set."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"data sets: {', '.join(DATASETS)}"
        raise DataError(f"no data set {name!r}; {hint}")
    return DATASETS[name]


def load(name: str) -> Any:
    """Load the data set `name`. The result is, for example, a string, a list of dicts (questions) or `images.Images`."""
    return get(name).read(find(name))


def ref(name: str) -> str:
    """Return the name and the checksum of a data set as one string. Run ids depend on it."""
    return f"{name}@{get(name).sha256[:16]}"


def find(name: str) -> Path:
    """Return the path of the data set `name` after verifying its checksum. Raises DataError if no valid file is found."""
    dataset = get(name)
    looked = []
    for place, path in places(dataset):
        if path is None or not path.exists():
            looked.append(f"{place} ({path or 'none'})")
            continue
        try:
            found = dataset.checksum(path)
        except ValueError as error:  # the file cannot be read
            looked.append(f"{place} ({error})")
            continue
        if found == dataset.sha256:
            return path
        looked.append(f"{place} ({path}: checksum {found[:12]}, expected {dataset.sha256[:12]})")
    command = f"workbench fetch {name}" if dataset.url else dataset.get
    raise DataError(
        f"data set {name!r} was not found. Searched: {'; '.join(looked)}. "
        f"To get it: {command or 'git checkout data (the file is part of the project)'}"
    )


def places(dataset: Dataset) -> list[tuple[str, Path | None]]:
    """Return a description and a path (None if unknown) for each place where a data set may be, in the order of the search."""
    user = os.environ.get("WORKBENCH_DATA")
    found: list[tuple[str, Path | None]] = []
    for path in filter(None, (dataset.folder, *dataset.others)):
        if Path(path).is_absolute():
            found.append(("this system", Path(path)))
        else:
            found.append(("your folder, WORKBENCH_DATA", Path(user) / path if user else None))
    if dataset.bundled:
        found.append(("bundled", dataset.home / dataset.bundled))
    if dataset.package:
        found.append(("installed package", package_file(dataset.package)))
    if dataset.url:
        found.append(("downloaded", cache_folder() / "datasets" / dataset.name))
    return found


def package_file(path: str) -> Path | None:
    """Return the path of ``package/file``, or None if the package is not installed. The package is not imported."""
    package, _, inside = path.partition("/")
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) / inside if folders else None


def fetch(name: str) -> Path:
    """Find the data set `name`, or download it, and return its path. A download with a wrong checksum is discarded."""
    dataset = get(name)
    try:
        return find(name)
    except DataError:
        if not dataset.url:
            raise
    target = cache_folder() / "datasets" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    print(f"downloading {name} ({dataset.licence}) from {dataset.url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(dataset.url, timeout=60) as answer, partial.open("wb") as file:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
        if (found := dataset.checksum(partial)) != dataset.sha256:
            raise DataError(
                f"{name}: the download has checksum {found[:12]}, expected {dataset.sha256[:12]}, so it was discarded. Try again"
            )
        os.replace(partial, target)
    except OSError as error:
        raise DataError(
            f"{name} could not be downloaded from {dataset.url} ({error}). Try again, or get the file in another way and "
            f"save it as WORKBENCH_DATA/{dataset.folder}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target
