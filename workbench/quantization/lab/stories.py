"""The text above the picture of each live experiment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.experiment import Record, signed
from workbench.knobs import Config
from workbench.live import Pins
from workbench.quantization.lab.figures import LABELS, at_column


def tell_layer_trace(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Return a text with the number of rounded columns and the output errors.

    If runs are pinned, it also gives the difference in error from the first of them.
    """
    last = records[-1]
    if not last["columns"]:
        off = 100 * last["error"]
        return (
            "No column of this layer is rounded yet. Because of the quantized layers before it, the output error is already "
            f"{off:.1f} %."
        )
    told = (
        f"{last['columns']} of {last['of']} columns are rounded to {2 ** last['bits']} levels. The output error "
        f"is {100 * last['error']:.1f} % on the calibration text and {100 * last['held_out']:.1f} % on held-out text"
    )
    if last["columns"] == last["of"] and last["method"] != "rtn" and not pinned:
        calibration, unseen = (100 * v for v in last["rounding"])
        told += f"; with rounding to nearest (RTN) it would be {calibration:.1f} % and {unseen:.1f} %"
    if pinned:
        name, other = pinned[0]
        gap = 100 * (last["held_out"] - at_column(other, last["columns"])["held_out"])
        told += (
            f". The error on held-out text is {abs(gap):.1f} percentage points {'above' if gap > 0 else 'below'} that of the "
            f"pinned run ({name}) at the same column"
        )
    return f"{told}."


def tell_grid(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Return a text with the number of levels, and the relative change of the weights by rounding to nearest."""
    record = records[-1]
    told = f"Each group of {record['group_size']} weights has {2 ** record['bits']} levels. Rounding to nearest changes "
    told += f"the weights by {100 * record['weight_error']:.1f} % of their norm"
    if pinned:
        told += f", and in the pinned run ({pinned[0][0]}) by {100 * pinned[0][1][-1]['weight_error']:.1f} %"
    return f"{told}."


def tell_two_weights(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Return a text that names the method with the lowest error, and gives the errors of the best grid point and of RTN."""
    errors = {r["method"]: r["error"] for r in records}
    best = errors.pop("best", min(errors.values()))
    least = min(errors.values())
    first = [LABELS[m] for m, error in errors.items() if error < least + 5e-3]
    return (
        f"The lowest squared output error of a method is {least:.2f} ({'method' if len(first) == 1 else 'methods'}: "
        f"{' and '.join(first)}). "
        f"The error of the best grid point is {best:.2f}, and the error of rounding to nearest (RTN) is {errors['rtn']:.2f}."
    )


def tell_update(records: Sequence[Record], config: Config, pinned: Pins = ()) -> str:
    """Return a text with the number of columns that change because one column is rounded, and the column that changes most."""
    record = records[-1]
    fused = np.array(record["fused"])
    if not len(fused):
        return f"Column {record['column']} is the last one, so no other column is left to compensate for its error."
    at = int(np.abs(fused).argmax())
    share = 100 * abs(fused[at]) / (np.abs(fused).sum() or 1)
    return (
        f"Column {record['column']} is rounded, and {len(fused)} later {'columns change' if len(fused) > 1 else 'column changes'}"
        " to compensate for its error. "
        f"Column {record['column'] + 1 + at} changes most: its weight changes by {signed(fused[at], 4)}, which is "
        f"{share:.0f} % of the sum of all absolute changes."
    )
