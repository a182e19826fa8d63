"""Rivals against their formulas: pulls by autograd, SI's path integral, MAS, LwF and UPGD by hand, the reservoir's chances."""

import copy
import math
from collections import Counter
from itertools import combinations

import pytest
import torch
from scipy import stats
from torch import nn

from workbench.continual.fishers import fisher
from workbench.continual.memory import AGEM, UPGD, Replay, Reservoir, project
from workbench.continual.nets import trained
from workbench.continual.penalties import EWC, L2, MAS, SI, LwF

PULLS = {
    "ewc": lambda m: EWC(m, 3.0), "ewc-online": lambda m: EWC(m, 3.0, online=True, gamma=0.9), "l2": lambda m: L2(m, 0.5),
    "mas": lambda m: MAS(m, 2.0), "si": lambda m: SI(m, 4.0),
}  # fmt: skip


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def samples(count=12, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator, dtype=torch.float64), torch.randint(0, 3, (count,), generator=generator)


def step(model, pull, x, y, lr=0.1):
    """One step of SGD under a pull."""
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    pull.before_step()
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad
    getattr(pull, "after_step", lambda: None)()


@pytest.mark.parametrize("name", PULLS)
def test_a_pull_is_nothing_at_its_anchor_and_the_gradient_of_its_penalty_elsewhere(name):
    model = net()
    pull = PULLS[name](model)
    pull.before_step()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters()), "before the first border"
    for seed in (1, 2):
        x, y = samples(seed=seed)
        for _ in range(3):
            step(model, pull, x, y)
        pull.end_task(x, y)
    if name != "ewc":  # whose earlier anchor is elsewhere
        model.zero_grad()
        pull.before_step()
        assert pull.penalty().item() == 0
        assert not any(p.grad.any() for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1
    model.zero_grad()
    pull.before_step()
    expected = torch.autograd.grad(pull.penalty(), list(model.parameters()))
    for p, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-12, atol=1e-15)
        assert gradient.any()


def test_ewc_is_its_formula_and_online_keeps_one_term():
    model, (x, y) = net(), samples()
    first = fisher(model, x, y, "empirical")
    apart, online = (EWC(model, 2.0, online=on, gamma=0.5, estimator="empirical") for on in (False, True))
    anchors = []
    for seed in (1, 2):
        anchors.append({n: p.detach().clone() for n, p in model.named_parameters()})
        for pull in (apart, online):
            pull.end_task(*samples(seed=seed))
        with torch.no_grad():
            for p in model.parameters():
                p += 0.3 * seed
    (second,) = online.terms
    assert len(apart.terms) == 2
    by_hand = sum(
        (first[n] * (p - anchors[0][n]).square()).sum() + (apart.terms[1][n][0] * (p - anchors[1][n]).square()).sum()
        for n, p in model.named_parameters()
    )
    assert apart.penalty().item() == pytest.approx(by_hand.item())
    for n in second:
        torch.testing.assert_close(second[n][0], 0.5 * first[n] + apart.terms[1][n][0])
        torch.testing.assert_close(second[n][1], anchors[1][n])
    largest = max((apart.terms[0][n][0] + apart.terms[1][n][0]).max().item() for n in second)
    assert apart.stiffness() == pytest.approx(2 * largest)


def test_what_si_books_is_the_loss_that_went():
    """To first order, with plain steps and no noise."""
    model, (x, y) = net(), samples()
    pull = SI(model, 1.0)
    before = nn.functional.cross_entropy(model(x), y).item()
    for _ in range(200):
        step(model, pull, x, y, lr=0.002)
    gone = before - nn.functional.cross_entropy(model(x), y).item()
    booked = sum(o.sum().item() for o in pull.omega.values())
    assert booked == pytest.approx(gone, rel=0.01)
    way = {n: (p.detach() - pull.start[n]).square() for n, p in model.named_parameters()}
    omega = {n: o.clone() for n, o in pull.omega.items()}
    pull.end_task(x, y)
    for n, (importance, _) in pull.terms[0].items():
        torch.testing.assert_close(importance, 2 * omega[n].clamp(min=0) / (way[n] + 0.1))
    assert not any(o.any() for o in pull.omega.values())


def test_si_books_the_gradient_of_the_task_alone():
    model, (x, y) = net(), samples()
    pull = SI(model, 100.0)
    step(model, pull, x, y)
    pull.end_task(x, y)
    with torch.no_grad():
        model[0].weight += 1.0
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    gradient, before = model[0].weight.grad.clone(), model[0].weight.detach().clone()
    pull.before_step()
    with torch.no_grad():
        model[0].weight -= 0.01 * model[0].weight.grad
    pull.after_step()
    torch.testing.assert_close(pull.omega["0.weight"], -gradient * (model[0].weight.detach() - before))


def test_mas_by_hand_and_its_mean_over_tasks():
    model, pull = net(), None
    pull = MAS(model, 1.0)
    found = []
    for seed in (1, 2, 3):
        x, y = samples(seed=seed)
        total = dict.fromkeys(trained(model), 0.0)
        for sample in x:
            gradients = torch.autograd.grad(model(sample[None]).square().sum(), list(model.parameters()))
            total = {n: total[n] + g.abs() / len(x) for n, g in zip(total, gradients, strict=True)}
        found.append(total)
        pull.end_task(x, y)
    for n, (importance, _) in pull.terms[0].items():
        torch.testing.assert_close(importance, sum(f[n] for f in found) / 3)


def test_lwf_asks_nothing_of_one_who_answers_as_before():
    model, (x, y) = net(), samples()
    y = y.clamp(max=1)  # classes 0 and 1
    rival = LwF(model, 3.0)
    assert rival.extra_loss(x, model(x), y) == 0
    rival.end_task(x, y)
    assert rival.old.tolist() == [0, 1]
    assert rival.extra_loss(x, model(x), y).item() == pytest.approx(0, abs=1e-15)
    with torch.no_grad():
        model[2].bias[2] += 5.0  # a new class is free
    assert rival.extra_loss(x, model(x), y).item() == pytest.approx(0, abs=1e-15)
    with torch.no_grad():
        model[2].bias[0] += 1.0
    before, now = ((z[:, :2] / 2).softmax(-1) for z in (rival.teacher(x), model(x)))
    by_hand = 3.0 * 4 * (before * (before / now).log()).sum(-1).mean()
    assert rival.extra_loss(x, model(x), y).item() == pytest.approx(by_hand.item())
    assert not any(p.requires_grad for p in rival.teacher.parameters())


@pytest.mark.parametrize("name", [*PULLS, "lwf", "replay", "a-gem"])
def test_a_state_that_was_saved_goes_on(name):
    others = {"lwf": lambda m: LwF(m, 1.0), "replay": lambda m: Replay(m, 5), "a-gem": lambda m: AGEM(m, 5)}
    make = {**PULLS, **others}[name]

    def go(model, rival, seed):
        x, y = samples(seed=seed)
        for _ in range(2):
            model.zero_grad()
            logits = model(x)
            (nn.functional.cross_entropy(logits, y) + rival.extra_loss(x, logits, y)).backward()
            rival.before_step()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.05 * p.grad
            rival.after_step()
        rival.end_task(x, y)

    model = net()
    rival = make(model)
    go(model, rival, 1)
    state, weights = copy.deepcopy(rival.state_dict()), copy.deepcopy(model.state_dict())
    go(model, rival, 2)
    other = net(seed=9)
    other.load_state_dict(weights)
    again = make(other)
    again.load_state_dict(state)
    go(other, again, 2)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_every_sample_has_the_same_chance_to_be_remembered():
    counts, size, seen, rounds = torch.zeros(40), 8, 40, 600
    for seed in range(rounds):
        buffer = Reservoir(size, seed)
        x = torch.arange(seen, dtype=torch.float64)[:, None]
        for rows in x.split(7):
            buffer.add(rows, torch.zeros(len(rows), dtype=torch.long))
        assert len(buffer.y) == size
        counts[buffer.x[:, 0].long()] += 1
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("size", "seen"), [(1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 5)])
def test_each_set_of_samples_is_remembered_as_often_as_any_other(size, seen):
    """Of few samples all sets can be counted: one sample more or less in a chance shows."""
    rounds, counts = 2000, Counter()
    x = torch.arange(seen, dtype=torch.float64)[:, None]
    for seed in range(rounds):
        buffer = Reservoir(size, seed)
        buffer.add(x, torch.zeros(seen, dtype=torch.long))
        assert buffer.seen == seen
        counts[tuple(sorted(buffer.x[:, 0].tolist()))] += 1
    sets = list(combinations(range(seen), size))
    assert stats.chisquare([counts[tuple(map(float, one))] for one in sets]).pvalue > 1e-4
    assert sum(counts.values()) == rounds


def test_a_gem_takes_away_what_goes_against_the_past_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        g, ref = ([torch.randn(3, generator=generator), torch.randn(2, 2, generator=generator)] for _ in range(2))
        before = [v.clone() for v in g]
        along = sum((a * b).sum() for a, b in zip(g, ref, strict=True))
        changed = project(g, ref)
        after = sum((a * b).sum() for a, b in zip(g, ref, strict=True))
        assert changed == (along < 0)
        assert after >= -1e-5
        if not changed:
            assert all(torch.equal(a, b) for a, b in zip(g, before, strict=True))
    zero = [torch.zeros(2)]
    assert not project([torch.ones(2)], zero)


def test_replay_adds_the_loss_on_what_it_remembers():
    model, (x, y) = net(), samples(4)
    rival = Replay(model, 10)
    assert rival.extra_loss(x, model(x), y).item() == 0
    rival.after_step()
    assert rival.extra_loss(x, model(x), y).item() == pytest.approx(nn.functional.cross_entropy(model(x), y).item())


def test_upgd_is_its_formula():
    start = [torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.ones(1, dtype=torch.float64)]
    weights, u = [w.clone().requires_grad_() for w in start], [torch.zeros_like(w) for w in start]
    optimizer = UPGD(weights, 0.1, beta=0.9, sigma=0.0)
    w = [p.detach().clone() for p in weights]
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 6):
        g = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in weights]
        for p, gradient in zip(weights, g, strict=True):
            p.grad = gradient.clone()
        optimizer.step()
        u = [0.9 * a - 0.1 * b * c for a, b, c in zip(u, g, w, strict=True)]
        hat = [a / (1 - 0.9**t) for a in u]
        most = max(h.max() for h in hat)
        w = [a - 0.1 * b * (1 - 1 / (1 + torch.exp(-h / most))) for a, b, h in zip(w, g, hat, strict=True)]
        for p, expected in zip(weights, w, strict=True):
            torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda m: EWC(m, -1.0), "strength=-1.0"),
        (lambda m: EWC(m, math.nan), "strength=nan"),
        (lambda m: EWC(m, 1.0, gamma=0.0), "gamma=0.0"),
        (lambda m: SI(m, 1.0, xi=0.0), "xi=0.0"),
        (lambda m: LwF(m, 1.0, temperature=0.0), "temperature=0.0"),
        (lambda m: Replay(m, 0), "size=0: expected a buffer"),
        (lambda m: UPGD(m.parameters(), 0.1, beta=1.0), "beta=1.0: expected at least 0 and below 1"),
    ],
)
def test_values_out_of_range_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make(net())


@pytest.mark.parametrize("make", [EWC, MAS])
def test_importance_is_of_the_first_thousand_samples(make):
    """Of a network's own answers to them: one sample more or less is another number."""
    model, (x, y) = net(), samples(1003)
    x[998:] *= torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0], dtype=torch.float64)[:, None]
    found = make(model, 1.0).importance(x, y)
    wanted = make(model, 1.0, samples=None).importance(x[:1000], y[:1000])
    for name, importance in found.items():
        torch.testing.assert_close(importance, wanted[name], rtol=1e-12, atol=0)


def test_upgd_corrects_each_utility_by_its_own_number_of_steps():
    """A weight whose gradient comes later: with the others' correction it would count for too much."""
    weights = [torch.tensor([1.0], dtype=torch.float64), torch.tensor([-2.0], dtype=torch.float64)]
    optimizer = UPGD([w.requires_grad_() for w in weights], 0.1, beta=0.9, sigma=0.0)
    w, u, t = [1.0, -2.0], [0.0, 0.0], [0, 0]
    for step, gradients in enumerate([(0.5, None), (0.4, None), (0.3, -0.2), (-0.6, 0.7)]):
        hat = {}
        for k, g in enumerate(gradients):
            weights[k].grad = None if g is None else torch.tensor([g], dtype=torch.float64)
            if g is not None:
                t[k] += 1
                u[k] = 0.9 * u[k] - 0.1 * g * w[k]
                hat[k] = u[k] / (1 - 0.9 ** t[k])
        for k, value in hat.items():
            w[k] -= 0.1 * gradients[k] * (1 - 1 / (1 + math.exp(-value / max(hat.values()))))
        optimizer.step()
        assert [p.item() for p in weights] == pytest.approx(w, rel=1e-12), step
