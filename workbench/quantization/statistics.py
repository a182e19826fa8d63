"""What a layer-wise solver knows of a layer's inputs: the Hessian and the cross statistics of two streams."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TALLEST_DAMPING = 1.0


def layer_statistics(inputs: Tensor, reference_inputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Second moments of a layer's inputs, divided by the number of tokens.

    `inputs` ``(tokens, in)`` is X of the quantized stream, `reference_inputs` the same tokens in the
    full-precision stream. Returns ``hessian = X'X/N`` and ``cross = (Xref - X)'X/N``, both ``(in, in)``; row of
    `cross` = reference feature, column = quantized-stream feature (GPTAQ's dXX', arXiv 2504.02692); None
    without `reference_inputs`. The common factor 1/N changes no solver's result; it makes numbers readable.

    Raises ValueError where the two streams do not hold the same tokens or a value is not finite.
    """
    x = _at_least_float32(inputs)
    if x.ndim != 2:
        raise ValueError(f"inputs has shape {tuple(x.shape)}; expected (tokens, in): flatten batch and position")
    require_finite(x, "inputs")
    tokens = max(len(x), 1)
    hessian = x.T @ x / tokens
    if reference_inputs is None:
        return hessian, None
    reference = _at_least_float32(reference_inputs).to(x.dtype)
    if reference.shape != x.shape:
        raise ValueError(
            f"reference_inputs has shape {tuple(reference.shape)}, inputs {tuple(x.shape)}; expected the same "
            "tokens in the same order in both streams: run both over one batch"
        )
    require_finite(reference, "reference_inputs")
    return hessian, (reference - x).T @ x / tokens


def require_finite(tensor: Tensor, name: str) -> None:
    """Raise ValueError naming `name` and the first place where `tensor` is not finite."""
    if tensor.numel() and not all(math.isfinite(v) for v in torch.aminmax(tensor)):
        bad = ~torch.isfinite(tensor)
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} holds {int(bad.sum())} non-finite values, the first, {tensor[first].item()}, at {first}; "
            "expected finite numbers: drop the sample that overflows, or compute its activations in float32"
        )


def _at_least_float32(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


class Factor(NamedTuple):
    """Upper triangular `upper` with ``(H + lam I)^-1 = upper' upper``, and the damping that was used."""

    upper: Tensor
    damping: float


def factor_hessian(hessian: Tensor, damping: float) -> Factor | None:
    """Factor the damped Hessian, lam = damping * mean(diag H); None if no damping up to 1 makes it definite.

    One Cholesky factorisation of the Hessian in reversed order and one triangular inverse: the inverse of the
    Hessian is never formed. After a failure the damping is raised tenfold (from 1e-6, if it was 0) up to 1.
    """
    mean = hessian.diagonal().mean()
    trial = damping
    while True:
        damped = hessian.flip(0, 1)
        damped.diagonal().add_(trial * mean)
        reverse, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper = inverse_upper(reverse.flip(0, 1))
            if torch.isfinite(upper).all():
                return Factor(upper, trial)
        if trial >= TALLEST_DAMPING:
            return None
        trial = min(max(trial * 10, 1e-6), TALLEST_DAMPING)


def inverse_upper(matrix: Tensor, leaf: int = 128) -> Tensor:
    """Inverse of an upper triangular matrix by halves: all products, half the time of one triangular solve."""
    n = len(matrix)
    if n <= leaf:
        identity = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
        found: Tensor = torch.linalg.solve_triangular(matrix, identity, upper=True)
        return found
    h, inverse = n // 2, torch.zeros_like(matrix)
    inverse[:h, :h], inverse[h:, h:] = (inverse_upper(matrix[:h, :h], leaf), inverse_upper(matrix[h:, h:], leaf))
    inverse[:h, h:] = -(inverse[:h, :h] @ matrix[:h, h:]) @ inverse[h:, h:]
    return inverse


def propagation(cross: Tensor, upper: Tensor) -> Tensor:
    """GPTAQ's P ``(in, in)``: row q spreads column q's stream difference over the columns after it.

    ``P = striu(D U') U`` (arXiv 2504.02692, eq. 17 in its upper form). ResComp's second matrix needs no product
    of its own: ``P2 = P + I - diag(U)^-1 U``.
    """
    return torch.triu(cross @ upper.T, 1) @ upper
