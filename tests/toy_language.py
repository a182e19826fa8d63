"""A toy lab that imports only core modules: it loads a model, generates, chooses, and trains the last block on answers."""

import torch

from workbench import models, qa
from workbench.experiment import experiment
from workbench.generation import generate
from workbench.knobs import Config, knob
from workbench.plotting import figure
from workbench.training import Batches, Training

PAIRS = [qa.Pair(f"{a} + {b} =", str(a + b)) for a in range(1, 5) for b in range(1, 5)]


class AnswersConfig(Config):
    model: str = knob(models.TINY, "model", choices=(models.TINY, models.TINY_RWKV6, models.SMOLLM2), free=True)
    steps: int = knob(20, "steps", low=1, high=1000)
    lr: float = knob(1e-3, "learning rate", low=1e-6, high=1.0, log=True)
    presets = {"smoke": {}, "laptop": {}, "paper": "there is no paper"}


def draw(records, pinned=()):
    with figure(300, 200) as fig:
        fig.subplots().plot([r["loss"] for r in records])
    return fig


@experiment("toy/answers", version=1, figure=draw, inputs=lambda c: [models.ref(c.model)], hidden=True)
def answers(config: AnswersConfig, run):
    """Train a model on sums; yield loss, share of exact answers, generated text and choice, before and after training."""
    lm = models.load(config.model)
    for p in [*lm.model.parameters()][-12:]:
        p.requires_grad_(True)
    samples = qa.encode(lm, PAIRS)
    batches = Batches(len(samples), 8)
    optimizer = torch.optim.AdamW([p for p in lm.model.parameters() if p.requires_grad], config.lr)
    training = Training(lm.model, optimizer)
    yield look(lm, samples)
    for _ in training.steps(lambda step: loss(lm, samples, batches(step)), config.steps):
        pass
    yield look(lm, samples)


def loss(lm, samples, rows):
    lm.model.train()
    return qa.answer_loss(lm.model, qa.collate([samples[i] for i in rows.tolist()]))


def look(lm, samples):
    best, scores = qa.choose(lm, PAIRS[0].question, [PAIRS[0].answer, "a whale"])
    written = generate(lm, qa.prompt(PAIRS[0].question), 4)
    return {**qa.judge(lm, samples), "written": written.text, "best": best, "scores": scores}
