"""The text and the table about networks of memory devices that precede the claims in the README of the reference records."""

from __future__ import annotations

from workbench.findings import Findings, Table, declare
from workbench.plotting import greek
from workbench.synapse.lab.figures import ACCURACY, STYLE

declare(
    "synapse",
    Findings(
        "Networks of electronic synapse devices",
        "Only the abstract of the paper, related papers by the same authors, and secondary sources. The full text is not public. "
        "So the circuit, the update rule and the refresh are inferred, and nothing here reproduces the paper's own numbers.",
        "The network has 196 inputs, 100 hidden units and 10 outputs, and its devices have 64 levels. It is trained on 20,000 "
        "digits of the full MNIST at 14 x 14 pixels, with batch size 1. Every scheme runs at the best of four learning rates "
        "(0.003 to 0.1). Two seeds choose the learning rate on held-out training digits, and five other seeds measure the "
        "accuracy at this rate on test digits. `workbench figures synapse` computes all results again in a quarter of an hour.",
        main="abrupt",
        sentence="Unidirectional updating sends only pulses that raise a conductance; push-pull updating also sends pulses that "
        "lower one. If these change a conductance abruptly, unidirectional updating is {found} percentage points more accurate "
        "than push-pull updating. The claim that it is more accurate than every tested scheme with such pulses {state}.",
        part="abrupt LTD: uni minus push-pull",
        tables=(Table("Test accuracy by the response of the devices", "synapse/schemes", ACCURACY, STYLE, "response", greek),),
    ),
)
