"""The settings of an adapter: the method, the rank, the layers that get the adapter, and options that only some methods have."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from workbench.knobs import Config, knob

FAMILY = ("miss", "mini", "bat-col", "bat-row")
LORAS = ("lora", "rslora", "lora+", "pissa", "olora", "lora-ga", "dora", "lora-fa")
METHODS = (*FAMILY, *LORAS, "hira", "full")
MEANINGS = {
    "miss": "one small matrix, repeated for every block of inputs",
    "mini": "MiSS whose matrix is also repeated for every block of outputs",
    "bat-col": "each block of the weight, plus an identity, times the trained matrix of its block row (as in PEFT)",
    "bat-row": "each block of the weight, plus an identity, times the trained matrix of its block column (as in RWKV-PEFT)",
    "lora": "the product of two thin matrices",
    "rslora": "LoRA whose update is divided by the square root of the rank, not by the rank",
    "lora+": "LoRA with a higher learning rate for B than for A",
    "pissa": "LoRA that begins with the strongest directions of the weight",
    "olora": "LoRA that begins with orthogonal directions from a QR decomposition of the weight",
    "lora-ga": "LoRA that begins with the directions of the first gradient",
    "dora": "LoRA that also trains the length of each row of the weight",
    "lora-fa": "LoRA whose A is frozen",
    "hira": "the product of two thin matrices, multiplied entry by entry with the weight",
    "full": "all weights of the chosen layers",
}
BARE = (*FAMILY, "hira", "full")  # methods whose update is not multiplied by a scale
FORMS = {  # supported forms (see the knob `form`), the default first; a method that is not listed supports ANY_FORM
    "bat-col": ("checkpointed", "materialised", "activation"),
    "hira": ("checkpointed", "materialised"),
    "full": ("activation",),
}
UNDROPPED = ("bat-col", "bat-row", "dora", "hira", "full")  # methods without dropout: weight and update have the same input
ANY_FORM = ("activation", "materialised", "checkpointed")


class AdapterConfig(Config):
    """The settings of one adapter on the linear layers of a model.

    LoRA and its variants multiply the update by a scale: ``alpha / sqrt(r)`` for rsLoRA and LoRA-GA, and ``alpha / r`` for the
    others. ``alpha=None`` means the value from the papers: r for PiSSA, OLoRA and LoRA-GA, and 2r for the others. The method
    mini has a width q; ``q=None`` means r. ``targets`` are names of linear layers, or the ends of their names; None means all
    linear layers in the blocks of the model.
    """

    title: ClassVar[str] = "adapter"
    method: Literal[METHODS] = knob(  # type: ignore[valid-type]
        "miss", "method", "What is trained.\n" + "\n".join(f"{name}: {said}." for name, said in MEANINGS.items()),
        essential=True,
    )  # fmt: skip
    r: int = knob(
        16, "rank r",
        "The rank of the product B A (LoRA and its variants, HiRA), the number of rows of the shard (miss, mini), or the block "
        "size (Bat). A larger r trains more parameters.",
        low=1, high=4096, log=True, essential=True, when=(lambda c: c.method != "full", "full fine-tuning has no rank"),
    )  # fmt: skip
    alpha: float | None = knob(
        None, "alpha",
        "The numerator of the scale of LoRA's update. A larger alpha makes the update larger. none: 2r (r for PiSSA, OLoRA and "
        "LoRA-GA).",
        low=0.0, high=10_000.0, when=(lambda c: c.method in LORAS, "only LoRA and its variants have a scale"),
    )  # fmt: skip
    q: int | None = knob(
        None, "width q",
        "The number of columns of mini's shard, which must divide the output width of each layer. A smaller q trains fewer "
        "parameters. none: r.",
        low=1, high=65_536, when=(lambda c: c.method == "mini", "only mini has a width q"),
    )  # fmt: skip
    targets: tuple[str, ...] | None = knob(
        None, "target layers",
        "The linear layers that get an adapter: their names or the ends of their names, such as q_proj, v_proj. none: all "
        "linear layers in the blocks.",
        free=True, choices=(None, ("q_proj", "v_proj"), ("up_proj", "down_proj")),
    )  # fmt: skip
    form: Literal[ANY_FORM] | None = knob(  # type: ignore[valid-type]
        None, "form of the update",
        "How the update is computed: without building its matrix (activation), as a matrix that is added to the weight "
        "(materialised), or as a matrix that the backward pass builds again to save memory (checkpointed). none: the default of "
        "the method.",
        when=(lambda c: c.method != "full", "full fine-tuning has only one form"),
    )  # fmt: skip
    dropout: float = knob(
        0.0, "dropout", "The probability that an input of the update is set to 0 during training. 0 switches dropout off.",
        low=0.0, high=0.9, step=0.05,
        when=(lambda c: c.method not in UNDROPPED, "this method applies the weight and the update to the same input"),
    )  # fmt: skip
    iterations: int | None = knob(
        None, "SVD iterations",
        "The number of iterations of PiSSA's randomised singular value decomposition (SVD). With more iterations, the result is "
        "more accurate, but takes longer. none: the exact SVD.",
        low=1, high=64, when=(lambda c: c.method == "pissa", "only PiSSA starts from an SVD of the weight"),
    )  # fmt: skip
    compat: Literal["authors", "peft"] = knob(
        "authors", "scale of LoRA-GA",
        "The scale of LoRA-GA's initial A and B: as in the authors' program (authors), or as in version 0.21 of the library "
        "PEFT (peft).",
        when=(lambda c: c.method == "lora-ga", "only LoRA-GA has this choice"),
    )  # fmt: skip
    ratio: float = knob(
        16.0, "LR ratio of B to A", "The learning rate (LR) of B in LoRA+, divided by that of A. 1 gives LoRA.",
        low=1.0, high=1000.0, log=True, when=(lambda c: c.method == "lora+", "only LoRA+ uses two learning rates"),
    )  # fmt: skip
    seed: int = knob(0, "seed", "The seed of the random numbers, such as the initial values of A.", low=0, high=10**6)

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.alpha is not None and self.method in BARE:
            raise ValueError(
                f"alpha={self.alpha:g}: {self.method} has no scale; leave alpha out (only LoRA and its variants use it)"
            )
        if self.q is not None and self.method != "mini":
            raise ValueError(f"q={self.q}: only mini has a width q; leave q out for {self.method}")
        if self.targets is not None and not self.targets:
            raise ValueError("targets=(): expected names of linear layers, or none for all linear layers in the blocks")
        if self.form is not None and self.form not in FORMS.get(self.method, ANY_FORM):
            raise ValueError(f"form={self.form!r}: expected none or one of {', '.join(FORMS[self.method])} for {self.method}")
        if self.dropout and (self.method in UNDROPPED or self.acts_as != "activation"):
            raise ValueError(
                f"dropout={self.dropout:g}: {self.method} in the {self.acts_as} form does not support dropout, since it applies "
                "the weight and the update to the same input; set dropout=0"
            )
        return self

    @property
    def acts_as(self) -> str:
        """The form in which the update is computed: `form`, or the default of the method if `form` is None."""
        return self.form or FORMS.get(self.method, ANY_FORM)[0]

    @property
    def scale(self) -> float:
        """The scale by which the product B A is multiplied. It is 1 for methods without a scale."""
        if self.method not in LORAS:
            return 1.0
        return self.numerator / (self.r**0.5 if self.method in ("rslora", "lora-ga") else self.r)

    @property
    def numerator(self) -> float:
        """The numerator of the scale: `alpha`, or the value from the papers if `alpha` is None."""
        if self.alpha is not None:
            return self.alpha
        return self.r if self.method in ("pissa", "olora", "lora-ga") else 2 * self.r
