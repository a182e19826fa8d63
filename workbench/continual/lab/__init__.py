"""What one can do with continual learning: experiments, comparisons, figures, claims, exercises. Importing it declares them."""

from workbench.continual.lab import anchor, claims, exercises, experiments, inside, paper_pair, studies

__all__ = ["anchor", "claims", "exercises", "experiments", "inside", "paper_pair", "studies"]
