"""Tests of figures: their colours in both themes, their markup, their size, and the update of live figures."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from layout import unreadable

from workbench import inks, papers, pictures, plotting, runs
from workbench.experiment import discover, get

LIGHT, DARK = ("#ffffff",), ("#111111", "#212121")  # background colours below a figure in JupyterLab's two themes
COLOURS = (inks.ORANGE, inks.SKY, inks.GREEN, inks.BLUE, inks.RED, inks.PINK, inks.GREY)


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Return the contrast ratio of two colours, as defined in WCAG 2.2 by their relative luminance."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted((linear(one) @ weights, linear(other) @ weights))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", COLOURS)
def test_lines_and_text_are_readable_in_both_themes(colour):
    for ground in LIGHT:
        assert contrast(colour, ground) >= 3
        assert contrast(inks.text(colour), ground) >= 4.5
    for ground in DARK:
        assert contrast(inks.DARK[colour], ground) >= 3
        assert contrast(inks.DARK_TEXT[colour], ground) >= 4.5


def test_inks_are_readable_in_both_themes():
    for ink in (inks.INK, inks.FAINT):
        assert contrast(ink, "#ffffff") >= 4.5
        assert min(contrast(inks.DARK[ink], ground) for ground in DARK) >= 4.5


# simulation of colour blindness in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1)
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
TO_LMS = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])


def oklab(rgb):
    return TO_LAB @ np.cbrt(TO_LMS @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("shades", ["light", "dark"])
def test_the_colour_blind_tell_them_apart(kind, shades):
    colours = COLOURS if shades == "light" else [inks.DARK[c] for c in COLOURS]
    seen = [oklab(np.array(BLIND[kind]) @ linear(c)) for c in colours]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 0.03


def test_the_theme_has_every_ink_twice():
    for colour in inks.SHADES:
        assert inks.theme().count(f"{inks.variable(colour)}:") == 2


def text_figure(words):
    with plotting.figure(300, 200, layout=None) as fig:
        axes = fig.subplots()
        axes.set_title(words, parse_math=False)
        axes.text(0.5, 0.5, words, parse_math=False)
    return fig


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_text_in_a_picture_is_never_markup(words):
    svg = pictures.markup(text_figure(words))
    root = ET.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg", "defs", "style", "g", "path", "use", "text", "tspan", "clipPath", "rect", "image", "metadata"
    }  # fmt: skip
    shown = [e for e in root.iter() if e.tag.endswith("text")]
    assert sum("".join(e.itertext()) == words for e in shown) == 2 or not words.strip()


@pytest.mark.parametrize("words", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt; ]]> -->"])
def test_hostile_text_stays_text(words):
    svg = pictures.markup(text_figure(words))
    assert "<script" not in svg
    assert "<img" not in svg
    ET.fromstring(svg)


def test_markup_has_the_inks_of_the_page_and_short_numbers():
    svg = pictures.markup(toy.draw([{"step": 0, "value": 0.0}, {"step": 1, "value": 1 / 3}]))
    assert f"var({inks.variable(inks.INK)},{inks.INK})" in svg
    assert svg.count("<metadata") == svg.count('<metadata class="wb-points">') == 1
    assert "<!--" not in svg
    digits = [token.partition(".")[2] for path in ET.fromstring(svg).iter() for token in path.get("d", "").split()]
    assert max(map(len, digits)) <= 2
    assert "DejaVu" not in svg


def test_equal_figures_are_equal_bytes():
    records = [{"step": 0, "value": 0.0}, {"step": 1, "value": 1.0}]
    for kind in ("png", "svg", "pdf"):
        assert pictures.encode(toy.draw(records), kind) == pictures.encode(toy.draw(records), kind)
    assert pictures.markup(toy.draw(records)) == pictures.markup(toy.draw(records))


SHOWN = [e for e in discover().values() if not e.name.startswith("toy")]
LIVE = [e.name for e in SHOWN if hasattr(e.figure, "update")]


def records_of(experiment, config):
    return runs.preview(experiment, config) if experiment.instant else list(runs.stream(experiment, config))


@pytest.mark.parametrize("name", [e.name for e in SHOWN])
def test_every_picture_is_small_and_has_its_story(name):
    experiment = get(name)
    config = experiment.config.at("smoke")
    records = papers.reference_records(name) or records_of(experiment, config)
    svg = pictures.markup(figure := experiment.figure(records))
    assert unreadable(figure) == []
    assert len(svg) <= 250_000
    width, height = (float(v) for v in ET.fromstring(svg).get("viewBox").split()[2:])
    assert (round(width / 0.75), round(height / 0.75)) == (plotting.WIDTH, plotting.HEIGHT)
    told = experiment.tell(records, config)
    assert told[0].isupper() or told[0].isdigit()
    assert told.endswith(".")
    assert "nan" not in told
    assert 20 <= len(told) <= 320


def test_all_live_pictures_can_be_kept():
    assert len(LIVE) >= 14


OTHERS = {
    "quantization/layer-trace": [{"method": "gptq", "bits": 2}, {"bits": 16}, {"group_size": 32, "row": 3}],
    "quantization/grid": [{"bits": 2}, {"group_size": 64, "symmetric": False}],
    "quantization/two-weights": [{"w1": -1.0, "shift": 0.0}, {"correlation": -0.5}],
    "quantization/update": [{"column": 30}, {"bits": 2, "alpha": 0.0}],
    "synapse/device": [{"nonlinearity_down": 9.0, "step_spread": 0.3}, {"levels": 8}, {"device": "linear-step"}],
    "synapse/one-synapse": [{"scheme": "push-pull", "up": 0.9}, {"scheme": "reference"}, {"refresh": "none"}],
    "synapse/update": [{"delta": -0.9}, {"rate": 0.3}],
    "synapse/train": [{"rival": "software"}, {"scheme": "reference", "levels": 16}],
    "continual/train": [{"method": "sgd", "lr": 0.1}, {"tasks": 2, "power": 2.0}],
    "continual/fork": [{"branches": ("sgd@0.01",)}, {"stream": "split-fashion"}],
    "continual/history": [{"moment": 0}, {"power": 2.0, "moment": 3}],
    "continual/threshold": [{"cut_at": -3.0}, {"moment": 0}],
    "continual/one-weight": [{"kind": "constant"}, {"threshold": 1e-4, "power": 2.0}],
    "adapters/train": [{"method": "lora", "r": 9}, {"method": "bat-row", "shown": 5}],
    "adapters/ask": [{"question": "1 + 1 ="}, {"tokens": 2}],
    "adapters/microscope": [{"method": "bat-row"}, {"targets": ("q_proj",)}],
    "adapters/shards": [{"method": "miss", "r": 4}, {"method": "bat-col"}, {"method": "lora: A tiled"}],
    "adapters/cost": [{"tokens": 16}, {"r": 8, "rows": 4096}],
    "adapters/step": [{"r": 32}, {"width": 64, "alpha": 64.0}],
    "adapters/merge": [{"size": -5.0}, {"dtype": "float16"}],
    "synapse/currents": [{"digit": 3}, {"kind": "wrong"}, {"scheme": "reference"}],
}


@pytest.mark.parametrize("name", LIVE)
def test_a_kept_figure_equals_a_new_one(name):
    """An updated figure does not depend on what it showed before: earlier records, other knobs, or pinned runs."""
    experiment = get(name)
    small = {"samples": 1000, "model": "tiny-llama", "every": 250 if name == "synapse/train" else 50}
    kind = experiment.config
    config = kind.at("smoke", **{n: v for n, v in small.items() if n in kind.knobs() and name != "quantization/grid"})
    assert len(OTHERS[name]) >= 2
    series = [records_of(experiment, c) for c in (config, *(config.replace(**more) for more in OTHERS[name]), config)]
    kept = experiment.figure(series[-1])
    choices = ([], [("other", series[1])], [("a", series[0]), ("b", series[2])]) if experiment.pins else ([],)
    for records in series:
        for part in sorted({1, len(records) // 2 + 1, len(records)}):
            for pinned in choices:
                more = {"pinned": pinned} if pinned else {}
                experiment.figure.update(kept, records[:part], **more)
                assert unreadable(kept) == []
                assert pictures.markup(kept) == pictures.markup(experiment.figure(records[:part], **more))
