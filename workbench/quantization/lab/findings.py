"""The text about quantization in the README of the reference records. The table of claims (the ledger) is not part of it."""

from __future__ import annotations

from workbench.findings import Findings, declare

declare(
    "quantization",
    Findings(
        "Quantization of single layers with ResComp",
        "The full papers of GPTQ, GPTAQ and ResComp, and the published programs of GPTAQ and ResComp.",
        "We quantize layers of SmolLM2-135M in float64. The weights of this model come from a 4-bit file (asymmetric, groups "
        "of 32). Quantization to the same format would not change them, so this setting is refused. Each method is measured "
        "five times, each time with another calibration sample. For claims on several layers, the intervals are over 8 layers. "
        "For claims on one layer (block 2, o_proj), they are over the calibration samples. Everything is measured on single "
        "layers, but the paper reports its gains for whole models. `workbench figures quantization` computes everything again "
        "in about half an hour.",
        main="rescomp",
        sentence="GPTAQ changes the weights that are not rounded yet, to keep the output of the layer close to that of the "
        "original model. With the additional correction of ResComp, the error of this output on held-out text is {found} times "
        "as large as without it (single layers, 3 bits). The claim that the correction lowers the error {state}.",
        part="held-out error of gptq + r1 + r2 relative to gptq + r1, 3 bits",
    ),
)
