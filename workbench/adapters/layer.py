"""The module that replaces a linear layer to which adapters are added."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.adapter import Adapter, weight_of


class Adapted(nn.Module):
    """A linear layer `base` with named adapters.

    The active adapters are applied in order: each one updates the layer that the previous ones have already updated. The
    weight tensor of the base layer is never modified. Merging puts a new tensor in its place. Unmerging restores the original.
    """

    def __init__(self, base: Any):
        super().__init__()
        self.base = base
        self.adapters: Any = nn.ModuleDict()  # maps the name of each adapter to the `Adapter`
        self.active: tuple[str, ...] = ()
        self._aside: tuple[Any, Any] | None = None  # the original weight and bias while adapters are merged

    @property
    def in_features(self) -> int:
        """The width of the input."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """The width of the output."""
        return self.base.out_features

    @property
    def weight(self) -> Tensor:
        """The effective weight ``(out, in)``, which is the weight of the base layer with the active adapters applied.

        Some code reads the weight of a layer without calling the layer: the fast path of TransformerEncoderLayer,
        MultiheadAttention, and the scan of a state-space model. In such code, adapters take effect too, in the dtype of
        the base layer and with gradients, but without dropout. If the weight of the base layer is not a plain matrix (for
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
        """The original weight and bias of the base layer, even while adapters are merged. A missing weight or bias is None."""
        return self._aside or (getattr(self.base, "weight", None), getattr(self.base, "bias", None))

    @property
    def merged(self) -> bool:
        """True if the active adapters are merged into the weight."""
        return self._aside is not None

    def forward(self, x: Tensor) -> Tensor:
        """Return the output ``(..., out)`` with the active adapters applied, for x ``(..., in)``."""
        return self._linear()(x)

    def _linear(self) -> Any:
        """Return the base layer with the active adapters applied, as a callable."""
        linear = self.base
        for name in () if self.merged else self.active:
            linear = _Under(self.adapters[name], linear)
        return linear

    @torch.no_grad()
    def updated(self) -> Tensor:
        """Return the original weight ``(out, in)`` with the active adapters applied, in float32 or a more precise dtype."""
        weight = self.own[0]
        for name in self.active:
            weight = self.adapters[name].updated(weight)
        return weight

    def merge(self) -> None:
        """Merge the active adapters into the weight and the bias.

        Raises ValueError, and changes nothing, if the layer has no plain weight matrix, or if the result is not finite.
        """
        weight = weight_of(self.base)
        if weight is None:
            raise ValueError(
                f"{type(self.base).__name__} has no plain weight matrix, so no adapter can be merged into it; keep "
                "the adapter unmerged"
            )
        updated, bias = self.updated().to(weight.dtype), self.bias
        if not updated.isfinite().all() or not (bias is None or bias.isfinite().all()):
            raise ValueError(
                "the merged weight or bias would not be finite; check the adapter for NaN or inf, or load another adapter"
            )
        self._aside = self.own
        self.base.weight = nn.Parameter(updated, requires_grad=False)
        if bias is not None:
            self.base.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def unmerge(self) -> None:
        """Restore the weight and the bias from before `merge`, bit for bit."""
        if self._aside is not None:
            self.base.weight, bias = self._aside
            if bias is not None:
                self.base.bias = bias
            self._aside = None


class _Under:
    """A linear layer with one adapter applied. It serves as the base layer of the next adapter."""

    def __init__(self, adapter: Adapter, base: Any):
        self.adapter, self.base = adapter, base
        self.bias = _shifted(getattr(base, "bias", None), adapter)

    def __call__(self, x: Tensor) -> Tensor:
        return self.adapter(x, self.base)

    @property
    def weight(self) -> Tensor:
        return self.adapter.updated(self.base.weight)


def _shifted(bias: Tensor | None, adapter: Adapter) -> Tensor | None:
    """Return the bias plus the shift of the adapter, or only the bias if the adapter has no shift."""
    return bias if adapter.shift is None else bias + adapter.shift
