"""From a gradient to whole pulses, for one sample: the readable form of the update rules.

`expected` is eta |x delta| / u pulses, u the layer's unit step. Sources: stochastic rounding, and counts rounded to nearest
(NeuroSim); coincidence of two pulse trains (Gokmen and Vlasov 2016, with aihwkit's update and length management); the
single-step rule follows the words of the group's ISCAS 2018 abstract, its thresholds are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.synapse import counter
from workbench.synapse.config import UpdateConfig


def pulse_counts(config: UpdateConfig, x: Tensor, delta: Tensor, unit: float, hidden: bool, key: tuple[int, ...]) -> Tensor:
    """Signed whole pulses ``(in, out)`` for inputs `x` ``(in,)`` and errors `delta` ``(out,)``.

    `hidden` is whether the layer's errors came back through other layers; `key` is (seed, step, layer). The rule `netted`
    calls this with one row of accumulated gradients at a time, see `netted_counts`.
    """
    sign = torch.outer(x.sign(), delta.sign()).long()
    if config.rule == "single":
        inputs, errors = thresholds(config, first=key[2] == 0, hidden=hidden)
        return sign * torch.outer(x.abs().double() > inputs, delta.abs().double() > errors)
    if config.rule == "coincidence":
        return sign * _coincidences(config, x.abs(), delta.abs(), unit, key)
    expected = torch.outer(x.abs() * (config.rate / unit), delta.abs())
    return sign * _rounded(config, expected, key)


def netted_counts(config: UpdateConfig, gradient: Tensor, unit: float, key: tuple[int, ...]) -> Tensor:
    """Signed whole pulses for a gradient ``(in, out)`` that was summed over a batch before any pulse."""
    return gradient.sign().long() * _rounded(config, gradient.abs() * (config.rate / unit), key)


def _rounded(config: UpdateConfig, expected: Tensor, key: tuple[int, ...]) -> Tensor:
    if config.rule == "deterministic":
        return (expected + 0.5).floor().long()
    chance = counter.uniform(counter.key(*key, counter.ROUND), *expected.shape, expected.dtype, expected.device)
    return (expected + chance).floor().long()


def thresholds(config: UpdateConfig, first: bool, hidden: bool) -> tuple[float, float]:
    """Thresholds of the single-step rule: of a layer's inputs (pixels or activations) and of its errors."""
    return (
        config.input_threshold if first else config.input_threshold / 5,
        config.error_threshold / 2 if hidden else config.error_threshold,
    )


def _coincidences(config: UpdateConfig, x: Tensor, delta: Tensor, unit: float, key: tuple[int, ...]) -> Tensor:
    """Slots in which both a row and a column fire."""
    slots, row_rate, column_rate = coincidence_rates(config, x.max().item(), delta.max().item(), unit)
    if not slots:
        return torch.zeros(len(x), len(delta), dtype=torch.int64, device=x.device)
    fired = [
        counter.uniform(counter.key(*key, purpose), len(v), slots, v.dtype, v.device) < (v * rate)[:, None]
        for v, rate, purpose in ((x, row_rate, counter.SLOT_ROW), (delta, column_rate, counter.SLOT_COLUMN))
    ]
    return (fired[0].double() @ fired[1].double().T).round().long()


def coincidence_rates(config: UpdateConfig, most_x: float, most_delta: float, unit: float) -> tuple[int, float, float]:
    """Number of slots, and the factors that turn inputs and errors into probabilities; no slots where nothing is to do.

    Update management makes the largest input as likely as the largest error; the number of slots is just enough for
    the largest product, up to `config.slots`, beyond which pulses are lost.
    """
    if not most_x or not most_delta:
        return 0, 0.0, 0.0
    slots = min(config.slots, max(1, math.ceil(config.rate * most_x * most_delta / unit)))
    shared = math.sqrt(config.rate / (unit * slots))
    balance = math.sqrt(most_delta / most_x)
    return slots, shared * balance, shared / balance
