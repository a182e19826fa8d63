"""Layers and networks: invariants; readable form, compiled loop and an independent one agree."""

import copy
import math
import re
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from workbench.knobs import KnobError
from workbench.synapse import RULES, SCHEMES, Perceptron, SaturationError, SynapseConfig, counter
from workbench.synapse.device_config import Law
from workbench.synapse.layer import STATS, SynapseLayer
from workbench.synapse.rules import pulse_counts
from workbench.synapse.training import Designs, digits_of, order_of, train, transferred

SMALL = {
    "data": "digits-8x8",
    "pool": 1,
    "hidden": "20",
    "samples": 600,
    "rate": 0.03,
    "refresh_every": 100,
    "refresh_above": 0.5,
}
DOUBLE = torch.float64


def config(**knobs):
    return SynapseConfig(**{**SMALL, **knobs})


def network(dtype=DOUBLE, **knobs):
    made = config(**knobs)
    return Perceptron([64, *made.hidden, 10], made, dtype)


def digits(dtype=DOUBLE):
    data = digits_of(config())
    return data.x.to(dtype), data.labels


def same(one, other, tolerance=0.0):
    for a, b in zip(one.layers, other.layers, strict=True):
        torch.testing.assert_close(a.g, b.g, rtol=0, atol=tolerance)
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=tolerance)
    assert one.counts() == other.counts()
    return True


EVERYTHING = {
    "cycle": 1.0, "read_noise": 0.05, "write_noise": 0.02, "step_spread": 0.3, "range_spread": 0.2, "stuck": 0.05,
    "asymmetry": 0.1,
    "pair_correlation": 0.5,
    "asymmetry_spread": 0.1, "shape_spread": 0.2, "nonlinearity_up": 2.0, "nonlinearity_down": 4.0,
}  # fmt: skip
FORMS = [
    *({"scheme": scheme} for scheme in SCHEMES),
    *({"rule": rule, "batch": 10 if rule == "netted" else 1, "scheme": "push-pull"} for rule in RULES),
    {"rule": "float", "batch": 7},
    {"batch": 32, "scheme": "alternating", "nonlinearity_up": 3.0, "nonlinearity_down": 5.0},
    EVERYTHING,
    {**EVERYTHING, "batch": 30},
    {**EVERYTHING, "scheme": "reference", "reference_point": "symmetry point"},
    {**EVERYTHING, "scheme": "alternating", "retraced": True, "rule": "coincidence"},
    {"device": "power", "nonlinearity_up": 2.0, "nonlinearity_down": 1.0, "scheme": "push-pull", "cycle": 0.5},
    {"refresh": "write-verify", "step_spread": 0.3, "stuck": 0.1},
    {**EVERYTHING, "refresh": "write-verify", "cycle": 2.0, "rate": 0.1},
    {"device": "power", "nonlinearity_up": 2.0, "refresh": "write-verify", "range_spread": 0.3, "stuck": 0.1, "rate": 0.1},
    {"device": "linear-step", "nonlinearity_up": 10.0, "range_spread": 0.3, "asymmetry": 0.3, "rate": 0.1},
    {"device": "exponential-step", "scheme": "alternating", "levels_down": 30, "asymmetry": -0.2},
    {"refresh": "ideal", "device": "linear-step", "nonlinearity_up": 5.0},
    {"error": "ternary", "rate": 0.005},
    {"error": "4 bits", "activation": "hard-tanh", "bias": True},
    {"hidden": "15,12", "rate": 0.05, "levels": 16},
]


def off_the_ladder(net):
    """Conductances moved a little, so that no sum is zero but for rounding: there a gate would hang on the order of a sum."""
    generator = torch.Generator().manual_seed(5)
    for layer in net.layers:
        moved = layer.g + 0.01 * torch.rand(layer.g.shape, generator=generator, dtype=DOUBLE).to(layer.g.dtype)
        layer.g.copy_(moved.clamp(layer.laws[..., 4], layer.laws[..., 5]))
        if net.config.rule != "float":
            layer.weight.copy_(layer.scale * (layer.g[0] - layer.g[1]))
    return net


@pytest.mark.parametrize("knobs", FORMS, ids=[" ".join(f"{k}={v}" for k, v in f.items())[:60] for f in FORMS])
def test_the_compiled_loop_is_the_readable_form(knobs):
    x, labels = digits()
    order = torch.arange(250)
    one, other = off_the_ladder(network(**knobs)), off_the_ladder(network(**knobs))
    assert one.train_samples(x, labels, order, compiled=False) == other.train_samples(x, labels, order, compiled=True)
    assert same(one, other, 1e-12)


def one_of(*values):
    return st.sampled_from(values)


DESIGNS = st.fixed_dictionaries(
    {
        "scheme": one_of(*SCHEMES), "rule": one_of(*RULES, "float"), "batch": one_of(1, 1, 7, 32),
        "rate": one_of(0.003, 0.03, 0.2),
        "device": one_of(*(law for law in Law.__args__ if law != "measured")), "levels": one_of(1, 3, 16, 64, 300),
        "levels_down": one_of(0, 10, 40), "nonlinearity_up": one_of(0.0, 0.5, 2.0, 12.0), "nonlinearity_down": one_of(0.0, 5.0),
        "retraced": st.booleans(), "step_spread": one_of(0.0, 0.3, 1.0), "range_spread": one_of(0.0, 0.3, 1.0),
        "pair_correlation": one_of(0.0, 0.5), "asymmetry": one_of(0.0, 0.3, -0.5), "asymmetry_spread": one_of(0.0, 0.2),
        "cycle": one_of(0.0, 0.5, 3.0), "cycle_unit": one_of("mean step", "% of range"), "stuck": one_of(0.0, 0.1, 0.5),
        "write_noise": one_of(0.0, 0.05), "read_noise": one_of(0.0, 0.1), "error": one_of("exact", "ternary", "4 bits"),
        "reference_point": one_of("middle", "symmetry point"), "refresh": one_of("open-loop", "write-verify", "ideal", "none"),
        "refresh_every": one_of(20, 50), "refresh_above": one_of(0.3, 0.9), "refresh_below": one_of(0.0, 0.2),
        "hidden": one_of("12", "10,8"), "activation": one_of("clip", "hard-tanh"), "bias": st.booleans(),
        "seed": st.integers(0, 99),
    }
)  # fmt: skip


@given(DESIGNS)
@settings(max_examples=25, deadline=None, derandomize=True)  # a sum of exactly zero could still be a matter of rounding
def test_any_design_is_the_same_in_both_forms_and_stays_within_its_devices_ranges(knobs):
    x, labels = digits()
    try:
        nets = [off_the_ladder(network(**knobs)) for _ in range(2)]
    except ValueError:  # a rate that asks for more pulses than the device has
        reject()
    right = []
    for net, compiled in zip(nets, (False, True), strict=True):
        with suppress(SaturationError):
            right.append(net.train_samples(x, labels, torch.arange(110), compiled=compiled))
    assert right[:1] == right[1:] or not right
    assert same(*nets, 1e-10)
    for layer in nets[0].layers:
        devices = slice(0, 1 if layer.single else 2)
        assert (layer.g[devices] >= layer.laws[devices, ..., 4]).all()
        assert (layer.g[devices] <= layer.laws[devices, ..., 5]).all()


OTHER = {
    "levels": 7,
    "levels_down": 5,
    "nonlinearity_up": 1.5,
    "nonlinearity_down": 1.5,
    "step_law": (-1.0, -0.1, 4.0, 4.0, -0.5, -0.5),
    "on_off": 20.0,
    "step_spread": 0.2,
    "range_spread": 0.2,
    "shape_spread": 0.2,
    "pair_correlation": 0.7,
    "cycle": 0.7,
    "cycle_unit": "% of range",
    "write_noise": 0.03,
    "scheme": "push-pull",
    "rate": 0.05,
    "slots": 5,
    "input_threshold": 0.3,
    "error_threshold": 0.3,
    "reference_point": "symmetry point",
    "refresh": "ideal",
    "refresh_every": 30,
    "refresh_above": 0.5,
    "refresh_below": 0.1,
    "published_noise": True,
    "retraced": True,
    "smooth": True,
}


def trained(knobs):
    net, (x, labels) = network(**knobs), digits()
    with suppress(SaturationError):
        net.train_samples(x, labels, torch.arange(60))
    return net


@given(DESIGNS)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_knob_that_is_said_to_change_nothing_changes_nothing(knobs):
    try:
        before = trained(knobs)
    except ValueError:
        reject()
    for name, reason in before.config.idle().items():
        if name in ("curve", "shape_spread") or (name, knobs["rule"]) == ("scheme", "float"):
            continue  # whose other values are refused, or leave the same weights in another state
        after = trained({**knobs, name: OTHER[name]})
        assert all(torch.equal(a.weight, b.weight) for a, b in zip(before.layers, after.layers, strict=True)), f"{name}: {reason}"


# -- an independent loop: plain Python numbers, no closed form, no shared code -------------------------------------------


def by_hand(knobs, samples):
    """Train one hidden layer of devices with plain loops: every pulse single, every sum spelt out."""
    net = off_the_ladder(network(**knobs))
    made, (x, labels) = net.config, digits()
    g = [layer.g.tolist() for layer in net.layers]
    scales, units = [layer.scale for layer in net.layers], [layer.unit for layer in net.layers]
    nu, levels = made.nonlinearity_up, made.levels

    def rise(v):
        if nu == 0:
            return min(1.0, v + 1 / levels)
        return min(1.0, v + (1 - math.exp(-nu / levels)) * (1 / (1 - math.exp(-nu)) - v))

    def weight(layer, i, j):
        return scales[layer] * (g[layer][0][i][j] - g[layer][1][i][j])

    for step in range(samples):
        a = [x[step].tolist()]
        hidden = [min(max(sum(a[0][i] * weight(0, i, j) for i in range(64)), 0.0), 1.0) for j in range(20)]
        out = [min(max(0.5 + sum(hidden[i] * weight(1, i, j) for i in range(20)), 0.0), 1.0) for j in range(10)]
        error = [(1.0 if j == labels[step] else 0.0) - out[j] for j in range(10)]
        back = [sum(weight(1, i, j) * error[j] for j in range(10)) if 0 < hidden[i] < 1 else 0.0 for i in range(20)]
        for layer, (rows, errors) in enumerate(((a[0], back), (hidden, error))):
            chance = counter.uniform(counter.key(made.seed, step, layer, counter.ROUND), len(rows), len(errors), DOUBLE).tolist()
            for i, row in enumerate(rows):
                for j, e in enumerate(errors):
                    for _ in range(math.floor(made.rate * abs(row * e) / units[layer] + chance[i][j])):
                        side = 0 if row * e > 0 else 1
                        g[layer][side][i][j] = rise(g[layer][side][i][j])
    return g


@pytest.mark.parametrize("nu", [0.0, 3.0])
def test_training_is_the_algorithm_spelt_out(nu):
    knobs = {"nonlinearity_up": nu, "refresh": "none", "rate": 0.1, "levels": 16}
    wanted, net = by_hand(knobs, 40), off_the_ladder(network(**knobs))
    x, labels = digits()
    net.train_samples(x, labels, torch.arange(40))
    for layer, g in zip(net.layers, wanted, strict=True):
        torch.testing.assert_close(layer.g, torch.tensor(g, dtype=DOUBLE), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_many_linear_levels_equal_clipped_sgd(scheme):
    """A million linear levels, no rounding to speak of: back-propagation by torch's autograd, on the same samples."""
    net = network(levels=1_000_000, rule="deterministic", rate=0.05, scheme=scheme, refresh="none", weight_scale="4")
    x, labels = digits()
    weights = [layer.weight.clone().requires_grad_() for layer in net.layers]
    for s in range(100):
        hidden = (x[s : s + 1] @ weights[0]).clamp(0, 1)
        z = hidden @ weights[1]
        target = torch.nn.functional.one_hot(labels[s : s + 1], 10).double()
        # the error is target - clip(z + 1/2), without the clip's own derivative
        (z * ((z + 0.5).clamp(0, 1) - target).detach()).sum().backward()
        with torch.no_grad():
            for w, layer in zip(weights, net.layers, strict=True):
                w -= 0.05 * w.grad
                w.clamp_(-layer.max_weight, layer.max_weight)
                w.grad = None
    net.train_samples(x, labels, torch.arange(100), compiled=False)
    for w, layer in zip(weights, net.layers, strict=True):
        step = layer.unit
        # each of 100 updates is rounded to half a pulse at most
        torch.testing.assert_close(layer.weight, w.detach(), rtol=0, atol=100 * step)
        assert step < 2e-5


# -- invariants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_conductances_stay_within_each_devices_own_bounds(scheme):
    net = network(**{**EVERYTHING, "scheme": scheme, "rate": 0.1, "cycle": 3.0})
    x, labels = digits()
    net.train_samples(x, labels, torch.arange(600) % len(x))
    for layer in net.layers:
        devices = slice(0, 1 if layer.single else 2)
        assert (layer.g[devices] >= layer.laws[devices, ..., 4]).all()
        assert (layer.g[devices] <= layer.laws[devices, ..., 5]).all()


def test_unidirectional_devices_only_rise_between_refreshes():
    net = network(nonlinearity_up=3.0, refresh_every=50)
    x, labels = digits()
    fell = 0
    for step in range(300):
        before = [layer.g.clone() for layer in net.layers]
        net.train_samples(x, labels, torch.tensor([step]))
        lower = any((layer.g < old).any() for layer, old in zip(net.layers, before, strict=True))
        assert not lower or net.step % 50 == 0
        fell += lower
    assert fell > 0


def test_unidirectional_training_does_not_know_ltd():
    x, labels = digits()
    nets = [
        network(nonlinearity_up=2.0, nonlinearity_down=down, retraced=r) for down, r in ((0.0, False), (10.0, False), (3.0, True))
    ]
    for net in nets:
        net.train_samples(x, labels, torch.arange(400))
    assert same(nets[0], nets[1])
    assert same(nets[0], nets[2])


def test_push_pull_is_the_reference_scheme_where_ltd_is_mirrored():
    x, labels = digits()
    pair, single = (network(scheme=s, nonlinearity_up=4.0, nonlinearity_down=4.0) for s in ("push-pull", "reference"))
    for a, b in zip(pair.layers, single.layers, strict=True):
        a.g[1] = 1 - a.g[0]
        b.weight.copy_(b.scale * (b.g[0] - b.g[1]))
        a.weight.copy_(b.weight)
    for net in (pair, single):
        net.train_samples(x, labels, torch.arange(300))
    for a, b in zip(pair.layers, single.layers, strict=True):
        torch.testing.assert_close(a.g[1], 1 - a.g[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-9)


def test_alternating_steps_are_half_of_push_pulls():
    assert network(scheme="alternating").layers[0].unit == network(scheme="push-pull").layers[0].unit / 2


def test_what_is_known_of_the_devices_includes_their_mean_asymmetry():
    """Unit, symmetry point and programming: 30 % larger steps up are not a surprise."""
    plain, biased = (network(asymmetry=a).layers[0] for a in (0.0, 0.3))
    assert biased.unit == pytest.approx(1.3 * plain.unit)
    assert biased.ladder[1] == pytest.approx(1.3 * plain.ladder[1])
    shape = {"nonlinearity_up": 3.0, "nonlinearity_down": 3.0, "scheme": "reference", "reference_point": "symmetry point"}
    single = network(**shape, asymmetry=0.3).layers[0]
    at = torch.tensor(single.reference, dtype=DOUBLE)
    assert 1.3 * single.device_law.rise(at) == pytest.approx(0.7 * single.device_law.fall(at).item())
    for policy in ("open-loop", "write-verify"):
        layer = worn(policy, asymmetry=0.3)
        before = layer.weight.clone()
        layer.refresh(1)
        assert (layer.weight - before).abs().max() <= 1.3 / 64 / 2 + 1e-12


def test_spreads_of_zero_are_the_path_without_spreads():
    x, labels = digits()
    plain, drawn = network(scheme="push-pull"), network(scheme="push-pull")
    for layer in drawn.layers:  # the same laws, spelt out for every device
        layer.laws = layer.laws.expand(2, *layer.weight.shape, 6).contiguous()
    for net in (plain, drawn):
        net.train_samples(x, labels, torch.arange(300))
    assert same(plain, drawn)
    spread, fresh = network(step_spread=0.3), network()
    assert torch.equal(spread.layers[0].g, fresh.layers[0].g), "spreads have a generator of their own"


def test_seeds_repeat_and_differ_and_company_does_not_matter():
    knobs = {**EVERYTHING, "scheme": "alternating"}
    configs = [config(**knobs, seed=seed) for seed in (0, 1, 2)]
    together, alone = train(*configs), train(configs[1])
    assert same(together.networks[1], alone.networks[0])
    assert not torch.equal(together.networks[0].layers[0].g, together.networks[1].layers[0].g)


def test_threads_and_cuts_do_not_matter():
    made, threads = config(**EVERYTHING), torch.get_num_threads()
    whole = train(made).networks[0]
    torch.set_num_threads(2 if threads == 1 else 1)
    cut = Designs([made])
    for until in (1, 100, 350, None):
        cut.advance(until)
    torch.set_num_threads(threads)
    assert same(whole, cut.networks[0])


@pytest.mark.parametrize("rule", ["stochastic", "netted"])
def test_batches_are_not_cut_by_looking(rule):
    """The same result however often one looks: an advance ends with a batch."""
    made = config(batch=32, rule=rule, refresh_every=100)
    whole, looked = train(made), Designs([made])
    for until in range(50, 650, 50):
        looked.advance(until)
        assert looked.networks[0].step % 32 == 0 or looked.networks[0].step == 600
    assert same(whole.networks[0], looked.networks[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": torch.zeros(5, 63, dtype=DOUBLE)}, r"x: \(5, 63\), .*expected shape \(samples, 64\)"),
        ({"x": torch.zeros(5, 64)}, "x: .*float32; expected .*float64"),
        ({"labels": torch.tensor([0, 1, 2, 3, 10])}, "labels: values from 0 to 10; expected 0 to 9"),
        ({"labels": torch.tensor([0, 1, -2, 3, 9])}, "labels: values from -2 to 9"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "expected one label for each of 5 samples"),
        ({"order": torch.tensor([0, 5])}, "order: values from 0 to 5; expected 0 to 4"),
        ({"x": torch.full((5, 64), torch.nan, dtype=DOUBLE)}, "x: some inputs are infinite or NaN"),
    ],
)
def test_samples_that_would_be_read_from_beyond_an_array_are_refused(change, said):
    good = {"x": torch.zeros(5, 64, dtype=DOUBLE), "labels": torch.zeros(5, dtype=torch.int64), "order": torch.arange(5)}
    with pytest.raises(ValueError, match=said):
        network().train_samples(**{**good, **change})


def test_a_black_picture_and_a_perfect_answer_send_no_pulse():
    net = network(scheme="push-pull")
    layer = net.layers[0]
    assert not pulse_counts(
        net.config, torch.zeros(64, dtype=DOUBLE), torch.ones(20, dtype=DOUBLE), layer.unit, True, (0, 0, 0)
    ).any()
    for rule in RULES[:4]:
        made = config(rule=rule)
        counts = pulse_counts(made, torch.ones(64, dtype=DOUBLE), torch.zeros(20, dtype=DOUBLE), layer.unit, True, (0, 0, 0))
        assert not counts.any()


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["stochastic", "coincidence"])
@given(st.floats(0.05, 1), st.floats(-1, 1).filter(lambda d: abs(d) > 0.02), st.floats(0.005, 0.3))
@settings(max_examples=15, deadline=None)
def test_rounding_is_right_on_average(rule, x, delta, rate):
    made, unit, tries = config(rule=rule, rate=rate, slots=63), 0.05, 1500
    row, column = torch.tensor([x], dtype=DOUBLE), torch.tensor([delta], dtype=DOUBLE)
    counts = torch.stack([pulse_counts(made, row, column, unit, False, (7, t, 1)) for t in range(tries)]).double()
    assert (counts == counts.round()).all()
    asked = rate * x * delta / unit
    error = max(counts.std().item(), abs(asked) ** 0.5) / tries**0.5 + 1 / tries
    assert counts.mean().item() == pytest.approx(asked, abs=4.5 * error)


def test_counts_rounded_to_nearest_have_a_dead_zone():
    made, unit = config(rule="deterministic", rate=0.1), 0.05
    for delta, wanted in ((0.24, 0), (0.26, 1), (-0.26, -1), (0.76, 2)):
        column = torch.tensor([delta], dtype=DOUBLE)
        assert pulse_counts(made, torch.ones(1, dtype=DOUBLE), column, unit, False, (0, 0, 0)).item() == wanted


def test_uniform_draws_are_uniform_and_independent():
    from scipy import stats

    u = counter.uniform(counter.key(3, 14, 1, counter.ROUND), 400, 500, DOUBLE)
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
    for shifted in (u[1:, :] * 1, u.roll(1, 1)[1:, :]):
        assert abs(np.corrcoef(u[:-1].flatten(), shifted.flatten())[0, 1]) < 0.01
    steps = torch.stack([counter.uniform(counter.key(3, t, 1, counter.ROUND), 20, 20, DOUBLE) for t in range(500)])
    assert abs(np.corrcoef(steps[:-1].flatten(), steps[1:].flatten())[0, 1]) < 0.01
    n = counter.normal(counter.key(1), 400, 500, DOUBLE).flatten().numpy()
    assert stats.kstest(n, "norm").pvalue > 1e-3


# -- refresh -----------------------------------------------------------------------------------------------------------


def worn(policy="open-loop", seed=0, **knobs):
    """A layer whose pairs lie anywhere on the ladder, before a refresh."""
    made = config(refresh=policy, refresh_above=0.0, seed=seed, **knobs)
    layer = SynapseLayer(30, 40, made, 1.0, 0, DOUBLE)
    generator = torch.Generator().manual_seed(seed)
    g = layer.ladder[-1] * torch.rand(2, 30, 40, generator=generator, dtype=DOUBLE)
    layer.g.copy_(g.clamp(layer.laws[..., 4], layer.laws[..., 5]))
    layer.weight.copy_(layer.g[0] - layer.g[1])
    return layer


@pytest.mark.parametrize("policy", ["open-loop", "write-verify"])
@pytest.mark.parametrize(
    ("law", "levels", "nu"),
    [
        *(("exponential", levels, nu) for levels, nu in ((1, 0.0), (2, 1.0), (64, 0.0), (64, 5.0), (500, 3.0))),
        ("power", 64, 2.0),
        ("power", 16, 0.5),
        ("linear-step", 64, 10.0),
        ("linear-step", 64, 5.0),
        ("PCM (rise only)", 64, 0.0),
    ],
)
def test_refresh_keeps_the_weight_within_half_a_local_step(policy, law, levels, nu):
    layer = worn(policy, device=law, levels=levels, nonlinearity_up=nu)
    before = layer.weight.clone()
    layer.refresh(1)
    at = layer.nearest(before.abs())
    ladder = layer.ladder
    local = torch.maximum(ladder[at] - ladder[(at - 1).clamp(min=0)], ladder[(at + 1).clamp(max=len(ladder) - 1)] - ladder[at])
    assert ((layer.weight - before).abs() <= local / 2 + 1e-12).all()
    assert (layer.weight * before >= 0).all(), "a sign never flips"
    assert (layer.g.amin(0) == 0).all(), "one of the pair is at Gmin"
    again = layer.g.clone()
    layer.refresh(2)
    torch.testing.assert_close(layer.g, again, rtol=0, atol=1e-12)


def test_an_ideal_refresh_keeps_the_weight_and_so_do_a_million_levels():
    ideal, fine = worn("ideal"), worn(levels=1_000_000)
    for layer, tolerance in ((ideal, 1e-15), (fine, 1e-6)):
        before = layer.weight.clone()
        layer.refresh(1)
        torch.testing.assert_close(layer.weight, before, rtol=0, atol=tolerance)


def test_pairs_below_the_thresholds_are_left_alone_and_costs_are_counted():
    layer = worn(refresh_below=0.3)
    layer.config = layer.config.replace(refresh_above=0.8)
    before, hit = layer.g.clone(), (layer.g.amax(0) > 0.8) & (layer.g.amin(0) > 0.3)
    layer.refresh(1)
    assert torch.equal(layer.g[:, ~hit], before[:, ~hit])
    cost = dict(zip(STATS, layer.stats.tolist(), strict=True))
    assert cost["refreshed"] == hit.sum()
    assert cost["resets"] == 2 * hit.sum()
    assert cost["reads"] == 2 * hit.numel() + 2 * hit.sum()
    assert cost["refresh_pulses"] == layer.nearest((before[0] - before[1]).abs())[hit].sum()
    assert cost["pulses"] == 0


@pytest.mark.parametrize("policy", ["open-loop", "write-verify", "ideal"])
def test_stuck_devices_never_move_and_their_partners_make_up_for_them(policy):
    layer = worn(policy, stuck=0.3)
    stuck = layer.laws[..., 4] == layer.laws[..., 5]
    assert stuck.double().mean().item() == pytest.approx(0.3, abs=0.05)
    before = layer.g.clone()
    layer.pulse(torch.ones(30, 40, dtype=torch.int64), 1)
    layer.pulse(-torch.ones(30, 40, dtype=torch.int64), 2)
    weight = layer.weight.clone()
    layer.refresh(3)
    assert torch.equal(layer.g[stuck], before[stuck])
    torch.testing.assert_close(layer.weight, weight, rtol=0, atol=1 / 64 / 2 + 1e-12)
    assert layer.stats[STATS.index("missed")] == 0


@pytest.mark.parametrize("policy", ["open-loop", "write-verify", "ideal"])
@pytest.mark.parametrize(("side", "wanted"), [(0, 0.3), (1, -0.3)])
def test_a_partner_stuck_at_gmax_does_not_cost_the_weight(policy, side, wanted):
    layer = SynapseLayer(1, 1, config(refresh=policy, stuck=0.1), 1.0, 0, DOUBLE)
    layer.laws = torch.tensor([1 / 64, 0, 1 / 64, 0, 0, 1], dtype=DOUBLE).repeat(2, 1, 1, 1)
    layer.laws[side, ..., 4:] = 1.0
    layer.g[side], layer.g[1 - side] = 1.0, 0.7
    layer.refresh(1)
    assert layer.weight.item() == pytest.approx(wanted, abs=1 / 128 + 1e-12)
    assert layer.g[side].item() == 1.0


@pytest.mark.parametrize("compiled", [False, True])
def test_pairs_are_refreshed_at_a_share_of_their_own_range(compiled):
    """A device whose Gmax is half the nominal one is full at half, and has to be seen."""
    net = network(range_spread=0.3, refresh_above=0.9, refresh_every=100, rate=0.1)
    for layer in net.layers:
        layer.laws[..., 0] *= 0.5
        layer.laws[..., 5] *= 0.5
        layer.g.mul_(0).add_(0.95 * layer.laws[..., 5])
        layer.weight.zero_()
    x, labels = digits()
    with suppress(SaturationError):
        net.train_samples(x, labels, torch.arange(100), compiled=compiled)
    assert all(layer.stats[STATS.index("refreshed")] == layer.weight.numel() for layer in net.layers)


@pytest.mark.parametrize("cycle", [0.5, 1.0, 2.0])
def test_write_verify_gets_there_through_cycle_noise(cycle):
    """A pulse that noise throws back to Gmin is not the end: what is left is a noisy step or so, not the weight."""
    layer = worn("write-verify", cycle=cycle)
    before = layer.weight.clone()
    layer.refresh(1)
    error = (layer.weight - before).abs() * 64
    assert error.mean().item() < 1 + cycle
    # a weight next to Gmax may be out of reach of the last noisy pulse; none is left at zero
    assert (layer.weight[before.abs() > 0.2] != 0).all()
    assert (error > 5 * (1 + cycle)).double().mean().item() < 0.005


# -- transfer, counts, bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("law", "nu"), [("exponential", 0.0), ("exponential", 3.0), ("power", 2.0), ("linear-step", 10.0)])
def test_written_weights_come_back_within_half_a_level_or_are_counted_as_cut(scheme, law, nu):
    layer = SynapseLayer(30, 40, config(scheme=scheme, device=law, nonlinearity_up=nu), 0.5, 0, DOUBLE)
    wanted = torch.randn(30, 40, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 0.3
    cut, top = layer.write(wanted), layer.ladder[-1].item()
    largest = 2 * (top - 0.5) * 0.5 if scheme == "reference" else top * 0.5
    lowest = -0.5 if scheme == "reference" else -largest
    assert cut == ((wanted > largest) | (wanted < lowest)).sum() > 0
    half = layer.ladder.diff().max().item() * layer.scale / 2
    assert ((layer.weight - wanted.clamp(lowest, largest)).abs() <= half + 1e-9).all()


@pytest.mark.parametrize(
    ("law", "nu", "scheme"), [("power", 2.0, "uni"), ("power", 2.0, "push-pull"), ("linear-step", 10.0, "push-pull")]
)
def test_every_device_starts_from_the_same_weights(law, nu, scheme):
    """Half a step apart: the programming ladder reaches the start of any law, not only of those that end at 1."""
    one, other = (network(scheme=scheme, device=d, nonlinearity_up=nu) for d in ("linear", law))
    for a, b in zip(one.layers, other.layers, strict=True):
        worst = sum(layer.ladder.diff().max().item() for layer in (a, b)) * a.scale
        assert (a.weight - b.weight).abs().max().item() <= worst


def test_software_weights_survive_the_transfer():
    software = train(config(rule="float", samples=3000)).networks[0]
    made, cut = transferred(software, config(levels=256))
    assert cut == 0
    data = digits_of(config())
    accuracy = software.accuracy(data.x_test, data.labels_test)
    assert accuracy > 0.85
    assert made.accuracy(data.x_test, data.labels_test) == pytest.approx(accuracy, abs=0.02)


def test_pulses_are_counted_and_clipped_ones_apart():
    layer = SynapseLayer(1, 1, config(levels=4, scheme="uni"), 1.0, 0, DOUBLE)
    layer.write(torch.zeros(1, 1, dtype=DOUBLE))
    for step in range(6):
        layer.pulse(torch.tensor([[1]]), step)
    cost = dict(zip(STATS, layer.stats.tolist(), strict=True))
    assert (cost["pulses"], cost["clipped"]) == (6, 2)


@pytest.mark.parametrize("scheme", ["uni", "push-pull"])
@pytest.mark.parametrize("nu", [0.0, 5.0, 10.0])
def test_the_nonlinearity_does_not_blow_up_the_first_samples(nu, scheme):
    """The unit step is the step where the devices are: with w_max / N instead, nu >= 5 diverged."""
    knobs = {"nonlinearity_up": nu, "nonlinearity_down": nu, "scheme": scheme, "rate": 0.02}
    nets = [network(**knobs, seed=seed) for seed in range(4)]
    x, labels = digits()
    for net in nets:
        net.train_samples(x, labels, torch.arange(500))
    assert sum(net.accuracy(x, labels) for net in nets) / 4 > 0.17


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"levels": 0}, "levels=0: expected a whole number from 1 to"),
        ({"levels": 2.5}, "levels=2.5"),
        ({"on_off": 0.5}, "on_off=0.5: expected a number from 1.01"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"device": "memristor"}, "device='memristor': expected one of exponential"),
        ({"device": "measured"}, "curve=''"),
        ({"device": "measured", "curve": "nowhere.csv"}, "nowhere.csv"),
        ({"hidden": "20,x"}, "hidden='x': expected whole numbers from 1 to 99999, separated by commas"),
        ({"hidden": "0"}, "hidden=(0,)"),
        ({"weight_scale": "1,2,3"}, "weight_scale=(1.0, 2.0, 3.0): expected one number, or one for each of the 2 layers"),
        ({"refresh_below": 0.6}, "refresh_below=0.6, refresh_above=0.5: expected refresh_below < refresh_above"),
        ({"device": "power", "levels": 100_000}, "levels=100000: expected at most 65,536"),
        ({"device": "exponential-step", "step_law": "1,2"}, "step_law=(1, 2): expected 6 numbers"),
        ({"device": "exponential-step", "step_law": "1,2,x"}, "step_law=(1, 2, 'x'): expected 6 numbers, separated"),
        ({"device": "power", "shape_spread": 0.1}, "shape_spread=0.1: device='power' has no shape"),
        ({"bits": 3}, "'bits' is not a knob"),
    ],
)
def test_wrong_knobs_are_refused_by_name(knobs, said):
    with pytest.raises(KnobError, match=re.escape(said)):
        config(**knobs)


def test_a_rate_whose_pulses_overflow_is_refused_with_the_largest_that_fits():
    with pytest.raises(
        ValueError,
        match=r"rate=1.0: an input of 1 and an error of 1 request \d+ pulses in layer 1, whose devices have 64 levels; "
        r".* at most 0\.\d",
    ):
        network(rate=1.0, weight_scale="0.1")


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("scale", ["50", "0.001"])
def test_a_network_that_cannot_learn_says_so_within_a_hundred_samples(compiled, scale):
    net, end = network(weight_scale=scale, rate=0.0001, levels=8), "lower"
    if scale == "0.001":  # the other way to fall silent
        end = "upper"
        for layer in net.layers:
            layer.weight.fill_(1.0)
    x, labels = digits()
    with pytest.raises(
        SaturationError, match=f"first 100 samples, all .* are at their {end} limit.*try weight_scale=[01]"
    ) as error:
        net.train_samples(x, labels, torch.arange(300), compiled=compiled)
    assert net.step == 100
    advice = str(error.value).rpartition("weight_scale=")[2]
    better = network(weight_scale=advice, rate=0.001, levels=64)
    better.train_samples(x, labels, torch.arange(300), compiled=compiled)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_start_that_is_rounded_to_nothing_is_told_apart(levels):
    """All weights 0, since they are less than half a step: a larger scale would not help, a smaller one does."""
    x, labels = digits()
    net = network(levels=levels, weight_scale="2")
    with pytest.raises(SaturationError, match="all weights are 0, since the initial weights") as error:
        net.train_samples(x, labels, torch.arange(200))
    better = network(levels=levels, weight_scale=str(error.value).rpartition("weight_scale=")[2])
    better.train_samples(x, labels, torch.arange(200))
    black = network()
    with pytest.raises(SaturationError, match="all inputs of the layer are 0"):
        black.train_samples(0 * x, labels, torch.arange(200))


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_binary_devices_work(levels, scheme):
    net = network(levels=levels, scheme=scheme)
    x, labels = digits()
    with suppress(SaturationError):  # a start that is all zero, which is said
        net.train_samples(x, labels, torch.arange(300))
    for layer in net.layers:
        assert set((layer.g * levels).unique().tolist()) <= {0.0, 0.5, 1.0, 2.0}


def test_the_order_is_whole_passes():
    made = config(samples=1000)
    order = order_of(made, 400)
    assert len(order) == 1000
    assert order[:400].sort().values.tolist() == list(range(400))
    assert order[400:800].sort().values.tolist() == list(range(400))
    assert not torch.equal(order[:400], order[400:800])


def test_a_copied_network_goes_on_alike():
    net = network(**EVERYTHING)
    x, labels = digits()
    net.train_samples(x, labels, torch.arange(150))
    other = copy.deepcopy(net)
    for each in (net, other):
        each.train_samples(x, labels, torch.arange(150, 300))
    assert same(net, other)


# -- variation ---------------------------------------------------------------------------------------------------------


def test_spreads_are_what_they_say():
    layer = SynapseLayer(60, 50, config(step_spread=0.2, range_spread=0.1, levels=100), 1.0, 0, DOUBLE)
    high, slope = layer.laws[..., 5], layer.laws[..., 0] / layer.laws[..., 5] * 100
    assert high.std().item() == pytest.approx(0.1, rel=0.05)
    assert slope.std().item() == pytest.approx(0.2, rel=0.05)
    down = layer.laws[..., 2] / layer.laws[..., 5] * 100
    correlation = np.corrcoef(torch.stack([slope.flatten(), down.flatten(), slope[[1, 0]].flatten()]))
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.05, "LTP, LTD and the two devices are drawn apart"


@pytest.mark.parametrize("shared", [0.5, 1.0])
def test_devices_of_a_pair_may_be_alike(shared):
    layer = SynapseLayer(60, 50, config(step_spread=0.2, range_spread=0.1, pair_correlation=shared), 1.0, 0, DOUBLE)
    for law in (0, 2, 5):
        plus, minus = layer.laws[0, ..., law].flatten(), layer.laws[1, ..., law].flatten()
        assert np.corrcoef(plus, minus)[0, 1] == pytest.approx(shared, abs=0.05)


def test_values_drawn_out_of_bounds_are_raised_and_counted():
    layer = SynapseLayer(60, 50, config(step_spread=1.0, range_spread=1.0), 1.0, 0, DOUBLE)
    assert layer.clamped > 1000
    assert (layer.laws[..., 5] >= 0.1).all()
    assert (layer.laws[..., 0] > 0).all()


def test_both_conventions_of_cycle_noise():
    """3.5 % of the range at 97 levels are 3.4 mean steps."""
    units = ((3.5, "% of range"), (3.395, "mean step"))
    percent, steps = (config(levels=97, cycle=value, cycle_unit=unit) for value, unit in units)
    assert percent.cycle_of_range(97) == pytest.approx(steps.cycle_of_range(97))
    layer = SynapseLayer(80, 80, config(levels=97, cycle=3.5, cycle_unit="% of range", scheme="uni"), 1.0, 0, DOUBLE)
    layer.g.fill_(0.5)
    layer.pulse(torch.full((80, 80), 4), 1)
    assert layer.g[0].std().item() == pytest.approx(0.035 * 2, rel=0.03)  # grows with the root of the pulses
    assert layer.g[0].mean().item() == pytest.approx(0.5 + 4 / 97, abs=0.004)


@pytest.mark.parametrize(("law", "nu"), [("exponential", 0.0), ("exponential", 2.0), ("exponential", 5.0), ("power", 2.0)])
def test_noise_of_many_pulses_is_that_of_single_pulses_in_turn(law, nu):
    """Later pulses on a saturating device damp the noise of earlier ones; NeuroSim's root of n is right for lines only."""
    made = config(device=law, nonlinearity_up=nu, cycle=0.3, step_spread=0.0)
    at_once, in_turn = (SynapseLayer(80, 80, made, 1.0, 0, DOUBLE) for _ in range(2))
    for layer in (at_once, in_turn):
        layer.g.fill_(0.2)
    at_once.move(0, torch.full((80, 80), 25), True, 7)
    for pulse in range(25):
        in_turn.move(0, torch.ones(80, 80, dtype=torch.int64), True, counter.key(pulse))
    assert at_once.g[0].std().item() == pytest.approx(in_turn.g[0].std().item(), rel=0.04)
    assert at_once.g[0].mean().item() == pytest.approx(in_turn.g[0].mean().item(), abs=0.003)


@pytest.mark.parametrize("scheme", ["uni", "push-pull", "reference"])
def test_write_noise_is_a_share_of_the_largest_weight(scheme):
    layer = SynapseLayer(80, 80, config(scheme=scheme, write_noise=0.1), 0.5, 0, DOUBLE)
    quiet = layer.scale * (layer.g[0] - layer.g[1])
    assert (layer.weight - quiet).std().item() == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize("knobs", [{"rule": "single", "input_threshold": 0.25}, {"refresh_above": 0.6, "levels": 20}])
def test_values_on_a_threshold_are_judged_alike_in_single_precision(knobs):
    """0.6 in float32 lies above 0.6: both forms compare in float64."""
    x, labels = digits(torch.float32)
    one, other = (network(torch.float32, **knobs) for _ in range(2))
    for net in (one, other):
        for layer in net.layers:
            layer.g.copy_(torch.tensor([0.6, 0.4], dtype=torch.float32)[:, None, None].expand_as(layer.g))
            layer.g[:, ::2, ::3] = 0.25
            layer.weight.copy_(layer.scale * (layer.g[0] - layer.g[1]))
    with suppress(SaturationError):
        one.train_samples(x, labels, torch.arange(100), compiled=False)
    with suppress(SaturationError):
        other.train_samples(x, labels, torch.arange(100), compiled=True)
    assert one.counts()["refreshed"] == other.counts()["refreshed"]
    assert one.counts()["pulses"] == pytest.approx(other.counts()["pulses"], rel=0.01)


def test_a_published_device_may_bring_its_own_noise():
    made = config(device="Ag:a-Si", published_noise=True, cycle=9.0)
    assert (made.resolved().cycle, made.resolved().cycle_unit) == (3.5, "% of range")
    net = Perceptron([64, 20, 10], made, DOUBLE)
    assert net.config.cycle == net.layers[0].config.cycle == 3.5
    assert net.layers[0].device_law.levels == 97
    assert config(device="Gokmen-Vlasov", published_noise=True).resolved().step_spread == 0.3
    assert config(device="Ag:a-Si", cycle=9.0).resolved().cycle == 9.0
