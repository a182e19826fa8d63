"""The solver equals an independent float64 reference, for all methods, bits, groups, orders and grids."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import make_layer
from oracle import quantize

from workbench.quantization import METHODS, column_loop, layer_solver, layer_statistics, quantize_layer
from workbench.quantization import SolverConfig as Options
from workbench.quantization.lab.inside import best_free_columns
from workbench.quantization.lab.layers import LayerSource, load_layer
from workbench.quantization.objective import Objective
from workbench.quantization.statistics import factor_hessian, propagation

STRENGTHS = {  # alpha, beta, rho of the oracle
    "gptq": (0, 0, None),
    "gptq+rescomp": (0, 0.25, None),
    "foem": (0, 0.25, None),
    "gptaq": (0.25, 0, None),
    "gptaq+rescomp": (0.25, 0.25, None),
    "exact": (0, 0, 1.0),
}
GRIDS = [(True, "quarot"), (True, "ist"), (False, "quarot")]


def errors(layer, weight):
    return (layer.x @ weight.T - layer.reference @ layer.weight.T).norm() / (layer.reference @ layer.weight.T).norm()


def oracle(layer, method, **options):
    alpha, beta, rho = STRENGTHS[method]
    cross = None if method in ("gptq", "gptq+rescomp", "foem") else layer.cross.numpy()
    return quantize(layer.weight.numpy(), layer.hessian.numpy(), cross, a1=alpha, a2=beta, rho=rho, **options)


def rows_without_ties(result, before):
    """Rows whose every weight is well off the middle between two levels: IST's largest weight lies on it by design."""
    scale, zero = result.scale[:, result.group], result.zero[:, result.group]
    part = (before / scale + zero).frac().abs()
    return ((part - 0.5).abs() > 1e-7).all(1)


@given(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from([*METHODS, "foem"]),
            "bits": st.sampled_from([2, 3, 4, 8]),
            "group_size": st.sampled_from([None, 5, 16, 48]),
            "symmetric": st.booleans(),
            "grid": st.sampled_from(["quarot", "ist"]),
            "damping": st.sampled_from([0.001, 0.01, 0.3]),
            "alpha": st.floats(0, 1),
            "beta": st.floats(0, 1),
            "rho": st.floats(0, 1),
            "r2_part": st.sampled_from(["full", "x", "dx"]),
        }
    ),
    st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_the_loop_to_read_is_the_fast_solver(options, seed):
    """But for weights that lie on the middle between two levels, as IST's largest does by design."""
    made = make_layer(seed=seed)
    read = column_loop(made.weight, made.hessian, made.cross, Options(**options))
    fast = quantize_layer(made.weight, made.hessian, made.cross, trace=True, **options)
    rows = rows_without_ties(fast, fast.trace.before)
    torch.testing.assert_close(read[rows], fast.weight[rows], atol=1e-9, rtol=0)


CHANGES = {
    "grid": "ist",
    "damping": 0.2,
    "act_order": True,
    "static_groups": True,
    "block_size": 16,
    "alpha": 0.9,
    "beta": 0.9,
    "rho": 0.4,
    "r2_part": "x",
    "compat": "published",
}


@given(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from([*METHODS, "foem"]),
            "group_size": st.sampled_from([None, 16]),
            "symmetric": st.booleans(),
            "beta": st.sampled_from([0.0, 0.25]),
        }
    )
)
@settings(max_examples=25, deadline=None)
def test_a_knob_that_is_said_to_change_nothing_changes_nothing(options):
    made, config = make_layer(), Options(**options)
    before = quantize_layer(made.weight, made.hessian, made.cross, **options).weight
    for name, reason in config.idle().items():
        after = quantize_layer(made.weight, made.hessian, made.cross, **{**options, name: CHANGES[name]}).weight
        torch.testing.assert_close(after, before, atol=1e-9, rtol=0, msg=f"{name}: {reason}")


@pytest.mark.parametrize("method", STRENGTHS)
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(("symmetric", "grid"), GRIDS)
@pytest.mark.parametrize("act_order", [False, True])
def test_equals_the_oracle(layer, method, bits, symmetric, grid, act_order):
    for group, static, clip in [(None, False, True), (16, False, False), (20, False, False), (12, True, True)]:
        options = {"bits": bits, "symmetric": symmetric, "grid": grid, "act_order": act_order}
        theirs, before = oracle(layer, method, group=group, static=static, clip=clip, **options)
        ours = quantize_layer(
            layer.weight, layer.hessian, layer.cross, method=method, group_size=group, static_groups=static,
            clip_search=clip, **options,
        )  # fmt: skip
        sure = rows_without_ties(ours, torch.from_numpy(before))
        assert sure.sum() >= (1 if grid == "ist" and symmetric else len(sure) - 2)
        np.testing.assert_allclose(ours.weight[sure], theirs[sure.numpy()], atol=1e-12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    columns=st.integers(1, 40),
    out=st.integers(1, 6),
    group=st.none() | st.integers(1, 45),
    method=st.sampled_from(sorted(STRENGTHS)),
    bits=st.sampled_from([2, 3, 4, 8]),
    symmetric=st.booleans(),
    act_order=st.booleans(),
    static=st.booleans(),
)
def test_equals_the_oracle_on_any_shape(seed, columns, out, group, method, bits, symmetric, act_order, static):
    made = make_layer(out, columns, 3 * columns + 5, seed)
    options = {"bits": bits, "symmetric": symmetric, "act_order": act_order}
    theirs, before = oracle(made, method, group=group, static=static, **options)
    ours = quantize_layer(made.weight, made.hessian, made.cross, method=method, group_size=group, static_groups=static, **options)
    sure = rows_without_ties(ours, torch.from_numpy(before))
    np.testing.assert_allclose(ours.weight[sure], theirs[sure.numpy()], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    group=st.none() | st.sampled_from([1, 5, 8, 16, 24, 48]),
    method=st.sampled_from(METHODS),
    blocks=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    act_order=st.booleans(),
)
def test_the_clean_form_does_not_depend_on_the_block_size(seed, group, method, blocks, act_order):
    made = make_layer(8, 48, 300, seed)
    options = {"method": method, "group_size": group, "act_order": act_order}
    whole = quantize_layer(made.weight, made.hessian, made.cross, block_size=48, **options)
    for block in blocks:
        part = quantize_layer(made.weight, made.hessian, made.cross, block_size=block, **options)
        torch.testing.assert_close(part.weight, whole.weight, atol=1e-12, rtol=0)


def test_watching_does_not_change_the_result(layer):
    options = Options(method="gptaq+rescomp", group_size=16, block_size=7)
    solver = layer_solver(layer.weight, layer.hessian, layer.cross, options, trace=True)
    seen = list(solver.steps())
    assert seen[-1] == 48
    assert seen == sorted(set(seen))
    plain = quantize_layer(layer.weight, layer.hessian, layer.cross, group_size=16)
    torch.testing.assert_close(solver.result().weight, plain.weight, atol=1e-13, rtol=0)


def test_columns_in_flight_are_up_to_date(layer):
    """After each look the free columns are the least-squares repair of those done (GPTQ, no damping)."""
    options = Options(method="gptq", damping=0.0, block_size=5)
    solver = layer_solver(layer.weight, layer.hessian, None, options)
    for done in solver.steps():
        if done < 48:
            brute = best_free_columns(solver.current()[:, :done], layer.x, layer.x @ layer.weight.T)
            torch.testing.assert_close(solver.current()[:, done:], brute, atol=1e-9, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("group", [None, 64])
def test_float32_agrees_with_float64(method, group):
    """Ties flip a few codes in float32; the objective does not move."""
    made = make_layer(64, 256, 2048, 3)
    options = {"method": method, "bits": 3, "group_size": group, "act_order": True}
    double = quantize_layer(made.weight, made.hessian, made.cross, **options)
    single = quantize_layer(made.weight.float(), made.hessian.float(), made.cross.float(), **options)
    assert single.weight.dtype == torch.float32
    assert (single.codes != double.codes).double().mean() < 0.005
    assert errors(made, single.weight.double()) == pytest.approx(errors(made, double.weight).item(), rel=2e-3)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("static", [True, False])
def test_codes_and_scales_are_the_weight(layer, symmetric, act_order, static):
    for bits in (2, 3, 4, 5, 6, 7, 8):
        r = quantize_layer(
            layer.weight, layer.hessian, layer.cross, bits=bits, group_size=16, symmetric=symmetric,
            act_order=act_order, static_groups=static,
        )  # fmt: skip
        assert torch.equal(r.weight, (r.codes - r.zero[:, r.group]) * r.scale[:, r.group])
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
        assert low <= r.codes.min() <= r.codes.max() <= high
        assert sorted(r.permutation.tolist()) == list(range(48))
        if static:
            assert torch.equal(r.group, torch.arange(48) // 16)


# -- invariants --------------------------------------------------------------------------------------------


def result(layer, **options):
    return quantize_layer(layer.weight, layer.hessian, layer.cross, **options).weight


@pytest.mark.parametrize("group", [None, 16])
def test_with_a_diagonal_hessian_nothing_propagates(layer, group):
    for diagonal in (torch.eye(48), torch.diag(torch.rand(48) + 0.1)):
        rtn = quantize_layer(layer.weight, diagonal.double(), method="rtn", group_size=group).weight
        for method in ("gptq", "gptq+rescomp"):
            other = quantize_layer(layer.weight, diagonal.double(), method=method, group_size=group).weight
            assert torch.equal(other, rtn)


def test_methods_meet_where_their_terms_vanish(layer):
    assert torch.equal(result(layer, method="gptaq+rescomp", alpha=0.0, beta=0.0), result(layer, method="gptq"))
    assert torch.equal(result(layer, method="gptaq+rescomp", beta=0.0), result(layer, method="gptaq"))
    assert torch.equal(result(layer, method="exact", rho=0.0), result(layer, method="gptq"))
    assert torch.equal(result(layer, method="foem"), result(layer, method="gptq+rescomp"))
    for zero in (None, torch.zeros_like(layer.cross)):
        same = {m: quantize_layer(layer.weight, layer.hessian, zero, method=m).weight for m in METHODS}
        torch.testing.assert_close(same["gptaq"], same["gptq"], atol=1e-13, rtol=0)
        torch.testing.assert_close(same["gptaq+rescomp"], same["gptq+rescomp"], atol=1e-13, rtol=0)
        torch.testing.assert_close(same["exact"], same["gptq"], atol=1e-13, rtol=0)
    assert not torch.equal(result(layer, method="gptaq"), result(layer, method="gptq"))


def test_the_parts_of_r2_add_up(layer):
    """r2's two parts are different updates; without cross statistics only the X part is left."""
    parts = {p: result(layer, method="gptaq+rescomp", r2_part=p) for p in ("full", "x", "dx")}
    assert len({tuple(w.flatten().tolist()) for w in parts.values()}) == 3
    no_cross = {p: quantize_layer(layer.weight, layer.hessian, method="gptaq+rescomp", r2_part=p).weight for p in parts}
    assert torch.equal(no_cross["x"], no_cross["full"])
    assert torch.equal(no_cross["dx"], result(layer, method="gptq"))


def test_the_first_column_is_rounded_to_nearest(layer):
    rtn = result(layer, method="rtn")
    for method in METHODS[:-1]:
        assert torch.equal(result(layer, method=method)[:, 0], rtn[:, 0])


def test_weights_on_the_grid_stay_there(layer):
    on_grid = result(layer, method="rtn", bits=4)
    for method in ("gptq", "gptq+rescomp"):
        again = quantize_layer(on_grid, layer.hessian, layer.cross, method=method, bits=4).weight
        torch.testing.assert_close(again, on_grid, atol=1e-13, rtol=0)
    moved = quantize_layer(on_grid, layer.hessian, layer.cross, method="gptaq", bits=4, alpha=1.0).weight
    assert not torch.allclose(moved, on_grid), "GPTAQ moves weights to repay the other stream's difference"


@pytest.mark.parametrize("method", METHODS)
def test_what_a_solver_must_not_depend_on(layer, method):
    options = {"method": method, "group_size": 16}
    base = result(layer, **options)
    scaled = quantize_layer(layer.weight, 7 * layer.hessian, 7 * layer.cross, **options).weight
    torch.testing.assert_close(scaled, base, atol=1e-12, rtol=0)
    rows = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    permuted = quantize_layer(layer.weight[rows], layer.hessian, layer.cross, **options).weight
    torch.testing.assert_close(permuted, base[rows], atol=1e-12, rtol=0)
    larger = quantize_layer(3 * layer.weight, layer.hessian, layer.cross, **options).weight
    torch.testing.assert_close(larger, 3 * base, atol=1e-11, rtol=0)


@pytest.mark.parametrize("method", METHODS[1:])
def test_with_act_order_the_columns_order_does_not_matter(layer, method):
    columns = torch.randperm(48, generator=torch.Generator().manual_seed(2))
    base = result(layer, method=method, act_order=True)
    hessian, cross = layer_statistics(layer.x[:, columns], layer.reference[:, columns])
    other = quantize_layer(layer.weight[:, columns], hessian, cross, method=method, act_order=True).weight
    torch.testing.assert_close(other, base[:, columns], atol=1e-12, rtol=0)


def test_the_printed_loss_is_gptqs_objective(layer):
    r = quantize_layer(layer.weight, layer.hessian, method="gptq", damping=0.0, trace=True)
    true = ((r.weight - layer.weight) @ layer.x.T).square().sum() / len(layer.x)
    assert r.trace.error.square().sum().item() == pytest.approx(true.item(), rel=1e-10)
    g = quantize_layer(layer.weight, layer.hessian, layer.cross, method="gptaq", alpha=1.0, damping=0.0, trace=True)
    aim = (g.weight @ layer.x.T - layer.weight @ layer.reference.T).square().sum() / len(layer.x)
    assert g.trace.error.square().sum().item() != pytest.approx(aim.item(), rel=0.05), "not GPTAQ's"


def test_factor_and_propagation(layer):
    upper, damping = factor_hessian(layer.hessian, 0.01)
    damped = layer.hessian + 0.01 * layer.hessian.diagonal().mean() * torch.eye(48, dtype=torch.float64)
    assert damping == 0.01
    torch.testing.assert_close(upper.T @ upper @ damped, torch.eye(48, dtype=torch.float64), atol=1e-9, rtol=0)
    assert torch.equal(upper, torch.triu(upper))
    assert (upper.diagonal() > 0).all()
    P = propagation(layer.cross, upper)
    P2 = propagation(layer.hessian + layer.cross, upper)
    assert torch.equal(P, torch.triu(P, 1))
    for q in range(0, 47, 9):
        free = slice(q + 1, None)
        inverse = torch.linalg.inv(damped[free, free])
        torch.testing.assert_close(upper[free, free].T @ upper[free, free], inverse, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(P[q, free], layer.cross[q, free] @ inverse, atol=1e-10, rtol=0)
        torch.testing.assert_close(P2[q, free], (layer.hessian + layer.cross)[q, free] @ inverse, atol=1e-9, rtol=0)
    closed = P + torch.eye(48) - upper / upper.diagonal()[:, None]
    torch.testing.assert_close(closed, P2, atol=1e-10, rtol=0)


def test_the_exact_method_is_sequential_least_squares(layer):
    """Brute force: round a column, solve the free ones densely for the full-precision target, and so on."""
    target, weight = layer.reference @ layer.weight.T, None
    shifted = torch.linalg.lstsq(layer.x, target).solution.T
    grid = quantize_layer(layer.weight, layer.hessian, layer.cross, method="exact", damping=0.0)
    done = torch.empty(16, 0, dtype=torch.float64)
    weight = shifted
    for q in range(48):
        scale = grid.scale[:, 0]
        value = scale * torch.clamp(torch.round(weight[:, 0] / scale), -4, 3)
        done = torch.cat([done, value[:, None]], 1)
        if q < 47:
            weight = best_free_columns(done, layer.x, target)
    torch.testing.assert_close(grid.weight, done, atol=1e-9, rtol=0)


def test_measured_order_of_the_methods_on_a_real_layer():
    """r1 lowers the calibration error, exact is least, and r2 does not lower it ."""
    solver = (("bits", 3), ("group_size", 32))
    real = load_layer(LayerSource("tiny-llama", 1, "down_proj", tokens=2048, upstream_solver=solver))
    moments = layer_statistics(real.inputs, real.full_precision)
    objective = Objective(real.weight, real.inputs, real.full_precision)
    e = {m: objective.error(quantize_layer(real.weight, *moments, method=m, group_size=32).weight) for m in METHODS}
    assert e["exact"] < e["gptaq"] < e["gptq"] < e["rtn"]
    assert e["gptq+rescomp"] > e["gptq"]
    assert e["gptaq+rescomp"] > e["gptaq"]
