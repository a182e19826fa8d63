"""Configs refuse what is wrong in one clear line a knob, and take text as the command line gives it."""

from typing import get_args

import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st

from workbench import checkpoints, describe, experiment
from workbench.blocks import load_weight
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


def test_every_knob_has_a_label_in_few_words_and_essentials_are_few():
    for name, e in experiment.discover().items():
        if name.startswith("toy/"):
            continue
        knobs = e.config.knobs()
        assert all(k.label and len(k.label) <= 20 for k in knobs.values()), name
        assert len({k.label for k in knobs.values()}) == len(knobs), f"{name}: a label stands twice"
        assert sum(k.essential for k in knobs.values()) <= 8, name
        idle = e.config().idle()
        assert all(reason.strip() for reason in idle.values())
        assert all(line for line in describe.knobs(e.config))


@pytest.mark.parametrize(
    ("name", "knob"),
    [(f"{name}/train", "method") for name in ("adapters", "continual")]
    + [("quantization/layer-trace", "method"), ("synapse/train", "scheme")],
)
def test_the_help_of_a_method_has_a_line_for_each_method(name, knob):
    config = experiment.get(name).config
    lines = dict(line.split(": ", 1) for line in config.knobs()[knob].help.splitlines()[1:])
    assert [*lines] == [*get_args(config.model_fields[knob].annotation)]
    assert all(len(said) > 15 for said in lines.values())


def test_tuples_are_read_from_text_numbers_and_lists():
    class Several(Config):
        rates: tuple[float, ...] = knob((0.1, 0.2), "rates", low=0.0, high=1.0)
        sizes: tuple[int, ...] | None = knob(None, "sizes", low=1, choices=(None, (3, 4)))
        names: tuple[str, ...] = knob(("a", "b"), "names")
        three: tuple[float, float, float] = knob((1.0, 2.0, 3.0), "three")

    made = Several(**Several.parse(["rates=0.5,1", "sizes=3, 4", "names=x,y", "three=[1,2,3]"]))
    assert made.rates == (0.5, 1.0)
    assert made.sizes == (3, 4)
    assert made.names == ("x", "y")
    assert Several(rates=0.3, sizes=[7], names="q").model_dump() == {
        "rates": (0.3,),
        "sizes": (7,),
        "names": ("q",),
        "three": (1.0, 2.0, 3.0),
    }
    assert Several(**Several.parse(["sizes=none"])).sizes is None
    assert Several.model_validate_json(made.model_dump_json()) == made
    for knobs, said in (
        ({"rates": (0.5, 2.0)}, r"rates=(0.5, 2.0): expected numbers from 0 to 1, separated by commas (rates)"),
        ({"rates": (0.5, float("nan"))}, "rates=(0.5, nan): expected numbers from 0 to 1"),
        ({"sizes": (0,)}, "sizes=(0,): expected whole numbers of at least 1, separated by commas or none"),
        ({"three": (1, 2)}, "expected 3 numbers, separated by commas (three)"),
    ):
        with pytest.raises(KnobError) as error:
            Several(**knobs)
        assert said in str(error.value)


def test_a_range_may_depend_on_other_knobs():
    trace = experiment.get("quantization/layer-trace").config
    with pytest.raises(KnobError, match="block=30: expected a whole number from 0 to 29"):
        trace(block=30)
    with pytest.raises(KnobError, match="block=4: expected a whole number from 0 to 3"):
        trace(model="tiny-llama", block=4)
    with pytest.raises(KnobError, match="row=192: expected a whole number from 0 to 191"):
        trace(part="k_proj", row=192)


def test_the_sizes_of_the_bundled_models_are_theirs():
    about = checkpoints.describe(checkpoints.SMOLLM2)
    known = checkpoints.sizes(checkpoints.SMOLLM2)
    assert {k: about[k] for k in known if k in about} == {k: v for k, v in known.items() if k in about}
    assert known["key_value_size"] == load_weight(checkpoints.SMOLLM2, 0, "k_proj").shape[0]
    assert checkpoints.sizes(checkpoints.TINY)["key_value_size"] == load_weight(checkpoints.TINY, 0, "k_proj").shape[0]


def test_a_condition_on_a_knob_that_is_swept_decides_nothing():
    update = experiment.get("synapse/update").config()
    assert not {"slots", "input_threshold", "error_threshold"} & {*update.idle()}  # every rule is shown
    assert "slots" in experiment.get("synapse/train").config().idle()


def test_two_declarations_of_one_name_are_refused():
    walk = experiment.get("toy/walk")

    def generate(config: toy.ToyConfig, run):
        yield {}

    with pytest.raises(ValueError, match="'toy/walk' is declared in toy and in"):
        experiment.experiment("toy/walk", version=1, figure=toy.draw)(generate)
    assert experiment.get("toy/walk") is walk


def test_a_knob_that_the_experiment_sweeps_is_refused():
    config = experiment.get("quantization/bits-groups").config
    assert "bits" not in config.knobs()
    with pytest.raises(KnobError, match="the experiment itself sets bits to several values; do not set it"):
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
    plain = plain_record({"a": np.float32(1.5), "b": torch.ones(2), "c": np.arange(2), "d": "text", "e": None})
    assert plain == {"a": 1.5, "b": [1.0, 1.0], "c": [0, 1], "d": "text", "e": None}
    with pytest.raises(ValueError, match="expected at most 65536"):
        plain_record({"large": np.zeros(40_000)})
    with pytest.raises(ValueError, match="holds a value of type set"):
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
