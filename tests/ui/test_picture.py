"""Pictures in cells: a reference with this run folded below it, figures and schematics in the inks of the page, hovering."""

import base64
import html
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import toy

from workbench import hover, methods, papers, pictures, runs, schematics
from workbench.experiment import get
from workbench.plotting import figure
from workbench.ui.still import Beside, Still, drawing, schematic


def test_the_reference_is_in_sight_and_this_run_is_folded_below_it():
    experiment = get("synapse/levels")
    config = experiment.config.at("smoke")
    records = [{**r, "seed": 0} for r in papers.reference_records("synapse/levels") if r["phase"] == "judge" and r["seed"] == 0]
    made = Beside(experiment, config, records, "smoke").picture["svg"]
    root = ET.fromstring(re.sub(r"<svg.*?</svg>", "", made, flags=re.S).replace("<br>", ""))
    assert [e.tag for e in root] == ["figure", "details"]
    assert root[0].findtext("figcaption/b").startswith("Committed reference: scale laptop, 5 seeds")
    assert root[1].findtext("summary").startswith("This run: scale smoke, 1 seed")
    assert made.count("<svg") == 2


def test_without_a_reference_the_run_itself_is_in_sight():
    config = toy.ToyConfig(steps=3)
    made = Beside("toy/walk", config, list(runs.stream(get("toy/walk"), config)), "smoke").picture["svg"]
    assert made.count("<svg") == 1
    assert "<details" not in made
    assert "This run: scale smoke, 3 records" in made


def test_the_model_of_a_picture_is_named():
    experiment = get("adapters/ask")
    config = experiment.config.at("smoke")
    record = {"question": "1 + 1 =", "right": "2", "before": "a", "after": "2", "method": "miss", "steps": 1, "tokens": 4}
    made = Beside(experiment, config, [{**record, "model": "tiny llama", "data": "sums"}], "smoke")
    assert "tiny-llama" in made.picture["svg"]


def test_a_figure_in_a_cell_has_the_inks_of_the_theme_and_a_png_for_readers_without_a_kernel():
    with figure() as made:
        made.subplots().plot([0, 1], [2, 3], label="a & b")
    shown = drawing(made, "one < two")
    assert isinstance(shown, Still)
    assert "var(--wb-" in shown.picture["svg"]
    assert "one &lt; two" in shown.picture["svg"]
    assert base64.b64decode(shown._repr_mimebundle_()["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("method", ["quantization", "synapse", "continual", "adapters"])
def test_every_method_has_a_schematic_with_a_caption_of_two_sentences(method):
    assert method in methods.methods()
    found = schematics.schematic(method)
    assert len(re.findall(r"\.(?: |$)", found.caption)) == 2
    drawn = found.draw()
    canvas = drawn.canvas.get_renderer()
    width, height = drawn.get_size_inches() * drawn.dpi
    boxes = [text.get_window_extent(canvas) for axes in drawn.axes for text in axes.texts if text.get_text()]
    for box in boxes:
        assert -1 <= box.x0 < box.x1 <= width + 1
        assert -1 <= box.y0 < box.y1 <= height + 1
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
    assert html.escape(found.caption) in schematic(method).picture["svg"]


# -- values under the pointer ------------------------------------------------------------------------------------------------


def points(made):
    svg = pictures.markup(made)
    text = re.search(r'<metadata class="wb-points">(.*)</metadata>', svg)[1]
    box = [float(v) for v in re.search(r'viewBox="([^"]*)"', svg)[1].split()]
    return json.loads(html.unescape(text)), box


def test_the_values_of_a_line_lie_where_it_is_drawn():
    with figure() as made:
        axes = made.subplots()
        axes.plot([0, 5, 10], [1.0, 2.5, 2.0], label="SGD")
        axes.set(xlabel="step", ylabel="loss", xlim=(0, 10), ylim=(1, 3))
    (found,), (_, _, width, height) = points(made)
    assert (found["x"], found["y"]) == ("step", "loss")
    assert [p[2:] for p in found["points"]] == [["0", "1", "SGD"], ["5", "2.5", "SGD"], ["10", "2", "SGD"]]
    box = axes.get_position()
    for x, y, *_ in found["points"]:
        assert box.x0 * width - 1 <= x <= box.x1 * width + 1
        assert (1 - box.y1) * height - 1 <= y <= (1 - box.y0) * height + 1
    first, middle, _ = found["points"]
    assert middle[0] == pytest.approx((box.x0 + box.x1) / 2 * width, abs=0.2)
    assert first[1] == pytest.approx((1 - box.y0) * height, abs=0.2)


def test_named_ticks_bars_cells_and_points_outside():
    with figure() as made:
        left, right = made.subplots(1, 2)
        left.bar(["digits", "clothes"], [3.0, 4.0])
        right.plot([0, 1, 2, 3], [0, np.nan, 1, 50])
        right.set(ylim=(0, 2), title="accuracy")
    (bars, line), _ = points(made)
    assert [p[2:4] for p in bars["points"]] == [["digits", "3"], ["clothes", "4"]]
    assert line["y"] == "accuracy"
    assert [p[3] for p in line["points"]] == ["0", "1"], "what is not finite, or outside, is not there"


def test_a_long_line_is_thinned_and_text_cannot_become_markup():
    with figure() as made:
        made.subplots().plot(range(100_000), range(100_000), label="</metadata><script>")
    (found,), _ = points(made)
    assert len(found["points"]) <= hover.MOST
    assert found["points"][0][4] == "</metadata><script>"
    assert "<script>" not in pictures.markup(made)
