"""Training in one compiled loop over samples. It changes the state of the readable implementation (`network`, `layer`) in place.

The results equal those of the readable implementation up to rounding. At batch size 1, a tensor library spends most of its
time between operations. Here, the time for a sample depends only on its non-zero inputs and errors: rows with input 0 are
skipped, random numbers are computed only for the synapses that need one, and only devices that are pulsed are changed.

numba compiles the loop at its first use and caches the result. This takes about half a minute, and needs no C compiler.
The loop releases Python's global interpreter lock (GIL). So panels stay responsive, and several networks can train in
parallel threads.
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
    """The knobs of a config as numbers, since compiled functions cannot use a config."""

    seed: int
    scheme: int
    rule: int
    batch: int
    bias: int
    low: float  # lower limit of hidden activations
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
    """The tables of steps, and the ladder of the average device: its conductances after 0, 1, 2, ... pulses up (`Device.ladder`).

    If the device is affine, the tables of steps are not used and contain only two points.
    """

    knots_up: np.ndarray
    up: np.ndarray
    knots_down: np.ndarray
    down: np.ndarray
    ladder: np.ndarray


class State(NamedTuple):
    """The arrays of a network.

    The fields from `g` to `stats` are tuples with one array for each layer. The loop changes these arrays in place. `units`,
    `scales` and `most` hold one number for each layer: the unit step (the expected change of a weight by one pulse), the factor
    from conductances to weights, and the largest weight.
    """

    g: tuple
    laws: tuple
    weight: tuple
    pending: tuple
    stats: tuple
    units: np.ndarray
    scales: np.ndarray
    most: np.ndarray


def train(network, x: Tensor, labels: Tensor, order: Tensor) -> int:
    """Train `network` on the samples ``x[order]``. Returns how many were classified correctly before their update."""
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
    """Send `pulses` ``(n,)``, which are signed counts, to a layer of one synapse.

    Returns two arrays. The first one, ``(n + 1, 3)``, holds g+, g- and the weight before the first entry of `pulses` and
    after each entry. The second one holds the steps at which the pair was refreshed.
    """
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
    """Report that the first run will wait for compilation, unless a compiled loop is in the cache."""
    if KEPT_IN is None or not any(KEPT_IN.rglob("*.nbi")):
        phase = "compiling the training loop (about half a minute, once only)"
        phases.say(phase)
        print(phase, file=sys.stderr, flush=True)


def _settings(config, layer) -> Settings:
    """Return the knobs of `config` as numbers. `layer` is the first layer of the network."""
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
