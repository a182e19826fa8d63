"""The text and the tables on adapters for README.md and data/reference/README.md, apart from the verdicts on the claims."""

from __future__ import annotations

from workbench.adapters.lab.colours import LOSS, STYLE
from workbench.findings import Findings, Table, declare

RATES = {"shared": "all at the learning rate 0.001", "own": "each at its best learning rate"}

declare(
    "adapters",
    Findings(
        "Adapters: Bone (MiSS and Bat)",
        "The Bone paper in full, in all its versions, and the programs of its authors and of PEFT.",
        "The questions are sums of two and three numbers. The training takes 300 steps of 16 questions (200 steps on RWKV-6, 100 "
        "on SmolLM2-135M). Every method except full fine-tuning trains about as many parameters as MiSS at r = 16. Two seeds "
        "choose the best of five learning rates for each method on held-out questions. Five other seeds then measure the loss "
        "on test questions. On SmolLM2-135M, one seed chooses and three others measure. The intervals are over the measuring "
        "seeds. They would be wider by 0.012 nats per token if we also resampled the 500 test questions. The tiny models answer "
        "only one sum in twenty-five exactly, so we compare the loss. `workbench figures adapters` computes everything again in "
        "about three hours.",
        main="fit",
        sentence="We trained MiSS and LoRA, each at its best learning rate, on the tiny llama, a bundled language model with "
        "one million weights. The test loss of LoRA minus that of MiSS is {found} nats per token. The claim that MiSS has the "
        "lower loss {state}.",
        part="",
        tables=(
            Table("Tiny llama", "adapters/methods", LOSS, STYLE, "rates", RATES.__getitem__),
            Table("Tiny RWKV-6", "adapters/rwkv", LOSS, STYLE, "rates", RATES.__getitem__),
            Table("SmolLM2-135M", "adapters/smollm2", LOSS, STYLE, "rates", RATES.__getitem__),
        ),
    ),
)
