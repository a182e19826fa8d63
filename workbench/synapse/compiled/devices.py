"""The compiled implementation of devices: random numbers, pulses and refresh.

It repeats the computations of `counter`, `layer` and `devices` for one synapse at a time. Those modules document the
computations. Throughout this package, `s` holds the settings and `t` the tables (see `train.Settings` and `train.Tables`).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numba import njit

from workbench.compiling import keep
from workbench.synapse import counter
from workbench.synapse.counter import COIN, CYCLE, PROGRAM, WRITE
from workbench.synapse.layer import STATS

U = np.uint32
STRIDE, FIRST, SECOND = U(counter.STRIDE), U(counter.FIRST), U(counter.SECOND)
PULSES, CLIPPED, REFRESHED, READS, RESETS, REFRESH_PULSES, MISSED, ACTIVE, HIGH = range(len(STATS))
UNI, PUSH_PULL, ALTERNATING, REFERENCE = range(4)
STOCHASTIC, COINCIDENCE, DETERMINISTIC, SINGLE, NETTED, FLOAT = range(6)
OPEN_LOOP, WRITE_VERIFY, IDEAL, NONE = range(4)
EXACT, TERNARY, UNIFORM = range(3)


HERE = Path(__file__).parent
KEPT_IN = keep(
    "synapse",
    "the training loop of devices",
    [*(HERE.parent / n for n in ("counter.py", "layer.py")), *sorted(HERE.glob("*.py"))],
)
OPTIONS = {"cache": KEPT_IN is not None, "nogil": True, "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}
compiled = njit(**OPTIONS)
# Functions that are called for each pulse are inlined, since passing their arguments would take longer than the pulse itself.
inlined = njit(inline="always", **OPTIONS)


# -- random numbers, equal to those of `counter` -----------------------------------------------------------------------


@compiled
def _mix(x):
    x = U(x ^ (x >> U(16)))
    x = U(x * FIRST)
    x = U(x ^ (x >> U(15)))
    x = U(x * SECOND)
    return U(x ^ (x >> U(16)))


@compiled
def extend(found, word):
    """Hash one more number, `word`, into the key `found`, and return the new key (see `counter.key`)."""
    return _mix(U(found + U(U(word) + U(1)) * STRIDE))


@compiled
def start_key(seed, step, layer, purpose):
    """Return the key for the random numbers of one step, layer and purpose."""
    return extend(extend(extend(extend(U(0), seed), step), layer), purpose)


@compiled
def uniform(row_key, column):
    """Draw one uniform number, as `counter.uniform` does. `row_key` is the key into which the row has been hashed."""
    return (extend(row_key, column) >> U(8)) * 2.0**-24


@compiled
def normal(key, row, column):
    """Draw one standard normal number, as `counter.normal` does."""
    first = extend(extend(key, row), column)
    radius = ((first >> U(8)) + 0.5) * 2.0**-24
    angle = (_mix(U(first ^ STRIDE)) >> U(8)) * 2.0**-24
    return math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)


# -- pulses ------------------------------------------------------------------------------------------------------------


@compiled
def _interpolate(x, knots, values):
    i = min(max(np.searchsorted(knots, x, side="right") - 1, 0), len(knots) - 2)
    width, rise = knots[i + 1] - knots[i], values[i + 1] - values[i]
    share = (x - knots[i]) / width
    return values[i] + min(max(share, 0.0), 1.0) * rise, (rise / width if 0 <= share < 1 else 0.0)


@inlined
def _geometric(n, b):
    if n == 1 or abs(b) < 1e-18:
        return float(n)
    b = min(b, 1 - 1e-15)
    return -math.expm1(min(n * math.log1p(-b), 700.0)) / b


@inlined
def _pulsed(s, t, g, law, n, up):
    low, high = law[4], law[5]
    if not s.table:
        b = law[1] if up else law[3]
        step = law[0] - b * g if up else -(law[2] + b * g)
        return min(max(g + step * _geometric(n, b), low), high), _geometric(n, b * (2 - b))
    variance, factor = 0.0, (law[0] if up else -law[2])
    for _ in range(n):
        share = (g - low) / max(high - low, 1e-12)
        step, slope = _interpolate(share, t.knots_up, t.up) if up else _interpolate(share, t.knots_down, t.down)
        variance = variance * (1 + factor * slope) ** 2 + 1
        g = min(max(g + (high - low) * factor * step, low), high)
    return g, variance


@inlined
def _move(s, t, g, laws, i, j, which, n, up, key):
    """Send `n` pulses to one device, and return the number of clipped pulses.

    This number is `n` if the device was already at the end of its range, and 0 otherwise.
    """
    law = laws[which, i if laws.shape[1] > 1 else 0, j if laws.shape[2] > 1 else 0]
    old = g[which, i, j]
    new, variance = _pulsed(s, t, old, law, n, up)
    if s.cycle > 0:
        noise = normal(extend(extend(U(0), key), which), i, j)
        new = min(max(new + noise * s.cycle * (law[5] - law[4]) * math.sqrt(variance), law[4]), law[5])
    g[which, i, j] = new
    return n if old == (law[5] if up else law[4]) else 0


@inlined
def _read_out(s, g, weight, scale, i, j, key):
    difference = g[0, i, j] - g[1, i, j]
    if s.write_noise > 0:
        difference += s.write_noise * normal(key, i, j)
    weight[i, j] = scale * difference


@inlined
def pulse_synapse(s, t, g, laws, weight, stats, scale, keys, i, j, n):
    """Send pulses to those devices of one synapse that the scheme chooses.

    The number of pulses is the absolute value of `n`. A positive `n` raises the weight, and a negative `n` lowers it.
    """
    raising, n = n > 0, abs(n)
    first, second = raising, not raising  # whether g+ and whether g- is pulsed, in the scheme uni
    if s.scheme == REFERENCE:
        first, second = True, False
    elif s.scheme == PUSH_PULL:
        first, second = True, True
    elif s.scheme == ALTERNATING:
        first = uniform(extend(keys[1], i), j) < 0.5
        second = not first
    if first:
        stats[PULSES] += n
        stats[CLIPPED] += _move(s, t, g, laws, i, j, 0, n, raising, keys[0])
    if second:
        stats[PULSES] += n
        stats[CLIPPED] += _move(s, t, g, laws, i, j, 1, n, not raising, keys[0])
    _read_out(s, g, weight, scale, i, j, keys[2])


@compiled
def pulse_keys(s, step, layer):
    """Return the keys for the cycle noise, the random choices of the scheme `alternating`, and the write noise of one step."""
    return (start_key(s.seed, step, layer, CYCLE), start_key(s.seed, step, layer, COIN), start_key(s.seed, step, layer, WRITE))


# -- refresh -----------------------------------------------------------------------------------------------------------


@compiled
def _nearest(ladder, g):
    i = min(max(np.searchsorted(ladder, g), 1), len(ladder) - 1)
    return i - 1 if g - ladder[i - 1] <= ladder[i] - g else i


@inlined
def _fullness(g, law, reach):
    return g / (law[5] * reach if law[5] > law[4] else 1.0)


@compiled
def refresh_layer(s, t, state, layer, step):
    """Refresh a layer as `SynapseLayer.refresh` does."""
    g, laws, stats = state.g[layer], state.laws[layer], state.stats[layer]
    key = start_key(s.seed, step, layer, PROGRAM)
    stats[READS] += 2 * g.shape[1] * g.shape[2]
    for i in range(g.shape[1]):
        for j in range(g.shape[2]):
            a, b = i if laws.shape[1] > 1 else 0, j if laws.shape[2] > 1 else 0
            plus = _fullness(g[0, i, j], laws[0, a, b], t.ladder[-1])
            minus = _fullness(g[1, i, j], laws[1, a, b], t.ladder[-1])
            if max(plus, minus) > s.refresh_above and min(plus, minus) > s.refresh_below:
                wanted = g[0, i, j] - g[1, i, j]
                stats[REFRESHED] += 1
                stats[RESETS] += 2
                stats[READS] += 2
                for which in range(2):
                    g[which, i, j] = laws[which, a, b, 4]
                missing = wanted - (g[0, i, j] - g[1, i, j])
                which, size = (0 if missing >= 0 else 1), abs(missing)
                if s.refresh == IDEAL:
                    exact = max(g[which, i, j] + size, laws[which, a, b, 4])
                    g[which, i, j] = min(exact, laws[which, a, b, 5])
                elif s.refresh == OPEN_LOOP:
                    n = _nearest(t.ladder, size)
                    if n > 0:
                        stats[REFRESH_PULSES] += n
                        _move(s, t, g, laws, i, j, which, n, True, key)
                else:
                    _write_verify(s, t, g, laws, i, j, which, wanted, step, layer, stats)
                if abs(g[0, i, j] - g[1, i, j] - wanted) > t.ladder[1]:
                    stats[MISSED] += 1
                fresh = extend(start_key(s.seed, step, layer, WRITE), 1)
                _read_out(s, g, state.weight[layer], state.scales[layer], i, j, fresh)


@compiled
def _write_verify(s, t, g, laws, i, j, which, wanted, step, layer, stats):
    sign, steps = (1.0 if which == 0 else -1.0), len(t.ladder) - 1
    high = laws[which, i if laws.shape[1] > 1 else 0, j if laws.shape[2] > 1 else 0, 5]
    for trial in range(2 * steps):
        missing, before = sign * (wanted - (g[0, i, j] - g[1, i, j])), g[which, i, j]
        at = min(_nearest(t.ladder, before), steps - 1)
        if missing <= (t.ladder[at + 1] - t.ladder[at]) / 2:
            return
        key = extend(start_key(s.seed, step, layer, PROGRAM), trial)
        _move(s, t, g, laws, i, j, which, 1, True, key)
        stats[REFRESH_PULSES] += 1
        stats[READS] += 2
        if g[which, i, j] >= high or (s.cycle == 0 and g[which, i, j] == before):
            return
