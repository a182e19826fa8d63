"""A sixth method, in a package of its own: the mean of noisy draws, by plain and by trimmed averaging."""

import random
from collections.abc import Iterator

from workbench.comparison import ComparisonConfig, Point, candidates, comparison, fit
from workbench.inks import BLUE, RED
from workbench.intervals import interval, scores, summary
from workbench.knobs import Config, knob
from workbench.papers import Claim, declare
from workbench.plotting import dots, figure
from workbench.verdicts import Finding, verdict

COLOURS = {"plain": BLUE, "trimmed": RED}


class DrawsConfig(Config):
    """Draws with outliers, and how much is cut off at both ends."""

    draws: int = knob(40, "draws", "of a sample", low=5, high=1000, essential=True)
    outliers: float = knob(0.2, "outliers", "share of draws that are wild", low=0.0, high=1.0)
    trim: float = knob(0.0, "trimmed share", "cut off at each end", low=0.0, high=0.45)
    seed: int = knob(0, "seed", "of the draws", low=0, high=1000)


def error(config: DrawsConfig, part: int) -> float:
    """How far the trimmed mean of one sample lies from 0, the true one."""
    chance = random.Random(f"{config.seed} {part}")
    wild = [chance.random() < config.outliers for _ in range(config.draws)]
    values = sorted(chance.gauss(0, 20 if w else 1) for w in wild)
    cut = int(config.trim * len(values))
    kept = values[cut : len(values) - cut]
    return abs(sum(kept) / len(kept))


@fit("sixth/mean", version=1, higher=False)
def mean(config: DrawsConfig, run) -> dict:
    """Errors of the mean of one sample, on a validation and a test sample."""
    return {"validation": error(config, 0), "error": error(config, 1)}


def draw(records):
    """Both ways of averaging, a row a share of outliers."""
    with figure(7.0, 3.0) as fig:
        axes = fig.subplots()
        dots(axes, summary(records, "error", "outliers"), "outliers", COLOURS)
        axes.set(xlabel="error of the mean", ylabel="outliers", title=tell(records))
    return fig


def tell(records, config=None, pinned=None) -> str:
    """The state in one sentence."""
    errors = [r["error"] for r in records if "error" in r]
    return f"{len(errors)} samples averaged; mean error {sum(errors) / max(len(errors), 1):.2f}"


class MeansConfig(ComparisonConfig, DrawsConfig):
    """Plain and trimmed means."""


SCALES = {"smoke": {"draws": 20}, "laptop": {}}


@comparison("sixth/means", version=1, fit=mean, figure=draw, story=tell, presets=SCALES, swept=("outliers", "trim"))
def means(config: MeansConfig) -> Iterator[Point]:
    """Plain and trimmed means over shares of outliers."""
    for outliers in (0.1, 0.4):
        at = {"outliers": outliers}
        yield Point("plain", at, at, why="nothing to choose")
        yield Point("trimmed", at, at, candidates(trim=(0.1, 0.2, 0.3, 0.4)))


def _robust(records):
    plain, trimmed = (scores(records, "error", label=label, outliers=0.4) for label in COLOURS)
    return verdict(Finding("trimmed minus plain", interval(trimmed - plain), high=0))


declare("sixth", Claim("robust", "Trimming helps", "nobody", "-", "sixth/means", _robust))
