"""What one can do with a layer: experiments, comparisons, figures, claims. Importing it declares them."""

from workbench.quantization.lab import claims, experiments, studies

__all__ = ["claims", "experiments", "studies"]
