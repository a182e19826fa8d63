"""Records in, one sentence out, for what is looked at one layer at a time; and what to guess at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.adapters.lab.inside_figures import spoken
from workbench.experiment import Question, Record
from workbench.live import Pins


def tell_shards(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """What the update is."""
    last = records[-1]
    share = 100 * last["numbers"] / last["weight"]
    told = f"{last['numbers']:,} numbers are trained, {share:.0f} % of the weight's; the update has rank {last['rank']}"
    if last["is_miss"]:
        told += (
            f". Its {last['r']} columns repeat: it is MiSS's, whether it was made by a tiled A or by a shard"
        )
    elif last["method"].startswith("bat"):
        told += ": each block is W's own block, turned by a small matrix"
    return f"{told}."


def tell_cost(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """The cheap form and the dear one."""
    last = records[-1]
    adds, kept = (dict(zip(last["labels"], last[name], strict=True)) for name in ("adds", "kept"))
    dearest = max(adds, key=adds.__getitem__)
    return (
        f"Bat-row on activations adds {100 * adds['bat-row']:.2g} % of the layer's work and keeps {kept['bat-row']:.3g} MiB; "
        f"{spoken(dearest)} adds {100 * adds[dearest]:.3g} %. MiSS keeps {kept['miss']:.2g} MiB: it needs its input no more."
    )


def tell_step(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """The confound of one rate for all."""
    last = records[-1]
    moved = dict(zip(last["labels"], last["moved"], strict=True))
    return (
        f"In its first step MiSS moves each weight by {moved['miss']:.2f} of the rate, as full fine-tuning does, LoRA by "
        f"{moved['lora']:.2f} (theory {last['theory']:.2f}): one rate for all methods is no equal chance."
    )


def tell_merge(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """What the merge loses."""
    last = records[-1]
    return (
        f"An update of {10 ** last['size']:.1g} on weights of {last['rms']:.2g} loses {last['lost']:.2g} % of itself in "
        f"{last['dtype']}, and {last['unchanged']:.0f} % of the entries stay as they were: merge in float32, or not at all."
    )


def _rank_is(*bounds: int) -> Any:
    """Which of the answers the rank falls to: at most each bound, or above all of them."""
    return lambda records, rival: next(
        (k for k, bound in enumerate(bounds) if records[-1]["rank"] <= bound), len(bounds)
    )


SHARDS = (
    Question(
        "LoRA by another A", "LoRA's A is not drawn, but made of identities side by side, and frozen. Which update is that?",
        ("MiSS's", "Bat's", "none of the family's"), lambda records, rival: 0 if records[-1]["is_miss"] else 2,
        {"method": "lora: A tiled", "r": 8},
    ),
    Question(
        "Bat's rank", "Bat-row at r = 4 trains 256 numbers for a weight of 48 x 64. Which rank has its update?",
        ("4", "5 to 16", "more than 16"), _rank_is(4, 16), {"method": "bat-row", "r": 4},
    ),
    Question(
        "Mini's rank", "Mini at r = 16, q = 8. Which rank has its update?", ("8 at most", "9 to 16", "more"), _rank_is(8, 16),
        {"method": "mini", "r": 16, "q": 8},
    ),
)  # fmt: skip
