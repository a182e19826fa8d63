"""Any adapter as LoRA: exactly where its update is a product of two factors, else by a truncated singular value decomposition."""

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
    """``(A, B)``, ``(rank, in)`` and ``(out, rank)``, with ``Delta = B A``; None where the update is no such product.

    MiSS is LoRA with a frozen A of tiled identities, ``B = D'`` and scale 1; mini has B's rows tiled too.
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
    """``(A, B, error)`` of the active adapters' update together: of this rank, or of that which is exact (see `to_lora`).

    The error is ``||Delta - B A|| / ||Delta||`` (Frobenius), 0 for an update that is zero.
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
    """A copy of the model whose active adapters are one LoRA, and the relative error of each layer's update.

    The copy shares the base weights. ``rank=None`` is the rank at which nothing is lost for MiSS, mini and LoRA's kind (2r where
    a start is subtracted), and r for Bat, DoRA, HiRA and full, whose updates are not of low rank. Raises ValueError for a model
    without an adapter, or a merged one.
    """
    layers = adapted(model)
    active = list(dict.fromkeys(name for layer in layers.values() for name in layer.active))
    if not active or any(layer.merged for layer in layers.values()):
        raise ValueError("no adapter is active, or they are merged; expected active, unmerged adapters: set_adapter, unmerge")
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
    return AdapterConfig(method="lora", r=rank, alpha=rank)  # a scale of 1


def _as_lora(layer: Adapted, A: Tensor, B: Tensor) -> LoRA:
    """A LoRA module with these factors."""
    update = LoRA(_plain(len(A)), layer.base, torch.Generator())
    update.A.data, update.B.data = A.to(**update.like).contiguous(), B.to(**update.like).contiguous()
    shifts = [layer.adapters[name].shift for name in layer.active if layer.adapters[name].shift is not None]
    if shifts:
        update.shift = nn.Parameter(reduce(torch.add, shifts).detach().clone())
    return update.train(layer.training)
