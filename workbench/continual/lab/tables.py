"""All measures of a comparison's methods in one table."""

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
    """One row a method, means over judging seeds: shares in percent; intransigence against joint; what is kept, in KiB.

    ACC, BWT, F, FWT, LA: `accuracy_metrics`. online: right before learning; anytime: right on the tasks seen, on average over
    time; lowest: of each old task after it was learnt. moved: of all weights, by a task; overlap: of the weights that either of
    two tasks moved, by both.
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
