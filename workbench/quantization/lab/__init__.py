"""What one can do with a layer: experiments, comparisons, figures, claims, exercises. Importing it declares them."""

from workbench.quantization.lab import claims, exercises, experiments, studies

__all__ = ["claims", "exercises", "experiments", "studies"]
