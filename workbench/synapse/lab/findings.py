"""The texts about networks of memory devices for README, in addition to the table of claims."""

from __future__ import annotations

from workbench.findings import Findings, Table, declare
from workbench.plotting import greek
from workbench.synapse.lab.figures import ACCURACY, STYLE

declare(
    "synapse",
    Findings(
        "Networks of electronic synapse devices",
        "Only the abstract of the paper, sibling papers and secondary sources. The full text is not public, so the circuit, "
        "the update rule and the refresh are inferred, and nothing here reproduces the paper's own numbers.",
        "Full MNIST at 14 x 14 pixels, a network of 196-100-10 units, devices with 64 levels, batch 1, 20,000 samples. Every"
        " scheme runs at the best of four learning rates (0.003 to 0.1). Two seeds choose the rate on held-out training "
        "digits, and five others measure it on test digits. `workbench figures synapse` computes everything again in a "
        "quarter of an hour.",
        main="abrupt",
        sentence="If the steps down are abrupt, unidirectional updating is {found} percentage points more accurate than "
        "push-pull updating. The claim that it beats all schemes with steps down {state}.",
        part="abrupt LTD: uni minus push-pull",
        tables=(Table("Test accuracy by the response of the devices", "synapse/schemes", ACCURACY, STYLE, "response", greek),),
    ),
)
