"""Configs refuse what is wrong in one clear line a knob, and take text as the command line gives it."""

import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st

from workbench import experiment
from workbench.experiment import plain_record
from workbench.knobs import Config, KnobError, knob


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"steps": 0}, "steps=0: expected a whole number from 1 to 100000 (number of records)"),
        ({"steps": 2.5}, "steps=2.5: expected a whole number"),
        ({"steps": True}, "steps=True: expected a whole number"),
        ({"rate": "fast"}, "rate='fast': expected a number from 0.0001 to 1"),
        ({"rate": float("nan")}, "rate=nan: expected a number"),
        ({"stepz": 5}, "'stepz' is not a knob of ToyConfig; did you mean 'steps'?"),
        ({"xyzzy": 5}, "knobs: steps, rate"),
        ({"pause": 3}, "from 0 to 1 s (sleep after each record)"),
    ],
)
def test_wrong_knobs_are_named(knobs, said):
    with pytest.raises(KnobError) as error:
        toy.ToyConfig(**knobs)
    assert said in str(error.value)


def test_all_wrong_knobs_at_once():
    with pytest.raises(KnobError) as error:
        toy.ToyConfig(steps=0, rate=7)
    assert len(str(error.value).splitlines()) == 2


def test_presets():
    assert toy.ToyConfig.at("smoke", rate=0.5).changed() == {"steps": 3, "rate": 0.5}
    with pytest.raises(KnobError, match="there is no paper"):
        toy.ToyConfig.at("paper")
    with pytest.raises(KnobError, match="no scale 'huge'; scales: smoke, laptop"):
        toy.ToyConfig.at("huge")


def test_text_becomes_values():
    found = toy.ToyConfig.parse(["steps=1e1", "group_size=none", "symmetric=False", "mode=plain", "rate=0.5"])
    assert found == {"steps": 10.0, "group_size": None, "symmetric": False, "mode": "plain", "rate": 0.5}
    assert toy.ToyConfig(**found).steps == 10  # papermill and JSON write 1e1 for ten
    assert isinstance(toy.ToyConfig(**found).steps, int)
    with pytest.raises(KnobError, match="expected knob=value"):
        toy.ToyConfig.parse(["steps"])


@given(st.integers(1, 100_000), st.floats(1e-4, 1.0), st.booleans(), st.none() | st.integers(1, 99))
def test_code_that_repeats_a_config_repeats_it(steps, rate, symmetric, group):
    config = toy.ToyConfig(steps=steps, rate=rate, symmetric=symmetric, group_size=group)
    code = ", ".join(f"{k}={v!r}" for k, v in config.changed().items())
    assert eval(f"toy.ToyConfig({code})") == config


def test_a_default_out_of_range_is_refused():
    class Wrong(Config):
        steps: int = knob(5, "too many", low=0, high=3)

    with pytest.raises(KnobError, match="steps=5"):
        Wrong()


def test_unknown_experiment_names_the_nearest():
    with pytest.raises(KnobError, match="did you mean 'quantization/layer-trace'"):
        experiment.get("quantization/layer-trce")


def test_every_experiment_is_documented_and_has_presets():
    found = {n: e for n, e in experiment.discover().items() if not n.startswith("toy/")}
    assert len(found) >= 9
    for name, e in found.items():
        assert e.summary, name
        assert {"smoke", "laptop", "paper"} <= set(e.config.presets), name
        for scale, preset in e.config.presets.items():
            assert isinstance(preset, str) or e.config.at(scale), name
        assert all(k.help for k in e.config.knobs().values()), name
        assert set(e.config.knobs()) | set(e.config.swept) == set(e.config.model_fields), f"{name}: no knob"


def test_a_knob_that_the_experiment_sweeps_is_refused():
    config = experiment.get("quantization/bits-groups").config
    assert "bits" not in config.knobs()
    with pytest.raises(KnobError, match="goes through several bits by itself"):
        config.at("smoke", bits=5)
    config.at("smoke", bits=3)  # what it is anyway


def test_ranges_with_one_end_and_text_knobs_are_read_as_meant():
    with pytest.raises(KnobError, match="group_size=0: expected a whole number of at least 1 or none"):
        experiment.get("quantization/layer-trace").config(group_size=0)
    terms = experiment.get("quantization/terms").config
    assert terms.parse(["blocks=4"]) == {"blocks": (4,)}
    with pytest.raises(KnobError, match="'scale' is not a knob"):
        terms.at("smoke", scale="laptop")


def test_records_become_plain():
    plain = plain_record(
        {"a": np.float32(1.5), "b": torch.ones(2), "c": np.arange(2), "d": "text", "e": None}
    )
    assert plain == {"a": 1.5, "b": [1.0, 1.0], "c": [0, 1], "d": "text", "e": None}
    with pytest.raises(ValueError, match="expected at most 65536"):
        plain_record({"large": np.zeros(40_000)})
    with pytest.raises(ValueError, match="holds set"):
        plain_record({"wrong": {1}})


def test_knobs_are_grouped_by_the_class_that_declares_them():
    class Place(Config):
        title = "place"
        x: int = knob(1, "where", low=0, high=9)

    class Both(Place):
        title = "both"
        x: int = knob(2, "where, with another default", low=0, high=9)
        y: int = knob(3, "how far", low=0, high=9)

    assert list(Both.groups().items()) == [("both", ["y"]), ("place", ["x"])]
    assert toy.ToyConfig.groups() == {"": list(toy.ToyConfig.knobs())}
