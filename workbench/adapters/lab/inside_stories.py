"""Records in, one sentence out, for what is looked at one layer at a time; and what to guess at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.experiment import Question, Record
from workbench.live import Pins


def tell_shards(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """What the update is."""
    last = records[-1]
    share = 100 * last["numbers"] / last["weight"]
    trained = f"{last['numbers']:,} numbers are trained in place of {last['weight']:,} ({share:.0f} %)"
    told = f"{trained}; the update has rank {last['rank']}"
    if last["is_miss"]:
        told += f". Its {last['r']} columns repeat: it is MiSS's, whether it was made by a tiled A or by a shard"
    elif last["method"].startswith("bat"):
        told += ": each block is W's own block, turned by a small matrix"
    return f"{told}."


def tell_cost(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """The cheap form and the dear one."""
    last = records[-1]
    adds, kept = (dict(zip(last["labels"], last[name], strict=True)) for name in ("adds", "kept"))
    row, built, weight = "bat-row", "bat-col, built twice", "bat-col, as a weight"
    return (
        f"Bat-row adds {100 * adds[row]:.3g} % of the layer's work and keeps {kept[row]:.3g} MiB. Bat-col adds "
        f"{100 * adds[built]:.3g} %, and keeps {kept[weight]:.3g} MiB, or {kept[built]:.3g} and builds its weight again in the "
        f"backward pass. MiSS keeps {kept['miss']:.3g} MiB: its gradient needs the folded input alone."
    )


def tell_step(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """The confound of one rate for all."""
    last = records[-1]
    moved = dict(zip(last["labels"], last["moved"], strict=True))
    return (
        f"In its first step MiSS moves each weight by {moved['miss']:.2f} of the rate, as full fine-tuning does, LoRA by "
        f"{moved['lora']:.2f} (theory {last['theory']:.2f}): at one rate for all, methods do not have an equal chance."
    )


def tell_merge(records: Sequence[Record], config: Any, pinned: Pins = ()) -> str:
    """What the merge loses."""
    last = records[-1]
    return (
        f"Of an update of {10 ** last['size']:.1g} on weights of {last['rms']:.2g}, {last['lost']:.2g} % is rounding in "
        f"{last['dtype']}, and {last['unchanged']:.2g} % of the entries stay as they were."
    )


def _rank_is(*bounds: int) -> Any:
    """Which of the answers the rank falls to: at most each bound, or above all of them."""
    return lambda records, rival: next((k for k, bound in enumerate(bounds) if records[-1]["rank"] <= bound), len(bounds))


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
