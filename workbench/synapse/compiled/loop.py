"""The compiled training loop: for each sample, read the layers, back-propagate the errors, and send pulses."""

from __future__ import annotations

import math

import numpy as np

from workbench.synapse.compiled.devices import (
    ACTIVE,
    COINCIDENCE,
    DETERMINISTIC,
    FLOAT,
    HIGH,
    NETTED,
    REFRESHED,
    SINGLE,
    STOCHASTIC,
    TERNARY,
    UNIFORM,
    U,
    compiled,
    extend,
    normal,
    pulse_keys,
    pulse_synapse,
    refresh_layer,
    start_key,
    uniform,
)
from workbench.synapse.counter import READ, ROUND, SLOT_COLUMN, SLOT_ROW, TRANSPOSED

# -- reading -----------------------------------------------------------------------------------------------------------


@compiled
def _forward(weight, x, z, rows):
    z[:] = 0
    for i in range(rows):
        if x[i] != 0:
            for j in range(len(z)):
                z[j] += x[i] * weight[i, j]


@compiled
def _quantized(s, error, hidden):
    size = abs(error)
    if s.error == TERNARY:
        size = 1.0 if size > (s.error_zone / 2 if hidden else s.error_zone) else 0.0
    elif s.error == UNIFORM:
        size = min(math.floor(size * s.error_steps + 0.5), s.error_steps) / s.error_steps
    return size if error > 0 else -size


@compiled
def _sense(s, stale, stats, acts, errs, label, step, sample):
    """Compute the activations and the errors of one sample. Returns True if the sample is classified correctly.

    `stale` holds the weights at the start of the batch, and `step` is the step at which the batch began. `sample` is the
    position of the sample in the batch. The activations are written into `acts`, and the errors into `errs`.
    """
    last = len(stale) - 1
    for layer in range(last + 1):
        rows, columns = stale[layer].shape
        if s.bias:
            acts[layer, rows - 1] = 1
        z = acts[layer + 1, :columns]
        _forward(stale[layer], acts[layer], z, rows)
        for j in range(columns):
            if s.read_noise > 0:
                z[j] += s.read_noise * normal(start_key(s.seed, step, layer, READ), sample, j)
            z[j] = min(max(z[j] + 0.5, 0.0), 1.0) if layer == last else min(max(z[j], s.low), 1.0)
    outputs = acts[last + 1, : stale[last].shape[1]]
    for j in range(len(outputs)):
        errs[last, j] = _quantized(s, (1.0 if j == label else 0.0) - outputs[j], False)
    for layer in range(last, 0, -1):
        columns = stale[layer].shape[1]
        for i in range(stale[layer - 1].shape[1]):
            a = acts[layer, i]
            errs[layer - 1, i] = 0
            if a >= 1:
                stats[layer - 1][HIGH] += 1
            elif a > s.low:
                stats[layer - 1][ACTIVE] += 1
                back = errs.dtype.type(0)
                for j in range(columns):
                    back += errs[layer, j] * stale[layer][i, j]
                if s.read_noise > 0:
                    back += s.read_noise * normal(start_key(s.seed, step, layer, TRANSPOSED), sample, i)
                errs[layer - 1, i] = _quantized(s, back, True)
    return np.argmax(outputs) == label


# -- from errors to pulses ---------------------------------------------------------------------------------------------


@compiled
def _update(s, t, state, layer, x, delta, step, work):
    """Update one layer with one sample.

    The rule "netted" only sums the gradient, and the rule "float" changes the weights directly. All other rules send pulses.
    """
    columns, sizes, counts, masks = work
    floor, above = 0.0, 0.0
    if s.rule == SINGLE:
        floor = s.inputs_above if layer == 0 else s.inputs_above / 5
        above = s.errors_above if layer == len(state.g) - 1 else s.errors_above / 2
    found = 0
    for j in range(len(delta)):
        if abs(delta[j]) > above:
            columns[found] = j
            sizes[found] = abs(delta[j])
            found += 1
    if found == 0:
        return
    slots, row_rate = 0, 0.0
    if s.rule == COINCIDENCE:
        slots, row_rate = _column_trains(
            s, state.units[layer], x, columns, sizes, found, masks, start_key(s.seed, step, layer, SLOT_COLUMN)
        )
    key = start_key(s.seed, step, layer, SLOT_ROW if s.rule == COINCIDENCE else ROUND)
    rate, scale, keys = s.rate / state.units[layer], state.scales[layer], pulse_keys(s, step, layer)
    g, laws, weight, stats = state.g[layer], state.laws[layer], state.weight[layer], state.stats[layer]
    pending, most = state.pending[layer], x.dtype.type(state.most[layer])
    for i in range(len(x)):
        if abs(x[i]) <= floor:
            continue
        if s.rule == NETTED:
            _add_row(pending[i], x[i], delta)
            continue
        if s.rule == FLOAT:
            _add_row_within(weight[i], x[i] * x.dtype.type(s.rate), delta, most)
            continue
        _count_row(s.rule, extend(key, i), abs(x[i]), rate, row_rate, slots, columns, sizes, counts, masks, found)
        for k in range(found):
            if counts[k] > 0:
                j, n = columns[k], counts[k] if (x[i] > 0) == (delta[columns[k]] > 0) else -counts[k]
                pulse_synapse(s, t, g, laws, weight, stats, scale, keys, i, j, n)


@compiled
def _add_row(row, x, delta):
    for j in range(len(delta)):
        row[j] += x * delta[j]


@compiled
def _add_row_within(row, x, delta, most):
    for j in range(len(delta)):
        row[j] = min(max(row[j] + x * delta[j], -most), most)


@compiled
def _count_row(rule, key, x, rate, row_rate, slots, columns, sizes, counts, masks, found):
    """Compute the numbers of pulses for one row and several columns, and write them into `counts`.

    The columns are the first `found` entries of `columns`. Their errors have the absolute values `sizes`.
    """
    if rule == STOCHASTIC:
        share = x * sizes.dtype.type(rate)
        for k in range(found):
            chance = (extend(key, columns[k]) >> U(8)) * sizes.dtype.type(2.0**-24)
            counts[k] = np.int32(share * sizes[k] + chance)
    elif rule == DETERMINISTIC:
        for k in range(found):
            counts[k] = np.int32(x * rate * sizes[k] + 0.5)
    elif rule == SINGLE:
        counts[:found] = 1
    else:
        fired = _train_of_pulses(key, x * row_rate, slots)
        for k in range(found):
            counts[k] = _ones(fired & masks[k])


@compiled
def _column_trains(s, unit, x, columns, sizes, found, masks, key):
    """Draw the pulse trains of the first `found` entries of `columns` as bit masks, and write them into `masks`.

    Returns the number of slots, and the factor that turns inputs into the firing probabilities of the rows (see
    `rules.coincidence_rates`).
    """
    most_x, most_delta = np.max(np.abs(x)), np.max(sizes[:found])
    if most_x == 0:
        return 0, 0.0
    slots = min(s.slots, max(1, math.ceil(s.rate * most_x * most_delta / unit)))
    shared, balance = math.sqrt(s.rate / (unit * slots)), math.sqrt(most_delta / most_x)
    for k in range(found):
        masks[k] = _train_of_pulses(extend(key, columns[k]), sizes[k] * (shared / balance), slots)
    return slots, shared * balance


@compiled
def _train_of_pulses(key, chance, slots):
    fired = np.uint64(0)
    for slot in range(slots):
        if uniform(key, slot) < chance:
            fired |= np.uint64(1) << np.uint64(slot)
    return fired


@compiled
def _ones(bits):
    count = 0
    while bits:
        bits &= bits - np.uint64(1)
        count += 1
    return count


@compiled
def _flush(s, t, state, layer, step):
    """Send pulses for the gradient that the rule "netted" has summed over a batch, and set this gradient to 0."""
    pending, key, rate = (state.pending[layer], start_key(s.seed, step, layer, ROUND), s.rate / state.units[layer])
    g, laws, weight, stats = state.g[layer], state.laws[layer], state.weight[layer], state.stats[layer]
    scale, keys = state.scales[layer], pulse_keys(s, step, layer)
    for i in range(pending.shape[0]):
        row = extend(key, i)
        for j in range(pending.shape[1]):
            if pending[i, j] != 0:
                n = int(abs(pending[i, j]) * pending.dtype.type(rate) + uniform(row, j))
                if n > 0:
                    pulse_synapse(s, t, g, laws, weight, stats, scale, keys, i, j, n if pending[i, j] > 0 else -n)
                pending[i, j] = 0


@compiled
def train_loop(s, t, state, stale, x, labels, order, step):
    """Train on all samples in `order`. Returns the number of samples that were classified correctly before their update."""
    layers, widest, right = len(state.g), x.shape[1] + 1, 0
    for layer in range(layers):
        widest = max(widest, state.weight[layer].shape[1] + 1)
    acts, errs = np.zeros((layers + 1, widest), x.dtype), np.zeros((layers, widest), x.dtype)
    work = (np.zeros(widest, np.int32), np.zeros(widest, x.dtype), np.zeros(widest, np.int32), np.zeros(widest, np.uint64))
    for place in range(len(order)):
        if s.batch > 1 and place % s.batch == 0:
            for layer in range(layers):
                stale[layer][:] = state.weight[layer]
        acts[0, : x.shape[1]] = x[order[place]]
        sample = place % s.batch
        right += _sense(s, stale, state.stats, acts, errs, labels[order[place]], step - sample, sample)
        end = sample == s.batch - 1 or place == len(order) - 1
        for layer in range(layers):
            rows, columns = state.weight[layer].shape
            _update(s, t, state, layer, acts[layer, :rows], errs[layer, :columns], step, work)
            if s.rule == NETTED and end:
                _flush(s, t, state, layer, step)
        step += 1
        if s.refresh_every > 0 and step % s.refresh_every == 0:
            for layer in range(layers):
                refresh_layer(s, t, state, layer, step)
    return right


@compiled
def walk_loop(s, t, state, pulses, seen, refreshed):
    """Send the pulses `pulses` ``(n,)``, which are signed counts, to one synapse, and record its state.

    Row k of `seen` ``(n + 1, 3)`` receives g+, g- and the weight after the first k entries of `pulses`. `refreshed`
    ``(n + 1,)`` is set to True at the steps at which the pair was refreshed.
    """
    g, weight, stats = state.g[0], state.weight[0], state.stats[0]
    for step in range(len(pulses) + 1):
        if step > 0 and pulses[step - 1] != 0:
            keys = pulse_keys(s, step, 0)
            pulse_synapse(s, t, g, state.laws[0], weight, stats, state.scales[0], keys, 0, 0, pulses[step - 1])
        if step > 0 and s.refresh_every > 0 and step % s.refresh_every == 0:
            before = stats[REFRESHED]
            refresh_layer(s, t, state, 0, step)
            refreshed[step] = stats[REFRESHED] > before
        seen[step, 0], seen[step, 1], seen[step, 2] = g[0, 0, 0], g[1, 0, 0], weight[0, 0]
