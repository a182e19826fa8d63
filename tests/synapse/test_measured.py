"""Measured curves: what a user drops in is walked point by point, fitted, or refused by row and column."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import runs
from workbench.experiment import get
from workbench.synapse import Exponential, SynapseConfig, fit_exponential, read_curve
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.training import build, train


def written(tmp_path, ltp, ltd, name="curve.csv", **columns):
    path = tmp_path / name
    every = {**columns, "ltp": ltp, "ltd": ltd}
    pd.DataFrame({key: pd.Series(values) for key, values in every.items()}).to_csv(path, index=False)
    return path


def exponential(levels=50, up=2.0, down=4.0, falls=60, low=3e-9, high=4e-8):
    rise, fall = Exponential(levels, up, down, False, falls).staircase()
    return low + (high - low) * rise.numpy(), low + (high - low) * fall.numpy()


def test_the_device_walks_the_measured_points(tmp_path):
    ltp, ltd = exponential()
    curve = read_curve(written(tmp_path, ltp, ltd))
    device, nominal = curve.device(), Exponential(50, 2.0, 4.0, False, 60)
    for one, other in zip(device.staircase(), nominal.staircase(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    assert curve.on_off == pytest.approx(4e-8 / 3e-9)
    assert curve.residual == 0
    fitted, distance = fit_exponential(curve)
    assert (fitted.levels, fitted.levels_down, fitted.retraced) == (50, 60, False)
    assert (fitted.nonlinearity_up, fitted.nonlinearity_down) == (pytest.approx(2.0, abs=1e-4), pytest.approx(4.0, abs=1e-4))
    assert distance < 1e-6


def test_a_retraced_curve_is_recognised(tmp_path):
    rise, fall = Exponential(40, 3.0, 3.0, True).staircase()
    fitted, distance = fit_exponential(read_curve(written(tmp_path, rise.numpy() + 1, fall.numpy() + 1)))
    assert fitted.retraced
    assert distance < 1e-5


def test_sparse_pulses_are_filled_in_and_ends_need_not_meet(tmp_path):
    at = np.array([0, 5, 10, 20, 40, 50])
    ltp, ltd = exponential(50, 2.0, 2.0, 50, 0.0, 1.0)
    curve = read_curve(written(tmp_path, ltp[at], 0.9 * ltd[at] + 0.05, pulse=at))
    assert len(curve.rise) == len(curve.fall) == 51
    np.testing.assert_allclose(curve.rise[at], ltp[at], atol=1e-12)
    np.testing.assert_allclose(curve.rise, ltp, atol=0.02)
    device = curve.device()
    assert device.pulse(1.0, down=60) == pytest.approx(0.05)  # LTD ends above Gmin, and stays there
    assert device.pulse(0.0, up=60) == 1.0
    assert curve.on_off == float("inf")


def test_noise_is_refused_or_smoothed_and_owned_up(tmp_path):
    ltp, ltd = exponential(low=0.0, high=1.0)
    noise = np.random.default_rng(0).normal(0, 0.03, 200)
    path = written(tmp_path, np.abs(ltp + noise[:51]), np.abs(ltd + noise[60:121]))
    with pytest.raises(ValueError, match=r"row \d+, column 'ltp': the curve turns back .* Set smooth"):
        read_curve(path)
    curve = read_curve(path, smooth=True)
    assert (np.diff(curve.rise) > 0).all()
    assert (np.diff(curve.fall) < 0).all()
    assert 0.005 < curve.residual < 0.04
    fitted, distance = fit_exponential(curve)
    assert fitted.nonlinearity_up == pytest.approx(2.0, abs=0.6)
    assert distance < 0.05


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=40), st.lists(st.floats(0.001, 1), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_rising_curve_makes_a_device_that_stays_in_range(tmp_path_factory, ups, downs):
    ltp, ltd = np.cumsum([0.5, *ups]), np.cumsum([40.0, *(-d for d in downs)])
    device = read_curve(written(tmp_path_factory.mktemp("c"), ltp, ltd)).device()
    g = torch.linspace(0, 1, 41, dtype=torch.float64)
    for up in (True, False):
        moved = device.many(g, torch.tensor(3).expand(41), up)
        assert ((moved >= 0) & (moved <= 1)).all()
        assert ((moved >= g) if up else (moved <= g)).all()
        assert (moved.diff() >= -1e-12).all(), "order is kept"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ltp,ltd\n1,3\n2,nan\n3,1\n", "row 3, column 'ltd': 'nan' is not a finite number"),
        ("ltp,ltd\n1,3\nx,2\n3,1\n", "row 3, column 'ltp': 'x' is not a finite number"),
        ("ltp,ltd\n1,3\n,2\n3,1\n", "row 3, column 'ltp'"),
        ("ltp,ltd\n1,3\n2,inf\n3,1\n", "row 3, column 'ltd': 'inf'"),
        ("ltp\n1\n2\n", "no column 'ltd' among ltp"),
        ("ltp,ltd\n1,1\n1,1\n", "all conductances are 1; expected at least two different values"),
        ("ltp,ltd\n1,3\n2,2\n1,1\n", "row 4, column 'ltp': the curve turns back"),
        ("ltp,ltd\n1,1\n2,2\n3,3\n", "column 'ltd' has the wrong direction; expected a curve that falls"),
        ("ltp,ltd\n-1,3\n2,2\n3,1\n", "the smallest conductance is -1; expected no negative conductances"),
        ("ltp,ltd\n1,3\n", "column 'ltp': found 1, but expected at least 2"),
        ("ltp,ltd\n2,3\n2,2\n2,1\n", "column 'ltp': the conductance never changes"),
        ("pulse,ltp,ltd\n0,1,3\n0,2,2\n1,3,1\n", "column 'pulse'"),
        ("", "cannot be read as CSV"),
        ("ltp,ltd\n0,1,3\n1,2,2\n", "a row has more cells than the header; expected columns ltp, ltd"),
        ("LTP,ltp,ltd\n1,1,3\n2,2,2\n", "2 columns are called 'ltp'"),
        ("pulse,ltp,ltd\n0,1,3\n1,2,2\n,3,1\n", "row 4, column 'pulse': the cell is empty; expected the pulse number"),
        ("pulse,ltp,ltd\n0,1,4\n1,2,3\n1,3,2\n2,4,1\n", "row 4, column 'pulse'"),
        ("ltp,ltd\n1,3\n\nx,2\n3,1\n", "row 3, column 'ltp'"),
    ],
)
def test_bad_files_are_refused_by_row_and_column(tmp_path, text, said):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        read_curve(path)
    assert "bad.csv" in str(refused.value)


def test_a_binary_file_is_no_curve(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"bad\.csv"):
        read_curve(path)


def test_commas_at_the_ends_of_rows_are_no_column(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("ltp,ltd\n1,3,\n2,2,\n3,1,\n")
    assert read_curve(path).rise.tolist() == [0.0, 0.5, 1.0]


def test_curves_that_do_not_overlap_are_refused_by_the_schemes_that_need_both(tmp_path):
    path = written(tmp_path, [0.0, 0.2, 0.3], [1.0, 0.8, 0.7])
    knobs = {"data": "digits-8x8", "pool": 1, "hidden": "20", "device": "measured", "curve": str(path)}
    build(SynapseConfig(**knobs, rate=0.001))
    for scheme in ("push-pull", "alternating", "reference"):
        with pytest.raises(ValueError, match="no step at the conductances that this scheme uses"):
            build(SynapseConfig(**knobs, scheme=scheme, rate=0.001))


def test_a_measured_device_trains(tmp_path):
    path = written(tmp_path, *exponential(64, 1.0, 5.0, 64))
    knobs = {"data": "digits-8x8", "pool": 1, "hidden": "20", "samples": 1500, "rate": 0.03}
    measured = SynapseConfig(device="measured", curve=str(path), **knobs)
    nominal = SynapseConfig(nonlinearity_up=1.0, nonlinearity_down=5.0, **knobs)
    designs = train(measured, nominal)
    data = designs.data[0]
    ours, theirs = (network.accuracy(data.x_test, data.labels_test) for network in designs.networks)
    assert ours == pytest.approx(theirs, abs=0.06)
    assert ours > 0.75


@pytest.mark.parametrize("head", ["g,up,down", '\ufeffG, Up ,"down"'])
def test_a_table_of_steps_is_interpolated_and_walked(tmp_path, head):
    path = tmp_path / "steps.csv"
    path.write_text(f"{head}\n0,0.04,0\n0.5,0.02,0.02\n1,0.02,0.1\n", "utf-8")
    device = SynapseConfig(device="measured", curve=str(path)).make_device()
    at = torch.tensor([0.25, 0.75], dtype=torch.float64)
    torch.testing.assert_close(device.rise(at), torch.tensor([0.03, 0.02], dtype=torch.float64))
    torch.testing.assert_close(device.fall(at), torch.tensor([0.01, 0.06], dtype=torch.float64))
    up, down = device.staircase()
    assert up[-1] == 1 > up[-2]
    assert down[-1] < 0.01  # steps vanish towards 0
    trained = train(
        SynapseConfig(device="measured", curve=str(path), data="digits-8x8", pool=1, hidden="20", samples=2000, rate=0.03)
    )
    data = trained.data[0]
    assert trained.networks[0].accuracy(data.x_test, data.labels_test) > 0.6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("g,up,down\n0,0.1,0.1\n0.5,nan,0.1\n", "row 3, column 'up': 'nan'"),
        (
            "g,up,down\n0,0.1,0.1\n0,0.1,0.1\n",
            "row 3, column 'g': 0; expected conductances from 0 to 1 that increase from row to row",
        ),
        ("g,up,down\n0,0.1,0.1\n1.5,0.1,0.1\n", "row 3, column 'g': 1.5"),
        ("g,up,down\n0,1e-9,0.1\n1,1e-9,0.1\n", "column 'up': the largest step is 1e-09; expected a step of at least"),
        ("g,up,up,down\n0,0.1,0.1,0.1\n1,0.1,0.1,0.1\n", "2 columns are called 'up'"),
        ("g,up,down\n0,0.1,0.1\n1,-0.1,0.1\n", "row 3, column 'up': -0.1; expected steps from 0 to 1"),
        ("g,up,down\n0,0.1,0.1\n0.5,0.1\n1,0.1\n", "g 3, up 3, down 1; expected|column 'down': found 1, but expected at least 2"),
    ],
)
def test_wrong_tables_of_steps_are_refused_by_row_and_column(tmp_path, text, said):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        SynapseConfig(device="measured", curve=str(path))


def test_single_precision_does_not_merge_the_close_points_of_a_flat_tail(tmp_path):
    n = np.arange(121)
    ltp = 1 - np.exp(-n / 6)
    made = SynapseConfig(device="measured", curve=str(written(tmp_path, ltp, ltp[::-1])))
    layer = SynapseLayer(4, 4, made, 1.0, 0)
    for g in (1.0, 0.9999, 0.5, 0.0):
        layer.g.fill_(g)
        layer.pulse(torch.ones(4, 4, dtype=torch.int64), 1)
        assert torch.isfinite(layer.g).all()


def test_the_panel_shows_the_nearest_exponential_device(tmp_path):
    experiment = get("synapse/device")
    curve = written(tmp_path, *exponential())
    (record,) = runs.preview(experiment, experiment.config(device="measured", curve=str(curve)))
    assert record["fit"][:3] == [pytest.approx(2.0, abs=1e-4), pytest.approx(4.0, abs=1e-4), False]
    assert record["fit"][3] < 1e-6
    assert experiment.figure([record])


# -- files of other people's instruments -----------------------------------------------------------------------------------------


def table(rows, head="ltp,ltd"):
    return "\n".join([head, *(",".join("" if v is None else f"{v:.6g}" for v in row) for row in rows)]) + "\n"


UP, DOWN = (part.tolist() for part in exponential(20, 2.0, 3.0, 20))
SIDE = table(zip(UP, DOWN, strict=True))
BELOW = [*((k, v, None) for k, v in enumerate(UP)), *((k + 21, None, v) for k, v in enumerate(DOWN))]
ABOVE = [*((k, None, v) for k, v in enumerate(DOWN)), *((k + 21, v, None) for k, v in enumerate(UP))]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SIDE.replace(".", ",").replace("ltp,", "ltp;"), "cells are separated by ';'.*decimal commas"),
        (SIDE.replace(",", "\t"), r"cells are separated by '\\t'"),
        (SIDE.replace(",", "|"), r"cells are separated by '\|'"),
        ("Keithley 4200\nSample 7\n" + SIDE, "the header ltp, ltd is in line 3; .*Delete the lines above"),
        ("# made 2026-01-02, 300 K\n\n" + SIDE, "the header ltp, ltd is in line 3"),
        ("Keithley\n" + SIDE.replace(",", ";"), "cells are separated by ';'"),
        (table(BELOW, "pulse,ltp,ltd"), "row 2, column 'ltd': the cell is empty; ltd begins in row 23. "
         "Expected each column to start in row 2, below the header"),
        (table(ABOVE, "pulse,ltp,ltd"), "row 2, column 'ltp': the cell is empty; ltp begins in row 23"),
        (table(zip(UP, DOWN[::-1], strict=True)), "column 'ltd' has the wrong direction; expected a curve that falls"),
        (table(zip(UP[::-1], DOWN, strict=True)), "column 'ltp' has the wrong direction; expected a curve that rises"),
        (table(zip(DOWN, UP, strict=True)), r"column 'ltp' has the wrong direction.*exchange ltp and ltd"),
        (table(zip(UP * 3, DOWN * 3, strict=True)), "row 23, column 'ltp': the curve turns back by 100% .*several cycles"),
        (table(zip(UP + UP[4:], DOWN + DOWN[4:], strict=True)), "expected a single cycle. If the column has several cycles"),
    ],
)  # fmt: skip
def test_what_is_no_curve_is_said_to_be_what_it_is(tmp_path, text, said, smooth):
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_curve(path, smooth)


def test_a_cycle_in_one_column_is_not_smoothed_into_a_curve(tmp_path):
    """Up and down again, in small steps: no step says that it turns back for long."""
    path = tmp_path / "curve.csv"
    path.write_text(table(zip(UP + DOWN[1:] + UP[1:], (DOWN + UP[1:] + DOWN[1:]), strict=True)))
    with pytest.raises(
        ValueError, match=r"column 'ltp': smoothing would change the values by \d\d% of their range.*several cycles"
    ):
        read_curve(path, smooth=True)


def test_abrupt_devices_are_curves_all_the_same(tmp_path):
    """A step of any size in the right direction, and noise of a tenth of the range."""
    ltp, ltd = exponential(30, 0.5, 40.0, 30, 0.0, 1.0)
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 31))
    curve = read_curve(written(tmp_path, np.abs(ltp + noise[0]), np.abs(ltd + noise[1])), smooth=True)
    assert curve.residual < 0.1
    assert read_curve(written(tmp_path, [0.0, 1.0], [1.0, 0.0])).device().levels == 1


def test_steps_below_an_instruments_lines_are_told_too(tmp_path):
    from workbench.synapse import read_steps
    from workbench.synapse.measured import is_curve

    path = tmp_path / "steps.csv"
    path.write_text("Sample 7\ng,up,down\n0,0.1,0\n1,0,0.1\n")
    with pytest.raises(ValueError, match="the header g, up, down is in line 2"):
        read_steps(path)
    path.write_text("g;up;down\n0;0,1;0\n")
    with pytest.raises(ValueError, match="cells are separated by ';'"):
        read_steps(path)
    path.write_text("g,up,down\n0,0.1,0\n1,0,0.1\n")
    assert not is_curve(path)


def test_a_file_without_an_end_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "curve.csv"
    with path.open("w") as file:
        file.write("ltp,ltd\n")
        file.writelines(f"{k},{10**6 - k}\n" for k in range(70_000))
    with pytest.raises(ValueError, match="too many rows; expected at most 65536"):
        read_curve(path)
