"""Tests of RWKV-6: the chunked computation against the loop, and the model against the rwkv package on official files."""

import os
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from workbench.adapters import RWKV6, AdapterConfig, add_adapter, merge
from workbench.adapters.attach import adapted
from workbench.datasets import DataError
from workbench.rwkv6 import CHUNK, initialise, wkv_chunked, wkv_loop


def model(width=64, layers=2, vocabulary=50, head_size=32, seed=0):
    """Return a small model whose initial parameters are all perturbed by random numbers."""
    made = initialise(RWKV6(vocabulary, width, layers, head_size, lerp_rank=8, decay_rank=16), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return made.eval()


def parts(tokens, seed=0, batch=2, heads=3, n=5, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    r, k, v = (torch.randn(batch, tokens, heads, n, generator=g, dtype=dtype) for _ in range(3))
    log_w = -torch.exp(3 * torch.randn(batch, tokens, heads, n, generator=g, dtype=dtype))
    u = torch.randn(heads, n, generator=g, dtype=dtype)
    return r, k, v, log_w, u, torch.randn(batch, heads, n, n, generator=g, dtype=dtype)


@settings(deadline=None, max_examples=30)
@given(tokens=st.integers(1, 40), chunk=st.sampled_from([1, 4, 7, 16]), seed=st.integers(0, 99))
def test_chunks_are_the_loop(tokens, chunk, seed):
    given_ = parts(tokens, seed)
    for found, wanted in zip(wkv_chunked(*given_, chunk=chunk), wkv_loop(*given_), strict=True):
        assert torch.allclose(found, wanted, atol=1e-10)


@pytest.mark.parametrize(
    ("tokens", "dtype", "off"), [(21, torch.float64, 1e-8), *((n, torch.float32, 1e-4) for n in (1, CHUNK - 1, CHUNK, CHUNK + 1))]
)
def test_outputs_and_gradients_of_chunks_are_those_of_the_loop(tokens, dtype, off):
    given_ = [p.requires_grad_(True) for p in parts(tokens, dtype=dtype)]
    found, wanted = wkv_chunked(*given_), wkv_loop(*given_)
    grads = [torch.autograd.grad(sum(x.square().sum() for x in out), given_) for out in (found, wanted)]
    assert found[0].shape == (2, tokens, 3, 5)
    for a, b in zip((*found, *grads[0]), (*wanted, *grads[1]), strict=True):
        assert a.dtype == dtype
        assert (a - b).abs().max() < off * b.abs().max().clamp_min(1), "the error is relative to the largest value"


def test_strong_decay_overflows_nothing():
    r, k, v, _, u, state = parts(64, dtype=torch.float32)
    log_w = torch.full_like(r, -80.0)
    out, last = wkv_chunked(r, k, v, log_w, u, state)
    assert out.isfinite().all()
    assert torch.allclose(out, wkv_loop(r, k, v, log_w, u, state)[0], atol=1e-4)
    assert last.isfinite().all()


def test_causal_and_state_is_carried():
    made, ids = model(), torch.randint(50, (2, 37), generator=torch.Generator().manual_seed(0))
    whole = made(ids).logits
    other = ids.clone()
    other[:, 20:] = 0
    assert torch.equal(made(other).logits[:, :20], whole[:, :20])
    state, steps = None, []
    for part in ids.split([1, 15, 16, 1, 4], dim=1):
        out = made(part, state=state)
        state = out.state
        steps.append(out.logits)
    assert torch.allclose(torch.cat(steps, 1), whole, atol=1e-5)
    greedy = made.generate(ids[:, :5], 8)
    for n in range(5, 13):
        assert torch.equal(made(greedy[:, :n]).logits[:, -1].argmax(-1), greedy[:, n])


def test_loop_and_chunks_in_the_model():
    made, ids = model(), torch.randint(50, (2, 33))
    chunked = made(ids, labels=ids).loss
    for block in made.blocks:
        block.att.chunked = False
    assert made(ids, labels=ids).loss.item() == pytest.approx(chunked.item(), abs=1e-5)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_logits_are_those_of_the_rwkv_package(tmp_path, kind, monkeypatch, capsys):
    """The package reads the same tensors; their names are the official ones, their sizes are small."""
    made = model(width=128, layers=3, vocabulary=80, head_size=64)
    pth = tmp_path / "tiny.pth"
    torch.save({name: tensor.clone() for name, tensor in made.state_dict().items()}, pth)
    path = tmp_path / f"ours.{kind}"
    tensors = torch.load(pth, weights_only=True)
    torch.save(tensors, path) if kind == "pth" else save_file(tensors, path)
    for name in ("RWKV_JIT_ON", "RWKV_CUDA_ON"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("RWKV_V7_ON", "0")
    from rwkv.model import RWKV

    theirs = RWKV(model=str(pth.with_suffix("")), strategy="cpu fp32")
    ours = RWKV6.load(path)
    ids = random.Random(0).choices(range(80), k=40)
    wanted, _ = theirs.forward(ids, None, full_output=True)
    found = ours(torch.tensor([ids])).logits[0]
    assert (found - wanted).abs().max() < 1e-5
    token, state = theirs.forward(ids[:1], None)
    for position in range(1, 6):
        assert (found[position - 1] - token).abs().max() < 1e-5
        token, state = theirs.forward(ids[position : position + 1], state)
    assert os.environ["RWKV_JIT_ON"] == "0"


@pytest.mark.parametrize("method", ["miss", "bat-row", "bat-col", "lora", "pissa", "dora", "full"])
def test_eight_linears_a_block_are_adapted(method):
    made, ids = model(), torch.randint(50, (2, 17))
    plain = made(ids).logits
    add_adapter(made, AdapterConfig(method=method, r=8))
    assert len(adapted(made)) == 16
    assert torch.allclose(made(ids).logits, plain, atol=1e-5)
    made.train()
    loss = made(ids, labels=ids).loss
    loss.backward()
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], 1e-3)
    optimizer.step()
    made.eval()
    after = made(ids, labels=ids)
    assert after.loss < loss
    assert torch.allclose(merge(made)(ids).logits, after.logits, atol=1e-4)


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_what_is_no_model_is_told(tmp_path, capsys):
    for name, content in {"a.pth": {"x": torch.zeros(3)}, "b.pth": {"x": Evil()}}.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "c.safetensors").write_bytes(b"no")
    (tmp_path / "d.pth").write_bytes(b"no")
    for name, message in (
        ("a.pth", "is not an RWKV-6 model"), ("b.pth", "could run code"), ("c.safetensors", "is damaged"),
        ("none.pth", "was not found"),        ("d.pth", "could run code|is damaged"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            RWKV6.load(tmp_path / name)
    assert "code was run" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="head_size=48 does not divide"):
        RWKV6(10, 64, 1, 48)


def test_the_bundled_model_is_what_its_card_says():
    import json

    from workbench import checkpoints, datasets, models
    from workbench.checksums import sha256
    from workbench.generation import generate

    folder = checkpoints.find(checkpoints.TINY_RWKV6)
    card, about = (folder / "README.md").read_text(), json.loads((folder / "training.json").read_text())
    assert sha256(folder / "model.safetensors") in card
    lm = models.load(models.TINY_RWKV6)
    assert sum(p.numel() for p in lm.model.parameters()) == about["parameters"]
    assert f"{about['parameters']:,} parameters" in card
    loss = models.loss(lm, datasets.load("prose-evaluation"), window=256)
    assert loss == pytest.approx(about["log"][-1]["held_out_loss"], abs=0.02)  # the file stores float16
    assert len(generate(lm, "The Congress", 8).text) > 5
    assert len(adapted(add_adapter(models.shallow_copy(lm).model, AdapterConfig(r=8)))) == 24
    assert torch.equal(RWKV6.load(folder).emb.weight, lm.model.emb.weight)
