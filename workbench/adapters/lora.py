"""LoRA and its variants, HiRA, and full fine-tuning, as subclasses of `Adapter`.

W is the frozen weight ``(out, in)``. A ``(r, in)`` and B ``(out, r)`` are trained, and A0 and B0 are their initial values. s is
the scale. ``o`` is the entrywise product. Numbers such as 2106.09685 are arXiv identifiers.

=========== =================================== ==========================================================================
method      effective weight                    initial values and settings
=========== =================================== ==========================================================================
lora        W + s B A                           A uniform in +-1/sqrt(in), B = 0; s = alpha / r (2106.09685)
rslora      W + s B A                           as lora, but s = alpha / sqrt(r) (2312.03732)
lora+       W + s B A                           as lora, but B has a higher rate, see `parameter_groups` (2402.12354)
lora-fa     W + s B A                           as lora, but A is not trained (2308.03303)
pissa       W + s (B A - B0 A0)                 A0, B0 from the r largest singular values of W (2404.02948)
olora       W + s (B A - B0 A0)                 A0, B0 from the QR decomposition of W (2406.01775)
lora-ga     W + s (B A - B0 A0)                 A0, B0 from singular vectors of the gradient of W (2407.05000)
dora        m (W + s B A) / ||W + s B A||       ||.|| are row norms, treated as constants; m starts as ||W|| (2402.09353)
hira        W + W o (B A)                       A as in lora, B = 0
full        a trained copy of W                 the copy starts as W
=========== =================================== ==========================================================================

The papers of PiSSA, OLoRA and LoRA-GA replace the frozen weight W by ``W - s B0 A0`` and then add ``s B A``. Here W is not
changed, and the initial product is subtracted from the update. So the adapter can be switched off or combined with other
adapters without special treatment.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.adapters.adapter import Adapter, Linear
from workbench.adapters.config import AdapterConfig


class LoRA(Adapter):
    """LoRA: the effective weight ``W + s B A``, or ``W + s (B A - B0 A0)`` if the initial value of B is not zero."""

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        most = min(base.in_features, base.out_features)
        if config.r > most:
            raise ValueError(f"r={config.r} is larger than the largest possible rank of the weight; expected 1 to {most}")
        self.scale, self.frozen_A = config.scale, config.method == "lora-fa"
        A, B = self.start(config, base, generator, gradient)
        self.A = nn.Parameter(A.to(**self.like).contiguous(), requires_grad=not self.frozen_A)
        self.B = nn.Parameter(B.to(**self.like).contiguous())
        for name, first in (("A0", self.A), ("B0", self.B)) if B.any() else ():
            self.register_buffer(name, first.detach().clone())

    def start(
        self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the initial A ``(r, in)`` and B ``(out, r)``.

        Only LoRA-GA uses `gradient`, the gradient of the loss with respect to the weight.
        """
        bound = base.in_features**-0.5
        A = torch.empty(config.r, base.in_features).uniform_(-bound, bound, generator=generator)
        return A, torch.zeros(base.out_features, config.r)

    @property
    def from_zero(self) -> bool:
        """True if the initial product ``B0 A0`` is zero, so that it does not have to be subtracted."""
        return not hasattr(self, "B0")

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return ``(A, B)`` with ``Delta = s B A``. Their inner dimension is r, or 2r if `from_zero` is False."""
        if self.from_zero:
            return self.A, self.B
        return torch.cat([self.A, self.A0]), torch.cat([self.B, -self.B0], dim=1)

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        moved = self.B @ self.A if self.from_zero else self.B @ self.A - self.B0 @ self.A0
        return self.scale * moved

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        moved = self._product(self.dropout(x), self.A, self.B)
        if not self.from_zero:
            moved = moved - self._product(x, self.A0, self.B0)
        return base(x) + moved

    def _product(self, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        """Return ``s B A x`` in the dtype of x. As with torch.autocast, the stored parameters keep their own dtype."""
        return self.scale * F.linear(F.linear(x, A.to(x.dtype)), B.to(x.dtype))


class PiSSA(LoRA):
    """PiSSA: ``s B0 A0`` is the part of W with the r largest singular values. It is split evenly between A0 and B0."""

    needs_weight = True

    def start(self, config, base, generator, gradient):  # noqa: D102
        weight = base.weight.detach().to(self.like["dtype"])
        if config.iterations is None:
            U, S, V = (part[..., : config.r] for part in _svd(weight))
        else:
            U, S, V = _fast_svd(weight, config.r, config.iterations, generator)
        root = (S / self.scale).sqrt()
        return (V * root).T, U * root


class OLoRA(LoRA):
    """OLoRA: A starts as the first r rows of R divided by s, and B as the first r columns of Q, with ``W = Q R``.

    PEFT does not divide by s, so its initial product differs from ours if s is not 1.
    """

    needs_weight = True

    def start(self, config, base, generator, gradient):  # noqa: D102
        Q, R = torch.linalg.qr(base.weight.detach().to(self.like["dtype"]))
        return R[: config.r] / self.scale, Q[:, : config.r]


class LoRAGA(LoRA):
    """LoRA-GA: A and B start from singular vectors of the gradient of the loss with respect to the weight.

    A starts from the first r right singular vectors, and B from the next r left singular vectors.
    """

    needs_weight = True
    GAMMA = 16  # gamma of the authors' program

    def start(self, config, base, generator, gradient):  # noqa: D102
        if gradient is None:
            raise ValueError(
                "lora-ga starts from a gradient of the loss, but no batches were given; pass some to add_adapter, such as "
                "batches=[{'input_ids': ..., 'labels': ...}]"
            )
        r, (rows, columns) = config.r, gradient.shape
        if 2 * r > min(rows, columns):
            raise ValueError(
                f"r={r}: lora-ga needs 2r singular vectors, but the gradient is {rows} x {columns}; expected an r of at most "
                "half the smaller dimension"
            )
        U, S, V = _fast_svd(gradient.to(self.like["dtype"]), min(4 * r, rows, columns), 4, generator)
        A, B = V[:, :r].T, U[:, r : 2 * r]
        scale = rows**0.25 / self.GAMMA**0.5
        return (A, B * S[r : 2 * r] * scale) if config.compat == "peft" else (A * scale, B * scale)


class DoRA(LoRA):
    """DoRA: LoRA changes the directions of the rows of the weight, and the trained magnitude m ``(out,)`` sets their norms."""

    needs_weight = True

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        self.magnitude = nn.Parameter(base.weight.detach().to(**self.like).norm(dim=1))

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        turned = weight + super().delta(weight)
        return (self.magnitude / turned.detach().norm(dim=1))[:, None] * turned - weight

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        y = base(x) if base.bias is None else base(x) - base.bias
        ratio = (self.magnitude / self._norm(base.weight)).to(x.dtype)
        y = ratio * (y + self._product(x, self.A, self.B))
        return y if base.bias is None else y + base.bias

    @torch.no_grad()
    def _norm(self, weight: Tensor) -> Tensor:
        """Return the norms ``(out,)`` of the rows of ``W + s B A`` without building this matrix.

        The squared norm is expanded into three terms, so that no matrix product is larger than ``(out, r)``.
        """
        weight = weight.to(self.A.dtype)
        crossed = (self.B * (weight @ self.A.T)).sum(1)
        added = (self.B @ (self.A @ self.A.T) * self.B).sum(1)
        return (weight.square().sum(1) + 2 * self.scale * crossed + self.scale**2 * added).clamp_min(0).sqrt()


class HiRA(LoRA):
    """HiRA: the update ``W o (B A)``, where ``o`` is the entrywise product.

    The rank of the update can be as high as min(out, in). The output cannot be computed without a tensor as large as the weight.
    """

    needs_weight = True

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return weight * super().delta(weight)


class Full(Adapter):
    """Full fine-tuning. A copy of the weight is trained, and the weight of the layer is not changed."""

    needs_weight = True

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        self.weight = nn.Parameter(base.weight.detach().to(**self.like, copy=True))

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return self.weight - weight

    def act(self, x: Tensor, base: Linear) -> Tensor:  # noqa: D102
        return F.linear(x, self.weight.to(x.dtype), base.bias)


def _svd(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    return U, S, Vh.T


def _fast_svd(weight: Tensor, rank: int, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `rank` largest singular values S, with their left and right singular vectors, as ``U, S, V``.

    They are computed by subspace iteration from a random start.

    Source: Halko, Martinsson and Tropp 2011, algorithm 4.4.
    """
    sides = torch.randn(weight.shape[1], rank, generator=generator, dtype=weight.dtype).to(weight.device)
    Q = torch.linalg.qr(weight @ sides).Q
    for _ in range(iterations):
        Q = torch.linalg.qr(weight @ torch.linalg.qr(weight.T @ Q).Q).Q
    U, S, V = _svd(Q.T @ weight)
    return Q @ U, S, V
