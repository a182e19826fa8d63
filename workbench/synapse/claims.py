"""What the paper's public text claims, and what this project's note found, tested on MNIST; see data/papers/synapse.csv."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from workbench.experiment import Record
from workbench.papers import Claim, Verdict, undecidable
from workbench.synapse.study_figures import at_best_rate, mean_accuracy

SURE = 2.0  # standard errors by which a mean must be above another
CLOSE = 2.0  # points of accuracy that count as comparable
FLOOR = 50.0  # percent: below it a scheme has not learned, and what variation costs it says nothing


def _holds(good: bool, measured: str) -> Verdict:
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
        parts, good = [], True
        for other in others:
            mean, error = _difference(
                records, {"name": "uni", "device_name": device}, {"name": other, "device_name": device}
            )
            good &= bool(mean > SURE * error)
            parts.append(f"{mean:+.1f} ± {error:.1f} over {other}")
        return _holds(good, f"{device}: uni is " + ", ".join(parts))

    return check


SCHEMES = ("uni", "alternating", "push-pull")


def _lost(table: pd.Series, rule: str, kind: str) -> list[float]:
    """Points of accuracy that a kind of variation costs each scheme under `rule`."""
    return [table[scheme, rule, "none"] - table[scheme, rule, kind] for scheme in SCHEMES]


def _compensates(records: list[Record]) -> Verdict:
    """Check: for some rule that learns, variation of step and range both cost uni less than the other schemes."""
    table, parts, good = _means(records, "name", "x", "device_name"), [], False
    for rule in dict.fromkeys(record["x"] for record in records):
        lost = [_lost(table, rule, kind) for kind in ("step .3", "range .3")]
        learned = min(table[scheme, rule, "none"] for scheme in SCHEMES) > FLOOR
        good |= learned and all(uni < min(others) for uni, *others in lost)
        parts.append(f"{rule} " + " | ".join("/".join(f"{points:.0f}" for points in each) for each in lost))
    return _holds(good, "points lost by step .3 | range .3 (uni/alternating/push-pull): " + "; ".join(parts))


def _mismatch(records: list[Record]) -> Verdict:
    """Check: under every rule, two thirds of what variation costs uni are gone where pairs are alike."""
    table, parts, good = _means(records, "name", "x", "device_name"), [], True
    for rule in dict.fromkeys(record["x"] for record in records):
        lost = [
            _lost(table, rule, f"{kind}{suffix}")[0]
            for kind in ("step .3", "range .3")
            for suffix in ("", ", pairs alike")
        ]
        good &= lost[1] < lost[0] / 3 and lost[3] < lost[2] / 3
        parts.append(f"{rule} {lost[0]:.0f} -> {lost[1]:.0f} | {lost[2]:.0f} -> {lost[3]:.0f}")
    return _holds(
        good,
        "points uni loses, spread device to device -> pair to pair, step .3 | range .3: " + "; ".join(parts),
    )


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
    parts, good = [], True
    for device in ("nu = 3", "nu = 5"):
        fine, error = _difference(
            records, {"name": "uni", "device_name": device}, {"name": "alternating", "device_name": device}
        )
        coarse, _ = _difference(
            records, {"name": "uni", "device_name": device}, {"name": "push-pull", "device_name": device}
        )
        good &= bool(fine < CLOSE and coarse > fine)
        parts.append(f"{device}: {coarse:+.1f} over push-pull, {fine:+.1f} ± {error:.1f} over alternating")
    return _holds(good, "; ".join(parts))


def _single_step(records: list[Record]) -> Verdict:
    table = _means(records, "name", "x", "device_name")
    gap = {
        rule: table["uni", rule, "abrupt LTD"] - table["push-pull", rule, "abrupt LTD"]
        for rule in ("single", "stochastic")
    }
    measured = f"abrupt LTD, uni over push-pull, points: single steps {gap['single']:+.1f}, stochastic {gap['stochastic']:+.1f}"
    return _holds(gap["single"] > gap["stochastic"] > 0, measured)


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
