"""Find and import methods.

A method is a subpackage of ``workbench`` that contains a subpackage ``lab``, or an entry point in the group `GROUP`. Importing
the lab of a method registers its experiments, comparisons, claims, exercises and data sets. If the import fails, the error is
printed and the other methods still work.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from workbench import registry

GROUP = "workbench.methods"
PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Method:
    """The name of a method, its lab (a module), and the folder `data` that contains its ``papers/`` and ``reference/``."""

    name: str
    lab: str
    data: Path


@cache
def methods() -> dict[str, Method]:
    """Return all methods by name, without importing them."""
    names = [m.name for m in pkgutil.iter_modules([str(PACKAGE)]) if (PACKAGE / m.name / "lab").is_dir()]
    found = {name: Method(name, f"workbench.{name}.lab", PACKAGE.parent / "data") for name in names}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            _report(
                entry.name,
                f"{entry.value} is ignored because {found[entry.name].lab} has the same method name; rename the entry point",
            )
        else:
            found[entry.name] = Method(entry.name, entry.value, _data_of(entry.value))
    return dict(sorted(found.items()))


def data_folder(method: str) -> Path:
    """Return the folder of a method's reported values and reference records; for an unknown method, ``data`` in the project."""
    return methods()[method].data if method in methods() else PACKAGE.parent / "data"


def _data_of(module: str) -> Path:
    """Return the folder ``data`` in the package of `module`. For a module outside a package, return ``MODULE_data`` beside it."""
    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return Path(f"{module}_data")
    place = Path(spec.origin)
    return place.parent / "data" if spec.submodule_search_locations else place.with_name(f"{place.stem}_data")


@cache
def load(name: str) -> str:
    """Import the lab of the method `name`. If there is a problem, print it and return it as text; otherwise return ""."""
    before = {*registry.EXPERIMENTS}
    method = methods()[name]
    try:
        importlib.import_module(method.lab)
    except Exception as error:  # the code of a method may raise any error; the other methods must still work
        wrong = f"{method.lab} cannot be imported ({type(error).__name__}: {error})"
    else:
        if any(e.method == name for e in registry.EXPERIMENTS.values()):
            return ""
        wrong = f"{method.lab} declares no experiment named {name}/..."
    registry.forget(name, {*registry.EXPERIMENTS} - before)
    _report(name, wrong)
    return wrong


def _report(name: str, wrong: str) -> None:
    print(f"workbench: problem with method {name!r}: {wrong}", file=sys.stderr)
