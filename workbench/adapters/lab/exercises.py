"""What to work out by oneself after `02-inside`."""

from __future__ import annotations

import math

import torch

from workbench.adapters import family
from workbench.adapters.lab.tables import MODELS, count
from workbench.exercises import Exercise, declare


def _numbers() -> float:
    """64 rows of D, as wide as each layer's output, over 32 blocks, in millions."""
    return count(MODELS["Mistral-7B"], "miss", 64)


def _first_step() -> float:
    """``s sqrt(2 r / (3 pi in))`` for r = 36, alpha = 72, 4096 inputs."""
    return 2 * math.sqrt(2 * 36 / (3 * math.pi * 4096))


# the lines of a program that somebody wrote; x is (tokens, in), B (in/r, r, r)
LINES = {
    "a": "blocks = x.unflatten(-1, (-1, r))",
    "b": 'u = einsum("bij,tbj->tbi", B, blocks)',
    "c": "y = linear(x + u.flatten(-2))",
    "d": "y = y + u.sum(-2).repeat_interleave(out // r, dim=-1)",
}


def _line() -> str:
    """The line that makes it differ from `family.bat_row_output`: found by putting each right in turn."""
    g = torch.Generator().manual_seed(0)
    r, rows, columns = 2, 6, 4
    x, W, B = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((3, columns), (rows, columns), (2, r, r)))
    right = family.bat_row_output(x, lambda z: z @ W.T, B)
    for name in LINES:
        u = torch.einsum("bij,tbj->tbi", B, x.unflatten(-1, (-1, r)))
        y = (x + u.flatten(-2)) @ W.T
        s = u.sum(-2)
        y = y + (s.repeat(1, rows // r) if name == "d" else s.repeat_interleave(rows // r, dim=-1))
        if torch.allclose(y, right):
            return name
    raise AssertionError("no line of these is the wrong one")


declare(
    "adapters",
    Exercise(
        "Mistral-7B has 32 blocks; a block's seven layers have 4096, 1024, 1024, 4096, 14336, 14336 and 4096 outputs. How many "
        "numbers, in millions, does MiSS train at r = 64? (The paper prints 87.0.)",
        _numbers,
        "r numbers for each output of each layer",
        "64 x 43,008 x 32: version 12 prints LLaMA's count; version 4 had 88.1",
    ),
    Exercise(
        "LoRA at r = 36, alpha = 72 on a layer of 4096 inputs. By which share of the rate does AdamW's first step move a "
        "weight, on average? (MiSS: by 1.)",
        _first_step,
        "B moves by the rate, A's entries have the variance 1 / (3 in): what is the mean of the size of a sum of r of them?",
        "s sqrt(2 r / (3 pi in)) with s = 2: at the paper's one rate MiSS takes steps eleven times as long",
    ),
    Exercise(
        "Find the bug. Somebody's Bat-row: "
        + "; ".join(f"({name}) {line}" for name, line in LINES.items())
        + ". It is not the layer's output with Bat's update. Which line is wrong? (a, b, c or d)",
        _line,
        "the identity stands in every block: which output gets s[0]?",
        "s repeats as a whole (s0 s1 s0 s1 ...), since output o gets s[o mod r]; repeat_interleave makes s0 s0 ... s1 s1",
    ),
)
