"""Devices against step-by-step float64 loops, closed forms, NeuroSim's labels and aihwkit's own curves."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity.aihwkit_devices import DEVICES, parameters

from workbench.synapse import (
    CATALOGUE,
    AffineStep,
    Exponential,
    LinearStep,
    Table,
    aihwkit_parameters,
    neurosim_label,
    neurosim_parameters,
    nonlinearity,
    power,
)
from workbench.synapse.device_config import Law

SHAPES = (0.0, 1e-6, 1e-3, 0.5, 3.0, 10.0, 50.0)
CURVES = json.loads((Path(__file__).parents[1] / "parity" / "aihwkit_curves.json").read_text())["devices"]


def grown(nu, levels, n):
    """The curve from 0 after n pulses, in high precision: (1 - e^(-nu n / N)) / (1 - e^-nu)."""
    from mpmath import mp, mpf

    mp.dps = 50
    return float(n / mpf(levels)) if nu == 0 else float((1 - mp.exp(-mpf(nu) * n / levels)) / (1 - mp.exp(-mpf(nu))))


@pytest.mark.parametrize("nu", SHAPES)
@pytest.mark.parametrize("levels", [1, 2, 7, 64])
def test_the_ladder_is_the_notes_curve(nu, levels):
    ladder = Exponential(levels, nu).ladder()
    expected = [grown(nu, levels, n) for n in range(levels + 1)]
    np.testing.assert_allclose(ladder, expected, rtol=0, atol=1e-12)
    assert (ladder.diff() >= 0).all()


@pytest.mark.parametrize("retraced", [False, True])
@pytest.mark.parametrize("nu", SHAPES)
def test_many_pulses_are_single_pulses_in_turn(nu, retraced):
    device = Exponential(40, nu, nu, retraced)
    for up in (True, False):
        g = torch.linspace(0, 1, 23, dtype=torch.float64)
        one, singly = torch.tensor(1), g
        for n in range(1, 60):
            singly = device.many(singly, one, up)
            # walking a saturating curve backwards magnifies rounding errors, here by up to e^10
            torch.testing.assert_close(device.many(g, torch.tensor(n), up), singly, rtol=0, atol=1e-10 if retraced else 1e-12)


@given(
    st.integers(1, 300),
    st.floats(0, 60),
    st.floats(0, 60),
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 500),
    st.integers(0, 500),
)
@settings(max_examples=300, deadline=None)
def test_conductance_stays_in_range_and_moves_the_right_way(levels, up, down, retraced, g, rises, falls):
    device = Exponential(levels, up, down, retraced)
    raised = device.pulse(g, up=rises)
    lowered = device.pulse(g, down=falls)
    assert 0 <= lowered <= g <= raised <= 1 or math.isclose(raised, g, abs_tol=1e-12) or math.isclose(lowered, g, abs_tol=1e-12)
    assert 0 <= device.pulse(g, rises, falls) <= 1
    if rises > levels:
        assert device.pulse(0.0, up=rises) == pytest.approx(1.0, abs=1e-12)


@given(st.floats(0, 40), st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_mirrored_ltd_is_ltp_upside_down(nu, g, n):
    device = Exponential(50, nu, nu)
    assert device.pulse(1 - g, down=n) == pytest.approx(1 - device.pulse(g, up=n), abs=1e-12)


@given(st.floats(0, 8), st.floats(0, 0.6), st.integers(0, 10))
@settings(max_examples=200, deadline=None)
def test_retraced_ltd_undoes_ltp(nu, g, n):
    device = Exponential(64, nu, nu, retraced=True)
    there = device.pulse(g, up=n)
    if there < 1:
        assert device.pulse(there, down=n) == pytest.approx(g, abs=1e-10)


def test_public_interface_takes_numbers_and_tensors():
    device = Exponential(levels=64, nonlinearity_up=0.0, nonlinearity_down=0.0, retraced=False)
    assert device.pulse(0.0, 16, 0) == 0.25
    assert device.pulse(0.25, up=8, down=16) == 0.125
    g = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert device.pulse(g, torch.tensor([64, 0, 0]), torch.tensor([0, 32, 64])).tolist() == [1.0, 0.0, 0.0]
    assert device.pulse(0.5, up=1000) == 1.0
    assert power(64).pulse(torch.tensor([0, 1]), up=5)[0] == pytest.approx(power(64).pulse(0.0, up=5))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Exponential(0), "levels=0: expected a whole number of pulses from 1"),
        (lambda: Exponential(2.5), "levels=2.5"),
        (lambda: Exponential(8, -1.0), "nonlinearity_up=-1.0: expected nu from 0"),
        (lambda: Exponential(8, 0.0, math.nan), "nonlinearity_down=nan"),
        (lambda: Exponential(8).pulse(1.2), "g=1.2: expected a conductance in"),
        (lambda: Exponential(8).pulse(math.nan), "g=nan"),
        (lambda: Exponential(8).pulse(0.5, up=-1), "up=-1: expected whole numbers of pulses"),
        (lambda: Exponential(8).pulse(0.5, down=torch.tensor(1.5)), "down=1.5: expected whole numbers"),
        (lambda: LinearStep(8, 1.5), "slope_up=1.5: expected a slope from -1 to 1"),
        (lambda: power(0), "levels=0"),
        (lambda: Exponential(8).pulse(0.5, up=math.inf), "up=inf: expected whole numbers"),
        (lambda: Table(2, (0.0, 1.0), (0.0, 0.1), (0.0, 1.0), (0.1, 0.1)), "up: the step at the lowest conductance is 0.0"),
        (lambda: Exponential(8, down_levels=-3), "down_levels=-3"),
        (lambda: AffineStep(8, (0.1, 0.2), (0.1, 0.0)), "up=.*expected steps of at least 0 for all g in"),
        (lambda: Exponential(8).pulse(0.5, up=torch.tensor([5, -1])), "up=-1: expected whole numbers"),
        (lambda: power(8, -1.0), "gamma_up=-1.0"),
        (lambda: Table(2, (0.0, 0.0), (0.1, 0.1), (0.0, 1.0), (0.1, 0.1)), "knots_up: expected increasing conductances"),
        (lambda: Table(2, (0.0, 1.0), (0.1, math.nan), (0.0, 1.0), (0.1, 0.1)), "up: expected finite steps"),
        (lambda: nonlinearity(10.2), "label=10.2: expected a NeuroSim label below 9.9"),
    ],
)
def test_bad_devices_are_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# -- the symmetry point ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "down"), [(1.0, 10.0), (3.0, 3.0), (0.5, 2.0)])
def test_equal_random_pulses_settle_at_the_symmetry_point(up, down):
    device = Exponential(64, up, down)
    a_up, a_down = -math.expm1(-up / 64), -math.expm1(-down / 64)
    high, low = 1 / -math.expm1(-up), -1 / math.expm1(down)
    closed = (a_up * high + a_down * low) / (a_up + a_down)
    assert device.symmetry_point() == pytest.approx(closed, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    g = torch.full((4000,), 0.9, dtype=torch.float64)
    for _ in range(2000):
        coin = torch.rand(4000, generator=generator) < 0.5
        g = torch.where(coin, device.many(g, torch.tensor(1), True), device.many(g, torch.tensor(1), False))
    assert g.mean().item() == pytest.approx(closed, abs=0.01)


def test_the_symmetry_point_is_the_middle_only_for_equal_mirrored_curves():
    assert Exponential(64, 4.0, 4.0).symmetry_point() == pytest.approx(0.5)
    assert Exponential(64, 1.0, 10.0).symmetry_point() == pytest.approx(0.1531, abs=1e-4)
    assert Exponential(64).symmetry_point() is None
    assert Exponential(64, 2.0, 5.0, True).symmetry_point() is None, "equal pulses leave where they cancel"


# -- other programs' words ---------------------------------------------------------------------------------------------


def test_labels_and_shapes_agree_with_the_notes_table():
    table = {0.5: 0.397, 1.0: 0.80, 1.46: 1.178, 1.75: 1.424, 1.94: 1.589, 2.4: 2.003, 3.68: 3.326, 4.88: 4.992, 6.76: 9.975}
    for label, nu in table.items():
        assert nonlinearity(label) == pytest.approx(nu, abs=1e-2 if label == 1.0 else 2e-3)
    assert nonlinearity(0.0) == 0.0


@given(st.floats(0.01, 9.9))
def test_label_of_shape_of_label_is_the_label(label):
    assert neurosim_label(nonlinearity(label)) == pytest.approx(label, rel=1e-9)


@given(st.floats(1e-6, 100), st.floats(1.0001, 3))
def test_the_label_grows_with_the_shape(nu, factor):
    assert neurosim_label(nu) < neurosim_label(nu * factor) < 10.1015254


def test_the_label_is_the_largest_distance_from_the_line():
    for nu in (0.3, 2.0, 7.0):
        x = np.linspace(0, 1, 200_001)
        distance = np.abs(np.expm1(-nu * x) / np.expm1(-nu) - x).max()
        assert neurosim_label(nu) == pytest.approx(10.1015254 * distance, rel=1e-8)


def test_the_curve_is_neurosims_equation():
    """Eq. (1) of NeuroSim: G = B (1 - e^(-P / A)) + Gmin with A = N / nu, B = (Gmax - Gmin) / (1 - e^(-N / A))."""
    device = Exponential(97, 2.003)
    a, pulses = 97 / 2.003, np.arange(98)
    curve = (1 - np.exp(-pulses / a)) / (1 - np.exp(-97 / a))
    np.testing.assert_allclose(device.ladder(), curve, atol=1e-14)
    found = neurosim_parameters(Exponential(97, 2.003, 4.992))
    assert found["NL_LTP"] == pytest.approx(2.4, abs=1e-3)
    assert found["NL_LTD"] == pytest.approx(-4.88, abs=1e-3)
    assert found["A_LTP"] == pytest.approx(0.499, abs=1e-3)
    assert neurosim_parameters(Exponential(64, 0.397, 0.397, True))["NL_LTD"] > 0


@pytest.mark.parametrize("made", CURVES, ids=[made["name"] for made in CURVES])
def test_curves_are_aihwkits(made):
    """aihwkit 1.1.0 walked these curves (tests/parity/aihwkit_curves.py), with parameters that are ours."""
    assert json.loads(json.dumps(parameters(made["name"]))) == [made["class"], made["parameters"]]
    device, n = DEVICES[made["name"]], len(made["curve"]) // 2
    g, top, pulses = [], 0.0, torch.arange(1, n + 1)
    rise = device.many(torch.zeros(n, dtype=torch.float64), pulses, True)
    top = rise[-1].expand(n).clone()
    g = torch.cat([rise, device.many(top, pulses, False)])
    torch.testing.assert_close(2 * g - 1, torch.tensor(made["curve"], dtype=torch.float64), rtol=0, atol=2e-6)


def test_what_aihwkit_cannot_say_is_refused():
    with pytest.raises(ValueError, match="retraced LTD"):
        aihwkit_parameters(Exponential(64, 2.0, 2.0, True))
    with pytest.raises(ValueError, match="Table of 64 levels: expected steps that are affine in g"):
        aihwkit_parameters(power(64))


# -- tables and presets ------------------------------------------------------------------------------------------------


def test_power_steps_are_the_law_to_a_millionth_of_a_step():
    device, g = (power(50, 2.0, 3.0), torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(device.rise(g), (1 - g) ** 2 / 50, rtol=0, atol=1e-6 / 50)
    torch.testing.assert_close(device.fall(g), g**3 / 50, rtol=0, atol=1e-6 / 50)


@pytest.mark.parametrize(
    ("device", "least"),
    [(power(64, 2.0), 0.89), (power(64, 0.5), 0.99), (LinearStep(64, 1.0, 1.0), 0.99), (LinearStep(64, 0.3), 1.0)],
)
def test_the_ladder_goes_on_until_pulses_are_no_use(device, least):
    """Laws that only tend to 1 are programmed beyond their nominal number of pulses."""
    ladder = device.ladder()
    assert ladder[-1] >= least
    steps = device.levels * ladder.diff()
    assert (steps >= 0.01).all()
    assert ladder[-1] == 1 or device.levels * device.rise(ladder[-1]) < 0.01
    g, one = torch.zeros(1, dtype=torch.float64), torch.tensor([1])
    for wanted in ladder[:200]:
        assert g.item() == pytest.approx(wanted.item(), abs=1e-12)
        g = device.many(g, one, True)


@given(st.floats(-0.9, 0.9), st.floats(0, 1), st.sampled_from(["exponential", "linear-step", "power"]))
@settings(max_examples=60, deadline=None)
def test_a_biased_device_has_larger_steps_up_and_smaller_ones_down(bias, g, law):
    device = {"exponential": Exponential(64, 2.0, 5.0, False, 40), "linear-step": LinearStep(32, 0.5, 0.2)}.get(
        law, power(20, 2.0, 3.0, 30)
    )
    at, biased = torch.tensor(g, dtype=torch.float64), device.biased(bias)
    assert biased.rise(at).item() == pytest.approx((1 + bias) * device.rise(at).item(), abs=1e-14)
    assert biased.fall(at).item() == pytest.approx((1 - bias) * device.fall(at).item(), abs=1e-14)
    assert biased.levels_down == device.levels_down


def test_aihwkits_presets_are_their_parameters():
    """Steps at w = -b, 0, +b, from aihwkit 1.1.0's classes, in units of dw_min; and the pulses from end to end."""
    g = torch.tensor([0.0, 0.4138, 0.5, 1.0], dtype=torch.float64)  # w = 0 at g = .4138 for bounds -.8276, 1.1724
    ecram = CATALOGUE["EcRAM"].make()
    torch.testing.assert_close(
        1000 * ecram.rise(g), torch.tensor([1.0814, 1.0, 0.9830, 0.8847], dtype=torch.float64), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        1000 * ecram.fall(g), torch.tensor([0.4915, 1.0, 1.1059, 1.7203], dtype=torch.float64), rtol=0, atol=1e-4
    )
    assert ecram.symmetry_point() == pytest.approx(0.4138, abs=1e-4)
    for name in ("PCM (rise only)", "ReRAM-ES"):
        device = CATALOGUE[name].make()
        up, down = device.staircase()
        assert up[-1] == 1 > up[-2]
        assert down[-1] == 0 < down[-2]


def test_every_preset_is_a_device_with_a_source():
    assert set(CATALOGUE) < set(Law.__args__)
    for name, preset in CATALOGUE.items():
        device = preset.make()
        assert (device.ladder().diff() >= 0).all()
        assert preset.source
        assert ("recalled" in name) == (not preset.verified)
    assert CATALOGUE["Ag:a-Si"].make() == Exponential(97, nonlinearity(2.4), nonlinearity(4.88), False, 100)
    assert CATALOGUE["FeFET (DNN default)"].make().retraced  # labels of one sign


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.8])
def test_devices_of_a_pair_that_are_alike_spread_no_less_than_others(shared):
    """Whatever they have in common, each has the spread that was asked for, and the two of a pair this correlation."""
    from workbench.synapse.imperfections import ImperfectionConfig
    from workbench.synapse.variation import draw_laws

    config = ImperfectionConfig(step_spread=0.1, pair_correlation=shared)
    device = LinearStep(64)
    laws = draw_laws(device, config, 200, 200, torch.Generator().manual_seed(0))
    assert laws.clamped == 0
    for law in (0, 2):  # the first step up, and down
        steps = laws.values[..., law] / device.coefficients()[law]
        for plus_or_minus in steps:
            assert plus_or_minus.mean().item() == pytest.approx(1.0, abs=0.003)
            assert plus_or_minus.std().item() == pytest.approx(0.1, rel=0.03)
        correlation = torch.corrcoef(steps.flatten(1))[0, 1].item()
        assert correlation == pytest.approx(shared, abs=0.03)


def test_steps_down_are_of_the_number_of_pulses_down():
    device = LinearStep(10, slope_up=0.4, slope_down=0.3, down_levels=40)
    g = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(device.rise(g), (1 - 0.4 * (2 * g - 1)) / 10)
    torch.testing.assert_close(device.fall(g), (1 + 0.3 * (2 * g - 1)) / 40)
