"""Exercises for the notebook `02-inside`."""

from __future__ import annotations

from workbench.exercises import Exercise, declare
from workbench.synapse.config import SCHEMES, SynapseConfig
from workbench.synapse.devices import Exponential
from workbench.synapse.lab.inside import random_pulses, walk


def _unmoved() -> str:
    """Return the update scheme under which pulses give the same weights on devices with two different nu of LTD."""
    pulses = random_pulses(300, up=0.5, seed=0)
    for scheme in SCHEMES:
        ends = [
            walk(SynapseConfig(scheme=scheme, nonlinearity_up=1.0, nonlinearity_down=nu), pulses)["weight"] for nu in (1.0, 10.0)
        ]
        if list(ends[0]) == list(ends[1]):
            return scheme
    raise AssertionError("the weights depend on LTD under every update scheme; expected one scheme, uni, under which they do not")


declare(
    "synapse",
    Exercise(
        "A linear device with 50 levels has conductance g = 0.4. It receives 20 pulses up, then 30 pulses down. What is g now?",
        lambda: Exponential(50).pulse(0.4, up=20, down=30),
        "each pulse up adds 1/50 to g, and each pulse down subtracts 1/50",
        "0.4 + 20/50 - 30/50; g stays between 0 and 1 on the way, so no pulse is clipped",
    ),
    Exercise(
        "A device has 64 levels and the nonlinearities nu = 1 (potentiation, LTP) and nu = 10 (depression, LTD). Pulses up and "
        "down are random and equally likely. Around which conductance g does the device settle?",
        lambda: Exponential(64, 1.0, 10.0).symmetry_point(),
        "find the g at which the step up, a_p (g_inf - g), equals the step down, a_d (g - g_0)",
        "below g = 0.15 a step up is larger than a step down, and above g = 0.15 it is smaller",
    ),
    Exercise(
        "The nonlinearity nu of depression (LTD) is raised from 1 to 10. Under which update scheme do all weights stay the same? "
        "(uni, push-pull, alternating, reference)",
        _unmoved,
        "one of the four schemes never sends a depressing (LTD) pulse",
        "this scheme only raises g+ or g-, and the reset of a refresh is not an LTD pulse",
    ),
)
