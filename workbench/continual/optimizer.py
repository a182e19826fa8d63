"""CLASSP, an optimizer that moves a weight the less, the more it has been moved (Ludwig, arXiv 2405.09637, Algorithm 1).

`rule.update` is the method, to be read beside the paper. `CLASSP` applies it to a model's weights; its fast forms (`fused`) do
the same in one pass over memory.
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
Form = Callable[[list[Moved], Rule], list[Tensor]]  # moves tensors; how many weights of each it left as they were
FORMS = ("auto", "loop", "foreach", "fused")


class CLASSP(Optimizer):
    """CLASSP (arXiv 2405.09637, Algorithm 1), as a `torch.optim.Optimizer`.

    Args:
        params: parameters, groups, or ``model.named_parameters()`` (then errors name the tensor).
        lr: alpha. With `decay` it is in units of the weight, not a rate: a first step is ``lr * sign(g)``.
        power: p of the sum ``S += |g|^p`` and of its root. 2 (with threshold 0) is AdaGrad.
        threshold: on the squared gradient of each weight, strict. It is absolute: useful values lie near 1e-7 for losses that
            are a mean over the batch.
        eps: added to S inside the root.
        decay: whether S divides the step. Off, steps are those of SGD and S still grows (task 1 of the paper's vision pair).
        mode: "paper" (Algorithm 1), or "repo" (also "published"): the gate, the sum and the root of the published program,
            whose threshold does nothing below 1 and stops everything from 1 on, and whose sum is of ``|g|`` whatever p is.
        order: "inclusive" (Algorithm 1: the gradient is added before it is divided), or "exclusive" (equation 1).
        cap: of the effective rate ``lr / (S + eps)^(1/p)``; None: no cap.
        nonfinite: "raise" or "skip". Weights whose gradient, sum or step is not finite stay as they were either way.
        maximize: ascend.
        form: "loop" (`rule.update`, tensor after tensor), "foreach", "fused" (one pass over memory), or "auto": the fastest.

    ``state[p]["sum"]`` is S, in float32 or the weight's dtype, whichever is wider. It lives through borders of tasks:
    `reset_state` is another method.

    Raises:
        ValueError: for a value out of range. FloatingPointError: from `step`, naming the tensor (see `nonfinite`).
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
        """Add parameters, whose sums begin at 0; see `torch.optim.Optimizer.add_param_group`."""
        checked({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the weights; `closure` computes the loss anew, which is returned."""
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
                f"a gradient, a sum or a step is not finite in {', '.join(bad)}; these weights and their sums are as they were. "
                "Take a lower lr, or nonfinite='skip' to go on without them"
            )
        return loss

    def _ready(self, group: dict[str, Any], number: int) -> dict[Form, list[Moved]]:
        """Place in the group, weight, gradient and sum of each tensor that has a gradient, by the form that will move it."""
        found: dict[Form, list[Moved]] = {}
        for place, weight in enumerate(group["params"]):
            gradient = weight.grad
            if gradient is None:
                continue
            if gradient.is_sparse or weight.is_complex():
                kind = "sparse gradients" if gradient.is_sparse else "complex weights"
                raise ValueError(
                    f"{_name(group, number, place)}: expected dense gradients of real weights, not {kind}, "
                    "of which p-th powers are not defined here"
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
        """Take over a state; sums keep their precision (the base class gives them the weight's)."""
        super().load_state_dict(state_dict)
        ids = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for saved, weight in zip(ids, own, strict=True):
            kept = state_dict["state"].get(saved, {})
            if "sum" in kept:
                wide = torch.promote_types(kept["sum"].dtype, sum_dtype(weight))
                self.state[weight]["sum"] = kept["sum"].detach().to(weight.device, wide, copy=True)

    def reset_state(self) -> None:
        """Forget all sums, as if training began here; the weights stay."""
        for state in self.state.values():
            state["sum"].zero_()

    def switch_decay(self, on: bool) -> None:
        """Divide steps by the history from now on, or not; the sums stay."""
        for group in self.param_groups:
            group["decay"] = on


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """What an optimizer's `step` returns: the loss that `closure`, if there is one, computes anew."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _name(group: dict[str, Any], number: int, place: int) -> str:
    names = group.get("param_names")
    return names[place] if names else f"parameter {place} of group {number}"


def form_of(form: str, weight: Tensor, gradient: Tensor) -> Form:
    """What moves this tensor; what the fused form does not suit, the loop moves."""
    from workbench.continual import fused

    if form in ("auto", "fused") and fused.suits(weight, gradient):
        return fused.fused
    return fused.foreach if form == "foreach" else loop


def sum_dtype(weight: Tensor) -> torch.dtype:
    """Of S: in 16 bits it would stop growing (at 4 in float16, at 1 in bfloat16, with gradients of 1e-3)."""
    return torch.promote_types(weight.dtype, torch.float32)


def checked(group: dict[str, Any]) -> Rule:
    """The rule of a parameter group; raises ValueError for a value out of range."""
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
            raise ValueError(f"{name}={value}: expected a finite number {expected}")
    if rule.order == "exclusive" and not rule.eps:
        raise ValueError("eps=0 with order='exclusive': the first step would be divided by 0; expected eps above 0")
    return rule
