"""What an adapter is, declared once: the method, its rank, what it is put on."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from workbench.knobs import Config, knob

FAMILY = ("miss", "mini", "bat-col", "bat-row")
LORAS = ("lora", "rslora", "lora+", "pissa", "olora", "lora-ga", "dora", "lora-fa")
METHODS = (*FAMILY, *LORAS, "hira", "full")
BARE = (*FAMILY, "hira", "full")  # without a scale
FORMS = {  # the first is the method's own
    "bat-col": ("checkpointed", "materialised", "activation"),
    "hira": ("checkpointed", "materialised"),
    "full": ("activation",),
}
UNDROPPED = ("bat-col", "bat-row", "dora", "hira", "full")  # whose update has no input of its own
ANY_FORM = ("activation", "materialised", "checkpointed")


class AdapterConfig(Config):
    """One method on the linear layers of a model.

    ``alpha=None`` is the papers': 2r, but r for PiSSA, OLoRA and LoRA-GA; the scale is alpha / r, for rsLoRA and LoRA-GA
    alpha / sqrt(r). ``q=None`` is r. ``targets``: names of layers or the ends of their names; None: every linear of the blocks.
    """

    title: ClassVar[str] = "adapter"
    method: Literal[METHODS] = knob(  # type: ignore[valid-type]
        "miss", "method", "Bone's family (miss, mini, bat-col, bat-row), LoRA's, HiRA, or the layers themselves (full)",
        essential=True,
    )  # fmt: skip
    r: int = knob(
        16, "rank r", "rows of a shard, side of a block, rank of LoRA's product", low=1, high=4096, log=True, essential=True,
        when=(lambda c: c.method != "full", "full fine-tuning has no rank"),
    )  # fmt: skip
    alpha: float | None = knob(
        None, "alpha", "numerator of LoRA's scale; none: 2r (r for PiSSA, OLoRA, LoRA-GA)", low=0.0, high=10_000.0,
        when=(lambda c: c.method in LORAS, "only LoRA's kind has a scale"),
    )  # fmt: skip
    q: int | None = knob(
        None, "width q", "columns of mini's shard, a divisor of every layer's output; none: r", low=1, high=65_536,
        when=(lambda c: c.method == "mini", "only mini has it"),
    )  # fmt: skip
    targets: tuple[str, ...] | None = knob(
        None, "only these layers", "names or ends of names, such as q_proj, v_proj; none: every linear of the blocks", free=True,
        choices=(None, ("q_proj", "v_proj"), ("up_proj", "down_proj")),
    )  # fmt: skip
    form: Literal[ANY_FORM] | None = knob(  # type: ignore[valid-type]
        None, "form", "how the update acts: on activations, as a weight, as a weight that is built twice; none: the cheapest",
        when=(lambda c: c.method != "full", "full fine-tuning has one"),
    )  # fmt: skip
    dropout: float = knob(
        0.0, "dropout", "on the update's input", low=0.0, high=0.9, step=0.05,
        when=(lambda c: c.method not in UNDROPPED, "its update has no input of its own"),
    )  # fmt: skip
    iterations: int | None = knob(
        None, "fast SVD", "iterations of PiSSA's randomised SVD; none: the exact one", low=1, high=64,
        when=(lambda c: c.method == "pissa", "only PiSSA begins with an SVD of the weight"),
    )  # fmt: skip
    compat: Literal["authors", "peft"] = knob(
        "authors", "LoRA-GA's scale", "of the authors' program, or as PEFT 0.21 has it",
        when=(lambda c: c.method == "lora-ga", "only LoRA-GA has two"),
    )  # fmt: skip
    ratio: float = knob(
        16.0, "rates B / A", "LoRA+'s", low=1.0, high=1000.0, log=True,
        when=(lambda c: c.method == "lora+", "only LoRA+ has two rates"),
    )  # fmt: skip
    seed: int = knob(0, "seed", "of what is drawn at the start", low=0, high=10**6)

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.alpha is not None and self.method in BARE:
            raise ValueError(f"alpha={self.alpha:g}: {self.method} has no scale; leave it out (only LoRA's kind takes one)")
        if self.q is not None and self.method != "mini":
            raise ValueError(f"q={self.q}: only mini has it; leave it out for {self.method}")
        if self.targets is not None and not self.targets:
            raise ValueError("targets=(): expected names of linear layers, or none for every one of the blocks")
        if self.form is not None and self.form not in FORMS.get(self.method, ANY_FORM):
            raise ValueError(f"form={self.form!r}: {self.method} has {', '.join(FORMS[self.method])}")
        if self.dropout and (self.method in UNDROPPED or self.acts_as != "activation"):
            raise ValueError(
                f"dropout={self.dropout:g}: {self.method} as {self.acts_as} has no input of its own to drop; set it to 0"
            )
        return self

    @property
    def acts_as(self) -> str:
        """The form that is used."""
        return self.form or FORMS.get(self.method, ANY_FORM)[0]

    @property
    def scale(self) -> float:
        """What LoRA's product is multiplied by."""
        if self.method not in LORAS:
            return 1.0
        return self.numerator / (self.r**0.5 if self.method in ("rslora", "lora-ga") else self.r)

    @property
    def numerator(self) -> float:
        """Alpha, the papers' where none is given."""
        if self.alpha is not None:
            return self.alpha
        return self.r if self.method in ("pissa", "olora", "lora-ga") else 2 * self.r
