"""A fair comparison: chosen by validation, judged on fresh seeds, in order, the same on any executor, and nothing is lost."""

import gc
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pandas as pd
import psutil
import pytest
import toy_fit
import typer
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tqdm.auto import tqdm

from workbench import fits, runs, sweep
from workbench.comparison import CHOOSING, Point, compare
from workbench.endings import one_line
from workbench.experiment import EXPERIMENTS, discover, get
from workbench.intervals import Interval, exactly, interval, scores, summary
from workbench.knobs import KnobError

STUDY = get("toy/study")


def made(folder, executor="threads", config=None, **knobs):
    config = config or STUDY.config(**knobs)
    if executor == "threads":
        with ThreadPoolExecutor(2) as pool:
            return list(runs.stream(STUDY, config, folder, executor=pool))
    return list(runs.stream(STUDY, config, folder, executor=executor))


def file_of(folder):
    (path,) = folder.glob("toy-study-*/records.jsonl")
    return path.read_bytes()


def test_settings_are_chosen_on_validation_and_judged_on_other_seeds(tmp_path):
    rows = made(tmp_path)
    assert len(rows) == STUDY.steps(STUDY.config()) == 3 * (3 * 2 + 5)
    assert [(r["k"], r["phase"]) for r in rows] == [(k, phase) for k in range(3) for phase in ["choose"] * 6 + ["judge"] * 5]
    assert {r["seed"] for r in rows if r["phase"] == "choose"} == {CHOOSING, CHOOSING + 1}
    judged = [r for r in rows if r["phase"] == "judge"]
    assert {r["rate"] for r in judged} == {1.0}
    assert [r["seed"] for r in judged] == [0, 1, 2, 3, 4] * 3
    table = summary(rows, "accuracy", "k")
    assert table["fits"].tolist() == [11] * 3
    assert table["setting"].tolist() == ["rate=1"] * 3
    assert (table["edge"] == "").all()


def test_an_end_of_the_candidates_is_marked_and_lower_may_be_better(tmp_path):
    rows = made(tmp_path, rates=(1.0, 2.0, 3.0))
    assert {r["edge"] for r in rows if r["phase"] == "judge"} == {"rate"}
    down = replace(toy_fit.fitted, higher=False)
    run = runs.Run(tmp_path / "down" / "x", ThreadPoolExecutor(1))
    config = STUDY.config(points=1)
    rows = list(compare(down, config, list(toy_fit.study(config)), run))
    assert {r["rate"] for r in rows if r["phase"] == "judge"} == {2.0}  # the worst


def test_any_executor_gives_the_same_bytes(tmp_path):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        made(tmp_path / "given", pool)
    made(tmp_path / "threads")
    made(tmp_path / "own", None)
    assert file_of(tmp_path / "given") == file_of(tmp_path / "threads") == file_of(tmp_path / "own")


def test_one_more_seed_or_point_computes_nothing_else_again(tmp_path):
    marks = str(tmp_path)
    made(tmp_path / "runs", marks=marks, points=2)
    first = (tmp_path / "all").read_text().count("\n")
    assert first == 22
    made(tmp_path / "runs", marks=marks, points=2, seeds=6)
    assert (tmp_path / "all").read_text().count("\n") == first + 2
    made(tmp_path / "runs", marks=marks, points=3, seeds=6)
    assert (tmp_path / "all").read_text().count("\n") == first + 2 + 12


def test_a_fresh_start_reaches_the_fits(tmp_path):
    config = STUDY.config(marks=str(tmp_path), points=1)
    made(tmp_path / "runs", config=config)
    list(runs.stream(STUDY, config, tmp_path / "runs"))
    assert (tmp_path / "all").read_text().count("\n") == 11
    with ThreadPoolExecutor(2) as pool:
        list(runs.stream(STUDY, config, tmp_path / "runs", fresh=True, executor=pool))
    assert (tmp_path / "all").read_text().count("\n") == 22


def test_the_cost_is_summed_over_fits_whenever_they_were_made(tmp_path):
    made(tmp_path, points=2)
    made(tmp_path, points=3)
    for path in tmp_path.glob("toy-study-*/run.json"):
        about = json.loads(path.read_text())
        assert about["fits"]["count"] == 11 * about["config"]["points"]
        assert about["fits"]["wall_seconds"] > 0


def test_what_a_fit_means_and_the_data_of_every_point_are_part_of_what_a_comparison_means():
    assert STUDY.inputs(STUDY.config(points=3)) == ["data 0", "data 1", "data 2", "toy/fit@1"]
    rivals = get("continual/rivals").inputs(get("continual/rivals").config.at("laptop"))
    assert [ref.partition("@")[0] for ref in rivals] == ["fashion-mnist", "mnist", "continual/stream"]


@pytest.mark.parametrize(
    ("mode", "said"), [("fail", "rate=2.0: too high"), ("nan", "validation=nan: expected a finite"), ("none", "validation=None")]
)
def test_a_candidate_that_fails_is_a_row_and_cannot_win(tmp_path, mode, said):
    rows = made(tmp_path, mode=mode, rates=(2.0, 0.5), points=1)
    failed = [r for r in rows if "failed" in r]
    assert len(failed) == 2
    assert all(said.replace(": ", "; ") in r["failed"] or said in r["failed"] for r in failed)
    assert {r["rate"] for r in rows if r["phase"] == "judge"} == {0.5}


def test_where_all_candidates_fail_the_point_is_a_row_that_says_so(tmp_path):
    rows = made(tmp_path, mode="fail", rates=(2.0, 2.0), points=1)
    judged = [r for r in rows if r["phase"] == "judge"]
    assert len(judged) == 5
    assert all("every candidate failed on a choosing seed. The first failure: rate=2.0: too high" in r["failed"] for r in judged)
    (row,) = summary(rows, "accuracy", "k").to_dict("records")
    assert row["n"] == 0
    assert math.isnan(row["mean"])
    assert row["failed"] == len(rows)
    assert math.isnan(interval(scores(rows, "accuracy")).low)


def test_a_worker_that_dies_on_one_fit_again_and_again_fails_only_that_one(tmp_path):
    rows = made(tmp_path / "runs", None, mode="die", marks=str(tmp_path), points=2)
    failed = [r for r in rows if "failed" in r]
    assert [(r["k"], r["rate"]) for r in failed] == [(0, 2.0)] * 2 + [(1, 2.0)] * 2
    assert all("its process died" in r["failed"] for r in failed)
    assert {r["rate"] for r in rows if r["phase"] == "judge"} == {1.0}


def test_a_worker_that_dies_once_costs_nothing(tmp_path):
    rows = made(tmp_path / "runs", None, mode="die once", marks=str(tmp_path), points=1)
    assert (tmp_path / "died").exists()
    assert not [r for r in rows if "failed" in r]


def test_stop_keeps_what_was_made(tmp_path):
    config = STUDY.config(marks=str(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        stream = runs.stream(STUDY, config, tmp_path / "runs", executor=pool)
        for _ in range(8):
            next(stream)
        stream.close()
    kept = (tmp_path / "all").read_text().count("\n")
    rows = made(tmp_path / "runs", config=config)
    assert (tmp_path / "all").read_text().count("\n") == 33  # none was made twice
    assert 8 <= kept <= 33
    assert rows == made(tmp_path / "whole", config=config)


KILLED = """
import sys, time
sys.path[:0] = {paths!r}
import toy_fit
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints
from workbench import runs
from workbench.experiment import get
study = get("toy/study")
for row in runs.stream(study, study.config(points=12), Path({folder!r}), executor=ThreadPoolExecutor(1)):
    print("row", flush=True)
    time.sleep(0.02)
"""


def test_kill_9_loses_at_most_the_fits_under_way(tmp_path):
    script = KILLED.format(paths=[str(Path(__file__).parent)], folder=str(tmp_path / "runs"))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for _ in range(30):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p.parent.name: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "fits").glob("*/run.json")}
    assert len(kept) >= 30
    config = STUDY.config(points=12)
    rows = made(tmp_path / "runs", config=config)
    for name, when in kept.items():
        assert (tmp_path / "runs" / "fits" / name / "run.json").stat().st_mtime_ns == when
    assert rows == made(tmp_path / "whole", config=config)


def test_the_next_points_begin_before_the_last_have_ended(tmp_path):
    """While one judging fit of the first point hangs, fits of other points are made."""
    gate = threading.Event()

    class Gated(ThreadPoolExecutor):
        def submit(self, fn, *args, **kwargs):
            _, configs, _ = args
            slow = any(c.offset == 0.0 and c.seed == 4 for c in configs)
            return super().submit(lambda: (gate.wait(120) if slow else None, fn(*args, **kwargs))[1])

    with Gated(2) as pool:
        stream = runs.stream(STUDY, STUDY.config(marks=str(tmp_path)), tmp_path / "runs", executor=pool)
        rows = []
        reader = threading.Thread(target=lambda: rows.extend(stream))
        reader.start()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            lines = (tmp_path / "all").read_text() if (tmp_path / "all").exists() else ""
            if any(line.split()[1] == "2.0" for line in lines.splitlines()):
                break
            time.sleep(0.05)
        assert any(line.split()[1] == "2.0" for line in lines.splitlines())
        assert len(rows) < 11
        gate.set()
        reader.join()
    assert len(rows) == 33


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy/unequal", "two: the point has 2 candidates, but another one has 3; expected the same number"),
        ("toy/none", "one: the point has no candidates"),
    ],
)
def test_unfair_plans_are_refused_before_anything_runs(tmp_path, name, said):
    experiment = get(name)
    with pytest.raises(ValueError, match=said):
        list(runs.stream(experiment, experiment.config(), tmp_path))
    assert not (tmp_path / "fits").exists()


# -- intervals -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_the_interval_is_scipys(values):
    found = interval(pd.Series(values, pd.Index(range(len(values)), name="seed")))
    assert found.n == len(values)
    spread = pd.Series(values).sem()
    if spread > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, sum(values) / len(values), spread)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_units_are_averaged_first_and_one_unit_has_no_interval():
    index = pd.MultiIndex.from_product([["a", "b"], range(40)], names=["layer", "seed"])
    values = pd.Series([1.0] * 40 + [3.0] * 40, index)
    assert interval(values, "layer").n == 2
    assert interval(values, "layer").high - interval(values, "layer").low == pytest.approx(2 * 12.706, rel=1e-3)
    assert math.isnan(interval(values.loc[["a"]], "layer").low)
    assert exactly(3) == Interval(3, 3, 3, 1)


# -- the comparisons of the methods --------------------------------------------------------------------------------------

COMPARISONS = [n for n, e in discover().items() if "choosing" in e.config.model_fields and not n.startswith("toy/")]


def fits_of(name, config):
    """The configs of all fits that choose or judge with one seed."""
    experiment = get(name)
    module = importlib.import_module(experiment.generate.__module__)
    points = next(v for v in vars(module).values() if getattr(v, "config", None) is experiment.config)
    fit = next(i.partition("@")[0] for i in experiment.inputs(config) if i.partition("@")[0] in EXPERIMENTS)
    return [
        config.of(get(fit).config, **{**point.knobs, **setting, "seed": 0})
        for point in points(config)
        for setting in point.candidates
    ]


def others(config, name):
    """Other values of a knob, some of which are valid."""
    value, shown = getattr(config, name), type(config).knobs()[name]
    hint = get_type_hints(type(config))[name]
    options = [o for part in (hint, *get_args(hint)) for o in get_args(part) if get_origin(part) is Literal]
    found = [not value] if isinstance(value, bool) else [*options, *shown.choices]
    if not found and isinstance(value, (int, float)):
        found = [value + 1, value * 2, value / 2, value + 0.1, shown.low]
    if isinstance(value, tuple):
        found += [value[:1], value[::-1], *(tuple(v * f for v in value) for f in (2, 0.5) if not isinstance(value[0], str))]
    if value is None:
        found += [32, (0.5,), 0.1]
    return [v for v in found if v != value]


@pytest.mark.parametrize("name", COMPARISONS)
def test_each_shown_knob_changes_some_fit_and_no_swept_one_is_taken(name):
    config = get(name).config.at("smoke")
    before = fits_of(name, config)
    for knob in config.knobs():
        if knob in ("seeds", "choosing", "curve", "device", "smooth", "model", "text"):
            continue  # how many fits, not which; or what needs files of its own
        changed = []
        for value in others(config, knob):
            with suppress(KnobError):
                changed.append(fits_of(name, config.replace(**{knob: value})) != before)
        assert any(changed), f"{knob}: {others(config, knob)}"
    for knob in config.swept:
        for value in () if knob == "device" else others_of_swept(config, knob):
            with pytest.raises(KnobError):
                config.replace(**{knob: value})


def others_of_swept(config, name):
    value = getattr(config, name)
    return [not value] if isinstance(value, bool) else [value + 1] if isinstance(value, (int, float)) else ["other"]


# -- what a careful reader found ------------------------------------------------------------------------------------------


def test_a_sweep_over_a_comparison_ends(tmp_path):
    configs = [STUDY.config(points=n) for n in (1, 2)]
    result = sweep.sweep(STUDY, configs, root=tmp_path, progress=False)
    assert [len(records) for _, records in result.done] == [11, 22]
    assert not result.failed


def test_stop_is_seen_while_a_fit_is_waited_for(tmp_path):
    gate, seen = threading.Event(), []

    class Stuck(ThreadPoolExecutor):
        def submit(self, fn, *args, **kwargs):
            return super().submit(lambda: (gate.wait(120), fn(*args, **kwargs))[1])

    with Stuck(1) as pool:
        stream = runs.stream(STUDY, STUDY.config(), tmp_path, executor=pool, stopped=lambda: seen.append(1) or len(seen) > 2)
        with pytest.raises(runs.Stopped, match="0 fits are saved"):
            next(stream)
        gate.set()
    assert runs.find(STUDY, STUDY.config(), tmp_path) is None


def test_the_fit_that_kills_its_process_takes_the_blame_and_no_other(tmp_path):
    configs = [toy_fit.FitConfig(rate=2.0, mode=mode) for mode in ("fail", "die", "plain")]
    found = fits.in_a_process_of_its_own("toy/fit", configs, tmp_path)
    assert [r.get("failed") for r in found] == ["rate=2.0: too high", fits.DIED, None]


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import toy_fit\nfrom workbench import runs\nruns.run('toy/study', points=1)\n"
    )
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert said.returncode
    assert "__main__" in said.stderr


def test_workers_end_with_their_parent_however_it_ends(tmp_path):
    script = (
        "import os, time\nfrom workbench.fits import processes\n"
        "if __name__ == '__main__':\n"
        "    print(processes(1).submit(os.getpid).result(), flush=True)\n    time.sleep(60)\n"
    )
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    until = time.monotonic() + 120
    while time.monotonic() < until and psutil.pid_exists(worker):
        time.sleep(0.1)
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


def test_candidates_may_name_different_knobs(tmp_path):
    config = STUDY.config(points=1)
    run = runs.Run(tmp_path / "x", ThreadPoolExecutor(1))
    points = [Point("toy", {}, {}, [{}, {"rate": 1.0}, {"rate": 2.0, "offset": 0.0}])]
    rows = list(compare(toy_fit.fitted, config, points, run))
    assert {r["setting"] for r in rows if r["phase"] == "judge"} == {"rate=1"}


def test_a_fit_that_failed_leaves_no_interval_but_its_neighbours_are_shown():
    rows = [{"label": "a", "phase": "judge", "seed": s, "setting": "", "edge": "", "accuracy": 1.0 + s} for s in range(5)]
    rows[2] = {k: v for k, v in rows[2].items() if k != "accuracy"} | {"failed": "broken"}
    (row,) = summary(rows, "accuracy").to_dict("records")
    assert (row["n"], row["failed"], len(row["values"])) == (4, 1, 4)
    assert math.isnan(row["low"])
    assert str(interval(scores(rows, "accuracy"))) == "not measured: a fit failed"


def test_an_interrupt_of_the_whole_group_is_not_for_the_workers():
    """A notebook's kernel is interrupted with its whole group: what there is to say, the kernel says; a panel's fits go on."""
    code = (
        "import os, signal, time\nfrom workbench.fits import processes\nif __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    pool = processes(1)\n    os.killpg(0, signal.SIGINT)\n"  # while it starts
        "    worker = pool.submit(os.getpid).result()\n    os.killpg(0, signal.SIGINT)\n"
        "    print(pool.submit(os.getpid).result() == worker)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, start_new_session=True)
    assert (ended.stdout.split(), ended.stderr) == (["True"], "")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "continual/rivals", "--scale", "laptop", "--set", "data=10k", "--set", "looks=1000"],
        ["sweep", "continual/train", "--axis", "lr=0.001,0.002,0.003,0.004,0.005", "--set", "passes=20"],
    ],
    ids=["comparison", "sweep"],
)
@pytest.mark.parametrize("after", [0.0, 4.0])
def test_ctrl_c_is_one_line_and_leaves_no_worker(words, after, tmp_path):
    """In a terminal it reaches the whole group: as soon as the first bar is drawn, while workers start; and while they work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "WORKBENCH_RUNS": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in what a shell starts with &
    )  # fmt: skip
    said = process.stdout.readline() or process.stdout.read(1)
    while "0%" not in said:
        said += process.stdout.read(1)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in said + rest
    assert "Error" not in said + rest
    assert rest.rstrip().endswith("workbench: interrupted. Finished work is saved; run the same command again to continue")
    until = time.monotonic() + 120
    while time.monotonic() < until and any(_in_group(p, process.pid) for p in psutil.process_iter()):
        time.sleep(0.1)
    assert not [p for p in psutil.process_iter() if _in_group(p, process.pid)]


def test_an_interrupt_while_a_worker_starts_is_answered_after_it_has_started(monkeypatch):
    started = []

    def start(pool):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        started.append(pool)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with fits.processes(1) as pool:
            monkeypatch.setattr(type(pool), "_start_executor_manager_thread", start)
            with pytest.raises(KeyboardInterrupt):
                pool.submit(os.getpid)
            assert started == [pool]
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            monkeypatch.undo()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_bar_that_is_interrupted_before_its_first_step_does_not_come_after_the_last_line(monkeypatch, capsys):
    def interrupted(bar):
        raise KeyboardInterrupt

    monkeypatch.setattr(tqdm, "__iter__", interrupted)
    with pytest.raises(typer.Exit), one_line():
        list(tqdm([1, 2], desc="fits"))
    gc.collect()
    assert capsys.readouterr().err.rstrip().endswith("to continue")


def _in_group(process, group):
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def test_one_dead_worker_costs_a_group_and_no_more(tmp_path, monkeypatch):
    """Each process of its own takes seconds to start; after a death all later fits had one each."""
    alone = []

    def counted(name, configs, root, real=fits.in_a_process_of_its_own):
        alone.append({c.offset for c in configs})
        return real(name, configs, root)

    monkeypatch.setattr(fits, "in_a_process_of_its_own", counted)
    points = [Point("toy", {"k": k}, {"offset": float(k), "mode": "die" if k == 3 else "plain"}) for k in range(12)]
    points = [replace(p, candidates=[{"rate": 0.5}, {"rate": 2.0}]) for p in points]
    config = STUDY.config()
    rows = list(compare(toy_fit.fitted, config, points, runs.Run(tmp_path / "x")))
    failed = [r for r in rows if "failed" in r]
    assert {(r["k"], r["rate"]) for r in failed} == {(3, 2.0)}
    assert all(r["failed"] == fits.DIED for r in failed)
    assert len(rows) == 12 * (4 + 5)
    groups = set().union(*alone)
    assert 3.0 in groups
    assert len(groups) <= fits.cores(), "those that were under way beside it, and no other"


def test_a_given_executor_that_breaks_is_left_and_the_rest_done_here(tmp_path, capsys):
    pool = fits.processes(1)
    rows = made(tmp_path / "runs", pool, mode="die", points=2)
    assert "the executor is broken because one of its workers died; continuing with local processes" in capsys.readouterr().err
    assert {r["rate"] for r in rows if "failed" in r} == {2.0}
    assert rows == made(tmp_path / "other", None, mode="die", points=2)
    pool.shutdown(wait=False)
