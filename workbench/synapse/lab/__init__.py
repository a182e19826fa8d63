"""What one can do with device networks: experiments, comparisons, figures, claims. Importing it declares them."""

from workbench.synapse.lab import claims, experiments, histories, studies

__all__ = ["claims", "experiments", "histories", "studies"]
