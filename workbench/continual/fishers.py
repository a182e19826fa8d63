"""The five things that programs call the diagonal of the Fisher information; each needs a strength of its own in EWC.

================ ============================================================================================
exact            mean over x of ``sum_c p(c|x) (d log p(c|x) / d w)^2``: the definition (Kirkpatrick et al. 2017)
sampled          the same with one label drawn from ``p(.|x)``: right on average
predicted        with the most likely label
empirical        with the true label
batched          the square of the gradient of the mean loss over all x with true labels: no Fisher at all, and
                 smaller by about the number of samples near a minimum
================ ============================================================================================

They are compared in van de Ven, arXiv 2502.11756.
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
ROOM = 1 << 24  # gradients of single samples that are held at a time


def fisher(
    model: nn.Module, x: Tensor, y: Tensor | None = None, estimator: str = "exact", *, seed: int = 0,
    classes: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Diagonal of the Fisher information of each parameter that is trained, by name; `model` returns logits ``(n, classes)``.

    `x` has a sample a row; `y`, true labels ``(n,)``, is needed by "empirical" and "batched". In evaluation mode, whatever
    mode the model is in. `seed` draws the labels of "sampled". If `classes` is given, ``p(c|x)`` is a softmax over
    these classes only. In the parameters' dtype. Raises ValueError for an unknown estimator, missing or foreign
    labels, and no samples.
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
        raise ValueError(f"y={'None' if y is None else tuple(y.shape)}: expected {len(likely)} true labels for {estimator!r}")
    if not ((y >= 0) & (y < likely.shape[1])).all():
        raise ValueError(f"y: labels from {int(y.min())} to {int(y.max())}; the model has outputs for 0 to {likely.shape[1] - 1}")
    return y


def _of_any(model: nn.Module, x: Tensor, labels: Tensor, share: Tensor, classes: Tensor | None) -> dict[str, Tensor]:
    """Sums over samples of ``share`` times the squared gradient of each one's ``log p(label)``."""

    def log_likelihood(logits: Tensor, label: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(masked(logits, classes), label[None])

    return summed(model, log_likelihood, Tensor.square, x, labels, share)


def summed(
    model: nn.Module, of: Callable[[Tensor, Tensor], Tensor], taken: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor,
    share: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """Sums over samples of ``share * taken(gradient)``, the gradient being of ``of(logits (1, classes), label)``."""
    # functional_call does not put back the weights of a layer that is there twice
    model = copy.deepcopy(model)
    weights = {name: p.detach() for name, p in trained(model).items()}
    rest = {n: p.detach() for n, p in [*model.named_parameters(), *model.named_buffers()] if n not in weights}

    def one(parameters: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
        return of(functional_call(model, {**parameters, **rest}, (sample[None],)), label)

    each = vmap(grad(one), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    size = max(1, ROOM // sum(p.numel() for p in weights.values()))
    for rows, given, weight in zip(x.split(size), labels.split(size), share.split(size), strict=True):
        with sdpa_kernel(SDPBackend.MATH):  # vmap knows no other attention
            found = each(weights, rows, given)
        for name, gradients in found.items():
            total[name] += torch.tensordot(weight.to(gradients.dtype), taken(gradients), 1)
    return total


def _is_linear(module: nn.Module) -> bool:
    plain = (nn.Linear, nn.Sequential, nn.Flatten, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout)
    return type(module) in plain


def _of_linears(model: nn.Module, x: Tensor, labels: Tensor, share: Tensor, classes: Tensor | None) -> dict[str, Tensor]:
    """`_of_any` without a gradient a sample: in a linear layer it is an outer product, whose square is that of its factors."""
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
    # a layer is called twice, or its input has more dimensions than (samples, features)
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
