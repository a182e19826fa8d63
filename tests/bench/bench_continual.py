"""Benchmarks of CLASSP's step against torch's fused optimizers, and of whole fits against Avalanche.

The results are ratios of times within one run. The contenders run in one thread and in turns.

make bench            # builds Avalanche's environment in .venv-peers/avalanche on the first call
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from report import Report
from rounds import PEERS, environment

from workbench.continual import CLASSP, fit, streams

TENSORS, ROUNDS, IN_A_ROW = (16, 12, 4)  # several steps in a row, so that the cache holds the data as in training

GOALS = {  # goals for CLASSP's step; the keys are the power and the number of weights
    (1, 2_000_000): "at most 0.6",
    (1, 16_000_000): "at most 0.75",
    (2, 2_000_000): "level",
    (2, 16_000_000): "level",
}
report = Report("continual")


def weights(count: int) -> list[torch.Tensor]:
    """Return `count` weights in several tensors, with gradients."""
    made = [torch.randn(count // TENSORS).requires_grad_() for _ in range(TENSORS)]
    for weight in made:
        weight.grad = 0.1 * torch.randn_like(weight)
    return made


def main() -> None:
    """Measure the time of one step of each optimizer in milliseconds, and its ratio to the time of AdamW."""
    torch.set_num_threads(1)
    for count in (16_000, 2_000_000, 16_000_000):
        optimizers = {
            "AdamW fused": torch.optim.AdamW(weights(count), 1e-3, fused=True),
            "Adagrad fused": torch.optim.Adagrad(weights(count), 1e-3, fused=True),
            "SGD fused": torch.optim.SGD(weights(count), 1e-3, fused=True),
            "CLASSP p=1": CLASSP(weights(count), 1e-3),
            "CLASSP p=1, threshold": CLASSP(weights(count), 1e-3, threshold=1e-3),
            "CLASSP p=2": CLASSP(weights(count), 1e-3, power=2.0),
            "CLASSP p=3": CLASSP(weights(count), 1e-3, power=3.0),
            "CLASSP loop": CLASSP(weights(count), 1e-3, form="loop"),
        }
        best = dict.fromkeys(optimizers, float("inf"))
        for _ in range(ROUNDS):
            for name, optimizer in optimizers.items():
                for _ in range(IN_A_ROW):
                    start = time.process_time()
                    optimizer.step()
                    best[name] = min(best[name], time.process_time() - start)
        print(f"{count:,} weights")
        for name, seconds in best.items():
            print(f"  {name:22} {1000 * seconds:8.3f} ms  {seconds / best['AdamW fused']:.2f} of AdamW fused")
        for power, other in ((1, "AdamW fused"), (2, "Adagrad fused"), (3, "AdamW fused")):
            report.row(
                f"One step of {count:,} weights: CLASSP, p = {power} / {other}",
                round(best[f"CLASSP p={power}"] / best[other], 2),
                goal=GOALS.get((power, count), ""),
            )
        for form, label in (
            ("CLASSP p=1, threshold", "p = 1, with a threshold"),
            ("CLASSP loop", "p = 1, as a loop over tensors"),
        ):
            report.row(
                f"One step of {count:,} weights: CLASSP, {label} / AdamW fused", round(best[form] / best["AdamW fused"], 2)
            )


PEER = PEERS / "avalanche"
PEER_VERSION = "0.6.0"
NAMES = {"sgd": "SGD", "ewc": "EWC", "replay": "replay"}
PEER_SCRIPT = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.training.supervised import EWC, Naive, Replay
from avalanche.training.plugins import EvaluationPlugin
torch.set_num_threads(1)
torch.manual_seed(0)
data = np.load(sys.argv[1])
count = int(data["count"])
def part(k, kind):
    x, y = torch.from_numpy(data[f"x_{kind}_{k}"]), torch.from_numpy(data[f"y_{kind}_{k}"])
    made = TensorDataset(x, y)
    made.targets = y.tolist()
    return as_classification_dataset(made)
benchmark = benchmark_from_datasets(train=[part(k, "train") for k in range(count)], test=[part(k, "test") for k in range(count)])
model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 2))
optimizer = torch.optim.SGD(model.parameters(), float(sys.argv[3]))
common = dict(model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), train_mb_size=32, train_epochs=1,
              eval_mb_size=1000, device="cpu", evaluator=EvaluationPlugin(loggers=[]))
made = {"naive": lambda: Naive(**common), "ewc": lambda: EWC(ewc_lambda=float(sys.argv[4]), mode="separate", **common),
        "replay": lambda: Replay(mem_size=200, **common)}[sys.argv[2]]()
start = time.process_time()
for experience in benchmark.train_stream:
    made.train(experience)
seconds = time.process_time() - start
with torch.no_grad():
    right = [(model(torch.from_numpy(data[f"x_test_{k}"])).argmax(1).numpy() == data[f"y_test_{k}"]).mean() for k in range(count)]
print(json.dumps({"seconds": seconds, "accuracy": sum(right) / count}))
"""


def peer(folder: Path) -> None:
    """Measure EWC, replay and plain SGD against Avalanche 0.6.0 with the same network and data, in one thread and in turns."""
    if not environment(PEER, ["torch==2.13.0"], [f"avalanche-lib=={PEER_VERSION}"]):
        return
    stream = streams.load("split-fashion-mnist-10k", samples=1400)
    arrays = {
        f"{part}_{k}": getattr(task, part).numpy()
        for k, task in enumerate(stream.tasks)
        for part in ("x_train", "y_train", "x_test", "y_test")
    }
    path, script = folder / "tasks.npz", folder / "peer.py"
    np.savez(path, count=len(stream.tasks), **arrays)
    script.write_text(PEER_SCRIPT)
    lr, strength = 0.03, 10.0
    for ours, theirs in (("sgd", "naive"), ("ewc", "ewc"), ("replay", "replay")):
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(3):
            start = time.process_time()
            found = fit(stream, ours, lr=lr, strength=strength, watch=0)
            seconds["ours"].append(time.process_time() - start)
            command = [str(PEER / "bin" / "python"), str(script), str(path), theirs, str(lr), str(strength)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print("the peer failed:", (done.stderr.strip().splitlines() or ["no word"])[-1])
                return
            peers = json.loads(done.stdout.strip().splitlines()[-1])
            seconds["theirs"].append(peers["seconds"])
        mine, other = (statistics.median(seconds[name]) for name in ("ours", "theirs"))
        print(
            f"{ours:7} ours {mine:5.2f} s, {100 * found.metrics['ACC']:.1f} %; Avalanche {other:5.2f} s, "
            f"{100 * peers['accuracy']:.1f} %: {mine / other:.2f} of its time"
        )
        report.row(
            f"Fit of 784-100-100, {NAMES[ours]}: ours / Avalanche's",
            round(mine / other, 2),
            remark=f"accuracy {100 * found.metrics['ACC']:.1f} %, Avalanche's {100 * peers['accuracy']:.1f} %",
            versions={"Avalanche": PEER_VERSION},
        )


if __name__ == "__main__":
    main()
    with tempfile.TemporaryDirectory() as made:
        peer(Path(made))
