"""The names that the modules of a model have in saved files, without the parts that wrappers such as torch.compile add."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

# attribute names under which torch.compile, FSDP and activation checkpointing store the wrapped module
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
WHOLE = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # wrappers that store the whole model as the attribute "module"


def plain(name: str) -> str:
    """Return a name without the parts that wrappers add: ``layers.0._orig_mod.q_proj`` becomes ``layers.0.q_proj``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def root(model: nn.Module) -> nn.Module:
    """Return the model inside all wrappers."""
    while True:
        children = dict(model.named_children())
        inner = next((children[name] for name in WRAPPERS if name in children), None)
        if isinstance(model, WHOLE):
            inner = model.module
        if inner is None:
            return model
        model = inner


def modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return all modules by their plain names. A wrapper is replaced by the module that it wraps."""
    return {plain(name): module for name, module in root(model).named_modules()}


def ends_with(name: str, end: str) -> bool:
    """Check whether the last parts of `name` are `end`: ``layers.0.q_proj`` ends with ``q_proj`` and with ``0.q_proj``."""
    return name == end or name.endswith(f".{end}")


def without_numbers(names: Mapping[str, object]) -> list[str]:
    """Return the distinct names, with ``*`` in place of the numbers of blocks and experts."""
    return list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names))
