"""Verdicts are computed; the command line, papermill and the panel give the same run id for the same knobs."""

import re

import pytest
from typer.testing import CliRunner

from workbench import papers, runs
from workbench.__main__ import app
from workbench.experiment import get

SMALL = ["--set", "model=tiny-llama", "--set", "block=0", "--set", "part=q_proj", "--set", "tokens=256"]


def workbench(*words):
    return CliRunner().invoke(app, list(words))


def test_reported_values_have_a_source():
    table = papers.reported("quantization")
    assert len(table) > 30
    assert list(table.columns) == ["table", "model", "setting", "method", "metric", "value", "obtained"]
    assert (table["obtained"].str.len() > 0).all()


def test_the_ledger_says_what_was_not_run():
    ledger = papers.ledger("quantization", "smoke")
    assert ledger["measured"]["rescomp"] == "not run yet: workbench run quantization/terms --scale smoke"
    assert set(ledger["verdict"]) == {"undecidable here"}
    paper = papers.ledger("quantization", "paper")
    assert "7B" in paper["measured"]["rescomp"]


def test_every_claim_can_come_out_both_ways():
    """Verdicts follow the records: better and worse made-up records turn each checked claim."""
    claims = {c.id: c for c in papers.claims("quantization")}

    def terms(r1, r2):
        errors = {"gptq": 1.0, "gptq + r1": r1, "gptq + r2": r2, "gptq + r1 + r2": r1 * r2}
        drift = {
            "gptq": 1.0,
            "gptq + r1": 1.0,
            "gptq + r1 + r2": r2,
            "r1 + X part of r2": r2,
            "r1 + dX part of r2": 1.0,
        }
        names = errors | drift
        return [
            {
                "layer": "a",
                "bits": 2,
                "seed": s,
                "terms": n,
                "held_out": errors.get(n, 1.0),
                "drift": drift.get(n, 1.0),
            }
            for n in names
            for s in range(5)
        ]

    for name in ("gptaq", "rescomp", "regulariser"):
        assert claims[name].check(terms(0.9, 0.9)).verdict == "holds", name
        assert claims[name].check(terms(1.1, 1.1)).verdict == "fails", name
    for full, verdict in ((0.5, "holds"), (2.0, "fails")):
        records = [
            {"alpha": a, "beta": b, "held_out": full if a and b else 1.0}
            for a in (0.0, 1.0)
            for b in (0.0, 1.0)
        ]
        assert claims["no-strength"].check(records).verdict == verdict
    for changed, verdict in ((0.0, "holds"), (0.3, "fails")):
        records = [
            {"compat": c, "codes_changed": changed if c == "reference" else 0.0}
            for c in ("clean", "reference")
        ]
        assert claims["block-size"].check(records).verdict == verdict
    for exact, verdict in ((0.5, "holds"), (2.0, "fails")):
        names = ("gptq", "gptq+rescomp", "gptaq", "gptaq+rescomp", "exact")
        records = [
            {"bits": 2, "groups": "64", "seed": s, "layer": "a", "method": m, "error": e, "held_out": e}
            for m, e in zip(names, (1.0, exact, 1.0, exact, exact / 2), strict=True)
            for s in range(3)
        ]
        assert claims["exact"].check(records).verdict == verdict
        assert claims["rescomp-bits"].check(records).verdict == verdict


def test_reference_records_are_there_for_every_figure():
    for experiment in ("terms", "bits-groups", "strengths", "tokens-damping", "block-size"):
        records = papers.reference_records(f"quantization/{experiment}")
        assert records, experiment
        get(f"quantization/{experiment}").figure(records)


def test_list_names_everything():
    out = workbench("list").stdout
    assert all(name in out for name in ("quantization/layer-trace", "wikitext2-test", "smollm2-135m"))


def test_run_prints_the_id_of_the_same_knobs():
    said = workbench("run", "quantization/layer-trace", *SMALL, "--set", "bits=4")
    assert said.exit_code == 0, said.output
    trace = get("quantization/layer-trace")
    config = trace.config(model="tiny-llama", block=0, part="q_proj", tokens=256, bits=4)
    assert runs.run_id(trace, config) in said.stdout
    assert runs.find(trace, config)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "quantization/layer-trce"], "did you mean 'quantization/layer-trace'"),
        (["run", "quantization/layer-trace", "--set", "bitz=3"], "did you mean 'bits'"),
        (["run", "quantization/layer-trace", "--set", "damping=7"], "expected a number from 0 to 1"),
        (["run", "quantization/layer-trace", "--set", "bits"], "expected knob=value"),
        (["run", "quantization/layer-trace", "--scale", "paper"], "7B parameters"),
        (
            ["run", "quantization/layer-trace", "--set", "model=no-such/model"],
            "check the spelling and the connection",
        ),
        (["run", "quantization/layer-trace", *SMALL, "--set", "block=9"], "expected 0 to 3"),
        (
            ["run", "quantization/layer-trace", *SMALL, "--set", "part=head"],
            "expected a linear layer of tiny-llama",
        ),
        (["run", "quantization/layer-trace", *SMALL, "--set", "row=500"], "row=500: expected 0 to 127"),
        (["sweep", "quantization/layer-trace", "--axis", "bits"], "expected knob=value,value"),
        (["figures", "knitting"], "methods: quantization"),
        (["fetch", "no-such-thing!"], "expected smollm2-135m"),
        (["notebook", "notebooks/00-start.ipynb", "--set", "scal=smoke"], "did you mean 'scale'"),
        (["notebook", "notebooks/nowhere.ipynb"], "no notebook"),
    ],
)
def test_bad_input_is_one_clear_line(words, said):
    result = workbench(*words)
    assert result.exit_code == 2, result.output
    *before, last = result.stderr.strip().splitlines()
    assert last.startswith("workbench: ")
    assert said in last
    assert not [line for line in before if "it/s" not in line], "more than a progress bar and the line"


def test_the_grid_that_the_model_lies_on_is_refused():
    words = ["--set", "bits=4", "--set", "symmetric=false", "--set", "group_size=32"]
    refused = workbench("run", "quantization/layer-trace", *words)
    assert refused.exit_code == 2
    assert "4-bit file" in refused.stderr
    trace = get("quantization/layer-trace")
    trace.config(bits=4, symmetric=False, group_size=64)
    trace.config(bits=3, symmetric=False, group_size=32)
    trace.config(model="tiny-llama", bits=4, symmetric=False, group_size=32)


def test_sweep_prints_a_table_and_writes_all_records(tmp_path):
    out = tmp_path / "all.csv"
    words = ["--axis", "bits=3,4", "--axis", "method=rtn,gptq", "--out", str(out)]
    said = workbench("sweep", "quantization/layer-trace", *SMALL, *words)
    assert said.exit_code == 0, said.output
    assert len(re.findall(r"^ +\d +\w+ ", said.stdout, re.M)) == 4
    assert out.read_text().count("\n") > 4
