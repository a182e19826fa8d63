"""The claims of the paper, and some of our own, with the checks that judge them.

data/papers/adapters.csv lists numbers from the papers, and how each was obtained. Methods are compared seed by seed: in a
comparison, all trainings with the same seed see the same questions in the same order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.adapters.lab.colours import FORGETTING, LOSS, NAMES
from workbench.adapters.lab.study_figures import share_of_steps
from workbench.experiment import Record
from workbench.intervals import interval, scores
from workbench.measures import at, better
from workbench.papers import Claim, declare
from workbench.verdicts import Finding, Verdict, undecidable, verdict

Check = Callable[[list[Record]], Verdict]


def _said(one: str, over: str, place: str | None) -> str:
    return f"advantage of {NAMES[one]} over {NAMES[over]} (test loss):"


def _below(one: str, over: str, rates: str | None = None) -> Check:
    """Return a check that the test loss of the method `one` is lower than that of the method `over`.

    If `rates` is "shared", all methods have the same learning rate. If it is "own", each method has the learning rate that is
    best for it. None is for a comparison that does not distinguish the two.
    """
    return better(LOSS, one, over, say=_said, **({"rates": rates} if rates else {}))


def _faster(records: list[Record]) -> Verdict:
    """Check that MiSS reaches the final loss of LoRA before the last step, with both at their best learning rates."""
    share = share_of_steps(records, "miss", "lora")
    if not len(share):
        return Verdict("open", "no loss curves were recorded")
    return verdict(Finding("share of the steps until MiSS reaches LoRA's final loss:", interval(share), high=1.0))


def _memory(records: list[Record]) -> Verdict:
    """Check that MiSS stores fewer bytes for the backward pass than LoRA, and that its peak memory is lower, too."""
    found = []
    for column, words in (("kept_bytes", "memory kept for the backward pass"), ("peak_bytes", "peak memory")):
        lora, miss = (scores(records, column, label=label, rates="own") / 2**20 for label in ("lora", "miss"))
        found.append(Finding(f"{words} in MiB, LoRA minus MiSS (MiSS: {miss.mean():.1f}):", interval(lora - miss), low=0))
    return verdict(*found)


def _start(*others: str) -> Check:
    """Return a check that each of the methods `others` takes longer to initialise than MiSS."""

    def check(records: list[Record]) -> Verdict:
        found = []
        for other in others:
            times = [scores(records, "init_seconds", label=label, rates="own") for label in (other, "miss")]
            ratio = np.log(times[0] / times[1])
            found.append(Finding(f"ln(initialisation time of {NAMES[other]} / MiSS):", interval(ratio), low=0))
        return verdict(*found)

    return check


def _step(records: list[Record]) -> Verdict:
    """Check the average change of a weight in the first step.

    With MiSS, it must equal the learning rate within 2 %. With LoRA, it must be less than half of the learning rate.
    """
    sizes = {label: scores(records, "step_size", label=label, rates="own") for label in ("miss", "lora")}
    return verdict(
        Finding("first step / learning rate: MiSS", interval(sizes["miss"]), low=0.98, high=1.02),
        Finding("LoRA", interval(sizes["lora"]), high=0.5),
    )


def _gradient(records: list[Record]) -> Verdict:
    """Check that the norm of the first gradient is larger for MiSS than for LoRA."""
    norms = {label: scores(records, "first_gradient", label=label, rates="own") for label in ("miss", "lora")}
    return verdict(Finding("ln(first gradient norm of MiSS / LoRA):", interval(np.log(norms["miss"] / norms["lora"])), low=0))


def _forgets(rates: str) -> Check:
    """Return a check that the loss on prose rises more with MiSS than with LoRA. `rates` is explained in `_below`."""
    said = "rise of the prose loss in nats per token, MiSS minus LoRA:"
    return better(FORGETTING, "lora", "miss", say=lambda *at: said, rates=rates)


def _answers(records: list[Record]) -> Verdict:
    """Check that the model trained with MiSS answers more than a quarter of the test sums exactly."""
    right = scores(records, "exact", label="miss")
    return verdict(Finding("share of sums answered exactly:", interval(right), low=0.25))


def _more_rank(records: list[Record]) -> Verdict:
    """Check that the loss of MiSS is lower at the largest rank than at the smallest."""
    ranks = sorted({r["rank"] for r in records})
    low, high = (scores(at(records, rank=r), "loss", label="miss") for r in (ranks[0], ranks[-1]))
    return verdict(
        Finding(f"test loss of MiSS in nats per token, rank {ranks[0]} minus rank {ranks[-1]}:", interval(low - high), low=0)
    )


def _same(one: str, other: str, margin: float) -> Check:
    """Return a check that the test losses of the methods `one` and `other` differ by less than `margin` nats per token."""
    return better(LOSS, one, other, say=_said, low=-margin, high=margin)


OURS = "this workbench"
TABLE = "version 12, Table 5"
declare(
    "adapters",
    Claim(
        "fit-shared",
        "At the same learning rate for all methods, MiSS has a lower test loss than LoRA", TABLE, "48.16 against 40.75 (GSM8K)",
        "adapters/methods", _below("miss", "lora", "shared"),
    ),
    Claim(
        "fit", "MiSS has a lower test loss than LoRA, each at its best learning rate", "abstract", "better", "adapters/methods",
        _below("miss", "lora", "own"),
    ),
    Claim(
        "pissa",
        "MiSS has a lower test loss than PiSSA, each at its best learning rate", TABLE,
        "48.16 against 43.89 (GSM8K, same learning rate)",
        "adapters/methods", _below("miss", "pissa", "own"),
    ),
    Claim(
        "dora",
        "MiSS has a lower test loss than DoRA, each at its best learning rate", TABLE,
        "48.16 against 42.93 (GSM8K, same learning rate)",
        "adapters/methods", _below("miss", "dora", "own"),
    ),
    Claim(
        "faster", "MiSS converges faster: it needs fewer steps to reach the final loss of LoRA", "abstract", "faster",
        "adapters/methods", _faster,
    ),
    Claim(
        "gradient", "The first gradient of MiSS has a larger norm than that of LoRA", "Figure 1", "larger at every rank",
        "adapters/methods", _gradient,
    ),
    Claim(
        "step",
        "Ours: the first step changes a weight by the learning rate with MiSS, but by less than half of it with LoRA", OURS, "-",
        "adapters/methods", _step,
    ),
    Claim(
        "guide", "W in the update helps: Bat-col, the Bat of PEFT, has a lower test loss than MiSS", "version 5",
        "Bat is better than MiSS, there called Bone (the tables of version 5 were not available to us)",
        "adapters/methods", _below("bat-col", "miss", "own"),
    ),
    Claim(
        "guide-row",
        "Bat-row, the Bat of RWKV-PEFT, has a lower test loss than MiSS, with 10 % fewer parameters", "version 5",
        "Bat is better than MiSS, there called Bone (the tables of version 5 were not available to us)",
        "adapters/methods", _below("bat-row", "miss", "own"),
    ),
    Claim(
        "guide-w",
        "Ours: the entries of W help Bat-row, whose test loss is lower with W in the update than with a shuffled W", OURS, "-",
        "adapters/controls", _below("bat-row", "W permuted"),
    ),
    Claim(
        "tiling",
        "Ours: the tiling of MiSS does not matter: a random orthogonal A of the same norm changes the loss by less than 0.05 "
        "nats per token", OURS, "-", "adapters/controls", _same("miss", "orthogonal A", 0.05),
    ),
    Claim(
        "architectures",
        "MiSS also works on RWKV-6: its test loss is below that of LoRA, each at its best learning rate",
        TABLE, "41.73 against 38.13 (GSM8K, same learning rate)", "adapters/rwkv", _below("miss", "lora", "own"),
    ),
    Claim(
        "scale",
        "MiSS scales: after 100 steps on SmolLM2-135M, its test loss is below that of LoRA, each at its best learning rate",
        TABLE,
        "better on models of 3 to 13 billion weights", "adapters/smollm2", _below("miss", "lora", "own"),
    ),
    Claim(
        "rank", "MiSS has a lower test loss at a higher rank", "version 12, Table 7", "45.90 at r = 16, 53.49 at r = 128 (GSM8K)",
        "adapters/ranks", _more_rank,
    ),
    Claim(
        "start", "MiSS is initialised in less time than PiSSA, OLoRA and LoRA-GA", "Figure 2", "a time near zero",
        "adapters/methods", _start("pissa", "olora", "lora-ga"),
    ),
    Claim(
        "memory", "MiSS needs less memory than a LoRA that has about as many parameters", "Table 8", "20.25 against 22.27 GB",
        "adapters/methods", _memory,
    ),
    Claim(
        "forgets",
        "At the same learning rate, MiSS forgets more than LoRA", "PEFT's comparison, July 2026", "0.197 against 0.050",
        "adapters/methods", _forgets("shared"),
    ),
    Claim(
        "forgets-own", "Ours: MiSS forgets more than LoRA, each at its best learning rate", OURS, "-", "adapters/methods",
        _forgets("own"),
    ),
    Claim(
        "toy", "On the toy function, MiSS has a lower error than LoRA, at the paper's learning rate", "appendix C", "lower",
        "adapters/toy", _below("miss", "lora", "shared"),
    ),
    Claim(
        "answers", "Ours: SmolLM2-135M answers no sum exactly before training, and more than a quarter after training with MiSS",
        OURS, "-", "adapters/answers", _answers,
    ),
    Claim(
        "seven", "MiSS beats LoRA, DoRA and PiSSA on models of 4 to 13 billion weights", TABLE, "better in most columns", "",
        undecidable("models of this size and the 395,000 training questions are not available here"),
    ),
)  # fmt: skip
