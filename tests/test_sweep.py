"""Tests of sweeps: processes and other executors give the same results, and a failure does not stop the other runs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import toy

from workbench import runs, sweep
from workbench.experiment import get
from workbench.knobs import KnobError


def test_a_grid_is_validated_before_anything_runs():
    configs = sweep.grid(toy.ToyConfig, {"steps": [2, 3], "seed": [0, 1]}, "smoke", rate=0.5)
    assert [(c.steps, c.seed, c.rate) for c in configs] == [(2, 0, 0.5), (2, 1, 0.5), (3, 0, 0.5), (3, 1, 0.5)]
    with pytest.raises(KnobError, match="steps=0"):
        sweep.grid(toy.ToyConfig, {"steps": [2, 0]})


def test_processes_and_threads_agree_and_a_bad_point_is_only_that(tmp_path):
    configs = [toy.ToyConfig(steps=4, seed=s) for s in range(3)] + [toy.ToyConfig(steps=4, mode="fail")]
    spawned = sweep.sweep("toy/walk", configs, root=tmp_path / "a", progress=False)
    with ThreadPoolExecutor(1) as pool:
        threaded = sweep.sweep("toy/walk", configs, pool, tmp_path / "b", progress=False)
    assert spawned.done == threaded.done
    assert len(spawned.done) == 3
    assert [(c.mode, reason) for c, reason in spawned.failed] == [
        ("fail", "ValueError: the walk fell over; expected mode='plain'")
    ]
    assert spawned.frame()["seed"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert runs.find(get("toy/walk"), configs[0], tmp_path / "a") == spawned.done[0][1]


def test_a_worker_that_dies_fails_only_its_own_point():
    configs = [toy.ToyConfig(steps=4, mode="die"), *(toy.ToyConfig(steps=4, seed=s) for s in range(2))]
    result = sweep.sweep("toy/walk", configs, progress=False)
    assert [c.seed for c, _ in result.done] == [0, 1]
    assert [reason for _, reason in result.failed] == [
        "its process died; possible causes are a lack of memory and a crash in compiled code"
    ]


def test_after_a_death_only_what_was_under_way_is_done_alone(monkeypatch):
    """Calls that had not started must not run one by one in new processes, since each process takes seconds to start."""
    started = []

    def counted(count, real=sweep.processes):
        started.append(count)
        return real(count)

    monkeypatch.setattr(sweep, "processes", counted)
    monkeypatch.setattr(sweep, "cores", lambda: 2)
    configs = [toy.ToyConfig(steps=4, seed=s, mode="die" if s == 2 else "plain") for s in range(12)]
    result = sweep.sweep("toy/walk", configs, progress=False)
    assert [c.seed for c, _ in result.failed] == [2]
    assert [c.seed for c, _ in result.done] == [s for s in range(12) if s != 2]
    assert started[0] == 2
    assert 1 <= started.count(1) <= 2
    assert len(started) <= 4


def test_a_pool_that_cannot_start_at_all_ends(monkeypatch):
    class Broken:
        def submit(self, *args):
            raise sweep.BrokenExecutor("no")

        def shutdown(self, **how):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(sweep, "processes", lambda count: Broken())
    result = sweep.sweep("toy/walk", [toy.ToyConfig(seed=s) for s in range(3)], progress=False)
    assert len(result.failed) == 3
