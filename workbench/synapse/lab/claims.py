"""Claims from the public parts of the paper, and our own claims, with the checks that test them on MNIST.

The file data/papers/synapse.csv lists what the paper reports. All points of one comparison are paired by seed: with the same
seed, they have the same initial weights, the same order of the digits, and the same random numbers for the devices.
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

CLOSE = 2.0  # percentage points: accuracies that differ by less count as comparable
MARGIN = 1.0  # percentage points: a larger lead counts as an advantage
LITTLE = 5.0  # percentage points: a smaller loss counts as compensated if the other schemes lose more
MUCH = 15.0  # percentage points: at the same learning rate, refresh must gain more than this
SCHEMES = ("uni", "alternating", "push-pull")  # the schemes with two devices for each weight
FLOOR = 50.0  # percent: a scheme with a lower accuracy has not learned, so its loss of accuracy has no meaning
KINDS = ("step .3", "range .3")
# The name of each scheme in a finding, if it differs from the label in the records
NAMES = {"reference": "one device", "reference, shifted": "one device, shifted"}
# Each key is the value of the column `kind` for devices without variation: first linear ones, then nonlinear ones. The prefix
# beside the key begins the values of the column for devices of the same response with variation.
RESPONSES = {"none": "", "nu = 3": "nu = 3, "}

Check = Callable[[list[Record]], Verdict]


def accuracy(records: list[Record], label: str, **where: object) -> pd.Series:
    """Return the test accuracy, in percent, of one point of a comparison: one value for each seed.

    `label` is the label of the point, and `where` gives the values that other columns of the records must have.
    """
    return ACCURACY.scores(records, label=label, **where)


def _many_levels(records: list[Record]) -> Verdict:
    """Check that the schemes with pairs are about as accurate as software if the devices have many levels.

    With the smallest number of levels, `uni` must be less accurate than software by more than `CLOSE` points.
    """
    software = accuracy(records, "software")
    counts = sorted({r["levels"] for r in records if r["label"] != "software"})
    most = {name: software - accuracy(records, name, levels=counts[-1]) for name in SCHEMES}
    fewest = software - accuracy(records, "uni", levels=counts[0])
    return verdict(
        *(
            Finding(f"software minus {name} at {counts[-1]} levels, in points:", interval(gap), high=CLOSE)
            for name, gap in most.items()
        ),
        Finding(f"software minus uni at {counts[0]} levels, in points:", interval(fewest), low=CLOSE),
    )


def _beats(response: str, *others: str) -> Check:
    """Return a check that `uni` is more accurate than each scheme in `others` on devices with this response."""
    return better(
        ACCURACY, "uni", *others,
        say=lambda one, other, at: f"{response}: {one} minus {NAMES.get(other, other)}, in points:", response=response,
    )  # fmt: skip


def _lost(records: list[Record], scheme: str, rule: str, kind: str, alike: str = "none") -> pd.Series:
    """Return the percentage points of accuracy that a scheme loses through one kind of variation: one value for each seed.

    `rule` is the update rule. `kind` and `alike` are values of the column `kind`: `kind` names the variation, and `alike` names
    the same devices without variation.
    """
    return accuracy(records, scheme, rule=rule, kind=alike) - accuracy(records, scheme, rule=rule, kind=kind)


def _learned(records: list[Record], *schemes: str, alike: str = "none") -> list[str]:
    """Return the update rules with which all `schemes` learn if there is no variation.

    A scheme learns if its mean accuracy is above `FLOOR`. `alike` is the value of the column `kind` in the records without
    variation: "none" for linear devices, "nu = 3" for nonlinear ones.
    """
    rules = dict.fromkeys(r["rule"] for r in records)
    means = {rule: [accuracy(records, s, rule=rule, kind=alike).mean() for s in schemes] for rule in rules}
    return [rule for rule, each in means.items() if all(mean > FLOOR for mean in each)]


def _compensates(records: list[Record]) -> Verdict:
    """Check that `uni` loses little accuracy through each kind of variation, and less than the other schemes.

    The claim holds if this is true for at least one combination of device response and update rule. Update rules with which one
    of the schemes does not learn are left out.
    """
    cases, parts = [], []
    for alike, prefix in RESPONSES.items():
        for rule in _learned(records, *SCHEMES, alike=alike):
            lost = [[_lost(records, s, rule, prefix + kind, alike) for s in SCHEMES] for kind in KINDS]
            findings = []
            for kind, (uni, *others) in zip(KINDS, lost, strict=True):
                case = f"({prefix}{rule} rule, {kind.replace(' .3', ' spread 0.3')})"
                findings.append(Finding(f"points lost by uni {case}:", interval(uni), high=LITTLE))
                findings += [
                    Finding(f"points lost by {name} minus points lost by uni {case}:", interval(other - uni), low=0)
                    for name, other in zip(SCHEMES[1:], others, strict=True)
                ]
            cases.append(verdict(*findings))
            step, spread = ("/".join(f"{round(each.mean())}" for each in kind) for kind in lost)
            parts.append(f"{prefix}{rule} rule: {step} (step spread), {spread} (range spread): {cases[-1].verdict}")
    every = dict.fromkeys(r["rule"] for r in records)
    for alike, prefix in RESPONSES.items():
        unable = [rule for rule in every if rule not in _learned(records, *SCHEMES, alike=alike)]
        parts += [f"{prefix}{rule} rule: not all schemes learn" for rule in unable]
    text = "points of accuracy lost by uni/alternating/push-pull at a spread of 0.3: "
    return verdict(*cases, any_of=True, measured=text + ("; ".join(parts) or "under no rule do all three schemes learn"))


def _mismatch(records: list[Record]) -> Verdict:
    """Check that the accuracy that `uni` loses through variation falls to less than half if the devices of each pair are equal.

    This is checked for each combination of an update rule and a kind of variation with which `uni`, with unequal devices, loses
    more than `CLOSE` points.
    """
    findings = []
    for rule in _learned(records, "uni"):
        for kind in KINDS:
            lost, left = (_lost(records, "uni", rule, k) for k in (kind, f"{kind}, pairs alike"))
            if interval(lost).low > CLOSE or len(lost) < 2:
                text = (
                    f"{rule}, {kind}: uni loses {round(lost.mean())} points with unequal pairs, {round(left.mean())} with equal "
                    "pairs; half of the first loss exceeds the second loss by"
                )
                findings.append(Finding(text, interval(lost / 2 - left), low=0))
    return verdict(*findings)


def _verified(records: list[Record]) -> Verdict:
    lost = _lost(records, "uni", "stochastic", "range .3, refresh verified")
    open_loop = _lost(records, "uni", "stochastic", "range .3").mean()
    text = (
        f"points lost by uni at a range spread of 0.3 (stochastic rule): {open_loop:.1f} with open-loop refresh; "
        "with write-verify refresh:"
    )
    return verdict(Finding(text, interval(lost), high=CLOSE))


def _needs_refresh(records: list[Record]) -> Verdict:
    """Check that refresh improves the accuracy of `uni`.

    If training with and without refresh uses the same learning rate, the gain must be above `MUCH` points. If each uses its own
    best learning rate, the gain must be above 0.
    """
    rate = next(r["rate"] for r in judging_rows(records) if r["label"] == "uni" and r["response"] == "linear")
    uni = accuracy(records, "uni", response="linear")
    same, own = (accuracy(records, f"uni, no refresh{at}") for at in (f", rate {rate:g}", ""))
    return verdict(
        Finding(f"linear: points gained by refresh at the same learning rate ({rate:g}):", interval(uni - same), low=MUCH),
        Finding("linear: points gained by refresh with separately chosen learning rates:", interval(uni - own), low=0),
    )


def _control(records: list[Record]) -> Verdict:
    """Check that the lead of `alternating` over push-pull is positive, and larger than the lead of `uni` over `alternating`.

    The scheme `alternating` is the control, since its steps are about as large as those of `uni`.
    """
    findings = []
    for response in ("nu = 3", "nu = 5"):
        uni, control, coarse = (accuracy(records, name, response=response) for name in SCHEMES)
        findings.append(Finding(f"{response}: alternating minus push-pull, in points:", interval(control - coarse), low=0))
        more = (control - coarse) - (uni - control)
        findings.append(Finding("this lead exceeds the lead of uni over alternating by", interval(more), low=0))
    return verdict(*findings)


def _symmetric(records: list[Record]) -> Verdict:
    """Check that `uni` has no advantage over other schemes if LTD retraces LTP.

    The lead of `uni` over `alternating` must be negative. Its leads over `push-pull` and `reference` must be below `MARGIN`
    points.
    """
    point = {"response": "nu = 5, retraced"}
    uni = accuracy(records, "uni", **point)
    gaps = {other: uni - accuracy(records, other, **point) for other in ("alternating", "push-pull", "reference")}
    return verdict(
        *(
            Finding(
                f"retraced: uni minus {NAMES.get(other, other)}, in points:",
                interval(gap),
                high=0 if other == "alternating" else MARGIN,
            )
            for other, gap in gaps.items()
        )
    )


def _single_step(records: list[Record]) -> Verdict:
    def ahead(rule: str) -> pd.Series:
        point = {"rule": rule, "response": "abrupt LTD"}
        return accuracy(records, "uni", **point) - accuracy(records, "push-pull", **point)

    single, stochastic = ahead("single"), ahead("stochastic")
    return verdict(
        Finding("abrupt LTD, uni minus push-pull in points, stochastic rule:", interval(stochastic), low=0),
        Finding("the single-step rule increases the lead of uni over push-pull by", interval(single - stochastic), low=0),
    )


def _batches(records: list[Record]) -> Verdict:
    def change(label: str) -> pd.Series:
        ten, one = (accuracy(records, label, batch=batch, response="linear") for batch in (10, 1))
        return ten - one

    return verdict(
        *(
            Finding(f"linear, {label}: batch size 10 minus batch size 1, in points:", interval(change(label)), -CLOSE, CLOSE)
            for label in ("uni", "push-pull")
        )
    )


OURS = "this workbench"
declare(
    "synapse",
    Claim(
        "levels", "Linear devices with a high dynamic range (many levels) reach the accuracy of software back-propagation",
        "abstract", "comparable (no number is public)", "synapse/levels", _many_levels,
    ),
    Claim(
        "nonlinear",
        "On nonlinear devices unidirectional updating is more accurate than push-pull and one-device updating (stochastic rule)",
        "abstract",
        "better than the other methods tried", "synapse/schemes", _beats("nu = 5", "push-pull", "reference"),
    ),
    Claim(
        "abrupt",
        "If depression (LTD) is abrupt, unidirectional updating is more accurate than every scheme that also sends pulses down, "
        "because it never uses LTD",
        "abstract (asymmetric response)",
        "better than the other methods tried", "synapse/schemes",
        _beats("abrupt LTD", "alternating", "push-pull", "reference", "reference, shifted"),
    ),
    Claim(
        "variation", "Unidirectional updating compensates for device-to-device variation",
        "abstract, v2", "compensates", "synapse/compensation", _compensates,
    ),
    Claim(
        "mismatch",
        "Ours: on linear devices with variation, unidirectional updating loses accuracy mainly because the two devices of a pair "
        "differ; pairs of equal devices remove more than half of the loss",
        OURS, "-", "synapse/compensation", _mismatch,
    ),
    Claim(
        "verified",
        "Ours, a conjecture: unidirectional updating compensates for variation if only the range varies and refresh is "
        "write-verified",
        OURS, "-", "synapse/compensation", _verified,
    ),
    Claim(
        "transfer",
        "Ours: at a step spread of 0.1 to 0.5, weights that are trained in software and then written open-loop are more accurate "
        "than weights that are trained on the devices (stochastic rule)",
        OURS, "-", "synapse/variation",
        better(  # at each step spread, the written weights must be better than every scheme that is trained on the devices
            ACCURACY, "software, then written", *SCHEMES, "reference", per="sigma", among=(0.1, 0.2, 0.3, 0.5), kind="step",
            say=lambda one, other, sigma: f"step spread {sigma:g}: written weights minus {NAMES.get(other, other)}, in points:",
        ),
    ),
    Claim(
        "refresh", "Ours: on linear devices unidirectional updating needs refresh", OURS, "-", "synapse/schemes", _needs_refresh,
    ),
    Claim(
        "granularity",
        "Ours: on nonlinear devices with mirrored LTD, most of the advantage over push-pull comes from the smaller step: "
        "alternating updating, whose step is about as small, has most of this advantage too", OURS,
        "-", "synapse/schemes", _control,
    ),
    Claim(
        "symmetric",
        "Ours: on nonlinear devices whose depression (LTD) retraces their potentiation (LTP), unidirectional updating has no "
        "advantage", OURS,
        "-", "synapse/schemes", _symmetric,
    ),
    Claim(
        "single",
        "Ours: if LTD is abrupt, the lead of unidirectional updating over push-pull is larger with single steps (the ISCAS rule, "
        "which has no learning rate) than with stochastic pulse counts",
        OURS, "-", "synapse/rules", _single_step,
    ),
    Claim(
        "batch",
        "Ours: on linear devices the mean accuracy at batch size 10 is within 2 points of that at batch size 1", OURS, "-",
        "synapse/batches", _batches,
    ),
    Claim(
        "94.5", "Single steps on gated Schottky diodes reach 94.50 % accuracy on the MNIST training set",
        "Lim et al., ISCAS 2018", "94.50 % (training set)", "",
        undecidable("the device curve, the network size and the number of epochs are not public"),
    ),
)  # fmt: skip
