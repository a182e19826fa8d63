"""A toy experiment with a checkpoint, for the tests of runs, sweeps and panels. Registered on import."""

import os
import time

import torch

from workbench.experiment import Question, experiment
from workbench.knobs import Config, knob
from workbench.plotting import figure


class ToyConfig(Config):
    steps: int = knob(10, "number of records", low=1, high=100_000)
    rate: float = knob(0.1, "step size", low=1e-4, high=1.0, log=True)
    mode: str = knob("plain", "mode", "plain, fail or die", choices=("plain", "fail", "die"), free=True)
    symmetric: bool = knob(True, "a truth value")
    group_size: int | None = knob(None, "a number or none", low=1, choices=(None, 8, 16))
    pause: float = knob(0.0, "sleep after each record", low=0.0, high=1.0, unit="s")
    seed: int = knob(0, "generator seed", low=0, high=2**31 - 1)
    presets = {"smoke": {"steps": 3}, "laptop": {"steps": 30}, "paper": "there is no paper"}


def draw(records, pinned=()):
    with figure(300, 200) as fig:
        axes = fig.subplots()
        for series in [records, *(other for _, other in pinned)]:
            axes.plot([r["step"] for r in series], [r["value"] for r in series])
    return fig


def tell(records, config, pinned=()):
    beside = f", beside {', '.join(name for name, _ in pinned)}" if pinned else ""
    return f"{len(records)} steps, now at {records[-1]['value']:.2f}{beside}"


QUESTIONS = (
    Question("Far?", "Does it end far out?", ("yes", "no"), lambda now, rival: int(abs(now[-1]["value"]) < 1), {"rate": 1.0}),
    Question("Farther?", "Than the rival?", ("yes", "no"),
             lambda now, rival: int(abs(now[-1]["value"]) < abs(rival[-1]["value"])), {"rate": 0.5}, {"rate": 0.1}),
)  # fmt: skip


@experiment("toy/walk", version=1, figure=draw, story=tell, questions=QUESTIONS, steps=lambda c: c.steps)
def walk(config: ToyConfig, run):
    """A random walk that resumes from its checkpoint."""
    state = run.load() or {"step": 0, "value": 0.0, "generator": torch.Generator().manual_seed(config.seed).get_state()}
    generator = torch.Generator()
    generator.set_state(state["generator"])
    value = state["value"]
    for step in range(state["step"], config.steps):
        if config.mode == "fail" and step == 2:
            raise ValueError("the walk fell over; expected mode='plain'")
        if config.mode == "die" and step == 2:
            os._exit(9)
        value += config.rate * torch.randn((), generator=generator).item()
        time.sleep(config.pause)
        yield {"step": step, "value": value, "spread": [value, -value]}
        if step % 7 == 6:
            run.save({"step": step + 1, "value": value, "generator": generator.get_state()})


@experiment("toy/instant", version=1, figure=draw, instant=True)
def instant(config: ToyConfig, run):
    """The first steps, at once."""
    yield from walk(config.replace(steps=3, pause=0.0), run)
