"""Comparisons of methods, of variants of MiSS and Bat-row with one part changed, and of ranks.

The methods are compared with the same learning rate for all, and with the best learning rate of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workbench import checkpoints
from workbench.adapters.config import METHODS
from workbench.adapters.lab import part_figures, peft_point
from workbench.adapters.lab import study_figures as figures
from workbench.adapters.lab.experiments import NO_PAPER
from workbench.adapters.lab.fits import JUDGED, StudyConfig, on_questions
from workbench.comparison import Point, comparison, view
from workbench.knobs import knob
from workbench.models import SMOLLM2

SHARED = 1e-3  # the learning rate of all methods in points with rates="shared"
FIVE = ("full", "lora", "pissa", "miss", "bat-row")
KNOBS = ("method", "r", "alpha", "q", "lr", "control", "form", "dropout", "iterations", "compat", "ratio")
TINY_SIZE = {"steps": 300, "batch": 16}
SCALES = {"smoke": {**JUDGED, "methods": ("lora", "miss", "bat-row")}, "laptop": TINY_SIZE, "paper": NO_PAPER}


class MethodsConfig(StudyConfig):
    """The knobs of a comparison of methods on one model."""

    methods: tuple[str, ...] = knob(METHODS, "methods", "The methods that are compared.", choices=(METHODS, FIVE), free=True)


def both_rates(config: Any, methods: tuple[str, ...]) -> Iterator[Point]:
    """Yield two points for each method: at its best learning rate (chosen on held-out questions), and at the rate `SHARED`."""
    series = [(method, config.knobs_of(method), config.settings(method)) for method in methods]
    if config.peft:  # the rank comes from the PEFT config
        knobs = {**config.knobs_of("lora"), "peft": config.peft}
        series.append((peft_point.label(config.peft), knobs, config.settings("lora")))
    for label, knobs, settings in series:
        yield Point(label, {"rates": "own"}, knobs, settings)
        yield Point(label, {"rates": "shared"}, {**knobs, "lr": SHARED}, why="same rate for all")


@comparison(
    "adapters/methods",
    version=2,
    fit=on_questions,
    figure=figures.draw_methods,
    presets=SCALES,
    swept=KNOBS,
    paper="Table 5: LoRA, DoRA, PiSSA and MiSS at the same rate; here also each method at its own rate",
)
def methods(config: MethodsConfig) -> Iterator[Point]:
    """Train a model (by default the tiny llama, on sums) with fourteen methods, at the same rate and each at its best rate."""
    yield from both_rates(config, config.methods)


sweep = view(
    "adapters/sweep", of=methods, figure=figures.draw_sweep,
    about="The fits of adapters/methods: loss on held-out questions at every learning rate that was tried.",
    paper="loss against the rate, and against the size of the first step (our addition: the paper does not show them)",
)  # fmt: skip
curves = view(
    "adapters/curves", of=methods, figure=figures.draw_curves,
    about="The fits of adapters/methods: loss on held-out questions during training, at the same rate, and each at its own rate.",
    paper="Figure 5, and Figure 1 of version 4: loss against the step",
)  # fmt: skip
forgetting = view(
    "adapters/forgetting", of=methods, figure=figures.draw_forgetting,
    about="The fits of adapters/methods: test loss against forgetting, which is the rise of the loss on prose.",
    paper="forgetting (our addition; PEFT's comparison of July 2026 also measures it, with the same rate for all methods)",
)  # fmt: skip


@comparison(
    "adapters/rwkv",
    version=2,
    fit=on_questions,
    figure=figures.draw_methods,
    presets={
        "smoke": {
            **JUDGED,
            "model": checkpoints.TINY_RWKV6,
            "methods": ("lora", "miss"),
            "steps": 6,
            "tested": 16,
            "held_out": 8,
        },
        "laptop": {**TINY_SIZE, "steps": 200, "model": checkpoints.TINY_RWKV6, "methods": FIVE},
        "paper": NO_PAPER,
    },
    swept=KNOBS,
    paper="Table 5, RWKV-6: the comparison of adapters/methods on a second architecture",
)
def rwkv(config: MethodsConfig) -> Iterator[Point]:
    """Train the tiny RWKV-6 on sums with five methods, all at the same learning rate and each at its best learning rate."""
    yield from both_rates(config, config.methods)


@comparison(
    "adapters/smollm2",
    version=2,
    fit=on_questions,
    figure=figures.draw_methods,
    presets={
        "smoke": {**JUDGED, "methods": ("lora", "miss")},  # on the tiny llama
        "laptop": {
            "model": SMOLLM2, "methods": FIVE, "dtype": "bfloat16",  # not "auto", which depends on the machine
            "steps": 100, "batch": 16, "seeds": 3, "choosing": 1,
            "budget": 5, "looks": 5, "held_out": 32, "tested": 200, "prose": 2048,
        },
        "paper": NO_PAPER,
    },
    swept=KNOBS,
    paper="Table 5: LoRA, PiSSA and MiSS, here on a pretrained language model with three judging seeds",
)  # fmt: skip
def smollm2(config: MethodsConfig) -> Iterator[Point]:
    """Train SmolLM2-135M on sums with five methods, all at the same learning rate and each at its best learning rate."""
    yield from both_rates(config, config.methods)


PARTS: dict[str, dict[str, Any]] = {
    "miss": {"method": "miss"},
    "orthogonal A": {"method": "miss", "control": "orthogonal A"},
    "bat-row": {"method": "bat-row"},
    "W permuted": {"method": "bat-row", "control": "W permuted"},
    "without W": {"method": "bat-row", "control": "without W"},
    "without I": {"method": "bat-row", "control": "without I"},
}


@comparison(
    "adapters/controls",
    version=2,
    fit=on_questions,
    figure=part_figures.draw_controls,
    presets={"smoke": JUDGED, "laptop": TINY_SIZE, "paper": NO_PAPER},
    swept=(*KNOBS, "peft"),
    paper="effects of the tiled A of MiSS and of the weight W in Bat's update (our addition: the paper does not test them)",
)
def controls(config: StudyConfig) -> Iterator[Point]:
    """Compare MiSS with a variant whose A is orthogonal, and Bat-row with variants that permute W, omit W or omit I."""
    for label, knobs in PARTS.items():
        settings = config.settings(knobs["method"], higher=2 if label == "without I" else 0)
        yield Point(label, {}, {**config.knobs_of(knobs["method"]), **knobs}, settings)


RANKS = (4, 8, 16, 32, 64)


@comparison(
    "adapters/ranks",
    version=4,
    fit=on_questions,
    figure=part_figures.draw_ranks,
    presets={"smoke": JUDGED, "laptop": TINY_SIZE, "paper": NO_PAPER},
    swept=(*KNOBS, "peft"),
    paper="Figure 1 (gradient norm against rank) and Table 7 (rank)",
)
def ranks(config: StudyConfig) -> Iterator[Point]:
    """Compare ranks of LoRA, MiSS and Bat-row: test loss and first gradient norm, each rank at its best learning rate."""
    for method in ("lora", "miss", "bat-row"):
        for r in RANKS if config.budget > 2 else RANKS[1::2]:
            settings = config.settings(method, higher=-1 if r == 64 and method in ("lora", "miss") else 0)
            yield Point(method, {"rank": r}, {**config.knobs_of(method), "r": r}, settings)
