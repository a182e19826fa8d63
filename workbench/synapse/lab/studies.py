"""Comparisons of update schemes that vary the devices, their imperfections, the update rule, the refresh, or the batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import model_validator

from workbench.comparison import Point, comparison
from workbench.knobs import vary
from workbench.synapse.config import RULES, SCHEMES, SOFTWARE
from workbench.synapse.device_config import LAWS
from workbench.synapse.lab import study_figures as figures
from workbench.synapse.lab.networks import JUDGED, SCALES, StudyConfig, network

LINEAR = {"nonlinearity_up": 0.0, "nonlinearity_down": 0.0}
RESPONSES: dict[str, dict[str, Any]] = {
    "linear": LINEAR,
    "nu = 3": {"nonlinearity_up": 3.0, "nonlinearity_down": 3.0},
    "nu = 5": {"nonlinearity_up": 5.0, "nonlinearity_down": 5.0},
    "nu = 5, retraced": {"nonlinearity_up": 5.0, "nonlinearity_down": 5.0, "retraced": True},
    "abrupt LTD": {"nonlinearity_up": 1.0, "nonlinearity_down": 10.0},
}
SHAPE = ("device", "nonlinearity_up", "nonlinearity_down", "retraced")  # the knobs of the device response
# If LTP and LTD differ, random pulses move a single device to its symmetry point. For a fair comparison, this variant of
# the reference scheme represents weight 0 by that point.
SHIFTED = {"scheme": "reference", "reference_point": "symmetry point"}
# Rounding pulse counts to the nearest integer drops small updates, so the deterministic rule needs higher learning rates.
RULE_SCALES = {
    "smoke": {**JUDGED, "samples": 1500, "rates": (0.03, 0.1)},
    "laptop": {**SCALES["laptop"], "rates": (0.003, 0.01, 0.03, 0.1, 0.3)},
    "paper": SCALES["paper"],
}


@comparison(
    "synapse/schemes",
    version=3,
    fit=network,
    figure=figures.draw_schemes,
    presets=SCALES,
    swept=(*SHAPE, "scheme", "reference_point", "refresh"),
    paper="comparison of the updating methods for several conductance responses (abstract)",
)
def schemes(config: StudyConfig) -> Iterator[Point]:
    """Compare the accuracy of all update schemes on linear, nonlinear and abrupt devices, and of `uni` without refresh."""
    yield config.point("software", {"response": "-"}, **SOFTWARE)
    for response, shape in RESPONSES.items():
        yield from config.schemes({"response": response}, **shape)
    yield config.point("reference, shifted", {"response": "abrupt LTD"}, **SHIFTED, **RESPONSES["abrupt LTD"])
    yield config.point("uni, no refresh", {"response": "linear"}, scheme="uni", refresh="none", **LINEAR)
    # Without refresh, a lower learning rate is best. Each of the following points has one fixed rate. One of these rates is the
    # best rate with refresh, so the point with this rate shows the effect of refresh at the same rate.
    for rate in config.rates:
        knobs = {"scheme": "uni", "refresh": "none", **LINEAR}
        yield Point(
            f"uni, no refresh, rate {rate:g}", {"response": "linear"}, knobs, [{"rate": rate}], why="one fixed learning rate"
        )


class LevelsConfig(StudyConfig):
    """The knobs of `levels`, which compares networks of devices with several numbers of levels."""

    @model_validator(mode="after")
    def _levels_matter(self) -> Self:
        if self.device not in LAWS:
            raise ValueError(
                f"device={self.device!r}: this device has its own number of levels; expected a response law, such as exponential"
            )
        return self


@comparison(
    "synapse/levels",
    version=3,
    fit=network,
    figure=figures.draw_levels,
    presets=SCALES,
    swept=("scheme", "levels", "levels_down"),
    paper="accuracy against the number of conductance levels (dynamic range)",
)
def levels(config: LevelsConfig) -> Iterator[Point]:
    """Measure accuracy against the number of levels for each scheme, and the accuracy of software for comparison."""
    yield config.point("software", {"levels": 64}, **SOFTWARE)
    for count in (8, 16, 32, 64, 128, 256, 1024):
        yield from config.schemes({"levels": count}, levels=count)


@comparison(
    "synapse/nonlinearity",
    version=3,
    fit=network,
    figure=figures.draw_nonlinearity,
    presets=SCALES,
    swept=(*SHAPE, "scheme"),
    paper="accuracy against nonlinearity, for each updating method",
)
def nonlinearity(config: StudyConfig) -> Iterator[Point]:
    """Measure accuracy against the nonlinearity of LTP and mirrored LTD for each scheme."""
    yield config.point("software", {"nu": 0.0}, **SOFTWARE)
    for nu in (0.0, 1.0, 2.0, 3.0, 5.0, 8.0):
        yield from config.schemes({"nu": nu}, nonlinearity_up=nu, nonlinearity_down=nu)


@comparison(
    "synapse/abruptness",
    version=3,
    fit=network,
    figure=figures.draw_abruptness,
    presets=SCALES,
    swept=(*SHAPE, "scheme", "reference_point"),
    paper="accuracy against the abruptness of LTD (asymmetry), for each updating method",
)
def abruptness(config: StudyConfig) -> Iterator[Point]:
    """Measure accuracy against the nonlinearity of LTD for each scheme, with LTP at nu = 1."""
    yield config.point("software", {"nu": 1.0}, **SOFTWARE)
    for nu in (0.0, 1.0, 3.0, 5.0, 10.0, 20.0):
        shape = {"nonlinearity_up": 1.0, "nonlinearity_down": nu}
        yield from config.schemes({"nu": nu}, **shape)
        yield config.point("reference, shifted", {"nu": nu}, **SHIFTED, **shape)


@comparison(
    "synapse/variation",
    version=3,
    fit=network,
    figure=figures.draw_variation,
    presets={**SCALES, "smoke": {**SCALES["smoke"], "samples": 2000}},
    swept=("published_noise", "scheme", "step_spread", "range_spread"),
    paper="accuracy against device-to-device variation, for each updating method",
)
def variation(config: StudyConfig) -> Iterator[Point]:
    """Measure accuracy against the step spread and the range spread, for each scheme and for weights trained in software."""
    for kind, name in (("step", "step_spread"), ("range", "range_spread")):
        for sigma in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0):
            at = {"kind": kind, "sigma": sigma}
            yield from config.schemes(at, **{name: sigma})
            yield config.point("software, then written", at, transfer=True, scheme="uni", **{name: sigma})


_STEP, _RANGE, _ALIKE = {"step_spread": 0.3}, {"range_spread": 0.3}, {"pair_correlation": 1.0}
VARIATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "step .3": _STEP,
    "range .3": _RANGE,
    "range .3, refresh verified": {**_RANGE, "refresh": "write-verify"},
    "step .3, pairs alike": _STEP | _ALIKE,
    "range .3, pairs alike": _RANGE | _ALIKE,
    "stuck 5 %": {"stuck": 0.05},
    "nu = 3": RESPONSES["nu = 3"],
    "nu = 3, step .3": RESPONSES["nu = 3"] | _STEP,
    "nu = 3, range .3": RESPONSES["nu = 3"] | _RANGE,
}


def _batch(rule: str) -> dict[str, int]:
    return {"batch": 10} if rule == "netted" else {}  # this rule sums the gradient over a batch


@comparison(
    "synapse/compensation",
    version=4,
    fit=network,
    figure=figures.draw_compensation,
    presets={**RULE_SCALES, "smoke": {**JUDGED, "samples": 1000, "rates": (0.05,)}},
    swept=(
        *SHAPE,
        *("published_noise", "scheme", "step_spread", "range_spread", "pair_correlation", "stuck"),
        *("rule", "batch", "refresh"),
    ),
    paper="the claim that unidirectional updating compensates for device-to-device variation (abstract, v2)",
)
def compensation(config: StudyConfig) -> Iterator[Point]:
    """Measure how much accuracy the schemes with pairs of devices lose to unequal and stuck devices, under every update rule."""
    for rule in RULES:
        for kind, knobs in VARIATIONS.items():
            names = ("uni",) if "refresh" in knobs else SCHEMES[:3]  # the other schemes are never refreshed
            yield from config.schemes({"rule": rule, "kind": kind}, names, rule=rule, **_batch(rule), **knobs)


@comparison(
    "synapse/rules",
    version=3,
    fit=network,
    figure=figures.draw_rules,
    presets=RULE_SCALES,
    swept=(*SHAPE, "scheme", "rule", "batch"),
    paper="the rule that turns a gradient into pulses (our addition: the public parts of the paper do not give it)",
)
def rules(config: StudyConfig) -> Iterator[Point]:
    """Compare all rules that turn a gradient into pulses, for every scheme and three device responses."""
    for response in ("linear", "nu = 3", "abrupt LTD"):
        for rule in RULES:
            at = {"rule": rule, "response": response}
            yield from config.schemes(at, rule=rule, **_batch(rule), **RESPONSES[response])


@comparison(
    "synapse/refresh",
    version=3,
    fit=network,
    figure=figures.draw_refresh,
    presets=SCALES,
    swept=(*SHAPE, "scheme", "refresh", "refresh_every"),
    paper="the refresh that unidirectional updating needs (our addition: the public parts of the paper do not describe it)",
)
def refresh(config: StudyConfig) -> Iterator[Point]:
    """Measure accuracy and refresh pulses of unidirectional training for several refresh periods and policies."""
    for response in ("linear", "nu = 3"):
        for period in (0, 100, 300, 1000, 3000, 10_000):
            at, knobs = ({"response": response, "period": period}, {"refresh_every": period, **RESPONSES[response]})
            yield config.point("uni", at, scheme="uni", **knobs)
    for policy in ("open-loop", "write-verify", "ideal"):
        at, knobs = {"response": "nu = 3", "period": 300}, {"refresh_every": 300, **RESPONSES["nu = 3"]}
        yield config.point(policy, at, scheme="uni", refresh=policy, **knobs)


@comparison(
    "synapse/batches",
    version=3,
    fit=network,
    figure=figures.draw_batches,
    presets={name: {**preset, "rates": (0.01,)} if isinstance(preset, dict) else preset for name, preset in SCALES.items()},
    swept=(*SHAPE, "scheme", "batch"),
    paper="the effect of mini-batches (our addition: the hardware updates its weights after each sample)",
)
def batches(config: StudyConfig) -> Iterator[Point]:
    """Measure accuracy against the batch size, at the same learning rate for all batch sizes.

    All errors of a batch are computed with the weights at the start of the batch.
    """
    for response in ("linear", "nu = 3"):
        for batch in (1, 10, 32, 100):
            at, knobs = {"response": response, "batch": batch}, {"batch": batch, **RESPONSES[response]}
            yield from config.schemes(at, ("uni", "push-pull"), **knobs)


class FactorsConfig(StudyConfig):
    """The knobs of `factors`: networks of devices with several imperfections, which are removed one at a time.

    By default, the devices have the curve of Ag:a-Si, a step spread of 0.2, and cycle-to-cycle noise of one mean step. The
    published cycle-to-cycle noise of Ag:a-Si is larger: 3.5 % of the range, which is 3.4 mean steps.
    """

    levels: int = vary(StudyConfig.model_fields["levels"], 97, essential=False, when=None)
    nonlinearity_up: float = vary(StudyConfig.model_fields["nonlinearity_up"], 2.0, essential=False, when=None)
    nonlinearity_down: float = vary(StudyConfig.model_fields["nonlinearity_down"], 5.0, essential=False, when=None)
    step_spread: float = vary(StudyConfig.model_fields["step_spread"], 0.2, when=None)
    cycle: float = vary(StudyConfig.model_fields["cycle"], 1.0, when=None)


@comparison(
    "synapse/factors",
    version=3,
    fit=network,
    figure=figures.draw_factors,
    presets=SCALES,
    swept=("scheme", "device", "published_noise"),
    paper="the accuracy lost by each imperfection (our addition: the public parts of the paper do not report it)",
)
def factors(config: FactorsConfig) -> Iterator[Point]:
    """Measure the accuracy with one imperfection removed at a time."""
    # With more levels, each step is smaller. So two cases are measured: in one, the noise of a pulse shrinks in proportion to the
    # step; in the other, the noise stays the same.
    sigma = config.cycle_of_range(config.levels)
    spreads = ("step_spread", "range_spread", "shape_spread", "asymmetry_spread")
    without: dict[str, dict[str, Any]] = {
        "as it is": {},
        "4096 levels, noise shrinks along": {"levels": 4096, "cycle": sigma * config.levels, "cycle_unit": "mean step"},
        "4096 levels, noise stays": {"levels": 4096, "cycle": 100 * sigma, "cycle_unit": "% of range"},
        "linear response": LINEAR,
        "no device spread": dict.fromkeys(spreads, 0.0),
        "no cycle noise": {"cycle": 0.0},
        "ideal refresh": {"refresh": "ideal"},
    }
    yield config.point("software", {"without": "-"}, **SOFTWARE)
    for factor, knobs in without.items():
        names = ("uni",) if factor == "ideal refresh" else ("uni", "push-pull")  # push-pull is never refreshed
        yield from config.schemes({"without": factor}, names, **knobs)
