"""Training sample after sample in one compiled loop over the same state as the readable form, and equal to it within rounding.

At batch 1 a framework spends its time between operations, not in them. Here a sample costs what its non-zero inputs and errors
cost: rows that carry nothing are skipped, random numbers are hashed only for the synapses that need one (`counter`),
and devices are touched only where a pulse falls. Compiled by numba (LLVM, in a wheel: no compiler is needed) at first
use, about half a minute once; kept in numba's cache afterwards. It holds no lock of Python: panels stay alive, and
several designs train side by side in threads.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from workbench import phases
from workbench.synapse.compiled.devices import EXACT, KEPT_IN, TERNARY, UNIFORM
from workbench.synapse.compiled.loop import train_loop, walk_loop
from workbench.synapse.rules import thresholds
from workbench.synapse.tables import Table


class Settings(NamedTuple):
    """The knobs as numbers."""

    seed: int
    scheme: int
    rule: int
    batch: int
    bias: int
    low: float  # of a hidden activation
    rate: float
    slots: int
    error: int
    error_steps: float
    error_zone: float
    inputs_above: float
    errors_above: float
    cycle: float
    write_noise: float
    read_noise: float
    refresh: int
    refresh_every: int
    refresh_above: float
    refresh_below: float
    table: bool


class Tables(NamedTuple):
    """Step tables (of two points where the device is affine) and the nominal ladder."""

    knots_up: np.ndarray
    up: np.ndarray
    knots_down: np.ndarray
    down: np.ndarray
    ladder: np.ndarray


class State(NamedTuple):
    """A network's arrays, a tuple over the layers each; all changed in place."""

    g: tuple
    laws: tuple
    weight: tuple
    pending: tuple
    stats: tuple
    units: np.ndarray
    scales: np.ndarray
    most: np.ndarray


def train(network, x: Tensor, labels: Tensor, order: Tensor) -> int:
    """Train `network` on ``x[order]``; returns how many outputs were right before their own update."""
    layers, state = network.layers, _state(network.layers)
    announce()
    stale = tuple(w.copy() for w in state.weight) if network.config.batch > 1 else state.weight
    right = train_loop(
        _settings(network.config, layers[0]),
        _tables(layers[0]),
        state,
        stale,
        x.numpy(),
        labels.numpy(),
        order.numpy(),
        network.step,
    )
    network.step += len(order)
    return right


def walk(layer, pulses: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Send signed `pulses` ``(n,)`` to a layer of one synapse; g+, g- and weight ``(n + 1, 3)``, and the steps of refreshes."""
    announce()
    seen, refreshed = np.zeros((len(pulses) + 1, 3)), np.zeros(len(pulses) + 1, np.bool_)
    settings = _settings(layer.config, layer)
    walk_loop(settings, _tables(layer), _state([layer]), pulses.numpy(), seen, refreshed)
    return seen, refreshed.nonzero()[0]


def _state(layers) -> State:
    return State(
        *(tuple(getattr(layer, name).numpy() for layer in layers) for name in ("g", "laws", "weight", "pending", "stats")),
        *(np.array([getattr(layer, name) for layer in layers]) for name in ("unit", "scale", "max_weight")),
    )


@cache
def announce() -> None:
    """Say what the first run waits for, where no compiled loop is kept yet."""
    if KEPT_IN is None or not any(KEPT_IN.rglob("*.nbi")):
        phase = "compiling the training loop: about twenty seconds, once"
        phases.say(phase)
        print(phase, file=sys.stderr, flush=True)


def _settings(config, layer) -> Settings:
    """The knobs as numbers, of a network of which `layer` is the first."""
    inputs_above, errors_above = thresholds(config, first=True, hidden=False)
    bits = config.error.split()[0]
    return Settings(
        config.seed,
        ("uni", "push-pull", "alternating", "reference").index(config.scheme),
        ("stochastic", "coincidence", "deterministic", "single", "netted", "float").index(config.rule),
        config.batch,
        int(config.bias),
        0.0 if config.activation == "clip" else -1.0,
        config.rate,
        config.slots,
        {"exact": EXACT, "ternary": TERNARY}.get(config.error, UNIFORM),
        2.0 ** (int(bits) - 1) - 1 if bits.isdigit() else 1.0,
        config.error_threshold,
        inputs_above,
        errors_above,
        config.cycle_of_range(layer.device_law.levels),
        layer.write_noise,
        config.read_noise,
        ("open-loop", "write-verify", "ideal", "none").index(config.refresh),
        config.refresh_every if config.refreshes else 0,
        config.refresh_above,
        config.refresh_below,
        isinstance(layer.device_law, Table),
    )


def _tables(layer) -> Tables:
    law, two = layer.device_law, (0.0, 1.0)
    tables = (law.knots_up, law.up, law.knots_down, law.down) if isinstance(law, Table) else (two,) * 4
    return Tables(*(np.array(t) for t in tables), layer.ladder.numpy())
