"""Panels without a kernel: a click is a method call."""

import base64
import datetime
import json
from pathlib import Path

import ipywidgets as w
import pytest
import toy

from workbench import runs
from workbench.experiment import get
from workbench.plotting import encode
from workbench.ui import Exercise, Gallery, LiveFigure, Panel, show


def click(panel, name):
    getattr(panel, f"{name}_button").click()


def wait_until(condition):
    import time

    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited 30 s"
        time.sleep(0.01)


def test_each_knob_has_the_input_that_fits_it():
    inputs = Panel("toy/walk").controls.inputs
    kinds = {name: type(widget) for name, widget in inputs.items()}
    assert kinds == {
        "steps": w.IntSlider,
        "rate": w.SelectionSlider,
        "mode": w.Combobox,
        "symmetric": w.Checkbox,
        "group_size": w.Dropdown,
        "pause": w.FloatSlider,
        "seed": w.BoundedIntText,
    }
    assert inputs["pause"].description == "pause (s)"
    assert inputs["steps"].tooltip == "number of records"
    bits = Panel("quantization/layer-trace").controls.inputs["bits"]
    assert isinstance(bits, w.SelectionSlider)
    assert 3 in bits.options


def test_a_sliders_last_digit_makes_no_other_run():
    panel = Panel("toy/walk")
    panel.controls.inputs["pause"].value = 0.29999999999999993
    assert panel.controls.config == toy.ToyConfig(pause=0.3)


def test_log_sliders_hold_round_numbers_and_the_value_itself():
    """A browser moves a log slider's value to its nearest mark when it is shown; a list of marks has the value in it."""
    panel = Panel("toy/walk", toy.ToyConfig(rate=0.0123))
    rates = [value for _, value in panel.controls.inputs["rate"].options]
    assert rates == sorted(rates)
    assert {1e-4, 1.5e-4, 0.002, 0.0123, 0.02, 0.7, 1.0} <= set(rates)
    assert panel.controls.config.rate == 0.0123
    panel.controls.set(toy.ToyConfig(rate=0.0456))
    assert panel.controls.config.rate == 0.0456


def test_groups_of_knobs_are_tabs_and_a_file_can_be_uploaded(tmp_path, runs_folder):
    panel = Panel("synapse/device")
    (tabs,) = panel.controls.children
    assert tabs.titles == ("device", "imperfections")
    assert len(panel.controls.inputs) == len(get("synapse/device").config.knobs())
    button = next(
        child
        for column in tabs.children[0].children
        for child in column.children
        if isinstance(child, w.FileUpload)
    )
    data = b"ltp,ltd\n0,2\n1,1.5\n2,0\n"
    file = {"name": "my device.csv", "type": "text/csv", "size": len(data), "content": memoryview(data)}
    button.value = ({**file, "last_modified": datetime.datetime(2026, 1, 1)},)
    path = Path(panel.controls.inputs["curve"].value)
    assert path.parent == runs_folder / "uploads"
    assert path.read_bytes() == data
    panel.controls.inputs["device"].value = "measured"
    wait_until(lambda: panel._thread is None)
    assert not panel.error
    assert panel.records[-1]["levels"] == 2
    button.value = (
        {
            **file,
            "content": memoryview(b"ltp,ltd\n0,2\nx,1\n"),
            "last_modified": datetime.datetime(2026, 1, 1),
        },
    )
    wait_until(lambda: "row 3, column 'ltp'" in panel.message.value)


def test_slider_run_and_the_run_on_disk():
    panel = Panel("toy/walk")
    assert panel.message.value == "ready"
    assert not panel.records
    panel.controls.inputs["steps"].value = 12
    click(panel, "run")
    panel.wait(30)
    assert panel.message.value.startswith("done: 12 records")
    assert panel.progress.value == 1
    assert bytes(panel.picture.value[:4]) == b"\x89PNG"
    assert not panel.run_button.disabled
    assert panel.stop_button.disabled
    found = runs.find(get("toy/walk"), toy.ToyConfig(steps=12))
    assert found == panel.records
    assert runs.run_id(get("toy/walk"), toy.ToyConfig(steps=12)) in panel.message.value


def test_stop_ends_the_run_before_its_last_record_and_run_goes_on():
    panel = Panel("toy/walk", toy.ToyConfig(steps=1000, pause=0.005))
    click(panel, "run")
    wait_until(lambda: len(panel.records) >= 10)
    assert panel.run_button.disabled
    assert "left" in panel.left.value
    click(panel, "run")  # a second click while it runs does nothing
    click(panel, "stop")
    panel.wait(30)
    assert "stopped after" in panel.message.value
    assert 10 <= len(panel.records) < 1000
    stopped = len(panel.records)
    click(panel, "run")
    wait_until(lambda: len(panel.records) > stopped)
    click(panel, "stop")
    panel.wait(30)
    assert [r["step"] for r in panel.records] == list(range(len(panel.records)))


def test_errors_are_one_clear_line():
    panel = Panel("toy/walk")
    panel.controls.inputs["mode"].value = "fail"
    click(panel, "run")
    panel.wait(30)
    assert panel.message.value == "failed after 2 records: the walk fell over; expected mode='plain'"
    assert panel.left.value == ""
    assert "Traceback" in panel.error
    assert not panel.run_button.disabled
    panel = Panel("quantization/layer-trace")
    for name, value in (("bits", 4), ("symmetric", False), ("group_size", 32)):
        panel.controls.inputs[name].value = value
    click(panel, "run")
    assert "refused" in panel.message.value
    assert panel.records == []


def test_a_misspelt_model_is_said_in_the_panel():
    panel = Panel("quantization/layer-trace")
    panel.controls.inputs["model"].value = "no-such/model"
    click(panel, "run")
    panel.wait(60)
    assert "check the spelling" in panel.message.value


def test_reset_preset_and_code():
    panel = Panel("toy/walk", toy.ToyConfig(steps=5, rate=0.5))
    panel.preset.value = "laptop"
    assert panel.controls.config == toy.ToyConfig.at("laptop")
    click(panel, "code")
    assert panel.code.value == "from workbench import runs\n\nrecords = runs.run('toy/walk', steps=30)"
    namespace = {}
    exec(panel.code.value, namespace)
    assert len(namespace["records"]) == 30
    click(panel, "reset")
    assert panel.controls.config == toy.ToyConfig(steps=5, rate=0.5)


def test_pin_compares_the_next_run():
    seen = []
    walk = get("toy/walk")
    spy = type(walk)(
        **{
            **walk.__dict__,
            "figure": lambda records, pinned=None: seen.append(pinned) or walk.figure(records, pinned),
        }
    )
    panel = Panel(spy, toy.ToyConfig(steps=4), list(runs.stream(walk, toy.ToyConfig(steps=4))))
    first = panel.records
    click(panel, "pin")
    assert panel.pin_button.description == "Unpin"
    panel.controls.inputs["rate"].value = 0.01
    click(panel, "run")
    panel.wait(30)
    assert seen[-1] == ("rate=0.1", first)
    click(panel, "pin")
    assert seen[-1] is None


def test_a_figure_that_cannot_compare_offers_no_pin():
    walk = get("toy/walk")
    plain = type(walk)(**{**walk.__dict__, "figure": lambda records: walk.figure(records)})
    panel = Panel(plain, toy.ToyConfig(steps=4))
    assert panel.pin_button not in panel._bar.children
    other = Panel("toy/walk")
    assert other.pin_button in other._bar.children
    click(panel, "run")
    panel.wait(30)
    assert panel.message.value.startswith("done: 4 records")


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_saving_figures_and_records(kind, magic, runs_folder):
    config = toy.ToyConfig(steps=4)
    panel = Panel("toy/walk", config, list(runs.stream(get("toy/walk"), config)))
    panel.format.value = kind
    panel.save_figure()
    name = runs.run_id(get("toy/walk"), config)
    assert (runs_folder / "exports" / f"{name}.{kind}").read_bytes().startswith(magic)
    assert f'download="{name}.{kind}"' in panel.link.value
    panel.save_csv()
    lines = (runs_folder / "exports" / f"{name}.csv").read_text().splitlines()
    assert lines[0] == "step,value,spread"
    assert len(lines) == 5


def test_an_instant_panel_redraws_at_each_move_and_keeps_no_run(runs_folder):
    panel = Panel("toy/instant")
    before = bytes(panel.picture.value)
    assert before[:4] == b"\x89PNG"
    for value in (0.2, 0.5, 0.7):
        panel.controls.inputs["rate"].value = value
    wait_until(lambda: panel._thread is None)
    assert bytes(panel.picture.value) != before
    assert panel.records == runs.preview(get("toy/instant"), toy.ToyConfig(rate=0.7))
    assert not runs_folder.exists()


def test_a_reader_without_a_kernel_sees_the_picture():
    config = toy.ToyConfig(steps=4)
    panel = Panel("toy/walk", config, list(runs.stream(get("toy/walk"), config)))
    bundle = panel._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"])[:4] == b"\x89PNG"
    assert bundle["text/plain"] == "Panel(toy/walk)"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_drawing_takes_at_most_its_share(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("workbench.ui.live.monotonic", lambda: clock[0])
    pictures = []

    def draw():
        clock[0] += 1.0  # a slow machine: a second a picture
        return toy.draw([{"step": 0, "value": 0.0}])

    live = LiveFigure(pictures.append)
    for _ in range(100):
        live.update(draw)
        clock[0] += 0.5  # the work between two records
    assert len(pictures) / clock[0] <= 0.11  # seconds of drawing a second


def test_equal_figures_are_equal_bytes():
    records = [{"step": 0, "value": 0.0}, {"step": 1, "value": 1.0}]
    for kind in ("png", "svg", "pdf"):
        assert encode(toy.draw(records), kind) == encode(toy.draw(records), kind)


def test_show_returns_the_records():
    assert len(show("toy/walk", toy.ToyConfig(steps=6))) == 6


def test_exercises_reply():
    exercise = Exercise("How much?", answer=lambda: -0.32, hint="think again", why="because")
    assert exercise.check("-0.32") == exercise.check(-0.3201) == "right: because"
    assert (
        exercise.check("0.32") == exercise.check("much") == exercise.check("true") == "not yet: think again"
    )
    assert exercise.solution() == "-0.32: because"
    word = Exercise("Which?", answer=lambda: "gptaq", hint="no", why="yes")
    assert word.check(" GPTAQ ") == "right: yes"


def test_the_gallery_opens_one_panel_at_a_time():
    gallery = Gallery(["toy/walk", "toy/instant"], "smoke")
    assert len(gallery.panels) == 1
    gallery.choice.value = "toy/instant"
    assert gallery.children[1] is gallery.panels["toy/instant"]
    assert json.dumps(repr(gallery))
