"""Continual learning with CLASSP, its rivals, and what tells them apart."""

from workbench.continual.optimizer import CLASSP

__all__ = ["CLASSP"]
