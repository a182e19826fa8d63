"""Fine-tuning: one adapter, one set of questions, the loss on the answers alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Tensor
from torch.nn import functional as F

from workbench import checkpoints, datasets, models
from workbench.adapters.attach import adapted, add_adapter, parameter_groups
from workbench.adapters.config import AdapterConfig
from workbench.adapters.lab import bases, problems
from workbench.adapters.lab.problems import Batch, Encoded
from workbench.adapters.layer import Adapted
from workbench.knobs import knob
from workbench.models import LanguageModel
from workbench.training import Batches, Training, TrainingError, mixed

MODELS = (models.TINY, checkpoints.TINY_RWKV6, models.SMOLLM2)
PROSE = "prose-evaluation"  # by which forgetting is measured
EARLY = 20  # steps within which a run that flies off is told


class TuningConfig(AdapterConfig):
    """One adapter, trained on questions and answers."""

    title: ClassVar[str] = "training"
    model: str = knob(
        models.TINY,
        "model",
        "bundled, of the hub, a folder, or a file of RWKV-6",
        choices=MODELS,
        free=True,
        essential=True,
    )
    data: str = knob(
        "sums", "questions", "what is learnt; or a file of yours, or a hub id", free=True, essential=True,
        choices=(*problems.BUNDLED, *problems.FOLDER),
    )  # fmt: skip
    prompt: Literal["plain", "alpaca"] = knob(
        "plain", "prompt", "the question as it is, or in Alpaca's words, as in the paper's scripts"
    )
    lr: float = knob(0.003, "learning rate", "AdamW's", low=1e-7, high=1.0, log=True, essential=True)
    steps: int = knob(200, "steps", "of training", low=1, high=100_000, log=True, essential=True)
    batch: int = knob(16, "batch size", "questions a step", low=1, high=512, log=True)
    samples: int = knob(4000, "questions used", "to train on, at most", low=1, high=1_000_000, log=True)
    length: int = knob(
        256,
        "longest",
        "question with answer; what is longer is cut",
        low=8,
        high=4096,
        log=True,
        unit="tokens",
    )
    schedule: Literal["cosine", "constant"] = knob("cosine", "schedule", "of the rate: to zero, or none")
    warmup: float = knob(
        0.0, "warm-up", "share of the steps over which the rate rises", low=0.0, high=0.5, step=0.01
    )
    weight_decay: float = knob(
        0.0,
        "weight decay",
        "of what is trained: of MiSS, Bat and LoRA that pulls the update to zero, of full the weight",
        low=0.0,
        high=1.0,
    )
    dtype: Literal["float32", "bfloat16"] = knob(
        "float32",
        "base dtype",
        "of the frozen weights; auto: whichever this machine is faster with",
        choices=("float32", "bfloat16", "auto"),
    )
    device: Literal["cpu", "cuda"] = knob("cpu", "device", "where it runs")

    @field_validator("dtype", mode="before")
    @classmethod
    def _resolved(cls, value: Any, info: Any) -> Any:
        """`auto` is measured here, so that the config, and with it a run's identity and checkpoint, holds what is used."""
        return bases.faster_dtype(info.data.get("model", models.TINY)) if value == "auto" else value


def inputs(config: TuningConfig) -> list[str]:
    """References of model and data."""
    return [bases.ref(config.model), *problems.inputs(config.data), datasets.ref(PROSE)]


@contextmanager
def enough_memory() -> Iterator[None]:
    """Inside it a lack of memory is a TrainingError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said:
            raise TrainingError(
                "out of memory: lower the batch size, the longest question, or the rank, or take a smaller model"
            ) from error
        raise


class Tuner:
    """A fine-tuning under way: ``for step, loss in tuner.run(until)``; its state is all that a cut run goes on from."""

    @enough_memory()
    def __init__(self, config: TuningConfig, **more: Any):
        self.config = config
        self.lm = bases.load(config.model, getattr(torch, config.dtype), config.device)
        self.problems = problems.load(config.data)
        self.train = self.encoded(self.problems.train[: config.samples])
        self.model = bases.fresh(self.lm.model)
        self.whole_logits = not bases.head_alone_gives_logits(self.model)
        self._idle: dict[str, Adapted] = {}  # layers whose adapters have received no gradient so far
        start = perf_counter()
        groups = self.put_on(**more)
        self.start_seconds = perf_counter() - start  # of what a method does before the first step
        self.batches = Batches(len(self.train), min(config.batch, len(self.train)), mixed(config.seed, 1))
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.training = Training(self.model, optimizer, config.seed, schedule, draws=config.dropout > 0)
        self.training.before_step = self._see_gradients
        self.gradient_norm, self.first_loss = 0.0, math.nan

    def put_on(self, **more: Any) -> list[dict[str, Any]]:
        """Put the adapter on the model; returns what is trained, as groups for the optimizer."""
        gradient = (
            [self._labelled(number) for number in range(4)] if self.config.method == "lora-ga" else None
        )
        add_adapter(self.model, self.config.of(AdapterConfig), batches=gradient, **more)
        self._idle = adapted(self.model)
        return parameter_groups(self.model, self.config.lr)

    def encoded(self, part: Sequence[problems.Problem]) -> list[Encoded]:
        """Questions and answers as tokens."""
        c = self.config
        return problems.encode(self.lm.tokenizer, part, c.prompt, c.length, bases.end_of(self.lm))

    def _rate(self, step: int) -> float:
        c = self.config
        warm = round(c.warmup * c.steps)
        if step < warm:
            return (step + 1) / warm
        return (
            1.0
            if c.schedule == "constant"
            else (1 + math.cos(math.pi * (step - warm) / max(c.steps - warm, 1))) / 2
        )

    def _batch(self, rows: Tensor) -> Batch:
        return problems.collate([self.train[i] for i in rows.tolist()]).to(self.config.device)

    def _labelled(self, number: int) -> dict[str, Tensor]:
        """A batch as the model itself takes it, for LoRA-GA's gradient."""
        size = min(self.config.batch, len(self.train))
        order = torch.randperm(
            len(self.train), generator=torch.Generator().manual_seed(mixed(self.config.seed, 2))
        )
        batch = self._batch(order.roll(-number * size)[:size])
        labels = torch.full_like(batch.ids, -100)
        labels[batch.rows, batch.columns + 1] = batch.targets
        return {"input_ids": batch.ids, "labels": labels}

    def logits(self, batch: Batch) -> Tensor:
        """Of the answers' tokens alone, ``(answer tokens, vocabulary)``, in float32: the head is most of a small model's work."""
        if self.whole_logits:
            return self.model(input_ids=batch.ids).logits[batch.rows, batch.columns].float()
        hidden = bases.hidden_states(self.model, batch.ids)
        return bases.head(self.model)(hidden[batch.rows, batch.columns]).float()

    def run(self, until: int | None = None) -> Iterator[tuple[int, float]]:
        """Train up to step `until`; yields each step's number, from 1, and its loss.

        Raises TrainingError where the loss is not finite, or flies off, or where memory does not suffice.
        """

        def loss_of(step: int) -> Tensor:
            if not self.model.training:  # it was looked at
                self.model.train()
            batch = self._batch(self.batches(step))
            return F.cross_entropy(self.logits(batch), batch.targets)

        with enough_memory():
            for step, loss in self.training.steps(loss_of, self.config.steps if until is None else until):
                if step == 1:
                    self.first_loss = loss
                elif step <= EARLY and loss > self.first_loss + 10:
                    raise TrainingError(
                        f"the loss rose from {self.first_loss:.3g} to {loss:.3g} by step {step}: "
                        f"take a lower rate than {self.config.lr:g}"
                    )
                yield step, loss

    def _see_gradients(self) -> None:
        trained = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.gradient_norm = float(torch.stack([g.norm() for g in trained]).norm())
        self.training.check("gradient's norm", self.gradient_norm)
        if self._idle:
            self._see_who_is_reached()

    def _see_who_is_reached(self) -> None:
        """Warn of adapters without a gradient in the first steps: the model does not use their layers."""
        self._idle = {
            path: layer
            for path, layer in self._idle.items()
            if all(p.grad is None for p in layer.adapters.parameters())
        }
        if self._idle and self.training.done + 1 == min(EARLY, self.config.steps):
            warnings.warn(
                f"{len(self._idle)} adapters, such as that of layer {min(self._idle)!r}, have received no gradient in "
                f"{self.training.done + 1} steps: the model does not use these layers. Remove them from the targets",
                stacklevel=2,
            )
            self._idle = {}

    def state_dict(self) -> dict[str, Any]:
        """What is trained, optimizer, schedule, steps."""
        return {"training": self.training.state_dict(), "first_loss": self.first_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.training.load_state_dict(state["training"])
        self.first_loss = state["first_loss"]

    @enough_memory()
    @torch.no_grad()
    def judge(self, part: Sequence[problems.Problem]) -> dict[str, float]:
        """Mean loss a token of the answers, and the share of them that greedy decoding would write exactly, in one pass each.

        Greedy decoding writes an answer if each of its tokens is the likeliest after those before it.
        """
        # samples of similar length in a batch need little padding
        samples = sorted(self.encoded(part), key=lambda s: len(s.ids))
        self.model.eval()
        size = 2 * self.config.batch  # without gradients there is room for more
        total, tokens, right = 0.0, 0, 0
        for start in range(0, len(samples), size):
            batch = problems.collate(samples[start : start + size]).to(self.config.device)
            logits = self.logits(batch)
            total += F.cross_entropy(logits, batch.targets, reduction="sum").item()
            tokens += len(batch.targets)
            wrong = batch.rows[logits.argmax(-1) != batch.targets]
            right += len(batch.ids) - len(wrong.unique())
        return {"loss": total / tokens, "exact": right / len(samples)}

    @enough_memory()
    def final_answers(self, part: Sequence[problems.Problem], most: int = 200) -> float:
        """The share of worked answers, written greedily, whose last number (or boxed answer) is right."""
        final = self.problems.final
        if final is None:
            raise ValueError(f"{self.problems.name} has no worked answers: judge them by `judge`")
        right = 0
        for problem in part:
            text = problems.prompt(problem.question, self.config.prompt)
            said = bases.written(self.lm, self.model, text, most)
            right += final(said) == final(problem.answer) != ""
        return right / len(part)

    @enough_memory()
    def prose_loss(self, tokens: int = 4096) -> float:
        """Nats a token on held-out prose: what it rises by in training is what was forgotten."""
        self.model.eval()
        lm = LanguageModel(self.lm.name, self.model, self.lm.tokenizer)
        return models.loss(lm, datasets.load(PROSE), window=256, tokens=tokens)

    @enough_memory()
    def updates(self) -> dict[str, Tensor]:
        """Each layer's update as it stands, ``(out, in)``."""
        with torch.no_grad():
            return {
                path: layer.adapters["default"].delta(layer.own[0].float())
                for path, layer in adapted(self.model).items()
            }

    @property
    def trained(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)
