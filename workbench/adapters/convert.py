"""The conversion of any adapter to LoRA.

The update of MiSS, mini, LoRA and most variants of LoRA is a product of two factors. Such an update is converted exactly,
unless the given rank is too small. Other updates are approximated by a truncated singular value decomposition (SVD).
"""

from __future__ import annotations

import copy
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor, nn

from workbench.adapters.adapter import Adapter, Mini, MiSS
from workbench.adapters.attach import configs
from workbench.adapters.config import AdapterConfig
from workbench.adapters.layer import Adapted
from workbench.adapters.lora import DoRA, HiRA, LoRA
from workbench.adapters.targets import adapted

Model = TypeVar("Model", bound=nn.Module)


def factors_of(update: Adapter, columns: int, rows: int) -> tuple[Tensor, Tensor] | None:
    """Return A ``(rank, in)`` and B ``(out, rank)`` with ``Delta = B A``; None if the update has no such low-rank factors.

    MiSS with the shard D equals LoRA with scale 1, with ``B = D'`` (the transpose of D), and with a frozen A that consists of
    identity matrices side by side. For mini, B consists of copies of D', one below the other. `columns` is the number of inputs
    of the layer, and `rows` is the number of its outputs.
    """
    if isinstance(update, (MiSS, Mini)):
        r, q = update.shard.shape
        tiled = torch.eye(r, dtype=update.shard.dtype, device=update.shard.device).repeat(1, -(-columns // r))
        return tiled[:, :columns], update.shard.T.repeat(rows // q, 1)
    if isinstance(update, LoRA) and not isinstance(update, (DoRA, HiRA)):
        A, B = update.factors()
        return A, update.scale * B
    return None


@torch.no_grad()
def low_rank(layer: Adapted, rank: int | None = None) -> tuple[Tensor, Tensor, float]:
    """Return ``(A, B, error)`` for Delta, the combined update of the active adapters of one layer.

    The product ``B A`` has at most the rank `rank`. If `rank` is None, the conversion is exact. The error is
    ``||Delta - B A|| / ||Delta||`` in the Frobenius norm, or 0 if Delta is zero.
    """
    found = [factors_of(layer.adapters[name], layer.in_features, layer.out_features) for name in layer.active]
    parts = [part for part in found if part is not None]
    most = min(layer.in_features, layer.out_features)
    if len(parts) == len(found):
        A, B = torch.cat([A for A, _ in parts]), torch.cat([B for _, B in parts], dim=1)
        if len(A) <= (most if rank is None else rank):
            return A, B, 0.0
        Q, core = torch.linalg.qr(B)
        U, S, Vh = torch.linalg.svd(core @ A, full_matrices=False)
        U = Q @ U
    else:
        updated = layer.updated()
        U, S, Vh = torch.linalg.svd(updated - layer.own[0].to(updated.dtype), full_matrices=False)
    kept = min(most, rank if rank is not None else len(S))
    whole, lost = S.square().sum(), S[kept:].square().sum()
    return Vh[:kept], U[:, :kept] * S[:kept], float((lost / whole).sqrt()) if whole else 0.0


def to_lora(model: Model, rank: int | None = None) -> tuple[Model, dict[str, float]]:
    """Return a copy of the model with its active adapters converted to one LoRA, and the relative error of each layer.

    Args:
        model: a model with active, unmerged adapters. The copy uses the same base weights as `model`.
        rank: the rank of the LoRA. If `rank` is None, MiSS, mini, LoRA and all its variants except DoRA are converted exactly.
            The rank is then the sum of the ranks of the active adapters. The rank of PiSSA, OLoRA and LoRA-GA counts as 2r,
            since their initial product is subtracted. The updates of Bat, DoRA, HiRA and full are not of low rank. For a
            layer with such an update, None means the r of the first active adapter.

    Returns:
        The copy, and ``||Delta - B A|| / ||Delta||`` by layer name (see `low_rank`).

    Raises:
        ValueError: if the model has no adapter, if none is active, or if the adapters are merged.
    """
    layers = adapted(model)
    active = list(dict.fromkeys(name for layer in layers.values() for name in layer.active))
    if not active or any(layer.merged for layer in layers.values()):
        raise ValueError("no adapter is active, or the adapters are merged; call set_adapter or unmerge first")
    ours = {id(part) for layer in layers.values() for part in (*layer.adapters.parameters(), *layer.adapters.buffers())}
    shared = {id(t): t for t in (*model.parameters(), *model.buffers()) if id(t) not in ours}
    other, errors = copy.deepcopy(model, shared), {}
    name = active[0] if len(active) == 1 else "lora"
    widest = 0
    for path, layer in adapted(other).items():
        if not layer.active:
            layer.adapters = nn.ModuleDict()
            continue
        exact = all(factors_of(layer.adapters[n], layer.in_features, layer.out_features) for n in layer.active)
        A, B, errors[path] = low_rank(layer, rank if rank is not None or exact else configs(model)[active[0]].r)
        layer.adapters = nn.ModuleDict({name: _as_lora(layer, A, B)})
        layer.active = (name,)
        widest = max(widest, len(A))
    configs(other).clear()
    configs(other)[name] = _plain(widest)
    return other, errors


def _plain(rank: int) -> AdapterConfig:
    return AdapterConfig(method="lora", r=rank, alpha=rank)  # alpha / r = 1


def _as_lora(layer: Adapted, A: Tensor, B: Tensor) -> LoRA:
    """Return a LoRA adapter with these factors, and with the sum of the bias shifts of the active adapters."""
    update = LoRA(_plain(len(A)), layer.base, torch.Generator())
    update.A.data, update.B.data = A.to(**update.like).contiguous(), B.to(**update.like).contiguous()
    shifts = [layer.adapters[name].shift for name in layer.active if layer.adapters[name].shift is not None]
    if shifts:
        update.shift = nn.Parameter(reduce(torch.add, shifts).detach().clone())
    return update.train(layer.training)
