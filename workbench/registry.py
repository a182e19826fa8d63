"""The registries of the experiments, claims, exercises, schematics and findings that methods declare.

This module imports no other module of the package, so any module can import it.
"""

from __future__ import annotations

from typing import Any

EXPERIMENTS: dict[str, Any] = {}  # `experiment.Experiment` by name
CLAIMS: dict[str, list[Any]] = {}  # `papers.Claim` by method
EXERCISES: dict[str, list[Any]] = {}  # `exercises.Exercise` by method
FINDINGS: dict[str, Any] = {}  # `findings.Findings` by method
SCHEMATICS: dict[str, Any] = {}  # `schematics.Schematic` by method


def forget(method: str, experiments: set[str]) -> None:
    """Remove the given experiments and everything else that `method` has declared, after its import has failed."""
    for name in experiments:
        del EXPERIMENTS[name]
    CLAIMS.pop(method, None)
    EXERCISES.pop(method, None)
    SCHEMATICS.pop(method, None)
    FINDINGS.pop(method, None)
