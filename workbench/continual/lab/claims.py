"""What the paper claims, and what we add, tested on its streams; see data/papers/continual.csv.

All points of one comparison are paired by seed: the same first weights, samples and order.
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
    "split-fashion": "clothes in 5 tasks",
    "mnist-fashion": "digits, then clothes",
    "fashion-mnist": "clothes, then digits",
    "vader": "tweets to editorials",
    "news-films": "news, then films",
    "paper's net": "the same, paper's net",
}
SENTENCES = ("vader", "news-films", "paper's net")
PAIR = ("mnist-fashion",)  # the paper's
CLOSE = 1.0  # points of accuracy that count as an advantage
ABSENT = "not on these streams at this scale"


def _beats(*rivals: str, among: tuple[str, ...] = PAIR, one: str = "classp") -> Check:
    """Check: `one` is above each rival on each stream of `among`, each at its own chosen setting."""
    return better(ACCURACY, one, *rivals, say=_over, per="stream", among=among, absent=ABSENT)


def _over(one: str, rival: str, stream: str) -> str:
    one, rival = ("CLASSP" if name == "classp" else name for name in (one, rival))
    return f"{WORDS[stream]}: {one} over {rival}"


def _kib(records: list[Record], label: str, stream: str) -> float:
    return next(r["state_bytes"] / 1024 for r in judging_rows(records) if r["label"] == label and r["stream"] == stream)


def _memory(*rivals: str) -> Check:
    """Check: CLASSP keeps fewer bytes than each rival, as measured."""

    def check(records: list[Record]) -> Verdict:
        stream = places(records, "stream")[0]
        ours = _kib(records, "classp", stream)
        found = [
            Finding(f"KiB, {rival} minus CLASSP ({ours:.0f})", exactly(_kib(records, rival, stream) - ours), low=0)
            for rival in rivals
        ]
        return verdict(*found)

    return check


def _pixels(records: list[Record]) -> Verdict:
    """A buffer of 200 pictures as bytes (a quarter of what our float32 buffer takes) against the sums."""
    stream = places(records, "stream")[0]
    ours, buffer = _kib(records, "classp", stream), 200 * 784 / 1024
    return verdict(Finding(f"KiB, 200 pictures as bytes minus CLASSP ({ours:.0f})", exactly(buffer - ours), low=0))


def _part(without: str, text: str) -> Check:
    """Check: the part of CLASSP that is away in `without` brings something on each stream."""
    return better(ACCURACY, "CLASSP, p = 1", without, say=lambda *at: f"{WORDS[at[-1]]}: {text}", by="part", per="stream")


def _threshold(records: list[Record]) -> Verdict:
    """For some threshold, on each stream, accuracy is higher than without."""
    cases, words = [], []
    for part in ("threshold 1e-8", "threshold 1e-7", "threshold 1e-6", "threshold 1e-5"):
        gains = {stream: -part_gain(records, part, stream) for stream in places(records, "stream")}
        cases.append(verdict(*(Finding(f"{part}, {WORDS[s]}", interval(gain), low=0) for s, gain in gains.items())))
        words.append(f"{part}: {', '.join(str(interval(gain)) for gain in gains.values())}")
    return verdict(*cases, any_of=True, measured=f"points brought, {', '.join(WORDS[s] for s in gains)}: {'; '.join(words)}")


SAID = {"threshold 1e-6": "% of weights moved, threshold 0 minus 1e-6", "decay off": "decay on minus off"}
# the threshold lowers the share of weights that a task moves, and decay raises it over plain steps
_sparse = better(
    MOVED, "CLASSP, p = 1", *SAID, say=lambda one, other, stream: f"{WORDS[stream]}: {SAID[other]}", by="part", per="stream"
)  # fmt: skip


def _any_model(records: list[Record]) -> Verdict:
    """Rows of failed fits that say a threshold stops everything: the published 0.5, read weight by weight."""
    stopped = [r for r in judging_rows(records) if r["part"] == "threshold 0.5"]
    moved = sum(not r.get("failed") for r in stopped)
    return verdict(Finding("fits that learn with a threshold of 0.5 on each weight", exactly(moved), high=0.5))


def _is_sgd_at_a_lower_rate(records: list[Record]) -> Verdict:
    """At equal learning, CLASSP's curve lies above that of SGD with its rate cut."""
    found = []
    for stream in places(records, "stream"):
        gain = equal_learning(records, "classp", "sgd-cut", stream)
        gain = gain if len(gain) else pd.Series([float("nan")], pd.Index([0], name="seed"))
        found.append(Finding(f"{WORDS[stream]}: points kept more at equal learning", interval(gain), low=0))
    return verdict(*found)


def _anchor(records: list[Record]) -> Verdict:
    measures = {"in the end": ACCURACY, "online": ONLINE}
    gaps = {words: one.gap(records, "classp", "adam", rates="shared") for words, one in measures.items()}
    shared = verdict(*(Finding(f"{words}, CLASSP minus Adam", interval(gap), high=0) for words, gap in gaps.items()))
    own = interval(ACCURACY.gap(records, "classp", "adam", rates="own"))
    return Verdict(shared.verdict, f"{shared.measured}; each at its own rate: {own}", shared.p, shared.findings)


def _choice() -> str:
    """What was refused where the settings of the paper's pair were chosen."""
    return refusals(papers.reference_records("continual/paper-choice") or [])


OURS = "this workbench"
NOT_PUBLIC = "better; its tables are not public"
declare(
    "continual",
    *(
        Claim(ids, f"CLASSP beats {name} in accuracy (vision)", "abstract", NOT_PUBLIC, "continual/rivals", _beats(*rivals))
        for ids, name, rivals in (
            ("ewc", "EWC", ("ewc", "ewc-online")),
            ("sgd", "SGD", ("sgd",)),
            ("adam", "Adam", ("adam",)),
            ("adagrad", "AdaGrad", ("adagrad",)),
        )
    ),
    Claim(
        "ewc-pair", "CLASSP beats EWC on its vision pair at the paper's size", "abstract", NOT_PUBLIC, "continual/paper-pair",
        _beats("ewc-online"), _choice,
    ),
    Claim(
        "ewc-scripted", "and there beats EWC as the author's program has it", "abstract", NOT_PUBLIC, "continual/paper-pair",
        _beats("ewc, as scripted"),
    ),
    Claim(
        "pair", "Ours: at the paper's size it beats SGD, and SGD with its rate cut", OURS, "-", "continual/paper-pair",
        _beats("sgd", "sgd-cut"),
    ),
    Claim(
        "reversed", "Ours: it beats EWC, SGD, Adam and AdaGrad in the other order too, clothes before digits", OURS, "-",
        "continual/rivals", _beats("ewc-online", "sgd", "adam", "adagrad", among=("fashion-mnist",)),
    ),
    Claim(
        "ewc-sentiment", "CLASSP beats EWC in accuracy (sentiment)", "abstract", NOT_PUBLIC, "continual/sentiment",
        _beats("ewc-online", among=SENTENCES),
    ),
    Claim(
        "sentiment", "CLASSP beats SGD, Adam and AdaGrad (sentiment)", "its summary", NOT_PUBLIC, "continual/sentiment",
        _beats("sgd", "adam", "adagrad", among=SENTENCES),
    ),
    Claim(
        "anchor", "Ours: on twenty permuted tasks at one rate for both, CLASSP ends below Adam, as an independent study found",
        "ha0wan9/NMA-NeuroAI-Online-Learning-Project", "-15.3 ± 2.8 points", "continual/anchor", _anchor,
    ),
    Claim(
        "memory-ewc", "CLASSP needs less memory than EWC", "abstract", "less", "continual/memory", _memory("ewc", "ewc-online")
    ),
    Claim(
        "memory-buffer", "Ours: CLASSP needs less memory than a buffer of 200 pictures", OURS, "-", "continual/memory", _pixels
    ),
    Claim(
        "decay", "Decay helps: without it accuracy is lower", "ablation", "helps", "continual/ablations",
        _part("decay off", "decay brings"),
    ),
    Claim(
        "threshold", "The threshold helps: some threshold raises accuracy", "ablation", "helps", "continual/ablations", _threshold
    ),
    Claim(
        "sparse", "The threshold makes updates sparse, where decay spreads them over more weights", "section 3",
        "promotes sparsity", "continual/ablations", _sparse,
    ),
    Claim(
        "literal", "Ours: the published threshold of 0.5, read weight by weight as the paper says, stops all learning", OURS, "-",
        "continual/ablations", _any_model,
    ),
    Claim("cut", "Ours: CLASSP beats SGD with its rate cut after each task", OURS, "-", "continual/rivals",
          _beats("sgd-cut", among=tuple(WORDS))),
    Claim(
        "retention", "Ours: at equal learning CLASSP keeps more than SGD with its rate cut", OURS, "-", "continual/retention",
        _is_sgd_at_a_lower_rate,
    ),
    Claim("state", "Ours: the sums must live through borders: reset there, accuracy falls", OURS, "-", "continual/ablations",
          _part("sum reset at borders", "kept sums bring")),
    Claim("replay", "Ours: a buffer of 200 pictures beats CLASSP", OURS, "-", "continual/rivals",
          _beats("classp", among=tuple(WORDS), one="replay")),
    Claim(
        "any-model", "It works with any model", "abstract", "model-agnostic", "",
        undecidable("two kinds of network are tried here; no number of them decides it"),
    ),
)  # fmt: skip
