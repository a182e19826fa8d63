"""Adapters: Bone's family (MiSS, Bat, mini), LoRA's, and what they are put on."""

from workbench.adapters.attach import add_adapter, merge, parameter_groups, set_adapter, unmerge
from workbench.adapters.config import METHODS, AdapterConfig

__all__ = ["METHODS", "AdapterConfig", "add_adapter", "merge", "parameter_groups", "set_adapter", "unmerge"]
