"""Drift and retention loss: how conductances change with time after training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["power law", "PCM", "to Gmin", "to Gmax", "random"]
# t0, the time in seconds from programming to the first read of the conductance. It is 1 s for kinds that are not listed.
START = {"PCM": 20.0}


def aged(
    g: Tensor, seconds: float, kind: Kind, exponent: float, spread: float, on_off: float, key: int,
    least: float | Tensor = 0.0, most: float | Tensor = 1.0,
) -> Tensor:  # fmt: skip
    """Return the normalised conductances at the time `seconds` after the conductances `g` were written.

    `kind` is the name of one of the following models. In the formulas, G is the conductance at the first read, t0 is the time
    of the first read, and t = `seconds`.

    - power law: The conductance becomes ``G (t / t0)^-v`` with t0 = 1 s. For each device, v is drawn from a normal distribution
      with mean `exponent` and relative standard deviation `spread`.
    - PCM (phase-change memory): The formula is the same, with t0 = 20 s. For each device, v is the absolute value of a
      number from the normal distribution that aihwkit uses. With x = G / Gmax, the mean of this distribution is
      ``clip(-0.0155 ln x + 0.0244, 0.049, 0.1)``, and its standard deviation ``clip(-0.0125 ln x - 0.0059, 0.008, 0.045)``.
    - to Gmin, to Gmax, random: These are the retention models of NeuroSim, with t0 = 1 s and v = `exponent`. They multiply G by
      ``(t / t0)^-v``, by ``(t / t0)^v``, or by one of these two factors, which is chosen at random for each device.

    `on_off` is Gmax / Gmin, and `key` is the seed. The result is clipped to [`least`, `most`], the range of each device.
    Raises ValueError if `seconds` is less than t0.
    """
    start = START.get(kind, 1.0)
    if seconds < start:
        raise ValueError(f"seconds={seconds}: expected at least {start:g} s, the time at which the conductance is first read")
    low = 1 / on_off  # Gmin as a share of Gmax
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
