"""What one can do with adapters: experiments, comparisons, claims."""

from workbench.adapters.lab import claims, exercises, experiments, inside, microscope, sizes, studies, toy

__all__ = ["claims", "exercises", "experiments", "inside", "microscope", "sizes", "studies", "toy"]
