"""Benchmarks of the training of device networks: against aihwkit, against the readable form, in batches, and by width.

    make bench            # builds aihwkit's environment in .venv-peers/aihwkit on the first call

Speeds are compared as ratios within one run. aihwkit trains the same network (784-250-125-10, clipped activations, error =
target - output) on the same digits, with a linear device of the same 64 levels and the same coincidence rule. Both libraries read
weights without noise, and run in one thread and in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from report import Report
from rounds import PEERS, environment, medians

from workbench.digits import load_digits
from workbench.provenance import cores
from workbench.synapse import Perceptron, SynapseConfig
from workbench.synapse.training import digits_of, train, warm_up

PEER = PEERS / "aihwkit"
PEER_VERSION = "1.1.0"
report = Report("synapse")
WIDE = {"data": "mnist-10k", "pool": 1, "hidden": "250,125", "rate": 0.01, "rule": "coincidence"}

PEER_SCRIPT = """
import json, sys, time, numpy as np, torch
from aihwkit.nn import AnalogLinear
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import OneSidedUnitCell, SingleRPUConfig, UnitCellRPUConfig
from aihwkit.simulator.configs.devices import LinearStepDevice
torch.set_num_threads(1)
torch.manual_seed(0)
path, samples, batch, kind = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
data = np.load(path)
x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
quiet = dict(dw_min_dtod=0.0, dw_min_std=0.0, w_max_dtod=0.0, w_min_dtod=0.0, up_down_dtod=0.0, gamma_up=0.0, gamma_down=0.0,
             gamma_up_dtod=0.0, gamma_down_dtod=0.0)
layers = []
for n, m, scale in ((784, 250, 0.25), (250, 125, 0.4427), (125, 10, 0.8944)):
    device = LinearStepDevice(dw_min=2 * scale / 64, w_max=scale, w_min=-scale, **quiet)
    if kind == "one-sided":
        config = UnitCellRPUConfig(device=OneSidedUnitCell(unit_cell_devices=[device], refresh_every=1000, units_in_mbatch=False,
                             refresh_upper_thres=0.9, refresh_lower_thres=0.0))
    else:
        config = SingleRPUConfig(device=device)
    config.forward.is_perfect = config.backward.is_perfect = True
    config.mapping.weight_scaling_omega = 0.0
    layers.append(AnalogLinear(n, m, bias=False, rpu_config=config))
optimizer = AnalogSGD([p for layer in layers for p in layer.parameters()], lr=0.01)
def step(x, y):
    optimizer.zero_grad()
    for layer in layers[:-1]:
        x = layer(x).clamp(0, 1)
    z = layers[-1](x)
    target = torch.nn.functional.one_hot(y, 10).float()
    error = ((z + 0.5).clamp(0, 1) - target).detach()
    (z * error).sum().backward()
    optimizer.step()
    return (z.argmax(1) == y).sum().item()
for s in range(0, 10 * batch, batch):
    step(x[s : s + batch], y[s : s + batch])
start, right = time.perf_counter(), 0
for s in range(0, samples, batch):
    right += step(x[s : s + batch], y[s : s + batch])
print(json.dumps({"seconds": time.perf_counter() - start, "right": right / samples}))
"""


def against_aihwkit() -> None:
    """Measure the samples per second of our networks and of aihwkit's, at batch sizes 1 and 32."""
    if not environment(PEER, ["torch==2.10.0", f"aihwkit=={PEER_VERSION}"]):
        return
    data = load_digits("mnist-10k", 1)
    cases = (
        ("one device, reference", "single", {"scheme": "reference"}),
        ("one-sided pair, refresh", "one-sided", {"scheme": "uni"}),
    )
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "digits.npz", Path(folder) / "peer.py"
        np.savez(path, x=data.x.numpy(), y=data.labels.numpy())
        script.write_text(PEER_SCRIPT)
        for name, kind, knobs in cases:
            for batch, samples in ((1, 600), (32, 3200)):
                turns = [_turn(script, path, kind, knobs, batch, samples) for _ in range(3)]
                if None in turns:
                    return
                ours, theirs, right = (statistics.median(values) for values in zip(*turns, strict=True))
                goal = " (goal: at least 2)" if batch == 1 else ""
                print(
                    f"{name}, batch {batch}: ours {ours:,.0f}, aihwkit {theirs:,.0f} samples/s, ratio {ours / theirs:.1f}{goal}"
                )
                print(f"  (aihwkit had {right:.0%} right while it trained on {samples} samples)")
                report.row(
                    f"784-250-125-10, {name}, batch {batch}: our samples per second / aihwkit's",
                    round(ours / theirs, 1),
                    goal="at least 2" if batch == 1 else "",
                    remark=f"{ours:,.0f} and {theirs:,.0f} samples/s",
                    versions={"aihwkit": PEER_VERSION},
                )


def _turn(script: Path, path: Path, kind: str, knobs: dict, batch: int, samples: int) -> tuple[float, float, float] | None:
    command = [str(PEER / "bin" / "python"), str(script), str(path), str(samples), str(batch), kind]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        print("the peer failed:", (done.stderr.strip().splitlines() or ["no message"])[-1])
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    theirs = samples / found["seconds"]
    return rate_of(SynapseConfig(**WIDE, batch=batch, **knobs), 10 * samples), theirs, found["right"]


def rate_of(config: SynapseConfig, samples: int, compiled: bool = True) -> float:
    """Return the training speed of one network in one thread, in samples per second. The first 200 samples are not counted."""
    data = digits_of(config)
    network = Perceptron([data.x.shape[1], *config.hidden, 10], config)
    order = torch.arange(samples + 200) % len(data.x)
    network.train_samples(data.x, data.labels, order[:200], compiled)
    start = time.perf_counter()
    network.train_samples(data.x, data.labels, order[200:], compiled)
    return samples / (time.perf_counter() - start)


def against_the_readable_form() -> None:
    """Measure how much faster the compiled training loop is than the readable form."""
    for batch in (1, 32):
        config = SynapseConfig(**{**WIDE, "rule": "stochastic"}, batch=batch)
        fast, slow = rate_of(config, 5000), rate_of(config, 100, compiled=False)
        print(f"compiled {fast:,.0f}, readable {slow:,.0f} samples/s at batch {batch}, ratio {fast / slow:,.0f}")
        report.row(
            f"Samples per second, batch {batch}: compiled loop / readable form (same numbers but for rounding)",
            round(fast / slow),
        )


def many_designs(count: int = 32) -> None:
    """Measure one batched simulation of `count` device designs against the same number of single runs."""
    base = {"data": "mnist-10k", "samples": 2000, "rate": 0.01, "hidden": "100"}
    configs = [SynapseConfig(**base, levels=16 + 4 * i, nonlinearity_up=i / 8, seed=i) for i in range(count)]
    seconds = medians(
        {"batched": lambda: train(*configs), "one after another": lambda: [train(config) for config in configs]}, rounds=5
    )
    one = SynapseConfig(**{**base, "samples": 100})
    readable = count * 2000 / rate_of(one, 200, compiled=False)
    command = [
        sys.executable,
        "-m",
        "workbench",
        "run",
        "synapse/train",
        "--set",
        "samples=2000",
        "--set",
        "every=2000",
        "--fresh",
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "WORKBENCH_RUNS": folder})
        process = time.perf_counter() - start
    batched = seconds["batched"]
    print(f"{count} designs of 196-100-10, 2,000 samples each, batched: {batched:.2f} s")
    single = seconds["one after another"]
    print(f"  / {count} compiled runs one after another in one process ({single:.2f} s): {batched / single:.2f}")
    print(f"  / {count} processes of `workbench run` ({process:.1f} s each): {batched / (count * process):.3f}")
    print(f"  / {count} runs of the readable form ({readable:.0f} s): {batched / readable:.4f}")
    for others, took in (
        ("runs of the readable form", readable),
        ("runs of the command line", count * process),
        ("compiled runs, one after another in one process", single),
    ):
        report.row(
            f"{count} designs of 196-100-10 in one batch / {count} {others}",
            float(f"{batched / took:.2g}"),
            goal="far less than 1",
            threads=min(count, cores()),  # the number of threads that train the designs does not depend on torch's
        )


def width() -> None:
    """Measure the samples per second for different widths of the hidden layer."""
    rates = {
        n: rate_of(SynapseConfig(**{**WIDE, "rule": "stochastic", "hidden": str(n)}), 4000) for n in (50, 100, 200, 400, 800)
    }
    print("784-n-10, batch 1: " + ", ".join(f"n = {n}: {rate:,.0f}/s" for n, rate in rates.items()))
    for n, rate in rates.items():
        report.row(f"Samples per second, 784-n-10, batch 1, n = {n}", round(rate))


MEMORY = """
import re, sys
from pathlib import Path
from workbench.synapse import SynapseConfig
from workbench.synapse.training import build, digits_of, order_of, warm_up
config = SynapseConfig(data="mnist-10k", pool=1, hidden="250,125", samples=1000, rate=0.01, step_spread=float(sys.argv[1]))
data = digits_of(config)
warm_up()
status = lambda key: int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
before = status("VmRSS")
network = build(config)
network.train_samples(data.x, data.labels, order_of(config, len(data.x)))
print((status("VmHWM") - before) / 1024)
"""


def memory() -> None:
    """Measure the peak memory of building and training a network, without data and code, in a separate process."""
    synapses = 784 * 250 + 250 * 125 + 125 * 10
    for name, spread in (("all devices alike", "0"), ("every device its own", "0.3")):
        done = subprocess.run([sys.executable, "-c", MEMORY, spread], capture_output=True, text=True, check=True)
        found = float(done.stdout)
        print(f"784-250-125-10, {name}: {found:.0f} MB, {found * 2**20 / synapses:.0f} bytes a synapse")
        report.row(f"784-250-125-10, {name}: building and training", memory=f"{found * 2**20 / synapses:.0f} bytes per synapse")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    warm_up()
    against_aihwkit()
    against_the_readable_form()
    many_designs()
    width()
    memory()
