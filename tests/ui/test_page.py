"""Pages without a server, and exercises."""

import json
import re

import pytest
import toy

from workbench import exercises, runs
from workbench.exercises import Exercise
from workbench.experiment import get
from workbench.knobs import KnobError
from workbench.ui import Exercises
from workbench.ui import page as pages
from workbench.ui.page import page


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="wb-data">(.*?)</script>', text, re.S).group(1))


def test_a_run_is_played_back_from_one_file():
    config = toy.ToyConfig(steps=100)
    text = page("toy/walk", config)
    found = data_of(text)
    assert len(found["frames"]) == found["view"]["frames"]["count"] == 48
    assert found["frames"][-1]["told"] == toy.tell(list(runs.stream(get("toy/walk"), config)), config)
    assert found["spec"]["knobs"] == [], "nothing in a replayed run can be changed"
    assert f"<title>{get('toy/walk').summary.rstrip('.')}</title>" in text
    assert "toy/walk: number of records = 100" in text
    assert not re.search("https?:", re.sub(r"http://www\.w3\.org/[\w/]+", "", text)), "nothing is fetched"
    assert text.count("<script") == 2


def test_an_instant_panel_moves_over_a_lattice():
    found = data_of(page("toy/instant", toy.ToyConfig(), {"rate": [0.1, 0.2], "symmetric": [True, False]}))
    assert found["lattice"] == {"rate": [0.1, 0.2], "symmetric": [True, False]}
    assert len(found["frames"]) == 4
    lines = [line for frame in found["frames"] for line in frame["lines"]]
    assert len(lines) == len({*lines}), "each line once"
    assert all(max(frame["ids"]) < len(lines) for frame in found["frames"])
    assert [knob["name"] for knob in found["spec"]["knobs"]] == ["rate", "symmetric"], "only what can be changed is shown"


def test_a_lattice_is_chosen_where_none_is_given():
    found = data_of(page("quantization/two-weights", get("quantization/two-weights").config()))
    assert len(found["lattice"]) == 2
    assert len(found["frames"]) >= 9
    for name, values in found["lattice"].items():
        assert found["view"]["values"][name][0] in values


def test_pages_that_cannot_be_made_say_why(monkeypatch):
    with pytest.raises(KnobError, match="plays back one run, so no knob can be moved"):
        page("toy/walk", toy.ToyConfig(steps=3), {"rate": [0.1]})
    with pytest.raises(KnobError, match="rate"):
        page("toy/instant", toy.ToyConfig(), {"rate": [7.0]})
    for name, value in (("LARGEST", 1000), ("MOST", 6), ("ALONG", 3)):
        monkeypatch.setattr(pages, name, value)
    with pytest.raises(ValueError, match="too large for a page"):
        page("toy/walk", toy.ToyConfig(steps=30))
    with pytest.raises(ValueError, match="too large for a page"):
        page("toy/instant", toy.ToyConfig())


def test_a_long_run_gets_fewer_pictures(monkeypatch):
    whole = page("toy/walk", toy.ToyConfig(steps=60))
    monkeypatch.setattr(pages, "LARGEST", len(whole) - 20_000)
    assert data_of(page("toy/walk", toy.ToyConfig(steps=60)))["view"]["frames"]["count"] == 24


def test_nothing_in_the_data_ends_the_script():
    config = toy.ToyConfig(steps=3, mode="</script><script>alert(1)</script>")
    text = page("toy/walk", config)
    assert "<script>alert" not in text
    assert data_of(text)["view"]["values"]["mode"][1] == config.mode


# -- exercises ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def declared():
    exercises.declare(
        "toy", Exercise("How much?", lambda: -0.32, "think again", "because"), Exercise("Which?", lambda: "gptaq", "no", "yes")
    )
    yield
    del exercises.EXERCISES["toy"]


def test_exercises_reply_and_keep_the_score(declared):
    asked = Exercises("toy")
    assert asked.check(0, "-0.32") == asked.check(0, "-0.3201") == "right: because"
    assert "1 of 2" in asked.score.value
    assert asked.check(0, "0.32") == asked.check(0, "much") == asked.check(0, "true") == "not yet: think again"
    assert asked.check(1, " GPTAQ ") == "right: yes"
    assert "2 of 2" in asked.score.value
    assert asked.give_up(0) == "-0.32: because"
    assert "1 of 2" in asked.score.value
    assert "-0.32" not in repr(asked)


def test_a_sheet_for_a_class_has_no_answers(declared, runs_folder):
    sheet = exercises.sheet("toy")
    assert "**2.** Which?" in sheet
    assert "0.32" not in sheet
    assert "because" not in sheet
    assert "-0.32: because" in exercises.sheet("toy", answers=True)
    Exercises("toy").export()
    assert (runs_folder / "exports" / "exercises-toy.md").read_text() == sheet
    with pytest.raises(KnobError, match="no exercises for the method 'knitting'"):
        exercises.exercises("knitting")


@pytest.mark.parametrize("method", ["quantization", "synapse"])
def test_every_answer_is_computed_and_counts_as_right(method):
    for exercise in exercises.exercises(method):
        answer = exercise.answer()
        assert exercise.right(str(answer))
        assert not exercise.right("no such answer")
