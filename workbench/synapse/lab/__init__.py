"""What one can do with device networks: experiments, comparisons, figures, claims, exercises. Importing it declares them."""

from workbench.synapse.lab import claims, exercises, experiments, histories, network_experiments, studies

__all__ = ["claims", "exercises", "experiments", "histories", "network_experiments", "studies"]
