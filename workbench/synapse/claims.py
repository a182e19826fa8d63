"""What the paper's public text claims, and what this project's note found, tested on MNIST; see data/papers/synapse.csv."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from workbench.experiment import Record
from workbench.papers import Claim, Verdict, undecidable
from workbench.synapse.study_figures import at_best_rate

SURE = 2.0  # standard errors by which a mean must be above another: with three runs each a weak test (about one in eight)
CLOSE = 2.0  # points of accuracy that count as comparable
LITTLE = 5.0  # points whose loss counts as compensated, where others lose more
SCHEMES = ("uni", "alternating", "push-pull")  # of pairs
FLOOR = 50.0  # percent: below it a scheme has not learned, and what variation costs it says nothing


def _holds(good: bool, measured: str, *errors: float) -> Verdict:
    """The verdict; undecidable where it rests on standard `errors` that one run does not have."""
    if any(math.isnan(error) for error in errors):
        return Verdict("undecidable here", f"{measured} (one run: no error to judge by)")
    return Verdict("holds" if good else "fails", measured)


def _at_best(check: Callable[[pd.DataFrame], Verdict]) -> Callable[[list[Record]], Verdict]:
    """A check of the rows of each point at its best rate, as one of records."""
    return lambda records: check(at_best_rate(records))


def _means(best: pd.DataFrame, *keys: str) -> pd.Series:
    """Mean accuracies in percent by `keys`."""
    return 100 * best.groupby(list(keys), dropna=False)["accuracy"].mean()


def _accuracies(best: pd.DataFrame, where: dict) -> pd.Series:
    """Accuracies in percent of one point, a run each."""
    for key, value in where.items():
        best = best[best[key] == value]
    return 100 * best["accuracy"]


def _gap(a: pd.Series, b: pd.Series) -> tuple[float, float]:
    """Difference of two means, and its standard error; NaN for one run."""
    return a.mean() - b.mean(), math.sqrt(a.var() / len(a) + b.var() / len(b))


def _difference(best: pd.DataFrame, one: dict, other: dict) -> tuple[float, float]:
    """Mean accuracy of `one` minus that of `other` in points, and its standard error over seeds."""
    return _gap(_accuracies(best, one), _accuracies(best, other))


def _over(gaps: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{mean:+.1f} ± {error:.1f} over {other}" for other, (mean, error) in gaps.items())


def _many_levels(best: pd.DataFrame) -> Verdict:
    """Check: with the most levels every pair comes surely close to software, and with the fewest uni surely does not."""
    table = _means(best, "name", "x")
    most, fewest = max(x for _, x in table.index), min(x for name, x in table.index if name == "uni")
    software = {"name": "software"}
    short = {name: _difference(best, software, {"name": name, "x": most}) for name in SCHEMES}
    few = _difference(best, software, {"name": "uni", "x": fewest})
    measured = f"software {table['software'].iloc[0]:.1f} %; {most} linear levels: " + ", ".join(
        f"{name} {table[name, most]:.1f}" for name in SCHEMES
    )
    return _holds(
        all(gap + SURE * error < CLOSE for gap, error in short.values()) and few[0] - SURE * few[1] > CLOSE,
        f"{measured}; {fewest} levels, uni: {table['uni', fewest]:.1f}",
        few[1],
        *(error for _, error in short.values()),
    )


def _beats(device: str, *others: str) -> Callable[[pd.DataFrame], Verdict]:
    """Check: uni is above each of the others on `device`, by two standard errors."""

    def check(best: pd.DataFrame) -> Verdict:
        uni, shape = {"name": "uni", "device_name": device}, " (mirrored)" if device.startswith("nu") else ""
        gaps = {other: _difference(best, uni, uni | {"name": other}) for other in others}
        return _holds(
            all(mean > SURE * error for mean, error in gaps.values()),
            f"{device}{shape}: uni is " + _over(gaps),
            *(error for _, error in gaps.values()),
        )

    return check


def _lost(best: pd.DataFrame, scheme: str, rule: str, kind: str, alike: str = "none") -> tuple[float, float]:
    """Points of accuracy that a kind of variation costs a scheme under `rule`, and the standard error."""
    point = {"name": scheme, "x": rule}
    return _difference(best, point | {"device_name": alike}, point | {"device_name": kind})


def _learned(best: pd.DataFrame, *schemes: str, alike: str = "none") -> list[str]:
    """Rules under which all these schemes learn, without variation."""
    table = _means(best, "name", "x", "device_name")
    rules = best["x"].unique()
    return [rule for rule in rules if min(table[scheme, rule, alike] for scheme in schemes) > FLOOR]


KINDS = ("step .3", "range .3")
# points without variation, and what their kinds of variation are called: linear and nonlinear devices
RESPONSES = {"none": "", "nu = 3": "nu = 3, "}


def _compensates(best: pd.DataFrame) -> Verdict:
    """Check: for some device and rule that learns, each spread costs uni little, and surely less than the other schemes."""
    parts, errors, good = [], [], False
    for alike, prefix in RESPONSES.items():
        for rule in _learned(best, *SCHEMES, alike=alike):
            lost = {
                kind: [_lost(best, scheme, rule, prefix + kind, alike) for scheme in SCHEMES]
                for kind in KINDS
            }
            errors += [error for each in lost.values() for _, error in each]
            good |= all(
                uni[0] < LITTLE
                and all(other[0] - uni[0] > SURE * math.hypot(uni[1], other[1]) for other in others)
                for uni, *others in lost.values()
            )
            points = " | ".join("/".join(str(round(mean)) for mean, _ in each) for each in lost.values())
            parts.append(f"{prefix}{rule} {points}")
    if not parts:
        return Verdict("undecidable here", "no rule learns under all three schemes")
    measured = "points lost by step .3 | range .3 (uni/alternating/push-pull): " + "; ".join(parts)
    return _holds(good, measured, *errors)


def _mismatch(best: pd.DataFrame) -> Verdict:
    """Check: wherever variation costs uni something, surely more than half of it is gone where pairs are alike."""
    parts, errors, gone = [], [], []
    for rule in _learned(best, "uni"):
        pairs = []
        for kind in KINDS:
            (lost, error), (left, other) = (
                _lost(best, "uni", rule, k) for k in (kind, f"{kind}, pairs alike")
            )
            errors += [error, other]
            if lost > max(CLOSE, SURE * error):
                gone.append(lost / 2 - left > SURE * math.hypot(error / 2, other))
            pairs.append(f"{round(lost)} -> {round(left)}")
        parts.append(f"{rule} {' | '.join(pairs)}")
    measured = "points uni loses, spread device to device -> pair to pair, step .3 | range .3: " + "; ".join(
        parts
    )
    if not gone:
        return Verdict("undecidable here", f"{measured}; variation costs nothing")
    return _holds(all(gone), measured, *errors)


def _verified(best: pd.DataFrame) -> Verdict:
    point = {"name": "uni", "x": "stochastic"}
    alike, spread, verified = (
        _accuracies(best, point | {"device_name": kind})
        for kind in ("none", "range .3", "range .3, refresh verified")
    )
    lost, error = _gap(alike, verified)
    return _holds(
        lost < CLOSE,
        f"uni, stochastic rule: {alike.mean():.1f} % alike, {spread.mean():.1f} with spread, {verified.mean():.1f} with "
        "refresh verified",
        error,
    )


def _transfer(best: pd.DataFrame) -> Verdict:
    """Check: written weights are surely better than every scheme trained on chip, at each step spread of .1 to .5."""
    point, gaps = {"device_name": "step"}, {}
    for x in sorted(best[(best["device_name"] == "step") & best["x"].between(0.1, 0.5)]["x"].unique()):
        written = point | {"x": x, "name": "software, then written"}
        each = [
            _difference(best, written, point | {"x": x, "name": scheme}) for scheme in (*SCHEMES, "reference")
        ]
        gaps[x] = min(each)
    measured = "written after training minus best trained on chip: " + ", ".join(
        f"{mean:+.1f} ± {error:.1f} at {x:g}" for x, (mean, error) in gaps.items()
    )
    good = all(mean > SURE * error for mean, error in gaps.values())
    return _holds(good, measured, *(error for _, error in gaps.values()))


def _needs_refresh(records: list[Record]) -> Verdict:
    """Check: without refresh 15 points are missing at the same rate, and surely some at its own best rate."""
    table = pd.DataFrame(records)
    table = table[table["device_name"] == "linear"]

    def runs(name: str, rate: float | None = None) -> tuple[pd.Series, float]:
        rows = table[table["name"] == name]
        best = rows.groupby("rate")["validation"].mean().idxmax() if rate is None else rate
        return 100 * rows[rows["rate"] == best]["accuracy"], best

    refreshed, rate = runs("uni")
    same, own = runs("uni, no refresh", rate)[0], runs("uni, no refresh")[0]
    gap, error = _gap(refreshed, own)
    measured = (
        f"linear: {refreshed.mean():.1f} % with refresh, {same.mean():.1f} without at the same rate ({rate:g}), "
        f"{own.mean():.1f} without at its own best rate"
    )
    return _holds(same.mean() <= refreshed.mean() - 15 and gap > SURE * error, measured, error)


def _control(best: pd.DataFrame) -> Verdict:
    """Check: the control with the same step is surely ahead of push-pull, and by more than uni is ahead of the control."""
    parts, errors, good = [], [], True
    for device in ("nu = 3", "nu = 5"):
        uni, control, coarse = (
            {"name": name, "device_name": device} for name in ("uni", "alternating", "push-pull")
        )
        step, error = _difference(best, control, coarse)
        rest, other = _difference(best, uni, control)
        errors += [error, other]
        good &= step > max(SURE * error, rest)
        parts.append(
            f"{device}: control {step:+.1f} ± {error:.1f} over push-pull, uni {rest:+.1f} ± {other:.1f} over control"
        )
    return _holds(good, "; ".join(parts), *errors)


def _symmetric(best: pd.DataFrame) -> Verdict:
    """Check: where LTD retraces LTP uni is surely behind the control, and not surely ahead of any other scheme."""
    point = {"device_name": "nu = 5, retraced"}
    gaps = {
        other: _difference(best, point | {"name": "uni"}, point | {"name": other})
        for other in ("alternating", "push-pull", "reference")
    }
    control, error = gaps["alternating"]
    return _holds(
        control < -SURE * error and all(mean < SURE * e for mean, e in gaps.values()),
        "nu = 5, retraced: uni is " + _over(gaps),
        *(e for _, e in gaps.values()),
    )


def _single_step(best: pd.DataFrame) -> Verdict:
    def gap(rule: str) -> tuple[float, float]:
        point = {"x": rule, "device_name": "abrupt LTD"}
        return _difference(best, point | {"name": "uni"}, point | {"name": "push-pull"})

    gaps = {rule: gap(rule) for rule in best["x"].unique()}
    (single, error), (stochastic, other) = gaps["single"], gaps["stochastic"]
    return _holds(
        single - stochastic > SURE * math.hypot(error, other) and stochastic > 0,
        "abrupt LTD, uni over push-pull, points: "
        + ", ".join(f"{rule} {mean:+.1f}" for rule, (mean, _) in gaps.items()),
        error,
        other,
    )


def _batches(best: pd.DataFrame) -> Verdict:
    def change(name: str, device: str) -> tuple[float, float]:
        point = {"name": name, "device_name": device}
        return _difference(best, point | {"x": 10}, point | {"x": 1})

    ten = {(n, d): change(n, d) for n in ("uni", "push-pull") for d in ("linear", "nu = 3")}
    measured = "batch 10 minus batch 1, one rate: " + ", ".join(
        f"{n}, {d} {mean:+.1f} ± {error:.1f}" for (n, d), (mean, error) in ten.items()
    )
    linear = [found for (_, device), found in ten.items() if device == "linear"]
    return _holds(max(abs(mean) for mean, _ in linear) <= CLOSE, measured, *(error for _, error in linear))


OURS = "this workbench"
CLAIMS = [
    Claim(
        "levels", "Linear response with high dynamic range (many levels) reaches the accuracy of software back-propagation",
        "abstract", "comparable; no number is public", "synapse/levels", _at_best(_many_levels),
    ),
    Claim(
        "nonlinear", "Unidirectional updating beats the usual (push-pull, one-device) updating on nonlinear devices", "abstract",
        "better than the other methods tried", "synapse/schemes", _at_best(_beats("nu = 5", "push-pull", "reference")),
    ),
    Claim(
        "abrupt", "It beats every bidirectional scheme where LTD is abrupt, since it never uses LTD",
        "abstract (asymmetric response)",
        "better than the other methods tried", "synapse/schemes",
        _at_best(_beats("abrupt LTD", "alternating", "push-pull", "reference", "reference, shifted")),
    ),
    Claim(
        "variation", "The rule compensates device-to-device variation",
        "abstract, v2", "compensates", "synapse/compensation", _at_best(_compensates),
    ),
    Claim(
        "mismatch",
        "Ours: what variation costs uni on linear devices is mostly mismatch within pairs: half and more goes if alike",
        OURS, "-", "synapse/compensation", _at_best(_mismatch),
    ),
    Claim(
        "verified", "Our note's guess: the compensation holds where only the range varies and refresh is write-verified", OURS,
        "-", "synapse/compensation", _at_best(_verified),
    ),
    Claim(
        "transfer",
        "Ours: at a step spread of 0.1 to 0.5, software weights written open-loop beat training on chip (stochastic rule)",
        OURS, "-", "synapse/variation", _at_best(_transfer),
    ),
    Claim(
        "refresh", "Ours: unidirectional training needs refresh", OURS, "-", "synapse/schemes", _needs_refresh,
    ),
    Claim(
        "granularity",
        "Ours: on mirrored nonlinear devices most of the advantage is the finer step's: the control has it too", OURS,
        "-", "synapse/schemes", _at_best(_control),
    ),
    Claim(
        "symmetric", "Ours: on symmetric nonlinear devices (LTD retraces LTP) unidirectional updating has no advantage", OURS,
        "-", "synapse/schemes", _at_best(_symmetric),
    ),
    Claim(
        "single", "Ours: single steps (ISCAS; no rate to choose) make more of the advantage on abrupt LTD than stochastic counts",
        OURS, "-", "synapse/rules", _at_best(_single_step),
    ),
    Claim(
        "batch", "Ours: on linear devices the mean at batch 10 stays within 2 points of batch 1", OURS, "-",
        "synapse/batches", _at_best(_batches),
    ),
    Claim(
        "94.5", "94.50 % on the MNIST training set with single steps on gated Schottky diodes", "Lim et al., ISCAS 2018",
        "94.50 % (training set)", "", undecidable("the device's curve, the network's size and the epochs are not public"),
    ),
]  # fmt: skip
