"""The comparisons of quantization methods on single layers.

They vary the terms of the update and their strengths, the bits, the group size, the number of tokens, the damping and the block
size.
"""

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
    """The weight, the statistics and the objectives of a layer. They suffice to measure any method, so inputs are not kept."""

    weight: Tensor
    statistics: tuple[Tensor, Tensor | None]
    calibration: Objective
    validation: Objective
    held_out: Objective


@lru_cache(maxsize=2)
def measured_layer(source: LayerSource) -> _Measured:
    """Return the weight and the statistics of a layer, and its objectives on calibration, validation and held-out text."""
    layer = load_layer(source)
    calibration = Objective(layer.weight, layer.inputs, layer.full_precision)
    dtype = layer.weight.dtype
    return _Measured(
        layer.weight,
        (calibration.hessian.to(dtype), calibration.cross.to(dtype)),  # equal to the result of `layer_statistics`
        calibration,
        Objective(layer.weight, layer.validation, layer.validation_full_precision),
        Objective(layer.weight, layer.held_out, layer.held_out_full_precision),
    )


@fit(
    "quantization/layer",
    version=1,
    inputs=inputs,
    higher=False,
    # one pass through the model serves all layers with the same calibration sample and the same solver for the layers before
    together=lambda config: replace(config.source(), block=0, part=""),
    # quantizing a small layer takes less time than starting a process
    in_threads=lambda config: config.model == checkpoints.TINY,
)
def quantized(config: LayerConfig, run: Run) -> Record:
    """Quantize one layer, and measure its output error on calibration, validation and held-out text."""
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
    """Round to ten digits, so that machines that add float64 numbers in a different order give the same result."""
    return float(f"{value:.10g}")


class LayersConfig(ComparisonConfig, LayerConfig):
    """The knobs of comparisons on one layer. Each seed is the number of a calibration sample; the samples do not overlap."""

    dtype: Literal["float32", "float64"] = vary(LayerConfig.model_fields["dtype"], "float64")

    def fixed_upstream(self) -> dict[str, float]:
        """Return a fixed damping for the layers before this one, for comparisons that vary the damping of the layer itself."""
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
    """The knobs of comparisons on several layers: each of `parts` in each of `blocks`."""

    swept = ("block", "part")
    blocks: tuple[int, ...] = knob(
        (1, 3), "blocks", "The indices (from 0) of the transformer blocks.", low=0, high=last_block, essential=True
    )
    parts: tuple[str, ...] = knob(
        ("q_proj", "o_proj", "gate_proj", "down_proj"),
        "linear layers",
        "The names of the linear layers that are measured in each block.",
        choices=(("q_proj", "o_proj", "gate_proj", "down_proj"), PARTS, ("o_proj",)),
    )

    def places(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name of each layer, and the knobs that select it."""
        for block in self.blocks:
            for part in self.parts:
                yield f"block {block} {part}", {"block": block, "part": part}


class TermsConfig(PlacesConfig):
    """The knobs of `terms`, which compares updates with different terms on several layers."""

    bits: Literal[2, 3, 4, 5, 6, 7] = vary(
        LayerConfig.model_fields["bits"], 2, help="The number of bits of each weight. The comparison also measures one bit more."
    )


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
    paper="Table 4 (ablation of the update's terms), on single layers",
)
def terms(config: TermsConfig) -> Iterator[Point]:
    """Compare updates that contain different terms, on several layers and with two numbers of bits."""
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
    """Compare all methods at 2, 3 and 4 bits, for whole rows, groups of `group_size` (or 64) and groups of half that size."""
    shared = config.group_size or 64
    for bits in (2, 3, 4):
        for group in (None, shared, max(shared // 2, 1)):
            for method in METHODS:
                at = {"bits": bits, "groups": str(group or "row")}
                yield Point(method, at, {"bits": bits, "group_size": group, "method": method})


class StrengthsConfig(LayersConfig):
    """The knobs of `strengths`, which varies the strengths of r1 and r2."""

    points: int = knob(5, "points per axis", "The number of values from 0 to 1 that are tried for each strength.", low=2, high=21)


@comparison(
    "quantization/strengths",
    version=2,
    fit=quantized,
    figure=figures.draw_strengths,
    presets={"smoke": {**ONE_LAYER["smoke"], "points": 3}, "laptop": {**ONE_LAYER["laptop"], "points": 9}, "paper": NO_PAPER},
    swept=("method", "alpha", "beta", "choosing"),
    paper="strengths of r1 and r2: 1 in the paper, 0.25 in the published program (which the paper does not mention)",
)
def strengths(config: StrengthsConfig) -> Iterator[Point]:
    """Measure the error for strengths of r1 (alpha) and r2 (beta) from 0 to 1. The paper uses 1, and its program 0.25."""
    values = [round(i / (config.points - 1), 4) for i in range(config.points)]
    for alpha in values:
        for beta in values:
            at = {"alpha": alpha, "beta": beta}
            yield Point("gptaq+rescomp", at, {"method": "gptaq+rescomp", **at})


class TokensConfig(LayersConfig):
    """The knobs of `tokens_damping`, which varies the number of calibration tokens and the damping."""

    most: int = knob(
        4096, "most tokens", "The length of the longest calibration sample.", low=1024, high=65536, step=256, unit="tokens"
    )


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
    paper="short calibration texts (our addition: the paper does not test them)",
)
def tokens_damping(config: TokensConfig) -> Iterator[Point]:
    """Measure held-out and calibration error against the number of calibration tokens, at two values of the damping."""
    for tokens in (256 * 2**k for k in range(9) if 256 * 2**k <= config.most):
        for damping in (0.01, 0.1):
            for method in METHODS[1:]:
                at = {"tokens": tokens, "damping": damping}
                yield Point(method, at, {**at, **config.fixed_upstream(), "method": method})


# ResComp tries every setting of its base method (GPTQ or GPTAQ), and combines each with several strengths beta of r2. One of
# these strengths is 0, which switches r2 off. So if ResComp is better than its base method, this comes from r2.
_DAMPINGS, _BETAS = (0.01, 0.1, 1.0), (0.0, 0.03, 0.1)
SETTINGS = {
    "rtn": ({},),
    "gptq": candidates(damping=_DAMPINGS),
    "gptq+rescomp": candidates(damping=_DAMPINGS, beta=_BETAS),
    "gptaq": candidates(damping=_DAMPINGS, alpha=(0.25, 0.5, 1.0)),
    "gptaq+rescomp": candidates(damping=_DAMPINGS, alpha=(0.25, 0.5, 1.0), beta=_BETAS),
    "exact": candidates(damping=_DAMPINGS, rho=(0.5, 0.75, 1.0)),
}
NESTED = "each method searches the settings of its base method, combined with several values of its own strength"


@comparison(
    "quantization/methods",
    version=2,
    fit=quantized,
    figure=figures.draw_methods,
    presets={**LAYERS, "smoke": {**LAYERS["smoke"], "blocks": (1,), "choosing": 1}},
    swept=("method", "damping", "alpha", "beta", "rho", "r2_part"),
    paper="Tables 1 and 2, on single layers, each method at its best setting",
)
def methods(config: PlacesConfig) -> Iterator[Point]:
    """Compare all methods on several layers. Each method uses the damping and the strengths that are best on validation text."""
    for layer, place in config.places():
        for method, settings in SETTINGS.items():
            knobs = {**place, **config.fixed_upstream(), "method": method}
            yield Point(method, {"layer": layer}, knobs, settings, NESTED)


class BlockSizeConfig(LayerConfig):
    """The knobs of `block_size`, which varies the block size in our implementation and in the published program."""

    swept = ("block_size", "compat", "seed")
    presets = ONE_LAYER
    seeds: int = knob(5, "samples", "The number of calibration samples.", low=1, high=20)
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
    paper="the effect of the block size on the published program (our addition: the paper does not mention it)",
)
def block_size(config: BlockSizeConfig, run: Any) -> Iterator[Record]:
    """Measure how the codes and the error depend on the block size, in our implementation and in the published program."""
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
