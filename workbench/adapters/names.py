"""A model's modules under the names that its files have, whatever the model is wrapped in."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

# what torch.compile, FSDP and activation checkpointing call the module that they wrap
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
WHOLE = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # of a model; they call it "module"


def plain(name: str) -> str:
    """A name without the parts that wrappers add: ``layers.0._orig_mod.q_proj`` is ``layers.0.q_proj``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def root(model: nn.Module) -> nn.Module:
    """The model itself, out of the wrappers around it."""
    while True:
        children = dict(model.named_children())
        inner = next((children[name] for name in WRAPPERS if name in children), None)
        if isinstance(model, WHOLE):
            inner = model.module
        if inner is None:
            return model
        model = inner


def modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its plain name; of a wrapper and what it wraps, the latter."""
    return {plain(name): module for name, module in root(model).named_modules()}


def ends_with(name: str, end: str) -> bool:
    """Whether a module is called `end`, or so in its parent: ``layers.0.q_proj`` ends with ``q_proj``, ``0.q_proj``."""
    return name == end or name.endswith(f".{end}")


def without_numbers(names: Mapping[str, object]) -> list[str]:
    """Names once each, with ``*`` for the numbers of blocks and experts."""
    return list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names))
