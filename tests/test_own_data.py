"""Files of the user's own in three panels: example files, relative paths, messages, and knobs that have no effect."""

import hashlib
import importlib.util
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench import datasets, runs
from workbench.continual import folder
from workbench.continual.config import ContinualConfig, inputs
from workbench.experiment import get
from workbench.knobs import KnobError
from workbench.synapse import Exponential, SynapseConfig, fit_exponential, read_curve
from workbench.synapse.config import inputs as device_inputs
from workbench.ui import Panel

EXAMPLES = datasets.bundled_folder() / "examples"
TASKS = "data/examples/tasks"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A current folder outside the project."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def own_tasks(place, **files):
    """Copy the example tasks to `place`/mine, with the text of some files replaced; return the relative path."""
    shutil.copytree(EXAMPLES / "tasks", place / "mine")
    for name, text in files.items():
        (place / "mine" / f"{name}.csv").write_text(text)
    return "mine"


# -- the example files ---------------------------------------------------------------------------------------------------------


def test_the_card_lists_every_example_file_with_its_checksum():
    card = (EXAMPLES / "README.md").read_text()
    rows = {match[0]: match[1] for match in re.findall(r"\| (\S+\.\w+) \|.*\| ([0-9a-f]{64}) \|", card)}
    files = {p.relative_to(EXAMPLES).as_posix(): p for p in EXAMPLES.rglob("*") if p.suffix in (".csv", ".json", ".safetensors")}
    assert rows == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert sum(p.stat().st_size for p in (EXAMPLES / "adapter").iterdir()) < 400_000


def test_the_program_makes_the_same_curve_and_tasks_again(tmp_path):
    spec = importlib.util.spec_from_file_location("make", EXAMPLES / "make.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.make(tmp_path)
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.csv"))
    assert len(made) == 4
    for name in made:
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes(), name


def test_help_texts_name_the_example_and_it_exists():
    for name, knob in (
        ("synapse/device", "curve"), ("continual/train", "stream"), ("continual/fork", "stream"),
        ("adapters/microscope", "folder"),
    ):  # fmt: skip
        text = get(name).config.knobs()[knob].help
        example = re.search(r"(?:: |tiny-llama: )(data/examples/[\w./-]+)$", text)[1]
        assert (datasets.bundled_folder().parent / example).exists()


def test_a_path_is_searched_here_then_in_the_project(elsewhere):
    assert datasets.own_path(TASKS) == EXAMPLES / "tasks"
    (elsewhere / TASKS).mkdir(parents=True)
    assert datasets.own_path(TASKS) == Path(TASKS), "the current folder has priority"
    assert datasets.own_path(str(elsewhere)) == elsewhere
    assert datasets.own_path("nowhere") == Path("nowhere")
    for odd in ("a" * 5000, "\0", "~nobody-of-this-name/x"):
        assert not os.path.exists(datasets.own_path(odd))


# -- a measured curve ----------------------------------------------------------------------------------------------------------


def curve(path, first, *columns, pulse=False):
    """Write columns ltp and ltd from their row `first` on, with or without the column pulse."""
    rows = [[*([k] * pulse), *(f"{v:.9g}" for v in row)] for k, row in enumerate(zip(*columns, strict=True))][first:]
    head = ["pulse"] * pulse + ["ltp", "ltd"]
    path.write_text("\n".join(",".join(map(str, row)) for row in [head, *rows]) + "\n")
    return path


@pytest.mark.parametrize(("first", "pulse"), [(0, False), (0, True), (1, True)])
def test_an_exponential_curve_comes_back_with_its_nonlinearity(tmp_path, first, pulse):
    """With the conductance before the first pulse in row 1 (with or without a column pulse), or with pulses from 1."""
    sides = [3e-9 + 4e-8 * side.numpy() for side in Exponential(50, 2.5, 2.5).staircase()]
    found = read_curve(curve(tmp_path / "curve.csv", first, *sides, pulse=pulse))
    fitted, distance = fit_exponential(found)
    assert (fitted.nonlinearity_up, fitted.nonlinearity_down) == (pytest.approx(2.5, abs=0.01), pytest.approx(2.5, abs=0.01))
    assert (fitted.levels, fitted.levels_down) == (50, 50)
    assert distance < 1e-6
    assert not found.note


def test_a_first_row_that_looks_like_the_one_after_a_pulse_is_doubted(tmp_path):
    sides = [side.numpy() for side in Exponential(50, 2.5, 2.5).staircase()]
    path = curve(tmp_path / "curve.csv", 1, *sides)
    found = read_curve(path)
    assert fit_exponential(found)[0].nonlinearity_up == pytest.approx(2.66, abs=0.1), "this is how it is read"
    assert "looks like the conductance after the first pulse. If it is, add a column named pulse that starts at 1" in found.note
    device = get("synapse/device")
    config = device.config(device="measured", curve=str(path))
    assert device.tell(runs.preview(device, config), config).endswith("add a column named pulse that starts at 1.")


def test_every_fifth_pulse_may_start_at_five_and_other_numbers_are_refused(tmp_path):
    sides = [side.numpy() for side in Exponential(50, 2.5, 2.5).staircase()]
    path, rows = tmp_path / "curve.csv", range(5, 51, 5)
    path.write_text("pulse,ltp,ltd\n" + "".join(f"{k},{sides[0][k]:.9g},{sides[1][k]:.9g}\n" for k in rows))
    found = read_curve(path)
    assert len(found.rise) == len(found.fall) == 51
    np.testing.assert_allclose(found.rise[::5], sides[0][::5], atol=1e-8)
    for start in (7, 1000, -1):
        text = "".join(f"{k + start},{sides[0][k]:.9g},{sides[1][k]:.9g}\n" for k in range(0, 50, 5))
        path.write_text("pulse,ltp,ltd\n" + text)
        with pytest.raises(ValueError, match=rf"row 2, column 'pulse' \(ltp\): {start}; expected 0 if .*, and at most 5 if"):
            read_curve(path)


def test_where_the_other_column_ends_higher_the_first_pulse_changes_nothing(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("pulse,ltp,ltd\n1,1,9\n2,5,7\n3,10,4\n")  # ltd ends at 4, above the first 1 of ltp
    found = read_curve(path)
    assert found.rise[0] == 0
    assert found.fall[0] == 1, "where ltp ended"
    assert (np.diff(found.rise) > 0).all()


def test_the_example_curve_is_read_from_anywhere(elsewhere):
    config = SynapseConfig(device="measured", curve="data/examples/device-curve.csv")
    assert config.make_device().levels == 60
    assert config.known_ratio() == pytest.approx(10)
    fitted, distance = fit_exponential(read_curve(config.curve_path))
    assert (fitted.nonlinearity_up, fitted.nonlinearity_down) == (pytest.approx(2.5, abs=0.3), pytest.approx(4, abs=0.4))
    assert distance < 0.02
    assert device_inputs(config)[1].startswith("curve@")


def test_wrong_curves_are_messages_of_the_knob(elsewhere):
    with pytest.raises(KnobError) as error:
        SynapseConfig(device="measured", curve="mine.csv")
    assert error.value.knobs.keys() == {"curve"}
    assert f"there is no such file in {elsewhere} or in {datasets.bundled_folder().parent}" in str(error.value)
    Path("mine.csv").write_text("ltp,ltd\n0,2\nx,1\n")
    with pytest.raises(KnobError, match=r"^curve='mine\.csv': row 3, column 'ltp': 'x' is not a finite number"):
        SynapseConfig(device="measured", curve="mine.csv")


def test_an_instant_panel_reads_the_file_again_once_it_changes(elsewhere):
    curve(Path("mine.csv"), 0, np.arange(4.0), 3 - np.arange(4.0))
    config = SynapseConfig(device="measured", curve="mine.csv")
    assert config.make_device().levels == 3
    curve(Path("mine.csv"), 0, np.arange(6.0), 5 - np.arange(6.0))
    os.utime("mine.csv", ns=(1, 1))
    assert config.make_device().levels == 5


# -- a folder of tasks -----------------------------------------------------------------------------------------------------------


def test_the_example_tasks_are_a_stream(elsewhere):
    config = ContinualConfig(stream=TASKS, samples=100)
    stream = config.loaded()
    assert [task.name for task in stream.tasks] == ["digits-0-1", "digits-2-3", "digits-4-5"]
    assert [len(task.x_train) for task in stream.tasks] == [100] * 3
    assert stream.outputs == 2
    assert stream.note == ""
    more = ContinualConfig(stream=str(EXAMPLES / "tasks"), samples=1000).loaded()
    assert [len(task.x_train) for task in more.tasks] == [134] * 3
    assert not torch.equal(stream.tasks[0].x_train, config.replace(seed=1).loaded().tasks[0].x_train)


def test_a_run_is_identified_by_the_contents_of_the_files(elsewhere):
    config = ContinualConfig(stream=own_tasks(elsewhere), samples=100)
    first = inputs(config)
    assert first[0].startswith("mine@")
    (elsewhere / "mine" / "notes.txt").write_text("not a task")
    assert inputs(config) == first
    text = (elsewhere / "mine" / "digits-0-1.csv").read_text()
    (elsewhere / "mine" / "digits-0-1.csv").write_text(text.replace(",0.81,", ",0.80,"))
    assert inputs(config) != first, "another value"
    (elsewhere / "mine" / "digits-0-1.csv").write_text(text)
    os.utime(elsewhere / "mine" / "digits-0-1.csv", ns=(1, 1))
    assert inputs(config) == first
    (elsewhere / "mine" / "digits-0-1.csv").rename(elsewhere / "mine" / "digits-8-9.csv")
    assert inputs(config) != first, "another order of the tasks"
    assert len(inputs(config.replace(scenario="task"))) == 2


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("nowhere", "expected split-fashion, .*, or a folder with a CSV file for each of your tasks, such as data/examples/tasks"
         ". There is no such folder in "),
        ("split-fashon", "Did you mean 'split-fashion'"),
        ("README.md", "This path is a file; give the folder that contains the file"),
        ("", "There is no such folder"),
        ("empty", "contains no .*csv file; expected a folder with one CSV file per task"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["train", "fork", "history", "threshold"])
def test_a_stream_that_is_neither_offered_nor_a_folder_is_refused(elsewhere, name, stream, said):
    (elsewhere / "empty").mkdir()
    said = said.replace("split-fashion, .*", ".*") if name == "fork" else said
    with pytest.raises(KnobError, match=rf"^stream='{stream}': .*{said}") as error:
        get(f"continual/{name}").config(stream=stream)
    assert error.value.knobs.keys() == {"stream"}


def test_wrong_tables_are_refused_by_file_row_and_column(elsewhere):
    stream = own_tasks(elsewhere, **{"digits-2-3": "a,b,label\n1,2,0\n1,x,1\n"})
    with pytest.raises(KnobError, match=r"^stream='mine': digits-2-3\.csv: row 3, column 'b': 'x' is not a finite number"):
        ContinualConfig(stream=stream)
    (elsewhere / "mine" / "digits-2-3.csv").write_text("a,label\n" + "1,0\n2,1\n" * 10)
    with pytest.raises(
        KnobError, match=r"^stream='mine': digits-2-3\.csv: the file has no column 'pixel0'; expected the columns of digits-0"
    ):
        ContinualConfig(stream=stream)
    for name in ("digits-2-3", "digits-4-5"):
        (elsewhere / "mine" / f"{name}.csv").unlink()
    with pytest.raises(
        KnobError,
        match=r"^stream='mine': the number of tasks is 1; expected 2 to 30\. Save the samples of each task in a separate CSV",
    ):
        ContinualConfig(stream=stream)


def test_knobs_that_depend_on_the_stream_know_own_tasks():
    idle = ContinualConfig(stream=TASKS).idle()
    assert {"data", "tasks", "features", "labels"} <= idle.keys()
    assert "scenario" not in idle
    assert "scenario" in ContinualConfig(stream="permuted").idle()
    assert {"features", "labels"} & ContinualConfig(stream="vader").idle().keys() == {"labels"}
    assert "data" in ContinualConfig(stream="vader").idle()
    with pytest.raises(
        KnobError, match=r"^network='paper': this network reads images of 784 pixels, but .* 64 numbers; expected network='per"
    ):
        ContinualConfig(stream=TASKS, network="paper")
    history = get("continual/history").config
    assert history(stream=TASKS, moment=5).task_count() == 3
    with pytest.raises(KnobError, match="moment=6: expected a whole number from 0 to 5"):
        history(stream=TASKS, moment=6)
    assert history(stream="vader", moment=7).task_count() == 4


def test_the_fork_still_refuses_texts():
    with pytest.raises(KnobError, match=r"^stream='vader': expected mnist-fashion, .*or a folder"):
        get("continual/fork").config(stream="vader")


@pytest.mark.parametrize("scenario", ["domain", "task", "class"])
def test_own_tasks_are_learnt_in_every_scenario(elsewhere, scenario):
    train = get("continual/train")
    config = train.config.at("smoke", stream=TASKS, scenario=scenario, hidden=(8,))
    records = list(runs.stream(train, config))
    assert records[-1]["names"] == ["digits-0-1", "digits-2-3", "digits-4-5"]
    assert train.figure(records)
    assert train.tell(records, config)
    assert ("hardly reduce forgetting" in records[-1]["note"]) == (scenario == "class")


@pytest.mark.parametrize("name", ["fork", "history", "threshold"])
def test_the_other_panels_take_own_tasks(elsewhere, name):
    experiment = get(f"continual/{name}")
    config = experiment.config.at("smoke", stream=TASKS, hidden=(8,))
    records = runs.preview(experiment, config)
    assert experiment.figure(records)
    assert experiment.tell(records, config)
    if name == "history":
        assert len(records[0]["weights"][0]) == 64, "drawn as 8 x 8 pixels"


def test_a_history_follows_the_files(elsewhere):
    """Tables of two columns: the weights are no images; and new contents are learnt anew."""
    rows = "".join(f"{k % 7},{k % 2},{k % 2}\n" for k in range(60))
    for name in ("a", "b"):
        (elsewhere / f"{name}.csv").write_text("one,two,label\n" + rows)
    history = get("continual/history")
    config = history.config(stream=str(elsewhere), samples=50, hidden=(8,))
    (before,) = runs.preview(history, config)
    assert "free" not in before
    assert history.figure([before])
    (elsewhere / "a.csv").write_text("one,two,label\n" + rows.replace("6,", "60,"))
    (after,) = runs.preview(history, config)
    assert before["sums"] != after["sums"]


def test_the_cache_of_a_folder_is_used_until_a_file_changes(elsewhere, monkeypatch):
    stream, read = own_tasks(elsewhere), []
    monkeypatch.setattr(folder, "read_csv", lambda *given: read.append(given) or read_csv(*given))
    from workbench.continual.streams import read_csv

    folder._read.cache_clear()
    for _ in range(3):
        ContinualConfig(stream=stream).loaded()
    assert len(read) == 1
    (elsewhere / "mine" / "digits-6-7.csv").write_text((elsewhere / "mine" / "digits-0-1.csv").read_text())
    assert ContinualConfig(stream=stream).task_count() == 4
    assert len(read) == 2


# -- a folder of an adapter ------------------------------------------------------------------------------------------------------


def test_the_microscope_opens_a_relative_folder(elsewhere):
    microscope = get("adapters/microscope")
    config = microscope.config.at("smoke", folder="data/examples/adapter")
    records = list(runs.stream(microscope, config))
    assert len(records) == 8
    assert len({r["module"] for r in records}) == 2
    assert {r["method"] for r in records} == {"lora"}
    assert max(r["rank99"] for r in records) <= 4
    shutil.copytree(EXAMPLES / "adapter", elsewhere / "mine")
    again = list(runs.stream(microscope, config.replace(folder="mine")))
    assert again == records
    before = microscope.inputs(config.replace(folder="mine"))
    assert len(before) == 4
    (elsewhere / "mine" / "workbench.json").unlink()
    assert len(microscope.inputs(config.replace(folder="mine"))) == 3


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nowhere", "there is no such folder in .*; expected a folder with adapter_config.json and adapter_model.safetensors"),
        ("data/examples", "there is no adapter_config.json in it; .*such as data/examples/adapter. Correct the path"),
        ("data/examples/adapter/adapter_config.json", "there is no such folder"),
    ],
)
def test_a_folder_without_an_adapter_is_refused(elsewhere, folder, said):
    with pytest.raises(KnobError, match=f"^folder='{folder}': {said}") as error:
        get("adapters/microscope").config(folder=folder)
    assert error.value.knobs.keys() == {"folder"}


def test_a_folder_greys_the_knobs_of_training():
    panel = Panel("adapters/microscope")
    assert "lr" not in panel.view["idle"]
    panel.set(folder="data/examples/adapter")
    idle = panel.view["idle"]
    assert set(idle) == set(panel.config.knobs()) - {"folder", "model", "dtype"}
    assert {idle[name] for name in ("method", "r", "lr", "steps", "data")} == {"the adapter is loaded, not trained"}
    panel.set(folder="")
    assert "lr" not in panel.view["idle"]


# -- panels ----------------------------------------------------------------------------------------------------------------------


def drawn(panel):
    end = time.monotonic() + 300
    while panel._thread is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not panel.error


def test_a_missing_file_is_an_invitation_and_a_noisy_curve_asks_for_smooth(tmp_path):
    panel = Panel("synapse/device")
    panel.set(device="measured")
    assert panel.view["errors"] == {}
    said = panel.view["to_choose"]["curve"]
    assert said.startswith(
        "choose a CSV file: columns ltp and ltd (the conductances before the first pulse and after each pulse)"
    )
    assert panel.view["stale"].endswith("choose a file")
    assert not panel.view["failed"]
    idle = panel.view["idle"]
    assert "curve" not in idle
    assert "only a measured curve can be smoothed" in idle["smooth"]
    assert "nonlinearity_up" in idle

    chance = np.random.default_rng(0)
    sides = [np.abs(side.numpy() + chance.normal(0, 0.03, 51)) for side in Exponential(50, 2.0, 2.0).staircase()]
    path = curve(tmp_path / "noisy.csv", 0, *sides)
    panel._handle_custom_msg({"do": "upload", "name": "curve", "file": "noisy.CSV"}, [path.read_bytes()])
    assert panel.view["to_choose"] == {}
    assert re.search(r"row \d+, column 'ltp': the curve turns back .* Set smooth", panel.view["errors"]["curve"])
    assert "smooth" not in panel.view["idle"], "the knob that the message asks for can be used"
    assert "curve" not in panel.view["idle"]
    panel.set(smooth=True)
    drawn(panel)
    assert panel.view["errors"] == {}
    assert panel.records[-1]["fit"][0] == pytest.approx(2.0, abs=0.6)
    assert "on_off" in panel.view["idle"]


def test_a_panel_takes_a_folder_of_tasks(elsewhere):
    panel = Panel("continual/train", get("continual/train").config.at("smoke", hidden=(8,)))
    spec = next(knob for knob in panel.spec["knobs"] if knob["name"] == "stream")
    assert spec["kind"] == "text"
    assert [value for _, value in spec["options"]][:2] == ["split-fashion", "split-mnist"]
    panel._handle_custom_msg({"do": "set", "seq": 1, "knobs": {"stream": {"text": "data/examples/taks"}}}, [])
    assert "There is no such folder in" in panel.view["errors"]["stream"]
    assert "tasks" in panel.view["idle"], "conditions work with the refused stream"
    panel._handle_custom_msg({"do": "set", "seq": 2, "knobs": {"stream": {"text": TASKS}}}, [])
    assert panel.view["errors"] == {}
    panel.start()
    panel.wait(120)
    assert panel.view["message"].startswith("done")
    assert "digits-4-5" in panel.picture["story"]
