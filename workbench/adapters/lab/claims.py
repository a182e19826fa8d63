"""What the paper claims, and what we add, tested on its methods; see data/papers/adapters.csv.

All points of one comparison are paired by seed: the same questions in the same order.
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
    return f"{NAMES[over]}'s loss minus {NAMES[one]}'s"


def _below(one: str, over: str, rates: str | None = None) -> Check:
    """Check: the loss of `one` is below that of `over`, at the shared rate or each at its own."""
    return better(LOSS, one, over, say=_said, **({"rates": rates} if rates else {}))


def _faster(records: list[Record]) -> Verdict:
    """MiSS reaches tuned LoRA's last loss before the last step, both at their own rates."""
    share = share_of_steps(records, "miss", "lora")
    if not len(share):
        return Verdict("open", "no curves")
    return verdict(Finding("share of the steps until LoRA's last loss", interval(share), high=1.0))


def _memory(records: list[Record]) -> Verdict:
    """A step of MiSS keeps fewer bytes for the gradient than LoRA's, and holds fewer at most, at about as many numbers."""
    found = []
    for column, words in (("kept_bytes", "kept"), ("peak_bytes", "held at most")):
        lora, miss = (scores(records, column, label=label, rates="own") / 2**20 for label in ("lora", "miss"))
        found.append(Finding(f"MiB {words}, LoRA minus MiSS ({miss.mean():.1f})", interval(lora - miss), low=0))
    return verdict(*found)


def _start(*others: str) -> Check:
    """Check: it takes longer to put each of `others` on than MiSS."""

    def check(records: list[Record]) -> Verdict:
        found = []
        for other in others:
            times = [scores(records, "init_seconds", label=label, rates="own") for label in (other, "miss")]
            ratio = np.log(times[0] / times[1])
            found.append(Finding(f"{NAMES[other]}'s start over MiSS's, log", interval(ratio), low=0))
        return verdict(*found)

    return check


def _step(records: list[Record]) -> Verdict:
    """MiSS moves a weight by the rate in the first step, LoRA by less than half of it."""
    sizes = {label: scores(records, "step_size", label=label, rates="own") for label in ("miss", "lora")}
    return verdict(
        Finding("MiSS's first step over the rate", interval(sizes["miss"]), low=0.98, high=1.02),
        Finding("LoRA's", interval(sizes["lora"]), high=0.5),
    )


def _gradient(records: list[Record]) -> Verdict:
    """MiSS's first gradient is larger than LoRA's."""
    norms = {label: scores(records, "first_gradient", label=label, rates="own") for label in ("miss", "lora")}
    return verdict(Finding("MiSS's first gradient over LoRA's, log", interval(np.log(norms["miss"] / norms["lora"])), low=0))


def _forgets(rates: str) -> Check:
    """Check: MiSS's loss on prose rises more than LoRA's."""
    said = "rise of the loss on prose, MiSS minus LoRA"
    return better(FORGETTING, "lora", "miss", say=lambda *at: said, rates=rates)


def _answers(records: list[Record]) -> Verdict:
    """MiSS answers a quarter of the test sums exactly, of which the model answers none before."""
    right = scores(records, "exact", label="miss")
    return verdict(Finding("share answered exactly", interval(right), low=0.25))


def _more_rank(records: list[Record]) -> Verdict:
    """MiSS's loss falls from the smallest to the largest rank."""
    ranks = sorted({r["rank"] for r in records})
    low, high = (scores(at(records, rank=r), "loss", label="miss") for r in (ranks[0], ranks[-1]))
    return verdict(Finding(f"MiSS's loss at rank {ranks[0]} minus {ranks[-1]}", interval(low - high), low=0))


def _same(one: str, other: str, margin: float) -> Check:
    """Check: two labels' losses differ by less than a margin."""
    return better(LOSS, one, other, say=_said, low=-margin, high=margin)


OURS = "this workbench"
TABLE = "version 12, Table 5"
declare(
    "adapters",
    Claim(
        "fit-shared", "At one rate for all, MiSS fits better than LoRA", TABLE, "48.16 against 40.75 (GSM8K)",
        "adapters/methods", _below("miss", "lora", "shared"),
    ),
    Claim(
        "fit", "MiSS fits better than LoRA, each at its own rate", "abstract", "better", "adapters/methods",
        _below("miss", "lora", "own"),
    ),
    Claim(
        "pissa", "MiSS fits better than PiSSA, each at its own rate", TABLE, "48.16 against 43.89 (GSM8K, one rate)",
        "adapters/methods", _below("miss", "pissa", "own"),
    ),
    Claim(
        "dora", "MiSS fits better than DoRA, each at its own rate", TABLE, "48.16 against 42.93 (GSM8K, one rate)",
        "adapters/methods", _below("miss", "dora", "own"),
    ),
    Claim(
        "faster", "It converges faster: it reaches tuned LoRA's last loss in fewer steps", "abstract", "faster",
        "adapters/methods", _faster,
    ),
    Claim(
        "gradient", "Its first gradient is larger than LoRA's", "Figure 1", "larger at every rank", "adapters/methods",
        _gradient,
    ),
    Claim(
        "step", "Ours: that is its step: at one rate MiSS moves a weight by the rate, LoRA by less than half of it", OURS,
        "-", "adapters/methods", _step,
    ),
    Claim(
        "guide", "The weight guide helps: Bat-col, which is PEFT's Bat, fits better than MiSS", "version 5",
        "Bat over Bone; its tables are not to be had", "adapters/methods", _below("bat-col", "miss", "own"),
    ),
    Claim(
        "guide-row", "So does Bat-row, RWKV-PEFT's Bat, with a tenth fewer numbers here", "version 5",
        "Bat over Bone; its tables are not to be had", "adapters/methods", _below("bat-row", "miss", "own"),
    ),
    Claim(
        "guide-w", "Ours: what W knows guides it: Bat-row fits better than with W's entries shuffled", OURS, "-",
        "adapters/controls", _below("bat-row", "W permuted"),
    ),
    Claim(
        "tiling", "Ours: the tiling itself does nothing: a random orthogonal A of its norm does as well, within 0.05", OURS,
        "-", "adapters/controls", _same("miss", "orthogonal A", 0.05),
    ),
    Claim(
        "architectures", "It works for both architectures: on RWKV-6 too MiSS fits better than LoRA, each at its own rate",
        TABLE, "41.73 against 38.13 (GSM8K, one rate)", "adapters/rwkv", _below("miss", "lora", "own"),
    ),
    Claim(
        "scale", "It scales: after 100 steps on SmolLM2-135M MiSS fits better than LoRA, each at its own rate", TABLE,
        "better from 3 to 13 billion", "adapters/smollm2", _below("miss", "lora", "own"),
    ),
    Claim(
        "rank", "A higher rank fits better", "version 12, Table 7", "45.90 to 53.49 from r = 16 to 128 (GSM8K)",
        "adapters/ranks", _more_rank,
    ),
    Claim(
        "start", "Its start is simple: PiSSA, OLoRA and LoRA-GA take longer to begin", "Figure 2", "near zero",
        "adapters/methods", _start("pissa", "olora", "lora-ga"),
    ),
    Claim(
        "memory", "It needs less memory than LoRA with as many numbers", "Table 8", "20.25 against 22.27 GB",
        "adapters/methods", _memory,
    ),
    Claim(
        "forgets", "Ours: at one rate it forgets more than LoRA", "PEFT's comparison, July 2026", ".197 against .050",
        "adapters/methods", _forgets("shared"),
    ),
    Claim(
        "forgets-own", "Ours: each at its own rate it forgets more than LoRA", OURS, "-", "adapters/methods", _forgets("own"),
    ),
    Claim(
        "toy", "On the toy function MiSS's error is below LoRA's, at the paper's rate", "appendix C", "below", "adapters/toy",
        _below("miss", "lora", "shared"),
    ),
    Claim(
        "answers", "Ours: with MiSS SmolLM2 answers a quarter of the sums exactly, of which it answers none before", OURS,
        "-", "adapters/answers", _answers,
    ),
    Claim(
        "seven", "MiSS beats LoRA, DoRA and PiSSA on models of 4 to 13 billion weights", TABLE, "better in most columns", "",
        undecidable("such models, and their 395,000 questions, are not here"),
    ),
)  # fmt: skip
