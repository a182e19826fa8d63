"""The knobs that choose a device, and the device that they make."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

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


RERAM_ES = (-1.18445, -0.081404, 5.0, 5.0, -0.5, -0.5)  # the law of that device in the catalogue
LAWS = ("exponential", "linear", "linear-step", "power", "exponential-step")


def _scheme(config: Any) -> str:
    return getattr(config, "scheme", "")


HAS_LEVELS = (lambda c: c.device in LAWS, "published and measured devices have their own")
NO_LTD = "unidirectional updating never uses LTD; linear, published and measured devices have a shape of their own"
SHAPED = ("exponential", "linear-step", "power")


class DeviceConfig(Config):
    """How conductance answers to pulses."""

    title: ClassVar[str] = "device"
    device: Law = knob(
        "exponential", "device", "a response law, or a published device, which brings its own levels and shape", essential=True
    )
    levels: int = knob(
        64, "levels", "pulses from Gmin to Gmax", low=1, high=1_000_000, log=True, unit="pulses", essential=True, when=HAS_LEVELS
    )
    levels_down: int = knob(
        0,
        "levels, LTD",
        "pulses from Gmax back to Gmin; 0: as many as up",
        low=0,
        high=1_000_000,
        choices=(0, 16, 32, 64, 128, 256, 1024),
        when=(lambda c: c.device in LAWS and _scheme(c) != "uni", NO_LTD),
    )
    nonlinearity_up: float = knob(
        0.0,
        "nonlinearity up",
        "shape nu of the rise, 0: a line (linear-step: ten times its slope, at most 10; power: its exponent)",
        low=0.0,
        high=20.0,
        step=0.1,
        essential=True,
        when=(lambda c: c.device in SHAPED, "this device has a shape of its own"),
    )
    nonlinearity_down: float = knob(
        0.0,
        "nonlinearity down",
        "shape nu of the fall, in the same measure",
        low=0.0,
        high=20.0,
        step=0.1,
        essential=True,
        when=(lambda c: c.device in SHAPED and _scheme(c) != "uni", NO_LTD),
    )
    retraced: bool = knob(
        False,
        "LTD retraces LTP",
        "LTD walks the LTP curve backwards, in place of its mirror image",
        when=(
            lambda c: c.device == "exponential" and c.nonlinearity_down > 0 and _scheme(c) != "uni",
            "only a curved exponential LTD can be turned round, and unidirectional updating never uses it",
        ),
    )
    step_law: tuple[float, float, float, float, float, float] = knob(
        RERAM_ES,
        "exponential steps",
        "as in aihwkit: A up, A down, gamma up, gamma down, a, b",
        when=(lambda c: c.device == "exponential-step", "only device exponential-step has it"),
    )
    on_off: float = knob(
        10.0,
        "Gmax / Gmin",
        "for currents and drift; in training an ideal pair cancels Gmin",
        low=1.01,
        high=1e6,
        log=True,
        when=(lambda c: c.known_ratio() is None, "this device's own is known"),
    )
    curve: str = knob(
        "",
        "measured curve",
        "CSV of a device: columns ltp, ltd; or g, up, down",
        file=".csv",
        when=(lambda c: c.device == "measured", "only device measured is read from a file"),
    )
    smooth: bool = knob(
        False,
        "smooth the curve",
        "a measured curve that turns back is replaced by the nearest monotone one",
        when=(lambda c: c.device == "measured" and is_curve(c.curve), "only a measured curve can be smoothed"),
    )

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

    def known_ratio(self) -> float | None:
        """Gmax / Gmin of a published or measured device, where it is known."""
        if self.device == "measured":
            return read_curve(self.curve, self.smooth).on_off if is_curve(self.curve) else None
        return CATALOGUE[self.device].on_off if self.device in CATALOGUE else None

    def conductance_ratio(self) -> float:
        """Gmax / Gmin: the device's own where it is known, else the knob's."""
        return self.known_ratio() or self.on_off


@lru_cache(maxsize=256)
def _make_device(
    law: str,
    levels: int,
    levels_down: int | None,
    up: float,
    down: float,
    retraced: bool,
    step_law: tuple[float, ...],
    curve: str,
    smooth: bool,
    changed: int | None,
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
    if law == "exponential-step":
        names = ("weight_up", "weight_down", "gamma_up", "gamma_down", "a", "b")
        return exponential_step(levels, **dict(zip(names, step_law, strict=True)), down_levels=levels_down)
    return read_curve(curve, smooth).device() if is_curve(curve) else read_steps(curve)
