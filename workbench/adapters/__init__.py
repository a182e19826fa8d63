"""Adapters for linear layers: the Bone family (MiSS, mini, Bat), LoRA and its variants, HiRA, and full fine-tuning."""

from workbench.adapters.attach import add_adapter, merge, parameter_groups, set_adapter, unload, unmerge
from workbench.adapters.config import METHODS, AdapterConfig
from workbench.adapters.convert import to_lora
from workbench.adapters.files import load_adapter, save_adapter
from workbench.adapters.reach import unreached
from workbench.rwkv6 import RWKV6

__all__ = [
    "METHODS", "RWKV6", "AdapterConfig", "add_adapter", "load_adapter", "merge", "parameter_groups", "save_adapter",
    "set_adapter", "to_lora", "unload", "unmerge", "unreached",
]  # fmt: skip
