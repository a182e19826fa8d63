"""Measures, styles, notes, rows and checks that labs share; views of a comparison; what a label and a line are."""

import math

import pytest
from matplotlib.figure import Figure

from workbench import papers, plotting
from workbench.experiment import discover
from workbench.measures import Measure, Note, Panel, SeriesStyle, at, better, places, rows, sentence

LOSS = Measure("loss", "loss (%)", 100, digits=2, lower=True)
STYLE = SeriesStyle({"a": "method A", "b": "method B"}, {"a": "#ff0000"})
NOTE = Note("best of {tried}; ", "one setting; ", "at an end", ", none of them chosen", "{failed} of {fits} runs failed", "runs")


def row(label, seed, loss=None, phase="judge", tried=1, **more):
    found = {"label": label, "seed": seed, "phase": phase, "tried": tried, "setting": "", "edge": "", "place": "x", **more}
    return found | ({} if loss is None else {"loss": loss})


def records(seeds=6, b=0.3):
    return [row(label, seed, value + 0.01 * seed) for label, value in (("a", 0.2), ("b", b)) for seed in range(seeds)]


def test_a_gap_is_positive_where_the_first_is_better_in_the_measure_s_direction_and_unit():
    gap = LOSS.gap(records(), "a", "b")
    assert gap.tolist() == pytest.approx([10.0] * 6)
    assert Measure("loss", "").gap(records(), "a", "b").tolist() == pytest.approx([-0.1] * 6)
    assert LOSS.lead(records(), "a", "b") == "+10.00 (+10.00 to +10.00)"
    assert LOSS.lead(records(), "a", "c") == ""
    assert LOSS.table(records())["mean"].tolist() == pytest.approx([22.5, 32.5])
    assert LOSS.scores(records(), label="a").tolist() == pytest.approx([20 + k for k in range(6)])


@pytest.mark.parametrize(("b", "verdict"), [(0.3, "holds"), (0.1, "fails")])
def test_the_check_of_a_claim_follows_the_direction(b, verdict):
    check = better(LOSS, "a", "b", say=lambda one, other, place: f"{one} over {other} at {place}", per="place")
    found = check(records(b=b))
    assert (found.verdict, "a over b at x" in found.measured) == (verdict, True)
    assert better(LOSS, "a", "b", say=lambda *_: "", low=20)(records()).verdict == "fails"
    assert better(LOSS, "a", "b", say=lambda *_: "", low=-20, high=20)(records()).verdict == "holds"
    nowhere = {"say": lambda *_: "", "per": "place", "among": ("y",)}
    assert better(LOSS, "a", "b", **nowhere)(records()).verdict == "undecidable here"
    assert better(LOSS, "a", "b", absent="not yet", **nowhere)(records()).measured == "not yet"


def test_a_note_says_how_settings_were_chosen_what_marks_are_and_which_fits_failed():
    assert NOTE.of(records()) == "one setting; mean and 95 % interval of 6 runs"
    tuned = [row("a", seed, 0.1, tried=4, edge="lr" if seed == 0 else "") for seed in range(5)]
    assert NOTE.of(tuned, "lines") == "best of 4; lines; diamond: at an end"
    lost = [*tuned, row("a", 50, phase="choose", failed="lost")]
    assert NOTE.of(lost, "").endswith(". 1 of 6 runs failed, none of them chosen")
    judged = [*tuned, row("a", 5, failed="lost", tried=4)]
    assert NOTE.of(judged, "").endswith(". 1 of 6 runs failed")


def test_a_picture_of_rows_has_a_row_for_each_label_and_says_where_nothing_worked():
    fig, made = Figure(), [*records(), row("c", 0, failed="lost")]
    panels = [Panel("loss", LOSS), Panel("gap", LOSS, axis="better by", over={"a": "b", "b": "b"})]
    left, right = rows(fig, made, panels, STYLE, missing="failed")
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["method A", "method B", "c"]
    assert (left.get_xlabel(), right.get_xlabel()) == ("loss (%)", "better by")
    assert [text.get_text() for text in left.texts] == ["failed"]
    means = sorted(line.get_xdata()[0] for line in right.lines if line.get_marker() == "o")
    assert means == pytest.approx([10.0])


def test_styles_names_and_places():
    assert (STYLE.name("c"), STYLE.marker("c"), STYLE.colour("c")) == ("c", "o", STYLE.colour("b"))
    assert STYLE.named(["b", "a", "b"]) == {"b": "method B", "a": "method A"}
    assert places([{"x": 2}, {}, {"x": 1}, {"x": 2}], "x") == [2, 1]
    assert at([{"x": 2}, {"x": 1}], x=1) == [{"x": 1}]
    assert sentence("So: ", [("1", "here"), ("", "there")], "nothing") == "So: 1 (here)"
    assert sentence("So: ", [("", "there")], "nothing") == "nothing"


def test_only_the_word_nu_is_a_greek_letter():
    assert plotting.greek("nu = 3, manual, nuclear, of nu") == "ν = 3, manual, nuclear, of ν"


def test_only_a_target_is_drawn_as_a_dashed_line_in_the_legend():
    with plotting.figure() as fig:
        axes = fig.subplots()
        axes.plot([0, 1], [1, 1], "--", label="short")  # as dashed as a target, of as many points
        plotting.target(axes, 2.0, "goal")
        plotting.finish(fig, "x", names={"short": "short", "goal": "goal"}, colours={"short": "red", "goal": "black"})
    dashed = {
        text.get_text(): mark.get_linestyle()
        for text, mark in zip(fig.legends[0].get_texts(), fig.legends[0].get_lines(), strict=True)
    }
    assert dashed == {"short": "None", "goal": "--"}


def test_a_view_has_the_records_of_its_comparison_and_no_file_of_its_own():
    every = discover()
    views = {name: e.of for name, e in every.items() if e.of}
    assert {*views} == {f"adapters/{n}" for n in ("sweep", "curves", "forgetting")} | {"continual/memory", "continual/matrices"}
    for name, (whole, only) in views.items():
        assert not papers.reference_path(name).exists()
        wanted = [record for record in papers.reference_records(whole) if only(record)]
        assert papers.reference_records(name) == wanted != []
        assert papers.reference_about(name) == papers.reference_about(whole)
        assert papers.outdated(every[name], every[name].config.at("laptop")) == ""
    assert math.isclose(len(papers.reference_records("continual/matrices")), 265)


def test_a_check_without_rows_has_nothing_to_judge():
    assert better(LOSS, "a", "b", say=lambda *_: "")([]).verdict == "undecidable here"
    check = better(LOSS, "a", "b", say=lambda *_: "", absent="not at this scale", place="y")
    assert (check(records()).verdict, check(records()).measured) == ("open", "not at this scale")
