"""Continual learning: CLASSP, what it is measured by, and five Fishers; rivals and streams follow."""

from workbench.continual.fishers import fisher
from workbench.continual.metrics import accuracy_metrics
from workbench.continual.optimizer import CLASSP

__all__ = ["CLASSP", "accuracy_metrics", "fisher"]
