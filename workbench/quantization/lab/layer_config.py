"""The knobs that select a layer of a real model, in addition to the knobs of the solver."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from workbench import checkpoints
from workbench.knobs import Config, knob
from workbench.quantization.config import SolverConfig
from workbench.quantization.lab.layers import WINDOW, LayerSource, Upstream, references

NO_PAPER = (
    "the paper quantizes whole models with at least 7 billion parameters on a GPU, and calibrates them on C4. A single layer of "
    "a small model cannot reproduce this, and Workbench cannot quantize whole models yet"
)
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def last_block(config: Any) -> int | None:
    """Return the index of the model's last transformer block, or None if the size of the model is not known."""
    count = checkpoints.sizes(config.model).get("num_hidden_layers")
    return None if count is None else count - 1


def last_row(config: Any) -> int | None:
    """Return the index of the last output row of the config's layer, or None if the size of the layer is not known."""
    sizes = checkpoints.sizes(config.model)
    inner = {"gate_proj": "intermediate_size", "up_proj": "intermediate_size"}
    inner |= {"k_proj": "key_value_size", "v_proj": "key_value_size"}
    rows = sizes.get(inner.get(config.part, "hidden_size")) if config.part in PARTS else None
    return None if rows is None else rows - 1


class PlaceConfig(Config):
    """The knobs that select a layer: its model, its block, and its name in the block."""

    title: ClassVar[str] = "layer"
    model: str = knob(
        checkpoints.SMOLLM2,
        "model",
        "A bundled model, the folder of a model, or the name of a model on the Hugging Face hub.",
        choices=(checkpoints.SMOLLM2, checkpoints.TINY),
        free=True,
    )
    block: int = knob(2, "block", "The index (from 0) of the transformer block.", low=0, high=last_block, essential=True)
    part: str = knob("o_proj", "linear layer", "The name of the linear layer in the block.", choices=PARTS, essential=True)


class LayerConfig(SolverConfig, PlaceConfig):
    """The knobs of the solver, and the knobs that select a layer of a real language model and the text that gives its inputs."""

    title: ClassVar[str] = "text"
    text: Literal["prose", "wikitext2"] = knob(
        "prose",
        "text",
        "The text for calibration and evaluation. Before you choose wikitext2, download wikitext2-valid and wikitext2-test with "
        "`workbench fetch`.",
    )
    tokens: int = knob(
        2048,
        "calibration tokens",
        "The length of the calibration sample. A long sample gives better statistics, but takes longer.",
        low=256,
        high=65536,
        step=256,
        unit="tokens",
    )
    upstream: Upstream = knob(
        "gptq",
        "layers before",
        "The method that quantizes the layers before this one, with the same bits, groups and grid as this layer. none: they are "
        "not quantized, so the quantized and the full-precision stream are equal.",
    )
    upstream_damping: float | None = knob(
        None,
        "damping before",
        "The damping for the layers before this one. none: the same damping as for this layer.",
        low=0.0,
        high=1.0,
        choices=(None, 0.01, 0.1),
        when=(lambda c: c.upstream == "gptq", "without GPTQ, the layers before this one use no damping"),
    )
    dtype: Literal["float32", "float64"] = knob(
        "float32",
        "precision",
        "The precision of model, statistics and solver. float64 is slower, but gives the same result on every machine.",
    )
    seed: int = knob(0, "sample", "The index (from 0) of the calibration sample. Samples do not overlap.", low=0, high=100)

    @model_validator(mode="after")
    def _not_the_grid_it_lies_on(self) -> Self:
        smollm2 = self.model == checkpoints.SMOLLM2
        if smollm2 and self.bits == 4 and not self.symmetric and self.group_size == 32:
            raise ValueError(
                f"bits=4, symmetric=False, group_size=32 with {self.model}: not allowed. Its {checkpoints.FOUR_BIT_NOTE}, and "
                "quantization with this setting would not change them. Choose group_size=64 or none, other bits, or another "
                "model"
            )
        return self

    def source(self) -> LayerSource:
        """Return the `LayerSource` of the layer that these knobs select."""
        shared = ("bits", "group_size", "symmetric", "grid", "clip_search", "damping", "act_order")
        solver = {name: getattr(self, name) for name in shared}
        if self.upstream_damping is not None:
            solver["damping"] = self.upstream_damping
        return LayerSource(
            model=self.model,
            block=self.block,
            part=self.part,
            text=self.text,
            tokens=self.tokens,
            skip=self.seed * max(16, -(-self.tokens // WINDOW)),  # skip the windows of all samples before this one
            upstream=self.upstream,
            upstream_solver=tuple(solver.items()),
            dtype=self.dtype,
        )


def inputs(config: LayerConfig) -> list[str]:
    """Return the names and checksums of the model and the data sets that a run depends on."""
    return references(config.model, config.text)


def solver_knobs(config: SolverConfig, **changes: Any) -> dict[str, Any]:
    """Return the knobs of `config` that belong to the solver, as arguments of `quantize_layer`. `changes` overrides them."""
    return {**{name: getattr(config, name) for name in SolverConfig.model_fields}, **changes}
