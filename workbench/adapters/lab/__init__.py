"""Experiments, comparisons, claims and exercises on adapters."""

from workbench.adapters.lab import (
    answers,
    claims,
    exercises,
    experiments,
    findings,
    inside,
    microscope,
    schematic,
    sizes,
    studies,
    toy,
)

__all__ = [
    "answers",
    "claims",
    "exercises",
    "experiments",
    "findings",
    "inside",
    "microscope",
    "schematic",
    "sizes",
    "studies",
    "toy",
]
