"""The sweeps behind the figures: schemes over devices, levels, shapes, variation and rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import model_validator

from workbench.experiment import Record, experiment
from workbench.synapse import study_figures as figures
from workbench.synapse.options import RULES, SCHEMES, SOFTWARE, inputs
from workbench.synapse.presets import PRESETS as DEVICE_PRESETS
from workbench.synapse.study import (
    DEVICES,
    LINEAR,
    PRESETS,
    RULE_PRESETS,
    SHAPE,
    SMOKE,
    SOFTWARE_POINT,
    Point,
    StudyConfig,
    steps,
    study,
)

# where LTP and LTD differ one device settles at its symmetry point; there it is fair to put weight 0
SHIFTED = {"name": "reference, shifted", "scheme": "reference", "reference": "symmetry point"}


def _schemes(config: StudyConfig) -> list[Point]:
    pairs = [
        {"name": scheme, "device_name": device, "scheme": scheme, **knobs}
        for device, knobs in DEVICES.items()
        for scheme in SCHEMES
    ]
    shifted = {"device_name": "abrupt LTD", **SHIFTED, **DEVICES["abrupt LTD"]}
    without = {
        "name": "uni, no refresh",
        "device_name": "linear",
        "scheme": "uni",
        "refresh": "none",
        **LINEAR,
    }
    return [{**SOFTWARE_POINT, "device_name": "-"}, *pairs, shifted, without]


class SchemesConfig(StudyConfig):
    """Every scheme on four devices."""

    swept = (*StudyConfig.swept, *SHAPE, "scheme", "reference", "refresh")
    presets = PRESETS


@experiment(
    "synapse/schemes", version=2, inputs=inputs, figure=figures.draw_schemes, steps=steps(_schemes),
    paper="the comparison of updating methods over conductance responses (abstract)",
)  # fmt: skip
def schemes(config: SchemesConfig, run: Any) -> Iterator[Record]:
    """Accuracy of every update scheme on linear, nonlinear and abrupt devices, and without refresh."""
    yield from study(config, run, _schemes(config))


def _levels(config: StudyConfig) -> list[Point]:
    return [SOFTWARE_POINT | {"x": 64}] + [
        {"name": scheme, "x": levels, "scheme": scheme, "levels": levels}
        for levels in (8, 16, 32, 64, 128, 256, 1024)
        for scheme in SCHEMES
    ]


class LevelsConfig(StudyConfig):
    """Numbers of levels."""

    swept = (*StudyConfig.swept, "scheme", "levels", "levels_down")
    presets = PRESETS

    @model_validator(mode="after")
    def _levels_matter(self) -> Self:
        if self.device == "measured" or self.device in DEVICE_PRESETS:
            raise ValueError(
                f"device={self.device!r}: has its own number of levels; expected a law, such as exponential"
            )
        return self


@experiment(
    "synapse/levels", version=2, inputs=inputs, figure=figures.draw_levels, steps=steps(_levels),
    paper="accuracy against the number of conductance levels (dynamic range)",
)  # fmt: skip
def levels(config: LevelsConfig, run: Any) -> Iterator[Record]:
    """Accuracy against the number of levels, per scheme, with software back-propagation as the line to reach."""
    yield from study(config, run, _levels(config))


def _nonlinearity(config: StudyConfig) -> list[Point]:
    return [SOFTWARE_POINT | {"x": 0.0}] + [
        {"name": scheme, "x": nu, "scheme": scheme, "nonlinearity_up": nu, "nonlinearity_down": nu}
        for nu in (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
        for scheme in SCHEMES
    ]


def _abruptness(config: StudyConfig) -> list[Point]:
    return [SOFTWARE_POINT | {"x": 1.0}] + [
        {**series, "x": nu, "nonlinearity_up": 1.0, "nonlinearity_down": nu}
        for nu in (0.0, 1.0, 3.0, 5.0, 10.0, 20.0)
        for series in (*({"name": scheme, "scheme": scheme} for scheme in SCHEMES), SHIFTED)
    ]


class NonlinearityConfig(StudyConfig):
    """Shapes of the response."""

    swept = (*StudyConfig.swept, *SHAPE, "scheme", "reference")
    presets = PRESETS


@experiment(
    "synapse/nonlinearity", version=2, inputs=inputs, figure=figures.draw_nonlinearity, steps=steps(_nonlinearity),
    paper="accuracy against nonlinearity, per updating method",
)  # fmt: skip
def nonlinearity(config: NonlinearityConfig, run: Any) -> Iterator[Record]:
    """Accuracy against the nonlinearity of LTP and mirrored LTD, per scheme."""
    yield from study(config, run, _nonlinearity(config))


@experiment(
    "synapse/abruptness", version=2, inputs=inputs, figure=figures.draw_abruptness, steps=steps(_abruptness),
    paper="accuracy against the abruptness of LTD (asymmetry), per updating method",
)  # fmt: skip
def abruptness(config: NonlinearityConfig, run: Any) -> Iterator[Record]:
    """Accuracy against the nonlinearity of LTD alone, LTP at nu = 1, per scheme."""
    yield from study(config, run, _abruptness(config))


SPREADS = {"step": "step_spread", "range": "range_spread"}


def _variation(config: StudyConfig) -> list[Point]:
    points = []
    for kind, name in SPREADS.items():
        for sigma in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0):
            shared = {"x": sigma, "device_name": kind, name: sigma}
            points += [{"name": scheme, "scheme": scheme, **shared} for scheme in SCHEMES]
            points.append(
                {
                    "name": "software, then written",
                    **SOFTWARE,
                    "scheme": "uni",
                    "transfer": True,
                    **shared,
                }
            )
    return points


class VariationConfig(StudyConfig):
    """Spreads from device to device."""

    swept = (*StudyConfig.swept, "published_noise", "scheme", "step_spread", "range_spread", "rule")
    presets = {**PRESETS, "smoke": {**SMOKE, "samples": 2000}}


@experiment(
    "synapse/variation", version=2, inputs=inputs, figure=figures.draw_variation, steps=steps(_variation),
    paper="accuracy against device-to-device variation, per updating method",
)  # fmt: skip
def variation(config: VariationConfig, run: Any) -> Iterator[Record]:
    """Accuracy against device-to-device variation of step and of range, per scheme, and of weights written after training."""
    yield from study(config, run, _variation(config))


def _compensation(config: StudyConfig) -> list[Point]:
    step, span = {"step_spread": 0.3}, {"range_spread": 0.3}
    alike, verified = {"pair_correlation": 1.0}, {"refresh": "write-verify"}
    curved = DEVICES["nu = 3"]
    changes = (
        {}, step, span, span | verified, step | alike, span | alike, {"stuck": 0.05}, curved, curved | step, curved | span,
    )  # fmt: skip
    kinds = dict(zip(figures.VARIATIONS, changes, strict=True))
    return [
        {"name": scheme, "x": rule, "device_name": kind, "scheme": scheme, "rule": rule, **knobs}
        | ({"batch": 10} if rule == "netted" else {})
        for rule in RULES
        for kind, knobs in kinds.items()
        for scheme in SCHEMES[:3]
        if scheme == "uni" or "refresh" not in knobs  # the others are never refreshed
    ]


class CompensationConfig(StudyConfig):
    """Every rule, with and without variation."""

    swept = (
        *StudyConfig.swept, *SHAPE, "published_noise", "scheme", "step_spread", "range_spread", "pair_correlation", "stuck",
        "rule", "batch", "refresh",
    )  # fmt: skip
    presets = {**RULE_PRESETS, "smoke": {**SMOKE, "samples": 1000, "rates": "0.05"}}


@experiment(
    "synapse/compensation", version=3, inputs=inputs, figure=figures.draw_compensation, steps=steps(_compensation),
    paper="the claim that unidirectional updating compensates device-to-device variation (abstract, v2)",
)  # fmt: skip
def compensation(config: CompensationConfig, run: Any) -> Iterator[Record]:
    """What device-to-device variation and stuck devices cost each scheme, under every update rule."""
    yield from study(config, run, _compensation(config))


def _rules(config: StudyConfig) -> list[Point]:
    return [
        {"name": scheme, "x": rule, "device_name": device, "scheme": scheme, "rule": rule, **DEVICES[device]}
        | ({"batch": 10} if rule == "netted" else {})
        for device in ("linear", "nu = 3", "abrupt LTD")
        for rule in RULES
        for scheme in SCHEMES
    ]


class RulesConfig(StudyConfig):
    """Every rule and scheme."""

    swept = (*StudyConfig.swept, *SHAPE, "scheme", "rule", "batch")
    presets = RULE_PRESETS


@experiment(
    "synapse/rules", version=2, inputs=inputs, figure=figures.draw_rules, steps=steps(_rules),
    paper="not in the public text: which rule turns a gradient into pulses",
)  # fmt: skip
def rules(config: RulesConfig, run: Any) -> Iterator[Record]:
    """Every rule from gradient to pulses, on every scheme and three devices."""
    yield from study(config, run, _rules(config))
