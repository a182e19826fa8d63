"""Fine-tuning of a model with one adapter on one set of questions. The loss is computed on the tokens of the answers only."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any, ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Tensor

from workbench import checkpoints, datasets, models, qa
from workbench.adapters.attach import adapted, add_adapter, parameter_groups
from workbench.adapters.config import AdapterConfig
from workbench.adapters.lab import problems
from workbench.adapters.layer import Adapted
from workbench.generation import generate
from workbench.knobs import knob
from workbench.qa import Batch, Encoded, Pair
from workbench.training import Batches, Training, TrainingError, enough_memory, mixed

MODELS = (models.TINY, models.TINY_RWKV6, models.SMOLLM2)
PROSE = "prose-evaluation"  # the text whose loss measures forgetting
# in the first EARLY steps, a loss that exceeds the first one by more than 10 raises an error; after these steps, adapters that
# have received no gradient cause a warning
EARLY = 20


@lru_cache
def faster_dtype(model: str) -> str:
    """Return ``bfloat16`` if it is clearly faster than ``float32`` on this machine, otherwise ``float32``.

    It is clearly faster if a matrix product as large as that of a layer takes less than 80 % of its time in float32.
    """
    width = checkpoints.sizes(model).get("hidden_size", 512)
    took = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.randn(128, width).to(dtype), torch.randn(2 * width, width).to(dtype)
        times = []
        for _ in range(7):
            start = perf_counter()
            torch.nn.functional.linear(x, weight)
            times.append(perf_counter() - start)
        took[dtype] = min(times[1:])
    return "bfloat16" if took[torch.bfloat16] < 0.8 * took[torch.float32] else "float32"


class TuningConfig(AdapterConfig):
    """The knobs of the training of one adapter on questions and answers."""

    title: ClassVar[str] = "training"
    model: str = knob(
        models.TINY, "model", "A bundled model, a model of the Hugging Face hub, a local folder, or a file of RWKV-6 weights.",
        choices=MODELS, free=True, essential=True,
    )  # fmt: skip
    data: str = knob(
        "sums", "questions", "Questions on which the adapter is trained: a set from the list, your own file, or a data set of "
        "the Hugging Face hub.", free=True, essential=True, choices=(*problems.BUNDLED, *problems.FOLDER),
    )  # fmt: skip
    prompt: Literal["plain", "alpaca"] = knob(
        "plain",
        "prompt",
        "Use the question unchanged (plain), or put it into the Alpaca prompt (alpaca), as the scripts of the paper do.",
    )
    lr: float = knob(
        0.003, "learning rate", "Learning rate of AdamW. Training diverges if it is too large.",
        low=1e-7, high=1.0, log=True, essential=True,
    )  # fmt: skip
    steps: int = knob(200, "steps", "Number of training steps.", low=1, high=100_000, log=True, essential=True)
    batch: int = knob(16, "batch size", "Number of questions in each training step.", low=1, high=512, log=True)
    samples: int = knob(4000, "training questions", "Largest number of questions to train on.", low=1, high=1_000_000, log=True)
    length: int = knob(
        256,
        "maximum length",
        "A question with its answer is cut after this many tokens.",
        low=8,
        high=4096,
        log=True,
        unit="tokens",
    )
    schedule: Literal["cosine", "constant"] = knob(
        "cosine", "schedule", "The learning rate decays to zero along a cosine, or stays constant."
    )
    warmup: float = knob(
        0.0,
        "warm-up",
        "Fraction of the steps, at the start, in which the learning rate rises linearly.",
        low=0.0,
        high=0.5,
        step=0.01,
    )
    weight_decay: float = knob(
        0.0,
        "weight decay",
        "Weight decay of AdamW on the trained parameters. For MiSS, Bat and LoRA, it pulls the update towards "
        "zero. For full fine-tuning, it pulls the weight itself towards zero.",
        low=0.0,
        high=1.0,
    )
    dtype: Literal["float32", "bfloat16"] = knob(
        "float32",
        "base dtype",
        "Number format of the frozen weights. The choice auto uses the format that is faster on this machine.",
        choices=("float32", "bfloat16", "auto"),
    )
    device: Literal["cpu", "cuda"] = knob("cpu", "device", "Device of the training: the processor (cpu) or an NVIDIA GPU (cuda).")

    @field_validator("dtype", mode="before")
    @classmethod
    def _resolved(cls, value: Any, info: Any) -> Any:
        """Replace ``auto`` by the faster format. The config identifies a run, so it must name the format that is used."""
        return faster_dtype(info.data.get("model", models.TINY)) if value == "auto" else value


def inputs(config: TuningConfig) -> list[str]:
    """Return references (name and checksum) to the model, the questions and the prose."""
    return [models.ref(config.model), *problems.inputs(config.data), datasets.ref(PROSE)]


class Tuner:
    """A fine-tuning run in progress. The loop ``for step, loss in tuner.run(until)`` trains the adapter.

    To continue an interrupted run exactly, pass the result of `state_dict` to `load_state_dict` of a new Tuner. The keyword
    arguments `more` are passed to `add_adapter`.
    """

    @enough_memory()
    def __init__(self, config: TuningConfig, **more: Any):
        self.config = config
        self.lm = models.shallow_copy(models.shared(config.model, getattr(torch, config.dtype), config.device))
        self.problems = problems.load(config.data)
        self.train = self.encoded(self.problems.train[: config.samples])
        qa.head_alone_gives_logits(self.model)  # this check must run before the model has adapters
        self._idle: dict[str, Adapted] = {}  # layers with adapters that have not received a gradient yet
        start = perf_counter()
        groups = self.put_on(**more)
        self.start_seconds = perf_counter() - start  # time to add the adapter, including the SVD of PiSSA
        self.batches = Batches(len(self.train), min(config.batch, len(self.train)), mixed(config.seed, 1))
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.training = Training(self.model, optimizer, config.seed, schedule, draws=config.dropout > 0)
        self.training.before_step = self._see_gradients
        self.gradient_norm, self.first_loss = 0.0, math.nan

    def put_on(self, **more: Any) -> list[dict[str, Any]]:
        """Add the adapter to the model, and return the trained parameters as groups for the optimizer."""
        gradient = [self._labelled(number) for number in range(4)] if self.config.method == "lora-ga" else None
        add_adapter(self.model, self.config.of(AdapterConfig), batches=gradient, **more)
        self._idle = adapted(self.model)
        return parameter_groups(self.model, self.config.lr)

    def encoded(self, part: Sequence[Pair]) -> list[Encoded]:
        """Convert questions and answers to tokens."""
        c = self.config
        return qa.encode(self.lm, part, c.prompt, c.length)

    def _rate(self, step: int) -> float:
        c = self.config
        warm = round(c.warmup * c.steps)
        if step < warm:
            return (step + 1) / warm
        return 1.0 if c.schedule == "constant" else (1 + math.cos(math.pi * (step - warm) / max(c.steps - warm, 1))) / 2

    def _batch(self, rows: Tensor) -> Batch:
        return qa.collate([self.train[i] for i in rows.tolist()]).to(self.config.device)

    def _labelled(self, number: int) -> dict[str, Tensor]:
        """Return a batch as keyword arguments of the model. LoRA-GA starts from the gradient on such batches."""
        size = min(self.config.batch, len(self.train))
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(mixed(self.config.seed, 2)))
        batch = self._batch(order.roll(-number * size)[:size])
        labels = torch.full_like(batch.ids, -100)
        labels[batch.rows, batch.columns + 1] = batch.targets
        return {"input_ids": batch.ids, "labels": labels}

    def run(self, until: int | None = None) -> Iterator[tuple[int, float]]:
        """Train up to step `until`, or to the last step if `until` is None. Yields each step, counted from 1, and its loss.

        Raises TrainingError if the loss is not finite or diverges, or if the memory is not sufficient.
        """

        def loss_of(step: int) -> Tensor:
            if not self.model.training:  # an evaluation has changed the mode
                self.model.train()
            batch = self._batch(self.batches(step))
            return qa.answer_loss(self.model, batch)

        with enough_memory():
            for step, loss in self.training.steps(loss_of, self.config.steps if until is None else until):
                if step == 1:
                    self.first_loss = loss
                elif step <= EARLY and loss > self.first_loss + 10:
                    raise TrainingError(
                        f"the training diverges: the loss has risen from {self.first_loss:.3g} to {loss:.3g} nats per token by "
                        f"step {step}; set a lower learning rate than {self.config.lr:g}"
                    )
                yield step, loss

    def _see_gradients(self) -> None:
        trained = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.gradient_norm = float(torch.stack([g.norm() for g in trained]).norm())
        self.training.check("gradient's norm", self.gradient_norm)
        if self._idle:
            self._see_who_is_reached()

    def _see_who_is_reached(self) -> None:
        """Warn if some adapters have received no gradient in the first steps because the model does not use their layers."""
        self._idle = {
            path: layer for path, layer in self._idle.items() if all(p.grad is None for p in layer.adapters.parameters())
        }
        if self._idle and self.training.done + 1 == min(EARLY, self.config.steps):
            warnings.warn(
                f"{len(self._idle)} adapters, such as that of layer {min(self._idle)!r}, have received no gradient in "
                f"{self.training.done + 1} steps: the model does not use these layers. Remove these layers from the targets",
                stacklevel=2,
            )
            self._idle = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training: trained parameters, optimizer, schedule, number of steps, first loss."""
        return {"training": self.training.state_dict(), "first_loss": self.first_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned, so that the training continues from it."""
        self.training.load_state_dict(state["training"])
        self.first_loss = state["first_loss"]

    def judge(self, part: Sequence[Pair]) -> dict[str, float]:
        """Return the result of `qa.judge` on these questions. Batches are twice as large as in training."""
        return qa.judge(self.lm, self.encoded(part), 2 * self.config.batch)

    @enough_memory()
    def final_answers(self, part: Sequence[Pair], most: int = 200) -> float:
        """Return the share of questions whose generated answer has the right last number or boxed answer.

        Answers are generated greedily, with at most `most` tokens. Raises ValueError if the set has no worked answers.
        """
        final = self.problems.final
        if final is None:
            raise ValueError(f"{self.problems.name} has no worked answers, which final_answers needs; use judge instead")
        right = 0
        for problem in part:
            said = generate(self.lm, qa.prompt(problem.question, self.config.prompt), most).text
            right += final(said) == final(problem.answer) != ""
        return right / len(part)

    @enough_memory()
    def prose_loss(self, tokens: int = 4096) -> float:
        """Return the loss, in nats per token, on `tokens` tokens of held-out prose. Its rise measures forgetting."""
        self.model.eval()
        return models.loss(self.lm, datasets.load(PROSE), window=256, tokens=tokens)

    @enough_memory()
    def updates(self) -> dict[str, Tensor]:
        """Return the current update ``(out, in)`` of each layer, by the path of the layer."""
        with torch.no_grad():
            return {path: layer.adapters["default"].delta(layer.own[0].float()) for path, layer in adapted(self.model).items()}

    @property
    def model(self) -> Any:
        """The model with the adapter. The base model itself is not changed; both use the same tensors for the frozen weights."""
        return self.lm.model

    @property
    def trained(self) -> int:
        """The number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)
