"""The text and the tables on adapters in README, apart from the ledger of claims."""

from __future__ import annotations

from workbench.adapters.lab.colours import LOSS, STYLE
from workbench.findings import Findings, Table, declare

RATES = {"shared": "all at the learning rate 0.001", "own": "each at its best learning rate"}

declare(
    "adapters",
    Findings(
        "Adapters: Bone (MiSS and Bat)",
        "The Bone paper in full, in all its versions, and the programs of its authors and of PEFT.",
        "Sums of two and three numbers, 300 steps of 16 questions (200 on RWKV-6, 100 on SmolLM2-135M), with as many trained"
        " numbers as MiSS at r = 16. Every method runs at the best of five learning rates. Two seeds choose the rate on "
        "held-out questions, and five others measure it on test questions (SmolLM2-135M: one and three). The intervals are "
        "over seeds; resampling the 500 test questions as well would widen them by 0.012 nats per token. The tiny models "
        "answer one sum in twenty-five exactly, so the comparisons are of the loss. `workbench figures adapters` computes "
        "everything again in about three hours.",
        main="fit",
        sentence="With the learning rate that is best for each method, the test loss of MiSS on the tiny llama is {found} "
        "nats per token below that of LoRA. The claim that MiSS is better {state}.",
        part="",
        tables=(
            Table("Tiny llama", "adapters/methods", LOSS, STYLE, "rates", RATES.__getitem__),
            Table("Tiny RWKV-6", "adapters/rwkv", LOSS, STYLE, "rates", RATES.__getitem__),
            Table("SmolLM2-135M", "adapters/smollm2", LOSS, STYLE, "rates", RATES.__getitem__),
        ),
    ),
)
