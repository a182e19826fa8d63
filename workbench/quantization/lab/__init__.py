"""Experiments, comparisons, figures, claims and exercises for the quantization of single layers.

Importing this package registers them.
"""

from workbench.quantization.lab import claims, exercises, experiments, findings, schematic, studies

__all__ = ["claims", "exercises", "experiments", "findings", "schematic", "studies"]
