"""Live experiments: a layer while it is quantized, rounding to a grid, rounding of two weights, and the update of one step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from workbench import checkpoints, models
from workbench.blocks import load_weight
from workbench.experiment import Record, experiment
from workbench.knobs import Config, knob, vary
from workbench.quantization.config import GridConfig, SolverConfig
from workbench.quantization.fast_solver import LayerSolver
from workbench.quantization.grids import fit_grid
from workbench.quantization.lab import figures, inside_figures, questions, stories
from workbench.quantization.lab.inside import small_layer, update_terms
from workbench.quantization.lab.layer_config import NO_PAPER, LayerConfig, PlaceConfig, inputs, last_row, solver_knobs
from workbench.quantization.lab.layers import load_layer
from workbench.quantization.objective import Objective
from workbench.quantization.quantize import layer_solver, quantize_layer
from workbench.quantization.statistics import layer_statistics


class LayerTraceConfig(LayerConfig):
    """The knobs of `layer_trace`, which quantizes one layer column by column."""

    every: int = knob(
        16,
        "measure every",
        "The number of columns between two measurements. A small value gives a finer curve, but takes longer.",
        low=1,
        high=256,
        unit="columns",
    )
    row: int = knob(0, "output row", "The index (from 0) of the output row whose weights are shown.", low=0, high=last_row)
    presets = {
        "smoke": {"method": "gptq", "block": 1, "tokens": 1024, "group_size": 64, "every": 64},
        "laptop": {"block": 4, "tokens": 4096, "group_size": 64, "every": 8},
        "paper": NO_PAPER,
    }


def looks(config: LayerTraceConfig) -> int:
    """Return the number of columns between two measurements, which is also the block size of the solver.

    With ``compat="clean"``, the result does not depend on the block size, so this number is the knob `every`. If `every` is
    larger than a group, it is rounded down to a multiple of the group size. With ``compat="published"``, the result depends on
    the block size, so this number is the knob `block_size`.
    """
    if config.compat == "published":
        return config.block_size
    group = config.group_size or 1
    return config.every // group * group if group <= config.every else config.every


def _steps(config: LayerTraceConfig) -> int:
    about = checkpoints.describe(config.model)
    columns = about.get("intermediate_size" if config.part == "down_proj" else "hidden_size", 0)
    look, group = looks(config), config.group_size or columns
    # with compat="clean", if a group is larger than a block, the last block of the group ends where the group ends
    inside = -(-group // look) if config.compat == "clean" and group > look else 0
    whole = columns // group * inside + -(-(columns % group) // look) if inside else -(-columns // look)
    return whole + 1 if columns else 0


@experiment(
    "quantization/layer-trace",
    version=3,
    inputs=inputs,
    figure=figures.draw_layer_trace,
    story=stories.tell_layer_trace,
    place=lambda record: f"column {record['columns']} of {record['of']}",
    prepare=models.warm_up,
    questions=questions.LAYER_TRACE,
    units="layers",
    steps=_steps,
)
def layer_trace(config: LayerTraceConfig, run: Any) -> Iterator[Record]:
    """Quantize one layer of a real model, and show its weights, residuals and output error as columns are rounded."""
    layer = load_layer(config.source())
    row = _existing_row(config.row, len(layer.weight))
    hessian, cross = layer_statistics(layer.inputs, layer.full_precision)
    look = SolverConfig(**solver_knobs(config, block_size=looks(config)))
    solver = layer_solver(layer.weight, hessian, cross, look, trace=True)
    calibration = Objective(layer.weight, layer.inputs, layer.full_precision)
    held_out = Objective(layer.weight, layer.held_out, layer.held_out_full_precision)
    floor, _ = calibration.floor_and_rounding(layer.weight)
    common = {"layer": layer.name, "method": config.method, "bits": config.bits, "of": layer.weight.shape[1]}
    rounded = quantize_layer(layer.weight, hessian, **solver_knobs(config, method="rtn")).weight
    common |= {"floor": floor, "rounding": [calibration.error(rounded), held_out.error(rounded)]}
    common |= {"notes": "; ".join(solver.notes)}

    def state(weight: Tensor, done: int) -> Record:
        free = solver.permutation[done:]
        r1, r2 = calibration.residuals(weight, free)
        return {
            **common,
            "columns": done,
            "error": calibration.error(weight),
            "held_out": held_out.error(weight),
            "r1": r1.norm,
            "r1_orthogonal": r1.orthogonal,
            "r2": r2.norm,
            "r2_orthogonal": r2.orthogonal,
            "drift": ((weight - layer.weight).norm() / layer.weight.norm()).item(),
            # The weights of one output row, in the order of rounding. The first `columns` weights are rounded, and the others are
            # changed by the compensation. Five decimals are enough for a picture.
            "row": (weight[row, solver.permutation].double() * 1e5).round() / 1e5,
        }

    yield state(layer.weight, 0)
    done = 0
    for now in solver.steps():
        current = solver.current()
        yield state(current, now) | _columns(solver, done, now, row)
        done = now
    if config.bits >= 16:
        yield state(layer.weight, layer.weight.shape[1])


def _columns(solver: LayerSolver, first: int, last: int, row: int) -> Record:
    """Return the squared errors of columns `first` to `last - 1` in the order of rounding, and the levels of output row `row`."""
    columns = solver.permutation[first:last]
    return {
        "column_error": solver.trace().error[:, columns].square().sum(0),  # ||e_q||^2
        "levels": solver.levels(row),
    }


class LayerGridConfig(GridConfig, PlaceConfig):
    """The knobs of `grid`, which rounds each weight of a layer to its nearest level."""

    row: int = knob(0, "output row", "The index (from 0) of the output row that is shown.", low=0, high=last_row)
    presets = {"smoke": {}, "laptop": {}, "paper": "the paper has no such picture"}


@experiment(
    "quantization/grid",
    version=1,
    inputs=lambda c: [checkpoints.ref(c.model)],
    figure=figures.draw_grid,
    story=stories.tell_grid,
    instant=True,
)
def grid(config: LayerGridConfig, run: Any) -> Iterator[Record]:
    """Show the weights of one output row of a layer, the levels of their grid, and the rounded weights.

    If the weights of a row are divided into groups, only the first group is shown.
    """
    weight = load_weight(config.model, config.block, config.part).T.float()  # (in, out)
    row = _existing_row(config.row, weight.shape[1])
    if config.bits >= 16:
        raise ValueError(f"bits={config.bits}: expected 2 to 8; with 16 bits, the weights are not rounded, so there is no grid")
    parts, after, levels = weight.split(config.group_size or len(weight)), [], torch.empty(0)
    for part in parts:
        fitted = fit_grid(part, config.bits, config.symmetric, config.grid, config.clip_search)
        after.append(fitted.rounded(part))
        levels = fitted.levels(row) if len(after) == 1 else levels
    rounded = torch.cat(after)
    yield {
        "layer": f"{config.model} block {config.block} {config.part}",
        "grid": config.grid if config.symmetric else "asym",
        "bits": config.bits,
        "group_size": len(parts[0]),
        "before": parts[0][:, row],
        "after": after[0][:, row],
        "levels": levels,
        "weight_error": ((rounded - weight).norm() / weight.norm()).item(),
    }


def _existing_row(row: int, rows: int) -> int:
    if row >= rows:
        raise ValueError(f"row={row}: expected 0 to {rows - 1}, since this layer has {rows} output rows")
    return row


class TwoWeightsConfig(Config):
    """The knobs of `two_weights`: two weights of a neuron, the correlation of its two inputs, and the difference of the streams.

    The quantized stream has the inputs in the model whose earlier layers are quantized. The full-precision stream has the
    inputs in the original model.
    """

    w1: float = knob(
        1.38,
        "first weight",
        "The weight that is rounded first. Its unit is one step of the grid.",
        low=-2.0,
        high=2.0,
        step=0.02,
        unit="steps",
    )
    w2: float = knob(
        0.30,
        "second weight",
        "The weight that is rounded second. It can compensate for the error of the first weight.",
        low=-2.0,
        high=2.0,
        step=0.02,
        unit="steps",
    )
    correlation: float = knob(
        0.80,
        "correlation",
        "The correlation of the two inputs. At 0, the second weight cannot compensate for the error of the first.",
        low=-0.95,
        high=0.95,
        step=0.05,
    )
    shift: float = knob(
        0.70,
        "stream difference",
        "In the full-precision stream, this multiple of input 2 is added to input 1. At 0, the two streams are equal.",
        low=-1.0,
        high=1.0,
        step=0.05,
    )
    alpha: float = vary(
        SolverConfig.model_fields["alpha"],
        1.0,
        help="The strength of GPTAQ's term r1. 0 switches the term off, and 1 applies it in full.",
        essential=False,
        when=None,
    )
    presets = {"smoke": {}, "laptop": {}, "paper": "the paper has no such picture"}


def two_weight_statistics(config: TwoWeightsConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight ``(1, 2)``, the Hessian ``(2, 2)`` and the cross statistics ``(2, 2)``.

    The inputs of the quantized stream are x1 and x2, with variance 1. Those of the full-precision stream are x1 + shift * x2
    and x2.
    """
    c, d = config.correlation, config.shift
    hessian = torch.tensor([[1.0, c], [c, 1.0]], dtype=torch.float64)
    cross = torch.tensor([[d * c, d], [0.0, 0.0]], dtype=torch.float64)
    return torch.tensor([[config.w1, config.w2]], dtype=torch.float64), hessian, cross


def round_two(config: TwoWeightsConfig, method: str) -> tuple[list[float], list[float]]:
    """Return two lists: each weight just before it is rounded, and each rounded weight. Weights are rounded to whole numbers."""
    weight, hessian, cross = two_weight_statistics(config)
    upper = torch.linalg.inv(torch.linalg.cholesky(hessian.flip(0, 1)).flip(0, 1))
    if method == "exact":
        weight = weight + weight @ cross @ torch.linalg.inv(hessian)
    w1, w2 = weight[0].tolist()
    q1 = float(round(w1))
    if method != "rtn":
        w2 -= (w1 - q1) / upper[0, 0].item() * upper[0, 1].item()
    if method == "gptaq":
        w2 += config.alpha * w1 * (cross[0, 1] / hessian[1, 1]).item()
    return [w1, w2], [q1, float(round(w2))]


@experiment(
    "quantization/two-weights",
    version=1,
    figure=inside_figures.draw_two_weights,
    story=stories.tell_two_weights,
    questions=questions.TWO_WEIGHTS,
    instant=True,
)
def two_weights(config: TwoWeightsConfig, run: Any) -> Iterator[Record]:
    """Show the two weights that RTN, GPTQ, GPTAQ and the method `exact` choose, and the best of all grid points."""
    weight, hessian, cross = two_weight_statistics(config)
    target = weight @ cross

    def error(q: list[float]) -> float:
        change = torch.tensor([q], dtype=torch.float64) - weight
        spread = config.w1**2 * config.shift**2
        return ((change @ hessian * change).sum() - 2 * (change * target).sum() + spread).item()

    best = min(([float(a), float(b)] for a, b in product(range(-4, 5), repeat=2)), key=error)
    common = {"w": [config.w1, config.w2], "hessian": hessian, "target": (weight + target @ torch.linalg.inv(hessian))[0]}
    for method in ("rtn", "gptq", "gptaq", "exact"):
        before, after = round_two(config, method)
        yield {**common, "method": method, "before": before, "after": after, "error": error(after)}
    yield {**common, "method": "best", "before": best, "after": best, "error": error(best)}


class UpdateConfig(Config):
    """The knobs of `update`, which rounds one column in a small part of a real layer."""

    column: int = knob(3, "column", "The index (from 0) of the column that is rounded.", low=0, high=30)
    row: int = knob(0, "output row", "The index (from 0) of the output row that is shown.", low=0, high=7)
    bits: Literal[2, 3, 4] = knob(3, "bits per weight", "The number of bits of each quantized weight.")
    alpha: float = knob(
        0.25, "strength of r1", "The strength alpha of GPTAQ's term r1. 0 switches the term off.", low=0.0, high=1.0, step=0.05
    )
    beta: float = knob(
        0.25, "strength of r2", "The strength beta of ResComp's term r2. 0 switches the term off.", low=0.0, high=1.0, step=0.05
    )
    presets = {"smoke": {}, "laptop": {}, "paper": "the paper has no such picture"}


@experiment(
    "quantization/update",
    version=1,
    inputs=lambda c: inputs(LayerConfig(model=checkpoints.TINY)),
    figure=inside_figures.draw_update,
    story=stories.tell_update,
    instant=True,
)
def update(config: UpdateConfig, run: Any) -> Iterator[Record]:
    """Show how later columns change when one column is rounded: by GPTQ's term, by r1, by r2, and by the sum of the three."""
    layer = small_layer(columns=32, damping=0.0)
    terms = update_terms(layer, config.column, config.row, config.bits, config.alpha, config.beta)
    yield {"column": config.column, **terms}
