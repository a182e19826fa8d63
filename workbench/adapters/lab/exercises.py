"""Exercises on adapters, shown at the end of the notebook `02-inside`."""

from __future__ import annotations

import math

import torch

from workbench.adapters import family
from workbench.adapters.lab.tables import MODELS, count
from workbench.exercises import Exercise, declare


def _numbers() -> float:
    """Return the number of parameters of MiSS with r = 64 on Mistral-7B, in millions (64 for each output of each layer)."""
    return count(MODELS["Mistral-7B"], "miss", 64)


def _first_step() -> float:
    """Return LoRA's mean first step, divided by the learning rate.

    This is ``s sqrt(2 r / (3 pi in))`` for the rank r = 36, the scale s = 2 and in = 4096 inputs of the layer.
    """
    return 2 * math.sqrt(2 * 36 / (3 * math.pi * 4096))


# The lines of an implementation of Bat-row, one of which is wrong. x is (tokens, in), and B is (in/r, r, r).
LINES = {
    "a": "blocks = x.unflatten(-1, (-1, r))",
    "b": 'u = einsum("bij,tbj->tbi", B, blocks)',
    "c": "y = linear(x + u.flatten(-2))",
    "d": "y = y + u.sum(-2).repeat_interleave(out // r, dim=-1)",
}


def _line() -> str:
    """Return the name of the wrong line, which is the line whose correction gives the output of `family.bat_row_output`."""
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
    raise AssertionError("no correction of a single line gives the output of family.bat_row_output")


declare(
    "adapters",
    Exercise(
        "Mistral-7B has 32 blocks. The seven linear layers of a block have 4096, 1024, 1024, 4096, 14336, 14336 and 4096 "
        "outputs. How many parameters, in millions, does MiSS train at r = 64? (The paper prints 87.0.)",
        _numbers,
        "MiSS trains r parameters for each output of each layer.",
        "64 x 43,008 x 32 = 88.1 million, as in version 4 of the paper. Version 12 prints the number for LLaMA2-7B instead.",
    ),
    Exercise(
        "LoRA with r = 36 and alpha = 72 is trained by AdamW on a layer with 4096 inputs. How far does the first step move a "
        "weight on average, as a fraction of the learning rate? (For MiSS this fraction is 1.)",
        _first_step,
        "Each entry of B moves by the learning rate, and the entries of A have variance 1 / (3 in) with in = 4096. What is the "
        "mean absolute value of a sum of r entries of A?",
        "The fraction is s sqrt(2 r / (3 pi in)) with s = 2. So at the same learning rate, which the paper uses for all methods, "
        "the first step of MiSS is more than eleven times as long as that of LoRA.",
    ),
    Exercise(
        "Find the bug. This is an implementation of Bat-row, where B has the shape (in/r, r, r): "
        + "; ".join(f"({name}) {line}" for name, line in LINES.items())
        + ". Its result is not the output of the layer with Bat's update. Which line is wrong? (a, b, c or d)",
        _line,
        "Every block of T = [I I ...] is an identity. To which outputs is s[0], the first entry of s = u.sum(-2), added?",
        "s must be repeated as a whole (s0 s1 s0 s1 ...), since s[o mod r] is added to output o. repeat_interleave gives "
        "s0 s0 ... s1 s1 instead.",
    ),
)
