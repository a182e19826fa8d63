"""Two tables: `parameters` and `measures`.

`parameters` compares the paper's parameter counts with counts that are computed from the shapes of the models. `measures`
shows the results of a comparison of methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.adapters.lab.colours import NAMES
from workbench.adapters.lab.study_figures import share_of_steps
from workbench.experiment import Record
from workbench.intervals import judging_rows


class Shapes(NamedTuple):
    """The number of blocks of a model, and the shapes ``(outputs, inputs)`` of the linear layers in each block."""

    blocks: int
    layers: tuple[tuple[int, int], ...]


def _llama(blocks: int, width: int, key: int, hidden: int, query: int | None = None) -> Shapes:
    query = query or width
    return Shapes(
        blocks, ((query, width), (key, width), (key, width), (width, query), (hidden, width), (hidden, width), (width, hidden))
    )


def _rwkv6(blocks: int, width: int) -> Shapes:
    hidden = int(3.5 * width)
    return Shapes(blocks, ((width, width),) * 6 + ((hidden, width), (width, hidden)))


MODELS = {  # shapes from the config files of the models
    "LLaMA2-7B": _llama(32, 4096, 4096, 11008),
    "Mistral-7B": _llama(32, 4096, 1024, 14336),
    "RWKV6-7B": _rwkv6(32, 4096),
    "Qwen3-4B": _llama(36, 2560, 1024, 9728, query=4096),
    "LLaMA2-13B": _llama(40, 5120, 5120, 13824),
}
PRINTED = {  # (rank, parameters in millions) of LoRA, then the same of MiSS; from tables 5 and 10 of the paper (version 12)
    "LLaMA2-7B": (36, 89.9, 64, 87.0),
    "Mistral-7B": (36, 94.4, 64, 87.0),
    "RWKV6-7B": (32, 88.1, 64, 88.1),
    "Qwen3-4B": (36, 74.3, 64, 70.1),
    "LLaMA2-13B": (64, 250.0, 128, 255.0),
}


def count(shapes: Shapes, method: str, r: int) -> float:
    """Return the number of trained parameters in millions.

    LoRA trains ``r * (in + out)`` parameters per layer, MiSS and Bat-col ``r * out``, and Bat-row ``r * in``.
    """
    each = {"lora": lambda o, i: o + i, "miss": lambda o, i: o, "bat-col": lambda o, i: o, "bat-row": lambda o, i: i}[method]
    return shapes.blocks * r * sum(each(o, i) for o, i in shapes.layers) / 1e6


def parameters() -> pd.DataFrame:
    """Return the paper's parameter counts and ours, in millions.

    The column `differs` names the methods whose printed count differs from ours by more than 0.35 million.
    """
    rows = {}
    for name, (lora, lora_printed, miss, miss_printed) in PRINTED.items():
        ours = {kind: count(MODELS[name], kind, lora if kind == "lora" else miss) for kind in ("lora", "miss", "bat-row")}
        wrong = [
            NAMES[kind] for kind, printed in (("lora", lora_printed), ("miss", miss_printed)) if abs(ours[kind] - printed) > 0.35
        ]
        rows[name] = {
            "r": f"{lora}, {miss}", "LoRA": round(ours["lora"], 2), "printed": lora_printed,
            "MiSS": round(ours["miss"], 2), "printed ": miss_printed, "Bat-row": round(ours["bat-row"], 2),
            "differs": ", ".join(wrong) or "-",
        }  # fmt: skip
    return pd.DataFrame(rows).T


COLUMNS = {
    "loss": "loss",
    "exact": "exact, %",
    "final": "final, %",
    "forgetting": "forgetting",
    "first_gradient": "first gradient",
    "step_size": "step / rate",
    "parameters": "trained",
    "kept_bytes": "kept, MiB",
    "peak_bytes": "peak, MiB",
    "init_seconds": "start, s",
    "training_seconds": "training, s",
}


FACTORS = {"exact": 100, "final": 100, "kept_bytes": 2**-20, "peak_bytes": 2**-20}
REACHED = "to LoRA's loss"


def measures(records: Sequence[Record], rates: str = "own") -> pd.DataFrame:
    """Return a table with a row for each method. The values are means over the judging seeds. For times, they are medians.

    If `rates` is "own", each method has its best learning rate. If `rates` is "shared", all methods have the same learning
    rate. The columns are

    - rate: learning rate (more than one if the fits of a method have different rates);
    - loss, exact, final: loss in nats per token, and percentages of right answers, on the test questions. `exact` compares
      whole answers; `final` compares only the last number or the boxed answer of worked answers;
    - forgetting: rise of the loss on prose, in nats per token;
    - first gradient: norm of the first gradient; step / rate: mean weight change in the first step, divided by the rate;
    - trained: number of trained parameters;
    - kept, peak: memory stored for the backward pass of one batch, and peak memory with gradients and the state of AdamW, in MiB;
    - start, training: time to add the adapter, and time of the training, in seconds;
    - to LoRA's loss (only if `rates` is "own"): fraction of the steps after which the final loss of LoRA is reached (1 if it is
      never reached).

    A quantity that was not measured has no column.
    """
    judged = [r for r in judging_rows(records) if r.get("rates", rates) == rates and r.get("loss") is not None]
    found = {}
    for label in dict.fromkeys(r["label"] for r in judged):
        part = [r for r in judged if r["label"] == label]
        row: dict[str, object] = {"rate": ", ".join(sorted({f"{r['lr']:g}" for r in part if r.get("lr") is not None}))}
        for column, name in COLUMNS.items():
            values = [r[column] for r in part if r.get(column) is not None]
            middle = np.median if column.endswith("seconds") else np.mean  # a busy computer makes some times too long
            row[name] = float(middle(values)) * FACTORS.get(column, 1) if values else np.nan
        row[REACHED] = share_of_steps(records, label, "lora").mean() if rates == "own" else np.nan
        found[NAMES.get(label, label)] = row
    table = pd.DataFrame(found).T
    numbers = [c for c in table.columns if c != "rate"]
    return table.assign(**{c: pd.to_numeric(table[c]).round(3) for c in numbers}).dropna(axis=1, how="all")
