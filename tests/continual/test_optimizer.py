"""CLASSP against what it must equal, the bounds that it must keep, and what it must survive."""

import copy
import io
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.continual import CLASSP
from workbench.continual.fused import suits
from workbench.continual.optimizer import MODES

FORMS = ("loop", "foreach", "fused")
every_form = pytest.mark.parametrize("form", FORMS)
SHAPES = ((3, 4), (5,), (), (0,), (2, 3, 2), (1,))


def weights(dtype=torch.float64, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def train(make, steps=60, dtype=torch.float64, shapes=SHAPES, scale=0.3, seed=1, times=1.0, params=None):
    """Weights after `steps` of an optimizer on the same random gradients."""
    params = weights(dtype, shapes) if params is None else params
    optimizer, generator = make(params), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for weight in params:
            drawn = scale * times * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.grad = drawn.to(weight.dtype)
        optimizer.step()
    return params, optimizer


def flat(params):
    return torch.cat([p.detach().double().flatten() for p in params])


def same(one, other, atol):
    torch.testing.assert_close(flat(one), flat(other), rtol=0, atol=atol)


# -- what it must equal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_decay_and_threshold_it_is_sgd_to_the_bit(dtype):
    ours, _ = train(lambda p: CLASSP(p, 0.1, decay=False, form="loop"), dtype=dtype)
    theirs, _ = train(lambda p: torch.optim.SGD(p, 0.1, foreach=False), dtype=dtype)
    assert torch.equal(flat(ours), flat(theirs))


@every_form
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_at_p_2_it_is_adagrad(form, dtype, atol):
    ours, _ = train(lambda p: CLASSP(p, 0.1, power=2.0, eps=1e-3, form=form), steps=300, dtype=dtype)
    theirs, _ = train(lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=1e-3, eps=0), steps=300, dtype=dtype)
    same(ours, theirs, atol)


@every_form
def test_with_a_threshold_it_is_adagrad_on_hard_shrunk_gradients(form):
    tau = 0.05

    class Shrunk(torch.optim.Adagrad):
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad = torch.nn.functional.hardshrink(p.grad, math.sqrt(tau))
            super().step()

    ours, _ = train(lambda p: CLASSP(p, 0.1, power=2.0, threshold=tau, eps=1e-3, form=form))
    theirs, _ = train(lambda p: Shrunk(p, 0.1, initial_accumulator_value=1e-3, eps=0))
    same(ours, theirs, 1e-12)


@every_form
def test_as_p_grows_a_step_is_by_the_largest_gradient_so_far(form):
    def largest(params):
        class Largest(torch.optim.SGD):
            def step(self):
                for p in params:
                    self.state[p]["max"] = torch.maximum(self.state[p].get("max", torch.zeros_like(p)), p.grad.abs())
                    p.data -= 0.1 * p.grad / self.state[p]["max"]

        return Largest(params, 0.1)

    ours, _ = train(lambda p: CLASSP(p, 0.1, power=128.0, eps=0.0, form=form), scale=1.0)
    theirs, _ = train(largest, scale=1.0)
    same(ours, theirs, 3e-3)


def published(params, lr, power, eps, threshold, decay):
    """The published rule in three lines: a truth value for a gate, a sum of |g|, a root of 1/p."""

    class Published(torch.optim.SGD):
        def step(self):
            for p in params:
                total = self.state[p].setdefault("sum", torch.zeros_like(p))
                if bool((p.grad**2).any()) > threshold:
                    total += p.grad.abs()
                    p.data -= lr * p.grad / (total + eps) ** (1 / power) if decay else lr * p.grad

    return Published(params, lr)


@every_form
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.99, 1.0, 2.0])
@pytest.mark.parametrize("decay", [True, False])
def test_mode_repo_is_the_published_rule(form, power, threshold, decay):
    knobs = {"power": power, "threshold": threshold, "eps": 1e-4, "decay": decay}
    ours, optimizer = train(lambda p: CLASSP(p, 0.05, mode="repo", form=form, **knobs))
    theirs, _ = train(lambda p: published(p, 0.05, **knobs))
    same(ours, theirs, 1e-12)
    if threshold >= 1:
        assert torch.equal(flat(ours), flat(weights()))
        assert not flat(s["sum"] for s in optimizer.state.values()).any()


@every_form
def test_the_published_threshold_does_nothing_below_one(form):
    one, other = (train(lambda p, t=t: CLASSP(p, 0.05, threshold=t, mode="published", form=form))[0] for t in (0.0, 0.99))
    assert torch.equal(flat(one), flat(other))


def test_at_p_1_without_threshold_both_modes_are_one():
    one, other = (train(lambda p, m=m: CLASSP(p, 0.05, mode=m))[0] for m in MODES)
    assert torch.equal(flat(one), flat(other))


@every_form
def test_the_scale_of_the_loss_does_not_matter_without_eps_and_threshold(form):
    one, other = (train(lambda p: CLASSP(p, 0.05, power=2.0, eps=0.0, form=form), times=t)[0] for t in (1.0, 1e3))
    same(one, other, 1e-12)


@every_form
def test_the_exclusive_order_starts_from_eps(form):
    params, _ = train(lambda p: CLASSP(p, 0.05, power=2.0, eps=1e-2, order="exclusive", form=form), steps=1)
    torch.testing.assert_close(flat(weights()) - flat(params), 0.05 * flat(p.grad for p in params) / 0.1)
    inclusive, _ = train(lambda p: CLASSP(p, 0.05, power=2.0, eps=1e-2, form=form), steps=1)
    assert not torch.allclose(flat(params), flat(inclusive))


KNOBS = st.fixed_dictionaries(
    {
        "power": st.sampled_from([0.5, 1.0, 2.0, 4.0, 3.3]), "threshold": st.sampled_from([0.0, 1e-4, 0.04, 0.3]),
        "eps": st.sampled_from([1e-8, 1e-5, 1e-2]), "decay": st.booleans(), "mode": st.sampled_from(MODES),
        "order": st.sampled_from(["inclusive", "exclusive"]), "cap": st.sampled_from([None, 0.3]),
    }
)  # fmt: skip


@given(KNOBS, st.integers(0, 1000), st.sampled_from([1e-3, 0.3, 3.0]))
@settings(max_examples=60, deadline=None)
def test_all_forms_are_one(knobs, seed, scale):
    found = [train(lambda p, f=f: CLASSP(p, 1e-3, form=f, **knobs), steps=8, seed=seed, scale=scale) for f in FORMS]
    for params, optimizer in found[1:]:
        torch.testing.assert_close(flat(params), flat(found[0][0]), rtol=1e-10, atol=1e-12)
        sums = [flat(o.state[p]["sum"] for p in o.param_groups[0]["params"]) for o in (optimizer, found[0][1])]
        torch.testing.assert_close(*sums, rtol=1e-12, atol=0)


def test_mixed_kinds_of_tensors_are_moved_alike():
    shapes = [(4, 6), (3, 3, 2, 2), (7,)]

    def mixed():
        made = weights(torch.float32, shapes)
        made[0] = made[0].detach().T.requires_grad_()  # not contiguous
        made[1] = made[1].detach().to(memory_format=torch.channels_last).requires_grad_()
        made[2] = made[2].detach().bfloat16().requires_grad_()
        return made

    found = [train(lambda p, f=f: CLASSP(p, 0.05, power=2.0, form=f), params=mixed(), steps=20)[0] for f in (*FORMS, "auto")]
    for params in found[1:]:
        same(params, found[0], 1e-6)
    assert [suits(p, p) for p in mixed()] == [False, False, False]


def test_large_tensors_are_moved_in_threads(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    monkeypatch.setattr("workbench.continual.fused.PART", 1000)
    found = [train(lambda p, f=f: CLASSP(p, 0.05, form=f), shapes=((10_001,),), steps=3)[0] for f in ("loop", "fused")]
    same(found[0], found[1], 1e-15)


# -- what it must keep -----------------------------------------------------------------------------------------------------


@given(
    st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 4.0]), st.sampled_from([1e-8, 1e-5, 1e-2]),
    st.sampled_from([1e-6, 1e-2, 1.0, 1e3]), st.integers(0, 10_000), st.sampled_from(FORMS),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_steps_and_paths_stay_within_their_bounds(power, eps, scale, seed, form):
    """|dw| <= alpha at each step; the path is at most alpha ln((eps + S) / eps) for p <= 1, and Hoelder's for p >= 1."""
    lr, steps = 0.1, 200
    weight = torch.zeros(50, dtype=torch.float64, requires_grad=True)
    optimizer = CLASSP([weight], lr, power=power, eps=eps, form=form)
    generator, path, before = torch.Generator().manual_seed(seed), torch.zeros(50, dtype=torch.float64), None
    for _ in range(steps):
        spread = 10 ** (3 * torch.rand(50, generator=generator, dtype=torch.float64) - 1.5)
        weight.grad = scale * spread * torch.randn(50, generator=generator, dtype=torch.float64)
        before = weight.detach().clone()
        total = optimizer.state[weight]["sum"].clone() if optimizer.state[weight] else torch.zeros(50)
        optimizer.step()
        moved = (weight.detach() - before).abs()
        assert (moved <= lr * (1 + 1e-12) + 1e-15 * before.abs()).all()
        assert (optimizer.state[weight]["sum"] >= total).all()
        path += moved
    budget = torch.log1p(optimizer.state[weight]["sum"] / eps)
    bound = lr * budget if power <= 1 else lr * steps ** (1 - 1 / power) * budget ** (1 / power)
    assert (path <= bound * (1 + 1e-9)).all()


@every_form
def test_a_rejected_weight_and_its_sum_are_untouched_and_the_gate_is_strict(form):
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimizer = CLASSP([weight], 0.1, threshold=0.25, form=form)
    weight.grad = torch.tensor([0.5, -0.5, 0.6, 0.0], dtype=torch.float64)
    optimizer.step()
    assert weight.tolist()[:2] == [1.0, 1.0]
    assert weight[2] < 1.0
    assert optimizer.state[weight]["sum"].tolist() == [0.0, 0.0, 0.6, 0.0]


@every_form
def test_a_higher_threshold_never_moves_more_weights(form):
    moved = []
    for tau in (0.0, 1e-3, 1e-2, 0.1, 1.0):
        params, _ = train(lambda p, tau=tau: CLASSP(p, 0.1, threshold=tau, form=form), steps=1)
        moved.append(int((flat(params) != flat(weights())).sum()))
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > moved[-1]


@every_form
def test_the_cap_bounds_the_effective_rate(form):
    """A weight of which nothing was asked before otherwise jumps by alpha."""
    for cap, moved in ((None, 0.1 * 1e-3 / (1e-3 + 1e-5)), (0.1, 1e-4)):
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        weight.grad = torch.full((1,), 1e-3, dtype=torch.float64)
        CLASSP([weight], 0.1, cap=cap, form=form).step()
        assert -weight.item() == pytest.approx(moved, rel=1e-12)


# -- what it must survive ----------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("threshold", [0.0, 1e-3])
@pytest.mark.parametrize(("power", "value"), [(1.0, math.nan), (2.0, math.inf), (3.0, -math.inf), (2.0, 1e30)])
def test_what_is_not_finite_is_told_and_leaves_weight_and_sum(form, threshold, power, value):
    model = torch.nn.Linear(3, 2, bias=False)
    optimizer = CLASSP(model.named_parameters(), 0.1, power=power, threshold=threshold, form=form)
    model.weight.grad = torch.full((2, 3), 0.5)
    optimizer.step()
    before, total = model.weight.detach().clone(), optimizer.state[model.weight]["sum"].clone()
    model.weight.grad[0, 1] = value
    with pytest.raises(FloatingPointError, match=r"not finite in weight \(1 of 6 weights\)"):
        optimizer.step()
    stayed = torch.zeros(2, 3, dtype=torch.bool)
    stayed[0, 1] = True
    assert torch.equal(model.weight.detach() == before, stayed)
    assert torch.equal(optimizer.state[model.weight]["sum"] == total, stayed)
    optimizer.param_groups[0]["nonfinite"] = "skip"
    optimizer.step()
    assert model.weight.isfinite().all()
    assert optimizer.state[model.weight]["sum"].isfinite().all()


@every_form
def test_zero_gradients_without_eps_stay_where_they_are(form):
    weight = torch.ones(3, requires_grad=True)
    optimizer = CLASSP([weight], 0.1, eps=0.0, form=form)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"lr": -1.0}, "lr=-1.0: expected a finite number, at least 0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"power": 0.0}, "power=0.0: expected a finite number, above 0"),
        ({"threshold": -1e-9}, "threshold=-1e-09"),
        ({"threshold": math.nan}, "threshold=nan"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"cap": 0.0}, "cap=0.0"),
        ({"mode": "code"}, "mode='code': expected one of paper, repo"),
        ({"order": "both"}, "order='both'"),
        ({"form": "slow"}, "form='slow'"),
        ({"nonfinite": "ignore"}, "nonfinite='ignore'"),
        ({"eps": 0.0, "order": "exclusive"}, "the first step would be divided by 0"),
    ],
)
def test_values_out_of_range_are_refused(knobs, said):
    with pytest.raises(ValueError, match=said):
        CLASSP(weights(), **{"lr": 0.1, **knobs})


def test_sparse_and_complex_are_refused_by_name():
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="weight: expected dense gradients of real weights, not sparse gradients"):
        CLASSP(table.named_parameters(), 0.1).step()
    weight = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    with pytest.raises(ValueError, match=r"parameter 0 of group 0.*complex"):
        CLASSP([weight], 0.1).step()


# -- groups, states, schedules -------------------------------------------------------------------------------------------------


@every_form
def test_two_groups_are_two_optimizers(form):
    """The published code gives the first group's values to all."""
    knobs = ({"lr": 0.1, "power": 1.0}, {"lr": 0.001, "power": 2.0, "threshold": 0.01, "decay": False})
    both = weights()
    together = [{"params": both[:2], **knobs[0]}, {"params": both[2:], **knobs[1]}]
    train(lambda p: CLASSP(together, 1.0, form=form), params=both)
    apart = weights()
    made = [CLASSP(apart[:2], form=form, **knobs[0]), CLASSP(apart[2:], form=form, **knobs[1])]

    class Pair(torch.optim.SGD):
        def step(self):
            for optimizer in made:
                optimizer.step()

    train(lambda p: Pair(p, 1.0), params=apart)
    assert torch.equal(flat(both), flat(apart))


def test_a_state_that_was_saved_goes_on():
    def halves(through):
        params, optimizer = train(lambda p: CLASSP(p, 0.05, power=2.0), steps=10)
        params, optimizer = through(params, optimizer)
        return train(lambda p: optimizer, steps=10, seed=2, params=params)[0]

    def by_dict(params, optimizer):
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        fresh = CLASSP(params, 1.0)
        fresh.load_state_dict(torch.load(file, weights_only=True))
        return params, fresh

    def copied(params, optimizer):
        return (lambda pair: (pair.param_groups[0]["params"], pair))(copy.deepcopy(optimizer))

    def pickled(params, optimizer):
        return (lambda pair: (pair.param_groups[0]["params"], pair))(pickle.loads(pickle.dumps(optimizer)))

    whole = halves(lambda params, optimizer: (params, optimizer))
    for way in (by_dict, copied, pickled):
        assert torch.equal(flat(halves(way)), flat(whole)), way.__name__


@pytest.mark.parametrize(("dtype", "kept"), [(torch.bfloat16, torch.float32), (torch.float16, torch.float32)])
def test_sums_are_wider_than_narrow_weights_and_stay_so(dtype, kept):
    """In 16 bits a sum of 1e-3 stalls."""
    weight = torch.zeros(2, dtype=dtype, requires_grad=True)
    optimizer = CLASSP([weight], 1e-3)
    for _ in range(6000):
        weight.grad = torch.full_like(weight, 1e-3)
        optimizer.step()
    assert optimizer.state[weight]["sum"].dtype == kept
    assert optimizer.state[weight]["sum"][0].item() == pytest.approx(6.0, rel=0.01)
    fresh = CLASSP([weight], 1e-3)
    fresh.load_state_dict(optimizer.state_dict())
    assert torch.equal(fresh.state[weight]["sum"], optimizer.state[weight]["sum"])
    wide = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    onto = CLASSP([wide], 1e-3)
    onto.load_state_dict(optimizer.state_dict())
    assert onto.state[wide]["sum"].dtype == torch.float64


def test_borders_do_nothing_unless_asked():
    params, optimizer = train(lambda p: CLASSP(p, 0.05), steps=5)
    total = flat(s["sum"] for s in optimizer.state.values())
    optimizer.switch_decay(False)
    assert torch.equal(flat(s["sum"] for s in optimizer.state.values()), total)
    assert not optimizer.param_groups[0]["decay"]
    kept = flat(params)
    optimizer.reset_state()
    assert not flat(s["sum"] for s in optimizer.state.values()).any()
    assert torch.equal(flat(params), kept)


def test_a_weight_unfrozen_later_jumps_by_alpha_at_first():
    frozen = torch.zeros(1, requires_grad=True)
    optimizer = CLASSP([frozen], 0.1)
    optimizer.step()  # no gradient: no state
    assert not optimizer.state[frozen]
    frozen.grad = torch.tensor([-2.0])
    optimizer.step()
    assert frozen.item() == pytest.approx(0.1, rel=1e-4)


def test_closures_schedules_hooks_and_maximize():
    weight = torch.ones(2, requires_grad=True)
    optimizer = CLASSP([weight], torch.tensor(0.2), decay=False)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(1))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.6))
    schedule.step()
    assert optimizer.step() is None
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.4))
    assert seen == [1, 1]
    up, down = (train(lambda p, m=m: CLASSP(p, 0.1, maximize=m), steps=1)[0] for m in (True, False))
    torch.testing.assert_close(flat(up) - flat(weights()), flat(weights()) - flat(down))


def test_two_half_batches_added_are_not_two_steps():
    def model():
        torch.manual_seed(0)
        return torch.nn.Linear(4, 2)

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    once, twice = model(), model()
    optimizer = CLASSP(once.parameters(), 0.1)
    for part in x.split(4):
        (once(part) ** 2).sum().div(8).backward()
    optimizer.step()
    other = CLASSP(twice.parameters(), 0.1)
    for part in x.split(4):
        other.zero_grad()
        (twice(part) ** 2).sum().div(8).backward()
        other.step()
    assert not torch.allclose(once.weight, twice.weight)


def test_the_same_again_to_the_bit_in_any_order_of_parameters():
    one, other = (train(lambda p: CLASSP(p, 0.05, power=2.0))[0] for _ in range(2))
    assert torch.equal(flat(one), flat(other))
    params = weights()
    turned, _ = train(lambda p: CLASSP(p[::-1], 0.05, power=2.0), params=params)
    assert torch.equal(flat(turned), flat(one))


def test_the_readable_update_is_what_torch_compiles():
    """On CUDA; here without a compiler, by dynamo alone."""
    from workbench.continual.optimizer import checked
    from workbench.continual.rule import update

    rule = checked(
        {
            "lr": 0.1,
            "power": 1.0,
            "threshold": 0.01,
            "eps": 1e-5,
            "decay": True,
            "mode": "paper",
            "order": "inclusive",
            "cap": None,
        }
    )
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(20, generator=generator) for _ in range(2))
    one, other = (weight.clone(), torch.zeros(20)), (weight.clone(), torch.zeros(20))
    update(one[0], gradient, one[1], rule)
    torch.compile(update, backend="eager", fullgraph=True)(other[0], gradient, other[1], rule._replace(lr=torch.tensor(0.1)))
    torch.testing.assert_close(one, other)
