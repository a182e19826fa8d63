"""``compat="published"``: the published programs, read and rewritten, in float64 and code for code."""

import importlib.util
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from made import make_layer
from oracle import fit, rounded

from workbench.quantization import quantize_layer

CASES = [
    (bits, group, act_order, static, symmetric)
    for bits in (2, 3, 4)
    for group, static in ((None, False), (16, False), (64, False), (16, True))
    for act_order in (False, True)
    for symmetric in (True, False)
]


def program(layer, method, bits, group, act_order, static, symmetric, block, alpha=0.25, beta=0.25, damping=0.01):
    """The programs as published (list0830/ResComp, commit 354a962): two full matrices, stale groups, lazy updates."""
    W, H, D = (t.numpy().copy() for t in (layer.weight, layer.hessian, layer.cross))
    n = W.shape[1]
    alpha = alpha if method.startswith("gptaq") else 0.0
    rescomp = method.endswith("rescomp")
    D = D if method.startswith("gptaq") else np.zeros_like(H)
    T = H + D
    grids = [fit(W[:, i : i + group], bits, symmetric, "quarot", True) for i in range(0, n, group)] if static else None
    now = None if group else fit(W, bits, symmetric, "quarot", True)
    order = np.argsort(-np.diag(H), kind="stable") if act_order else np.arange(n)
    W, H, D, T = W[:, order], H[np.ix_(order, order)], D[np.ix_(order, order)], T[np.ix_(order, order)]
    W0 = W.copy()
    H[np.arange(n), np.arange(n)] += damping * np.mean(np.diag(H))
    U = np.linalg.cholesky(np.linalg.inv(H)).T
    P1, P2 = (alpha * np.triu(D @ U.T, 1) @ U, (beta * np.triu(T @ U.T, 1) @ U if rescomp else np.zeros_like(H)))
    Q = np.zeros_like(W)
    for i1 in range(0, n, block):
        i2 = min(i1 + block, n)
        inside, E, lazy = W[:, i1:i2].copy(), np.zeros((len(W), i2 - i1)), np.zeros((len(W), i2 - i1))
        for i in range(i2 - i1):
            j, w = i1 + i, inside[:, i].copy()
            if static:
                now = grids[order[j] // group]
            elif group and j % group == 0:
                now = fit(W[:, j : j + group], bits, symmetric, "quarot", True)
            Q[:, j] = rounded(w, *now)
            E[:, i], lazy[:, i] = (w - Q[:, j]) / U[j, j], w
            inside[:, i:] -= np.outer(E[:, i], U[j, j:i2]) - np.outer(w, P1[j, j:i2])
            inside[:, i:] += np.outer(W0[:, j] - w, P2[j, j:i2])
        if rescomp and bits != 2:
            scale, zero, low, high = now
            lazy = np.clip(lazy, ((low - zero) * scale)[:, None], ((high - zero) * scale)[:, None])
        else:
            lazy = Q[:, i1:i2]
        W[:, i2:] -= E @ U[i1:i2, i2:] - lazy @ P1[i1:i2, i2:] - (W0[:, i1:i2] - lazy) @ P2[i1:i2, i2:]
    return Q[:, np.argsort(order)]


@pytest.mark.parametrize("method", ["gptq", "gptaq", "gptaq+rescomp", "gptq+rescomp"])
@pytest.mark.parametrize(("bits", "group", "act_order", "static", "symmetric"), CASES)
def test_equals_the_programs(method, bits, group, act_order, static, symmetric):
    layer = make_layer(12, 96, 500, seed=bits)
    theirs = program(layer, method, bits, group, act_order, static, symmetric, 32)
    ours = quantize_layer(
        layer.weight, layer.hessian, layer.cross, method=method, bits=bits, group_size=group, act_order=act_order,
        static_groups=static, symmetric=symmetric, clip_search=True, block_size=32, compat="published",
    )  # fmt: skip
    np.testing.assert_allclose(ours.weight, theirs, atol=1e-11)


def test_the_programs_depend_on_their_block_size():
    layer = make_layer(32, 128, 500)
    for method in ("gptaq", "gptaq+rescomp"):
        options = {"method": method, "compat": "published", "bits": 2}
        one, other = (quantize_layer(layer.weight, layer.hessian, layer.cross, block_size=b, **options) for b in (32, 128))
        assert (one.codes != other.codes).double().mean() > 0.02


def test_with_one_block_the_programs_are_the_clean_form():
    layer = make_layer(12, 64, 500)
    for method in ("gptq", "gptaq", "gptaq+rescomp"):
        clean = quantize_layer(layer.weight, layer.hessian, layer.cross, method=method)
        theirs = quantize_layer(layer.weight, layer.hessian, layer.cross, method=method, compat="published", block_size=64)
        torch.testing.assert_close(clean.weight, theirs.weight, atol=1e-12, rtol=0)


@pytest.mark.skipif("WORKBENCH_RESCOMP" not in os.environ, reason="WORKBENCH_RESCOMP: no checkout of list0830/ResComp")
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("act_order", [False, True])
def test_equals_the_authors_class(bits, act_order, monkeypatch):
    """Their class itself, from a checkout named by WORKBENCH_RESCOMP, patched to float64 and to run without CUDA."""
    folder = Path(os.environ["WORKBENCH_RESCOMP"]) / "fake_quant"
    for name in ("utils", "quant_utils", "model_utils", "tqdm"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *a: None)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    path = next(p for p in (folder / "gptaq_utils_r.py", folder / "gptaq_utils.py") if p.exists())
    spec = importlib.util.spec_from_file_location("theirs", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    made = make_layer(12, 96, 500, seed=bits)
    linear = torch.nn.Linear(96, 12, bias=False, dtype=torch.float64)
    linear.weight.data = made.weight.clone()
    solver = theirs.GPTAQ(linear)
    solver.H, solver.dXXT = made.hessian.clone(), made.cross.clone()
    solver.quantizer = _Quantizer(bits)
    solver.fasterquant(blocksize=32, actorder=act_order)
    method = "gptaq+rescomp" if path.stem.endswith("_r") else "gptaq"
    ours = quantize_layer(
        made.weight, made.hessian, made.cross, method=method, bits=bits, act_order=act_order, clip_search=True,
        block_size=32, compat="published",
    )  # fmt: skip
    torch.testing.assert_close(ours.weight, linear.weight.data, atol=1e-11, rtol=0)


class _Quantizer:
    """Their quantizer's interface over the oracle's grid."""

    def __init__(self, bits):
        self.bits, self.grid, self.sym, self.maxq = bits, None, True, torch.tensor(2 ** (bits - 1) - 1)

    def ready(self):
        return self.grid is not None

    def find_params(self, weight):
        self.grid = fit(weight.numpy(), self.bits, True, "quarot", True)
        self.scale, self.zero = (torch.from_numpy(self.grid[0])[:, None], torch.from_numpy(self.grid[1])[:, None])

    def quantize(self, column):
        return torch.from_numpy(rounded(column[:, 0].numpy(), *self.grid))[:, None]
