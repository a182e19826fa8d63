"""What the paper's public text claims, and what we add, tested on MNIST; see data/papers/synapse.csv.

All points of one comparison are paired by seed: the same initial weights, order of the digits and devices.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from workbench.experiment import Record
from workbench.intervals import interval, judging_rows
from workbench.measures import better
from workbench.papers import Claim, declare
from workbench.synapse.lab.figures import ACCURACY
from workbench.verdicts import Finding, Verdict, undecidable, verdict

CLOSE = 2.0  # points of accuracy that count as comparable
MARGIN = 1.0  # points that count as an advantage
LITTLE = 5.0  # points whose loss counts as compensated, where others lose more
MUCH = 15.0  # points that count as much
SCHEMES = ("uni", "alternating", "push-pull")  # of pairs
FLOOR = 50.0  # percent: below it a scheme has not learned, and what variation costs it says nothing
KINDS = ("step .3", "range .3")
# points without variation, and what their kinds of variation are called: linear and nonlinear devices
RESPONSES = {"none": "", "nu = 3": "nu = 3, "}

Check = Callable[[list[Record]], Verdict]


def accuracy(records: list[Record], label: str, **where: object) -> pd.Series:
    """Accuracy in percent of one point, a value a seed."""
    return ACCURACY.scores(records, label=label, **where)


def _many_levels(records: list[Record]) -> Verdict:
    """With the most levels every pair comes close to software; with the fewest uni does not."""
    software = accuracy(records, "software")
    counts = sorted({r["levels"] for r in records if r["label"] != "software"})
    most = {name: software - accuracy(records, name, levels=counts[-1]) for name in SCHEMES}
    fewest = software - accuracy(records, "uni", levels=counts[0])
    return verdict(
        *(Finding(f"software over {name}, {counts[-1]} levels", interval(gap), high=CLOSE) for name, gap in most.items()),
        Finding(f"over uni, {counts[0]} levels", interval(fewest), low=CLOSE),
    )


def _beats(response: str, *others: str) -> Check:
    """Check: uni is above each of the others on `response`."""
    return better(ACCURACY, "uni", *others, say=lambda one, other, at: f"{response}: {one} over {other}", response=response)


def _lost(records: list[Record], scheme: str, rule: str, kind: str, alike: str = "none") -> pd.Series:
    """Points of accuracy that a kind of variation costs a scheme under `rule`."""
    return accuracy(records, scheme, rule=rule, kind=alike) - accuracy(records, scheme, rule=rule, kind=kind)


def _learned(records: list[Record], *schemes: str, alike: str = "none") -> list[str]:
    """Rules under which all these schemes learn, without variation."""
    rules = dict.fromkeys(r["rule"] for r in records)
    means = {rule: [accuracy(records, s, rule=rule, kind=alike).mean() for s in schemes] for rule in rules}
    return [rule for rule, each in means.items() if all(mean > FLOOR for mean in each)]


def _compensates(records: list[Record]) -> Verdict:
    """For some device and rule that learns, each spread costs uni little, and less than the other schemes."""
    cases, parts = [], []
    for alike, prefix in RESPONSES.items():
        for rule in _learned(records, *SCHEMES, alike=alike):
            lost = [[_lost(records, s, rule, prefix + kind, alike) for s in SCHEMES] for kind in KINDS]
            findings = []
            for uni, *others in lost:
                findings.append(Finding("uni loses", interval(uni), high=LITTLE))
                findings += [Finding("others more by", interval(other - uni), low=0) for other in others]
            cases.append(verdict(*findings))
            points = " | ".join("/".join(f"{round(each.mean())}" for each in kind) for kind in lost)
            parts.append(f"{prefix}{rule} {points} ({cases[-1].verdict})")
    every = dict.fromkeys(r["rule"] for r in records)
    for alike, prefix in RESPONSES.items():
        unable = [rule for rule in every if rule not in _learned(records, *SCHEMES, alike=alike)]
        parts += [f"{prefix}{rule}: not all schemes learn" for rule in unable]
    text = "points lost by step .3 | range .3 (uni/alternating/push-pull): "
    return verdict(*cases, any_of=True, measured=text + ("; ".join(parts) or "no rule learns under all three"))


def _mismatch(records: list[Record]) -> Verdict:
    """Wherever variation costs uni something, more than half of it is gone where pairs are alike."""
    findings = []
    for rule in _learned(records, "uni"):
        for kind in KINDS:
            lost, left = (_lost(records, "uni", rule, k) for k in (kind, f"{kind}, pairs alike"))
            if interval(lost).low > CLOSE or len(lost) < 2:
                text = f"{rule}, {kind} costs {round(lost.mean())}, pairs alike {round(left.mean())}: half of it is more by"
                findings.append(Finding(text, interval(lost / 2 - left), low=0))
    return verdict(*findings)


def _verified(records: list[Record]) -> Verdict:
    lost = _lost(records, "uni", "stochastic", "range .3, refresh verified")
    open_loop = _lost(records, "uni", "stochastic", "range .3").mean()
    text = f"uni, stochastic rule: range .3 costs {open_loop:.1f} points, and with refresh verified"
    return verdict(Finding(text, interval(lost), high=CLOSE))


def _needs_refresh(records: list[Record]) -> Verdict:
    """Without refresh much is missing at the same rate, and something at its own best rate."""
    rate = next(r["rate"] for r in judging_rows(records) if r["label"] == "uni" and r["response"] == "linear")
    uni = accuracy(records, "uni", response="linear")
    same, own = (accuracy(records, f"uni, no refresh{at}") for at in (f", rate {rate:g}", ""))
    return verdict(
        Finding(f"linear: refresh brings, at the same rate ({rate:g}),", interval(uni - same), low=MUCH),
        Finding("each at its own best rate", interval(uni - own), low=0),
    )


def _control(records: list[Record]) -> Verdict:
    """The control with the same step is ahead of push-pull, by more than uni is ahead of the control."""
    findings = []
    for response in ("nu = 3", "nu = 5"):
        uni, control, coarse = (accuracy(records, name, response=response) for name in SCHEMES)
        findings.append(Finding(f"{response}: control over push-pull", interval(control - coarse), low=0))
        more = (control - coarse) - (uni - control)
        findings.append(Finding("that is more than uni over control by", interval(more), low=0))
    return verdict(*findings)


def _symmetric(records: list[Record]) -> Verdict:
    """Where LTD retraces LTP uni is behind the control, and not ahead of any other scheme by more than the margin."""
    point = {"response": "nu = 5, retraced"}
    uni = accuracy(records, "uni", **point)
    gaps = {other: uni - accuracy(records, other, **point) for other in ("alternating", "push-pull", "reference")}
    return verdict(
        *(
            Finding(f"retraced: uni over {other}", interval(gap), high=0 if other == "alternating" else MARGIN)
            for other, gap in gaps.items()
        )
    )


def _single_step(records: list[Record]) -> Verdict:
    def ahead(rule: str) -> pd.Series:
        point = {"rule": rule, "response": "abrupt LTD"}
        return accuracy(records, "uni", **point) - accuracy(records, "push-pull", **point)

    single, stochastic = ahead("single"), ahead("stochastic")
    return verdict(
        Finding("abrupt LTD, uni over push-pull: stochastic", interval(stochastic), low=0),
        Finding("single steps more by", interval(single - stochastic), low=0),
    )


def _batches(records: list[Record]) -> Verdict:
    def change(label: str) -> pd.Series:
        ten, one = (accuracy(records, label, batch=batch, response="linear") for batch in (10, 1))
        return ten - one

    return verdict(
        *(Finding(f"linear, {label}: batch 10 minus 1", interval(change(label)), -CLOSE, CLOSE) for label in ("uni", "push-pull"))
    )


OURS = "this workbench"
declare(
    "synapse",
    Claim(
        "levels", "Linear response with high dynamic range (many levels) reaches the accuracy of software back-propagation",
        "abstract", "comparable; no number is public", "synapse/levels", _many_levels,
    ),
    Claim(
        "nonlinear", "Unidirectional updating beats push-pull and one-device updating on nonlinear devices (stochastic rule)",
        "abstract",
        "better than the other methods tried", "synapse/schemes", _beats("nu = 5", "push-pull", "reference"),
    ),
    Claim(
        "abrupt", "It beats every bidirectional scheme where LTD is abrupt, since it never uses LTD",
        "abstract (asymmetric response)",
        "better than the other methods tried", "synapse/schemes",
        _beats("abrupt LTD", "alternating", "push-pull", "reference", "reference, shifted"),
    ),
    Claim(
        "variation", "The rule compensates device-to-device variation",
        "abstract, v2", "compensates", "synapse/compensation", _compensates,
    ),
    Claim(
        "mismatch",
        "Ours: what variation costs uni on linear devices is mostly mismatch within pairs: half and more goes if alike",
        OURS, "-", "synapse/compensation", _mismatch,
    ),
    Claim(
        "verified", "Ours, a guess: the compensation holds where only the range varies and refresh is write-verified", OURS,
        "-", "synapse/compensation", _verified,
    ),
    Claim(
        "transfer",
        "Ours: at a step spread of 0.1 to 0.5, software weights written open-loop beat training on chip (stochastic rule)",
        OURS, "-", "synapse/variation",
        better(  # at each spread of the step, than every scheme trained on chip
            ACCURACY, "software, then written", *SCHEMES, "reference", per="sigma", among=(0.1, 0.2, 0.3, 0.5), kind="step",
            say=lambda one, other, sigma: f"{sigma:g}: written over {other}",
        ),
    ),
    Claim(
        "refresh", "Ours: on linear devices unidirectional training needs refresh", OURS, "-", "synapse/schemes", _needs_refresh,
    ),
    Claim(
        "granularity",
        "Ours: on mirrored nonlinear devices most of the advantage is the finer step's: the control has it too", OURS,
        "-", "synapse/schemes", _control,
    ),
    Claim(
        "symmetric", "Ours: on symmetric nonlinear devices (LTD retraces LTP) unidirectional updating has no advantage", OURS,
        "-", "synapse/schemes", _symmetric,
    ),
    Claim(
        "single", "Ours: single steps (ISCAS; no rate to choose) make more of the advantage on abrupt LTD than stochastic counts",
        OURS, "-", "synapse/rules", _single_step,
    ),
    Claim(
        "batch", "Ours: on linear devices the mean at batch 10 stays within 2 points of batch 1", OURS, "-",
        "synapse/batches", _batches,
    ),
    Claim(
        "94.5", "94.50 % on the MNIST training set with single steps on gated Schottky diodes", "Lim et al., ISCAS 2018",
        "94.50 % (training set)", "", undecidable("the device's curve, the network's size and the epochs are not public"),
    ),
)  # fmt: skip
