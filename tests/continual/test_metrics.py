"""Numbers of the accuracy matrix by hand; five Fishers against brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from workbench.continual import accuracy_metrics, fisher
from workbench.continual.fishers import ESTIMATORS
from workbench.continual.metrics import average_incremental_accuracy, intransigence


@given(st.integers(2, 6), st.integers(0, 10**6))
@settings(deadline=None)
def test_forgetting_is_of_the_best_since_a_task_was_learnt_whatever_came_before(tasks, seed):
    """By loops; and a task that is known best before it is learnt, by transfer, has not been forgotten for that."""
    a = np.random.default_rng(seed).random((tasks + 1, tasks))
    found = accuracy_metrics(a)
    best = [max(a[i, j] for i in range(j + 1, tasks + 1)) for j in range(tasks)]
    assert found["F"] == pytest.approx(np.mean([best[j] - a[tasks, j] for j in range(tasks - 1)]))
    assert found["BWT"] == pytest.approx(np.mean([a[tasks, j] - a[j + 1, j] for j in range(tasks - 1)]))
    assert found["LA"] == pytest.approx(np.mean([a[j + 1, j] for j in range(tasks)]))
    assert found["FWT"] == pytest.approx(np.mean([a[j, j] - a[0, j] for j in range(1, tasks)]))
    before = a.copy()
    for j in range(tasks):
        before[: j + 1, j] = 1.0
    assert accuracy_metrics(before)["F"] == pytest.approx(found["F"])


def test_a_perfect_learner_forgets_nothing():
    matrix = [[0.1, 0.1, 0.1], [1, 0.2, 0.1], [1, 1, 0.3], [1, 1, 1]]
    found = accuracy_metrics(matrix)
    assert (found["ACC"], found["BWT"], found["F"], found["LA"]) == (1, 0, 0, 1)
    assert found["FWT"] == pytest.approx((0.2 - 0.1 + 0.3 - 0.1) / 2)
    assert average_incremental_accuracy(matrix) == 1
    assert intransigence(matrix, [0.9, 0.9, 0.9]) == pytest.approx(-0.1)


def test_by_hand_where_a_task_peaks_after_it_was_learnt():
    matrix = [[0.5, 0.4, 0.3], [0.8, 0.5, 0.3], [0.9, 0.7, 0.2], [0.6, 0.65, 0.9]]
    found = accuracy_metrics(matrix)
    assert found["ACC"] == pytest.approx((0.6 + 0.65 + 0.9) / 3)
    assert found["BWT"] == pytest.approx(((0.6 - 0.8) + (0.65 - 0.7)) / 2)
    assert found["F"] == pytest.approx(((0.9 - 0.6) + (0.7 - 0.65)) / 2)
    assert found["F"] > -found["BWT"]
    assert found["FWT"] == pytest.approx(((0.5 - 0.4) + (0.2 - 0.3)) / 2)
    assert found["LA"] == pytest.approx((0.8 + 0.7 + 0.9) / 3)
    assert average_incremental_accuracy(matrix) == pytest.approx((0.8 + 0.8 + (0.6 + 0.65 + 0.9) / 3) / 3)


def test_one_task_has_no_transfer():
    found = accuracy_metrics([[0.1], [0.8]])
    assert found["ACC"] == found["LA"] == 0.8
    assert all(math.isnan(found[name]) for name in ("BWT", "F", "FWT"))


@given(st.integers(2, 6).flatmap(lambda k: arrays.arrays(float, (k + 1, k), elements=st.floats(0, 1))))
@settings(max_examples=100, deadline=None)
def test_forgetting_is_at_least_backward_transfer_lost(matrix):
    found = accuracy_metrics(matrix)
    assert found["F"] >= -found["BWT"] - 1e-12
    assert found["F"] >= -1e-12
    assert found["ACC"] == pytest.approx(np.mean(matrix[-1]))


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ([[1, 2], [3, 4]], r"shape \(2, 2\); expected \(tasks \+ 1, tasks\)"),
        ([], "shape"),
        ([[0.1, math.nan], [0, 0], [0, 0]], r"matrix\[0, 1\]=nan"),
        ([[0.1], [0.2, 0.3]], "rows of equal length"),
        ("abc", "expected numbers"),
    ],
)
def test_what_is_no_matrix_is_refused(matrix, said):
    with pytest.raises(ValueError, match=said):
        accuracy_metrics(matrix)


# -- Fishers ---------------------------------------------------------------------------------------------------------------


def mlp(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).to(dtype)


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


def brute_force(model, x, y, estimator):
    """A backward pass a sample and a class."""
    model.eval()
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    total = dict.fromkeys(names, 0.0)

    def squares(sample, label):
        loss = -model(sample[None]).log_softmax(-1)[0, label]
        found = torch.autograd.grad(loss, [dict(model.named_parameters())[n] for n in names])
        return {n: g.square() for n, g in zip(names, found, strict=True)}

    for sample, label in zip(x, y, strict=True):
        p = model(sample[None]).softmax(-1)[0].detach()
        chosen = {"exact": range(len(p)), "predicted": [int(p.argmax())], "empirical": [int(label)]}[estimator]
        for c in chosen:
            share = p[c] if estimator == "exact" else 1.0
            for name, square in squares(sample, c).items():
                total[name] = total[name] + share * square / len(x)
    return total


@pytest.mark.parametrize("estimator", ["exact", "predicted", "empirical"])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_each_is_what_it_says(estimator, kind, monkeypatch):
    monkeypatch.setattr("workbench.continual.fishers.ROOM", 100)  # in several parts
    model = mlp() if kind == "mlp" else Convolution().double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, *((5,) if kind == "mlp" else (1, 4, 4)), generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (7,), generator=generator)
    list(model.parameters())[1].requires_grad_(False)
    model.train()
    found = fisher(model, x, y, estimator)
    assert model.training
    expected = brute_force(model, x, y, estimator)
    assert found.keys() == expected.keys()
    for name, square in found.items():
        torch.testing.assert_close(square, expected[name], rtol=1e-10, atol=1e-14)
        assert square.dtype == torch.float64


def test_sampled_is_exact_on_average_and_batched_is_smaller():
    model, generator = mlp(), torch.Generator().manual_seed(2)
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    y = model(x).argmax(-1)
    exact = fisher(model, x)
    many = [fisher(model, x, estimator="sampled", seed=s) for s in range(200)]
    for name, square in exact.items():
        torch.testing.assert_close(torch.stack([m[name] for m in many]).mean(0), square, rtol=0.1, atol=2e-3)
    assert fisher(model, x, estimator="sampled")["0.weight"].equal(many[0]["0.weight"])
    total = {e: sum(v.sum().item() for v in fisher(model, x, y, e).values()) for e in ESTIMATORS}
    assert total["batched"] < total["empirical"]
    gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    assert total["batched"] == pytest.approx(sum(g.square().sum().item() for g in gradient))


def test_a_layer_that_is_used_twice_or_over_places_is_done_sample_by_sample():
    torch.manual_seed(0)
    shared, head = nn.Linear(5, 5), nn.Linear(5, 3)
    for model, shape in (
        (nn.Sequential(shared, nn.Tanh(), shared, head), (6, 5)),
        (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(10, 3)), (6, 2, 4)),
    ):
        x = torch.randn(shape, dtype=torch.float64)
        found, expected = fisher(model.double(), x), brute_force(model, x, torch.zeros(6), "exact")
        for name, square in found.items():
            torch.testing.assert_close(square, expected[name], rtol=1e-10, atol=1e-14)


def test_one_linear_layer_is_a_model_too():
    model = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    assert fisher(model, x).keys() == {"weight", "bias"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"estimator": "true"}, "estimator='true': expected one of exact, sampled"),
        ({"estimator": "empirical"}, "expected 4 true labels for 'empirical'"),
        (
            {"estimator": "batched", "y": torch.tensor([0, 1, 2, 3])},
            "found labels from 0 to 3; expected labels from 0 to 2, for which the model has outputs",
        ),
        ({"estimator": "empirical", "y": torch.tensor([0, 1])}, "expected 4 true labels"),
        ({"x": torch.zeros(0, 5)}, "no samples"),
    ],
)
def test_what_no_fisher_can_be_taken_of_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        fisher(mlp(torch.float32), **{"x": torch.zeros(4, 5), **given})
