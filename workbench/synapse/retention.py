"""What time does to trained conductances: drift and retention, as an analysis after training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["power law", "PCM", "to Gmin", "to Gmax", "random"]
START = {"PCM": 20.0}  # seconds after programming at which conductance was read; else 1


def aged(
    g: Tensor, seconds: float, kind: Kind, exponent: float, spread: float, on_off: float, key: int,
    least: float | Tensor = 0.0, most: float | Tensor = 1.0,
) -> Tensor:  # fmt: skip
    """Conductances g `seconds` after they were written, kept within `least` and `most`, each device's own range.

    - power law: G (t / t0)^-v, v normal about `exponent` with relative `spread`, device by device (t0 = 1 s).
    - PCM: the same from t0 = 20 s, with v drawn from a fit to phase-change cells (in aihwkit): mean
      clip(-.0155 ln g + .0244, .049, .1), deviation clip(-.0125 ln g - .0059, .008, .045), of which the size counts.
    - to Gmin, to Gmax, random: NeuroSim's retention, G (t / 1 s)^(-v), (+v), or either by device.

    Raises ValueError for a time before t0.
    """
    start = START.get(kind, 1.0)
    if seconds < start:
        raise ValueError(f"seconds={seconds}: expected at least {start:g}, when the conductance was first read")
    low = 1 / on_off  # Gmin in units of Gmax
    absolute = low + (1 - low) * g.double()
    generator = torch.Generator().manual_seed(key)
    noise = torch.randn(g.shape, generator=generator, dtype=torch.float64)
    if kind == "PCM":
        log = absolute.clamp(min=1e-6).log()
        v = (-0.0155 * log + 0.0244).clamp(0.049, 0.1) + (-0.0125 * log - 0.0059).clamp(0.008, 0.045) * noise
        v = v.abs()
    else:
        v = exponent * (1 + (spread if kind == "power law" else 0.0) * noise)
    if kind == "to Gmax":
        v = -v
    elif kind == "random":
        v = torch.where(torch.rand(g.shape, generator=generator, dtype=torch.float64) < 0.5, v, -v)
    moved = absolute * (seconds / start) ** -v
    return ((moved - low) / (1 - low)).clamp(least, most).to(g.dtype)
