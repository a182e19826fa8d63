"""Benchmarks of the layer solver: methods, recursion, comparison with llm-compressor, and memory for different sizes n.

    make bench            # builds the peer's environment in .venv-peers/llmcompressor on the first call

Times are compared as ratios within one run. They are medians over several rounds, and in each round the contenders run one after
another. So a disturbance of the machine affects all of them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import Report
from rounds import PEERS, environment, medians

import workbench.quantization.fast_solver as solver_module
from workbench.quantization import SolverConfig, layer_solver, layer_statistics, quantize_layer

PEER = PEERS / "llmcompressor"
THREADS, ROUNDS = 2, 7
PEER_VERSION = "0.14.0.1"
NAMES = {
    "rtn": "round to nearest",
    "gptq": "GPTQ",
    "gptq+rescomp": "GPTQ + ResComp",
    "gptaq": "GPTAQ",
    "gptaq+rescomp": "GPTAQ + ResComp",
    "exact": "GPTQ after the exact shift",
}
report = Report("quantization")


def problem(n: int, tokens: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weight, Hessian and cross statistics of a random layer with correlated inputs. All are n x n matrices in float32."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(n, n, generator=generator) / n**0.5
    x = torch.randn(tokens or 2 * n, n, generator=generator) @ mix
    other = x + 0.1 * torch.randn(x.shape, generator=generator) @ mix
    return 0.02 * torch.randn(n, n, generator=generator), *layer_statistics(x, other)


def loop_of(weight, hessian, cross, method: str, leaf: int):
    """Return a function that times only the column loop, which is the part that recursion changes.

    `leaf` is the largest number of columns that the recursion does not divide further.
    """

    def run() -> None:
        solver_module.LEAF = leaf
        solver = layer_solver(weight, hessian, cross, SolverConfig(method=method))
        start = time.perf_counter()
        for _ in solver.steps():
            pass
        run.seconds = time.perf_counter() - start
        solver_module.LEAF = 16

    return run


def loops(weight, hessian, cross, method: str) -> tuple[float, float]:
    """Return the median times of the column loop in seconds: with recursion, and with flat blocks of 128 columns."""
    recursive, flat = (loop_of(weight, hessian, cross, method, 16), loop_of(weight, hessian, cross, method, 128))
    found: dict[str, list[float]] = {"recursive": [], "flat": []}
    for index in range(ROUNDS + 1):
        for name, run in (("recursive", recursive), ("flat", flat)):
            run()
            if index:
                found[name].append(run.seconds)
    return statistics.median(found["recursive"]), statistics.median(found["flat"])


TWO_TERMS = "with two terms, the matrix products, which are the same in both forms, take twice as large a part"


def methods(n: int) -> None:
    """Measure all methods against GPTQ, ResComp against GPTAQ, and recursion against flat blocks of 128 columns."""
    weight, hessian, cross = problem(n)
    runs = {
        m: (lambda m=m: quantize_layer(weight, hessian, cross, method=m))
        for m in ("rtn", "gptq", "gptq+rescomp", "gptaq", "gptaq+rescomp", "exact")
    }
    seconds = medians(runs)
    for name, value in seconds.items():
        print(f"  {name:15} {value:6.3f} s, {value / seconds['gptq']:.2f} of gptq")
    print(f"ResComp / GPTAQ, whole solver: {seconds['gptaq+rescomp'] / seconds['gptaq']:.2f} (goal: at most 1.1)")
    print(f"ResComp / GPTQ, on gptq:       {seconds['gptq+rescomp'] / seconds['gptq']:.2f}")
    whole = f"Whole solver, n = {n}: "
    report.row(f"{whole}GPTAQ + ResComp / GPTAQ", round(seconds["gptaq+rescomp"] / seconds["gptaq"], 2), goal="at most 1.1")
    for name, value in seconds.items():
        if name != "gptq":
            report.row(f"{whole}{NAMES[name]} / GPTQ", round(value / seconds["gptq"], 2))
    for method in ("gptq", "gptaq", "gptaq+rescomp"):
        recursive, flat = loops(weight, hessian, cross, method)
        print(f"recursive / flat 128, {method:14} {recursive / flat:.2f} (goal: at most 0.7), loop {recursive:.3f} s")
        report.row(
            f"Column loop, n = {n}, {NAMES[method]}: recursive / flat blocks of 128",
            round(recursive / flat, 2),
            goal="at most 0.7",
            if_missed="" if method == "gptq" else TWO_TERMS,
        )


PEER_SCRIPT = """
import json, sys, time, torch
from safetensors.torch import load_file
from compressed_tensors.quantization import QuantizationArgs
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
torch.set_num_threads(int(sys.argv[3]))
data = load_file(sys.argv[1])
args = QuantizationArgs(num_bits=3, type="int", symmetric=True, strategy="channel")
scale, zero, seconds = data["scale"][None], torch.zeros_like(data["scale"])[None], []
for _ in range(int(sys.argv[2]) + 1):
    weight, hessian = data["weight"][None].clone(), data["hessian"][None].clone()
    start = time.perf_counter()
    out = quantize_weight(weight, hessian, scale, zero, None, args, blocksize=128, percdamp=0.01)[0][0]
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds[1:], "differ": (out - data["ours"]).abs().gt(1e-6).double().mean().item()}))
"""


def peer_environment() -> bool:
    """Build the environment of llm-compressor, unless it exists, and return whether it is ready."""
    return environment(
        PEER,
        ["torch==2.13.0"],
        ["--no-deps", f"llmcompressor=={PEER_VERSION}", "compressed-tensors==0.19.0", "auto-round==0.15.1"],
        ["transformers>=5.15,<5.18", "datasets", "accelerate", "loguru", "pydantic", "pyyaml", "tqdm", "pillow", "requests",
         "nvidia-ml-py", "py-cpuinfo", "threadpoolctl"],
    )  # fmt: skip


def peer(n: int) -> None:
    """Measure GPTQ against llm-compressor's eager CPU solver on the same layer with the same scales, in turns."""
    if not peer_environment():
        return
    from safetensors.torch import save_file

    weight, hessian, _ = problem(n)
    ours = quantize_layer(weight, hessian, method="gptq")
    ratios, mines = [], []
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "layer.safetensors", Path(folder) / "peer.py"
        save_file({"weight": weight, "hessian": hessian, "scale": ours.scale.contiguous(), "ours": ours.weight}, path)
        script.write_text(PEER_SCRIPT)
        for _ in range(5):
            command = [str(PEER / "bin" / "python"), str(script), str(path), "3", str(THREADS)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print("the peer failed:", done.stderr.strip().splitlines()[-1])
                return
            found = json.loads(done.stdout.strip().splitlines()[-1])
            theirs = statistics.median(found["seconds"])
            mine = medians({"gptq": lambda: quantize_layer(weight, hessian, method="gptq")}, 3)["gptq"]
            ratios.append(mine / theirs)
            mines.append(mine)
            print(f"  ours {mine:.3f} s, llm-compressor {theirs:.3f} s, {found['differ']:.2%} of the codes differ (ties)")
    print(f"GPTQ / llm-compressor {PEER_VERSION}, n=m={n}: {statistics.median(ratios):.2f} (goal: at most 0.5)")
    report.row(
        f"Whole solver, n = {n}: GPTQ / llm-compressor's eager CPU solver, with the same Hessian, scales and codes",
        round(statistics.median(ratios), 2),
        goal="at most 0.5",
        if_missed=f"the factorisation, for which both call the same library, is part of our {statistics.median(mines):.2f} s",
        versions={"llm-compressor": PEER_VERSION},
    )


MEMORY = """
import re, sys, time, torch
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from bench_quantization import problem
from workbench.quantization import quantize_layer
torch.set_num_threads(2)
n, method = int(sys.argv[1]), sys.argv[2]
weight, hessian, cross = problem(n)
quantize_layer(weight[:64, :64], hessian[:64, :64], cross[:64, :64], method=method)
status = lambda key: int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
before, start = status("VmRSS"), time.perf_counter()
quantize_layer(weight, hessian, cross, method=method)
print(time.perf_counter() - start, (status("VmHWM") - before) / 1024 / (n * n * 4 / 2**20))
"""


def scaling() -> None:
    """Measure time and additional peak memory (in n x n float32 matrices) for different n, each in a separate process."""
    for method in ("gptq", "gptaq", "gptaq+rescomp"):
        for n in (512, 1024, 2048, 4096):
            command = [sys.executable, "-c", MEMORY, str(n), method, str(Path(__file__).parent)]
            seconds, matrices = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            print(f"  {method:15} n=m={n}: {float(seconds):7.3f} s, peak {float(matrices):4.1f} n x n matrices beyond its inputs")
            report.row(
                f"Whole solver in a process of its own, {NAMES[method]}, n = {n}",
                f"{float(seconds):.2f} s",
                memory=f"{float(matrices):.1f} n x n matrices beyond the inputs",
                threads=THREADS,
            )


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    print(f"torch {torch.__version__}, {THREADS} threads, 3 bits, n=m=2048")
    methods(2048)
    peer(2048)
    scaling()
