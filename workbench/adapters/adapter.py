"""The update of one linear layer: what all methods share, and Bone's family as modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from workbench.adapters import family
from workbench.adapters.config import AdapterConfig


class Linear(Protocol):
    """What an adapter sits on: a linear layer, or one with adapters already on it. Some have a forward only."""

    in_features: int
    out_features: int
    weight: Tensor  # (out, in)
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor: ...  # noqa: D102


def weight_of(base: Any) -> Tensor | None:
    """The weight ``(out, in)`` that a layer multiplies with; None where it has a forward only (a quantized one)."""
    weight = getattr(base, "weight", None)
    plain = isinstance(weight, Tensor) and weight.is_floating_point() and weight.shape == (base.out_features, base.in_features)
    return weight if plain else None


class Adapter(nn.Module, ABC):
    """What is trained for one layer, and how it acts there; it begins as no change at all.

    A subclass gives ``delta``, the update of a weight ``(out, in)``, and ``act``, the layer's output without that update being
    built. Parameters are float32, or wider where the layer is. ``shift``: what is added to the layer's bias, where that is
    trained too.
    """

    needs_weight: ClassVar[bool] = False  # the layer's own weight, besides its forward

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__()
        self.form = config.acts_as
        self.dropout = nn.Dropout(config.dropout)
        self.register_parameter("shift", None)
        weight = weight_of(base)
        if weight is None and (self.needs_weight or self.form != "activation"):
            raise ValueError(
                f"{config.method} ({self.form}) needs the weight of the layer, and {type(base).__name__} has a forward only; "
                "take miss, mini, bat-row, lora, rslora, lora+ or lora-fa in their activation form"
            )
        here = weight if weight is not None else next(iter([*getattr(base, "parameters", list)(), torch.zeros(1)]))
        dtype = torch.promote_types(here.dtype, torch.float32) if here.is_floating_point() else torch.float32
        self.like: dict[str, Any] = {"dtype": dtype, "device": here.device}

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """The update of this weight, ``(out, in)``."""

    @abstractmethod
    def act(self, x: Tensor, base: Linear) -> Tensor:
        """``base(x) + Delta x`` for x ``(..., in)``."""

    def forward(self, x: Tensor, base: Linear) -> Tensor:
        """The layer's output with this update, in the layer's dtype."""
        if self.form == "activation":
            y = self.act(x, base)
        elif self.form == "checkpointed":
            # never the reentrant kind: with a frozen input it loses the gradient
            y = checkpoint(self._as_weight, x, base, use_reentrant=False)
        else:
            y = self._as_weight(x, base)
        return y if self.shift is None else y + self.shift.to(y.dtype)

    def _as_weight(self, x: Tensor, base: Linear) -> Tensor:
        return F.linear(x, self.updated(base.weight).to(x.dtype), base.bias)

    def learn_bias(self, base: Linear, bias: Tensor | None = None) -> None:
        """Train the bias of the layer too, from what it is, or from `bias` ``(out,)``; raises ValueError where it has none."""
        own = getattr(base, "bias", None)
        if own is None:
            raise ValueError("it has no bias to train")
        if bias is not None and bias.shape != own.shape:
            raise ValueError(f"the bias is {tuple(bias.shape)}; expected {tuple(own.shape)}")
        own = own.detach().to(**self.like)
        self.shift = nn.Parameter(torch.zeros_like(own) if bias is None else bias.to(**self.like) - own)

    def updated(self, weight: Tensor) -> Tensor:
        """``weight + Delta``, in the adapter's dtype."""
        weight = weight.to(self.like["dtype"])
        return weight + self.delta(weight)


class Shard(Adapter):
    """Bone's family: one tensor, from zero."""

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        rows, columns = base.out_features, base.in_features
        if config.r > columns:
            raise ValueError(f"r={config.r} is above its input width: expected 1 to {columns}")
        self.shard = nn.Parameter(torch.zeros(self.shape(config, rows, columns), **self.like))

    @abstractmethod
    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:
        """The shape of the shard; raises ValueError for a layer that cannot have one."""


class MiSS(Shard):
    """`family.miss_delta`."""

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        return config.r, rows

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.miss_delta(self.shard, weight.shape[1])

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.miss_output(self.dropout(x), base(x), self.shard.to(x.dtype))


class Mini(Shard):
    """`family.mini_delta`."""

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        q = config.q or config.r
        if rows % q:
            raise ValueError(f"q={q} does not divide its {rows} outputs; expected a divisor of them")
        return config.r, q

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.mini_delta(self.shard, *weight.shape)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.mini_output(self.dropout(x), base(x), self.shard.to(x.dtype))


class BatRow(Shard):
    """`family.bat_row_delta`."""

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        _divided(config, rows, columns)
        return columns // config.r, config.r, config.r

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.bat_row_delta(self.shard, weight)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.bat_row_output(x, base, self.shard.to(x.dtype))


class BatCol(Shard):
    """`family.bat_col_delta`."""

    needs_weight = True

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        _divided(config, rows, columns)
        return rows // config.r, config.r, config.r

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.bat_col_delta(self.shard, weight)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.bat_col_output(x, base(x), base.weight.to(x.dtype), self.shard.to(x.dtype))


def _divided(config: AdapterConfig, rows: int, columns: int) -> None:
    if rows % config.r or columns % config.r:
        raise ValueError(
            f"{config.method} cuts its weight into blocks of {config.r} x {config.r}, and {rows} x {columns} cannot be cut so; "
            "expected an r that divides both"
        )
