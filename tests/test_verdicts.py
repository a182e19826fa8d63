"""Verdicts: p-values, Holm's correction, refused candidates; questions are asked at the settings that the reference chose."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from workbench import papers
from workbench.intervals import interval, level, refused
from workbench.measures import refusals
from workbench.verdicts import Finding, Verdict, holm, verdict

# -- questions run at the settings that the reference chose ------------------------------------------------------------------


def chosen(name, **where):
    """The setting of the reference's judging fits at these places."""
    rows = [r for r in papers.reference_records(name) if r["phase"] == "judge" and all(r[k] == v for k, v in where.items())]
    assert len({r["setting"] for r in rows}) == 1
    return rows[0]


@pytest.mark.parametrize("method", ["classp", "sgd", "sgd-cut", "replay"])
def test_continual_asks_at_the_chosen_settings(method):
    from workbench.continual.lab.questions import CHOSEN, FOUR

    row = chosen("continual/rivals", label=method, stream="split-fashion")
    assert {name: row[name] for name in CHOSEN[method]} == CHOSEN[method]
    rates = {name.partition("@")[0]: float(name.partition("@")[2]) for name in FOUR if name != "sgd@0.009"}
    if method in rates:
        assert chosen("continual/rivals", label=method, stream="mnist-fashion")["lr"] == rates[method]
    cut = chosen("continual/rivals", label="sgd-cut", stream="mnist-fashion")
    assert cut["lr"] * cut["cut"] == pytest.approx(0.009)  # sgd@0.009 after the boundary


def test_continual_words_agree_with_the_reference():
    """Sentences of its questions and of 01-explore: the chosen power, and the tasks in which two methods differ most."""
    for stream in ("split-fashion", "mnist-fashion", "fashion-mnist"):
        assert chosen("continual/rivals", label="classp", stream=stream)["power"] == 1
    judging = [
        r for r in papers.reference_records("continual/rivals") if r["phase"] == "judge" and r["stream"] == "split-fashion"
    ]
    ends = {m: np.mean([r["matrix"][-1] for r in judging if r["label"] == m], 0) for m in ("classp", "sgd-cut", "replay")}
    assert np.argmax(ends["classp"] - ends["sgd-cut"]) == 4  # the control learns the last task less well
    assert np.argmax(ends["replay"] - ends["classp"]) == 1  # CLASSP forgets task 2


def test_adapters_ask_at_the_chosen_rates():
    from workbench.adapters.lab.questions import CHOSEN, RANKS

    for method, rate in CHOSEN.items():
        assert chosen("adapters/methods", label=method, rates="own")["lr"] == rate
    for rank, rate in RANKS.items():
        assert chosen("adapters/ranks", label="miss", rank=rank)["lr"] == rate


def test_synapse_asks_at_the_chosen_rates():
    from workbench.synapse.lab.questions import ABRUPT_PUSH_PULL, UNI

    assert chosen("synapse/schemes", label="push-pull", response="abrupt LTD")["rate"] == ABRUPT_PUSH_PULL
    for name, where in (
        ("synapse/schemes", {"response": "abrupt LTD"}), ("synapse/schemes", {"response": "linear"}),
        ("synapse/levels", {"levels": 256}), ("synapse/levels", {"levels": 8}),
    ):  # fmt: skip
        assert chosen(name, label="uni", **where)["rate"] == UNI


# -- Holm's correction -------------------------------------------------------------------------------------------------------


def test_holm_is_that_of_statsmodels_by_hand():
    """The four hypotheses of Holm's example: adjusted p-values are running maxima of (m - rank) p."""
    made = [Verdict("holds", "", p) for p in (0.01, 0.04, 0.03, 0.005)]
    assert holm(made) == ["holds", "open", "open", "holds"]  # adjusted: 0.03, 0.06, 0.06, 0.02
    assert holm([Verdict("fails", "", 0.05)]) == ["fails"]
    assert holm([Verdict("undecidable here", "")]) == ["-"]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_decides_what_is_open_at_the_level(levels):
    found = holm([Verdict("holds", "", p) for p in levels])
    adjusted = 0.0
    for rank, p in enumerate(sorted(levels)):
        adjusted = max(adjusted, p * (len(levels) - rank))
        if adjusted > 0.05:
            assert all(state == "open" for q, state in zip(levels, found, strict=True) if q > p)
    assert all(state == "open" for p, state in zip(levels, found, strict=True) if p > 0.05)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=8, unique=True), st.floats(-200, 200))
def test_the_level_of_an_interval_is_the_p_value_of_a_t_test(values, value):
    assume(np.std(values) > 1e-6)
    found = interval(pd.Series(values, pd.Index(range(len(values)), name="seed")))
    assert level(found, value) == pytest.approx(scipy.stats.ttest_1samp(values, value).pvalue, rel=1e-6, abs=1e-12)


def test_a_finding_is_decided_exactly_if_its_p_value_is_at_most_five_percent():
    for shift in np.linspace(-3, 3, 61):
        found = interval(pd.Series(shift + np.array([-1.0, 0.2, 0.5, 1.1, -0.4]), pd.Index(range(5), name="seed")))
        for low, high in ((0, math.inf), (-math.inf, 0), (-1.5, 1.5)):
            finding = Finding("", found, low, high)
            assert (finding.state == "open") == (finding.p > 0.05)


def test_a_verdict_by_one_of_several_findings_pays_for_the_choice():
    worse = interval(pd.Series([-1.0, -1.1, -0.9], pd.Index(range(3), name="seed")))
    better = interval(pd.Series([1.0, 1.1, 0.9], pd.Index(range(3), name="seed")))
    one, two = Finding("a", worse, low=0), Finding("b", better, low=0)
    assert verdict(one, two).p == pytest.approx(2 * one.p)  # fails, by either of two
    assert verdict(two, two).p == two.p  # holds only with both
    assert verdict(two, one, any_of=True).p == pytest.approx(2 * two.p)
    assert verdict(one, verdict(two)).findings == (one, two)


def test_a_candidate_that_failed_on_one_seed_is_named_if_it_was_better():
    def row(setting, seed, phase, score, failed=""):
        return {"label": "a", "rate": 1, "setting": setting, "phase": phase, "seed": seed, "validation": score, "failed": failed}

    rows = [row("rate=1", s, "choose", 0.8) for s in (50, 51)] + [row("rate=2", 50, "choose", 0.9)]
    rows += [row("rate=2", 51, "choose", None, "diverged"), row("rate=1", 0, "judge", 0.8)]
    assert refused(rows) == [("rate=2", 1, 2, 0.9, 0.8)]
    assert refused(rows, higher=False) == []
    assert refusals(rows) == (
        "a: rate=2 failed on 1 of the 2 seeds that choose the setting, so it could not be chosen; on the others it scored 90.0 % "
        "on validation data, and the chosen setting scored 80.0 %"
    )
    rows[2]["validation"] = 0.7
    assert refusals(rows) == ""
