"""The text and the tables about continual learning in the README of the reference records, apart from the ledger of claims."""

from __future__ import annotations

from workbench.continual.lab.colours import ACCURACY, STREAM_NAMES, STYLE
from workbench.findings import Findings, Table, declare

declare(
    "continual",
    Findings(
        "Continual learning with CLASSP",
        "The abstract of the CLASSP paper, the author's program, and secondary sources. The full text was not available to us. "
        "We know Algorithm 1 and equation 1 of the paper because the author shows them with the program.",
        "The data are the full sets Fashion-MNIST and MNIST. Split Fashion is Fashion-MNIST in five tasks of two classes each. "
        "The network is a perceptron with two hidden layers of 100 units. Each task is trained for one pass in batches of 32. "
        "Every method uses the best of sixteen settings (a learning rate, and a strength or schedule if the method has one). "
        "Three seeds choose the setting on validation samples, and five other seeds measure it on test samples. `workbench "
        "figures continual` computes everything again in about 3.5 hours, of which 2.5 hours are for the paper's pair of data "
        "sets at its full size.",
        main="sgd",
        sentence="After training on MNIST and then on Fashion-MNIST, the mean accuracy of CLASSP on both sets is {found} "
        "percentage points above that of SGD. The claim that CLASSP is more accurate than SGD {state}.",
        part="MNIST then Fashion-MNIST",
        tables=(Table("Final accuracy on all tasks", "continual/rivals", ACCURACY, STYLE, "stream", lambda s: STREAM_NAMES[s]),),
    ),
)
