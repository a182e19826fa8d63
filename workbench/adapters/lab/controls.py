"""Control methods: each changes or removes one part of MiSS or Bat-row, to measure the effect of that part."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.adapters import family
from workbench.adapters.adapter import Adapter, BatRow, Linear
from workbench.adapters.config import AdapterConfig
from workbench.adapters.lora import LoRA


class Orthogonal(LoRA):
    """MiSS, written as LoRA with a frozen A, but with a random orthogonal A in place of the tiled identity ``[I I ...]``.

    This control measures whether the tiling matters. The effective weight is ``W + B A``, and B is trained like the shard of
    MiSS. The rows of A are orthogonal and have the same norm as the rows of ``[I I ...]``.
    """

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config.of(AdapterConfig, method="lora-fa", alpha=config.r), base, generator, gradient)

    def start(self, config, base, generator, gradient):  # noqa: D102
        drawn = torch.randn(base.in_features, config.r, generator=generator)
        return torch.linalg.qr(drawn).Q.T * (base.in_features / config.r) ** 0.5, torch.zeros(base.out_features, config.r)


class Permuted(BatRow):
    """Bat-row with a shuffled copy of W in its update. The copy has the same norm as W, but is unrelated to the layer."""

    needs_weight = True

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        weight = base.weight.detach().to(**self.like)
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        self.register_buffer("guide", weight.flatten()[order].view_as(weight), persistent=False)

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.bat_row_delta(self.shard, self.guide)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        guide = self.guide.to(x.dtype)
        moved = family.bat_row_output(x, lambda z: (z - x) @ guide.T, self.shard.to(x.dtype))
        return base(x) + moved


class Unguided(BatRow):
    """Bat-row without W: ``Delta[a, b] = B[b]``, which is the same in every block row a."""

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return family.bat_row_delta(self.shard, torch.zeros_like(weight))

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return base(x) + family.bat_row_output(x, lambda z: x.new_zeros(*x.shape[:-1], base.out_features), self.shard.to(x.dtype))


class GuideAlone(BatRow):
    """Bat-row without the identity: ``Delta[a, b] = W[a, b] B[b]``."""

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        blocks = weight.view(weight.shape[0], -1, self.shard.shape[-1])
        return torch.einsum("obi,bij->obj", blocks, self.shard).reshape(weight.shape)

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        blocks = x.unflatten(-1, (-1, self.shard.shape[-1]))
        return base((blocks + torch.einsum("bij,...bj->...bi", self.shard.to(x.dtype), blocks)).flatten(-2))


CONTROLS: dict[str, type[Adapter]] = {
    "orthogonal A": Orthogonal, "W permuted": Permuted, "without W": Unguided, "without I": GuideAlone,
}  # fmt: skip
