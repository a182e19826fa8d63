"""Experiments, comparisons, figures, claims and exercises for networks of memory devices.

Importing this package registers them.
"""

from workbench.synapse.lab import claims, exercises, experiments, findings, histories, network_experiments, schematic, studies

__all__ = ["claims", "exercises", "experiments", "findings", "histories", "network_experiments", "schematic", "studies"]
