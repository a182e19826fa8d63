"""What methods have declared, by name; a module that imports none of the package, so that any module may import it."""

from __future__ import annotations

from typing import Any

EXPERIMENTS: dict[str, Any] = {}  # `experiment.Experiment` by name
CLAIMS: dict[str, list[Any]] = {}  # `papers.Claim` by method
EXERCISES: dict[str, list[Any]] = {}  # `exercises.Exercise` by method


def forget(method: str, experiments: set[str]) -> None:
    """Remove what a method declared that could not be imported whole: these experiments, and its claims and exercises."""
    for name in experiments:
        del EXPERIMENTS[name]
    CLAIMS.pop(method, None)
    EXERCISES.pop(method, None)
