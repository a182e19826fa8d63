"""A person brings a file of their own to three panels, in a few clicks: a device curve, a folder of tasks, an adapter."""

import numpy as np
import pytest
from browser.test_lab import CUT, NAMELESS, message, notebook  # noqa: F401 (notebook is a fixture)

from workbench import datasets
from workbench.synapse import Exponential

EXAMPLES = datasets.bundled_folder() / "examples"


def noisy(path):
    chance = np.random.default_rng(0)
    sides = [np.abs(side.numpy() + chance.normal(0, 0.03, 51)) for side in Exponential(50, 2.0, 2.0).staircase()]
    path.write_text("ltp,ltd\n" + "".join(f"{up:.4f},{down:.4f}\n" for up, down in zip(*sides, strict=True)))
    return str(path)


def text_of(panel, knob):
    return panel.locator(f"[data-knob={knob}]").locator("input[type=text]")


def test_a_measured_curve_in_three_actions(notebook, tmp_path):  # noqa: F811
    visit = notebook("synapse/01-explore")
    panel = visit.panel(0)
    before = panel.locator(".wb-image").inner_html()
    curve, group = panel.locator("[data-knob=curve]"), panel.locator("details:has([data-knob=curve])")
    assert not group.evaluate("e => e.open")

    # measured: the group opens, and its knob says which file to choose
    panel.locator("[data-knob=device] select").select_option("measured")
    curve.locator(".wb-choose:has-text('choose a CSV file: columns ltp and ltd')").wait_for()
    assert group.evaluate("e => e.open")
    assert "choose a file" in group.locator("summary").inner_text()
    assert panel.locator(".wb-error:visible").count() == 0, "an invitation, no fault"
    assert curve.locator("input[type=text]").is_enabled()
    assert curve.locator("button.wb-primary:has-text('Upload')").is_visible()
    assert "choose a file" in panel.locator(".wb-stale").inner_text()
    visit.shot("own-curve-1-invited")
    curve.locator(".wb-help").click()
    assert "data/examples/device-curve.csv" in curve.locator(".wb-about").inner_text()
    curve.locator(".wb-help").click()

    # the file: its picture
    curve.locator(".wb-file").set_input_files(str(EXAMPLES / "device-curve.csv"))
    panel.locator(".wb-story:has-text('needs 60 pulses')").wait_for()
    assert panel.locator(".wb-image").inner_html() != before
    assert curve.locator(".wb-choose:visible, .wb-error:visible").count() == 0
    visit.shot("own-curve-2-drawn")

    # a noisy one asks for a knob, which can be used
    curve.locator(".wb-file").set_input_files(noisy(tmp_path / "noisy.csv"))
    curve.locator(".wb-error:has-text('Set smooth')").wait_for()
    smooth = panel.locator("[data-knob=smooth] input")
    assert smooth.is_enabled()
    visit.shot("own-curve-3-noisy")
    smooth.check()
    panel.locator(".wb-story:has-text('needs')").wait_for()
    curve.locator(".wb-error").wait_for(state="hidden")
    panel.locator(".wb-story:not(:has-text('needs 60 pulses'))").wait_for()

    # and a path can be typed
    smooth.uncheck()
    text = text_of(panel, "curve")
    text.fill("data/examples/nowhere.csv")
    text.press("Tab")
    curve.locator(".wb-error:has-text('there is no such file in')").wait_for()
    text.fill("data/examples/device-curve.csv")
    text.press("Tab")
    panel.locator(".wb-story:has-text('needs 60 pulses')").wait_for()
    assert panel.evaluate(CUT) == []
    assert panel.evaluate(NAMELESS) == []
    assert not visit.problems


@pytest.mark.parametrize("wrong", ["data/examples/nowhere", "data/words"])
def test_a_folder_of_tasks_is_typed_and_run(notebook, wrong):  # noqa: F811
    visit = notebook("continual/01-explore")
    panel = visit.panel(0)
    text, knob = text_of(panel, "stream"), panel.locator("[data-knob=stream]")
    text.fill(wrong)
    text.press("Enter")
    said = "There is no such folder in" if "nowhere" in wrong else "contains no *.csv file"
    knob.locator(f".wb-error:has-text('{said}')").wait_for()
    message(panel, "not run")
    text.fill("data/examples/tasks")
    text.press("Enter")
    message(panel, "done")
    panel.locator(".wb-story:has-text('digits-4-5')").wait_for()
    assert knob.locator(".wb-error:visible").count() == 0
    reason = panel.locator("[data-knob=tasks] .wb-reason")
    assert "the number of tasks in this stream is fixed" in reason.text_content()
    visit.shot("own-tasks")
    panel.locator("button:has-text('Reset')").click()
    panel.locator(".wb-changed").first.wait_for(state="detached")
    assert panel.evaluate(CUT) == []
    assert not visit.problems


def test_a_folder_of_an_adapter_is_typed_and_run(notebook):  # noqa: F811
    visit = notebook("adapters/01-explore")
    panel = visit.panel(2)
    text, knob = text_of(panel, "folder"), panel.locator("[data-knob=folder]")
    text.fill("data/examples/adaptor")
    panel.evaluate("e => e.panel.apply()")  # so do messages during a run: the text is kept
    text.press("Enter")
    knob.locator(".wb-error:has-text('there is no such folder in')").wait_for()
    text.fill("data/examples/adapter")
    text.press("Enter")
    message(panel, "done: 8 records")
    for name in ("method", "r", "lr", "steps", "data"):
        one = panel.locator(f"[data-knob={name}]")
        assert "the adapter is loaded, not trained" in one.locator(".wb-reason").text_content()
        assert one.locator("input, select").first.is_disabled()
    assert panel.locator("[data-knob=model] input").is_enabled()
    visit.shot("own-adapter")
    assert panel.evaluate(CUT) == []
    assert not visit.problems
