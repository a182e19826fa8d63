"""A toy fit and a comparison on it, for the tests of comparisons. Registered on import."""

import os
from pathlib import Path

from workbench.comparison import ComparisonConfig, Point, candidates, comparison, fit
from workbench.knobs import Config, knob
from workbench.plotting import figure


class FitConfig(Config):
    rate: float = knob(0.1, "rate", low=0.0, high=10.0)
    offset: float = knob(0.0, "offset", low=-100.0, high=100.0)
    mode: str = knob("plain", "mode", choices=("plain", "fail", "die", "die once", "nan", "none"))
    marks: str = knob("", "marks", "folder in which each fit leaves a mark")
    seed: int = knob(0, "seed", low=0, high=1000)


@fit("toy/fit", version=1, inputs=lambda c: [f"data {c.offset:g}"], together=lambda c: c.offset)
def fitted(config: FitConfig, run):
    """Return a validation score with its maximum at rate 1, and a test score."""
    if config.marks:
        with (Path(config.marks) / "all").open("a") as file:
            file.write(f"{config.rate} {config.offset} {config.seed}\n")
    fatal = config.mode != "plain" and config.rate == 2.0
    if fatal and config.mode == "fail":
        raise ValueError("rate=2.0: too high")
    if fatal and config.mode == "die":
        os._exit(9)
    if fatal and config.mode == "die once" and not (Path(config.marks) / "died").exists():
        (Path(config.marks) / "died").touch()
        os._exit(9)
    noise = ((config.seed * 7919) % 101) / 1000
    score = -((config.rate - 1) ** 2) + config.offset + noise
    if fatal and config.mode == "none":
        return {"accuracy": score}
    return {"validation": float("nan") if fatal and config.mode == "nan" else score, "accuracy": score + 0.5}


class StudyConfig(ComparisonConfig):
    points: int = knob(3, "points", low=1, high=50)
    rates: tuple[float, ...] = knob((0.5, 1.0, 2.0), "rates", low=0.0, high=10.0)
    mode: str = knob("plain", "mode", free=True)
    marks: str = knob("", "marks", free=True)


def draw(records):
    with figure(4, 2) as fig:
        fig.subplots().plot([r.get("accuracy", 0) for r in records])
    return fig


@comparison(
    "toy/study", version=1, fit=fitted, figure=draw, presets={"smoke": {"points": 2}}, story=lambda r, c, p: f"{len(r)} rows"
)
def study(config: StudyConfig):
    """Points with increasing offsets."""
    for k in range(config.points):
        yield Point("toy", {"k": k}, {"offset": float(k)}, candidates(rate=config.rates))


@comparison("toy/unequal", version=1, fit=fitted, figure=draw, presets={})
def unequal(config: StudyConfig):
    """Points with unequal search budgets, for which no reason is given."""
    yield Point("one", {}, {}, candidates(rate=config.rates))
    yield Point("two", {}, {}, candidates(rate=config.rates[:2]))


@comparison("toy/none", version=1, fit=fitted, figure=draw, presets={})
def none(config: StudyConfig):
    """A point without candidates."""
    yield Point("one", {}, {}, ())
