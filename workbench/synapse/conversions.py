"""Conversions of device parameters to those of the simulators NeuroSim and aihwkit, and back from NeuroSim's label to nu."""

from __future__ import annotations

import math

from scipy.optimize import brentq

from workbench.synapse.devices import Affine, Device, Exponential

# NeuroSim's label is this factor times the largest distance of the normalised curve from the straight line. The factor was
# fitted to the 900 rows of NeuroSim's table, which is not part of Workbench. The factors of single rows range from 10.10151 to
# 10.10155.
LABEL = 10.1015254


def neurosim_label(nu: float) -> float:
    """Return NeuroSim's nonlinearity label of an exponential response with shape nu.

    The label is 0 for a straight line, and tends to 10.1 as nu grows.
    """
    if nu < 1e-4:
        return LABEL * nu / 8  # for a small nu, the curve is nearly a parabola, and the formula below would lose digits
    peak = -math.log(-math.expm1(-nu) / nu) / nu
    return LABEL * (math.expm1(-nu * peak) / math.expm1(-nu) - peak)


def nonlinearity(label: float) -> float:
    """Return the shape nu of the exponential response with this NeuroSim label.

    This function inverts `neurosim_label` by root finding. It uses only the absolute value of `label`. The caller must
    interpret the sign of the label, which distinguishes mirrored from retraced LTD (depression). Raises ValueError if the
    label is too large for a finite nu.
    """
    label = abs(label)
    if label >= neurosim_label(500.0):
        raise ValueError(
            f"label={label}: expected a NeuroSim label below {neurosim_label(500.0):.2f}. The label tends to {LABEL:.1f} "
            "as nu grows, so no finite nu has this label; use a smaller label"
        )
    return brentq(lambda nu: neurosim_label(nu) - label, 0.0, 500.0, xtol=1e-13) if label else 0.0


def neurosim_parameters(device: Exponential) -> dict[str, float]:
    """Return NeuroSim's parameters of an exponential device, for LTP (potentiation) and for LTD (depression).

    ``A_LTP`` and ``A_LTD`` are NeuroSim's A, divided by the number of pulses. ``NL_LTP`` and ``NL_LTD`` are the nonlinearity
    labels. If LTD is mirrored and not a straight line, its label is negative.
    """
    up, down = device.nonlinearity_up, device.nonlinearity_down
    label = neurosim_label(down)
    return {
        "A_LTP": 1 / up if up else math.inf,
        "A_LTD": 1 / down if down else math.inf,
        "NL_LTP": neurosim_label(up),
        "NL_LTD": label if device.retraced or not label else -label,
    }


def aihwkit_parameters(device: Device) -> dict[str, float]:
    """Return the parameters of the aihwkit LinearStepDevice with the same response, for weights in [-1, 1].

    Noise and device-to-device variation are switched off. A device has such parameters if its steps are affine in g and do
    not grow on the way to the end of the range. This includes the exponential device with mirrored LTD. The documentation of
    aihwkit 1.1.0 describes SoftBoundsPmaxDevice as an exponential device, but we measured that it reaches the end of its range
    after half of its `p_max` pulses. So LinearStepDevice is used instead. Raises ValueError for all other devices.
    """
    if not isinstance(device, Affine):
        raise ValueError(
            f"{type(device).__name__} of {device.levels} levels: expected steps that are affine in g, not a table of steps; use "
            "an exponential, linear or linear-step device"
        )
    a, b, c, d = device.coefficients()
    if b < 0 or d < 0:
        raise ValueError(
            "steps grow towards the end of the range (retraced LTD): expected steps that shrink or stay constant, since aihwkit "
            "1.1.0 ignores the sign of a slope; use mirrored LTD"
        )
    up, down = 2 * a - b, 2 * c + d  # the steps at weight 0, if weights range from -1 to 1
    larger = max(up, down)
    return {
        "dw_min": larger, "w_max": 1.0, "w_min": -1.0, "gamma_up": -b / up, "gamma_down": -d / down,
        "up_down": 1 - down / up if up > down else up / down - 1, "up_down_dtod": 0.0, "dw_min_dtod": 0.0,
        "dw_min_std": 0.0, "w_max_dtod": 0.0, "w_min_dtod": 0.0, "gamma_up_dtod": 0.0, "gamma_down_dtod": 0.0,
    }  # fmt: skip
