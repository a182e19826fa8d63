"""The same curve in the words of other programs: NeuroSim's labels, aihwkit's parameters."""

from __future__ import annotations

import math

from scipy.optimize import brentq

from workbench.synapse.devices import Affine, Device, Exponential

# NeuroSim's label is this many times the largest distance of the curve from the straight line; fitted to the 900 rows of
# its table, which we do not ship (10.10151 to 10.10155 in every row)
LABEL = 10.1015254


def neurosim_label(nu: float) -> float:
    """NeuroSim's nonlinearity label of a curve with shape nu (0 for a line); below 10.1 for every nu."""
    if nu < 1e-4:
        return LABEL * nu / 8  # the limit: the curve is a parabola
    peak = -math.log(-math.expm1(-nu) / nu) / nu
    return LABEL * (math.expm1(-nu * peak) / math.expm1(-nu) - peak)


def nonlinearity(label: float) -> float:
    """The shape nu of NeuroSim's label, by root finding. The sign (mirrored or retraced LTD) is left to the caller."""
    label = abs(label)
    if label >= neurosim_label(500.0):
        raise ValueError(
            f"label={label}: expected a NeuroSim label below {neurosim_label(500.0):.2f}; it tends to {LABEL:.1f} "
            "for a curve that jumps at once, so no finite nu is that nonlinear"
        )
    return brentq(lambda nu: neurosim_label(nu) - label, 0.0, 500.0, xtol=1e-13) if label else 0.0


def neurosim_parameters(device: Exponential) -> dict[str, float]:
    """NeuroSim's A (normalised by the number of pulses) and labels; LTD's is negative where it is mirrored."""
    up, down = device.nonlinearity_up, device.nonlinearity_down
    label = neurosim_label(down)
    return {
        "A_LTP": 1 / up if up else math.inf,
        "A_LTD": 1 / down if down else math.inf,
        "NL_LTP": neurosim_label(up),
        "NL_LTD": label if device.retraced or not label else -label,
    }


def aihwkit_parameters(device: Device) -> dict[str, float]:
    """Parameters of aihwkit's LinearStepDevice with the same curve, for weights in [-1, 1], noise and variation off.

    Every affine device is one: the exponential response clipped at its ends too (aihwkit 1.1.0's SoftBoundsPmaxDevice, whose
    description is that of the exponential response, reaches its range after half as many pulses as `p_max`; measured).
    Raises ValueError for a table of steps, which aihwkit's closed forms do not cover.
    """
    if not isinstance(device, Affine):
        raise ValueError(
            f"{type(device).__name__} of {device.levels} levels: expected affine steps (exponential, linear, linear-step)"
        )
    a, b, c, d = device.coefficients()
    if b < 0 or d < 0:
        raise ValueError("steps that grow towards the end (retraced LTD): aihwkit 1.1.0 takes a slope's size only, not its sign")
    up, down = 2 * a - b, 2 * c + d  # steps at weight 0, in weights from -1 to 1
    larger = max(up, down)
    return {
        "dw_min": larger, "w_max": 1.0, "w_min": -1.0, "gamma_up": -b / up, "gamma_down": -d / down,
        "up_down": 1 - down / up if up > down else up / down - 1, "up_down_dtod": 0.0, "dw_min_dtod": 0.0,
        "dw_min_std": 0.0, "w_max_dtod": 0.0, "w_min_dtod": 0.0, "gamma_up_dtod": 0.0, "gamma_down_dtod": 0.0,
    }  # fmt: skip
