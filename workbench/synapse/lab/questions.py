"""Questions that the panels ask before a run.

The reference comparison chose the learning rates: `ABRUPT_PUSH_PULL` for the pinned run with push-pull updating on devices with
abrupt LTD, and `UNI` for all other runs that train networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workbench.experiment import Question, Record
from workbench.synapse.lab.network_figures import by_scheme

# The learning rates that the reference comparison chose for the stochastic rule: for unidirectional updating, and for push-pull
# updating on devices with abrupt LTD. Tests compare these numbers with the records of that comparison.
UNI, ABRUPT_PUSH_PULL = 0.03, 0.01
SMALL = "This run has only one seed, and its number of training digits differs from the 20,000 of the ledger."
LINEAR: dict[str, Any] = {"nonlinearity_up": 0.0, "nonlinearity_down": 0.0}
ABRUPT: dict[str, Any] = {"nonlinearity_up": 1.0, "nonlinearity_down": 10.0}
BOTH: dict[str, Any] = {"scheme": "uni", "rival": "push-pull", "rate": UNI}


def _ends(records: list[Record]) -> dict[str, float]:
    return {name: 100 * rows[-1]["accuracy"] for name, rows in by_scheme(records).items()}


def _told(records: list[Record], rival: list[Record]) -> str:
    """Return the final test accuracy of each scheme as text."""
    return "test accuracy " + ", ".join(f"{end:.1f} % ({name})" for name, end in _ends(records).items())


def _told_before(records: list[Record], rival: list[Record]) -> str:
    before, after = _ends(rival), _ends(records)
    return "test accuracy " + ", ".join(f"{name} {before[name]:.1f} → {after[name]:.1f} %" for name in after if name in before)


def _two_runs(one: str, pinned: str) -> Callable[[list[Record], list[Record]], str]:
    """Return a function that writes two accuracies as text.

    They are that of the scheme `one` in this run, and that of the scheme `pinned` in the pinned run.
    """
    return lambda now, rival: f"test accuracy {_ends(now)[one]:.1f} % ({one}), {_ends(rival)[pinned]:.1f} % ({pinned}, pinned)"


def _falls(records: list[Record], scheme: str) -> int:
    """Return 1 if the final accuracy of `scheme` is more than 3 points below its best accuracy in the run, and 0 otherwise."""
    accuracy = [r["accuracy"] for r in by_scheme(records)[scheme]]
    return int(max(accuracy) - accuracy[-1] > 0.03)


def _loses_more(now: list[Record], rival: list[Record], one: str, other: str) -> int:
    """Return 0 if the scheme `one` loses at least as much accuracy as the scheme `other`, and 1 otherwise.

    The loss of a scheme is its accuracy in the pinned run minus its accuracy in this run.
    """
    before, after = _ends(rival), _ends(now)
    return int(before[one] - after[one] < before[other] - after[other])


def _abrupt(now: list[Record], rival: list[Record]) -> int:
    gap = _ends(now)["uni"] - _ends(rival)["push-pull"]
    return 2 if abs(gap) < 2 else int(gap < 0)


def _one_rule(now: list[Record], rival: list[Record]) -> int:
    gap = _ends(now)["uni"] - _ends(rival)["uni"]
    return 2 if abs(gap) < 2 else int(gap < 0)


TRAIN = (
    Question(
        "What if depression is abrupt?",
        "Depression in these devices is abrupt (ν = 10): at the highest conductance, one pulse down undoes more than ten pulses "
        "up. Push-pull updating (the pinned run) sends pulses in both directions. Unidirectional updating sends only pulses up. "
        "Each scheme has its best learning rate. Which one is more accurate?",
        ("unidirectional", "push-pull", "they differ by less than 2 points"), _abrupt,
        {"scheme": "uni", "rival": "software", "rate": UNI, **ABRUPT},
        {"scheme": "push-pull", "rate": ABRUPT_PUSH_PULL},
        measured=_two_runs("uni", "push-pull"),
        claim="abrupt", part="abrupt LTD: uni minus push-pull", agrees={"holds": (0,), "fails": (1, 2)}, unlike=SMALL,
        why="At most conductances, a pulse down changes a device much more than a pulse up. So push-pull updating moves most "
        "conductances towards the low end of the range, and small gradients cause large, noisy changes. Unidirectional pairs "
        "receive only pulses up, whose steps are small. The plot at the upper right shows the paths of three such pairs.",
    ),
    Question(
        "What if pairs are not refreshed?",
        "Pulses only increase the conductances of unidirectional pairs. A refresh resets pairs that are nearly full, and writes "
        "their weights again. What happens to the accuracy on linear devices if refresh is switched off?",
        ("it stays near its best", "it rises and then falls"), lambda now, rival: _falls(now, "uni"),
        {**BOTH, **LINEAR, "refresh": "none", "samples": 12_000}, measured=_told,
        claim="refresh", part="linear: points gained by refresh at the same", agrees={"holds": (1,), "fails": (0,)}, unlike=SMALL,
        why="When both devices of a pair are full, their difference is zero and cannot change any more: the weight is lost. "
        "In the histogram at the lower right, the conductances move to the right end. In the plot above the histogram, the "
        "dots of three pairs move to the upper right corner.",
    ),
    Question(
        "What if the devices differ?",
        "In the pinned run all devices are equal. In the next run, the step size differs from device to device, with a spread "
        "of 30 %. The paper's abstract says that unidirectional updating compensates for such differences. Which scheme loses "
        "more accuracy?",
        ("unidirectional", "push-pull"), lambda now, rival: _loses_more(now, rival, "uni", "push-pull"),
        {**BOTH, **LINEAR, "step_spread": 0.3}, {"step_spread": 0.0}, measured=_told_before,
        claim="variation", part="points lost by push-pull minus points lost by uni (stochastic rule, step spread",
        agrees={"holds": (1,), "fails": (0,)}, unlike=SMALL,
        why="A unidirectional pair increases a weight with one device and decreases it with the other. If one device has "
        "larger steps, each increase and the next decrease no longer cancel, so the weight drifts. In a push-pull pair "
        "both devices take part in every change, and most of the difference averages out.",
    ),
    Question(
        "How good are ideal devices?",
        "The devices are linear and have 256 levels. How far is the accuracy of unidirectional updating below that of training "
        "in software?",
        ("less than 3 points", "3 to 10 points", "more than 10 points"),
        lambda now, rival: int(np.searchsorted((3, 10), _ends(now)["software"] - _ends(now)["uni"])),
        {"scheme": "uni", "rival": "software", "rate": UNI, **LINEAR, "levels": 256}, measured=_told,
        claim="levels", part="software minus uni at 1024 levels", agrees={"holds": (0,)}, unlike=SMALL,
        why="A weight can only change by whole steps. With 256 levels a step is small compared with the weights that the "
        "network needs, and stochastic pulses make the average change equal to the change that the gradient requires. So hardly "
        "any accuracy is lost.",
    ),
    Question(
        "What if there are only 8 levels?",
        "The pinned run has linear devices with 64 levels. With 8 levels, each pulse changes the conductance eight times as "
        "much. What happens to the accuracy of unidirectional updating?",
        ("it rises", "it falls by less than 10 points", "it falls by more than 10 points"),
        lambda now, rival: int(np.searchsorted((0.0, 10), _ends(rival)["uni"] - _ends(now)["uni"])),
        {**BOTH, **LINEAR, "levels": 8}, {"levels": 64}, measured=_told_before,
        claim="levels", part="software minus uni at 8 levels", agrees={"holds": (1, 2)}, unlike=SMALL,
        why="A single pulse now changes a weight by an eighth of the largest weight. The network cannot average over many small "
        "updates, so each weight jumps around its best value. This noise costs accuracy, even though the devices are "
        "perfectly linear.",
    ),
    Question(
        "What if each update is one pulse?",
        "The single-step rule sends one pulse if the input and the error both exceed their thresholds. The stochastic rule (the "
        "pinned run) sends a random number of pulses, whose mean is the number that the gradient requires. Depression is abrupt. "
        "Which rule makes unidirectional updating more accurate?",
        ("single", "stochastic", "they differ by less than 2 points"), _one_rule,
        {**BOTH, **ABRUPT, "rule": "single"}, {"rule": "stochastic"},
        measured=_told_before,
        claim="single", part="the single-step rule", agrees={},
        why="The single-step rule uses only the sign of the gradient and sends no pulses for small errors, so it makes fewer but "
        "coarser updates. Compare the numbers of pulses per digit in the text above the picture. The claim in the ledger is "
        "about the lead over push-pull, which the single-step rule increases.",
    ),
)  # fmt: skip

ONE_SYNAPSE = (
    Question(
        "Where do random pulses lead?",
        "A push-pull pair receives random pulses. Pulses up (ν = 1) and pulses down (ν = 10) are equally likely. Where in the "
        "range are the conductances of both devices at the end?",
        ("near the middle", "near the top", "near the bottom"),
        lambda now, rival: int(np.argmin([abs(np.mean(now[-1]["plus"][-100:]) - place) for place in (0.5, 0.9, 0.15)])),
        {"scheme": "push-pull", "nonlinearity_up": 1.0, "nonlinearity_down": 10.0, "up": 0.5, "pulses": 1000},
        measured=lambda now, rival: f"the mean conductance g⁺ over the last 100 pulses is {np.mean(now[-1]['plus'][-100:]):.2f}",
        why="At most conductances, a step down is larger than a step up, so random pulses lower the conductance. On average, "
        "pulses up and down cancel only at the symmetry point, at which both steps are equal. Here this point is near the bottom "
        "of the range. During training, the noise of the gradient has the same effect.",
    ),
)  # fmt: skip
