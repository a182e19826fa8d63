"""A layer to quantize: correlated inputs with outlier channels, and a second stream."""

from dataclasses import dataclass

import torch

from workbench.quantization import layer_statistics


@dataclass
class Made:
    weight: torch.Tensor
    x: torch.Tensor
    reference: torch.Tensor
    hessian: torch.Tensor
    cross: torch.Tensor


def make_layer(out=16, columns=48, tokens=400, seed=0, difference=0.2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mix = normal(columns, columns) / columns**0.5
    mix[:, :: max(columns // 4, 1)] *= 4  # outlier channels
    x = normal(tokens, columns) @ mix
    reference = x + difference * normal(tokens, columns) @ mix
    weight = 0.1 * normal(out, columns)
    weight, x, reference = (t.to(dtype) for t in (weight, x, reference))
    return Made(weight, x, reference, *layer_statistics(x, reference))
