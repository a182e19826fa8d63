"""The comparison adapters/answers, which measures how many sums SmolLM2-135M answers exactly during its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from workbench.adapters.lab.colours import MODEL_NAMES, STYLE
from workbench.adapters.lab.experiments import NO_PAPER
from workbench.adapters.lab.fits import JUDGED, StudyConfig, on_questions
from workbench.adapters.lab.studies import FIVE, KNOBS
from workbench.adapters.lab.study_figures import log_ticks
from workbench.comparison import Point, comparison
from workbench.experiment import Record
from workbench.intervals import judging_rows
from workbench.knobs import knob
from workbench.models import SMOLLM2
from workbench.plotting import figure, finish

PANELS = {"curve": "held-out loss, nats per token", "answered": "answered exactly, %"}

TESTED = {"curve": "loss", "answered": "exact"}


def draw_answers(records: Sequence[Record]) -> Figure:
    """Draw the held-out loss, and the share of held-out questions that are answered exactly, against the step.

    Each thin line shows one seed, and each thick line the mean of a method over its seeds. A star shows the mean on the test
    questions after the last step.
    """
    judged = [r for r in judging_rows(records) if r.get("answered")]
    labels = list(dict.fromkeys(r["label"] for r in judged))
    with figure() as fig:
        for axes, (column, name) in zip(fig.subplots(1, 2), PANELS.items(), strict=True):
            for label in labels:
                curves = np.array([r[column] for r in judged if r["label"] == label])
                curves[:, :, 1] *= 100 if column == "answered" else 1
                for steps, values in curves.transpose(0, 2, 1):
                    axes.plot(steps, values, color=STYLE.colour(label), linewidth=0.8, alpha=0.5)
                axes.plot(*curves.mean(0).T, "-o", markersize=3, color=STYLE.colour(label))
                tested = np.mean([r[TESTED[column]] for r in judged if r["label"] == label])
                axes.plot(
                    curves[0, -1, 0], tested * (100 if column == "answered" else 1), "*", markersize=9, color=STYLE.colour(label)
                )
            axes.set(xlabel="step", title=name)
        fig.axes[0].set_yscale("log")
        log_ticks(fig.axes[0].yaxis)
        fig.axes[1].set_ylim(0, max(10, fig.axes[1].get_ylim()[1]))
        ends = {label: 100 * np.mean([r["exact"] for r in judged if r["label"] == label]) for label in labels}
        said = ", ".join(f"{STYLE.name(label)} {end:.0f} %" for label, end in ends.items())
        seeds = len({r["seed"] for r in judged})
        model = next((MODEL_NAMES.get(r["model"], r["model"]) for r in judged), "")
        begun = 100 * np.mean([r["answered"][0][1] for r in judged]) if judged else 0.0
        return finish(
            fig,
            f"Sums answered exactly by {model}: {begun:.0f} % before training; {said} after training" if said else "Answers",
            f"sums of two and three numbers; thin lines: one seed, thick lines: mean of {seeds} seeds; star: test questions",
            {label: STYLE.name(label) for label in labels},
            {label: STYLE.colour(label) for label in labels},
        )


CHOICE = ("budget", "choosing")  # knobs without effect here, since each method has one fixed learning rate
# The best learning rates for 300 to 400 steps on SmolLM2-135M. For a shorter training, the best rate of MiSS is lower.
RATES = {"lora": 2e-3, "miss": 5e-4}


class AnswersConfig(StudyConfig):
    """The knobs of `answers`, which trains a few methods for more steps than the other comparisons do."""

    methods: tuple[str, ...] = knob(
        ("lora", "miss"), "methods", "The methods that are compared.", choices=(("lora", "miss"), FIVE), free=True
    )


@comparison(
    "adapters/answers",
    version=2,
    fit=on_questions,
    figure=draw_answers,
    presets={
        "smoke": {**{k: v for k, v in JUDGED.items() if k not in CHOICE}, "methods": ("miss",)},  # on the tiny llama
        "laptop": {
            "model": SMOLLM2, "dtype": "bfloat16", "steps": 600, "batch": 16, "seeds": 3, "looks": 8, "held_out": 100,
            "tested": 500, "prose": 2048,
        },
        "paper": NO_PAPER,
    },
    swept=(*KNOBS, "peft", *CHOICE),
    paper="number of training steps until a small model answers sums exactly (our addition: the paper does not count them)",
)  # fmt: skip
def answers(config: AnswersConfig) -> Iterator[Point]:
    """Train SmolLM2-135M with LoRA and with MiSS, and measure how many sums it answers exactly during the training."""
    for method in config.methods:
        settings = config.settings(method)
        setting = settings[len(settings) // 2]
        if config.model == SMOLLM2 and method in RATES:
            setting = {"lr": RATES[method]}
        yield Point(method, {}, config.knobs_of(method), [setting])
