"""LoRA and what came of it, full fine-tuning, and HiRA, in the same frame.

=========== =================================== ==========================================================================
lora        W + s B A                           A uniform in +-1/sqrt(in), B zero (arXiv 2106.09685); s = alpha / r
rslora      the same                            s = alpha / sqrt(r) (2312.03732)
lora+       the same                            B learns at a higher rate (2402.12354); see `parameter_groups`
lora-fa     the same                            A stays as it was drawn (2308.03303)
pissa       W + s (B A - B0 A0)                 B0, A0 of the r largest singular values of W (2404.02948)
olora       the same                            B0 A0 of W's QR decomposition (2406.01775)
lora-ga     the same                            B0, A0 of the singular vectors of a gradient of W (2407.05000)
dora        m (W + s B A) / ||W + s B A||       norms of rows, which take no gradient; m from the norms of W (2402.09353)
hira        W + W o (B A)                       entry by entry; A as LoRA's, B zero
full        the weight itself
=========== =================================== ==========================================================================

PiSSA, OLoRA and LoRA-GA are published as ``(W - s B0 A0) + s B A`` with the first part in W's place. Here W stays as it is, so
that switching the adapter off, a second adapter, and a quantized base need no care: the start is subtracted in the product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.adapters.adapter import Adapter, Linear
from workbench.adapters.config import AdapterConfig


class LoRA(Adapter):
    """``W + s B A``, A ``(r, in)``, B ``(out, r)``; less ``s B0 A0`` where the start is not zero."""

    def __init__(self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None = None):
        super().__init__(config, base, generator, gradient)
        most = min(base.in_features, base.out_features)
        if config.r > most:
            raise ValueError(f"r={config.r} is above the rank that its weight can have: expected 1 to {most}")
        self.scale, self.frozen_A = config.scale, config.method == "lora-fa"
        A, B = self.start(config, base, generator, gradient)
        self.A = nn.Parameter(A.to(**self.like).contiguous(), requires_grad=not self.frozen_A)
        self.B = nn.Parameter(B.to(**self.like).contiguous())
        for name, first in (("A0", self.A), ("B0", self.B)) if B.any() else ():
            self.register_buffer(name, first.detach().clone())

    def start(
        self, config: AdapterConfig, base: Linear, generator: torch.Generator, gradient: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A and B before the first step."""
        bound = base.in_features**-0.5
        A = torch.empty(config.r, base.in_features).uniform_(-bound, bound, generator=generator)
        return A, torch.zeros(base.out_features, config.r)

    @property
    def from_zero(self) -> bool:
        """Whether B begins at zero, so that nothing is subtracted."""
        return not hasattr(self, "B0")

    def factors(self) -> tuple[Tensor, Tensor]:
        """``(A, B)`` with ``Delta = s B A``; of rank 2r where the start is subtracted."""
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
        """``s B A x`` in x's dtype, as autocast would: the weights that are trained stay float32."""
        return self.scale * F.linear(F.linear(x, A.to(x.dtype)), B.to(x.dtype))


class PiSSA(LoRA):
    """Starts with the r largest singular values, half in A and half in B."""

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
    """Starts with the first r columns of Q and rows of R. PEFT does not divide by s, which is another start where s is not 1."""

    needs_weight = True

    def start(self, config, base, generator, gradient):  # noqa: D102
        Q, R = torch.linalg.qr(base.weight.detach().to(self.like["dtype"]))
        return R[: config.r] / self.scale, Q[:, : config.r]


class LoRAGA(LoRA):
    """Starts with singular vectors of the loss's gradient: the first r on the input's side, the next r on the output's."""

    needs_weight = True
    GAMMA = 16  # the authors'

    def start(self, config, base, generator, gradient):  # noqa: D102
        if gradient is None:
            raise ValueError(
                "lora-ga starts from gradients: give add_adapter some batches (batches=[{'input_ids': ..., 'labels': ...}])"
            )
        r, (rows, columns) = config.r, gradient.shape
        if 2 * r > min(rows, columns):
            raise ValueError(
                f"r={r}: lora-ga takes 2r singular vectors of a gradient of {rows} x {columns}; expected at most half of that"
            )
        U, S, V = _fast_svd(gradient.to(self.like["dtype"]), min(4 * r, rows, columns), 4, generator)
        A, B = V[:, :r].T, U[:, r : 2 * r]
        scale = rows**0.25 / self.GAMMA**0.5
        return (A, B * S[r : 2 * r] * scale) if config.compat == "peft" else (A * scale, B * scale)


class DoRA(LoRA):
    """Length and direction of each row apart: LoRA turns it, m is its length."""

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
        """Norms of the rows of ``W + s B A`` without building it: by its three products, the largest of them ``(out, r)``."""
        weight = weight.to(self.A.dtype)
        crossed = (self.B * (weight @ self.A.T)).sum(1)
        added = (self.B @ (self.A @ self.A.T) * self.B).sum(1)
        return (weight.square().sum(1) + 2 * self.scale * crossed + self.scale**2 * added).clamp_min(0).sqrt()


class HiRA(LoRA):
    """``W o (B A)``, an update whose rank can be as high as W's; it has no form without a weight-sized tensor."""

    needs_weight = True

    def delta(self, weight: Tensor) -> Tensor:  # noqa: D102
        return weight * super().delta(weight)


class Full(Adapter):
    """The weight itself, trained as a copy of its own: the layer's stays as it was."""

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
    """The largest singular values by subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), from a drawn start."""
    sides = torch.randn(weight.shape[1], rank, generator=generator, dtype=weight.dtype).to(weight.device)
    Q = torch.linalg.qr(weight @ sides).Q
    for _ in range(iterations):
        Q = torch.linalg.qr(weight @ torch.linalg.qr(weight.T @ Q).Q).Q
    U, S, V = _svd(Q.T @ weight)
    return Q @ U, S, V
