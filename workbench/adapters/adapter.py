"""Classes for the update of one linear layer: the base class of all methods, and the methods of the Bone family."""

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
    """A layer that can have an adapter: a linear layer, with or without other adapters, or a quantized linear layer."""

    in_features: int
    out_features: int
    weight: Tensor  # (out, in)
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor: ...  # noqa: D102


def weight_of(base: Any) -> Tensor | None:
    """Return the weight ``(out, in)`` of a layer, or None if there is no plain matrix, for example in a quantized layer."""
    weight = getattr(base, "weight", None)
    plain = isinstance(weight, Tensor) and weight.is_floating_point() and weight.shape == (base.out_features, base.in_features)
    return weight if plain else None


class Adapter(nn.Module, ABC):
    """Base class of the trainable update of one linear layer. The update is zero before training.

    A subclass implements `delta`, which returns the update Delta of a weight ``(out, in)``, and `act`, which computes the
    output of the layer without building Delta. The parameters are float32, or float64 if the layer is float64. If the bias of
    the layer is trained too, `shift` ``(out,)`` is added to that bias; otherwise `shift` is None.
    """

    needs_weight: ClassVar[bool] = False  # True if the method needs the weight of the layer even in the activation form

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__()
        self.form = config.acts_as
        self.dropout = nn.Dropout(config.dropout)
        self.register_parameter("shift", None)
        weight = weight_of(base)
        if weight is None and (self.needs_weight or self.form != "activation"):
            raise ValueError(
                f"{config.method} ({self.form}) needs the weight of the layer, but {type(base).__name__} has no plain weight "
                "matrix; use miss, mini, bat-row, lora, rslora, lora+ or lora-fa in the activation form"
            )
        here = weight if weight is not None else next(iter([*getattr(base, "parameters", list)(), torch.zeros(1)]))
        dtype = torch.promote_types(here.dtype, torch.float32) if here.is_floating_point() else torch.float32
        self.like: dict[str, Any] = {"dtype": dtype, "device": here.device}

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """Return the update Delta ``(out, in)`` of the weight ``(out, in)``."""

    @abstractmethod
    def act(self, x: Tensor, base: Linear) -> Tensor:
        """Return ``base(x) + Delta x``, ``(..., out)``, for x ``(..., in)``."""

    def forward(self, x: Tensor, base: Linear) -> Tensor:
        """Return the output ``(..., out)`` of the layer with this update, in the dtype of x."""
        if self.form == "activation":
            y = self.act(x, base)
        elif self.form == "checkpointed":
            # Reentrant checkpointing would lose the gradient of the parameters if the input does not require a gradient.
            y = checkpoint(self._as_weight, x, base, use_reentrant=False)
        else:
            y = self._as_weight(x, base)
        return y if self.shift is None else y + self.shift.to(y.dtype)

    def _as_weight(self, x: Tensor, base: Linear) -> Tensor:
        return F.linear(x, self.updated(base.weight).to(x.dtype), base.bias)

    def learn_bias(self, base: Linear, bias: Tensor | None = None) -> None:
        """Make the bias of the layer trainable too. Training starts from `bias` ``(out,)``, or from the current bias by default.

        Raises ValueError if the layer has no bias, or if `bias` has another shape.
        """
        own = getattr(base, "bias", None)
        if own is None:
            raise ValueError("the layer has no bias to train; expected a layer with a bias")
        if bias is not None and bias.shape != own.shape:
            raise ValueError(f"the bias has shape {tuple(bias.shape)}; expected {tuple(own.shape)}")
        own = own.detach().to(**self.like)
        self.shift = nn.Parameter(torch.zeros_like(own) if bias is None else bias.to(**self.like) - own)

    def updated(self, weight: Tensor) -> Tensor:
        """Return ``weight + Delta``, ``(out, in)``, in the dtype of the adapter."""
        weight = weight.to(self.like["dtype"])
        return weight + self.delta(weight)


class Shard(Adapter):
    """Base class of the Bone family, whose methods train a single tensor per layer, the shard. The shard starts at zero."""

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        rows, columns = base.out_features, base.in_features
        if config.r > columns:
            raise ValueError(f"r={config.r} is larger than the input width of the layer; expected 1 to {columns}")
        self.shard = nn.Parameter(torch.zeros(self.shape(config, rows, columns), **self.like))

    @abstractmethod
    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:
        """Return the shape of the shard for a weight ``(rows, columns)``. Raises ValueError if the method does not support it."""


class MiSS(Shard):
    """The method MiSS; see `family.miss_delta`."""

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        return config.r, rows

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.miss_delta(self.shard, weight.shape[1])

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.miss_output(self.dropout(x), base(x), self.shard.to(x.dtype))


class Mini(Shard):
    """The method mini, a smaller form of MiSS; see `family.mini_delta`."""

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        q = config.q or config.r
        if rows % q:
            raise ValueError(f"q={q} does not divide the {rows} outputs of the layer; expected a divisor of this number")
        return config.r, q

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.mini_delta(self.shard, *weight.shape)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.mini_output(self.dropout(x), base(x), self.shard.to(x.dtype))


class BatRow(Shard):
    """The method Bat-row; see `family.bat_row_delta`."""

    def shape(self, config: AdapterConfig, rows: int, columns: int) -> tuple[int, ...]:  # noqa: D102
        _divided(config, rows, columns)
        return columns // config.r, config.r, config.r

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.bat_row_delta(self.shard, weight)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return family.bat_row_output(x, base, self.shard.to(x.dtype))


class BatCol(Shard):
    """The method Bat-col; see `family.bat_col_delta`."""

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
            f"{config.method} divides the weight into blocks of {config.r} x {config.r}, but the weight is {rows} x {columns}; "
            "expected an r that divides both dimensions"
        )
