"""The knobs that name a layer of a real model, on top of the solver's."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from workbench import models
from workbench.experiment import Config, knob
from workbench.quantization.layers import LayerSource, Upstream, references
from workbench.quantization.options import SolverConfig

NO_PAPER = (
    "the paper quantizes whole models of 7B parameters and more, calibrated on C4, on a GPU; one layer of a small "
    "model cannot stand for that, and the whole-model driver is not here yet"
)
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class PlaceConfig(Config):
    """Where a layer is found."""

    model: str = knob(
        models.SMOLLM2, "bundled model, folder or hub id", choices=(models.SMOLLM2, models.TINY), free=True
    )
    block: int = knob(2, "transformer block", low=0, high=200)
    part: str = knob("o_proj", "linear layer in the block", choices=PARTS)


class LayerConfig(SolverConfig, PlaceConfig):
    """A solver on one layer of a real language model."""

    text: Literal["prose", "wikitext2"] = knob(
        "prose", "calibration and evaluation text (wikitext2: `workbench fetch`)"
    )
    tokens: int = knob(2048, "calibration tokens", low=256, high=65536, step=256, unit="tokens")
    upstream: Upstream = knob(
        "gptq", "how the layers before this one are quantized; none: both streams are equal"
    )
    seed: int = knob(0, "which sample of the calibration text", low=0, high=100)

    @model_validator(mode="after")
    def _not_the_grid_it_lies_on(self) -> Self:
        if self.model == models.SMOLLM2 and self.bits == 4 and not self.symmetric and self.group_size == 32:
            raise ValueError(
                f"bits=4, symmetric=False, group_size=32 with {self.model}: refused, since its {models.FOUR_BIT_NOTE}; "
                "this setting would be lossless by construction. Choose group_size=64 or none, other bits, or another model"
            )
        return self

    def source(self) -> LayerSource:
        """The layer that these knobs name."""
        shared = ("bits", "group_size", "symmetric", "grid", "clip_search", "damping", "act_order")
        return LayerSource(
            model=self.model,
            block=self.block,
            part=self.part,
            text=self.text,
            tokens=self.tokens,
            skip=self.seed * max(16, -(-self.tokens // 256)),  # samples do not overlap
            upstream=self.upstream,
            upstream_options=tuple((name, getattr(self, name)) for name in shared),
        )


def inputs(config: LayerConfig) -> list[str]:
    """The data and the model that a run depends on."""
    return references(config.model, config.text)


def options(config: SolverConfig, **changes: Any) -> dict[str, Any]:
    """The solver's knobs of a larger config, as arguments of `quantize_layer`."""
    return {**{name: getattr(config, name) for name in SolverConfig.model_fields}, **changes}
