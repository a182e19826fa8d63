"""Live experiments: the training of an adapter, and the answers of a model with and without the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from workbench import models, qa, runs
from workbench.adapters.attach import adapted
from workbench.adapters.files import load_adapter, save_adapter
from workbench.adapters.lab import figures, looking, peft_code, questions, stories
from workbench.adapters.lab.colours import MODEL_NAMES
from workbench.adapters.lab.tuning import Tuner, TuningConfig, inputs
from workbench.experiment import Record, experiment, get
from workbench.knobs import knob
from workbench.runs import Run

NO_PAPER = (
    "the paper trains models of 3 to 13 billion weights on 395,000 questions; set model=, data= and device=cuda. The paper "
    "uses lr=2e-5, schedule=cosine and batch=64, with r=64 for MiSS and r=36 for LoRA"
)
HELD_OUT = 32  # held-out questions in each evaluation
PRESETS: dict[str, Any] = {
    "smoke": {"data": "last-word", "steps": 80, "every": 4, "batch": 16, "samples": 1000},
    "laptop": {"model": models.SMOLLM2, "lr": 5e-4, "steps": 100, "every": 5, "batch": 8, "dtype": "auto", "samples": 2000},
    "paper": NO_PAPER,
}


def named(model: str) -> str:
    """Return the display name of a model. For a file or a folder, this is the last part of the path."""
    return MODEL_NAMES.get(model, Path(model).name)


def warm_up() -> None:
    """Import transformers, which takes seconds, before the first run needs it."""
    models.warm_up()


class TrainConfig(TuningConfig):
    """The knobs of `train`, which evaluates an adapter at regular intervals while it is trained."""

    title: ClassVar[str] = "display"
    every: int = knob(
        5,
        "evaluate every",
        "The number of training steps between two evaluations. Each evaluation draws a picture.",
        low=1,
        high=1000,
        unit="steps",
    )
    shown: int = knob(
        0,
        "layer shown",
        "Number of the adapted layer whose update is drawn. Layers are counted from 0 in the order of the model. If the number "
        "is too large, the last layer is drawn.",
        low=0,
        high=2000,
    )
    presets = PRESETS


def _looks(config: TrainConfig) -> int:
    return 1 + -(-config.steps // config.every)


@experiment(
    "adapters/train",
    version=4,
    inputs=inputs,
    figure=figures.draw_train,
    story=stories.tell_train,
    place=lambda record: f"step {record['step']} of {record['of']}",
    prepare=warm_up,
    questions=questions.TRAIN,
    steps=_looks,
    code=peft_code.program,
)
def train(config: TrainConfig, run: Run) -> Iterator[Record]:
    """Train one adapter, and record its loss, gradient norm, step size, update, singular values, and the change of each layer."""
    tuner = Tuner(config)
    held_out = tuner.problems.validation[:HELD_OUT]
    state = run.load()
    if state is not None:
        tuner.load_state_dict(state)
    else:
        yield _look(tuner, [], tuner.judge(held_out), looking.answers(tuner, held_out[: looking.ASKED]))
    every, last = config.every, config.steps
    shown = looking.layer_at(tuner.model, config.shown)[1]
    losses: list[float] = []
    before = looking.update_of(shown)
    for step, loss in tuner.run():
        losses.append(loss)
        if step % every == 0 or step == last:
            told = None
            if step == last:
                told = looking.answers(tuner, held_out[: looking.ASKED])
                # PEFT can load the adapter from this folder.
                save_adapter(tuner.model, run.path("adapter_config.json").parent)
            yield _look(tuner, losses, tuner.judge(held_out), told, before)
            losses = []
            if tuner.training.due():
                run.save(tuner.state_dict())
        if (step + 1) % every == 0 or step + 1 == last:
            before = looking.update_of(shown)


def _look(
    tuner: Tuner, losses: list[float], judged: dict[str, float], told: list[str] | None, before: Tensor | None = None
) -> Record:
    """Return the record of one evaluation.

    `losses` are the batch losses since the previous evaluation, and `judged` is the result of `Tuner.judge`. `told` holds the
    answers of the model, or is None if the model was not asked now. `before` is the update of the layer that is drawn, as it was
    before the last step; before training, it is None.
    """
    path, layer = looking.layer_at(tuner.model, tuner.config.shown)
    update = looking.update_of(layer)
    held_out = tuner.problems.validation[: looking.ASKED]
    return {
        "step": tuner.training.done,
        "of": tuner.config.steps,
        "method": tuner.config.method,
        "r": tuner.config.r,
        "loss": sum(losses) / len(losses) if losses else None,
        "held_out": judged["loss"],
        "exact": judged["exact"],
        "judged": HELD_OUT,
        "gradient": tuner.gradient_norm if losses else None,
        "move": None if before is None else (update - before).abs().mean(),
        "rate": tuner.training.optimizer.param_groups[0]["lr"],
        "layer": looking.short(path),
        "shape": list(update.shape),
        "norm": update.norm(),
        **looking.moved(tuner.model),
        "values": looking.singular_values(update),
        "trained": tuner.trained,
        "whole": sum(layer.own[0].numel() for layer in adapted(tuner.model).values()),
        "asked": [p.question[-60:] for p in held_out] if told is not None else [],
        "right": [p.answer[-30:] for p in held_out] if told is not None else [],
        "told": [text[:40] for text in told or ()],
        "note": tuner.lm.note,
        **looking.crop(update),
    }


def trained_adapter(config: TrainConfig) -> Path:
    """Return the folder of the adapter that was trained with these settings. If there is no such run, train the adapter first."""
    training, knobs = get("adapters/train"), config.of(TrainConfig)
    for _ in runs.stream(training, knobs):
        pass
    return runs.runs_folder() / runs.run_id(training, knobs) / "artefacts"


class AskConfig(TrainConfig):
    """The knobs of `ask`: a question, and the training run whose adapter is compared with the model without an adapter."""

    title: ClassVar[str] = "question"
    question: str = knob(
        "23 + 48 =",
        "your question",
        "Any text. The adapter is trained on only one kind of question, so the model may answer other questions in the same way.",
        free=True,
        essential=True,
    )
    tokens: int = knob(12, "answer length", "The model generates at most this many tokens.", low=1, high=200)
    presets = {**PRESETS, "smoke": {**PRESETS["smoke"], "question": "Last word of: harbor night captain?"}}


@experiment(
    "adapters/ask",
    version=3,
    inputs=inputs,
    figure=figures.draw_ask,
    story=stories.tell_ask,
    prepare=warm_up,
    steps=lambda config: 1,
)
def ask(config: AskConfig, run: Run) -> Iterator[Record]:
    """Let the model answer a question without and with the adapter of adapters/train, which is trained first if necessary."""
    folder = trained_adapter(config)
    lm = models.shallow_copy(models.shared(config.model, getattr(torch, config.dtype)))
    text = qa.prompt(config.question, config.prompt)
    before = looking.first_line(lm, text, config.tokens)
    load_adapter(lm.model, folder)
    yield {
        "question": config.question,
        "right": looking.total(config.question),
        "before": before,
        "after": looking.first_line(lm, text, config.tokens),
        "method": config.method,
        "steps": config.steps,
        "tokens": config.tokens,
        "model": named(config.model),
        "data": Path(config.data).name,
    }
