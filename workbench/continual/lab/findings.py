"""The text and the tables on continual learning in README, without the table of claims."""

from __future__ import annotations

from workbench.continual.lab.colours import ACCURACY, STREAM_NAMES, STYLE
from workbench.findings import Findings, Table, declare

declare(
    "continual",
    Findings(
        "Continual learning with CLASSP",
        "The abstract of the CLASSP paper, the author's program, and secondary sources. The full text was not available to us.",
        "Full Fashion-MNIST and MNIST, a network of 784-100-100 units, batches of 32, one pass. Every method runs at the "
        "best of sixteen settings (learning rate and strength, or schedule). Three seeds choose the setting on validation "
        "samples, and five other seeds measure it. `workbench figures continual` computes everything again in an hour, and "
        "in 2.5 more the paper's pair of data sets at its own size.",
        main="sgd",
        sentence="After MNIST and then Fashion-MNIST, the mean accuracy of CLASSP on both is {found} percentage points above"
        " that of SGD. The claim that CLASSP is more accurate than SGD {state}.",
        part="MNIST then Fashion-MNIST",
        tables=(
            Table("Accuracy on all tasks in the end", "continual/rivals", ACCURACY, STYLE, "stream", lambda s: STREAM_NAMES[s]),
        ),
    ),
)
