"""The text above the figure of each live experiment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.experiment import Record, signed
from workbench.knobs import Config
from workbench.live import Pins
from workbench.synapse.lab.figures import LABELS, SHORT, astray, matching
from workbench.synapse.lab.network_figures import by_scheme, points


def tell_device(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe how uneven the steps of the device are, and at which conductance steps up and down are equal."""
    record = records[-1]
    rise, fall = (np.array(record[key]) for key in ("rise", "fall"))
    up, down = (f"{side.max() / max(side[side > 0].min(), 1e-9):.3g}" for side in (rise, fall))
    return (
        f"The device needs {record['levels']} pulses to raise its conductance g from 0 to 1, and {record['levels_down']} to "
        f"lower it again. The largest step up is {up} times the smallest step up, and the largest step down {down} times the "
        f"smallest step down; {matching(record)}." + (f" {record['note']}." if record.get("note") else "")
    )


def tell_one_synapse(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe the weight, the weight that ideal devices would have, the number of refreshes, and the state of the devices."""
    record = records[-1]
    full = [name for name, key in (("g⁺", "plus"), ("g⁻", "minus")) if record[key][-1] > 0.99]
    state = f" Now {' and '.join(full)} {'is' if len(full) == 1 else 'are'} at the highest conductance." if full else ""
    if record["symmetry_point"] is not None and record["scheme"] != "uni":
        place, late = record["symmetry_point"], float(np.mean(record["plus"][-len(record["plus"]) // 4 :]))
        state += f" Over the last quarter of the pulses, g⁺ averages {late:.2f}; steps up and down are equal at g = {place:.2f}."
    told = f" Number of refreshes: {len(record['refreshed'])}." if record["refreshed"] else ""
    return (
        f"The weight is {signed(record['weight'][-1], 2)}. With ideal devices (constant steps, no limits) it would be "
        f"{signed(record['ideal'][-1], 2)}. On average the two weights differ by {astray(record):.2f}.{told}{state}"
    )


def tell_update(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe the number of pulses that the gradient requires, and the mean number that each rule sends."""
    asked = records[0]["asked"]
    sent = ", ".join(f"{r['rule']} {r['mean']:.2f}" for r in records)
    return f"The gradient requires {asked:.2f} pulses, but only whole pulses can be sent. Mean number sent by each rule: {sent}."


def tell_train(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe the first scheme: its test accuracy, its lead over the other scheme, its pulses and its refreshed pairs."""
    seen = max(r["samples"] for r in records)
    if not seen:
        return "Before training the weights are random, so about one digit in ten is classified correctly by chance."
    (ours, rows), *others = by_scheme(records).items()
    last = rows[-1]
    told = f"After {seen:,} training digits the test accuracy is {100 * last['accuracy']:.1f} % ({LABELS[ours]})"
    if others:
        gap = points(last) - points(others[0][1][-1])
        told += f", {abs(gap):.1f} points {'above' if gap > 0 else 'below'} {SHORT[others[0][0]]}"
    if pinned:
        then = by_scheme(pinned[0][1]).get(ours)
        if then:
            gap = points(last) - points(then[-1])
            told += f", {abs(gap):.1f} points {'above' if gap > 0 else 'below'} the pinned run ({pinned[0][0]})"
    if last.get("pulses"):
        told += f". {LABELS[ours].capitalize()}: {last['pulses'] / seen:,.0f} pulses per digit on average"
    if last.get("refreshed"):
        told += f"; refresh has rewritten {int(last['refreshed']):,} pairs"
    return f"{told}."


def tell_currents(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Describe the answer of the network, its margin over the second-best digit, and the two currents of one hidden unit."""
    record = records[-1]
    order = np.argsort(record["outputs"])[::-1]
    answer, second = int(order[0]), int(order[1])
    right = "correct" if answer == record["label"] else f"wrong, it is a {record['label']}"
    lead = record["outputs"][answer] - record["outputs"][second]
    plus, minus = sum(record["plus"]), sum(record["minus"])
    return (
        f"The network answers {answer} ({right}). Its output for this digit is higher than that for {second} by {lead:.2f}, on a "
        f"scale from 0 to 1. Hidden unit {record['unit']} receives a current of {plus:.2f} through its g⁺ devices and "
        f"{minus:.2f} through its other devices; the difference is {signed(plus - minus, 2)}."
    )
