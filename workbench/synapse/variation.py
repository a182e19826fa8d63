"""Draw the device-to-device variation, that is, the parameters of each device. They are drawn once, when a layer is made."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workbench.synapse.devices import Affine, Device
from workbench.synapse.imperfections import ImperfectionConfig

# The smallest step size and the smallest range of a device, as shares of their nominal values. Smaller drawn values are raised to
# these limits, and `Laws.clamped` counts them.
SMALLEST_STEP, SMALLEST_RANGE = (0.02, 0.1)
MOST_ASYMMETRY = 0.95


class Laws(NamedTuple):
    """The parameters v0 to v5 of each device.

    `values` has the shape ``(2, in, out, 6)``, or ``(2, 1, 1, 6)`` if all devices are equal. Affine devices have
    ``rise(g) = v0 - v1 g`` and ``fall(g) = v2 + v3 g``. For devices with tables of steps, v0 is the factor of all steps up,
    and v2 the factor of all steps down. The range of a device is ``v4 <= g <= v5``. A stuck device has v4 = v5, so neither
    pulses nor resets change it.
    """

    values: Tensor
    clamped: int  # the number of drawn values that were out of bounds


def draw_laws(device: Device, config: ImperfectionConfig, inputs: int, outputs: int, generator: torch.Generator) -> Laws:
    """Draw the parameters of the two devices of each synapse, in float64.

    LTP and LTD steps vary independently. The two devices of a synapse vary independently too, unless
    `config.pair_correlation` is above 0.
    """
    spreads = (config.step_spread, config.range_spread, config.shape_spread, config.asymmetry_spread, config.stuck)
    shape = (2, inputs, outputs) if any(spreads) else (2, 1, 1)
    clamped = 0

    def spread(sigma: float, lowest: float) -> Tensor:
        nonlocal clamped
        own = torch.randn(shape, generator=generator, dtype=torch.float64)
        if (shared := config.pair_correlation) > 0:
            common = torch.randn(shape[1:], generator=generator, dtype=torch.float64)
            own = (1 - shared) ** 0.5 * own + shared**0.5 * common
        drawn = 1 + sigma * own
        clamped += int((drawn < lowest).sum())
        return drawn.clamp(min=lowest)

    up, down = spread(config.step_spread, SMALLEST_STEP), spread(config.step_spread, SMALLEST_STEP)
    high = spread(config.range_spread, SMALLEST_RANGE)
    wider = spread(config.shape_spread, 0.0)
    bias = config.asymmetry + spread(config.asymmetry_spread, -1e9) - 1
    clamped += int((bias.abs() > MOST_ASYMMETRY).sum())
    bias = bias.clamp(-MOST_ASYMMETRY, MOST_ASYMMETRY)
    up, down = up * (1 + bias), down * (1 - bias)
    chance = torch.rand(shape, generator=generator, dtype=torch.float64)
    low = torch.zeros_like(high)
    if isinstance(device, Affine):
        a, b, c, d = device.coefficients_of(wider) if config.shape_spread else device.coefficients()
        values = [up * high * a, up * b, down * high * c, down * d, low, high]
    else:
        values = [up, low, down, low, low, high]
    values = torch.stack([torch.as_tensor(v).expand(shape) for v in values], dim=-1)
    for end, first in ((0.0, 0.0), (1.0, config.stuck / 2)):
        hit = (chance >= first) & (chance < first + config.stuck / 2)
        values[..., 4:] = torch.where(hit[..., None], end, values[..., 4:])
    return Laws(values.contiguous(), clamped)
