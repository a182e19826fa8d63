"""CLASSP, an optimizer that divides the steps of each weight by a root of the sum of its past gradients (arXiv 2405.09637).

`rule.update` implements one step for one tensor in the notation of the paper. `CLASSP` applies it to the weights of a model. The
module `fused` has faster implementations of the same step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from workbench.continual.rule import EPS, MODE, ORDER, POWER, THRESHOLD, Moved, Rule, loop

MODES = ("paper", "repo")
ORDERS = ("inclusive", "exclusive")
# A function that updates tensors in place. It returns, for each tensor, how many weights it left out because of a value that is
# not finite.
Form = Callable[[list[Moved], Rule], list[Tensor]]
FORMS = ("auto", "loop", "foreach", "fused")


class CLASSP(Optimizer):
    """CLASSP (arXiv 2405.09637, Algorithm 1), as a `torch.optim.Optimizer`.

    Args:
        params: parameters, parameter groups, or ``model.named_parameters()``. In the last case, errors name the tensor.
        lr: the learning rate, alpha in the paper. With `decay`, the first step is about ``lr * sign(g)``, so `lr` has the unit
            of the weights.
        power: the exponent p. Each weight accumulates a sum ``S += |g|^p``, and its steps are divided by the p-th root of S.
            p = 2 with threshold 0 is AdaGrad.
        threshold: a weight moves only if its squared gradient is above this value. The threshold is absolute. Useful values are
            near 1e-7 if the loss is a mean over the batch.
        eps: a constant that is added to S inside the root.
        decay: whether each step is divided by the root of S. If False, the steps are those of SGD, but S still grows. The paper
            trains task 1 of its image experiment in this way.
        mode: "paper" is Algorithm 1. "repo" (also "published") is the published program. There, a threshold below 1 has no
            effect, a threshold of 1 or more stops all weights, and S adds ``|g|`` for every p.
        order: "inclusive": the gradient is added to S before the step is divided (Algorithm 1). "exclusive": it is added
            after the division (equation 1).
        cap: the upper limit of the effective learning rate ``lr / (S + eps)^(1/p)``; None for no limit.
        nonfinite: "raise" (an error) or "skip" (no error). In both cases, weights whose gradient, sum or step is not finite are
            not changed.
        maximize: if True, maximize the objective instead of minimizing it.
        form: the implementation: "loop" (`rule.update` for one tensor after another), "foreach" (all tensors together, operation
            by operation), "fused" (one pass over memory), or "auto" (the fastest that supports the tensor).

    ``state[p]["sum"]`` is S, in float32 or in the dtype of the weight, whichever is wider. S is kept across task boundaries. Call
    `reset_state` to set it to 0.

    Raises:
        ValueError: if a value is out of range.
        FloatingPointError: from `step`, if ``nonfinite="raise"`` and a gradient, sum or step is not finite.
    """

    def __init__(
        self, params: Iterable[Any], lr: float | Tensor, power: float = POWER.default,
        threshold: float = THRESHOLD.default, eps: float = EPS.default, decay: bool = True, mode: str = MODE.default, *,
        order: str = ORDER.default, cap: float | None = None,
        nonfinite: str = "raise", maximize: bool = False, form: str = "auto",
    ):  # fmt: skip
        defaults: dict[str, Any] = {"lr": lr, "power": power, "threshold": threshold, "eps": eps, "decay": decay, "mode": mode}
        defaults |= {"order": order, "cap": cap, "nonfinite": nonfinite, "maximize": maximize, "form": form}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, whose sums start at 0; see `torch.optim.Optimizer.add_param_group`."""
        checked({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. Returns the loss of `closure`, which evaluates the model again, or None without a closure."""
        loss = loss_of(closure)
        bad: list[str] = []
        for number, group in enumerate(self.param_groups):
            rule = checked(group)
            for form, tensors in self._ready(group, number).items():
                for count, (place, weight, *_) in zip(form(tensors, rule), tensors, strict=True):
                    if count and group["nonfinite"] == "raise":
                        bad.append(f"{_name(group, number, place)} ({int(count)} of {weight.numel()} weights)")
        if bad:
            raise FloatingPointError(
                f"a gradient, sum or step is not finite in {', '.join(bad)}; these weights and their sums were not changed. "
                "Reduce lr, or set nonfinite='skip' to continue without an error"
            )
        return loss

    def _ready(self, group: dict[str, Any], number: int) -> dict[Form, list[Moved]]:
        """Return, for each function that updates tensors, a list of the tensors of the parameter group that it will update.

        Tensors without a gradient are left out. Each entry of a list holds the index in the group, the weight, the gradient and
        the sum S, which is created if necessary.
        """
        found: dict[Form, list[Moved]] = {}
        for place, weight in enumerate(group["params"]):
            gradient = weight.grad
            if gradient is None:
                continue
            if gradient.is_sparse or weight.is_complex():
                kind = "sparse gradients" if gradient.is_sparse else "complex weights"
                raise ValueError(
                    f"{_name(group, number, place)}: expected dense gradients of real weights, not {kind}, "
                    "which CLASSP does not support. Exclude this parameter"
                )
            state = self.state[weight]
            if not state:
                state["sum"] = torch.zeros_like(weight, dtype=sum_dtype(weight))
            if group["maximize"]:
                gradient = -gradient
            form = form_of(group["form"], weight, gradient)
            found.setdefault(form, []).append((place, weight, gradient, state["sum"]))
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of an optimizer.

        The base class would convert the sums to the dtype of the weights. This method keeps the wider dtype of the sums.
        """
        super().load_state_dict(state_dict)
        ids = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for saved, weight in zip(ids, own, strict=True):
            kept = state_dict["state"].get(saved, {})
            if "sum" in kept:
                wide = torch.promote_types(kept["sum"].dtype, sum_dtype(weight))
                self.state[weight]["sum"] = kept["sum"].detach().to(weight.device, wide, copy=True)

    def reset_state(self) -> None:
        """Set all sums S to 0, as at the start of training. The weights are not changed."""
        for state in self.state.values():
            state["sum"].zero_()

    def switch_decay(self, on: bool) -> None:
        """Switch the division of the steps by the root of S on or off. The sums are not changed."""
        for group in self.param_groups:
            group["decay"] = on


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """Return the loss that `closure` computes with gradients enabled, or None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _name(group: dict[str, Any], number: int, place: int) -> str:
    names = group.get("param_names")
    return names[place] if names else f"parameter {place} of group {number}"


def form_of(form: str, weight: Tensor, gradient: Tensor) -> Form:
    """Return the function that updates this tensor; `form` is the argument of `CLASSP`.

    For "auto" and "fused", this is `loop` if `fused` does not support the tensor.
    """
    from workbench.continual import fused

    if form in ("auto", "fused") and fused.suits(weight, gradient):
        return fused.fused
    return fused.foreach if form == "foreach" else loop


def sum_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of the sum S of a weight: at least float32.

    With 16 bits, S would stop growing. If p = 1 and all gradients are 1e-3, it would stop at 4 in float16 and at 0.5 in bfloat16.
    """
    return torch.promote_types(weight.dtype, torch.float32)


def checked(group: dict[str, Any]) -> Rule:
    """Return the hyperparameters of a parameter group as a `Rule`. Raises ValueError if a value is out of range."""
    mode = "repo" if group["mode"] == "published" else group["mode"]
    cap = math.inf if group["cap"] is None else float(group["cap"])
    lr, power, threshold, eps = (float(group[name]) for name in ("lr", "power", "threshold", "eps"))
    rule = Rule(lr, power, threshold, eps, bool(group["decay"]), mode, group["order"], cap)
    for name, value, choices in (
        ("mode", mode, MODES),
        ("order", rule.order, ORDERS),
        ("nonfinite", group.get("nonfinite", "raise"), ("raise", "skip")),
        ("form", group.get("form", "auto"), FORMS),
    ):
        if value not in choices:
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
    for name, value, fine, expected in (
        ("lr", rule.lr, 0 <= rule.lr < math.inf, "at least 0"),
        ("power", rule.power, 0 < rule.power < math.inf, "above 0"),
        ("threshold", rule.threshold, 0 <= rule.threshold < math.inf, "at least 0"),
        ("eps", rule.eps, 0 <= rule.eps < math.inf, "at least 0"),
        ("cap", rule.cap, rule.cap > 0, "above 0, or None"),
    ):
        if not fine:
            raise ValueError(f"{name}={value}: expected a finite number, {expected}")
    if rule.order == "exclusive" and not rule.eps:
        raise ValueError("eps=0 with order='exclusive': the first step would be divided by 0; expected an eps above 0")
    return rule
