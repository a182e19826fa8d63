"""What to work out by oneself after `02-inside`."""

from __future__ import annotations

from workbench.exercises import Exercise, declare
from workbench.synapse.config import SCHEMES, SynapseConfig
from workbench.synapse.devices import Exponential
from workbench.synapse.lab.inside import random_pulses, walk


def _unmoved() -> str:
    """The scheme whose walk is the same for two shapes of LTD."""
    pulses = random_pulses(300, up=0.5, seed=0)
    for scheme in SCHEMES:
        ends = [
            walk(SynapseConfig(scheme=scheme, nonlinearity_up=1.0, nonlinearity_down=nu), pulses)["weight"] for nu in (1.0, 10.0)
        ]
        if list(ends[0]) == list(ends[1]):
            return scheme
    raise AssertionError("no scheme is independent of LTD")


declare(
    "synapse",
    Exercise(
        "A linear device of 50 levels at g = 0.4 gets 20 pulses up, then 30 down. Where is it?",
        lambda: Exponential(50).pulse(0.4, up=20, down=30),
        "each pulse is 1/50, either way",
        "0.4 + 20/50 - 30/50, and no end is met on the way",
    ),
    Exercise(
        "LTP nu = 1, LTD nu = 10, 64 levels. To which conductance do equal random pulses pull it?",
        lambda: Exponential(64, 1.0, 10.0).symmetry_point(),
        "set the step up, a_p (g_inf - g), equal to the step down, a_d (g - g_0)",
        "below g = 0.15 a pulse up is the larger one, above it a pulse down",
    ),
    Exercise(
        "Which scheme does not change at all when the nonlinearity of LTD goes from 1 to 10? (uni, "
        "push-pull, alternating, reference)",
        _unmoved,
        "one of the four never sends a depressing pulse",
        "it only ever raises g+ or g-, and a reset is no LTD pulse",
    ),
)
