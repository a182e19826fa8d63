"""Experiments, comparisons, claims and exercises on adapters."""

from workbench.adapters.lab import answers, claims, exercises, experiments, inside, microscope, schematic, sizes, studies, toy

__all__ = ["answers", "claims", "exercises", "experiments", "inside", "microscope", "schematic", "sizes", "studies", "toy"]
