"""Statistics of a layer's inputs that a layer-wise solver needs: the Hessian, and the cross statistics of two streams."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TALLEST_DAMPING = 1.0


def layer_statistics(inputs: Tensor, reference_inputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Return the second moments of a layer's inputs, divided by the number of tokens N.

    The quantized stream is the model whose earlier layers are quantized; the full-precision stream is the original model. The
    factor 1/N keeps the values independent of the number of tokens. It does not change the result if ``compat="clean"``.

    Args:
        inputs: X ``(tokens, in)``, the inputs of the layer in the quantized stream.
        reference_inputs: Xref ``(tokens, in)``, the inputs for the same tokens in the full-precision stream.

    Returns:
        ``hessian = X'X/N`` ``(in, in)``, and ``cross = (Xref - X)'X/N`` ``(in, in)``, which is dXX' of GPTAQ (arXiv 2504.02692).
        The rows of `cross` are features of the full-precision stream, and its columns features of the quantized stream. `cross`
        is None without `reference_inputs`.

    Raises:
        ValueError: if the shapes of the two streams differ, or if a value is not finite.
    """
    x = _at_least_float32(inputs)
    if x.ndim != 2:
        raise ValueError(
            f"inputs has shape {tuple(x.shape)}; expected (tokens, in): flatten batch and position into one dimension"
        )
    require_finite(x, "inputs")
    tokens = max(len(x), 1)
    hessian = x.T @ x / tokens
    if reference_inputs is None:
        return hessian, None
    reference = _at_least_float32(reference_inputs).to(x.dtype)
    if reference.shape != x.shape:
        raise ValueError(
            f"reference_inputs has shape {tuple(reference.shape)}, but inputs has shape {tuple(x.shape)}; expected the same "
            "tokens in the same order: run both models on the same batch"
        )
    require_finite(reference, "reference_inputs")
    return hessian, (reference - x).T @ x / tokens


def require_finite(tensor: Tensor, name: str) -> None:
    """Raise ValueError if `tensor` has non-finite values. The message gives `name`, the number of these values, and the first."""
    if tensor.numel() and not all(math.isfinite(v) for v in torch.aminmax(tensor)):
        bad = ~torch.isfinite(tensor)
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} has {int(bad.sum())} non-finite values, the first of which is {tensor[first].item()} at {first}; "
            "expected finite numbers: remove the sample that overflows, or compute its activations in float32"
        )


def _at_least_float32(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


class Factor(NamedTuple):
    """The upper triangular matrix `upper` with ``(H + lam I)^-1 = upper' upper``, and the damping that was used."""

    upper: Tensor
    damping: float


def factor_hessian(hessian: Tensor, damping: float) -> Factor | None:
    """Factor the inverse of the damped Hessian ``H + lam I`` with ``lam = damping * mean(diag H)``.

    If the factorisation fails, the damping is raised tenfold (0 is raised to 1e-6), up to 1. The function returns None if the
    factorisation fails for all these values. For each value, it computes one Cholesky factorisation of the Hessian in reversed
    order and one inverse of a triangular matrix, but not the inverse of the Hessian.
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
    """Return the inverse of an upper triangular matrix by recursion on its halves.

    The recursion consists mostly of matrix products. It takes about half the time of one triangular solve.
    """
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
    """Return GPTAQ's matrix P ``(in, in)``. Its row q distributes the stream difference of column q over the later columns.

    ``P = striu(D U') U`` (arXiv 2504.02692, equation 17, for an upper triangular U), in which striu is the strictly upper
    triangular part. The second matrix of ResComp follows from P without another product: ``P2 = P + I - diag(U)^-1 U``.
    """
    return torch.triu(cross @ upper.T, 1) @ upper
