"""A table that compares methods by measures of accuracy, forgetting, changed weights and memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.continual.lab.colours import NAMES
from workbench.continual.metrics import intransigence
from workbench.experiment import Record
from workbench.intervals import judging_rows

SHARES = ("ACC", "BWT", "F", "FWT", "LA", "online", "anytime", "lowest", "moved", "never_moved", "overlap")


def measures(records: Sequence[Record], stream: str) -> pd.DataFrame:
    """Return a table for one stream with one row per method.

    Values are means over the seeds on which the chosen settings are measured (the settings are chosen on other seeds).

    All columns except the last one are in percent or percentage points:

    - ACC, BWT, F, FWT, LA: see `accuracy_metrics`.
    - online: share of the training samples that the model classifies correctly just before it trains on them.
    - anytime: accuracy on the tasks seen so far, averaged over training.
    - lowest: lowest accuracy on a task, measured after training on this task; averaged over all tasks except the last.
    - moved: share of all weights that a task changes; never_moved: share that no task changes.
    - overlap: of the weights that at least one of two tasks changes, the share that both tasks change.
    - intransigence: accuracy of joint training minus accuracy just after each task (only if the method joint was run).
    - kept, KiB: memory that the method needs in addition to the weights and gradients, in KiB.
    """
    rows = [r for r in judging_rows(records) if r["stream"] == stream and "ACC" in r]
    joint = [r["matrix"][-1] for r in rows if r["label"] == "joint"]
    upper = np.mean(joint, axis=0) if joint else None
    found = {}
    for label in dict.fromkeys(r["label"] for r in rows):
        part = [r for r in rows if r["label"] == label]
        shares = {name: [r[name] for r in part if r.get(name) is not None] for name in SHARES}
        row = {name: 100 * float(np.mean(values)) if values else np.nan for name, values in shares.items()}
        if upper is not None:
            row["intransigence"] = 100 * float(np.mean([intransigence(r["matrix"], upper) for r in part]))
        found[NAMES.get(label, label)] = row | {"kept, KiB": part[0]["state_bytes"] / 1024}
    return pd.DataFrame(found).T.round(1)
