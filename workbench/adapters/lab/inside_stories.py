"""The texts above the pictures of the experiments on one layer (their stories)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.experiment import Record
from workbench.live import Pins


def tell_shards(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """Describe the update: its number of parameters, its rank and its form."""
    last = records[-1]
    share = 100 * last["numbers"] / last["weight"]
    trained = f"{last['numbers']:,} parameters are trained instead of {last['weight']:,} weights ({share:.0f} %)"
    told = f"{trained}; the update has rank {last['rank']}"
    if last["is_miss"]:
        told += f". Its first {last['r']} columns are repeated. MiSS, and LoRA with a tiled A, give updates of this form"
    elif last["method"].startswith("bat"):
        told += ". Each of its blocks is the sum of the same block of W and an identity, multiplied by a small trained matrix"
    return f"{told}."


def tell_cost(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """Compare the cost of Bat-row, of two forms of Bat-col, and of MiSS."""
    last = records[-1]
    adds, kept = (dict(zip(last["labels"], last[name], strict=True)) for name in ("adds", "kept"))
    row, built, weight = "bat-row", "bat-col, built twice", "bat-col, as a weight"
    return (
        f"Bat-row adds {100 * adds[row]:.3g} % to the layer's multiply-adds and keeps {kept[row]:.3g} MiB for the backward pass. "
        f"Bat-col adds {100 * adds[built]:.3g} % and keeps {kept[weight]:.3g} MiB, or {kept[built]:.3g} MiB if the backward pass "
        f"builds its weight again. MiSS keeps {kept['miss']:.3g} MiB, since its gradient needs only the folded input."
    )


def tell_step(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """Compare the first steps of MiSS and LoRA at the same learning rate."""
    last = records[-1]
    moved = dict(zip(last["labels"], last["moved"], strict=True))
    return (
        f"In the first step of AdamW, MiSS changes a weight by {moved['miss']:.2f} times the learning rate on average, like full "
        f"fine-tuning, and LoRA changes it by {moved['lora']:.2f} times (theory: {last['theory']:.2f}). So at the "
        "same learning rate, the steps of the methods are not equally long."
    )


def tell_merge(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """Report the rounding error of the merge."""
    last = records[-1]
    return (
        f"An update with root mean square {10 ** last['size']:.1g} is merged into a {last['dtype']} weight with root mean square "
        f"{last['rms']:.2g}. The rounding error is {last['lost']:.2g} % of the update, and {last['unchanged']:.2g} % of the "
        "weight entries do not change."
    )
