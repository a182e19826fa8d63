"""Dead columns, too few tokens, non-finite values, odd shapes and dtypes: mended and said, or refused by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_layer

from workbench.knobs import KnobError
from workbench.quantization import METHODS, layer_statistics, quantize_layer


def quantize(layer, **options):
    return quantize_layer(layer.weight, layer.hessian, layer.cross, **options)


@pytest.mark.parametrize("method", METHODS)
def test_dead_columns_are_cleared_and_counted(method):
    layer = make_layer()
    layer.x[:, [3, 17]] = 0
    hessian, cross = layer_statistics(layer.x, layer.reference)  # the reference stream is alive there
    r = quantize_layer(layer.weight, hessian, cross, method=method)
    assert torch.isfinite(r.weight).all()
    if method == "rtn":
        assert r.notes == ()
    else:
        assert "2 input columns are dead" in r.notes[0]
        assert (r.weight[:, [3, 17]] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_with_dead_columns_the_common_scale_of_the_statistics_changes_nothing(method, scale):
    """A unit in place of a dead column's zero would count in the mean that damping is a share of, more or less."""
    layer = make_layer()
    layer.x[:, [3, 17]] = 0
    hessian, cross = layer_statistics(layer.x, layer.reference)
    one, other = (quantize_layer(layer.weight, f * hessian, f * cross, method=method) for f in (1, scale))
    assert torch.equal(one.codes, other.codes)
    if method != "rtn" and scale < 1:  # where the unit is the mean
        form = {"method": method, "compat": "published", "damping": 0.3}
        one, other = (quantize_layer(layer.weight, f * hessian, f * cross, **form) for f in (1, scale))
        assert not torch.equal(one.codes, other.codes), "the published program's form stays as it is"


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_no_token_reached_is_rounded(method):
    layer = make_layer()
    zero = torch.zeros(48, 48, dtype=torch.float64)
    r = quantize_layer(layer.weight, zero, zero, method=method)
    assert torch.equal(r.weight, quantize(layer, method="rtn").weight)
    assert method == "rtn" or "all inputs of this layer are zero" in r.notes[0]


@pytest.mark.parametrize("damping", [0.0, 1e-9, 0.01])
def test_too_few_tokens_climb_the_damping_ladder(damping):
    layer = make_layer(tokens=20, dtype=torch.float32)  # rank 20 of 48
    r = quantize(layer, damping=damping)
    assert torch.isfinite(r.weight).all()
    if damping < 1e-8:
        assert r.damping > damping
        assert f"the damping was raised from {damping:g}" in r.notes[0]
    else:
        assert r.damping == damping
        assert r.notes == ()


def test_a_matrix_that_is_no_hessian_is_rounded_with_a_note():
    layer = make_layer()
    r = quantize_layer(layer.weight, -layer.hessian, method="gptq")
    assert "not positive definite even with damping 1" in r.notes[0]
    assert torch.equal(r.weight, quantize(layer, method="rtn").weight)


@pytest.mark.parametrize("name", ["weight", "hessian", "cross"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values_are_named_before_any_solve(name, value, monkeypatch):
    layer = make_layer()
    getattr(layer, name)[2, 5] = value
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda *a: pytest.fail("solved before checking"))
    with pytest.raises(ValueError, match=rf"{name} has 1 non-finite values, the first of which is {value} at \(2, 5\)"):
        quantize(layer)


def test_non_finite_inputs_are_named():
    layer = make_layer()
    layer.x[7, 1] = float("inf")
    with pytest.raises(ValueError, match=r"inputs has 1 non-finite.*\(7, 1\)"):
        layer_statistics(layer.x)


def test_streams_must_hold_the_same_tokens():
    layer = make_layer()
    with pytest.raises(ValueError, match=r"reference_inputs has shape \(399, 48\), but inputs has shape \(400, 48\)"):
        layer_statistics(layer.x, layer.reference[:-1])
    with pytest.raises(ValueError, match="flatten batch and position into one dimension"):
        layer_statistics(layer.x[None])


def test_shuffled_streams_show():
    """Tokens in another order are not an error of shape; the cross statistics lose what ties the streams."""
    layer = make_layer()
    _, cross = layer_statistics(layer.x, layer.reference[torch.randperm(400)])
    assert cross.diagonal().mean() < -0.5 * layer.hessian.diagonal().mean()  # (Xref - X)'X of strangers is -X'X


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hessian": torch.eye(47)}, r"hessian has shape \(47, 47\); expected \(48, 48\)"),
        ({"cross": torch.eye(3)}, r"cross has shape \(3, 3\); expected \(48, 48\)"),
        ({"weight": torch.zeros(48)}, r"weight has shape \(48,\); expected \(out, in\)"),
        ({"weight": torch.zeros(0, 48)}, "with out and in at least 1"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changes, said):
    layer = make_layer()
    with pytest.raises(ValueError, match=said):
        quantize_layer(**{"weight": layer.weight, "hessian": layer.hessian, "cross": layer.cross, **changes})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 1}, "bits=1: expected one of 2, 3"),
        ({"bits": 9}, "bits=9"),
        ({"method": "magic"}, "method='magic': expected one of rtn, gptq"),
        ({"group_size": 0}, "group_size=0"),
        ({"damping": -0.1}, "expected a number from 0 to 1"),
        ({"alpha": 2.0}, "alpha=2.0"),
        ({"grid": "odd"}, "expected one of quarot, ist"),
        ({"compat": "reference", "group_size": 48, "block_size": 32}, "expected that one is a multiple of the other"),
    ],
)
def test_options_out_of_range_are_named(options, said):
    with pytest.raises(KnobError, match=said):
        quantize(make_layer(), **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("group", [1, 7, 32, 48, 100])
def test_any_group_size(method, group):
    layer = make_layer()
    r = quantize(layer, method=method, group_size=group)
    assert r.scale.shape == (16, -(-48 // min(group, 48)))
    assert torch.equal(r.group, torch.arange(48) // min(group, 48))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("compat", ["clean", "reference"])
def test_one_output_row(method, compat):
    layer = make_layer(out=1)
    assert quantize(layer, method=method, group_size=16, compat=compat).weight.shape == (1, 48)


@pytest.mark.parametrize("method", METHODS)
def test_sixteen_bits_change_nothing(method):
    layer = make_layer()
    r = quantize(layer, method=method, bits=16)
    assert torch.equal(r.weight, layer.weight)
    assert r.codes is None
    assert r.notes == ("with 16 bits, the layer is unchanged",)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("grid", ["quarot", "ist"])
@pytest.mark.parametrize("clip", [True, False])
def test_constant_and_zero_rows(symmetric, grid, clip):
    layer = make_layer()
    layer.weight[0], layer.weight[1] = 0.0, 0.3
    for method in METHODS[:-1]:
        r = quantize_layer(
            layer.weight, layer.hessian, method=method, symmetric=symmetric, grid=grid, clip_search=clip
        )  # equal streams: nothing to repay
        assert (r.weight[0] == 0).all()
        assert torch.isfinite(r.weight).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_weights_are_solved_in_float32(dtype, method):
    layer = make_layer(dtype=torch.float32)
    weight = layer.weight.to(dtype)
    r = quantize_layer(weight, layer.hessian.to(torch.float32), layer.cross, method=method, group_size=16)
    single = quantize_layer(weight.float(), layer.hessian, layer.cross, method=method, group_size=16)
    assert r.weight.dtype == dtype
    assert r.scale.dtype == torch.float32
    assert torch.equal(r.codes, single.codes)
    assert torch.equal(r.weight, single.weight.to(dtype))


def test_the_inputs_are_left_as_they_were():
    layer = make_layer()
    layer.x[:, 3] = 0
    hessian, cross = layer_statistics(layer.x, layer.reference)
    before = [t.clone() for t in (layer.weight, hessian, cross)]
    for method in METHODS:
        quantize_layer(layer.weight, hessian, cross, method=method, group_size=16, act_order=True)
        assert all(torch.equal(a, b) for a, b in zip((layer.weight, hessian, cross), before, strict=True))


# -- units, and tensors that belong to a model ---------------------------------------------------------------------------------


GRIDS = [(True, "quarot"), (True, "ist"), (False, "quarot")]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.sampled_from(GRIDS),
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([None, 16]),
    st.booleans(),
    st.lists(st.integers(-80, 60), min_size=16, max_size=16),
)
def test_codes_do_not_depend_on_the_unit_of_the_weights(method, grid, bits, group_size, clip_search, powers):
    """Each row in a unit of its own, a power of two: the same codes, and weights that differ by that unit to the bit."""
    layer = make_layer(dtype=torch.float32)
    form = {
        "method": method, "bits": bits, "symmetric": grid[0], "grid": grid[1], "group_size": group_size,
        "clip_search": clip_search,
    }  # fmt: skip
    one = quantize(layer, **form)
    units = torch.tensor([2.0**power for power in powers])[:, None]
    other = quantize_layer(layer.weight * units, layer.hessian, layer.cross, **form)
    assert torch.equal(other.codes, one.codes)
    assert torch.equal(other.weight, one.weight * units)
    assert other.notes == one.notes


@pytest.mark.parametrize(("symmetric", "grid"), GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_where_numbers_end_are_zeros_with_a_note(symmetric, grid, dtype):
    layer = make_layer(dtype=dtype)
    layer.weight[3] *= torch.finfo(dtype).tiny
    layer.weight[5] *= torch.finfo(dtype).tiny * 1e-3
    layer.weight[7] = 0
    r = quantize(layer, method="gptq", symmetric=symmetric, grid=grid)
    assert "2 output rows are set to 0, since all their weights are below" in r.notes[0]
    assert (r.weight[[3, 5, 7]] == 0).all()
    assert torch.isfinite(r.scale).all()
    assert (r.weight[[2, 4, 6]] != 0).any(1).all()


def test_the_published_programs_keep_their_floor_and_say_so():
    layer = make_layer(dtype=torch.float32)
    layer.weight[3] *= 2.0**-20
    published = quantize(layer, method="gptq", compat="published")
    assert (published.weight[3] == 0).all()
    assert "1 output rows are set to 0, since all their weights are below 1e-05" in published.notes[0]
    assert published.scale[3].item() == pytest.approx(1e-5 / 3)
    assert (quantize(layer, method="gptq").weight[3] != 0).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["parameter", "graph", "inference", "view", "half"])
def test_a_weight_of_a_model_is_taken_as_its_numbers(method, kind):
    layer = make_layer(dtype=torch.float32)
    want = quantize(layer, method=method)
    weight, hessian, cross = layer.weight, layer.hessian, layer.cross
    if kind == "parameter":
        weight = torch.nn.Parameter(weight)
    elif kind == "graph":
        weight, hessian, cross = (torch.nn.Parameter(t) * 1.0 for t in (weight, hessian, cross))
    elif kind == "inference":
        with torch.inference_mode():
            weight, hessian, cross = (t.clone() for t in (weight, hessian, cross))
    elif kind == "view":
        weight = torch.cat([weight, weight], 1)[:, ::2].repeat_interleave(2, 1)[:, :48]
        want = quantize_layer(weight.clone(), hessian, cross, method=method)
    else:
        weight = weight.half()
        want = quantize_layer(weight.float(), hessian, cross, method=method)
    before = weight.detach().clone()
    r = quantize_layer(weight, hessian, cross, method=method)
    assert torch.equal(r.codes, want.codes)
    assert not r.weight.requires_grad
    assert r.weight.dtype == weight.dtype
    assert torch.equal(weight.detach(), before)


def test_statistics_of_inputs_in_a_graph_carry_none():
    x = torch.nn.Parameter(torch.randn(50, 8))
    hessian, cross = layer_statistics(x * 2, x * 3)
    assert not hessian.requires_grad
    assert not cross.requires_grad


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_codes_are_no_weights(dtype):
    layer = make_layer(dtype=torch.float32)
    with pytest.raises(ValueError, match=f"weight has dtype {dtype}; expected a floating-point dtype"):
        quantize_layer(layer.weight.to(dtype), layer.hessian)


# -- numbers that a small change of the algorithm would change -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "least", "used"),
    [(0.0, -5e-7, 1e-6), (0.0, -5e-6, 1e-5), (0.0, -5e-4, 1e-3), (0.01, -0.05, 0.1), (0.01, -0.5, 1.0), (0.2, -0.5, 1.0)],
)
def test_damping_is_raised_tenfold_and_no_further_than_it_must(asked, least, used):
    """A matrix with one eigenvalue below zero: it can be factored from the first damping above that on."""
    Q = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    values = torch.full((24,), 1.0, dtype=torch.float64)
    values[0], values[1] = least, 2.0 - least  # their mean is 1
    hessian = Q @ torch.diag(values) @ Q.T
    weight = torch.randn(4, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    r = quantize_layer(weight, (hessian + hessian.T) / 2, method="gptq", damping=asked)
    assert r.damping == pytest.approx(used)
    assert f"the damping was raised from {asked:g} to {used:g}" in r.notes[0]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "rtn"])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_dead_columns_change_nothing_for_the_others(method, damping):
    """As if they were not there: damping, which is a share of the mean, too."""
    layer = make_layer()
    dead = [3, 17, 18, 40]
    alive = [k for k in range(48) if k not in dead]
    layer.x *= torch.linspace(0.2, 3, 48, dtype=layer.x.dtype)  # a mean that is no median
    layer.x[:, dead] = 0
    hessian, cross = layer_statistics(layer.x, layer.reference)
    cross[:, dead] = 0
    cross[dead] = 0
    whole = quantize_layer(layer.weight, hessian, cross, method=method, damping=damping)
    weight = layer.weight.clone()
    part = quantize_layer(weight[:, alive], hessian[alive][:, alive], cross[alive][:, alive], method=method, damping=damping)
    assert torch.equal(whole.codes[:, alive], part.codes)
    torch.testing.assert_close(whole.scale, part.scale)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4]), st.sampled_from(GRIDS), st.sampled_from([1.0, 5.0, 30.0]))
def test_the_clip_search_is_a_search_over_eighty_ranges(seed, bits, grid, outlier):
    """Brute force: p from 1.00 to 0.21 in hundredths, the first with the least sum of |q - w|^2.4."""
    from workbench.quantization.grids import fit_grid

    w = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w[0] *= outlier
    found = fit_grid(w.clone(), bits, *grid, clip_search=True)
    for column in range(3):
        tried = []
        for hundredths in range(100, 20, -1):
            p, one = hundredths / 100, w[:, column : column + 1]
            ends = torch.stack([one.amin(0).clamp(max=0) * p, one.amax(0).clamp(min=0) * p])
            made = fit_grid(ends, bits, *grid)
            tried.append(((made.rounded(one) - one).abs().pow(2.4).sum().item(), -p, made.scale.item()))
        best = min(tried)
        at = next(t for t in tried if t[2] == pytest.approx(found.scale[column].item(), rel=1e-9))
        assert at[0] == pytest.approx(best[0], rel=1e-9)


def test_the_smallest_range_of_the_clip_search_is_found():
    from workbench.quantization.grids import fit_grid

    w = torch.full((2000, 1), 0.05, dtype=torch.float64)  # a level at p = 0.15 would fit it best
    w[0] = 1.0
    assert fit_grid(w, 3, clip_search=True).scale.item() == pytest.approx(0.21 / 3)


def test_what_can_still_be_repaid_is_least_squares_over_the_free_columns():
    """Brute force on the tokens themselves: what is left of each residual beside the free columns' inputs."""
    from workbench.quantization.objective import Objective

    layer = make_layer()
    objective = Objective(layer.weight, layer.x, layer.reference)
    weight = quantize(layer, method="gptaq").weight
    free = torch.arange(30, 48)
    output = (layer.reference @ layer.weight.T).norm()
    residuals = (layer.reference - layer.x) @ weight.T, layer.reference @ (layer.weight - weight).T
    for found, residual in zip(objective.residuals(weight, free), residuals, strict=True):
        repaid = layer.x[:, free] @ torch.linalg.lstsq(layer.x[:, free], residual).solution
        assert found.norm == pytest.approx((residual.norm() / output).item(), rel=1e-9)
        assert found.orthogonal == pytest.approx(((residual - repaid).norm() / output).item(), rel=1e-5)
        assert found.orthogonal < 0.999 * found.norm
