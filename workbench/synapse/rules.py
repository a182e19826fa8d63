"""Update rules, which turn gradients into whole numbers of pulses. This is the readable implementation.

For one sample, the expected number of pulses is ``eta |x delta| / u``. Here eta is the learning rate, x the input, delta the
error, and u the layer's unit step (the expected change of a weight by one pulse).

Sources: NeuroSim rounds stochastically (`stochastic`) or to nearest (`deterministic`). The rule `coincidence`, which counts
coincidences of two pulse trains, is from Gokmen and Vlasov (2016). Its update management and update length management are from
aihwkit. The rule `single` follows the abstract of Lim et al. (ISCAS 2018). The abstract does not give the thresholds of this
rule; they were chosen for Workbench.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.synapse import counter
from workbench.synapse.config import UpdateConfig


def pulse_counts(config: UpdateConfig, x: Tensor, delta: Tensor, unit: float, hidden: bool, key: tuple[int, ...]) -> Tensor:
    """Return signed numbers of pulses ``(in, out)`` for inputs `x` ``(in,)`` and errors `delta` ``(out,)``.

    `unit` is the unit step of the layer, and `key` is (seed, step, layer). `hidden` is True if the errors were back-propagated
    through later layers. The rule `netted` uses `netted_counts` instead of this function.
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
    """Return signed numbers of pulses ``(in, out)`` for a `gradient` ``(in, out)`` that was summed over a batch."""
    return gradient.sign().long() * _rounded(config, gradient.abs() * (config.rate / unit), key)


def _rounded(config: UpdateConfig, expected: Tensor, key: tuple[int, ...]) -> Tensor:
    if config.rule == "deterministic":
        return (expected + 0.5).floor().long()
    chance = counter.uniform(counter.key(*key, counter.ROUND), *expected.shape, expected.dtype, expected.device)
    return (expected + chance).floor().long()


def thresholds(config: UpdateConfig, first: bool, hidden: bool) -> tuple[float, float]:
    """Return the thresholds of the rule `single` for the inputs and for the errors of a layer.

    `first` is True for the first layer, whose inputs are pixels. `hidden` is True for every layer but the last.
    """
    return (
        config.input_threshold if first else config.input_threshold / 5,
        config.error_threshold / 2 if hidden else config.error_threshold,
    )


def _coincidences(config: UpdateConfig, x: Tensor, delta: Tensor, unit: float, key: tuple[int, ...]) -> Tensor:
    """Return, for each synapse, the number of time slots in which both its row and its column fire, ``(in, out)``."""
    slots, row_rate, column_rate = coincidence_rates(config, x.max().item(), delta.max().item(), unit)
    if not slots:
        return torch.zeros(len(x), len(delta), dtype=torch.int64, device=x.device)
    fired = [
        counter.uniform(counter.key(*key, purpose), len(v), slots, v.dtype, v.device) < (v * rate)[:, None]
        for v, rate, purpose in ((x, row_rate, counter.SLOT_ROW), (delta, column_rate, counter.SLOT_COLUMN))
    ]
    return (fired[0].double() @ fired[1].double().T).round().long()


def coincidence_rates(config: UpdateConfig, most_x: float, most_delta: float, unit: float) -> tuple[int, float, float]:
    """Return the number of slots, and the factors that turn inputs and errors into firing probabilities per slot.

    `most_x` and `most_delta` are the largest input and the largest error. If one of them is 0, there are no slots.
    Update management gives the largest input and the largest error the same probability. Update length management
    chooses as many slots as the largest expected number of pulses, but at most `config.slots`. If `config.slots` is too
    small, some probabilities exceed 1, and fewer pulses are sent than the gradient requires.
    """
    if not most_x or not most_delta:
        return 0, 0.0, 0.0
    slots = min(config.slots, max(1, math.ceil(config.rate * most_x * most_delta / unit)))
    shared = math.sqrt(config.rate / (unit * slots))
    balance = math.sqrt(most_delta / most_x)
    return slots, shared * balance, shared / balance
