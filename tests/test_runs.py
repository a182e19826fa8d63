"""A run is believed only when it is whole: killed, damaged, full and read-only folders."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy

from workbench import provenance, runs
from workbench.atomic import write_atomic
from workbench.experiment import get
from workbench.knobs import KnobError

WALK = get("toy/walk")


def folder_of(config):
    return runs.runs_folder() / runs.run_id(WALK, config)


def test_a_complete_run_is_read_not_computed():
    config = toy.ToyConfig(steps=5)
    first = list(runs.stream(WALK, config))
    stamp = (folder_of(config) / "run.json").stat().st_mtime_ns
    assert list(runs.stream(WALK, config)) == first
    assert runs.find(WALK, config) == first
    assert (folder_of(config) / "run.json").stat().st_mtime_ns == stamp
    about = json.loads((folder_of(config) / "run.json").read_text())
    assert about["records"] == 5
    assert about["config"]["steps"] == 5
    assert {"commit", "dirty", "packages", "machine", "wall_seconds", "cpu_seconds", "peak_memory_mb"} <= set(about)
    assert not (folder_of(config) / "checkpoint.pt").exists()


def test_the_id_hashes_experiment_version_config_and_inputs():
    ids = {
        runs.run_id(WALK, toy.ToyConfig()),
        runs.run_id(WALK, toy.ToyConfig(steps=11)),
        runs.run_id(get("toy/instant"), toy.ToyConfig()),
    }
    assert len(ids) == 3
    assert runs.run_id(WALK, toy.ToyConfig(steps=10.0)) == runs.run_id(WALK, toy.ToyConfig())


def test_stopping_leaves_an_unfinished_run_that_goes_on():
    config = toy.ToyConfig(steps=20)
    stream = runs.stream(WALK, config)
    seen = [next(stream) for _ in range(10)]
    stream.close()
    assert runs.find(WALK, config) is None
    again = list(runs.stream(WALK, config))
    assert again[:7] == seen[:7]
    assert len(again) == 20
    about = json.loads((folder_of(config) / "run.json").read_text())
    assert about["resumed_at_record"] == 7
    uncut = list(runs.stream(WALK, config, root=runs.runs_folder() / "other"))
    assert again == uncut


def test_fresh_means_from_the_start():
    config = toy.ToyConfig(steps=20)
    stream = runs.stream(WALK, config)
    for _ in range(10):
        next(stream)
    stream.close()
    list(runs.stream(WALK, config, fresh=True))
    assert json.loads((folder_of(config) / "run.json").read_text())["resumed_at_record"] == 0


KILLED = """
import sys; sys.path.insert(0, {tests!r})
import toy
from workbench import provenance, runs
from workbench.experiment import get
list(runs.stream(get("toy/walk"), toy.ToyConfig(steps=1000, pause=0.002)))
"""


MORTAL = """
import os, signal, threading
dying = threading.Timer({after}, lambda: os.kill(os.getpid(), signal.SIGKILL))
dying.daemon = True
for record in runs.stream(get("toy/walk"), toy.ToyConfig(steps=1000, pause=0.002)):
    if dying.ident is None:
        dying.start()
"""


def test_killed_at_random_moments_the_records_are_the_same_bytes(tmp_path):
    """Each process kills itself so long after its first record, which a busy machine does not change."""
    config = toy.ToyConfig(steps=1000, pause=0.002)  # two seconds: longer than all that the kills leave it
    whole = KILLED.format(tests=str(Path(__file__).parent))
    start = whole.replace(whole.splitlines()[-1], "")
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    subprocess.run([sys.executable, "-c", whole], check=True, env={**os.environ, "WORKBENCH_RUNS": str(uncut)})
    chance = random.Random(0)
    records = cut / runs.run_id(WALK, config) / "records.jsonl"
    for _ in range(6):
        code = start + MORTAL.format(after=chance.uniform(0.0, 0.4))
        ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_RUNS": str(cut)})
        assert ended.returncode == -signal.SIGKILL
        stored = runs.load(records.parent)
        assert stored is None or len(stored) == 1000
    subprocess.run([sys.executable, "-c", whole], check=True, env={**os.environ, "WORKBENCH_RUNS": str(cut)})
    assert records.read_bytes() == (uncut / runs.run_id(WALK, config) / "records.jsonl").read_bytes()


def test_a_damaged_record_is_noticed_and_done_again(capsys):
    config = toy.ToyConfig(steps=5)
    first = list(runs.stream(WALK, config))
    path = folder_of(config) / "records.jsonl"
    path.write_text(path.read_text().replace("0", "1", 1))
    assert runs.find(WALK, config) is None
    assert "do not match their checksum" in capsys.readouterr().err
    assert list(runs.stream(WALK, config)) == first


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_means_starting_again(damage, capsys):
    config = toy.ToyConfig(steps=20)
    stream = runs.stream(WALK, config)
    for _ in range(10):
        next(stream)
    stream.close()
    path = folder_of(config) / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    records = list(runs.stream(WALK, config))
    assert "the run starts again" in capsys.readouterr().err
    assert [r["step"] for r in records] == list(range(20))


def test_a_checkpoint_is_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'owned'}",))

    config = toy.ToyConfig(steps=9)
    folder_of(config).mkdir(parents=True)
    torch.save({"progress": Evil(), "state": None}, folder_of(config) / "checkpoint.pt")
    assert len(list(runs.stream(WALK, config))) == 9
    assert not (tmp_path / "owned").exists()


def test_a_failing_experiment_raises_its_own_error():
    with pytest.raises(ValueError, match="fell over"):
        list(runs.stream(WALK, toy.ToyConfig(mode="fail")))
    assert runs.find(WALK, toy.ToyConfig(mode="fail")) is None


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_line_and_loses_nothing(monkeypatch):
    kept = list(runs.stream(WALK, toy.ToyConfig(steps=4)))
    config = toy.ToyConfig(steps=6)
    full = open("/dev/full", "ab")  # noqa: SIM115  the run closes it
    said = r"No space left on device.*set WORKBENCH_RUNS"
    with monkeypatch.context() as patched:
        patched.setattr(runs._RunWriter, "_open", lambda self: full)
        with pytest.raises(runs.RunError, match=said):
            list(runs.stream(WALK, config))
    assert runs.find(WALK, config) is None
    assert runs.find(WALK, toy.ToyConfig(steps=4)) == kept
    assert len(list(runs.stream(WALK, config))) == 6  # with space again


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(runs.RunError, match="set WORKBENCH_RUNS to a writable folder"):
        list(runs.stream(WALK, toy.ToyConfig(), root=tmp_path / "file" / "runs"))


def test_two_processes_compute_a_run_once(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent)).replace("steps=1000", "steps=60") + "print('ok')"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    out = [p.communicate()[0] for p in both]
    assert out == [b"ok\n"] * 2
    assert len(runs.find(WALK, toy.ToyConfig(steps=60, pause=0.002))) == 60


def test_run_by_name():
    assert len(runs.run("toy/walk", "smoke")) == 3
    assert len(runs.run("toy/walk", steps=4)) == 4
    with pytest.raises(KnobError):
        runs.run("toy/walk", stepz=4)


def test_artefacts_are_plain_names(tmp_path):
    run = runs.Run(tmp_path)
    assert run.path("big.bin").parent.is_dir()
    with pytest.raises(runs.RunError, match="plain file name"):
        run.path("../escape")


def test_files_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o002)
    try:
        write_atomic(tmp_path / "shared", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o664


def test_what_a_kill_left_half_written_is_swept_at_the_next_start(tmp_path):
    toy_walk, config = get("toy/walk"), toy.ToyConfig(steps=3)
    folder = tmp_path / runs.run_id(toy_walk, config)
    folder.mkdir()
    (folder / ".checkpoint.pt.deadbeef").write_bytes(b"half")
    (folder / "artefacts").mkdir()
    (folder / "artefacts" / ".adapter.deadbeef").write_bytes(b"half")
    list(runs.stream(toy_walk, config, tmp_path))
    assert [p.name for p in folder.rglob("*") if p.name.startswith(".")] == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_overlapping_runs_leave_torch_with_as_many_threads_as_before(tmp_path, order):
    torch.set_num_threads(2)
    try:
        streams = [runs.stream(get("toy/walk"), toy.ToyConfig(steps=5, seed=s), tmp_path) for s in (1, 2)]
        for stream in streams:
            next(stream)
        assert torch.get_num_threads() == 1
        streams[order[0]].close()
        assert torch.get_num_threads() == 1
        streams[order[1]].close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_git_is_asked_once_a_process(tmp_path, monkeypatch):
    provenance.provenance()
    monkeypatch.setattr(provenance.subprocess, "run", None)
    assert provenance.provenance()["commit"]


def test_workers_are_as_many_as_the_process_may_use():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from workbench.provenance import cores; print(cores())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said.stdout.strip() == "1"


def test_atomic_writes_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
