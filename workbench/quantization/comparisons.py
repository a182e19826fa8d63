"""The sweeps behind the figures: methods on equal terms on one layer, over bits, groups, strengths, tokens, damping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal

from workbench.experiment import KnobError, Record, experiment, knob
from workbench.quantization import comparison_figures as figures
from workbench.quantization.gptq import quantize_layer
from workbench.quantization.layer_config import NO_PAPER, LayerConfig, inputs, options
from workbench.quantization.layers import LayerSource, load_layer
from workbench.quantization.objective import Objective
from workbench.quantization.options import METHODS
from workbench.quantization.statistics import layer_statistics

# what makes another layer, or another upstream
PLACE = ("block", "part", "seed", "tokens", "bits", "group_size")
Point = dict[str, Any]  # changes of the layer (block, part, seed, tokens) and of the solver


class ComparisonConfig(LayerConfig):
    """One layer, several calibration samples."""

    seeds: int = knob(3, "calibration samples", low=1, high=20)


SMOKE = {"model": "tiny-llama", "block": 1, "part": "o_proj", "tokens": 512, "group_size": 32, "seeds": 2}
LAPTOP = {"block": 2, "part": "o_proj", "tokens": 4096, "group_size": 64, "seeds": 5}
PRESETS = {"smoke": SMOKE, "laptop": LAPTOP, "paper": NO_PAPER}


def _without(preset: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in preset.items() if name not in names}


def compare(config: ComparisonConfig, run: Any, points: Iterable[Point]) -> Iterator[Record]:
    """Quantize at each point; one record each, with errors against the full-precision target. Goes on after a cut."""
    # every point is valid before the first is run; the layers before this one keep the config's other knobs
    plan = [
        (point, _at(config, point, PLACE).source(), _at(config, point, LayerConfig.model_fields))
        for point in points
    ]
    done = run.load() or 0
    for index, (point, place, solver) in enumerate(plan[done:], done):
        layer, moments, calibration, held_out = _measures(place)
        result = quantize_layer(layer.weight, *moments, **options(solver))
        floor, rounding = calibration.floor_and_rounding(result.weight)
        yield {
            **{name: value for name, value in point.items() if value is not None},
            "layer": layer.name,
            "error": calibration.error(result.weight),
            "held_out": held_out.error(result.weight),
            "floor": floor,
            "rounding": rounding,
            "drift": ((result.weight - layer.weight).norm() / layer.weight.norm()).item(),
        }
        run.save(index + 1)


def _at(config: ComparisonConfig, point: Point, names: Iterable[str]) -> LayerConfig:
    """The config's knobs with the point's own `names` in their place."""
    knobs = {name: getattr(config, name) for name in LayerConfig.model_fields}
    return LayerConfig(**{**knobs, **{n: v for n, v in point.items() if n in names}})


@lru_cache(maxsize=1)
def _measures(source: LayerSource) -> tuple[Any, Any, Objective, Objective]:
    layer = load_layer(source)
    return (
        layer,
        layer_statistics(layer.inputs, layer.reference_inputs),
        Objective(layer.weight, layer.inputs, layer.reference_inputs),
        Objective(layer.weight, layer.held_out, layer.held_out_reference),
    )


class TermsConfig(ComparisonConfig):
    """Terms on and off, on several layers."""

    swept = ("block", "part", "method", "r2_part", "seed")
    bits: Literal[2, 3, 4, 5, 6, 7] = knob(2, "bits a weight; one more is measured too")
    blocks: str = knob("1,3", "transformer blocks, separated by commas")
    parts: str = knob("q_proj,o_proj,gate_proj,down_proj", "linear layers of each block, separated by commas")
    presets = {
        "smoke": {**_without(SMOKE, swept), "blocks": "1,2", "parts": "o_proj,down_proj"},
        "laptop": {**_without(LAPTOP, swept), "blocks": "1,4"},
        "paper": NO_PAPER,
    }


TERMS: dict[str, Point] = {
    "rtn": {"method": "rtn"},
    "gptq": {"method": "gptq"},
    "gptq + r2": {"method": "gptq+rescomp"},
    "gptq + r1": {"method": "gptaq"},
    "gptq + r1 + r2": {"method": "gptaq+rescomp"},
    "r1 + dX part of r2": {"method": "gptaq+rescomp", "r2_part": "dx"},
    "r1 + X part of r2": {"method": "gptaq+rescomp", "r2_part": "x"},
    "exact": {"method": "exact"},
}


def _term_points(config: TermsConfig) -> list[Point]:
    try:
        blocks = [int(block) for block in config.blocks.split(",")]
    except ValueError:
        raise KnobError(f"blocks={config.blocks!r}: expected whole numbers separated by commas") from None
    places = [(block, part.strip()) for block in blocks for part in config.parts.split(",")]
    return [
        {"block": block, "part": part, "seed": seed, "bits": bits, "terms": terms, **solver}
        for block, part in places
        for bits in (config.bits, config.bits + 1)
        for seed in range(config.seeds)
        for terms, solver in TERMS.items()
    ]


@experiment(
    "quantization/terms", version=1, inputs=inputs, figure=figures.draw_terms,
    steps=lambda c: len(_term_points(c)), paper="Table 4 (ablation of the update's terms), on layers",
)  # fmt: skip
def terms(config: TermsConfig, run: Any) -> Iterator[Record]:
    """The update's terms on and off, on several layers, at two bit widths."""
    yield from compare(config, run, _term_points(config))


class BitsConfig(ComparisonConfig):
    """Bits and group sizes: whole rows, `group_size` (or 64), and half of it."""

    swept = ("bits", "method", "seed")
    presets = PRESETS


def _bits_points(config: BitsConfig) -> list[Point]:
    shared = config.group_size or 64
    return [
        {"bits": bits, "group_size": group, "groups": str(group or "row"), "seed": seed, "method": method}
        for bits in (2, 3, 4)
        for group in (None, shared, max(shared // 2, 1))
        for seed in range(config.seeds)
        for method in METHODS
    ]


@experiment(
    "quantization/bits-groups", version=1, inputs=inputs, figure=figures.draw_bits_groups,
    steps=lambda c: len(_bits_points(c)), paper="Tables 1 and 2 (bits and groups), on one layer",
)  # fmt: skip
def bits_groups(config: BitsConfig, run: Any) -> Iterator[Record]:
    """Every method at 2, 3 and 4 bits and three group sizes, calibration and held-out error."""
    yield from compare(config, run, _bits_points(config))


class StrengthsConfig(ComparisonConfig):
    """Strengths of the two terms."""

    swept = ("method", "alpha", "beta", "seed")
    points: int = knob(5, "strengths from 0 to 1 on each axis", low=2, high=21)
    presets = {
        "smoke": {**SMOKE, "points": 3},
        "laptop": {**LAPTOP, "points": 9, "seeds": 3},
        "paper": NO_PAPER,
    }


def _strength_points(config: StrengthsConfig) -> list[Point]:
    values = [round(i / (config.points - 1), 4) for i in range(config.points)]
    return [
        {"seed": seed, "method": "gptaq+rescomp", "alpha": alpha, "beta": beta}
        for seed in range(config.seeds)
        for alpha in values
        for beta in values
    ]


@experiment(
    "quantization/strengths", version=1, inputs=inputs, figure=figures.draw_strengths,
    steps=lambda c: len(_strength_points(c)), paper="the strengths 0.25 of the program, which the paper does not name",
)  # fmt: skip
def strengths(config: StrengthsConfig, run: Any) -> Iterator[Record]:
    """Error over the strengths of r1 (alpha) and r2 (beta): the paper has both at 1, its program at 0.25."""
    yield from compare(config, run, _strength_points(config))


class TokensConfig(ComparisonConfig):
    """Calibration tokens and damping."""

    swept = ("tokens", "damping", "method", "seed")
    most: int = knob(4096, "largest number of tokens", low=1024, high=65536, step=256, unit="tokens")
    presets = {
        "smoke": {**_without(SMOKE, swept), "most": 1024},
        "laptop": {**_without(LAPTOP, swept), "seeds": 3},
        "paper": NO_PAPER,
    }


def _token_points(config: TokensConfig) -> list[Point]:
    return [
        {"tokens": tokens, "damping": damping, "seed": seed, "method": method}
        for tokens in [t for t in (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) if t <= config.most]
        for seed in range(config.seeds)
        for damping in (0.01, 0.1)
        for method in METHODS[1:]
    ]


@experiment(
    "quantization/tokens-damping", version=1, inputs=inputs, figure=figures.draw_tokens_damping,
    steps=lambda c: len(_token_points(c)), paper="not in the paper: when the calibration text is short",
)  # fmt: skip
def tokens_damping(config: TokensConfig, run: Any) -> Iterator[Record]:
    """Held-out and calibration error against the number of calibration tokens, at two dampings."""
    yield from compare(config, run, _token_points(config))


class BlockSizeConfig(ComparisonConfig):
    """Block sizes of the authors' code and of the clean form."""

    swept = ("block_size", "compat", "seed")
    presets = PRESETS


def _block_points(config: BlockSizeConfig) -> list[Point]:
    group = config.group_size or 32
    return [
        {"block_size": size, "compat": compat, "seed": seed, "method": config.method}
        for seed in range(config.seeds)
        for compat in ("clean", "reference")
        for size in (group, 2 * group, 4 * group, 8 * group)
    ]


@experiment(
    "quantization/block-size", version=1, inputs=inputs, figure=figures.draw_block_size,
    steps=lambda c: len(_block_points(c)), paper="not in the paper: what the block size does to the authors' code",
)  # fmt: skip
def block_size(config: BlockSizeConfig, run: Any) -> Iterator[Record]:
    """The block size, which should not matter: the clean form beside the authors' code."""
    first: dict[tuple[str, int], Any] = {}
    for point in _block_points(config):
        layer, moments, calibration, _ = _measures(_at(config, point, PLACE).source())
        solver = options(_at(config, point, LayerConfig.model_fields))
        result = quantize_layer(layer.weight.double(), *(m.double() for m in moments), **solver)
        codes = first.setdefault((point["compat"], point["seed"]), result.codes)
        yield {
            **point,
            "error": calibration.error(result.weight),
            "codes_changed": (codes != result.codes).double().mean().item(),
        }
