"""Which methods there are: the packages here that have a ``lab``, and whatever the entry-point group ``workbench.methods`` names.

Importing a method's lab registers what it declares: experiments, comparisons, claims, data sets. A method that cannot be
imported is reported, and costs the others nothing.
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
    """A method's name, the module whose import declares it, and the folder of its ``papers/`` and ``reference/``."""

    name: str
    lab: str
    data: Path


@cache
def methods() -> dict[str, Method]:
    """All methods by name; nothing is imported for it."""
    names = [m.name for m in pkgutil.iter_modules([str(PACKAGE)]) if (PACKAGE / m.name / "lab").is_dir()]
    found = {name: Method(name, f"workbench.{name}.lab", PACKAGE.parent / "data") for name in names}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            _report(entry.name, f"{entry.value} has the name of {found[entry.name].lab}; it is left out")
        else:
            found[entry.name] = Method(entry.name, entry.value, _data_of(entry.value))
    return dict(sorted(found.items()))


def data_folder(method: str) -> Path:
    """The folder of a method's reported values and reference records; of the house's own for a method that is not installed."""
    return methods()[method].data if method in methods() else PACKAGE.parent / "data"


def _data_of(module: str) -> Path:
    """``data`` in the package of `module`, or ``MODULE_data`` beside a module that is no package."""
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
    """Import the lab of the method `name`; returns what is wrong with it, "" where all is well."""
    before = {*registry.EXPERIMENTS}
    method = methods()[name]
    try:
        importlib.import_module(method.lab)
    except Exception as error:  # whatever a method's own code raises, the other methods work
        wrong = f"{method.lab} cannot be imported ({type(error).__name__}: {error})"
    else:
        if any(e.method == name for e in registry.EXPERIMENTS.values()):
            return ""
        wrong = f"{method.lab} declares no experiment named {name}/..."
    registry.forget(name, {*registry.EXPERIMENTS} - before)
    _report(name, wrong)
    return wrong


def _report(name: str, wrong: str) -> None:
    print(f"method {name!r} is left out: {wrong}", file=sys.stderr)
