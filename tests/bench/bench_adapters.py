"""Benchmarks of adapters against PEFT 0.21.2 on the same layers and the same model.

The results are ratios of times within one run. The contenders run in one thread and in turns.

make bench            # PEFT is in the development environment, because the parity tests need it
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable

import peft
import torch
from report import Report
from torch import Tensor, nn

from workbench import models, qa
from workbench.adapters import AdapterConfig, add_adapter
from workbench.adapters.attach import adapted
from workbench.adapters.lab.microscope import examine
from workbench.adapters.lab.tuning import Tuner, TuningConfig

ROUNDS = 12
STEP_GOALS = {
    "MiSS": "at most 0.85",
    "Bat-row": "at most 0.65",
    "MiSS, bf16 base": "at most 0.5",
    "Bat-row, bf16 base": "at most 0.5",
}
VERSIONS = {"PEFT": peft.__version__}
report = Report("adapters")


class One(nn.Module):
    """A model with a single linear layer in a list of blocks, which is the structure that both libraries expect."""

    def __init__(self, width: int):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(width, width, bias=False)])

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the layer."""
        return self.blocks[0](x)


def theirs(model: nn.Module, method: str, r: int, targets: list[str]) -> nn.Module:
    """Return `model` with PEFT's adapter of the given method. PEFT's Bat is our Bat-col."""
    kinds: dict[str, Callable[[], peft.PeftConfig]] = {
        "miss": lambda: peft.MissConfig(r=r, target_modules=targets),
        "bat": lambda: peft.MissConfig(r=r, init_weights="bat", target_modules=targets),
        "lora": lambda: peft.LoraConfig(r=r, lora_alpha=2 * r, target_modules=targets),
        "dora": lambda: peft.LoraConfig(r=r, lora_alpha=2 * r, use_dora=True, target_modules=targets),
    }
    return peft.get_peft_model(model, kinds[method]())


def kept(model: nn.Module, x: Tensor) -> float:
    """Return the memory in MiB that a forward pass keeps for the gradient, in addition to the parameters and the input."""
    sizes: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = model(x)
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), x)}
    found = sum(size for place, size in sizes.items() if place not in own) / 2**20
    y.sum().backward()
    return found


def interleaved(runs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median CPU time of each of `runs` in milliseconds. They run in turns, and the first two rounds do not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number >= 2:
                times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def one_layer(width: int = 1024, tokens: int = 256, r: int = 64) -> None:
    """Measure the forward and backward pass of one layer: the time that each method adds to the frozen layer, and its memory."""
    base, x = One(width), torch.randn(tokens, width, requires_grad=True)
    half = r // 2
    made = {
        "frozen": copy.deepcopy(base).requires_grad_(False),
        "PEFT LoRA": theirs(copy.deepcopy(base), "lora", half, ["blocks.0"]),
        "LoRA": add_adapter(copy.deepcopy(base), AdapterConfig(method="lora", r=half)),
        "PEFT DoRA": theirs(copy.deepcopy(base), "dora", half, ["blocks.0"]),
        "DoRA": add_adapter(copy.deepcopy(base), AdapterConfig(method="dora", r=half)),
        "PEFT MiSS": theirs(copy.deepcopy(base), "miss", r, ["blocks.0"]),
        "MiSS": add_adapter(copy.deepcopy(base), AdapterConfig(method="miss", r=r)),
        "PEFT Bat": theirs(copy.deepcopy(base), "bat", r, ["blocks.0"]),
        "Bat-col": add_adapter(copy.deepcopy(base), AdapterConfig(method="bat-col", r=r)),
        "Bat-row": add_adapter(copy.deepcopy(base), AdapterConfig(method="bat-row", r=r)),
    }
    memory = {name: kept(model, x) for name, model in made.items()}
    times = interleaved({name: lambda model=model: model(x).sum().backward() for name, model in made.items()})
    frozen, bat = times["frozen"], times["PEFT Bat"] - times["frozen"]
    print(f"layer of {width} x {width}, {tokens} tokens, r = {r} (LoRA {half}); forward and backward")
    for name, took in times.items():
        over = took - frozen
        print(
            f"  {name:10} {took:7.2f} ms, {over:6.2f} over the frozen layer ({over / bat:5.2f} of PEFT Bat's); "
            f"keeps {memory[name]:6.2f} MiB"
        )
    usual = (width, tokens, r) == (1024, 256, 64)
    for name, took in times.items():
        layer = f"Layer of {width} x {width}, {tokens:,} tokens, r = {r}"
        if name not in ("frozen", "PEFT Bat"):
            goal = "at most 0.25" if usual and name == "Bat-row" else ""
            report.row(
                f"{layer}, time added to the frozen layer's: {name} / PEFT's Bat",
                round((took - frozen) / bat, 2),
                goal=goal,
                versions=VERSIONS,
            )
        if usual and name != "frozen":
            goal = "less than 4 MiB (no buffer of the weight's size)" if name in ("Bat-row", "Bat-col", "DoRA") else ""
            report.row(f"{layer}, memory kept for the gradient: {name}", f"{memory[name]:.2f} MiB", goal=goal, versions=VERSIONS)


class Step:
    """A training step of a model on four samples of 128 tokens. The loss is computed on 64 tokens of each sample.

    If `gathered` is true, logits are computed only for these tokens. Otherwise, the model itself computes its loss.
    """

    def __init__(self, model: nn.Module, gathered: bool):
        self.model, self.gathered = model.train(), gathered
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1000, 40_000, (4, 128), generator=generator)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, 1e-4)

    def __call__(self) -> None:
        """Perform one training step."""
        if self.gathered:
            hidden = qa.hidden_states(self.model, self.ids)[:, 63:-1]
            logits = self.model.get_output_embeddings()(hidden.flatten(0, 1)).float()
            loss = nn.functional.cross_entropy(logits, self.ids[:, 64:].flatten())
        else:
            labels = self.ids.clone()
            labels[:, :64] = -100
            loss = self.model(input_ids=self.ids, labels=labels).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def smollm2() -> None:
    """Measure a whole training step of SmolLM2.

    Our adapters compute only the logits of the answers, as `tuning` does. With PEFT's adapters, the model computes its own loss.
    """
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    full = models.shared(models.SMOLLM2)
    small = models.shared(models.SMOLLM2, torch.bfloat16)
    runs = {
        "PEFT MiSS": Step(theirs(models.shallow_copy(full).model, "miss", 32, targets), gathered=False),
        "MiSS": Step(add_adapter(models.shallow_copy(full).model, AdapterConfig(method="miss", r=32)), gathered=True),
        "MiSS, bf16 base": Step(add_adapter(models.shallow_copy(small).model, AdapterConfig(method="miss", r=32)), gathered=True),
        "PEFT Bat": Step(theirs(models.shallow_copy(full).model, "bat", 32, targets), gathered=False),
        "Bat-row": Step(add_adapter(models.shallow_copy(full).model, AdapterConfig(method="bat-row", r=32)), gathered=True),
        "Bat-row, bf16 base": Step(
            add_adapter(models.shallow_copy(small).model, AdapterConfig(method="bat-row", r=32)), gathered=True
        ),
    }
    times = interleaved(runs, 5)
    print("SmolLM2-135M, a step of 4 x 128 tokens, half of them answers")
    for name, took in times.items():
        peer = times["PEFT Bat" if "Bat" in name else "PEFT MiSS"]
        print(f"  {name:18} {took:8.0f} ms  {took / peer:.2f} of PEFT's")
        if not name.startswith("PEFT"):
            report.row(
                f"One step of SmolLM2-135M: {name} / PEFT's {'Bat' if 'Bat' in name else 'MiSS'}",
                round(took / peer, 2),
                goal=STEP_GOALS[name],
                if_missed="all but a tenth of the step is the frozen model's own" if name == "MiSS" else "",
                versions=VERSIONS,
            )


def tuned() -> None:
    """Measure the steps of `Tuner` on the tiny models, which determine the time of a comparison."""
    for model in (models.TINY, models.TINY_RWKV6):
        tuner = Tuner(TuningConfig(model=model, steps=25))
        start = time.process_time()
        for _ in tuner.run():
            pass
        took = 40 * (time.process_time() - start)
        print(f"{model}: {took:.0f} ms a step of 16 sums")
        report.row(f"One step of 16 sums, MiSS, {model}", f"{took:.0f} ms")


def microscope() -> None:
    """Measure `examine` on all 210 layers of an adapter of SmolLM2, with two threads, as the experiment uses them."""
    torch.set_num_threads(2)
    for method in ("miss", "bat-row", "lora"):
        lm = models.shared(models.SMOLLM2)
        model = add_adapter(models.shallow_copy(lm).model, AdapterConfig(method=method, r=16))
        for p in (p for p in model.parameters() if p.requires_grad):
            p.data += 0.01 * torch.randn_like(p)
        start = time.perf_counter()
        found = [examine(layer) for layer in adapted(model).values()]
        took = time.perf_counter() - start
        print(f"microscope, {method}: {len(found)} layers of SmolLM2-135M in {took:.1f} s")
        name = {"miss": "MiSS", "bat-row": "Bat-row", "lora": "LoRA"}[method]
        report.row(f"Microscope on the {len(found)} layers of SmolLM2-135M: {name}", f"{took:.1f} s", goal="at most 5 s")
    torch.set_num_threads(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    only = sys.argv[1:]
    for part in (one_layer, smollm2, tuned, microscope):
        if not only or part.__name__ in only:
            part()
    if not only or "sizes" in only:
        for tokens, r in ((16, 64), (1024, 64), (256, 16), (256, 128)):
            one_layer(tokens=tokens, r=r)
