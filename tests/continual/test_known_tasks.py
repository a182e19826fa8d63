"""Where a task's number is known, answers of other tasks count nowhere: in no loss, importance, memory or teaching."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from workbench.continual import METHODS, fisher, fit, streams
from workbench.continual.config import ContinualConfig, inputs
from workbench.continual.fishers import ESTIMATORS
from workbench.continual.learner import Learner
from workbench.continual.memory import AGEM, Replay
from workbench.continual.nets import trained
from workbench.continual.penalties import EWC, L2, MAS, SI, LwF
from workbench.continual.tasks import loss_on, masked, masked_each
from workbench.training import Batches, mixed

SMALL = {"hidden": (12,), "watch": 3, "batch": 10, "lr": 0.05}
ANSWERS = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5])]


@pytest.fixture(scope="module")
def small():
    return streams.load("split-digits-8x8", "task", samples=60)


def net(kind="linears", seed=0):
    torch.manual_seed(seed)
    middle = nn.Tanh() if kind == "linears" else nn.GELU()  # of any other module the Fisher is by vmap
    return nn.Sequential(nn.Linear(4, 7), middle, nn.Linear(7, 6)).double()


class Only(nn.Module):
    """A model that has some answers of another, and no more: what a method must do where these alone count."""

    def __init__(self, model, classes):
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x):
        return self.model(x)[:, self.classes]


def samples(count=12, task=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return x, ANSWERS[task][torch.randint(0, 2, (count,), generator=generator)]


def known(rival, task):
    rival.answers, rival.task = ANSWERS, task
    return rival


# -- importances ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linears", "any"])
@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e != "sampled"])
def test_the_fisher_is_that_of_a_model_without_the_other_answers(estimator, kind):
    model, (x, y) = net(kind), samples()
    found = fisher(model, x, y, estimator, classes=ANSWERS[1])
    wanted = fisher(Only(model, ANSWERS[1]), x, y - 2, estimator)
    for name, square in found.items():
        torch.testing.assert_close(square, wanted[f"model.{name}"], rtol=1e-10, atol=1e-15)
    assert not found["2.weight"][[0, 1, 4, 5]].any()
    assert found["2.weight"][[2, 3]].any()
    everything = fisher(model, x, y, estimator)
    assert not torch.allclose(everything["2.weight"], found["2.weight"], rtol=1e-3)


def test_sampled_labels_are_answers_that_count():
    model, (x, _) = net(), samples(400)
    found = fisher(model, x, estimator="sampled", classes=ANSWERS[2])
    exact = fisher(model, x, classes=ANSWERS[2])
    assert not found["2.weight"][:4].any()
    torch.testing.assert_close(found["2.weight"].sum(), exact["2.weight"].sum(), rtol=0.2, atol=0)


PULLS = {
    "ewc": lambda m: EWC(m, 3.0), "ewc-online": lambda m: EWC(m, 3.0, online=True), "l2": lambda m: L2(m, 0.5),
    "mas": lambda m: MAS(m, 2.0), "si": lambda m: SI(m, 4.0),
}  # fmt: skip


def learnt(model, pull, task, x, y):
    """A few steps on a task, and its border."""
    pull.task = task
    for _ in range(4):
        model.zero_grad()
        F.cross_entropy(masked(model(x), ANSWERS[task]), y).backward()
        pull.before_step()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
        pull.after_step()
    pull.end_task(x, y)


@pytest.mark.parametrize("name", PULLS)
def test_answers_that_were_never_trained_have_no_importance(name):
    model = net()
    pull = known(PULLS[name](model), 0)
    for task in (0, 1):
        learnt(model, pull, task, *samples(task=task, seed=task + 1))
        total = {n: sum(term[n][0] for term in pull.terms) for n in pull.terms[0]}
        done = [c for answers in ANSWERS[: task + 1] for c in answers.tolist()]
        rest = [c for c in range(6) if c not in done]
        for part in ("2.weight", "2.bias"):
            assert not total[part][rest].any(), f"{part} of answers {rest}"
            assert total[part][done].reshape(len(done), -1).any(1).all()
        assert total["0.weight"].any()


def test_l2_holds_all_else_alike_also_behind_units_that_never_answer():
    """With a head of its own for each task, and with dead units, whose weights no answer depends on."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6)).double()
    with torch.no_grad():
        model[0].bias[2] = -100.0
    pull = known(L2(model, 1.0), 0)
    pull.end_task(*samples(task=0))
    (term,) = pull.terms
    assert (term["0.weight"][0] == 1).all()
    assert term["2.weight"][0].tolist() == [[1.0] * 5] * 2 + [[0.0] * 5] * 4
    assert term["2.bias"][0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 5)
            self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))

        def forward(self, x):
            z = torch.tanh(self.body(x))
            return torch.cat([head(z) for head in self.heads], -1)

    pull = known(L2(Heads().double(), 1.0), 1)
    pull.end_task(*samples())
    held = {name: bool(term[0].all()) for name, term in pull.terms[0].items()}
    assert held == {
        "body.weight": True, "body.bias": True, "heads.0.weight": True, "heads.0.bias": True, "heads.1.weight": True,
        "heads.1.bias": True, "heads.2.weight": False, "heads.2.bias": False,
    }  # fmt: skip


def test_mas_is_that_of_a_model_without_the_other_answers():
    model, (x, y) = net(), samples()
    found = known(MAS(model, 1.0), 1).importance(x, y)
    wanted = MAS(Only(model, ANSWERS[1]), 1.0).importance(x, y)
    for name, importance in found.items():
        torch.testing.assert_close(importance, wanted[f"model.{name}"], rtol=1e-10, atol=1e-15)


# -- memories, and what is taught ------------------------------------------------------------------------------------------------


def two_tasks(rival):
    """A rival that remembers six samples of task 0 and six of task 2, and stands in task 1."""
    parts = [samples(6, task, seed=task + 5) for task in (0, 2)]
    for task, (x, y) in zip((0, 2), parts, strict=True):
        rival.task = task
        rival.remember(x, y)
    rival.task = 1
    return parts


def by_hand(model, parts):
    """The mean loss of samples, each among the two answers of its own task."""
    losses = [
        F.cross_entropy(model(x)[:, ANSWERS[task]], y - 2 * task, reduction="sum")
        for task, (x, y) in zip((0, 2), parts, strict=True)
    ]
    return sum(losses) / sum(len(y) for _, y in parts)


def test_what_is_replayed_is_asked_among_its_own_answers():
    model = net()
    rival = known(Replay(model, 12), 0)
    parts = two_tasks(rival)
    x, y = samples()
    torch.testing.assert_close(rival.extra_loss(x, masked(model(x), ANSWERS[1]), y), by_hand(model, parts))


def test_a_gem_looks_back_among_the_answers_of_then():
    model = net()
    rival = known(AGEM(model, 12), 0)
    parts = two_tasks(rival)
    weights = list(trained(model).values())
    ref = torch.autograd.grad(by_hand(model, parts), weights)
    for p, g in zip(weights, ref, strict=True):
        p.grad = -g.clone()
    rival.before_step()
    assert all(p.grad.abs().max() < 1e-12 for p in weights), "what goes straight against it is all taken away"


def test_a_memory_keeps_the_tasks_of_its_samples_through_replacement_and_a_cut():
    rival = known(Replay(net(), 5, seed=3), 0)
    for task in (0, 1, 2, 1, 0):
        rival.task = task
        rival.remember(*samples(9, task, seed=task))
    _, y, tasks = rival.buffer.draw(5)
    assert torch.equal(tasks, y // 2)
    again = known(Replay(net(), 5), 0)
    again.load_state_dict(copy.deepcopy(rival.state_dict()))
    assert torch.equal(again.buffer.tasks, rival.buffer.tasks)
    unknown = Replay(net(), 5)
    unknown.remember(*samples(9))
    assert "tasks" not in unknown.state_dict(), "nothing more is kept where it is not needed"


def test_lwf_teaches_each_task_by_itself():
    model = net()
    rival = known(LwF(model, 3.0), 0)
    x, y = samples(task=0)
    assert rival.extra_loss(x, masked(model(x), ANSWERS[0]), y) == 0
    rival.end_task(x, y)
    rival.task = 1
    rival.end_task(*samples(task=1))
    rival.task = 2
    with torch.no_grad():
        model[2].bias += torch.tensor([0.3, -0.2, 1.0, 0.1, 5.0, -5.0])
    wanted = 0.0
    for classes in ANSWERS[:2]:
        before, now = ((z[:, classes] / 2).softmax(-1) for z in (rival.teacher(x), model(x)))
        wanted += 3.0 * 4 * (before * (before / now).log()).sum(-1).mean()
    found = rival.extra_loss(x, masked(model(x), ANSWERS[2]), y)
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        model[2].bias[:2] += 7.0  # which changes no answer of task 0
    torch.testing.assert_close(rival.extra_loss(x, masked(model(x), ANSWERS[2]), y), wanted)


# -- losses ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cross-entropy", "summed squares"])
def test_the_loss_is_that_of_a_model_without_the_other_answers(kind):
    model, (x, y) = net(), samples()
    here = loss_on(masked(model(x), ANSWERS[1]), y, kind)
    wanted = loss_on(model(x)[:, ANSWERS[1]], y - 2, kind)
    torch.testing.assert_close(here, wanted)
    for one, other in zip(*(torch.autograd.grad(v, list(model.parameters())) for v in (here, wanted)), strict=True):
        torch.testing.assert_close(one, other)
        assert one.isfinite().all()


def test_each_sample_counts_among_its_own_answers():
    logits, tasks = torch.arange(18.0).view(3, 6), torch.tensor([2, 0, 1])
    found = masked_each(logits, tasks, ANSWERS)
    for row, task in enumerate(tasks):
        assert torch.equal(found[row], masked(logits, ANSWERS[task])[row])


@pytest.mark.parametrize("method", ["joint", "cumulative"])
def test_tasks_that_are_learnt_together_stay_apart_in_their_answers(small, method):
    learner = Learner(small, method, **SMALL)
    run = learner.run()
    steps = learner.steps if method == "joint" else 6 + 12
    model = copy.deepcopy(learner.model)
    seen = [next(run) for _ in range(steps)]
    x = torch.cat([t.x_train for t in small.tasks])
    y = torch.cat([t.y_train for t in small.tasks])
    first = Batches(300 if method == "joint" else 60, 10, mixed(0, 0))(0)
    logits = model(x[first])
    own = torch.stack([row[c // 2 * 2 :][:2] for row, c in zip(logits, y[first], strict=True)])
    wanted = F.cross_entropy(own, y[first] % 2)
    assert seen[0][2] == pytest.approx(wanted.item(), rel=1e-5)
    assert seen[-1][2] < 2.3, "among two answers, not ten"


@pytest.mark.parametrize("loss", ["cross-entropy", "summed squares"])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "joint"])
def test_nothing_depends_on_answers_of_a_task_to_come(small, method, loss):
    """Two models that differ in the last layer's rows of task 3 alone learn tasks 1 and 2 to the same bits."""

    def learnt(push):
        learner = Learner(small, method, strength=0.1, memory=30, loss=loss, **{**SMALL, "lr": 0.01})
        with torch.no_grad():
            learner.model[-1].weight[4:6] += push
            learner.model[-1].bias[4:6] += push
        run = learner.run()
        for _ in range(18 if method == "cumulative" else 12):
            next(run)
        return learner

    one, other = learnt(0.0), learnt(3.0)
    for (name, p), q in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        rows = [0, 1, 2, 3] if p.shape[0] == 10 else slice(None)
        assert torch.equal(p[rows], q[rows]), name
    assert torch.equal(one.matrix[:2, :2], other.matrix[:2, :2])
    assert one.curves[-1][1][:2] == other.curves[-1][1][:2]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_tasks_that_are_known_by_squares_too(small, method):
    found = fit(small, method, strength=0.1, memory=30, passes=3, loss="summed squares", **{**SMALL, "lr": 0.02})
    assert found.matrix.isfinite().all()
    assert found.metrics["LA"] > 0.5


def test_a_run_of_known_tasks_from_before_is_not_taken_for_one_of_now():
    config = ContinualConfig(stream="split-fashion", scenario="task")
    assert "scenario-task@2" in inputs(config)
    for other in (config.replace(scenario="domain"), config.replace(stream="permuted", scenario="domain")):
        assert not any("scenario" in one for one in inputs(other))


@pytest.mark.parametrize("method", METHODS)
def test_tasks_may_have_more_classes_than_others_and_some_in_common(method):
    g = torch.Generator().manual_seed(0)
    centre = torch.randn(6, 5, generator=g) * 3

    def task(*classes):
        y = torch.tensor(classes)[torch.randint(len(classes), (90,), generator=g)]
        x = centre[y] + torch.randn(90, 5, generator=g)
        return x, y, x, y

    stream = streams.own([task(0, 1), task(1, 2, 3, 4), task(5, 0)], scenario="task")
    assert [t.classes.tolist() for t in stream.tasks] == [[0, 1], [1, 2, 3, 4], [0, 5]]
    found = fit(stream, method, strength=0.1, memory=30, passes=4, **{**SMALL, "lr": 0.02})
    assert found.matrix.isfinite().all()
    assert found.metrics["LA"] > 0.7
