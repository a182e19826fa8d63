"""Five ways in which programs estimate the diagonal of the Fisher information.

The estimates differ in scale, so elastic weight consolidation (EWC) needs a different strength for each estimator. In this
table, x is a sample, c a class, and w a weight.

================ ============================================================================================
exact            mean over x of ``sum_c p(c|x) (d log p(c|x) / d w)^2``: the definition (Kirkpatrick et al. 2017)
sampled          like exact, but with one label drawn from ``p(.|x)`` instead of the sum over c: an unbiased estimate
predicted        like exact, but with the most likely label instead of the sum over c: a biased estimate
empirical        like exact, but with the true label instead of the sum over c: the empirical Fisher information
batched          square of the gradient of the mean loss over all x with true labels: not an estimate of the
                 Fisher information. Near a minimum, it is about empirical divided by the number of samples
================ ============================================================================================

Van de Ven (arXiv 2502.11756) compares these estimators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.continual.nets import trained
from workbench.continual.tasks import masked
from workbench.training import evaluating

ESTIMATORS = ("exact", "sampled", "predicted", "empirical", "batched")
ROOM = 1 << 24  # largest number of gradient entries (samples times weights) that are computed at a time


def fisher(
    model: nn.Module, x: Tensor, y: Tensor | None = None, estimator: str = "exact", *, seed: int = 0,
    classes: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the diagonal of the Fisher information for each trained parameter.

    The model is switched to evaluation mode during the computation. Its previous mode is restored afterwards.

    Args:
        model: a module that returns logits ``(n, outputs)``.
        x: samples ``(n, ...)``.
        y: true labels ``(n,)``. Only "empirical" and "batched" need them.
        estimator: one of `ESTIMATORS`.
        seed: seed for the labels of "sampled".
        classes: if given, ``p(c|x)`` is a softmax over these classes only.

    Returns:
        A dict that maps the name of each parameter to a tensor with the shape and dtype of the parameter.

    Raises:
        ValueError: if the estimator is unknown, if there are no samples, if labels are missing, or if the model has no output for
            a label.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator={estimator!r}: expected one of {', '.join(ESTIMATORS)}")
    if len(x) == 0:
        raise ValueError("x has no samples; expected at least one")
    with evaluating(model):
        with torch.no_grad():
            likely = masked(model(x), classes).softmax(-1)
        labels = _labels(likely, y, estimator, seed)
        if estimator == "batched":
            loss = nn.functional.cross_entropy(masked(model(x), classes), labels)
            weights = trained(model)
            found = torch.autograd.grad(loss, list(weights.values()))
            return {name: gradient.square() for name, gradient in zip(weights, found, strict=True)}
        if estimator == "exact":
            every = range(likely.shape[1]) if classes is None else classes.tolist()
            shares = [(torch.full_like(labels, c), likely[:, c]) for c in every]
        else:
            shares = [(labels, torch.ones_like(labels, dtype=likely.dtype))]
        squares = _of_linears if all(_is_linear(m) for m in model.modules()) else _of_any
        total = {name: torch.zeros_like(p) for name, p in trained(model).items()}
        for given, share in shares:
            for name, square in squares(model, x, given, share, classes).items():
                total[name] += square
    return {name: square / len(x) for name, square in total.items()}


def _labels(likely: Tensor, y: Tensor | None, estimator: str, seed: int) -> Tensor:
    if estimator == "sampled":
        generator = torch.Generator().manual_seed(seed)
        return torch.multinomial(likely.cpu(), 1, generator=generator)[:, 0].to(likely.device)
    if estimator not in ("empirical", "batched"):
        return likely.argmax(-1)
    if y is None or y.shape != likely.shape[:1]:
        raise ValueError(
            f"y: the shape is {'None' if y is None else tuple(y.shape)}; expected {len(likely)} true labels for {estimator!r}, "
            "one per sample"
        )
    if not ((y >= 0) & (y < likely.shape[1])).all():
        raise ValueError(
            f"y: found labels from {int(y.min())} to {int(y.max())}; expected labels from 0 to {likely.shape[1] - 1}, for which "
            "the model has outputs"
        )
    return y


def _of_any(model: nn.Module, x: Tensor, labels: Tensor, share: Tensor, classes: Tensor | None) -> dict[str, Tensor]:
    """Return the sum over samples of ``share`` times the squared gradient of ``log p(label)``, for any model."""

    def log_likelihood(logits: Tensor, label: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(masked(logits, classes), label[None])

    return summed(model, log_likelihood, Tensor.square, x, labels, share)


def summed(
    model: nn.Module, of: Callable[[Tensor, Tensor], Tensor], taken: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor,
    share: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the sum over samples of ``share * taken(gradient)`` for each trained parameter.

    For each sample, ``of(logits, label)`` is differentiated with respect to the parameters. The logits of a sample have the shape
    ``(1, outputs)``. `labels` and `share` have the shape ``(n,)``.
    """
    # `functional_call` does not restore the weights of a layer that occurs twice in the model, so a copy of the model is used.
    model = copy.deepcopy(model)
    weights = {name: p.detach() for name, p in trained(model).items()}
    rest = {n: p.detach() for n, p in [*model.named_parameters(), *model.named_buffers()] if n not in weights}

    def one(parameters: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
        return of(functional_call(model, {**parameters, **rest}, (sample[None],)), label)

    each = vmap(grad(one), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    size = max(1, ROOM // sum(p.numel() for p in weights.values()))
    for rows, given, weight in zip(x.split(size), labels.split(size), share.split(size), strict=True):
        with sdpa_kernel(SDPBackend.MATH):  # vmap supports no other implementation of attention
            found = each(weights, rows, given)
        for name, gradients in found.items():
            total[name] += torch.tensordot(weight.to(gradients.dtype), taken(gradients), 1)
    return total


def _is_linear(module: nn.Module) -> bool:
    plain = (nn.Linear, nn.Sequential, nn.Flatten, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout)
    return type(module) in plain


def _of_linears(model: nn.Module, x: Tensor, labels: Tensor, share: Tensor, classes: Tensor | None) -> dict[str, Tensor]:
    """Return the same sum as `_of_any`, for models of linear layers, without storing the gradient of each sample.

    In a linear layer, the gradient of a sample is an outer product. Its elementwise square is the outer product of the squared
    factors. Therefore, a matrix product computes the sum over the samples.
    """
    inputs, outputs, names = [], [], []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def keep(module: nn.Module, given: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
                names.append(name)
                inputs.append(given[0].detach())
                outputs.append(out)

            hooks.append(module.register_forward_hook(keep))
    try:
        loss = -nn.functional.cross_entropy(masked(model(x), classes), labels, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    # The formula does not hold if a layer is called twice, or if its input is not of shape (samples, features).
    if len({*names}) < len(names) or any(a.dim() != 2 for a in inputs):
        return _of_any(model, x, labels, share, classes)
    deltas = torch.autograd.grad(loss, outputs)
    found: dict[str, Tensor] = {}
    for name, a, delta in zip(names, inputs, deltas, strict=True):
        weighted = share[:, None] * delta.square()
        for part, square in (("weight", weighted.T @ a.square()), ("bias", weighted.sum(0))):
            key = f"{name}.{part}" if name else part
            found[key] = square
    return {name: found[name] for name in trained(model)}
