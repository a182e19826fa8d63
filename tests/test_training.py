"""Tests of the shared training loop: a resumed run equals an uninterrupted one byte for byte, and failures are reported."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.continual import CLASSP
from workbench.training import Batches, Training, TrainingError, mixed


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x)).relu()))


OPTIMIZERS = {
    "classp": lambda p: CLASSP(p, 0.01, power=2.0),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
}


class Count:
    """An object with a state."""

    def __init__(self):
        self.seen = torch.zeros(())

    def state_dict(self):
        return {"seen": self.seen.clone()}

    def load_state_dict(self, state):
        self.seen.copy_(state["seen"])


def made(name, seed=3):
    torch.manual_seed(0)
    model, generator = Net(), torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 4, generator=generator), torch.randint(0, 3, (50,), generator=generator)
    batches, count = Batches(50, 8, seed), Count()
    optimizer = OPTIMIZERS[name](model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, gamma=0.8)

    def loss_of(step):
        rows = batches(step)
        count.seen += len(rows)
        return nn.functional.cross_entropy(model(x[rows]), y[rows])

    return Training(model, optimizer, seed, schedule, {"count": count}), loss_of


def bytes_of(training):
    buffer = io.BytesIO()
    torch.save(training.state_dict(), buffer)
    return buffer.getvalue()


@given(st.sampled_from(sorted(OPTIMIZERS)), st.lists(st.integers(0, 29), max_size=3))
@settings(max_examples=25, deadline=None)
def test_cut_anywhere_it_ends_with_the_bytes_of_an_uncut_run(name, cuts):
    uncut, loss_of = made(name)
    losses = [loss for _, loss in uncut.steps(loss_of, 30)]
    found, state = [], None
    for until in [*sorted(cuts), 30]:
        training, loss_of = made(name)
        if state is not None:
            training.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        torch.rand(5)  # random numbers drawn between the parts must not matter
        found += [loss for _, loss in training.steps(loss_of, until)]
        state = bytes_of(training)
    assert found == losses
    assert state == bytes_of(uncut)


def test_random_numbers_of_others_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    training, loss_of = made("adam")
    torch.manual_seed(5)
    list(training.steps(loss_of, 4))
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_not_finite_stops_it_before_the_weights_are_touched():
    training, loss_of = made("adam")
    for step, _ in training.steps(loss_of, 5):
        if step == 3:
            kept = copy.deepcopy(training.state_dict())
    before = [p.clone() for p in training.model.parameters()]
    with pytest.raises(TrainingError, match=r"nan at step 6 of 9; the state after step 3 is saved\. Lower the learning rate"):
        list(training.steps(lambda step: loss_of(step) * float("nan"), 9))
    assert all(torch.equal(p, q) for p, q in zip(before, training.model.parameters(), strict=True))
    assert training.done == 5
    training.load_state_dict(kept)
    assert training.done == 3


def test_a_step_that_is_not_finite_names_step_and_tensor():
    model = nn.Linear(2, 1)
    training = Training(model, CLASSP(model.named_parameters(), 0.1, power=2.0))
    x = torch.full((1, 2), 1e30)
    with pytest.raises(TrainingError, match=r"step 1 of 2: .*not finite in weight \(2 of 2 weights\).*no earlier state"):
        list(training.steps(lambda step: model(x).sum(), 2))


def test_a_state_of_another_model_is_refused():
    training, _ = made("adam")
    state = training.state_dict()
    other = Training(nn.Linear(4, 8), torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1))
    with pytest.raises(ValueError, match="belongs to another model: tensor 'weight' differs"):
        other.load_state_dict(state)


def test_only_what_is_trained_is_kept():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    training = Training(model, torch.optim.SGD(model[1].parameters(), 0.1))
    assert training.state_dict()["model"].keys() == {"1.weight", "1.bias"}


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_pass_has_each_sample_once(samples, size, seed, shuffle):
    if size > samples:
        with pytest.raises(ValueError, match=f"batch size {size} for {samples} samples"):
            Batches(samples, size)
        return
    batches = Batches(samples, size, seed, shuffle)
    for epoch in (0, 1):
        rows = torch.cat([batches(epoch * len(batches) + k) for k in range(len(batches))])
        assert sorted(rows.tolist()) == list(range(samples))
        assert shuffle or rows.tolist() == list(range(samples))
    assert torch.equal(batches(0), Batches(samples, size, seed, shuffle)(0)), "the batch must not depend on earlier calls"


def test_neighbouring_seeds_are_far_apart():
    found = {mixed(seed, number) for seed in range(100) for number in range(100)}
    assert len(found) == 10_000
    assert all(0 <= seed < 2**63 for seed in found)
