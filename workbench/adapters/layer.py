"""A linear layer with adapters on it, in the place of the layer itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.adapter import Adapter, weight_of


class Adapted(nn.Module):
    """``base`` with adapters by name, of which the active ones act in their order, each on the layer as those before leave it.

    The base layer's weight is never changed: to merge is to put a new one in its place, to unmerge to put the old one back.
    """

    def __init__(self, base: Any):
        super().__init__()
        self.base = base
        self.adapters: Any = nn.ModuleDict()  # of `Adapter`, by name
        self.active: tuple[str, ...] = ()
        self._aside: tuple[Any, Any] | None = None  # weight and bias, while others stand in their place

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.base.out_features

    @property
    def weight(self) -> Tensor:
        """The effective weight ``(out, in)``: that of the base layer with the active adapters applied.

        Some code reads the weight of a layer without calling the layer: the fast path of TransformerEncoderLayer,
        MultiheadAttention, and the scan of a state-space model. Adapters take effect there too, in the dtype of the
        base layer and with gradients, but without dropout. If the weight of the base layer is not a plain matrix (for
        example, if it is quantized), its attribute `weight` is returned unchanged.
        """
        own = weight_of(self.base)
        return self.base.weight if own is None else self._linear().weight.to(own.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The effective bias ``(out,)``, with the shifts of the active adapters; None if the layer has no bias."""
        own, bias = getattr(self.base, "bias", None), getattr(self._linear(), "bias", None)
        return bias if own is None else bias.to(own.dtype)

    @property
    def own(self) -> tuple[Any, Any]:
        """The original weight and bias of the base layer, also while adapters are merged; None for a missing one."""
        return self._aside or (getattr(self.base, "weight", None), getattr(self.base, "bias", None))

    @property
    def merged(self) -> bool:
        """Whether the active adapters stand in the weight."""
        return self._aside is not None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output ``(..., out)``."""
        return self._linear()(x)

    def _linear(self) -> Any:
        """Return the base layer with the active adapters applied, as a callable."""
        linear = self.base
        for name in () if self.merged else self.active:
            linear = _Under(self.adapters[name], linear)
        return linear

    @torch.no_grad()
    def updated(self) -> Tensor:
        """The weight with the active adapters in it, in the adapters' dtype (at least float32)."""
        weight = self.own[0]
        for name in self.active:
            weight = self.adapters[name].updated(weight)
        return weight

    def merge(self) -> None:
        """Put the active adapters into the weight; raises ValueError, and changes nothing, where that cannot be done."""
        weight = weight_of(self.base)
        if weight is None:
            raise ValueError(
                f"{type(self.base).__name__} has no plain weight matrix, so no adapter can be merged into it; keep "
                "the adapter unmerged"
            )
        updated, bias = self.updated().to(weight.dtype), self.bias
        if not updated.isfinite().all() or not (bias is None or bias.isfinite().all()):
            raise ValueError("the merged weight would not be finite; check the adapter for NaN or inf, or load an earlier one")
        self._aside = self.own
        self.base.weight = nn.Parameter(updated, requires_grad=False)
        if bias is not None:
            self.base.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def unmerge(self) -> None:
        """Put weight and bias back, bit for bit."""
        if self._aside is not None:
            self.base.weight, bias = self._aside
            if bias is not None:
                self.base.bias = bias
            self._aside = None


class _Under:
    """A linear layer with one adapter, as the next adapter sees it."""

    def __init__(self, adapter: Adapter, base: Any):
        self.adapter, self.base = adapter, base
        self.bias = _shifted(getattr(base, "bias", None), adapter)

    def __call__(self, x: Tensor) -> Tensor:
        return self.adapter(x, self.base)

    @property
    def weight(self) -> Tensor:
        return self.adapter.updated(self.base.weight)


def _shifted(bias: Tensor | None, adapter: Adapter) -> Tensor | None:
    """A bias with what an adapter adds to it."""
    return bias if adapter.shift is None else bias + adapter.shift
