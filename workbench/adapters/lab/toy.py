"""The toy problem of the paper (version 12, appendix C): a small network trained on one function is adapted to another.

The paper does not state how one number becomes 64 inputs. Here, a first layer maps it to 64 numbers, and adapters are added
to the two layers of 64 x 64 that follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.adapters.attach import add_adapter, parameter_groups
from workbench.adapters.config import AdapterConfig
from workbench.adapters.lab import study_figures as figures
from workbench.adapters.lab.colours import LOSS, NOTE, STYLE
from workbench.comparison import ComparisonConfig, Point, candidates, comparison, fit
from workbench.experiment import Record
from workbench.knobs import knob, vary
from workbench.measures import Panel, rows, sentence
from workbench.plotting import figure, finish
from workbench.runs import Run
from workbench.training import drawn, mixed


class Perceptron(nn.Module):
    """A multilayer perceptron of widths 1, 64, 64, 64, 1 with the activation tanh. The two 64 x 64 layers get the adapters."""

    def __init__(self, seed: int):
        super().__init__()
        with drawn(seed):
            self.spread = nn.Linear(1, 64)
            self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(2))
            self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, 1)`` inputs to ``(n, 1)`` outputs."""
        x = torch.tanh(self.spread(x))
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def wave(x: Tensor, shifted: bool) -> Tensor:
    """Return the values of the first function, ``sin(2 pi x)``.

    If `shifted` is True, return those of the second function, ``sin(2 pi x) + 0.3 cos(3 pi x)``.
    """
    y = torch.sin(2 * torch.pi * x)
    return y + 0.3 * torch.cos(3 * torch.pi * x) if shifted else y


class ToyConfig(AdapterConfig):
    """The knobs of one fit: one method on the toy problem."""

    title: ClassVar[str] = "toy"
    lr: float = knob(1e-3, "learning rate", "Learning rate of AdamW for the adapter.", low=1e-6, high=1.0, log=True)
    epochs: int = knob(
        100, "epochs", "Number of epochs for the adapter. Each epoch is one step on all 50 points.", low=1, high=10_000, log=True
    )


@fit("adapters/toy-fit", version=1, higher=False)
def on_toy(config: ToyConfig, run: Run) -> Record:
    """Train all weights on the first function for 250 epochs. Then train the adapter on the second one, and evaluate the network.

    `validation` and `loss` are mean squared errors between the network and the second function without noise. They are computed
    on two different grids of points.
    """
    generator = torch.Generator().manual_seed(mixed(config.seed, 7))
    x = torch.linspace(-1, 1, 50)[:, None]
    noise = 0.05 * torch.randn(50, 1, generator=generator)
    model = Perceptron(config.seed)
    _learn(model, torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.0), x, wave(x, False) + noise, 250)
    if config.method == "lora-ga":
        raise ValueError(
            "method='lora-ga' needs a model that returns a loss, but the toy model returns only its output; choose another method"
        )
    add_adapter(model, config.of(AdapterConfig))
    optimizer = torch.optim.AdamW(parameter_groups(model, config.lr), weight_decay=0.0)
    _learn(model, optimizer, x, wave(x, True) + noise, config.epochs)
    between, others = torch.linspace(-0.99, 0.99, 100)[:, None], torch.linspace(-0.98, 0.98, 200)[:, None]
    with torch.no_grad():
        errors = [F.mse_loss(model(points), wave(points, True)) for points in (between, others)]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"validation": errors[0], "loss": errors[1], "parameters": trained, "state_bytes": 8 * trained}


def _learn(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor, epochs: int) -> None:
    for _ in range(epochs):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()


RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
# The ranks of the paper, where it states one. The other ranks give about as many parameters as LoRA with rank 2, which has 512
# (DoRA: 384). Full fine-tuning has no rank.
RANKS = {"full": 1, "lora": 2, "pissa": 2, "dora": 1, "olora": 2, "hira": 2, "miss": 4, "bat-row": 4}


class ToyStudyConfig(ComparisonConfig, ToyConfig):
    """The knobs of the comparison of methods on the toy problem."""

    choosing: int = vary(ComparisonConfig.model_fields["choosing"], 3)
    few: bool = knob(False, "fewer fits", "Compare only LoRA and MiSS, with two learning rates each to choose from.")


def draw_toy(records: Sequence[Record]) -> Figure:
    """Draw the mean squared error with the paper's learning rate for all methods, and with the best learning rate of each."""
    error = replace(LOSS, axis="mean squared error")
    panels = [Panel(name, error, {"rates": rates}) for rates, name in RATES_NAMED.items()]
    with figure() as fig:
        for axes in rows(fig, records, panels, STYLE, figures.in_order(records), missing=" "):
            axes.locator_params(axis="x", nbins=4)
            axes.set_xscale("log")
            figures.log_ticks(axes.xaxis)
        title = sentence(
            "Advantage of LoRA over MiSS in squared error: ", figures.at_both(records, "lora", "miss"), "The toy", "{} {}"
        )
        return finish(fig, title, NOTE.of(records))


RATES_NAMED = {"shared": "all at 0.001", "own": "each at its own rate"}


@comparison(
    "adapters/toy",
    version=1,
    fit=on_toy,
    figure=draw_toy,
    presets={
        "smoke": {"seeds": 2, "choosing": 1, "few": True},
        "laptop": {"seeds": 10},
        "paper": "use the scale laptop: it is as large as the paper's toy problem",
    },
    swept=("method", "r", "alpha", "q", "lr", "form", "dropout", "iterations", "compat", "ratio", "targets"),
    paper="Figure 2 and appendix C: the toy problem",
)
def toy(config: ToyStudyConfig) -> Iterator[Point]:
    """Compare methods on the toy problem of the paper, all at the paper's learning rate of 0.001 and each at its best one."""
    for method, r in RANKS.items():
        if config.few and method not in ("lora", "miss"):
            continue
        knobs = {"method": method, "r": r}
        yield Point(method, {"rates": "shared"}, {**knobs, "lr": 1e-3}, why="the paper's rate")
        yield Point(method, {"rates": "own"}, knobs, candidates(lr=RATES[1:4:2] if config.few else RATES))
