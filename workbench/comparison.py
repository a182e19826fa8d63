"""Fair comparisons of methods: each setting is chosen on some seeds and then measured on other seeds.

A method provides a *fit*: a function that gets a config and returns one record. Each fit is saved as a run under ``runs/fits``,
so fits of equal configs are computed only once, and an interruption loses only unfinished fits. All methods use the same names
for common columns of their records: `validation`, `seconds`, `peak_bytes`, `parameters`, `state_bytes`, `failed`.

`compare` processes the points of a comparison (see `Point`) in order, and starts the fits of at least `AHEAD` points at a time.
A point (`_Trial`) changes its state as soon as the fits for which it waits have ended::

    waiting ──▶ choosing ──▶ judging ──▶ ended         choosing: each candidate is fitted on the choosing seeds
       │            │                      ▲           judging: the best one is fitted on other (judging) seeds
       │            └── none was scored ───┤           ended: all its records have been yielded
       └── it has one candidate ──▶ judging┘

These are the states of a fit (`fits.FitQueue`); a fit that several points need is computed once::

    started ──▶ waiting ──▶ working ──▶ ended          waiting: in a group with the fits that share work
       │           ▲          │ │ │       ▲            working: on an executor, one fit after another
       │           └──────────┘ │ └───────┤            back to waiting: the caller's executor broke
       │                        ▼         │            directly to ended: saved by its worker, or failed
       │                      alone ──────┤            alone: in a separate process, since a worker died
       └── its run is on disk ────────────┘
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench import runs
from workbench.experiment import Experiment, Record, config_of, register
from workbench.fits import Fit, FitQueue, Job
from workbench.knobs import Config, knob

CHOOSING = 50  # first seed on which settings are chosen; they are measured on seeds below 50, so no seed is used for both
AHEAD = 8  # minimum number of points whose fits are started at a time

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One point of a comparison, for example one method on one data set. Its setting is the best of its candidates.

    All points of a comparison must have the same number of candidates, unless `why` gives a reason.
    """

    label: str  # name of the series to which the point belongs
    at: Mapping[str, Any] = field(default_factory=dict)  # coordinates of the point (such as its x value), by column
    knobs: Mapping[str, Any] = field(default_factory=dict)  # knobs whose values differ from those of the comparison
    candidates: Sequence[Setting] = ({},)  # settings to choose from
    why: str = ""  # the reason if the number of candidates is not that of the other points


class ComparisonConfig(Config):
    """The number of seeds on which settings are chosen, and the number of other seeds on which these settings are measured."""

    title = "seeds"
    seeds: int = knob(5, "judging seeds", "Number of seeds on which each chosen setting is measured.", low=1, high=50)
    choosing: int = knob(2, "choosing seeds", "Number of further seeds, on which the settings are chosen.", low=1, high=50)


def fit(
    name: str,
    *,
    version: int,
    inputs: Callable[[Any], Sequence[str]] = lambda config: (),
    score: str = "validation",
    higher: bool = True,
    together: Callable[[Any], Hashable] | None = None,
    in_threads: bool | Callable[[Any], bool] = False,
) -> Callable[[Callable[[Any, runs.Run], Record]], Fit]:
    """Register ``f(config, run) -> record`` as the fit of a method.

    `score` names the column by which candidates are compared. It must be measured on validation data, never on test data. If
    `higher` is true, a higher score is better. Fits with the same key ``together(config)`` share work, so one worker computes
    them all. Fits run in threads if `in_threads` is true, or if it is a function that returns true for the config. All other
    fits run in processes. Use threads only if the fit releases Python's global interpreter lock (GIL).
    """

    def declare(measure: Callable[[Any, runs.Run], Record]) -> Fit:
        def generate(config: Config, run: runs.Run) -> Iterator[Record]:
            yield measure(config, run)

        generate.__doc__, generate.__module__ = measure.__doc__, measure.__module__
        made = Experiment(name, version, config_of(measure), generate, None, inputs, lambda config: 1, hidden=True)
        spread = in_threads if callable(in_threads) else lambda config: in_threads
        return Fit(register(made), score, higher, together, spread)

    return declare


def comparison(
    name: str,
    *,
    version: int,
    fit: Fit,
    figure: Callable[..., Any],
    presets: Mapping[str, Any],
    swept: Sequence[str] = (),
    **more: Any,
) -> Callable[[Callable[[Any], Iterable[Point]]], Callable[[Any], Iterable[Point]]]:
    """Register ``points(config)`` as an experiment, which yields one record for each fit, in the order of the points.

    `swept` names the knobs that the points set, in addition to `seed`. Panels hide these knobs. `more` is passed to `Experiment`.
    """

    def declare(points: Callable[[Any], Iterable[Point]]) -> Callable[[Any], Iterable[Point]]:
        base = config_of(points)
        names = {"presets": presets, "swept": (*base.swept, "seed", *swept), "__doc__": base.__doc__}
        place = {"__module__": points.__module__, "__qualname__": f"{points.__qualname__}.config"}
        points.config = type(base)(base.__name__, (base,), names | place)

        def generate(config: Config, run: runs.Run) -> Iterator[Record]:
            yield from compare(fit, config, list(points(config)), run)

        def inputs(config: Config) -> list[str]:
            """Return references (name with checksum or version) to all on which the records depend: data, models and the fit."""
            made = (_fit_config(fit, config, p, setting) for p in points(config) for setting in p.candidates[:1])
            refs = dict.fromkeys(ref for one in made for ref in fit.experiment.inputs(one))
            return [*refs, f"{fit.experiment.name}@{fit.experiment.version}"]

        generate.__doc__, generate.__module__ = points.__doc__, points.__module__
        points.fit = fit
        points.experiment = register(
            Experiment(
                name,
                version,
                points.config,
                generate,
                figure,
                inputs,
                lambda config: sum(len(_choosing(config, p)) + config.seeds for p in points(config)),
                **more,
            )
        )
        return points

    return declare


def view(
    name: str,
    *,
    of: Callable[[Any], Iterable[Point]],
    figure: Callable[..., Any],
    paper: str,
    about: str,
    only: Callable[[Mapping[str, Any]], bool] = lambda place: True,
    swept: Sequence[str] = (),
) -> Callable[[Any], Iterable[Point]]:
    """Register a view, that is, another figure of a comparison. Returns a function that yields the points of the figure.

    `of` is a function decorated with `comparison`. The view uses the fits, records, version and presets of that comparison.
    ``only(place)`` gets the label and the coordinates of a point as one mapping, and returns whether the figure includes the
    point. The knobs in `swept` are hidden, cannot be set, and are removed from the presets. `about` becomes the docstring.
    """

    def points(config: Any) -> Iterator[Point]:
        yield from (point for point in of(config) if only({"label": point.label, **point.at}))

    points.__annotations__["config"] = of.config
    points.__doc__, points.__module__ = about, of.__module__
    presets = {
        scale: preset if isinstance(preset, str) else {k: v for k, v in preset.items() if k not in swept}
        for scale, preset in of.config.presets.items()
    }
    whole = of.experiment
    declared = comparison(
        name, version=whole.version, fit=of.fit, figure=figure, presets=presets, swept=swept, paper=paper, of=(whole.name, only)
    )
    return declared(points)


def candidates(**values: Sequence[Any]) -> list[Setting]:
    """Return a list of settings, one for each combination of the given values of the knobs."""
    return [dict(zip(values, found, strict=True)) for found in itertools.product(*values.values())]


def compare(fit: Fit, config: Any, points: Sequence[Point], run: runs.Run) -> Iterator[Record]:
    """Yield one record for each fit, point by point: first the fits that choose the setting, then those that measure it.

    The fits of later points start while fits of earlier points are still running. A candidate cannot be chosen if one of its fits
    fails, or if a score is missing or not finite. The record of a failed fit gives the reason in the column `failed`.
    """
    _check(points)
    waiting, under_way = deque(_Trial(fit, config, point) for point in points), deque()
    with FitQueue(fit, run) as fits:
        while waiting or under_way:
            if len(under_way) < AHEAD and waiting:
                begun = _next_part(waiting)
                fits.start(job for trial in begun for job in trial.jobs)
                under_way.extend(begun)
            fits.start([job for trial in under_way for job in trial.judging(fits)])
            rows = under_way[0].rows(fits)
            yield from rows
            if under_way[0].ended:
                under_way.popleft()
            elif not rows:
                fits.wait()
        run.about["fits"] = fits.cost()


def _fit_config(fit: Fit, config: Any, point: Point, setting: Setting) -> Any:
    return config.of(fit.experiment.config, **{**point.knobs, **setting})


def _check(points: Sequence[Point]) -> None:
    most = max((len(point.candidates) for point in points), default=0)
    if not points:
        raise ValueError("the comparison has no points; expected at least one point")
    for point in points:
        name = f"{point.label} {dict(point.at) or ''}".strip()
        if not point.candidates:
            raise ValueError(f"{name}: the point has no candidates; expected at least one setting")
        if len(point.candidates) != most and not point.why:
            raise ValueError(
                f"{name}: the point has {len(point.candidates)} candidates, but another one has {most}; expected the same number "
                "for all points, or the argument why, which gives the reason for the difference"
            )


def _next_part(waiting: deque[_Trial]) -> list[_Trial]:
    """Remove and return `AHEAD` points, and more (up to 8 `AHEAD` in all) as long as the next shares work with those before."""
    part: list[_Trial] = []
    while waiting and len(part) < 8 * AHEAD:
        if len(part) >= AHEAD and not waiting[0].keys & set().union(*(trial.keys for trial in part)):
            break
        part.append(waiting.popleft())
    return part


def _choosing(config: ComparisonConfig, point: Point) -> list[tuple[Setting, int]]:
    seeds = range(CHOOSING, CHOOSING + config.choosing) if len(point.candidates) > 1 else ()
    return [(setting, seed) for setting in point.candidates for seed in seeds]


class _Trial:
    """A point in progress: the jobs that choose its setting, then those that measure it. `given` counts the returned records."""

    def __init__(self, fit: Fit, config: ComparisonConfig, point: Point):
        self.fit, self.config, self.point, self.given = fit, config, point, 0
        self.jobs = [self._job(setting, "choose", seed) for setting, seed in _choosing(config, point)]
        self.choices = len(self.jobs)
        self.judged = not self.choices
        if self.judged:
            self._judge(point.candidates[0])
        self.keys = {fit.together(job.config) for job in self.jobs} if fit.together else set()

    @property
    def ended(self) -> bool:
        return self.judged and self.given == len(self.jobs)

    def _job(self, setting: Setting, phase: str, seed: int) -> Job:
        point = self.point
        head = {
            "label": point.label,
            **point.at,
            **setting,
            "setting": ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in setting.items()),
            "edge": ", ".join(name for name in setting if _at_an_end(point, setting, name)),
            "tried": len(point.candidates),
            "phase": phase,
            "seed": seed,
        }
        config = _fit_config(self.fit, self.config, point, {**setting, "seed": seed})
        return Job(runs.run_id(self.fit.experiment, config), config, head)

    def _judge(self, setting: Setting) -> None:
        self.jobs += [self._job(setting, "judge", seed) for seed in range(self.config.seeds)]

    def judging(self, fits: FitQueue) -> list[Job]:
        """Choose the setting once the fits for this choice have ended, and return the jobs that measure it, or else []."""
        if self.judged or any(fits.record(job) is None for job in self.jobs):
            return []
        self.judged = True
        chosen, reason = self._chosen(fits)
        if chosen is None:
            failed = {"failed": f"every candidate failed on a choosing seed. The first failure: {reason}"}
            heads = [self._job(self.point.candidates[0], "judge", seed) for seed in range(self.config.seeds)]
            self.jobs += [job._replace(head={**job.head, **failed}) for job in heads]
            return []
        self._judge(chosen)
        return self.jobs[self.choices :]

    def _chosen(self, fits: FitQueue) -> tuple[Setting | None, str]:
        """Return the candidate with the best mean score (the first of equal ones) and "", or None and a reason if all failed."""
        each = [_scored(self.fit, fits.record(job)) for job in self.jobs]
        seeds = self.config.choosing
        means: list[tuple[float, int]] = []
        for place in range(len(self.point.candidates)):
            scores = [score for score, wrong in each[place * seeds : (place + 1) * seeds] if not wrong]
            if len(scores) == seeds:
                means.append((sum(scores) / seeds * (1 if self.fit.higher else -1), -place))
        if not means:
            return None, next(wrong for _, wrong in each if wrong)
        return self.point.candidates[-max(means)[1]], ""

    def rows(self, fits: FitQueue) -> list[Record]:
        """Return the records that have not been returned yet, in order, up to the first fit that has not ended."""
        found = []
        for place, job in enumerate(self.jobs[self.given :], self.given):
            record = {} if "failed" in job.head else fits.record(job)
            if record is None:
                break
            if place < self.choices and (wrong := _scored(self.fit, record)[1]):
                record = {**record, "failed": wrong}
            found.append({**job.head, **record})
        self.given += len(found)
        return found


def _scored(fit: Fit, record: Record) -> tuple[float, str]:
    """Return the score of a fit and an empty text, or NaN and the reason why the fit has no valid score."""
    if record.get("failed"):
        return math.nan, str(record["failed"])
    score = record.get(fit.score)
    if not isinstance(score, (int, float)) or not math.isfinite(score):
        return (math.nan, f"{fit.experiment.name} returned {fit.score}={score!r}; expected a finite number as the score")
    return score, ""


def _at_an_end(point: Point, setting: Setting, name: str) -> bool:
    """Check whether `setting` has the smallest or largest of the numbers (two or more) that are tried for the knob `name`."""
    every = {repr(c[name]): c[name] for c in point.candidates if name in c}.values()
    return len(every) > 1 and all(isinstance(v, (int, float)) for v in every) and setting[name] in (min(every), max(every))
