"""The configuration of a device: the knobs that choose its response, and the device that they describe."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from workbench import datasets
from workbench.knobs import Config, knob
from workbench.synapse.catalogue import CATALOGUE
from workbench.synapse.devices import Device, Exponential, LinearStep
from workbench.synapse.measured import is_curve, read_curve, read_steps
from workbench.synapse.tables import exponential_step, power

Law = Literal[
    "exponential", "linear", "linear-step", "power", "exponential-step", "measured",
    "Ag:a-Si", "NeuroSim ideal", "FeFET (DNN default)", "3T1C", "TaOx/TiO2 (recalled)", "PCMO (recalled)",
    "AlOx/HfO2 (recalled)", "GST PCM (recalled)", "EpiRAM (recalled)", "Gokmen-Vlasov", "Capacitor", "EcRAM",
    "ReRAM-ES", "PCM (rise only)",
]  # fmt: skip


RERAM_ES = (-1.18445, -0.081404, 5.0, 5.0, -0.5, -0.5)  # the parameters of the device ReRAM-ES in the catalogue
LAWS = ("exponential", "linear", "linear-step", "power", "exponential-step")


def _scheme(config: Any) -> str:
    return getattr(config, "scheme", "")


def _ratio_unknown(config: Any) -> bool:
    try:
        return config.known_ratio() is None
    except ValueError:  # the file of the curve is invalid, and the knob `curve` shows the reason
        return True


EXAMPLE = "data/examples/device-curve.csv"
HAS_LEVELS = (lambda c: c.device in LAWS, "published and measured devices have a fixed number of levels")
NO_LTD = "the unidirectional scheme sends no LTD pulses, and not every device has this parameter"
SHAPED = ("exponential", "linear-step", "power")


class DeviceConfig(Config):
    """The knobs that describe how the conductance of a device responds to pulses."""

    title: ClassVar[str] = "device"
    device: Law = knob(
        "exponential",
        "device",
        "The response law of the device, or a published device, which has its own levels and shape. measured reads the device "
        "from a CSV file.",
        essential=True,
        names={
            name: name.replace("(recalled)", "(from memory, not checked)")
            for name, found in CATALOGUE.items()
            if not found.verified
        },
    )
    curve: str = knob(
        "",
        "measured curve",
        "A CSV file. Column ltp holds the conductances of a device during pulses up, and column ltd those during pulses down, in "
        "any unit. The first row is the conductance before the first pulse. If it is the conductance after the first pulse, add "
        "a column pulse that counts from 1. Alternatively, columns up and down give the size of a step up and of a step down at "
        f"the conductance in column g, as shares of the range. Example: {EXAMPLE}",
        file=".csv",
        when=(lambda c: c.device == "measured", "only the device measured is read from a file"),
    )
    smooth: bool = knob(
        False,
        "smooth the curve",
        "Replaces a measured curve that is not monotone by the nearest monotone curve.",
        when=(lambda c: c.device == "measured" and c.curve and is_curve(c.curve_path), "only a measured curve can be smoothed"),
    )
    levels: int = knob(
        64,
        "levels",
        "The number of pulses from Gmin to Gmax. More levels mean smaller steps.",
        low=1,
        high=1_000_000,
        log=True,
        unit="pulses",
        essential=True,
        when=HAS_LEVELS,
    )
    levels_down: int = knob(
        0,
        "levels, LTD",
        "The number of pulses from Gmax back to Gmin. 0 stands for the value of levels.",
        low=0,
        high=1_000_000,
        choices=(0, 16, 32, 64, 128, 256, 1024),
        when=(lambda c: c.device in LAWS and _scheme(c) != "uni", NO_LTD),
    )
    nonlinearity_up: float = knob(
        0.0,
        "nonlinearity up",
        "The shape nu of potentiation (LTP). 0 gives a straight line, and a large value gives large first steps. For "
        "linear-step, nu is ten times the slope, which is at most 1. For power, nu is the exponent.",
        low=0.0,
        high=20.0,
        step=0.1,
        essential=True,
        when=(lambda c: c.device in SHAPED, "this device has no shape nu that can be set"),
    )
    nonlinearity_down: float = knob(
        0.0,
        "nonlinearity down",
        "The shape nu of depression (LTD), defined as for nonlinearity up.",
        low=0.0,
        high=20.0,
        step=0.1,
        essential=True,
        when=(lambda c: c.device in SHAPED and _scheme(c) != "uni", NO_LTD),
    )
    retraced: bool = knob(
        False,
        "LTD retraces LTP",
        "On: LTD follows the LTP curve backwards. Off: LTD is the mirror image of an LTP curve.",
        when=(
            lambda c: c.device == "exponential" and c.nonlinearity_down > 0 and _scheme(c) != "uni",
            "this applies only to an exponential device with nonlinearity down above 0, in a scheme that uses LTD",
        ),
    )
    step_law: tuple[float, float, float, float, float, float] = knob(
        RERAM_ES,
        "exponential steps",
        "The parameters of aihwkit's ExpStep device: A up, A down, gamma up, gamma down, a, b.",
        when=(lambda c: c.device == "exponential-step", "only the device exponential-step has these parameters"),
    )
    on_off: float = knob(
        10.0,
        "Gmax / Gmin",
        "The ratio of the largest to the smallest conductance. It affects currents and drift. It does not affect training, "
        "because Gmin cancels in the difference of a pair.",
        low=1.01,
        high=1e6,
        log=True,
        when=(_ratio_unknown, "the ratio of this device is known"),
    )

    @model_validator(mode="after")
    def _makes_a_device(self) -> Self:
        self.make_device()
        return self

    def make_device(self) -> Device:
        """Return the device that the knobs describe.

        Raises ValueError if a knob has a value that the device does not allow, or if the file of a measured device is missing
        or invalid.
        """
        if self.device == "measured":
            return self._measured()
        return _make_device(
            self.device, self.levels, self.levels_down or None, self.nonlinearity_up, self.nonlinearity_down,
            self.retraced, self.step_law,
        )  # fmt: skip

    def _measured(self) -> Device:
        """Return the device that the file `curve` describes.

        Raises ValueError if the file is missing or invalid. The message begins with the name of the knob `curve`.
        """
        path = self.curve_path
        if not self.curve:
            raise ValueError(
                "curve='': choose a CSV file: columns ltp and ltd (the conductances before the first pulse and after each "
                f"pulse), or columns g, up and down (the sizes of the steps up and down at each g). Example: {EXAMPLE}"
            )
        if not os.path.isfile(path):
            where = datasets.searched(self.curve)
            raise ValueError(f"curve={self.curve!r}: there is no such file{where}; expected a CSV file, for example {EXAMPLE}")
        try:
            return _read_device(str(path), self.smooth, path.stat().st_mtime_ns)
        except ValueError as error:
            raise ValueError(f"curve={path.name!r}: {str(error).removeprefix(f'{path}: ')}") from None

    @property
    def curve_path(self) -> Path:
        """The path of the measured curve. A relative path is looked up in the current folder, then in the project folder."""
        return datasets.own_path(self.curve)

    def known_ratio(self) -> float | None:
        """Return Gmax / Gmin of a published or measured device, or None if the ratio is unknown."""
        if self.device == "measured":
            return read_curve(self.curve_path, self.smooth).on_off if is_curve(self.curve_path) else None
        return CATALOGUE[self.device].on_off if self.device in CATALOGUE else None

    def conductance_ratio(self) -> float:
        """Return Gmax / Gmin of the device if the ratio is known, and the value of the knob `on_off` otherwise."""
        return self.known_ratio() or self.on_off


@lru_cache(maxsize=256)
def _make_device(
    law: str, levels: int, levels_down: int | None, up: float, down: float, retraced: bool, step_law: tuple[float, ...]
) -> Device:
    if law in CATALOGUE:
        return CATALOGUE[law].make()
    if law == "exponential":
        return Exponential(levels, up, down, retraced, levels_down)
    if law == "linear":
        return Exponential(levels, down_levels=levels_down)
    if law == "linear-step":
        return LinearStep(levels, min(up / 10, 1.0), min(down / 10, 1.0), levels_down)
    if law == "power":
        return power(levels, up, down, levels_down)
    names = ("weight_up", "weight_down", "gamma_up", "gamma_down", "a", "b")
    return exponential_step(levels, **dict(zip(names, step_law, strict=True)), down_levels=levels_down)


@lru_cache(maxsize=64)
def _read_device(path: str, smooth: bool, changed: int) -> Device:
    return read_curve(path, smooth).device() if is_curve(path) else read_steps(path)
