"""The fit that the comparisons use (one adapter, trained on one set of questions), and the learning rates that are tried."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any, ClassVar

from workbench.adapters.lab import problems
from workbench.adapters.lab.controls import CONTROLS
from workbench.adapters.lab.looking import Alive, keeping
from workbench.adapters.lab.peft_point import PeftTuner
from workbench.adapters.lab.tuning import Tuner, TuningConfig, inputs
from workbench.comparison import ComparisonConfig, Setting, candidates, fit
from workbench.experiment import Record
from workbench.knobs import knob
from workbench.runs import Run

PEFT_EXAMPLE = '{"peft_type": "VERA", "r": 64}'


class FitConfig(TuningConfig):
    """The knobs of one fit: an adapter that is trained on a set of questions and evaluated during the training."""

    title: ClassVar[str] = "evaluation"
    looks: int = knob(8, "evaluations", "The number of evaluations on held-out questions during the training.", low=1, high=100)
    held_out: int = knob(64, "held-out questions", "The number of held-out questions in each evaluation.", low=1, high=300)
    tested: int = knob(
        500, "test questions", "The largest number of questions in the final validation, and in the test.", low=1, high=500
    )
    prose: int = knob(
        4096,
        "prose",
        "The length of a held-out text. Forgetting is the rise of the loss on this text during the training.",
        low=256,
        high=100_000,
        log=True,
        unit="tokens",
    )
    control: str = knob(
        "", "control", "A variant that changes or removes one part of the method. Empty: no change.", choices=("", *CONTROLS)
    )
    peft: str = knob(
        "", "PEFT config", "The config (JSON) of an adapter of PEFT to add to the comparison. This needs the package peft.",
        free=True, choices=("", PEFT_EXAMPLE),
    )  # fmt: skip


@fit("adapters/tune", version=3, inputs=inputs, higher=False)
def on_questions(config: FitConfig, run: Run) -> Record:
    """Train and evaluate one adapter on one set of questions. An interrupted fit continues from its last checkpoint."""
    tuner = PeftTuner(config) if config.peft else Tuner(config, kind=CONTROLS.get(config.control))
    state, seen = run.load(), {"curve": [], "answered": [], "first": {}, "seconds": 0.0, "prose": 0.0}
    if state is not None:
        tuner.load_state_dict(state["tuner"])
        seen = state["seen"]
    else:
        seen["prose"] = tuner.prose_loss(config.prose)
    return record_of(tuner, run, seen)


def record_of(tuner: Tuner, run: Run, seen: dict[str, Any]) -> Record:
    """Train to the last step and return the record. `seen` holds the measurements made before this call."""
    config, every = tuner.config, max(1, tuner.config.steps // tuner.config.looks)
    held_out = tuner.problems.validation[: config.held_out]

    def look(step: int) -> None:
        judged = tuner.judge(held_out)
        seen["curve"].append((step, judged["loss"]))
        seen["answered"].append((step, judged["exact"]))

    if not tuner.training.done:
        look(0)
        seen["first"] = first_step(tuner)
    begun = time.perf_counter()
    for step, _ in tuner.run():
        if step % every == 0:
            look(step)
        if tuner.training.due():
            spent = seen["seconds"] + time.perf_counter() - begun
            run.save({"tuner": tuner.state_dict(), "seen": {**seen, "seconds": spent}})
    test = tuner.problems.test[: config.tested]
    judged, trained = tuner.judge(test), tuner.trained
    return {
        "model": Path(config.model).name,
        "validation": tuner.judge(tuner.problems.validation[: config.tested])["loss"],
        "loss": judged["loss"],
        "exact": judged["exact"],
        "guess": problems.guess(tuner.train, tuner.encoded(test)),
        "forgetting": tuner.prose_loss(config.prose) - seen["prose"],
        "curve": seen["curve"],
        "answered": seen["answered"],
        "first_gradient": seen["first"].get("gradient"),
        "step_size": seen["first"].get("step"),
        "kept_bytes": seen["first"].get("kept"),
        "peak_bytes": seen["first"].get("peak"),
        "init_seconds": tuner.start_seconds,
        "parameters": trained,
        "state_bytes": 2 * 4 * trained,  # AdamW's running means of the gradient and of its square, in float32
        "training_seconds": seen["seconds"] + time.perf_counter() - begun,
        "final": tuner.final_answers(tuner.problems.test[:50]) if tuner.problems.final else None,
    }


def first_step(tuner: Tuner) -> dict[str, float]:
    """Measure the first step and the memory of the first two steps. Then restore the state from before the first step.

    Returns a dict with

    - `kept`: the bytes that the forward pass stores for the backward pass;
    - `peak`: the largest number of bytes in use during these steps, with gradients and the state of AdamW, but without the model;
    - `step`: the mean absolute change of a weight in the first step, divided by the learning rate (None for adapters of PEFT);
    - `gradient`: the norm of the first gradient.
    """
    rate = tuner.training.optimizer.param_groups[0]["lr"] or tuner.config.lr
    start, before, alive = copy.deepcopy(tuner.state_dict()), tuner.updates(), Alive()
    with alive:
        kept = keeping(lambda: [*tuner.run(1)], (*tuner.model.parameters(), *tuner.model.buffers()))
    after, gradient = tuner.updates(), tuner.gradient_norm
    with alive:  # a second step, since the state of AdamW exists only after the first
        for _ in tuner.run(min(2, tuner.config.steps)):
            pass
    tuner.load_state_dict(start)
    moved = sum((after[path] - before[path]).abs().sum().item() for path in after)
    return {
        "kept": kept,
        "peak": alive.most,
        "step": moved / sum(u.numel() for u in after.values()) / rate if after else None,
        "gradient": gradient,
    }


# -- the learning rates that each method tries: the same number for every method, around the best rate of an earlier search ---

STEP = 10**0.25  # ratio of neighbouring learning rates: four rates per decade


def rates(middle: float, count: int) -> list[Setting]:
    """Return `count` learning rates around `middle`, each 1.8 times the previous one."""
    return candidates(lr=[float(f"{middle * STEP ** (k - count // 2):.2g}") for k in range(count)])


MIDDLE: dict[str, dict[str, float]] = {  # the middle one of the learning rates that are tried, by model and method
    "tiny-llama": {
        "full": 8e-4, "lora": 4e-3, "rslora": 2.5e-3, "lora+": 7e-4, "pissa": 4e-3, "olora": 4e-3, "lora-ga": 1e-3, "dora": 4e-3,
        "lora-fa": 1.2e-2, "hira": 4.5e-2, "miss": 3.5e-3, "mini": 2.5e-3, "bat-col": 3e-3, "bat-row": 3e-3,
    },
    "tiny-rwkv6": {"full": 3e-3, "lora": 7e-3, "pissa": 7e-3, "miss": 4e-3, "bat-row": 9e-3},
    "smollm2-135m": {"full": 3.16e-5, "lora": 2e-3, "pissa": 1.58e-4, "miss": 1.58e-4, "bat-row": 2.81e-4},
}  # fmt: skip
# These ranks give about as many parameters as MiSS with r = 16. LoRA and most of its variants train r * (in + out) parameters
# per layer; MiSS and LoRA-FA train only r * out. The r of Bat must divide the inputs and the outputs of every layer.
# Full fine-tuning has no rank, so its entry has no effect.
RANKS = {"miss": 16, "bat-col": 16, "bat-row": 16, "lora-fa": 16, "mini": 46, "full": 1}
OF_LORA = 8
OF_MINI = 64  # the width q of mini, which divides the outputs of every layer


class StudyConfig(ComparisonConfig, FitConfig):
    """The knobs of a comparison of methods, each at the learning rate that is best on held-out questions.

    This rate is chosen with some seeds. The method is then tested on test questions with other seeds.
    """

    title: ClassVar[str] = "budget"
    budget: int = knob(
        5, "rates tried", "The number of learning rates that are tried for each method.", low=1, high=8, essential=True
    )

    def knobs_of(self, method: str, model: str | None = None) -> dict[str, Any]:
        """Return the settings with which a method trains about as many parameters as the other methods (except `full`)."""
        found: dict[str, Any] = {"method": method, "r": RANKS.get(method, OF_LORA), "model": model or self.model, "peft": ""}
        return found | ({"q": OF_MINI} if method == "mini" else {})

    def settings(self, method: str, model: str | None = None, higher: int = 0) -> list[Setting]:
        """Return the learning rates that are tried for a method.

        All of them are multiplied by ``STEP ** higher``. For a variant whose best learning rate is higher, `higher` is above 0.
        """
        middle = (MIDDLE["tiny-llama"] | MIDDLE.get(model or self.model, {}))[method]
        return rates(middle * STEP**higher, self.budget)


JUDGED = {
    "seeds": 2, "choosing": 1, "budget": 2, "steps": 10, "batch": 8, "samples": 100, "looks": 2, "held_out": 16, "tested": 32,
    "prose": 512,
}  # fmt: skip
