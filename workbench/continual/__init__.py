"""Continual learning: the optimizer CLASSP, the methods it is compared with, streams of tasks, and metrics."""

from workbench.continual.fishers import fisher
from workbench.continual.learner import fit
from workbench.continual.methods import METHODS
from workbench.continual.metrics import accuracy_metrics
from workbench.continual.optimizer import CLASSP

__all__ = ["CLASSP", "METHODS", "accuracy_metrics", "fisher", "fit"]
