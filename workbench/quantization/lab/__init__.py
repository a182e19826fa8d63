"""Experiments, comparisons, figures, claims and exercises for the quantization of single layers.

Importing this package registers them.
"""

from workbench.quantization.lab import claims, exercises, experiments, schematic, studies

__all__ = ["claims", "exercises", "experiments", "schematic", "studies"]
