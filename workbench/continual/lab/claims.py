"""Claims of the paper and of this workbench (see data/papers/continual.csv), each with a function that checks it.

All fits of one comparison are paired by seed: fits with the same seed have the same initial weights and the same samples in the
same order.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from workbench import papers
from workbench.continual.lab.colours import ACCURACY, MOVED, ONLINE
from workbench.continual.lab.study_figures import equal_learning, part_gain
from workbench.experiment import Record
from workbench.intervals import exactly, interval, judging_rows
from workbench.measures import better, places, refusals
from workbench.papers import Claim, declare
from workbench.verdicts import Finding, Verdict, undecidable, verdict

Check = Callable[[list[Record]], Verdict]
WORDS = {
    "split-fashion": "Fashion-MNIST in 5 tasks",
    "mnist-fashion": "MNIST then Fashion-MNIST",
    "fashion-mnist": "Fashion-MNIST then MNIST",
    "vader": "VADER, tweets to editorials",
    "news-films": "news then film reviews",
    "paper's net": "news then film reviews with the paper's network",
}
SENTENCES = ("vader", "news-films", "paper's net")
PAIR = ("mnist-fashion",)  # the stream of the paper's vision experiment
CLOSE = 1.0  # percentage points of accuracy that count as an advantage
ABSENT = "not measured on these streams at this scale"


def _beats(*rivals: str, among: tuple[str, ...] = PAIR, one: str = "classp") -> Check:
    """Return a function that checks whether `one`, at its chosen setting, is more accurate than each rival on each stream."""
    return better(ACCURACY, one, *rivals, say=_over, per="stream", among=among, absent=ABSENT)


def _over(one: str, rival: str, stream: str) -> str:
    one, rival = ("CLASSP" if name == "classp" else name for name in (one, rival))
    return f"{WORDS[stream]}: {one} minus {rival} (% points)"


def _kib(records: list[Record], label: str, stream: str) -> float:
    return next(r["state_bytes"] / 1024 for r in judging_rows(records) if r["label"] == label and r["stream"] == stream)


def _memory(*rivals: str) -> Check:
    """Return a function that checks whether CLASSP stores fewer bytes than each rival. The numbers of bytes are measured."""

    def check(records: list[Record]) -> Verdict:
        stream = places(records, "stream")[0]
        ours = _kib(records, "classp", stream)
        found = [
            Finding(
                f"memory in KiB (CLASSP {ours:.0f}), {rival} minus CLASSP:", exactly(_kib(records, rival, stream) - ours), low=0
            )
            for rival in rivals
        ]
        return verdict(*found)

    return check


def _pixels(records: list[Record]) -> Verdict:
    """Judge whether CLASSP needs less memory than 200 images with one byte per pixel.

    The buffer of replay in this workbench stores float32 numbers, which need four times as much memory.
    """
    stream = places(records, "stream")[0]
    ours, buffer = _kib(records, "classp", stream), 200 * 784 / 1024
    return verdict(
        Finding(f"memory in KiB (CLASSP {ours:.0f}), 200 images as bytes minus CLASSP:", exactly(buffer - ours), low=0)
    )


def _part(without: str, text: str) -> Check:
    """Return a function that checks, on each stream, whether CLASSP is more accurate than a variant that lacks one part.

    `without` is the name of the variant.
    """
    return better(ACCURACY, "CLASSP, p = 1", without, say=lambda *at: f"{WORDS[at[-1]]}: {text}", by="part", per="stream")


def _threshold(records: list[Record]) -> Verdict:
    """Judge whether one of the thresholds that are tried gives a higher accuracy than threshold 0 on every stream."""
    cases, words = [], []
    for part in ("threshold 1e-8", "threshold 1e-7", "threshold 1e-6", "threshold 1e-5"):
        gains = {stream: -part_gain(records, part, stream) for stream in places(records, "stream")}
        cases.append(verdict(*(Finding(f"{part}, {WORDS[s]}", interval(gain), low=0) for s, gain in gains.items())))
        words.append(f"{part}: {', '.join(str(interval(gain)) for gain in gains.values())}")
    return verdict(*cases, any_of=True, measured=f"gain in % points ({', '.join(WORDS[s] for s in gains)}): {'; '.join(words)}")


SAID = {
    "threshold 1e-6": "share of weights changed by a task, threshold 0 minus 1e-6 (% points)",
    "decay off": "share of weights changed by a task, decay on minus off (% points)",
}
# The claim holds if the threshold lowers the share of weights that a task changes, and if decay raises this share.
_sparse = better(
    MOVED, "CLASSP, p = 1", *SAID, say=lambda one, other, stream: f"{WORDS[stream]}: {SAID[other]}", by="part", per="stream"
)  # fmt: skip


def _any_model(records: list[Record]) -> Verdict:
    """Judge whether no fit learns if the published threshold of 0.5 is compared with the squared gradient of each weight."""
    stopped = [r for r in judging_rows(records) if r["part"] == "threshold 0.5"]
    moved = sum(not r.get("failed") for r in stopped)
    return verdict(Finding("number of fits that learn with a threshold of 0.5 on each weight:", exactly(moved), high=0.5))


def _is_sgd_at_a_lower_rate(records: list[Record]) -> Verdict:
    """Judge whether CLASSP keeps a higher accuracy on the old task than SGD with a lower rate, at equal new-task accuracy.

    This SGD learns the first task at a rate of 0.1, and the second task at a rate of at most 0.1.
    """
    found = []
    for stream in places(records, "stream"):
        gain = equal_learning(records, "classp", "sgd-cut", stream)
        gain = gain if len(gain) else pd.Series([float("nan")], pd.Index([0], name="seed"))
        found.append(
            Finding(f"{WORDS[stream]}: gain in old-task accuracy at equal new-task accuracy (% points)", interval(gain), low=0)
        )
    return verdict(*found)


def _anchor(records: list[Record]) -> Verdict:
    measures = {"final accuracy": ACCURACY, "online accuracy": ONLINE}
    gaps = {words: one.gap(records, "classp", "adam", rates="shared") for words, one in measures.items()}
    shared = verdict(*(Finding(f"{words}, CLASSP minus Adam (% points)", interval(gap), high=0) for words, gap in gaps.items()))
    own = interval(ACCURACY.gap(records, "classp", "adam", rates="own"))
    measured = f"{shared.measured}; final accuracy, CLASSP minus Adam, each at its best learning rate (% points) {own}"
    return Verdict(shared.verdict, measured, shared.p, shared.findings)


def _choice() -> str:
    """Describe the settings of `continual/paper-choice` that failed on some seeds, but beat the chosen setting on the others."""
    return refusals(papers.reference_records("continual/paper-choice") or [])


OURS = "this workbench"
SUMMARY = "summary of the paper"  # written by others; the full text of the paper was not available to us
NOT_PUBLIC = "better; the paper's tables are not public"
declare(
    "continual",
    *(
        Claim(ids, f"CLASSP is more accurate than {name} (vision)", source, NOT_PUBLIC, "continual/rivals", _beats(*rivals))
        for ids, name, source, rivals in (
            ("ewc", "EWC", "abstract", ("ewc", "ewc-online")),
            ("sgd", "SGD", SUMMARY, ("sgd",)),
            ("adam", "Adam", SUMMARY, ("adam",)),
            ("adagrad", "AdaGrad", SUMMARY, ("adagrad",)),
        )
    ),
    Claim(
        "ewc-pair", "CLASSP is more accurate than EWC at the paper's size (MNIST then Fashion-MNIST)", "abstract", NOT_PUBLIC,
        "continual/paper-pair", _beats("ewc-online"), _choice,
    ),
    Claim(
        "ewc-scripted", "CLASSP is more accurate than the EWC of the author's program, at the paper's size", "abstract",
        NOT_PUBLIC, "continual/paper-pair", _beats("ewc, as scripted"),
    ),
    Claim(
        "pair",
        "Ours: CLASSP is more accurate than SGD, and than SGD with a lower rate on the second task, at the paper's size",
        OURS, "-", "continual/paper-pair", _beats("sgd", "sgd-cut"),
    ),
    Claim(
        "reversed", "Ours: CLASSP is more accurate than EWC, SGD, Adam and AdaGrad also in the order Fashion-MNIST then MNIST",
        OURS, "-", "continual/rivals", _beats("ewc-online", "sgd", "adam", "adagrad", among=("fashion-mnist",)),
    ),
    Claim(
        "ewc-sentiment", "CLASSP is more accurate than EWC (sentiment)", "abstract", NOT_PUBLIC, "continual/sentiment",
        _beats("ewc-online", among=SENTENCES),
    ),
    Claim(
        "sentiment", "CLASSP is more accurate than SGD, Adam and AdaGrad (sentiment)", SUMMARY, NOT_PUBLIC,
        "continual/sentiment", _beats("sgd", "adam", "adagrad", among=SENTENCES),
    ),
    Claim(
        "anchor",
        "Ours: at the same learning rate, CLASSP is less accurate than Adam on 20 permuted tasks, as an independent study found",
        "ha0wan9/NMA-NeuroAI-Online-Learning-Project", "-15.3 ± 2.8 percentage points", "continual/anchor", _anchor,
    ),
    Claim(
        "memory-ewc", "CLASSP needs less memory than EWC", "abstract", "less", "continual/memory", _memory("ewc", "ewc-online")
    ),
    Claim(
        "memory-buffer", "Ours: CLASSP needs less memory than a buffer of 200 images", OURS, "-", "continual/memory", _pixels
    ),
    Claim(
        "decay", "Decay helps: accuracy is lower without it", SUMMARY, "helps", "continual/ablations",
        _part("decay off", "gain by decay (% points)"),
    ),
    Claim(
        "threshold", "The threshold helps: some threshold raises accuracy", SUMMARY, "helps", "continual/ablations", _threshold
    ),
    Claim(
        "sparse", "The threshold makes updates sparse, and decay spreads them over more weights", "abstract",
        "promotes sparsity", "continual/ablations", _sparse,
    ),
    Claim(
        "literal", "Ours: the published threshold of 0.5, applied to each weight as in Algorithm 1, stops all learning", OURS,
        "-", "continual/ablations", _any_model,
    ),
    Claim("cut", "Ours: CLASSP is more accurate than SGD whose learning rate is cut after each task", OURS, "-",
          "continual/rivals", _beats("sgd-cut", among=tuple(WORDS))),
    Claim(
        "retention",
        "Ours: at equal new-task accuracy, CLASSP has a higher old-task accuracy than SGD with a lower rate on the second task",
        OURS, "-", "continual/retention", _is_sgd_at_a_lower_rate,
    ),
    Claim("state", "Ours: accuracy falls if the sums are reset at task boundaries", OURS, "-", "continual/ablations",
          _part("sum reset at borders", "gain by keeping the sums (% points)")),
    Claim("replay", "Ours: replay with a buffer of 200 images is more accurate than CLASSP", OURS, "-", "continual/rivals",
          _beats("classp", among=tuple(WORDS), one="replay")),
    Claim(
        "any-model", "CLASSP works with any model", "abstract", "model-agnostic", "",
        undecidable("three kinds of network are tried here, but no finite number of networks could prove the claim"),
    ),
)  # fmt: skip
