"""Make the example files for the panels that read your own data: a device curve, a folder of tasks, and an adapter.

    python data/examples/make.py

All files are made with fixed seeds. The curve and the tasks are the same on every machine, but the weights of the adapter may
differ in their last digits. `README.md` describes the files.
"""

import csv
import json
from pathlib import Path

import numpy as np

from workbench import datasets
from workbench.adapters import save_adapter
from workbench.adapters.files import CONFIG
from workbench.adapters.lab.tuning import Tuner, TuningConfig
from workbench.synapse import Exponential

HERE = Path(__file__).parent
PULSES, LOW, HIGH = 60, 2.0, 20.0  # number of pulses in each direction; smallest and largest conductance in microsiemens
SPREAD = 0.1  # standard deviation of a step, relative to the step
PAIRS, ROWS = ((0, 1), (2, 3), (4, 5)), 200  # the digits of each task; samples per task


def write(path: Path, head: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])


def curve(folder: Path) -> None:
    """Write the curve of an exponential device whose steps vary at random in size, but not in direction."""
    chance, columns = np.random.Generator(np.random.PCG64(0)), []
    for side in Exponential(PULSES, 2.5, 4.0).staircase():
        g = side.numpy()
        varied = np.concatenate([[0.0], np.cumsum(np.diff(g) * (1 + SPREAD * chance.uniform(-(3**0.5), 3**0.5, PULSES)))])
        columns.append(LOW + (HIGH - LOW) * (g[0] + varied / abs(varied[-1])))
    rows = [[pulse, f"{up:.4f}", f"{down:.4f}"] for pulse, (up, down) in enumerate(zip(*columns, strict=True))]
    write(folder / "device-curve.csv", ["pulse", "ltp", "ltd"], rows)


def tasks(folder: Path) -> None:
    """Write three tasks, each to tell two digits apart. The images are given as pixels from 0 to 1 with two decimals."""
    images = datasets.load("digits-8x8")
    for pair in PAIRS:
        chosen = np.flatnonzero(np.isin(images.y_train, pair))[:ROWS]
        rows = [
            [
                *(f"{pixel / 16:.2f}".rstrip("0").rstrip(".") for pixel in images.x_train[i].flatten()),
                pair.index(images.y_train[i]),
            ]
            for i in chosen
        ]
        names = [f"pixel{k}" for k in range(64)]
        write(folder / "tasks" / f"digits-{pair[0]}-{pair[1]}.csv", [*names, "label"], rows)


def adapter(folder: Path) -> None:
    """Write a LoRA of rank 4 on q_proj and v_proj of tiny-llama, trained on last-word for 80 steps."""
    tuner = Tuner(TuningConfig(method="lora", r=4, targets=("q_proj", "v_proj"), data="last-word", lr=0.003, steps=80))
    losses = [loss for _, loss in tuner.run()]
    made = save_adapter(tuner.model, folder / "adapter") / CONFIG
    about = json.loads(made.read_text()) | {"base_model_name_or_path": "tiny-llama"}  # instead of a path on this machine
    made.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    print(f"adapter: loss {losses[0]:.2f} in the first step, {losses[-1]:.2f} in the last")


def make(folder: Path) -> None:
    curve(folder)
    tasks(folder)


if __name__ == "__main__":
    make(HERE)
    adapter(HERE)
