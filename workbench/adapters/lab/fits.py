"""What comparisons fit: one adapter trained on one set of questions; and the rates that each method may choose from."""

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
    """One adapter on one set of questions, looked at on the way."""

    title: ClassVar[str] = "looks"
    looks: int = knob(8, "looks", "at the loss on held-out questions, on the way", low=1, high=100)
    held_out: int = knob(64, "looked at", "held-out questions, at each look", low=1, high=300)
    tested: int = knob(500, "tested on", "questions of each held-out part, at most", low=1, high=500)
    prose: int = knob(4096, "prose", "by which forgetting is measured", low=256, high=100_000, log=True, unit="tokens")
    control: str = knob("", "control", "a variant of the method, which takes one part of it away", choices=("", *CONTROLS))
    peft: str = knob(
        "", "PEFT's config", "of a further point, as JSON: any adapter of PEFT, where it is installed", free=True,
        choices=("", PEFT_EXAMPLE),
    )  # fmt: skip


@fit("adapters/tune", version=3, inputs=inputs, higher=False)
def on_questions(config: FitConfig, run: Run) -> Record:
    """One adapter on one set of questions; killed and started anew it goes on."""
    tuner = PeftTuner(config) if config.peft else Tuner(config, kind=CONTROLS.get(config.control))
    state, seen = run.load(), {"curve": [], "answered": [], "first": {}, "seconds": 0.0, "prose": 0.0}
    if state is not None:
        tuner.load_state_dict(state["tuner"])
        seen = state["seen"]
    else:
        seen["prose"] = tuner.prose_loss(config.prose)
    return record_of(tuner, run, seen)


def record_of(tuner: Tuner, run: Run, seen: dict[str, Any]) -> Record:
    """Train to the end; what was measured. `seen` is what was seen before a cut."""
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
        "state_bytes": 2 * 4 * trained,  # AdamW's two means, in float32
        "training_seconds": seen["seconds"] + time.perf_counter() - begun,
        "final": tuner.final_answers(tuner.problems.test[:50]) if tuner.problems.final else None,
    }


def first_step(tuner: Tuner) -> dict[str, float]:
    """What a first step does, and what two hold, then undone.

    kept: bytes, for the gradient; step: mean move of a weight, as a share of the rate; gradient: its norm; peak: bytes that the
    two hold at most, with gradients and AdamW's state, beside the model.
    """
    rate = tuner.training.optimizer.param_groups[0]["lr"] or tuner.config.lr
    start, before, alive = copy.deepcopy(tuner.state_dict()), tuner.updates(), Alive()
    with alive:
        kept = keeping(lambda: [*tuner.run(1)], (*tuner.model.parameters(), *tuner.model.buffers()))
    after, gradient = tuner.updates(), tuner.gradient_norm
    with alive:  # a second, beside what the first has left
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


# -- what each method may choose from: as many rates each, around where its best was found -----------------------------------

STEP = 10**0.25  # four rates a decade


def rates(middle: float, count: int) -> list[Setting]:
    """So many rates around `middle`, each 1.8 times the one before."""
    return candidates(lr=[float(f"{middle * STEP ** (k - count // 2):.2g}") for k in range(count)])


MIDDLE: dict[str, dict[str, float]] = {  # of each model
    "tiny-llama": {
        "full": 8e-4, "lora": 4e-3, "rslora": 2.5e-3, "lora+": 7e-4, "pissa": 4e-3, "olora": 4e-3, "lora-ga": 1e-3, "dora": 4e-3,
        "lora-fa": 1.2e-2, "hira": 4.5e-2, "miss": 3.5e-3, "mini": 2.5e-3, "bat-col": 3e-3, "bat-row": 3e-3,
    },
    "tiny-rwkv6": {"full": 3e-3, "lora": 7e-3, "pissa": 7e-3, "miss": 4e-3, "bat-row": 9e-3},
    "smollm2-135m": {"full": 3.16e-5, "lora": 2e-3, "pissa": 1.58e-4, "miss": 1.58e-4, "bat-row": 2.81e-4},
}  # fmt: skip
# the ranks nearest to MiSS's numbers at r = 16: LoRA's kind has in and out, LoRA-FA and MiSS one of them; Bat's must divide both
RANKS = {"miss": 16, "bat-col": 16, "bat-row": 16, "lora-fa": 16, "mini": 46, "full": 1}
OF_LORA = 8
OF_MINI = 64  # its q, which divides every layer's outputs


class StudyConfig(ComparisonConfig, FitConfig):
    """Methods on questions: some seeds choose each one's rate by held-out questions, fresh ones judge on test questions."""

    title: ClassVar[str] = "budget"
    budget: int = knob(5, "rates tried", "for each method", low=1, high=8, essential=True)

    def knobs_of(self, method: str, model: str | None = None) -> dict[str, Any]:
        """A method at the common budget of parameters."""
        found: dict[str, Any] = {"method": method, "r": RANKS.get(method, OF_LORA), "model": model or self.model, "peft": ""}
        return found | ({"q": OF_MINI} if method == "mini" else {})

    def settings(self, method: str, model: str | None = None, higher: int = 0) -> list[Setting]:
        """The rates that it may choose from; `higher`: so many of them further up, for a variant whose best lies there."""
        middle = (MIDDLE["tiny-llama"] | MIDDLE.get(model or self.model, {}))[method]
        return rates(middle * STEP**higher, self.budget)


JUDGED = {
    "seeds": 2, "choosing": 1, "budget": 2, "steps": 10, "batch": 8, "samples": 100, "looks": 2, "held_out": 16, "tested": 32,
    "prose": 512,
}  # fmt: skip
