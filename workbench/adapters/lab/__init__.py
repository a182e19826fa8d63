"""What one can do with adapters: experiments, comparisons, claims."""

from workbench.adapters.lab import answers, claims, exercises, experiments, inside, microscope, sizes, studies, toy

__all__ = ["answers", "claims", "exercises", "experiments", "inside", "microscope", "sizes", "studies", "toy"]
