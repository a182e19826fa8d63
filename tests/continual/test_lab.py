"""What can be looked at live, and the comparisons: against plain runs of the same thing, at every stage, and on bad input."""

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from drawing import runs_and_draws
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import papers, runs
from workbench.continual import fit, streams
from workbench.continual.budget import left, movable
from workbench.continual.config import ContinualConfig
from workbench.continual.lab import paper_pair
from workbench.continual.lab.fork import FORKED, Branches
from workbench.continual.lab.inside import at_once, gradients, walk
from workbench.continual.lab.looking import histogram, moments
from workbench.continual.lab.study_figures import equal_learning, frontier
from workbench.continual.learner import Learner, loss_on, plasticity
from workbench.continual.nets import flat
from workbench.continual.rule import Rule
from workbench.exercises import exercises
from workbench.experiment import discover, get
from workbench.knobs import KnobError
from workbench.training import TrainingError

NAMES = [n for n in discover() if n.startswith("continual/")]
QUICK = {"samples": 100, "hidden": (12,), "seeds": 1, "tasks": 2, "streams": ("split-fashion",)}
SMALL = {"hidden": (12,), "watch": 3, "batch": 10}


@pytest.fixture(scope="module")
def small():
    return streams.load("split-digits-8x8", samples=60)


def quick(experiment, **more):
    fields, swept = experiment.config.model_fields, experiment.config.swept
    known = {k: v for k, v in QUICK.items() if k in fields and k not in swept}
    if "tasks" in known and known.get("streams"):
        known.pop("tasks")
    if experiment.name == "continual/retention":
        known["streams"] = ("mnist-fashion",)
    if experiment.name == "continual/sentiment":
        known |= {"streams": ("vader",), "budget": 1}
    return experiment.config.at("smoke", **{**known, **more})


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_runs_draws_and_tells_at_every_stage(name):
    experiment = get(name)
    config = quick(experiment)
    runs_and_draws(experiment, config)
    records = runs.preview(experiment, config) if experiment.instant else list(runs.stream(experiment, config))
    for part in (records[:1], records):
        assert experiment.tell(part, config).endswith(".")
    if experiment.pins:
        assert "pinned" in experiment.tell(records, config, [("other", records)])


# -- the fork -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FORKED)
def test_a_branch_is_what_a_run_of_its_own_would_be(method):
    """Task 1 is learnt once; a branch ends with the weights of a run that learnt it by itself (replay's sees no buffer in it)."""
    fork = get("continual/fork")
    config = quick(fork, branches=(f"{method}@0.02",), strength=0.5, samples=120)
    branches = Branches(config)
    for looked in branches.go():
        learner = looked[f"{method}@0.02"]
    made = {k: v for k, v in config.model_dump().items() if k in ContinualConfig.model_fields}
    own = ContinualConfig(**{**made, "method": method, "lr": 0.02}).learner(0)
    for _ in own.run():
        pass
    if method in ("replay", "adam", "upgd"):  # which would not have taken plain steps on task 1
        assert learner.training.done == own.training.done
        assert not torch.equal(flat(learner.model), flat(own.model))
    else:
        torch.testing.assert_close(flat(learner.model), flat(own.model), rtol=1e-5, atol=1e-6)


def test_a_branch_that_flies_off_leaves_the_others_alone():
    fork = get("continual/fork")
    config = quick(fork, branches=("l2@0.5", "sgd@0.01"), strength=100.0)
    records = runs.preview(fork, config)
    ends = {r["branch"]: r for r in records}
    assert "SGD diverges" in ends["l2@0.5"]["failed"]
    assert ends["sgd@0.01"]["failed"] is None
    assert ends["sgd@0.01"]["step"] == ends["sgd@0.01"]["of"]
    assert "L2 to anchor at 0.5 failed (" in fork.tell(records, config)


@pytest.mark.parametrize(
    ("branches", "said"),
    [
        (("sgd",), "'sgd' is not METHOD@RATE"),
        (("joint@0.1",), "expected one of the methods sgd"),
        (("sgd@-1",), "and a positive learning rate"),
        (("sgd@0.1", "sgd@0.1"), "one to six different branches"),
        ((), "expected one to six"),
    ],
)
def test_branches_that_cannot_be_read_are_refused(branches, said):
    with pytest.raises(KnobError, match=said):
        get("continual/fork").config(branches=branches)


# -- history, threshold, one weight ------------------------------------------------------------------------------------------


def test_moments_are_those_of_a_plain_run():
    config = ContinualConfig(samples=100, tasks=2, hidden=(12,), lr=0.01, stream="split-fashion")
    with pytest.raises(KnobError):
        get("continual/history").config(tasks=2, stream="split-fashion", moment=4)
    found, rule, names = moments(config.model_dump_json())
    assert [m.name for m in found] == ["training begins", "task 1 ends", "task 2 begins", "task 2 ends"]
    assert [m.tasks for m in found] == [0, 1, 1, 2]
    assert rule.decay
    assert len(names) == 2
    learner = config.learner(0)
    for _ in learner.run():
        pass
    total = learner.optimizer.state[next(iter(learner.model.parameters()))]["sum"]
    assert torch.equal(found[-1].layers[0].total, total)
    assert torch.equal(found[-1].layers[0].weight, next(iter(learner.model.parameters())))


def test_sentences_have_a_history_without_pictures():
    history = get("continual/history")
    config = history.config(stream="vader", samples=64, hidden=(8,), moment=2)
    (record,) = runs.preview(history, config)
    assert "free" not in record
    assert history.figure([record])
    assert "so they are not slowed down" in history.tell([record], config)


def test_a_histogram_holds_every_positive_value():
    values = torch.tensor([0.0, 1e-20, 1e-3, 1e-3, 1e5])
    shares = histogram(values, (-9.0, 3.0))
    assert sum(shares) == pytest.approx(4 / 5)
    assert shares[0] == shares[-1] == pytest.approx(1 / 5)


def test_only_methods_with_sums_have_a_history():
    with pytest.raises(KnobError, match="sums of gradients, which this method lacks; expected classp or adagrad"):
        get("continual/history").config(method="sgd")


@given(
    st.lists(st.floats(-10, 10).filter(lambda g: g == 0 or abs(g) > 1e-6), min_size=1, max_size=60),
    st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.0]), st.floats(1e-8, 1.0), st.sampled_from([0.0, 1e-3, 1.0]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_no_weight_goes_further_than_its_bound(series, power, eps, threshold):
    rule = Rule(0.1, power, threshold, eps, True, "paper", "inclusive", math.inf)
    walked = walk(torch.tensor(series, dtype=torch.float64), rule)
    zero = torch.zeros((), dtype=torch.float64)
    bound = movable(zero, torch.tensor(walked["sum"][-1], dtype=torch.float64), rule, len(series))
    assert walked["way"][-1] <= bound * (1 + 1e-9) + 1e-15
    for k in range(len(series)):  # from any moment on, too
        total = torch.tensor(walked["sum"][k], dtype=torch.float64)
        mass = walked["sum"][-1] - total + len(series) * math.ulp(walked["sum"][-1])  # sums are rounded
        rest = movable(total, mass, rule, len(series) - k)
        assert walked["way"][-1] - walked["way"][k] <= rest * (1 + 1e-9) + 1e-15


@pytest.mark.parametrize("mode", ["paper", "repo"])
@pytest.mark.parametrize(
    ("power", "threshold", "decay", "order"),
    [
        (1.0, 0.0, True, "inclusive"),
        (2.0, 1e-4, True, "exclusive"),
        (0.5, 0.5, True, "inclusive"),
        (1.0, 1e-4, False, "inclusive"),
    ],
)
def test_all_steps_at_once_are_the_steps_one_by_one(power, threshold, decay, order, mode):
    rule = Rule(0.1, power, threshold, 1e-5, decay, mode, order, 0.7)
    series = gradients("never, then often", 200, 0.02, 3)
    one, other = walk(series, rule), at_once(series, rule)
    for name in one:
        assert other[name] == pytest.approx(one[name], rel=1e-12, abs=1e-15)


def test_plasticity_left_is_a_share_that_only_falls():
    rule = Rule(0.1, 1.0, 0.0, 1e-5, True, "paper", "inclusive", math.inf)
    totals = torch.tensor([0.0, 1e-6, 1e-3, 1.0, 1e3])
    share = left(totals, torch.full_like(totals, 0.1), rule)
    assert share[0] == 1
    assert (share.diff() < 0).all()
    assert (share >= 0).all()
    assert left(totals, torch.zeros_like(totals), rule).tolist() == [1.0] * 5
    assert movable(torch.tensor(5.0), torch.tensor(5.0), rule).item() == pytest.approx(0.1 * math.log(2), rel=1e-5)


def test_gradients_are_what_they_are_called():
    assert gradients("constant", 4, 0.5, 0).tolist() == [0.5] * 4
    assert gradients("never, then often", 10, 0.5, 0)[:5].tolist() == [0.0] * 5
    up, down = gradients("two tasks", 2000, 1.0, 0).chunk(2)
    assert up.mean() < -0.9
    assert down.mean() > 0.9


def test_exercises_have_answers_and_the_wrong_line_is_found():
    found = exercises("continual")
    assert found[0].right("0.01")
    assert found[1].right("0.000953")
    assert found[2].right("b")
    assert not found[2].right("a")


# -- what a learner says and does besides ----------------------------------------------------------------------------------------


def test_gradual_borders_mix_the_neighbours_in_near_them_alone(small):
    learner = Learner(small, "sgd", lr=0.05, blend=0.5, **SMALL)
    first, second = small.tasks[:2]
    rows, seen = torch.arange(50), {}
    for place in (0.0, 0.5, 0.8, 0.99):
        x, _ = learner._batch(first, rows, 0, place)
        seen[place] = (x != first.x_train[rows]).any(1).double().mean().item()
        assert all(any(torch.equal(r, s) for s in (*first.x_train, *second.x_train)) for r in x)
    assert seen[0.0] == seen[0.5] == 0, "there is none before the first task, and none far from a border"
    assert 0 < seen[0.8] < seen[0.99] < 0.75
    with pytest.raises(ValueError, match=r"blend=0\.5: expected a number from 0 to 1; in the scenario 'task', expected 0"):
        Learner(streams.load("split-digits-8x8", "task", samples=60), "sgd", blend=0.5, **SMALL)
    cut, whole = (Learner(small, "classp", lr=0.01, blend=0.5, **SMALL), Learner(small, "classp", lr=0.01, blend=0.5, **SMALL))
    for _, step, _ in cut.run():
        if step == 14:
            buffer = io.BytesIO()
            torch.save(cut.state_dict(), buffer)
            break
    again = Learner(small, "classp", lr=0.01, blend=0.5, **SMALL)
    again.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    for one in (again, whole):
        for _ in one.run():
            pass
    assert torch.equal(flat(again.model), flat(whole.model))


def test_what_freezes_is_told_within_ten_steps(small):
    for more in ({"threshold": 0.5}, {"threshold": 1.0, "mode": "repo"}):
        with pytest.raises(TrainingError, match=r"no weight has changed in 10 steps, .*a value from 1e-8 to 1e-5, or to 0"):
            fit(small, "classp", lr=0.01, passes=3, **more, **SMALL)
    with pytest.raises(TrainingError, match="expected a learning rate above 0"):
        fit(small, "sgd", lr=0.0, passes=3, **SMALL)


def test_what_flies_off_is_told_within_ten_steps(small):
    with pytest.raises(TrainingError, match=r"training diverges with lr=1000\. Reduce lr to a tenth"):
        fit(small, "sgd", lr=1000.0, passes=3, **SMALL)


def test_adagrad_with_a_schedule_is_classp_at_two(small):
    adagrad, classp = (
        fit(small, method, lr=0.01, first_lr=0.1, **more, **SMALL)
        for method, more in (("adagrad", {}), ("classp", {"power": 2.0}))
    )
    assert torch.equal(flat(adagrad.model), flat(classp.model))


def test_sgd_with_a_rate_of_its_own_on_task_1_is_sgd_with_its_rate_cut(small):
    two = streams.Stream("two", small.tasks[:2], 2)
    first = fit(two, "sgd", lr=0.01, first_lr=0.1, **SMALL)
    cut = fit(two, "sgd-cut", lr=0.1, cut=0.1, **SMALL)
    torch.testing.assert_close(flat(first.model), flat(cut.model))


def test_plasticity_is_nothing_for_one_task_and_grows_where_weights_freeze(small):
    one = streams.Stream("one", small.tasks[:1], 2)
    found = fit(one, "sgd", lr=0.1, **SMALL)
    assert plasticity(one, found, "sgd", lr=0.1, **SMALL) == 0.0
    frozen = fit(small, "classp", lr=1e-4, first_lr=0.1, **SMALL)
    assert plasticity(small, frozen, "sgd", lr=0.1, **SMALL) > 0.1


def test_summed_squares_are_half_the_squared_error_summed(small):
    learner = Learner(small, "sgd", lr=1e-3, loss="summed squares", **SMALL)
    x, y = small.tasks[0].x_train[:10], small.tasks[0].y_train[:10]
    with torch.no_grad():
        by_hand = sum(
            0.5 * ((z - (torch.arange(2) == label).float()) ** 2).sum() for z, label in zip(learner.model(x), y, strict=True)
        )
    assert loss_on(learner.model(x), y, "summed squares").item() == pytest.approx(by_hand.item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"loss='huber': expected one of"):
        Learner(small, "sgd", loss="huber")


# -- comparisons and claims ----------------------------------------------------------------------------------------------------


def test_a_frontier_leaves_out_what_another_point_beats():
    table = pd_frame([(10, 90), (20, 80), (15, 70), (20, 60), (30, 50)])
    assert frontier(table).to_numpy().tolist() == [[10, 90], [20, 80], [30, 50]]


def pd_frame(points):
    return pd.DataFrame(points, columns=["new", "old"], dtype=float)


def retained(above, seeds=5):
    """Judging records of two methods whose curves lie `above` points apart at any learning."""
    return [
        {"label": label, "stream": "mnist-fashion", "rate": rate, "seed": seed, "phase": "judge", "new": new,
         "old": 0.9 - new / 2 + gap + 0.001 * (seed % 3) * (label == "classp")}
        for label, gap in (("sgd-cut", 0.0), ("classp", above / 100))
        for rate, new in ((0.01, 0.2), (0.03, 0.5), (0.1, 0.8))
        for seed in range(seeds)
    ]  # fmt: skip


def test_equal_learning_is_the_distance_of_the_curves():
    found = equal_learning(retained(4.0), "classp", "sgd-cut", "mnist-fashion")
    assert found.tolist() == pytest.approx([4.0, 4.1, 4.2, 4.0, 4.1])
    for gap, said in ((4.0, "holds"), (-4.0, "fails"), (-0.1, "open")):
        assert check_of("retention")(retained(gap)).verdict == said


def check_of(name):
    return next(claim for claim in papers.claims("continual") if claim.id == name).check


def judged(points, seeds=5, **more):
    return [
        {
            **point,
            "phase": "judge",
            "seed": seed,
            "ACC": mean + 0.002 * (seed % 3 - 1),
            "tried": 1,
            "edge": "",
            "setting": "",
            **more,
        }
        for point, mean in points
        for seed in range(seeds)
    ]


def test_claims_hold_fail_and_stay_open():
    def rivals(ours, seeds=5):
        names = ("ewc", "ewc-online", "sgd", "adam", "adagrad", "sgd-cut")
        points = [({"label": name, "stream": "mnist-fashion"}, 0.7) for name in names]
        return judged([({"label": "classp", "stream": "mnist-fashion"}, ours), *points], seeds)

    for name in ("ewc", "sgd", "adam", "adagrad", "cut"):
        assert check_of(name)(rivals(0.8)).verdict == "holds"
        assert check_of(name)(rivals(0.6)).verdict == "fails"
        assert check_of(name)(rivals(0.8, seeds=1)).verdict == "open"
    parts = lambda gain: judged(  # noqa: E731
        [({"label": "classp", "stream": "split-fashion", "part": "CLASSP, p = 1"}, 0.8)]
        + [({"label": "classp", "stream": "split-fashion", "part": p}, 0.8 + gain) for p in PARTS]
    )
    assert check_of("threshold")(parts(0.05)).verdict == "holds"
    assert check_of("threshold")(parts(-0.05)).verdict == "fails"
    assert check_of("decay")(parts(-0.05)).verdict == "holds"
    assert check_of("state")(parts(0.05)).verdict == "fails"


PARTS = ("threshold 1e-8", "threshold 1e-7", "threshold 1e-6", "threshold 1e-5", "decay off", "sum reset at borders")


def test_claims_on_memory_are_counts():
    rows = judged([({"label": n, "stream": "split-fashion"}, 0.8) for n in ("classp", "ewc", "ewc-online")])
    for r in rows:
        r["state_bytes"] = {"classp": 355_000, "ewc": 3_550_000, "ewc-online": 710_000}[r["label"]]
    assert check_of("memory-ewc")(rows).verdict == "holds"
    assert check_of("memory-buffer")(rows).verdict == "fails", "200 pictures as bytes are 153 KiB"


def test_a_run_that_was_cut_goes_on_to_the_same_records(tmp_path, monkeypatch):
    experiment = get("continual/train")
    config = quick(experiment, tasks=5)
    monkeypatch.setattr("workbench.training.SAVE_EVERY", 0.0)
    stream = runs.stream(experiment, config, tmp_path / "cut")
    for _ in range(4):
        next(stream)
    stream.close()
    cut, whole = (list(runs.stream(experiment, config, tmp_path / root)) for root in ("cut", "one"))
    assert cut == whole
    assert np.isfinite(whole[-1]["mean"])


# -- the paper's pair ---------------------------------------------------------------------------------------------------------

TINY = {"stream": "mnist-fashion", "network": "paper", "samples": 64, "first_passes": 2, "tested": 50, "looks": 2}


@pytest.mark.parametrize(
    "knobs",
    [
        {"method": "classp", "first_lr": 0.1},
        {"method": "ewc-online", "first_lr": 0.0, "lr": 0.05, "strength": 100.0, "scripted": True},
    ],
)
def test_a_fit_of_the_pair_that_is_killed_goes_on_to_the_same_numbers(knobs, tmp_path, monkeypatch):
    config = paper_pair.PaperConfig(**TINY, **knobs)
    pair = paper_pair.on_pair.experiment
    (whole,) = runs.stream(pair, config, tmp_path / "whole")
    monkeypatch.setattr("workbench.training.SAVE_EVERY", 0.0)
    go = Learner.run

    def killed(self):
        for count, step in enumerate(go(self)):
            yield step
            if count == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        list(runs.stream(pair, config, tmp_path / "cut"))
    monkeypatch.setattr(Learner, "run", go)
    (cut,) = runs.stream(pair, config, tmp_path / "cut")
    assert cut == whole
    assert whole["counts"] == [64, 64]
    assert len(whole["published"]) == 2


def test_ewc_as_scripted_pulls_towards_another_network_from_the_second_pass_on(monkeypatch):
    config = paper_pair.PaperConfig(**TINY, method="ewc-online", lr=0.05, strength=10.0, scripted=True)
    learner, stream = config.learner(0), config.loaded()
    rival = paper_pair.scripted(learner, stream, config)
    assert rival.after == 2, "64 samples in batches of 32"
    (term,) = rival.terms
    name, p = next(iter(learner.model.named_parameters()))
    fisher, anchor = term[name]
    assert not torch.equal(anchor, p), "it is another network's"
    for count in range(1, 5):
        for q in learner.model.parameters():
            q.grad = torch.zeros_like(q)
        rival.before_step()
        pulled = count > rival.after
        torch.testing.assert_close(p.grad, 10.0 * fisher * (p.detach() - anchor) * pulled)
    rival.end_task(stream.tasks[0].x_train, stream.tasks[0].y_train)
    assert len(rival.terms) == 1


def test_the_pair_takes_the_settings_that_were_chosen(monkeypatch):
    monkeypatch.setattr(papers, "reference_records", lambda name: None)
    with pytest.raises(KnobError, match="no settings have been chosen yet; run: workbench run continual/paper-choice"):
        paper_pair.chosen_settings()
    rows = [
        {"label": label, "phase": phase, **setting}
        for label, (_, settings) in paper_pair.CHOICE.items()
        for phase, setting in (("choose", settings[0]), ("judge", settings[1]))
    ]
    monkeypatch.setattr(papers, "reference_records", lambda name: rows)
    assert paper_pair.chosen_settings() == {n: settings[1] for n, (_, settings) in paper_pair.CHOICE.items()}
