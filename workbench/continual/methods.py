"""The names of the methods, and functions that build the parts of a method: the optimizer, and a `Rival` for all other parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from workbench.continual.memory import AGEM, UPGD, Replay
from workbench.continual.nets import trained
from workbench.continual.optimizer import CLASSP
from workbench.continual.penalties import EWC, L2, MAS, PULLS, SI, LwF
from workbench.continual.rival import Rival

OPTIMIZERS = ("sgd", "adam", "adagrad", "upgd", "classp")
STEPS_WITH = {name: name for name in OPTIMIZERS} | {"sgd-cut": "sgd", "adagrad-reset": "adagrad"}
METHODS = (
    "sgd", "sgd-cut", "adam", "adagrad", "adagrad-reset", "upgd", "classp",
    "ewc", "ewc-online", "l2", "si", "mas", "lwf", "replay", "a-gem", "joint", "cumulative",
)  # fmt: skip


MEANINGS = {
    "sgd": "plain stochastic gradient descent",
    "sgd-cut": "SGD whose learning rate is multiplied by the rate cut factor after each task",
    "adam": "Adam, which scales the step of each weight by its recent gradients",
    "adagrad": "the step of a weight shrinks as the sum of its squared gradients grows, over all tasks",
    "adagrad-reset": "AdaGrad whose sums are reset after each task",
    "upgd": "SGD with noise and with larger steps for weights of low utility",
    "classp": "the step of a weight shrinks as its gradients accumulate, and small gradients can be ignored",
    "ewc": "SGD with a penalty on changes of weights that earlier tasks need (one penalty for each task)",
    "ewc-online": "EWC with one running penalty for all earlier tasks",
    "l2": "SGD with a penalty on changes since the latest task, equal for all weights",
    "si": "SGD with a penalty on changes of weights that have reduced the loss most",
    "mas": "SGD with a penalty on changes of weights that the outputs depend on most",
    "lwf": "SGD that also keeps the old network's outputs on the new samples",
    "replay": "SGD that mixes stored samples of the tasks so far into each batch",
    "a-gem": "SGD whose step may not increase the loss on stored samples",
    "joint": "all tasks at once, as an upper bound",
    "cumulative": "each task together with all earlier ones, as an upper bound",
}


def rival_of(method: str, model: nn.Module, k: dict[str, Any]) -> Rival:
    """Return the penalty or memory of a method; if it has neither, a `Rival` that does nothing. `k` holds the knobs of `fit`."""
    if method in ("ewc", "ewc-online"):
        return EWC(model, k["strength"], method == "ewc-online", estimator=k["estimator"])
    if method in PULLS:
        return {"l2": L2, "si": SI, "mas": MAS, "lwf": LwF}[method](model, k["strength"])
    if method == "replay":
        return Replay(model, k["memory"], k["batch"], k["seed"])
    return AGEM(model, k["memory"], seed=k["seed"]) if method == "a-gem" else Rival()


def optimizer_of(name: str, model: nn.Module, k: dict[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer `name`. `k` holds the knobs of `fit`.

    If task 1 has its own learning rate (`first_lr`), CLASSP and AdaGrad take plain SGD steps on task 1, but they already
    accumulate their sums. In this case, AdaGrad is built as CLASSP with p = 2 and threshold 0, which has the same update rule.
    """
    weights, first = list(trained(model).values()), k["first_lr"]
    lr = k["lr"] if first is None else first
    if name == "classp":
        rule = (k["power"], k["threshold"], k["eps"], first is None, k["mode"])
        return CLASSP(trained(model).items(), lr, *rule, order=k["order"], cap=k["cap"])
    if name == "adagrad" and first is not None:
        return CLASSP(trained(model).items(), lr, 2.0, 0.0, k["eps"], decay=False)
    if name == "adagrad":
        return torch.optim.Adagrad(weights, lr, initial_accumulator_value=k["eps"], eps=0)
    return {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "upgd": UPGD}[name](weights, lr)


def forget(optimizer: torch.optim.Optimizer, eps: float) -> None:
    """Reset the state of an optimizer. The weights and the learning rates are not changed."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": {}})
    if isinstance(optimizer, torch.optim.Adagrad):  # Adagrad does not create its state in the first step
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[p] = {"step": torch.tensor(0.0), "sum": torch.full_like(p, eps)}
