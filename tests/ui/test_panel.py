"""Panels without a kernel: what a person does is a method call, or the message that the browser sends."""

import base64
import dataclasses
import itertools
import json
import re
import threading
import time
from pathlib import Path

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import links, questions, runs
from workbench.experiment import discover, get
from workbench.knobs import KnobError
from workbench.ui import Gallery, Panel, show
from workbench.ui.inputs import inputs
from workbench.ui.picture import Drawing
from workbench.ui.replay import Replay, moments


def wait_until(condition):
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "waited 300 s"
        time.sleep(0.01)


def said(panel, **message):
    """What the browser sends when a person does something."""
    panel._handle_custom_msg(message, message.pop("buffers", []))


def finished(**knobs):
    config = toy.ToyConfig(**knobs)
    return config, list(runs.stream(get("toy/walk"), config))


# -- knobs -------------------------------------------------------------------------------------------------------------


def test_each_knob_has_the_input_that_fits_it():
    found = {knob["name"]: knob for knob in inputs(toy.ToyConfig())}
    kinds = {name: knob["kind"] for name, knob in found.items()}
    assert kinds == {
        "steps": "slider", "rate": "slider", "mode": "text", "symmetric": "check", "group_size": "select", "pause": "slider",
        "seed": "text",
    }  # fmt: skip
    assert found["group_size"]["options"] == [["none", None], ["8", 8], ["16", 16]]
    marks = found["rate"]["marks"]
    assert marks == sorted(marks)
    assert {1e-4, 1.5e-4, 0.002, 0.02, 0.7, 1.0} <= {*marks}
    assert found["pause"]["unit"] == "s"
    rival = next(k for k in inputs(get("synapse/train").config(scheme="uni")) if k["name"] == "rival")
    assert [value for _, value in rival["options"]] == ["uni", "push-pull", "alternating", "reference", "software"]


@pytest.mark.parametrize("name", sorted(discover()))
def test_what_the_browser_gets_is_json_and_holds_every_knob_once(name):
    panel = Panel(name)
    json.dumps([panel.spec, panel.view])
    shown = [knob for _, names, _ in panel.spec["groups"] for knob in names]
    assert sorted(shown) == sorted(panel.config.knobs())
    first = panel.spec["groups"][0]
    assert first[2], "nothing is in sight"
    assert len(first[1]) <= 12


def test_a_sliders_last_digit_makes_no_other_run():
    panel = Panel("toy/walk")
    said(panel, do="set", seq=1, knobs={"pause": {"value": 0.29999999999999993}})
    assert panel.config == toy.ToyConfig(pause=0.3)


def test_a_refused_value_stands_with_its_reason_and_the_rest_goes_on():
    panel = Panel("toy/walk", *finished(steps=4))
    said(panel, do="set", seq=7, knobs={"steps": {"text": "0"}})
    assert "expected a whole number from 1" in panel.view["errors"]["steps"]
    assert panel.view["values"]["steps"] == [0, "0"]
    assert panel.view["seq"] == 7
    assert "refused" in panel.view["stale"]
    panel.start()
    assert "not run: “number of records”: steps=0: expected" in panel.view["message"]
    said(panel, do="set", seq=8, knobs={"steps": {"text": "5"}})
    assert not panel.view["errors"]
    assert panel.config.steps == 5
    assert "press Run" in panel.view["stale"]
    panel.reset()
    assert not panel.view["stale"]


TYPED = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none())


@given(st.dictionaries(st.sampled_from([*toy.ToyConfig.model_fields]), TYPED))
@settings(max_examples=150, deadline=None)
def test_whatever_is_typed_is_taken_or_refused_and_nothing_breaks(changes):
    panel = CHEAP
    panel.reset()
    panel.set(**changes)
    json.dumps(panel.view)
    if not panel.view["errors"]:
        assert panel.config == toy.ToyConfig(**panel.knobs.values)


CHEAP = Panel("toy/walk")


def test_knobs_without_effect_say_why():
    panel = Panel("quantization/layer-trace")
    panel.set(method="rtn")
    assert "ResComp" in panel.view["idle"]["beta"]
    panel.set(method="gptaq+rescomp")
    assert "beta" not in panel.view["idle"]
    train = Panel("synapse/train", get("synapse/train").config(scheme="uni", rival="push-pull"))
    assert "nonlinearity_down" not in train.view["idle"], "the rival uses it"
    assert "nonlinearity_down" in Panel("synapse/train", get("synapse/train").config(scheme="uni", rival="software")).view["idle"]


def test_an_uploaded_file_is_kept_and_read(runs_folder):
    panel = Panel("synapse/device")
    data = b"ltp,ltd\n0,2\n1,1.5\n2,0\n"
    said(panel, do="upload", name="curve", file="my device.csv", buffers=[memoryview(data)])
    path = Path(panel.config.curve)
    assert path.parent == runs_folder / "uploads"
    assert path.read_bytes() == data
    panel.set(device="measured")
    wait_until(lambda: panel._thread is None)
    assert not panel.error
    assert panel.records[-1]["levels"] == 2
    said(panel, do="upload", name="curve", file="other.csv", buffers=[b"ltp,ltd\n0,2\nx,1\n"])
    assert "row 3, column 'ltp'" in panel.view["errors"]["curve"]
    said(panel, do="upload", name="curve", file="other.exe", buffers=[b""])
    assert "expected a .csv file" in panel.view["message"]


# -- runs --------------------------------------------------------------------------------------------------------------


def test_run_and_the_run_on_disk():
    panel = Panel("toy/walk")
    assert "press Run" in panel.view["message"]
    assert not panel.records
    panel.set(steps=12)
    said(panel, do="run")
    panel.wait(30)
    assert panel.view["message"].startswith("done: 12 records")
    assert panel.view["progress"] == 1
    assert panel.picture["svg"].startswith("<svg")
    assert panel.picture["story"].startswith("12 steps")
    assert not panel.view["busy"]
    assert runs.find(get("toy/walk"), toy.ToyConfig(steps=12)) == panel.records
    assert runs.run_id(get("toy/walk"), toy.ToyConfig(steps=12)) in panel.view["about"]
    assert Panel("toy/walk", toy.ToyConfig(steps=12)).picture["story"] == panel.picture["story"], "a kept run is shown"


def test_stop_ends_the_run_before_its_last_record_and_run_goes_on():
    panel = Panel("toy/walk", toy.ToyConfig(steps=1000, pause=0.005))
    panel.start()
    wait_until(lambda: "left" in panel.view["phase"])
    assert panel.view["busy"]
    panel.start()  # a second click while it runs does nothing
    said(panel, do="stop")
    panel.wait(30)
    assert "stopped after" in panel.view["message"]
    assert 1 <= len(panel.records) < 1000
    stopped = len(panel.records)
    panel.start()
    wait_until(lambda: len(panel.records) > stopped)
    panel.stop()
    panel.wait(30)
    assert [r["step"] for r in panel.records] == list(range(len(panel.records)))


def test_what_is_done_before_the_first_record_is_said(monkeypatch):
    panel, phases = Panel("synapse/currents"), []
    panel.observe(lambda change: phases.append(change["new"]["phase"]), "view")
    from workbench.synapse.lab import network_experiments as lab

    lab._trained.cache_clear()
    from workbench.digits import load_digits

    load_digits.cache_clear()
    panel.set(samples=1000)
    wait_until(lambda: panel._thread is None)
    assert any("reading" in phase for phase in phases), phases


def test_the_old_picture_is_dimmed_until_the_new_one_comes():
    panel = Panel("toy/walk", *finished(steps=3))
    seen = []
    panel.observe(lambda change: seen.append((panel.view["dim"], panel.picture["story"][:7])), ["view", "picture"])
    panel.set(steps=6)
    panel.start()
    panel.wait(30)
    assert (True, "3 steps") in seen
    assert seen[-1] == (False, "6 steps")


def test_errors_are_one_clear_line():
    panel = Panel("toy/walk")
    panel.set(mode="fail")
    panel.start()
    panel.wait(30)
    assert panel.view["message"] == "failed after 2 records: the walk fell over; expected mode='plain'"
    assert panel.view["failed"]
    assert not panel.view["busy"]
    assert "Traceback" in panel.error
    panel.set(mode="plain")
    assert not panel.view["failed"]
    panel = Panel("quantization/layer-trace")
    panel.set(bits=4, symmetric=False, group_size=32)
    assert "refused" in panel.view["message"] or panel.view["errors"]
    panel.start()
    assert "not run" in panel.view["message"]


def test_a_misspelt_model_is_said_in_the_panel():
    panel = Panel("quantization/layer-trace")
    panel.set(model="no-such/model")
    panel.start()
    panel.wait(60)
    assert "Check the name" in panel.view["message"]


def test_a_figure_that_raises_is_a_message_and_the_run_goes_on():
    walk = get("toy/walk")
    broken = type(walk)(**{**walk.__dict__, "figure": lambda records: {}["gone"]})
    panel = Panel(broken, toy.ToyConfig(steps=4))
    panel.start()
    panel.wait(30)
    assert "could not be drawn (KeyError: 'gone')" in panel.view["message"]
    assert "another version" in panel.view["message"]
    assert len(panel.records) == 4
    assert runs.find(walk, toy.ToyConfig(steps=4))


def test_records_of_another_version_are_said_not_to_fit():
    panel = Panel("quantization/layer-trace", records=[{"columns": 0, "of": 3, "method": "gptq", "bits": 3, "layer": "x"}])
    assert "could not be drawn (KeyError: 'row')" in panel.view["message"]
    assert "another version" in panel.view["message"]


def test_what_is_not_known_in_a_message_is_said_and_costs_nothing():
    panel = Panel("toy/walk")
    said(panel, do="fly")
    assert "KeyError" in panel.view["message"]
    said(panel, do="preset", scale="galaxy")
    assert "no scale 'galaxy'" in panel.view["message"]
    panel.set(steps=3)
    panel.start()
    panel.wait(30)
    assert panel.view["message"].startswith("done")


def test_two_panels_at_once():
    panels = [Panel("toy/walk", toy.ToyConfig(steps=40, pause=0.005, seed=seed)) for seed in (1, 2)]
    for panel in panels:
        panel.start()
    for panel in panels:
        panel.wait(60)
        assert panel.view["message"].startswith("done: 40 records")
    assert panels[0].records != panels[1].records


# -- pins, code, link ----------------------------------------------------------------------------------------------------


def test_reset_preset_and_code():
    panel = Panel("toy/walk", toy.ToyConfig(steps=5, rate=0.5))
    said(panel, do="preset", scale="laptop")
    assert panel.config == toy.ToyConfig.at("laptop")
    assert panel.view["code"] == panel.code == "from workbench import runs\n\nrecords = runs.run('toy/walk', steps=30)"
    namespace = {}
    exec(panel.code, namespace)
    assert len(namespace["records"]) == 30
    said(panel, do="reset")
    assert panel.config == toy.ToyConfig(steps=5, rate=0.5)


def test_several_runs_are_pinned_and_each_is_named():
    walk, seen = get("toy/walk"), []
    draw = lambda records, pinned=(): seen.append(pinned) or walk.figure(records, pinned)  # noqa: E731
    panel = Panel(type(walk)(**{**walk.__dict__, "figure": draw}), *finished(steps=4))
    first = panel.records
    said(panel, do="pin")
    said(panel, do="pin")  # twice is once
    assert len(panel.pinned) == 1
    for rate in (0.01, 0.02):
        panel.set(rate=rate)
        panel.start()
        panel.wait(30)
        panel.pin()
    panel.set(rate=0.03)
    panel.start()
    panel.wait(30)
    assert seen[-1][0] == ("rate 0.1", first)
    assert panel.view["pins"] == ["rate 0.1", "rate 0.01", "rate 0.02"]
    assert "beside rate 0.1, rate 0.01, rate 0.02" in panel.picture["story"]
    said(panel, do="unpin", at=1)
    assert panel.view["pins"] == ["rate 0.1", "rate 0.02"]


def test_a_figure_that_cannot_compare_offers_no_pin():
    assert Panel("toy/walk").spec["pins"]
    assert not Panel("quantization/two-weights").spec["pins"]


def test_a_link_holds_the_whole_state():
    panel = Panel("toy/walk", *finished(steps=4))
    panel.pin()
    panel.set(steps=6, rate=0.5, group_size=8, mode="plain")
    panel.start()
    panel.wait(30)
    assert "\n" not in panel.link
    other = Panel.from_link(panel.link)
    assert other.config == panel.config
    assert other.records == panel.records
    assert other.pinned == panel.pinned
    assert other.picture["svg"] == panel.picture["svg"]


def test_links_that_do_not_fit_say_so():
    assert "made with version 7 of toy/walk" in Panel.from_link("toy/walk@7?steps=5").view["message"]
    with pytest.raises(KnobError, match="did you mean 'steps'"):
        Panel.from_link("toy/walk@1?stepz=5")
    with pytest.raises(KnobError, match="no experiment 'toy/run'"):
        Panel.from_link("toy/run@1")
    with pytest.raises(KnobError, match="expected EXPERIMENT@VERSION"):
        Panel.from_link("?steps=5")
    missing = Panel.from_link("toy/walk@1?steps=5&~pin=rate%3D0.7")
    assert "1 pinned runs of the link are not stored here" in missing.view["message"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_config_goes_through_its_link(data):
    name = data.draw(st.sampled_from(sorted(n for n in discover() if not n.startswith("toy"))))
    config = get(name).config()
    for knob in data.draw(st.lists(st.sampled_from([*config.knobs()]), max_size=3)):
        options = {k["name"]: k for k in inputs(config)}[knob]
        values = [v for _, v in options["options"]] or options.get("marks") or [options.get("low"), options.get("high")]
        try:
            config = config.replace(**{knob: data.draw(st.sampled_from(values))})
        except KnobError:
            continue
    state = links.parse(links.link(links.State(get(name), config)))
    assert (state.experiment, state.config, state.note) == (get(name), config, "")


# -- questions -----------------------------------------------------------------------------------------------------------


def test_a_question_sets_knobs_pins_its_rival_and_judges_by_the_records():
    panel = Panel("toy/walk", toy.ToyConfig(steps=9))
    said(panel, do="ask", at=1)
    assert panel.config.rate == 0.5
    assert panel.view["question"] == {"at": 1, "guess": None, "answer": None}
    said(panel, do="guess", guess=0)
    panel.wait(30)
    assert panel.pinned[0][0].rate == 0.1
    assert panel.pinned[0][1] == runs.find(get("toy/walk"), toy.ToyConfig(steps=9, rate=0.1))
    answer = toy.QUESTIONS[1].right(panel.records, panel.pinned[0][1])
    shown = panel.view["question"]["answer"]
    assert shown["right"] == answer
    assert shown["measured"].startswith("This run, one seed:")
    assert shown["why"] == toy.QUESTIONS[1].why
    said(panel, do="guess", guess=1)  # one guess a question
    assert panel.view["question"]["guess"] == 0
    said(panel, do="ask", at=-1)
    assert panel.view["question"] is None


@pytest.mark.parametrize("act", [
    lambda panel: panel.reset(), lambda panel: panel.preset("smoke"), lambda panel: (panel.set(rate=0.3), panel.start()),
])  # fmt: skip
def test_the_answer_of_a_question_goes_when_it_is_no_longer_that_of_the_picture(act):
    panel = Panel("toy/walk", toy.ToyConfig(steps=9))
    panel.ask(1)
    panel.guess(0)
    panel.wait(30)
    panel.start()  # the same knobs again
    panel.wait(30)
    assert panel.view["question"]["answer"]
    act(panel)
    panel.wait(30)
    assert panel.view["question"] is None


def test_a_question_names_the_knobs_that_it_sets_in_closed_groups():
    question = next(q for q in Panel("quantization/layer-trace").spec["questions"] if "fit the calibration text" in q["title"])
    assert question["sets"] == "calibration tokens = 256 (in the group “text”)"


def test_the_tiny_model_answers_most_questions_at_smoke():
    first, *_, last = runs.run("adapters/train", "smoke")
    assert first["exact"] == 0
    assert last["exact"] > 0.8


def test_sgd_forgets_the_first_task_in_the_panel_that_shows_it():
    config = get("continual/train").config.at("smoke", method="sgd", lr=0.015, first_lr=0.0)
    last = list(runs.stream(get("continual/train"), config))[-1]
    assert last["matrix"][0][0] > 0.9
    assert last["accuracies"][0] < 0.7


def test_a_question_that_is_stopped_is_not_judged():
    panel = Panel("toy/walk", toy.ToyConfig(steps=500, pause=0.01))
    panel.ask(1)
    panel.guess(0)
    wait_until(lambda: panel.records)
    panel.stop()
    panel.wait(30)
    assert panel.view["question"]["answer"] is None


ASKED = [(e.name, at) for e in discover().values() for at in range(len(e.questions)) if not e.name.startswith("toy")]


@pytest.mark.parametrize(("name", "at"), ASKED)
def test_every_question_has_an_answer_in_the_records(name, at):
    experiment = get(name)
    question, config = experiment.questions[at], experiment.config.at("smoke")
    if name == "synapse/train":
        config = config.replace(scheme="uni", rival="push-pull")
    config = config.replace(**question.knobs)
    made = runs.preview if experiment.instant else lambda e, c: list(runs.stream(e, c))
    rival = made(experiment, config.replace(**question.rival)) if question.rival is not None else []
    now = made(experiment, config)
    shown = questions.answer(experiment, question, 0, now, rival)
    assert shown.right in range(len(question.answers))
    assert question.measured(now, rival)
    assert 2 <= len(re.findall(r"[.?!](?: |$)", question.why)) <= 5  # it explains, in a few sentences
    found = questions.evidence(experiment, question)
    assert (found is None) == (not question.claim)
    if found is not None:
        assert found.text in shown.ledger
        assert question.part in found.text
        # one run does not contradict the ledger, or the card says why it can
        assert not questions.contradicts(question, found, shown.right) or question.unlike in shown.ledger != found.text
    assert len({*question.answers}) == len(question.answers) > 1
    if question.rival is not None:
        assert config.replace(**question.rival) != config


def test_there_are_five_questions_in_each_explore_panel():
    for name in ("quantization/layer-trace", "synapse/train", "continual/train"):
        assert len(get(name).questions) >= 5


# -- files, replay, instant --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_saving_figures_and_records(kind, magic, runs_folder, monkeypatch):
    config, records = finished(steps=4)
    panel, sent = Panel("toy/walk", config, records), []
    monkeypatch.setattr(panel, "send", lambda content, buffers=None: sent.append((content, buffers)))
    said(panel, do="save", kind=kind)
    name = runs.run_id(get("toy/walk"), config)
    assert (runs_folder / "exports" / f"{name}.{kind}").read_bytes().startswith(magic)
    assert sent[0][0]["name"] == f"{name}.{kind}"
    assert sent[0][1][0].startswith(magic)
    said(panel, do="save", kind="csv")
    lines = (runs_folder / "exports" / f"{name}.csv").read_text().splitlines()
    assert lines[0] == "step,value,spread"
    assert len(lines) == 5


@given(st.integers(1, 3_000_000), st.integers(1, 7), st.integers(3, 60))
def test_moments_are_few_even_and_end_with_the_run(records, together, most):
    found = moments(records, together, most)
    assert found == sorted({*found})
    assert found[-1] == records
    assert found[0] == min(together, records)
    assert len(found) <= most
    steps = [b - a for a, b in itertools.pairwise(found[:-1])]
    assert not steps or max(steps) <= min(steps) + together


def test_replay_sends_each_moment_once_with_lines_sent_before_as_numbers():
    config, records = finished(steps=100)
    sent = []
    replay = Replay(3, Drawing(get("toy/walk")), records, config, (), sent.append)
    for at in [0, 5, 5, 47, 48, -1]:
        replay.make(at)
    assert [frame["at"] for frame in sent] == [0, 5, 47]
    lines, drawing = [], Drawing(get("toy/walk"))
    for frame in sent:
        lines += frame["lines"]
        seen = records[: replay.moments[frame["at"]]]
        assert "\n".join(lines[i] for i in frame["ids"]) == drawing.markup(seen)
        assert frame["told"] == toy.tell(seen, config)
    replay.end()
    replay.make(7)
    assert len(sent) == 3


def test_pictures_are_made_only_once_somebody_looks(monkeypatch):
    panel, sent = Panel("toy/walk", *finished(steps=6)), []
    monkeypatch.setattr(panel.replay, "send", sent.append)
    time.sleep(0.2)
    assert not sent
    said(panel, do="hello")
    wait_until(lambda: len(sent) == 6)
    said(panel, do="hello")  # another view, which has none of them
    wait_until(lambda: len(sent) == 12)
    said(panel, do="frame", run=panel.replay.run, at=2)
    assert len(sent) == 12


def test_a_million_records_are_replayed_in_few_pictures():
    records = [{"step": k, "value": float(k % 7), "spread": []} for k in range(1_000_000)]
    panel = Panel("toy/walk", toy.ToyConfig(), records)
    assert panel.view["frames"]["count"] <= 48
    assert len(panel.picture["svg"]) < 250_000


def test_an_instant_panel_redraws_at_each_move_and_keeps_no_run(runs_folder):
    panel = Panel("toy/instant")
    before = panel.picture["svg"]
    assert before.startswith("<svg")
    for seq, value in enumerate((0.2, 0.5, 0.7), 1):
        said(panel, do="set", seq=seq, knobs={"rate": {"value": value}})
    wait_until(lambda: panel._thread is None)
    assert panel.picture["svg"] != before
    assert panel.picture["seq"] == 3
    assert panel.records == runs.preview(get("toy/instant"), toy.ToyConfig(rate=0.7))
    assert not list(runs_folder.glob("*"))


def test_a_reader_without_a_kernel_sees_the_picture():
    panel = Panel("toy/walk", *finished(steps=4))
    bundle = panel._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"])[:4] == b"\x89PNG"
    assert bundle["text/plain"].startswith("Panel(toy/walk): 4 steps")
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_drawing_takes_at_most_its_share(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("workbench.ui.picture.monotonic", lambda: clock[0])
    drawing, pictures = Drawing(get("toy/walk")), 0

    def slow(records):
        clock[0] += 1.0  # a slow machine: a second a picture
        return toy.draw(records)

    drawing.draw = lambda records, pinned: slow(records)
    for _ in range(100):
        if drawing.due():
            drawing.markup([{"step": 0, "value": 0.0}])
            pictures += 1
        clock[0] += 0.5  # the work between two records
    assert pictures > 1
    assert pictures / clock[0] <= 0.11  # seconds of drawing a second


def test_show_returns_the_records():
    assert len(show("toy/walk", toy.ToyConfig(steps=6))) == 6


def test_the_gallery_opens_with_a_picture_one_panel_at_a_time():
    gallery = Gallery(["synapse/levels", "toy/instant"], "smoke")
    assert len(gallery.panels) == 1
    assert "reference" in gallery.panels["synapse/levels"].view["message"]
    assert not gallery.panels["synapse/levels"].view["stale"]
    assert gallery.panels["synapse/levels"].picture["svg"]
    gallery.choice.value = "toy/instant"
    assert gallery.children[1] is gallery.panels["toy/instant"]
    assert json.dumps(repr(gallery))


def test_a_run_that_is_deleted_while_it_is_replayed_plays_on(runs_folder, monkeypatch):
    import shutil

    config, records = finished(steps=8)
    panel, sent = Panel("toy/walk", config), []
    assert panel.records == records
    monkeypatch.setattr(panel.replay, "send", sent.append)
    said(panel, do="frame", run=panel.replay.run, at=0)
    shutil.rmtree(runs_folder / runs.run_id(get("toy/walk"), config))
    said(panel, do="frame", run=panel.replay.run, at=7)
    assert [frame["at"] for frame in sent] == [0, 7]
    assert sent[1]["told"].startswith("8 steps")
    panel.start()  # and is computed anew
    panel.wait(30)
    assert panel.view["message"].startswith("done: 8 records")


def test_what_a_first_run_would_wait_for_is_done_once_somebody_looks():
    asked = threading.Event()
    panel = Panel(dataclasses.replace(get("toy/walk"), prepare=asked.set))
    assert not asked.is_set()
    said(panel, do="hello")
    assert asked.wait(10)
