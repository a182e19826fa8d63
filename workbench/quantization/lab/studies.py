"""The comparisons behind the figures: methods on equal terms on layers, over terms, bits, groups, strengths, tokens, damping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from torch import Tensor

from workbench import checkpoints
from workbench.comparison import ComparisonConfig, Point, candidates, comparison, fit
from workbench.experiment import Record, experiment
from workbench.knobs import knob, vary
from workbench.quantization.config import METHODS
from workbench.quantization.lab import study_figures as figures
from workbench.quantization.lab.layer_config import NO_PAPER, PARTS, LayerConfig, inputs, last_block, solver_knobs
from workbench.quantization.lab.layers import LayerSource, load_layer
from workbench.quantization.objective import Objective
from workbench.quantization.quantize import quantize_layer
from workbench.runs import Run


class _Measured(NamedTuple):
    """What a fit needs of a layer: its moments; its inputs are let go of."""

    weight: Tensor
    statistics: tuple[Tensor, Tensor | None]
    calibration: Objective
    validation: Objective
    held_out: Objective


@lru_cache(maxsize=2)
def measured_layer(source: LayerSource) -> _Measured:
    """The weight of a layer, its statistics, and the objective on each part of the text."""
    layer = load_layer(source)
    calibration = Objective(layer.weight, layer.inputs, layer.full_precision)
    dtype = layer.weight.dtype
    return _Measured(
        layer.weight,
        (calibration.hessian.to(dtype), calibration.cross.to(dtype)),  # what `layer_statistics` gives
        calibration,
        Objective(layer.weight, layer.validation, layer.validation_full_precision),
        Objective(layer.weight, layer.held_out, layer.held_out_full_precision),
    )


@fit(
    "quantization/layer",
    version=1,
    inputs=inputs,
    higher=False,
    # layers of one sample, quantized upstream in one way, lie on one way through the model
    together=lambda config: replace(config.source(), block=0, part=""),
    # small layers take less time than starting a process
    in_threads=lambda config: config.model == checkpoints.TINY,
)
def quantized(config: LayerConfig, run: Run) -> Record:
    """Quantize one layer: errors against the full-precision target, on calibration, validation and held-out text."""
    layer = measured_layer(config.source())
    weight = quantize_layer(layer.weight, *layer.statistics, **solver_knobs(config)).weight
    floor, rounding = layer.calibration.floor_and_rounding(weight)
    return {
        "error": _rounded(layer.calibration.error(weight)),
        "validation": _rounded(layer.validation.error(weight)),
        "held_out": _rounded(layer.held_out.error(weight)),
        "floor": _rounded(floor),
        "rounding": _rounded(rounding),
        "drift": _rounded(((weight - layer.weight).norm() / layer.weight.norm()).item()),
    }


def _rounded(value: float) -> float:
    """Ten digits: what is left of float64 on another machine, whose sums are taken in another order."""
    return float(f"{value:.10g}")


class LayersConfig(ComparisonConfig, LayerConfig):
    """One layer; seeds are calibration samples that do not overlap."""

    dtype: Literal["float32", "float64"] = vary(LayerConfig.model_fields["dtype"], "float64")

    def fixed_upstream(self) -> dict[str, float]:
        """The damping of the layers before, where that of the layer itself is what varies."""
        return {"upstream_damping": 0.01 if self.upstream_damping is None else self.upstream_damping}


SMOKE = {"model": "tiny-llama", "tokens": 512, "group_size": 32, "seeds": 2}
LAPTOP = {"tokens": 4096, "group_size": 64}
ONE_LAYER = {
    "smoke": {**SMOKE, "block": 1, "part": "o_proj"},
    "laptop": {**LAPTOP, "block": 2, "part": "o_proj"},
    "paper": NO_PAPER,
}
LAYERS = {
    "smoke": {**SMOKE, "blocks": (1, 2), "parts": ("o_proj", "down_proj")},
    "laptop": {**LAPTOP, "blocks": (1, 4)},
    "paper": NO_PAPER,
}


class PlacesConfig(LayersConfig):
    """Several layers."""

    swept = ("block", "part")
    blocks: tuple[int, ...] = knob((1, 3), "blocks", "transformer blocks, from 0", low=0, high=last_block, essential=True)
    parts: tuple[str, ...] = knob(
        ("q_proj", "o_proj", "gate_proj", "down_proj"),
        "linear layers",
        "of each block, by name",
        choices=(("q_proj", "o_proj", "gate_proj", "down_proj"), PARTS, ("o_proj",)),
    )

    def places(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each layer's name, and the knobs that choose it."""
        for block in self.blocks:
            for part in self.parts:
                yield f"block {block} {part}", {"block": block, "part": part}


class TermsConfig(PlacesConfig):
    """Terms on and off, on several layers."""

    bits: Literal[2, 3, 4, 5, 6, 7] = vary(LayerConfig.model_fields["bits"], 2, help="one more is measured too")


TERMS: dict[str, dict[str, Any]] = {
    "rtn": {"method": "rtn"},
    "gptq": {"method": "gptq"},
    "gptq + r2": {"method": "gptq+rescomp"},
    "gptq + r1": {"method": "gptaq"},
    "gptq + r1 + r2": {"method": "gptaq+rescomp"},
    "r1 + dX part of r2": {"method": "gptaq+rescomp", "r2_part": "dx"},
    "r1 + X part of r2": {"method": "gptaq+rescomp", "r2_part": "x"},
    "exact": {"method": "exact"},
}


@comparison(
    "quantization/terms",
    version=2,
    fit=quantized,
    figure=figures.draw_terms,
    presets=LAYERS,
    swept=("method", "r2_part", "choosing"),
    paper="Table 4 (ablation of the update's terms), on layers",
)
def terms(config: TermsConfig) -> Iterator[Point]:
    """The update's terms on and off, on several layers, at two bit widths."""
    for bits in (config.bits, config.bits + 1):
        for layer, place in config.places():
            for label, knobs in TERMS.items():
                yield Point(label, {"bits": bits, "layer": layer}, {"bits": bits, **place, **knobs})


@comparison(
    "quantization/bits-groups",
    version=2,
    fit=quantized,
    figure=figures.draw_bits_groups,
    presets=ONE_LAYER,
    swept=("bits", "method", "choosing"),
    paper="Tables 1 and 2 (bits and groups), on one layer",
)
def bits_groups(config: LayersConfig) -> Iterator[Point]:
    """Every method at 2, 3 and 4 bits and three group sizes (whole rows, `group_size` or 64, half of it)."""
    shared = config.group_size or 64
    for bits in (2, 3, 4):
        for group in (None, shared, max(shared // 2, 1)):
            for method in METHODS:
                at = {"bits": bits, "groups": str(group or "row")}
                yield Point(method, at, {"bits": bits, "group_size": group, "method": method})


class StrengthsConfig(LayersConfig):
    """Strengths of the two terms."""

    points: int = knob(5, "points an axis", "strengths from 0 to 1", low=2, high=21)


@comparison(
    "quantization/strengths",
    version=2,
    fit=quantized,
    figure=figures.draw_strengths,
    presets={"smoke": {**ONE_LAYER["smoke"], "points": 3}, "laptop": {**ONE_LAYER["laptop"], "points": 9}, "paper": NO_PAPER},
    swept=("method", "alpha", "beta", "choosing"),
    paper="the strengths 0.25 of the program, which the paper does not name",
)
def strengths(config: StrengthsConfig) -> Iterator[Point]:
    """Error over the strengths of r1 (alpha) and r2 (beta): the paper has both at 1, its program at 0.25."""
    values = [round(i / (config.points - 1), 4) for i in range(config.points)]
    for alpha in values:
        for beta in values:
            at = {"alpha": alpha, "beta": beta}
            yield Point("gptaq+rescomp", at, {"method": "gptaq+rescomp", **at})


class TokensConfig(LayersConfig):
    """Calibration tokens and damping."""

    most: int = knob(4096, "most tokens", "the largest calibration sample", low=1024, high=65536, step=256, unit="tokens")


@comparison(
    "quantization/tokens-damping",
    version=2,
    fit=quantized,
    figure=figures.draw_tokens_damping,
    presets={
        name: {k: v for k, v in preset.items() if k != "tokens"} if isinstance(preset, dict) else preset
        for name, preset in {**ONE_LAYER, "smoke": {**ONE_LAYER["smoke"], "most": 1024}}.items()
    },
    swept=("tokens", "damping", "method", "choosing"),
    paper="not in the paper: when the calibration text is short",
)
def tokens_damping(config: TokensConfig) -> Iterator[Point]:
    """Held-out and calibration error against the number of calibration tokens, at two dampings."""
    for tokens in (256 * 2**k for k in range(9) if 256 * 2**k <= config.most):
        for damping in (0.01, 0.1):
            for method in METHODS[1:]:
                at = {"tokens": tokens, "damping": damping}
                yield Point(method, at, {**at, **config.fixed_upstream(), "method": method})


# each method has its base's settings times its own strength, which may be 0: what a term adds is not the grid's doing
_DAMPINGS, _BETAS = (0.01, 0.1, 1.0), (0.0, 0.03, 0.1)
SETTINGS = {
    "rtn": ({},),
    "gptq": candidates(damping=_DAMPINGS),
    "gptq+rescomp": candidates(damping=_DAMPINGS, beta=_BETAS),
    "gptaq": candidates(damping=_DAMPINGS, alpha=(0.25, 0.5, 1.0)),
    "gptaq+rescomp": candidates(damping=_DAMPINGS, alpha=(0.25, 0.5, 1.0), beta=_BETAS),
    "exact": candidates(damping=_DAMPINGS, rho=(0.5, 0.75, 1.0)),
}
NESTED = "a method has its base's settings times its own strength"


@comparison(
    "quantization/methods",
    version=2,
    fit=quantized,
    figure=figures.draw_methods,
    presets={**LAYERS, "smoke": {**LAYERS["smoke"], "blocks": (1,), "choosing": 1}},
    swept=("method", "damping", "alpha", "beta", "rho", "r2_part"),
    paper="Tables 1 and 2, on layers, each method at its best setting",
)
def methods(config: PlacesConfig) -> Iterator[Point]:
    """All methods on several layers, each at the damping and strengths that are best on validation text."""
    for layer, place in config.places():
        for method, settings in SETTINGS.items():
            knobs = {**place, **config.fixed_upstream(), "method": method}
            yield Point(method, {"layer": layer}, knobs, settings, NESTED)


class BlockSizeConfig(LayerConfig):
    """Block sizes of the published program and of the clean form."""

    swept = ("block_size", "compat", "seed")
    presets = ONE_LAYER
    seeds: int = knob(5, "samples", "calibration samples", low=1, high=20)
    dtype: Literal["float32", "float64"] = vary(LayerConfig.model_fields["dtype"], "float64")


def _block_points(config: BlockSizeConfig) -> list[dict[str, Any]]:
    group = config.group_size or 32
    return [
        {"block_size": size, "compat": compat, "seed": seed}
        for seed in range(config.seeds)
        for compat in ("clean", "published")
        for size in (group, 2 * group, 4 * group, 8 * group)
    ]


@experiment(
    "quantization/block-size",
    version=2,
    inputs=inputs,
    figure=figures.draw_block_size,
    steps=lambda c: len(_block_points(c)),
    paper="not in the paper: what the block size does to the published program",
)
def block_size(config: BlockSizeConfig, run: Any) -> Iterator[Record]:
    """The block size, which should not matter: the clean form beside the published program."""
    first: dict[tuple[str, int], Tensor] = {}
    for point in _block_points(config):
        made = config.of(LayerConfig, **point)
        layer = measured_layer(made.source())
        double = (t.double() for t in (layer.weight, *layer.statistics))
        result = quantize_layer(*double, **solver_knobs(made))
        codes = first.setdefault((point["compat"], point["seed"]), result.codes)
        yield {
            **point,
            "method": config.method,
            "error": _rounded(layer.calibration.error(result.weight)),
            "codes_changed": (codes != result.codes).double().mean().item(),
        }
