"""Experiments, comparisons, figures, claims and exercises on continual learning; importing this package registers them."""

from workbench.continual.lab import anchor, claims, exercises, experiments, findings, inside, paper_pair, schematic, studies

__all__ = ["anchor", "claims", "exercises", "experiments", "findings", "inside", "paper_pair", "schematic", "studies"]
