"""What the paper's public text claims, and what this project's note found, tested on MNIST; see data/papers/synapse.csv."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from workbench.experiment import Record
from workbench.papers import Claim, Verdict, undecidable
from workbench.synapse.study_figures import at_best_rate, mean_accuracy

SURE = 2.0  # standard errors by which a mean must be above another
CLOSE = 2.0  # points of accuracy that count as comparable
LITTLE = 5.0  # points whose loss counts as compensated, where others lose more
FLOOR = 50.0  # percent: below it a scheme has not learned, and what variation costs it says nothing


def _holds(good: bool, measured: str, *errors: float) -> Verdict:
    """The verdict; undecidable where it rests on standard `errors` that one run does not have."""
    if any(math.isnan(error) for error in errors):
        return Verdict("undecidable here", f"{measured} (one run: no error to judge by)")
    return Verdict("holds" if good else "fails", measured)


def _means(records: list[Record], *keys: str) -> pd.Series:
    """Mean accuracies in percent by `keys`."""
    return mean_accuracy(records).set_index(list(keys))["mean"].sort_index()


def _difference(records: list[Record], one: dict, other: dict) -> tuple[float, float]:
    """Mean accuracy of `one` minus that of `other` in points, and its standard error over seeds."""
    table = at_best_rate(records)

    def accuracies(where: dict) -> pd.Series:
        rows = table
        for key, value in where.items():
            rows = rows[rows[key] == value]
        return 100 * rows["accuracy"]

    a, b = accuracies(one), accuracies(other)
    return a.mean() - b.mean(), ((a.var() / len(a)) + (b.var() / len(b))) ** 0.5


def _many_levels(records: list[Record]) -> Verdict:
    table = _means(records, "name", "x")
    software, most = table["software"].iloc[0], max(x for _, x in table.index)
    few = table["uni", min(x for name, x in table.index if name == "uni")]
    best = {name: table[name, most] for name in ("uni", "alternating", "push-pull")}
    measured = f"software {software:.1f} %; {most} linear levels: " + ", ".join(
        f"{n} {v:.1f}" for n, v in best.items()
    )
    return _holds(
        min(best.values()) >= software - CLOSE and few < software - CLOSE,
        f"{measured}; 8 levels, uni: {few:.1f}",
    )


def _beats(device: str, *others: str) -> Callable[[list[Record]], Verdict]:
    """Check: uni is above each of the others on `device`, by two standard errors."""

    def check(records: list[Record]) -> Verdict:
        gaps = {
            other: _difference(
                records, {"name": "uni", "device_name": device}, {"name": other, "device_name": device}
            )
            for other in others
        }
        return _holds(
            all(mean > SURE * error for mean, error in gaps.values()),
            f"{device}: uni is "
            + ", ".join(f"{m:+.1f} ± {e:.1f} over {other}" for other, (m, e) in gaps.items()),
            *(error for _, error in gaps.values()),
        )

    return check


SCHEMES = ("uni", "alternating", "push-pull")


def _lost(records: list[Record], scheme: str, rule: str, kind: str) -> tuple[float, float]:
    """Points of accuracy that a kind of variation costs a scheme under `rule`, and the standard error."""
    point = {"name": scheme, "x": rule}
    return _difference(records, point | {"device_name": "none"}, point | {"device_name": kind})


def _learned(records: list[Record], *schemes: str) -> list[str]:
    """Rules under which all these schemes learn, without variation."""
    table = _means(records, "name", "x", "device_name")
    rules = dict.fromkeys(record["x"] for record in records)
    return [rule for rule in rules if min(table[scheme, rule, "none"] for scheme in schemes) > FLOOR]


KINDS = ("step .3", "range .3")


def _compensates(records: list[Record]) -> Verdict:
    """Check: for some rule that learns, each kind of spread costs uni little, and surely less than the other schemes."""
    parts, errors, good = [], [], False
    for rule in _learned(records, *SCHEMES):
        lost = {kind: [_lost(records, scheme, rule, kind) for scheme in SCHEMES] for kind in KINDS}
        errors += [error for each in lost.values() for _, error in each]
        good |= all(
            uni[0] < LITTLE
            and all(other[0] - uni[0] > SURE * math.hypot(uni[1], other[1]) for other in others)
            for uni, *others in lost.values()
        )
        points = " | ".join("/".join(f"{mean:.0f}" for mean, _ in each) for each in lost.values())
        parts.append(f"{rule} {points}")
    measured = "points lost by step .3 | range .3 (uni/alternating/push-pull): " + "; ".join(parts)
    return _holds(good, measured, *errors)


def _mismatch(records: list[Record]) -> Verdict:
    """Check: wherever variation costs uni something, two thirds of it are gone where pairs are alike."""
    parts, errors, kept = [], [], []
    for rule in _learned(records, "uni"):
        pairs = []
        for kind in KINDS:
            (lost, error), (left, _) = (
                _lost(records, "uni", rule, k) for k in (kind, f"{kind}, pairs alike")
            )
            errors.append(error)
            kept += [left / lost] if lost > max(CLOSE, SURE * error) else []
            pairs.append(f"{lost:.0f} -> {left:.0f}")
        parts.append(f"{rule} {' | '.join(pairs)}")
    measured = "points uni loses, spread device to device -> pair to pair, step .3 | range .3: " + "; ".join(
        parts
    )
    if not kept:
        return Verdict("undecidable here", f"{measured}; variation costs nothing")
    return _holds(max(kept) < 1 / 3, measured, *errors)


def _verified(records: list[Record]) -> Verdict:
    table = _means(records, "name", "x", "device_name")["uni", "stochastic"]
    verified, counted = table["range .3, refresh verified"], table["range .3"]
    return _holds(
        verified >= table["none"] - CLOSE,
        f"uni, stochastic rule: {table['none']:.1f} % alike, {counted:.1f} with spread, {verified:.1f} with refresh verified",
    )


def _transfer(records: list[Record]) -> Verdict:
    table = mean_accuracy(records)
    table = table[(table["device_name"] == "step") & (table["x"].between(0.1, 0.5))].set_index(["name", "x"])[
        "mean"
    ]
    spreads = sorted({x for _, x in table.index})
    schemes = ("uni", "alternating", "push-pull", "reference")
    gaps = {x: table["software, then written", x] - max(table[s, x] for s in schemes) for x in spreads}
    measured = "written after training minus best trained on chip: " + ", ".join(
        f"{v:+.1f} at {x:g}" for x, v in gaps.items()
    )
    return _holds(min(gaps.values()) > 0, measured)


def _needs_refresh(records: list[Record]) -> Verdict:
    table = pd.DataFrame(records)
    rows = (
        table[table["device_name"] == "linear"].groupby(["name", "rate"])[["validation", "accuracy"]].mean()
    )
    rate = rows.loc["uni"]["validation"].idxmax()
    same, own = rows.loc[("uni, no refresh", rate), "accuracy"], rows.loc["uni, no refresh"]
    best = own.loc[own["validation"].idxmax(), "accuracy"]
    with_refresh = rows.loc[("uni", rate), "accuracy"]
    measured = (
        f"linear: {100 * with_refresh:.1f} % with refresh, {100 * same:.1f} without at the same rate ({rate:g}), "
        f"{100 * best:.1f} without at its own best rate"
    )
    return _holds(same <= with_refresh - 0.15 and best < with_refresh, measured)


def _control(records: list[Record]) -> Verdict:
    """Check: the advantage on mirrored nonlinear devices is gone against the scheme with the same step."""
    parts, errors, good = [], [], True
    for device in ("nu = 3", "nu = 5"):
        fine, error = _difference(
            records, {"name": "uni", "device_name": device}, {"name": "alternating", "device_name": device}
        )
        errors.append(error)
        coarse, _ = _difference(
            records, {"name": "uni", "device_name": device}, {"name": "push-pull", "device_name": device}
        )
        good &= bool(fine < CLOSE and coarse > fine)
        parts.append(f"{device}: {coarse:+.1f} over push-pull, {fine:+.1f} ± {error:.1f} over alternating")
    return _holds(good, "; ".join(parts), *errors)


def _single_step(records: list[Record]) -> Verdict:
    def gap(rule: str) -> tuple[float, float]:
        point = {"x": rule, "device_name": "abrupt LTD"}
        return _difference(records, point | {"name": "uni"}, point | {"name": "push-pull"})

    gaps = {rule: gap(rule) for rule in dict.fromkeys(record["x"] for record in records)}
    (single, error), (stochastic, other) = gaps["single"], gaps["stochastic"]
    return _holds(
        single - stochastic > SURE * math.hypot(error, other) and stochastic > 0,
        "abrupt LTD, uni over push-pull, points: "
        + ", ".join(f"{rule} {mean:+.1f}" for rule, (mean, _) in gaps.items()),
        error,
        other,
    )


def _batches(records: list[Record]) -> Verdict:
    table = _means(records, "name", "device_name", "x")
    ten = {
        f"{n}, {d}": table[n, d, 10] - table[n, d, 1]
        for n in ("uni", "push-pull")
        for d in ("linear", "nu = 3")
    }
    measured = "batch 10 minus batch 1, one rate: " + ", ".join(f"{k} {v:+.1f}" for k, v in ten.items())
    return _holds(max(abs(v) for k, v in ten.items() if k.endswith("linear")) <= 1.5, measured)


OURS = "this workbench"
CLAIMS = [
    Claim(
        "levels", "Linear response with high dynamic range (many levels) reaches the accuracy of software back-propagation",
        "abstract", "comparable; no number is public", "synapse/levels", _many_levels,
    ),
    Claim(
        "nonlinear", "Unidirectional updating beats the usual (push-pull, one-device) updating on nonlinear devices", "abstract",
        "better than the other methods tried", "synapse/schemes", _beats("nu = 5", "push-pull", "reference"),
    ),
    Claim(
        "abrupt", "It beats every bidirectional scheme where LTD is abrupt, since it never uses LTD",
        "abstract (asymmetric response)",
        "better than the other methods tried", "synapse/schemes", _beats("abrupt LTD", "push-pull", "reference", "alternating"),
    ),
    Claim(
        "variation", "The rule compensates device-to-device variation",
        "abstract, v2", "compensates", "synapse/compensation", _compensates,
    ),
    Claim(
        "mismatch", "Ours: what variation costs uni is the mismatch within pairs: where they are alike it loses a third or less",
        OURS, "-", "synapse/compensation", _mismatch,
    ),
    Claim(
        "verified", "Ours: the compensation holds where only the range varies and refresh is write-verified", OURS, "-",
        "synapse/compensation", _verified,
    ),
    Claim(
        "transfer", "Ours: up to a step spread of 0.5, software weights written open-loop are better than training on chip",
        OURS, "-", "synapse/variation", _transfer,
    ),
    Claim(
        "refresh", "Ours: unidirectional training needs refresh", OURS, "-", "synapse/schemes", _needs_refresh,
    ),
    Claim(
        "granularity", "Ours: on mirrored nonlinear devices the advantage is the finer step's: gone against the control", OURS,
        "-", "synapse/schemes", _control,
    ),
    Claim(
        "single", "Ours: single steps (ISCAS) make more of the advantage on abrupt LTD than stochastic counts", OURS, "-",
        "synapse/rules", _single_step,
    ),
    Claim(
        "batch", "Ours: on linear devices a batch of 10 stays within 1.5 points of batch 1", OURS, "-",
        "synapse/batches", _batches,
    ),
    Claim(
        "94.5", "94.50 % on the MNIST training set with single steps on gated Schottky diodes", "Lim et al., ISCAS 2018",
        "94.50 % (training set)", "", undecidable("the device's curve, the network's size and the epochs are not public"),
    ),
]  # fmt: skip
