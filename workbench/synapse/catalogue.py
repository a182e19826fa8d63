"""Published devices with their sources.

NeuroSim describes the curvature of a response by a nonlinearity label. `conversions.nonlinearity` converts this label to the
shape nu of the exponential response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workbench.synapse.conversions import nonlinearity
from workbench.synapse.devices import AffineStep, Device, Exponential, LinearStep
from workbench.synapse.tables import exponential_step


@dataclass(frozen=True)
class Published:
    """A published device: its response and its imperfections.

    `make` creates the device. `step_spread` and `range_spread` are relative standard deviations from device to device.
    """

    make: Callable[[], Device]
    source: str
    on_off: float | None = None  # Gmax / Gmin
    cycle_of_range: float = 0.0  # cycle-to-cycle standard deviation of one pulse, as a share of the conductance range
    cycle_of_step: float = 0.0  # cycle-to-cycle standard deviation of one pulse, in units of the mean step
    step_spread: float = 0.0  # relative standard deviation of the step size
    range_spread: float = 0.0  # relative standard deviation of Gmax
    verified: bool = True  # False: quoted from memory, and not checked against the published table


def _labels(levels: int, up: float, down: float, down_levels: int | None = None) -> Callable[[], Device]:
    """Return a function that makes the exponential device with these NeuroSim labels.

    `up` is the label of LTP (potentiation), and `down` is the label of LTD (depression). Labels of opposite sign mean mirrored
    LTD, and labels of the same sign mean retraced LTD (see `Exponential`).
    """
    return lambda: Exponential(levels, nonlinearity(up), nonlinearity(down), up * down > 0, down_levels)


_NEUROSIM = "NeuroSim (MLP V3.0 source)"
_TABLE = "NeuroSim's benchmark table (Chen et al., IEDM 2017; TCAD 2018), from memory, not checked"
_AIHWKIT = "aihwkit preset"
_NOISE = "here, the noise scales with the mean step, not with each step"


def _ecram() -> Device:
    """Return the EcRAM device.

    As in aihwkit, the weight w ranges from `low` to `high`. A pulse up increases w by ``dw (1 - gamma_up w / high)``, and a
    pulse down decreases w by ``dw (1 - gamma_down w / low)``.
    """
    dw, low, high, gamma_up, gamma_down = 0.002, -0.8276, 1.1724, 0.1153, 0.5085
    step = dw / (high - low)
    up = step * (1 - gamma_up * low / high), dw * gamma_up / high
    return AffineStep(1000, up, (step * (1 - gamma_down), -dw * gamma_down / low))


def _pcm() -> Device:
    shape = {"weight_up": -27.235, "weight_down": -2.235, "gamma_up": 2.5, "gamma_down": 2.5}
    return exponential_step(72, **shape, a=-1.0, b=0.0, low=0.0, high=2.0, step=0.01 / 2, down_levels=1)


def _reram_es() -> Device:
    shape = {"weight_up": -1.18445, "weight_down": -0.081404, "gamma_up": 5.0, "gamma_down": 5.0}
    return exponential_step(1252, **shape, a=-0.5, b=-0.5, step=0.00135 / 2, down_levels=742)


CATALOGUE: dict[str, Published] = {
    "Ag:a-Si": Published(
        _labels(97, 2.40, -4.88, 100), f"Jo et al., Nano Lett. 2010, as in {_NEUROSIM}", 12.5, cycle_of_range=0.035
    ),
    "NeuroSim ideal": Published(lambda: Exponential(64), _NEUROSIM, 50.0),
    "FeFET (DNN default)": Published(
        _labels(32, 1.75, 1.46), "NeuroSim (DNN V2.1 training default)", 10.0, cycle_of_range=0.003
    ),
    "3T1C": Published(_labels(64, 0.5, 0.5), f"LSB cell of the hybrid synapse in {_NEUROSIM}", 45.0, cycle_of_range=0.005),
    "TaOx/TiO2 (recalled)": Published(_labels(102, 1.85, -1.79), _TABLE, 2.0, 0.01, verified=False),
    "PCMO (recalled)": Published(_labels(50, 3.68, -6.76), _TABLE, 6.84, 0.01, verified=False),
    "AlOx/HfO2 (recalled)": Published(_labels(40, 1.94, -0.61), _TABLE, 4.43, 0.05, verified=False),
    "GST PCM (recalled)": Published(_labels(100, 0.105, 2.4), _TABLE, 19.8, 0.015, verified=False),
    "EpiRAM (recalled)": Published(_labels(64, 0.5, -0.5), _TABLE, 50.2, 0.02, verified=False),
    "Gokmen-Vlasov": Published(
        lambda: LinearStep(1250), f"{_AIHWKIT}; Gokmen and Vlasov 2016", None, cycle_of_step=0.3,
        step_spread=0.3, range_spread=0.3,
    ),
    "Capacitor": Published(
        lambda: LinearStep(400, 0.05, 0.05), f"{_AIHWKIT}; Li et al. 2018", None, cycle_of_step=0.3,
        step_spread=0.1, range_spread=0.07,
    ),
    "EcRAM": Published(
        _ecram, f"{_AIHWKIT}; Tang et al. 2018; {_NOISE}", None, cycle_of_step=0.3, step_spread=0.1, range_spread=0.05,
    ),
    "ReRAM-ES": Published(
        _reram_es, f"{_AIHWKIT}; Gong et al. 2018; without its up/down bias of 0.26; {_NOISE}", None,
        cycle_of_step=5.0, step_spread=0.2, range_spread=0.3,
    ),
    "PCM (rise only)": Published(
        _pcm, f"{_AIHWKIT}; Nandakumar et al. 2020; for unidirectional pairs, since LTD is nearly a reset; {_NOISE}", None,
        cycle_of_step=0.6, step_spread=0.2, range_spread=0.1,
    ),
}  # fmt: skip
