"""Verdicts are computed; the command line, papermill and the panel give the same run id for the same knobs."""

import math
import re

import pytest
from typer.testing import CliRunner

from workbench import papers, runs
from workbench.__main__ import app
from workbench.experiment import get
from workbench.intervals import Interval, exactly
from workbench.knobs import KnobError
from workbench.verdicts import Finding, undecidable, verdict

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
    assert ledger["measured"]["rescomp"] == "not run yet; run: workbench run quantization/terms --scale smoke"
    assert set(ledger["verdict"][:-2]) == {"open"}
    paper = papers.ledger("quantization", "paper")
    assert "7 billion" in paper["measured"]["rescomp"]
    assert set(paper["verdict"]) == {"undecidable here"}


def rows(values, spread=0.01, **more):
    """Judging rows, five seeds each, of held-out errors by place."""
    return [
        {**place, "phase": "judge", "seed": s, "held_out": e * (1 + spread * s * (s % 2)), "error": e, "drift": e, **more}
        for place, e in values
        for s in range(5)
    ]


def test_every_claim_can_come_out_both_ways():
    """Verdicts follow the records: better and worse made-up records turn each checked claim."""
    claims = {c.id: c for c in papers.claims("quantization")}

    def terms(r1, r2, layers=8):
        errors = {"gptq": 1.0, "gptq + r1": r1, "gptq + r2": r2, "gptq + r1 + r2": r1 * r2}
        errors |= {"r1 + X part of r2": r1 * r2, "r1 + dX part of r2": r1 * r2 * 1.5}
        return rows(
            [
                ({"label": n, "layer": f"layer {k}", "bits": 2}, e * (1 + 0.001 * k * (n != "gptq")))
                for n, e in errors.items()
                for k in range(layers)
            ]
        )

    for name in ("gptaq", "rescomp", "regulariser"):
        assert claims[name].check(terms(0.9, 0.9)).verdict == "holds", name
        assert claims[name].check(terms(1.1, 1.1)).verdict == "fails", name
        assert claims[name].check(terms(0.9, 0.9, layers=1)).verdict == "open", "forty rows on one layer are one unit"
    for full, wanted in ((0.5, "holds"), (2.0, "fails")):
        records = rows([({"alpha": a, "beta": b}, full if a and b else 1.0) for a in (0.0, 1.0) for b in (0.0, 1.0)])
        assert claims["no-strength"].check(records).verdict == wanted
    for changed, wanted in ((0.0, "holds"), (0.3, "fails")):
        records = [{"compat": c, "codes_changed": changed if c == "published" else 0.0} for c in ("clean", "published")]
        assert claims["block-size"].check(records).verdict == wanted
    for exact, wanted in ((0.5, "holds"), (2.0, "fails")):
        names = ("gptq", "gptq+rescomp", "gptaq", "gptaq+rescomp", "exact")
        records = rows(
            [
                ({"bits": 2, "groups": "64", "label": m}, e)
                for m, e in zip(names, (1.0, exact, 1.0, exact, exact / 2), strict=True)
            ]
        )
        assert claims["exact"].check(records).verdict == wanted
        assert claims["rescomp-bits"].check(records).verdict == wanted


def span(low, high, mean=None):
    return Interval((low + high) / 2 if mean is None else mean, low, high, 5)


@pytest.mark.parametrize(
    ("found", "low", "high", "state"),
    [
        (span(1, 2), 0, math.inf, "holds"),
        (span(-1, 2), 0, math.inf, "open"),
        (span(-2, -1), 0, math.inf, "fails"),
        (span(-2, 0), 0, math.inf, "fails"),
        (span(-1, 0.5), -math.inf, 1, "holds"),  # no advantage: below the margin
        (span(-1, 1.5), -math.inf, 1, "open"),
        (span(-1, 1), -2, 2, "holds"),
        (span(3, 4), -2, 2, "fails"),
        (exactly(0), -0.5, 0.5, "holds"),
        (exactly(3), -0.5, 0.5, "fails"),
        (exactly(0), 0, math.inf, "fails"),
        (Interval(1, math.nan, math.nan, 1), 0, math.inf, "open"),
    ],
)
def test_a_finding_is_an_interval_and_a_span(found, low, high, state):
    assert Finding("", found, low, high).state == state


def test_a_finding_from_few_units_says_so():
    said = [str(Finding("gap", Interval(2, 1, 3, n), 0)) for n in (3, 5)]
    assert said == ["gap 2.0 (1.0 to 3.0), from only 3 units", "gap 2.0 (1.0 to 3.0)"]


def test_findings_are_joined_by_all_of_and_any_of():
    good, bad, open_ = (Finding(n, span(*ends), 0) for n, ends in (("g", (1, 2)), ("b", (-2, -1)), ("o", (-1, 1))))
    assert verdict(good, good).verdict == "holds"
    assert verdict(good, open_).verdict == "open"
    assert verdict(good, open_, bad).verdict == "fails"
    assert verdict(bad, open_, any_of=True).verdict == "open"
    assert verdict(bad, open_, good, any_of=True).verdict == "holds"
    assert verdict(bad, bad, any_of=True).verdict == "fails"
    assert verdict(verdict(good, bad), verdict(good), any_of=True).verdict == "holds"
    assert verdict().verdict == "undecidable here"


def test_at_smoke_nothing_is_decided_and_each_row_says_its_scale():
    for experiment in ("quantization/strengths", "quantization/bits-groups", "quantization/block-size"):
        runs.run(experiment, "smoke")
    ledger = papers.ledger("quantization", "smoke")
    assert set(ledger["verdict"]) == {"open", "undecidable here"}
    assert ledger["verdict"]["block-size"] == "open"
    assert "at scale smoke, no claim is decided" in ledger["measured"]["block-size"]
    assert set(ledger["scale"]) == {"smoke", "-"}
    assert set(papers.ledger("quantization", "reference")["scale"]) == {"laptop (reference)", "-"}


def test_a_claim_on_records_of_another_version_is_open(monkeypatch):
    monkeypatch.setattr(papers, "reference_about", lambda name: {"version": 0, "config": {}})
    row = papers.ledger("quantization", "reference").loc["rescomp"]
    assert row["verdict"] == "open"
    assert "are of version 0 of quantization/terms, but the current version is 2; run: workbench figures" in row["measured"]


def test_claims_of_what_is_not_there():
    with pytest.raises(KnobError, match="no method 'knitting'"):
        papers.claims("knitting")
    with pytest.raises(ValueError, match="claim 'a' of toy is declared twice"):
        papers.declare("toy", *[papers.Claim("a", "", "", "", "", undecidable(""))] * 2)


def test_a_lab_without_claims_has_an_empty_ledger(monkeypatch):
    assert papers.claims("synapse")  # now its lab is loaded
    monkeypatch.setitem(papers.CLAIMS, "synapse", [])
    table = papers.ledger("synapse")
    assert list(table.columns)[:2] == ["claim", "verdict"]
    assert papers.lines(table) == ["no claims are declared"]


def test_the_styled_ledger_escapes_what_it_shows():
    table = papers.ledger("quantization", "reference")
    table.loc["rescomp", "claim"] = "<script>alert(1)</script>"
    markup = papers.styled(table).to_html()
    assert "<script>" not in markup
    assert "text-align: left" in markup


def test_records_are_held_against_the_reference():
    experiment = get("synapse/batches")
    config, reference = experiment.config.at("laptop"), papers.reference_records("synapse/batches")
    assert papers.against_reference(experiment, config, reference) == "equal to the reference"
    moved = [{**r, "accuracy": r["accuracy"] * 1.001} for r in reference]
    assert papers.against_reference(experiment, config, moved) == "within 0.1 % of the reference (largest difference: accuracy)"
    other = [{**r, "setting": "rate=9"} for r in reference]
    assert "different from the reference" in papers.against_reference(experiment, config, other)
    assert "other values of the knobs" in papers.against_reference(experiment, experiment.config.at("smoke"), reference)


def test_describe_prints_knobs_presets_and_times():
    said = workbench("describe", "quantization/layer-trace").stdout
    assert re.search(r"\* bits +bits per weight +one of 2, 3, .*; default 3", said)
    assert "only GPTAQ corrects r1, and r1 is 0 unless" in said
    assert "from 0 to 29" in said
    assert re.search(r"-- smoke: method='gptq', block=1, .*; time unknown", said)
    assert re.search(r"-- laptop: .* of computation on .*cores", workbench("describe", "synapse/schemes").stdout)
    assert "workbench describe EXPERIMENT" in workbench("run", "--help").stdout


def test_a_knob_that_changes_nothing_is_warned_of():
    said = workbench("run", "quantization/layer-trace", *SMALL, "--set", "method=gptq", "--set", "alpha=0.5")
    assert said.exit_code == 0
    assert "alpha=0.5 has no effect here: only GPTAQ corrects r1" in said.stderr


def test_reference_records_are_there_for_every_figure():
    for experiment in ("terms", "methods", "bits-groups", "strengths", "tokens-damping", "block-size"):
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
        (["run", "quantization/layer-trace", "--scale", "paper"], "7 billion parameters"),
        (["run", "quantization/layer-trace", "--set", "model=no-such/model"], "Check the name and the connection"),
        (["run", "quantization/layer-trace", *SMALL, "--set", "block=9"], "expected a whole number from 0 to 3"),
        (["run", "quantization/layer-trace", *SMALL, "--set", "part=head"], "expected a linear layer of tiny-llama"),
        (["run", "quantization/layer-trace", *SMALL, "--set", "row=500"], "row=500: expected a whole number from 0 to 127"),
        (["sweep", "quantization/layer-trace", "--axis", "bits"], "expected knob=value,value"),
        (["figures", "knitting"], "expected one of adapters, continual"),
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


def test_nothing_is_deleted_by_a_command_that_is_refused(runs_folder):
    import toy

    config = toy.ToyConfig(steps=2)
    list(runs.stream(get("toy/walk"), config))
    name = runs.run_id(get("toy/walk"), config)
    said = workbench("runs", "--delete", name, "--only", "steps=2")
    assert said.exit_code != 0
    assert "--only without EXPERIMENT" in said.output
    assert runs.find(get("toy/walk"), config)
