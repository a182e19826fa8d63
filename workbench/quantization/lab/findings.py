"""The text about quantization, besides the ledger, in the README of the reference records."""

from __future__ import annotations

from workbench.findings import Findings, declare

declare(
    "quantization",
    Findings(
        "Quantization of single layers with ResComp",
        "The papers of GPTQ, GPTAQ and ResComp in full, and the published programs of GPTAQ and ResComp.",
        "Layers of SmolLM2-135M, in float64. The model's weights come from a 4-bit file, so 4 bits in asymmetric groups of "
        "32 is refused. Each method uses five calibration samples. The intervals are over 8 layers, or, where the claim says"
        " so, over samples of one layer (block 2, o_proj). Everything is measured on single layers; the paper reports its "
        "gains for whole models. `workbench figures quantization` computes everything again in about half an hour.",
        main="rescomp",
        sentence="With the correction of ResComp, the output error of GPTAQ on held-out text is {found} times as large as "
        "without it (single layers, 3 bits). The claim that the correction lowers the error {state}.",
        part="held-out error of gptq + r1 + r2 relative to gptq + r1, 3 bits",
    ),
)
