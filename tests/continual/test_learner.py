"""Streams, and one model on them under every method: measured rightly, cut anywhere, and clear about what cannot be."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.continual import CLASSP, METHODS, fit, streams
from workbench.continual.learner import Learner
from workbench.continual.nets import PaperNet, flat, perceptron
from workbench.digits import load_digits
from workbench.training import Batches, TrainingError, mixed

SMALL = {"hidden": (12,), "watch": 3, "batch": 10}


@pytest.fixture(scope="module")
def small():
    return streams.load("split-digits-8x8", samples=60)


# -- streams ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", streams.SCENARIOS)
def test_a_split_has_each_class_once_and_says_its_answers(scenario):
    digits = load_digits("digits-8x8")
    stream = streams.load("split-digits-8x8", scenario)
    assert [t.name for t in stream.tasks] == ["0-1", "2-3", "4-5", "6-7", "8-9"]
    assert sum(len(t.x_train) for t in stream.tasks) == len(digits.x)
    assert sum(len(t.x_test) for t in stream.tasks) == len(digits.x_test)
    for k, task in enumerate(stream.tasks):
        first = 2 * k if scenario != "domain" else 0
        assert task.y_test.unique().tolist() == [first, first + 1]
        assert task.classes.tolist() == (list(range(10)) if scenario == "class" else [first, first + 1])
    assert stream.outputs == (2 if scenario == "domain" else 10)
    assert ("hardly reduce forgetting" in stream.note) == (scenario == "class")


def test_permuted_begins_with_the_pictures_as_they_are_and_goes_on_with_the_usual_orders():
    digits = load_digits("digits-8x8")
    stream = streams.load("permuted-digits-8x8", tasks=3)
    assert torch.equal(stream.tasks[0].x_test, digits.x_test)
    generator = torch.Generator().manual_seed(0)
    for task in stream.tasks[1:]:
        order = torch.randperm(64, generator=generator)
        assert torch.equal(task.x_test, digits.x_test[:, order])
        assert torch.equal(task.y_test, digits.labels_test)


def test_one_set_after_the_other_in_both_orders():
    one, other = "mnist-10k", "fashion-mnist-10k"
    there, back = (streams.load(f"sequence-{a}+{b}", samples=50) for a, b in ((one, other), (other, one)))
    assert [t.name for t in there.tasks] == [t.name for t in back.tasks][::-1] == [one, other]
    assert there.outputs == 10
    assert torch.equal(there.tasks[1].x_test, load_digits(other).x_test)
    with pytest.raises(ValueError, match="digits-8x8: 64 pixels per image; expected 784, as in mnist-10k"):
        streams.load("sequence-mnist-10k+digits-8x8")


def test_rotated_turns():
    digits = load_digits("digits-8x8")
    stream = streams.load("rotated-digits-8x8", tasks=2)
    assert torch.equal(stream.tasks[0].x_test, digits.x_test)
    upright, turned = (t.x_test[0].view(8, 8) for t in stream.tasks)
    assert any(torch.allclose(turned, torch.rot90(upright, k), atol=1e-5) for k in (1, -1))


def test_fewer_samples_are_drawn_by_the_seed():
    one, same, other = (streams.load("split-digits-8x8", samples=20, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.tasks[0].x_train, same.tasks[0].x_train)
    assert not torch.equal(one.tasks[0].x_train, other.tasks[0].x_train)
    assert len(one.tasks[0].x_train) == 20
    assert torch.equal(one.tasks[0].x_test, other.tasks[0].x_test)


X, Y = torch.zeros(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([], "no tasks"),
        ([(X, Y, X)], "task 0 has 3 arrays; expected four"),
        ([(X, Y, X, Y), (X[:0], Y[:0], X, Y)], r"task 1, train: the array of samples has shape \(0, 3\); expected \(n, ...\)"),
        ([(X, Y[:4], X, Y)], r"task 0, train: the labels have shape \(4,\); expected \(6,\)"),
        ([(X, Y, X[:, :2], Y)], r"task 0, test: samples have shape \(2,\); expected \(3,\), as in the training set"),
        ([(X, Y, X, Y), (X[:, :2], Y, X[:, :2], Y)], r"task 1: samples have shape \(2,\); expected \(3,\), as in task 0"),
        ([(X, Y - 1, X, Y)], "task 0, train: label -1 is negative"),
        ([(X, Y + 0.5, X, Y)], "some labels are not whole numbers"),
        ([(X.index_fill(0, torch.tensor(2), math.nan), Y, X, Y)], "task 0, train: sample 2 has a value that is not finite"),
        ([(X, Y * 0, X, Y * 0)], "all labels are 0; expected at least two classes"),
    ],
)
def test_arrays_that_cannot_be_learnt_are_refused(tasks, said):
    with pytest.raises(ValueError, match=said):
        streams.own(tasks)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stream": "folded-digits-8x8"}, r"expected a kind \(one of sequence, split, permuted, rotated\) and an image set"),
        ({"method": "gem"}, "method='gem': expected one of sgd"),
        ({"optimizer": "lion"}, "optimizer='lion'"),
        ({"rate": 1}, "rate: no knob has this name; expected one of lr"),
        ({"batch": 61}, "batch size 61 for 60 samples"),
        ({"model": nn.Linear(64, 1)}, "label 1: the model has outputs only for classes 0 to 0"),
        ({"method": "ewc", "estimator": "diagonal"}, "estimator='diagonal'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(small, given, said):
    with pytest.raises(ValueError, match=said):
        fit(**{"stream": small, "method": "sgd", **SMALL, **given})


def test_scenarios_that_are_none_are_refused():
    for name in ("permuted-digits-8x8", "rotated-digits-8x8"):
        with pytest.raises(ValueError, match="expected 'domain'"):
            streams.load(name, "class")
    with pytest.raises(ValueError, match="tasks=3: expected a divisor of 10"):
        streams.load("split-digits-8x8", tasks=3)


# -- fits -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_measured(small, method):
    found = fit(small, method, lr=0.05, strength=0.1, memory=30, passes=3, **SMALL)
    assert found.matrix.shape == (6, 5)
    assert found.metrics["LA"] > 0.55
    assert 0.3 < found.online <= 1
    assert 0.3 < found.anytime <= 1
    assert found.lowest.shape == (5,)
    assert (found.lowest[:4] <= found.matrix[-1, :4] + 1e-12).all()
    weights = sum(p.numel() for p in found.model.parameters())
    floats = {"ewc": 10, "ewc-online": 2, "l2": 2, "mas": 2, "si": 4, "lwf": 1}
    floats |= {"adam": 2, "adagrad": 1, "adagrad-reset": 1, "upgd": 1, "classp": 1}
    if method in floats:
        assert found.state_bytes == pytest.approx(4 * weights * floats[method], rel=0.01)
    if method in ("sgd", "sgd-cut", "joint", "cumulative"):
        assert found.state_bytes == 0
    assert len(found.moved) == (1 if method == "joint" else 5)
    assert found.overlap.diagonal().tolist() == pytest.approx([1.0] * len(found.moved))
    assert 0 <= found.never_moved < 1


def test_plain_sgd_is_a_plain_loop(small):
    """Borders do nothing unless asked."""
    found = fit(small, "sgd", lr=0.1, **SMALL)
    model, matrix = perceptron(64, (12,), 2, 0), []
    for number, task in enumerate(small.tasks):
        batches = Batches(len(task.x_train), 10, mixed(0, number))
        for step in range(len(batches)):
            rows = batches(step)
            loss = nn.functional.cross_entropy(model(task.x_train[rows]), task.y_train[rows])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g in zip(model.parameters(), gradients, strict=True):
                    p.add_(g, alpha=-0.1)
        matrix.append([(model(t.x_test).argmax(-1) == t.y_test).double().mean().item() for t in small.tasks])
    assert torch.equal(flat(found.model), flat(model))
    assert found.matrix[1:].tolist() == matrix


def test_classp_with_a_schedule_begins_as_sgd_and_goes_on_divided(small):
    learner = Learner(small, "classp", lr=0.003, first_lr=0.1, **SMALL)
    assert isinstance(learner.optimizer, CLASSP)
    sums = []
    for task, _, _ in learner.run():
        group = learner.optimizer.param_groups[0]
        assert (group["lr"], group["decay"]) == ((0.1, False) if task == 0 else (0.003, True))
        sums.append(learner.optimizer.state[next(iter(learner.model.parameters()))]["sum"].sum().item())
    assert sums == sorted(sums), "the sum lives through borders"
    one_task = fit(streams.Stream("one", small.tasks[:1], 2), "sgd", lr=0.1, **SMALL)
    assert learner.matrix[1, 0] == one_task.matrix[1, 0]


@pytest.mark.parametrize(("method", "kept"), [("adagrad", True), ("adagrad-reset", False)])
def test_the_state_of_an_optimizer_is_kept_or_forgotten_at_a_border(small, method, kept):
    learner = Learner(small, method, lr=0.01, **SMALL)
    before = None
    for task, step, _ in learner.run():
        total = learner.optimizer.state[next(iter(learner.model.parameters()))]["sum"].sum().item()
        if task == 1 and before is not None:
            assert (total > before) == kept, step
            break
        before = total


@given(st.sampled_from([m for m in METHODS if m not in ("sgd", "l2", "adagrad", "joint")]), st.integers(0, 29), st.booleans())
@settings(max_examples=30, deadline=None)
def test_cut_anywhere_a_fit_ends_with_the_bytes_of_an_uncut_one(method, cut, dropout):
    stream = streams.load("split-digits-8x8", samples=60)

    def made():
        model = perceptron(64, (8,), 2, 3)
        if dropout:
            model.insert(2, nn.Dropout(0.3))
        return Learner(stream, method, model=model, lr=0.02, strength=1.0, memory=20, **SMALL)

    uncut, state = made(), None
    for _, step, _ in uncut.run():
        if step == cut + 1:
            buffer = io.BytesIO()
            torch.save(uncut.state_dict(), buffer)
            state = buffer.getvalue()
    again = made()
    again.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
    for _ in again.run():
        pass
    assert torch.equal(flat(again.model), flat(uncut.model))
    assert torch.equal(again.matrix, uncut.matrix)
    assert again.result().curves == uncut.result().curves
    assert again.result().online == uncut.result().online


def test_a_pull_that_would_fly_off_is_told_before_it_does(small):
    with pytest.raises(TrainingError, match=r"SGD diverges if this product is 2 or more\. Reduce the strength or lr"):
        fit(small, "l2", lr=0.1, strength=30.0, **SMALL)
    fit(small, "l2", "adam", lr=0.01, strength=30.0, **SMALL)  # whose steps have another size


def test_a_pull_that_is_too_strong_only_after_the_last_task_fails_nothing(small):
    """There is no step to come that it could throw off: such a fit is as good as any other."""
    one = streams.Stream(small.name, small.tasks[:1], small.outputs, small.scenario)
    assert fit(one, "l2", lr=0.1, strength=1e6, **SMALL).matrix[-1, 0] > 0
    assert fit(one, "ewc-online", lr=0.1, strength=1e6, **SMALL).validation > 0


def test_a_rate_that_flies_off_names_the_step(small):
    with pytest.raises(TrainingError, match="step"):
        fit(small, "sgd", lr=1e30, **SMALL)


def test_task_incremental_answers_only_with_its_classes():
    stream = streams.load("split-digits-8x8", "task", samples=60)
    found = fit(stream, "sgd", lr=0.1, passes=2, **SMALL)
    assert found.matrix[-1].min() > 0.4, "two answers each"
    other = fit(streams.load("split-digits-8x8", "class", samples=60), "sgd", lr=0.1, passes=2, **SMALL)
    assert other.metrics["ACC"] < found.metrics["ACC"]
    assert "hardly reduce forgetting" in other.note


def test_the_papers_network_has_its_weights():
    model = PaperNet(0)
    assert sum(p.numel() for p in model.parameters()) == 1_199_882
    assert model(torch.zeros(2, 784)).shape == (2, 10)
    assert torch.equal(flat(model), flat(PaperNet(0)))
    assert not torch.equal(flat(model), flat(PaperNet(1)))


@pytest.mark.parametrize("watch", [0, 1, 4])
def test_what_is_seen_on_the_way_by_hand(small, watch):
    """Six steps a task: the means over the tasks begun, and the lowest since a task was left, and in the end."""
    found = fit(small, "sgd", lr=0.1, passes=1, **{**SMALL, "watch": watch})
    looks = [(step, seen, 1 + (step - 1) // 6) for step, seen in found.curves]
    assert [step for step, _, _ in looks] == [step for step in range(1, 31) if watch and step % watch == 0]
    last = found.matrix[-1].tolist()
    for j in range(4):
        later = [seen[j] for _, seen, begun in looks if begun > j + 1]
        assert found.lowest[j].item() == min([*later, last[j]])
    assert math.isnan(found.lowest[4])
    means = [sum(seen[:begun]) / begun for _, seen, begun in looks]
    if watch:
        assert found.anytime == pytest.approx(sum(means) / len(means), rel=1e-6)


def test_a_rate_that_is_cut_is_cut_once_at_each_border(small):
    learner = Learner(small, "sgd-cut", lr=0.1, cut=0.5, **SMALL)
    rates = {}
    for task, _, _ in learner.run():
        rates.setdefault(task, set()).add(learner.optimizer.param_groups[0]["lr"])
    assert [[*found] for found in rates.values()] == [[pytest.approx(0.1 * 0.5**k)] for k in range(5)]


FORK_STRENGTH = "Factor of the penalty of EWC, L2, SI, MAS and LwF. A large value reduces forgetting, but also learning."


def test_a_knob_is_declared_once_and_fit_and_the_configs_have_it_from_there():
    from workbench.continual.config import ContinualConfig
    from workbench.continual.lab.fork import ForkConfig
    from workbench.continual.learner import DECLARED, KNOBS

    shown = ContinualConfig.knobs()
    for name, declared in DECLARED.items():
        assert shown[name] is declared.json_schema_extra["knob"]
        assert ContinualConfig.model_fields[name].default == declared.default
        assert KNOBS[name] == (0.0 if name == "first_lr" else declared.default)
        assert f"        {name} = {KNOBS[name]!r}: {shown[name].label}" in fit.__doc__
    varied = ForkConfig.knobs()["strength"]
    assert (ForkConfig().strength, varied.help, varied.high) == (10.0, FORK_STRENGTH, shown["strength"].high)
