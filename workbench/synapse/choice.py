"""The knobs that choose a device, and the device that they make."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from workbench.experiment import Config, knob
from workbench.synapse.devices import Device, Exponential, LinearStep
from workbench.synapse.measured import is_curve, read_curve, read_steps
from workbench.synapse.presets import PRESETS
from workbench.synapse.tables import exponential_step, power

Law = Literal[
    "exponential", "linear", "linear-step", "power", "exponential-step", "measured",
    "Ag:a-Si", "NeuroSim ideal", "FeFET (DNN default)", "3T1C", "TaOx/TiO2 (recalled)", "PCMO (recalled)",
    "AlOx/HfO2 (recalled)", "GST PCM (recalled)", "EpiRAM (recalled)", "Gokmen-Vlasov", "Capacitor", "EcRAM",
    "ReRAM-ES", "PCM (rise only)",
]  # fmt: skip


RERAM_ES = "-1.18445,-0.081404,5,5,-0.5,-0.5"  # the law of the preset


class DeviceConfig(Config):
    """How conductance answers to pulses."""

    title: ClassVar[str] = "device"
    device: Law = knob(
        "exponential", "response law, or a published device, which brings its own levels and shape"
    )
    levels: int = knob(
        64,
        "pulses from Gmin to Gmax (published and measured devices have their own)",
        low=1,
        high=1_000_000,
        log=True,
        unit="pulses",
    )
    levels_down: int = knob(
        0, "pulses back; 0: as many", low=0, high=1_000_000, choices=(0, 16, 32, 64, 128, 256, 1024)
    )
    nonlinearity_up: float = knob(
        0.0,
        "nu of LTP (exponential; linear-step: ten times its slope, at most 10; power: exponent)",
        low=0.0,
        high=20.0,
        step=0.1,
    )
    nonlinearity_down: float = knob(0.0, "nu of LTD (never used by uni)", low=0.0, high=20.0, step=0.1)
    retraced: bool = knob(False, "LTD walks the LTP curve backwards instead of its mirror image")
    step_law: str = knob(
        RERAM_ES,
        "exponential-step, as in aihwkit: A up, A down, gamma up, gamma down, a, b",
        free=True,
        choices=(RERAM_ES,),
    )
    on_off: float = knob(
        10.0, "Gmax / Gmin: for currents and drift; an ideal pair cancels Gmin", low=1.01, high=1e6, log=True
    )
    curve: str = knob("", "CSV of a measured device: columns ltp, ltd; or g, up, down", file=".csv")
    smooth: bool = knob(False, "let a measured curve that turns back be replaced by the nearest monotone one")

    @model_validator(mode="after")
    def _makes_a_device(self) -> Self:
        self.make_device()
        return self

    def make_device(self) -> Device:
        """The device that these knobs describe; raises ValueError naming what is wrong."""
        changed = None
        if self.device == "measured":
            if not self.curve:
                raise ValueError(
                    "curve='': expected a CSV file with columns ltp, ltd (or g, up, down), since device='measured'; upload one"
                )
            changed = Path(self.curve).stat().st_mtime_ns if Path(self.curve).exists() else None
        return _make_device(
            self.device, self.levels, self.levels_down or None, self.nonlinearity_up, self.nonlinearity_down,
            self.retraced, self.step_law, self.curve, self.smooth, changed,
        )  # fmt: skip

    def conductance_ratio(self) -> float:
        """Gmax / Gmin: of the published or measured device where it is known, else the knob's."""
        if self.device == "measured" and is_curve(self.curve):
            return read_curve(self.curve, self.smooth).on_off
        published = PRESETS[self.device].on_off if self.device in PRESETS else None
        return published or self.on_off


@lru_cache(maxsize=256)
def _make_device(
    law: str,
    levels: int,
    levels_down: int | None,
    up: float,
    down: float,
    retraced: bool,
    step_law: str,
    curve: str,
    smooth: bool,
    changed: int | None,
) -> Device:
    if law in PRESETS:
        return PRESETS[law].make()
    if law == "exponential":
        return Exponential(levels, up, down, retraced, levels_down)
    if law == "linear":
        return Exponential(levels, down_levels=levels_down)
    if law == "linear-step":
        return LinearStep(levels, min(up / 10, 1.0), min(down / 10, 1.0), levels_down)
    if law == "power":
        return power(levels, up, down, levels_down)
    if law == "exponential-step":
        names = ("weight_up", "weight_down", "gamma_up", "gamma_down", "a", "b")
        found = numbers("step_law", step_law, float, -math.inf)
        if len(found) != len(names):
            raise ValueError(f"step_law={step_law!r}: expected {len(names)} numbers: {', '.join(names)}")
        return exponential_step(levels, **dict(zip(names, found, strict=True)), down_levels=levels_down)
    return read_curve(curve, smooth).device() if is_curve(curve) else read_steps(curve)


def numbers(name: str, text: str, kind: type, above: float = 0) -> list:
    """Numbers above `above` and below 100,000 from a knob's text; raises ValueError naming the knob."""
    try:
        found = [kind(word) for word in str(text).split(",")]
    except ValueError:
        found = []
    if not found or not all(above < value < 100_000 for value in found):
        what = "positive numbers" if above == 0 else "numbers"
        raise ValueError(f"{name}={text!r}: expected {what} below 100,000, separated by commas")
    return found
