"""Forward, gradients, one step and the merged weight are PEFT's, for every method that both have."""

import copy
from pathlib import Path

import peft
import pytest
import torch
from adapters.test_adapters import Loses
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from safetensors.torch import load_file

from workbench.adapters import AdapterConfig, add_adapter, load_adapter, merge, parameter_groups, unmerge
from workbench.adapters.attach import adapted
from workbench.training import mixed

LORA = {"r": 8, "lora_alpha": 16}
PAIRS = {
    "miss": (AdapterConfig(method="miss"), peft.MissConfig(r=16)),
    "miss odd": (AdapterConfig(method="miss", r=7), peft.MissConfig(r=7)),
    "mini": (AdapterConfig(method="mini", r=16, q=4), peft.MissConfig(r=16, mini_r=4, init_weights="mini")),
    "bat-col": (AdapterConfig(method="bat-col"), peft.MissConfig(r=16, init_weights="bat")),
    "bat-col built": (AdapterConfig(method="bat-col", form="materialised"), peft.MissConfig(r=16, init_weights="bat")),
    "bat-col acting": (AdapterConfig(method="bat-col", form="activation"), peft.MissConfig(r=16, init_weights="bat")),
    "lora": (AdapterConfig(method="lora", r=8), peft.LoraConfig(**LORA)),
    "lora alpha": (AdapterConfig(method="lora", r=8, alpha=3), peft.LoraConfig(r=8, lora_alpha=3)),
    "lora built": (AdapterConfig(method="lora", r=8, form="materialised"), peft.LoraConfig(**LORA)),
    "rslora": (AdapterConfig(method="rslora", r=8), peft.LoraConfig(**LORA, use_rslora=True)),
    "pissa": (AdapterConfig(method="pissa", r=8), peft.LoraConfig(r=8, lora_alpha=8, init_lora_weights="pissa")),
    "pissa alpha": (AdapterConfig(method="pissa", r=8, alpha=24), peft.LoraConfig(r=8, lora_alpha=24, init_lora_weights="pissa")),
    "olora": (AdapterConfig(method="olora", r=8), peft.LoraConfig(r=8, lora_alpha=8, init_lora_weights="olora")),
    "dora": (AdapterConfig(method="dora", r=8), peft.LoraConfig(**LORA, use_dora=True)),
    "dora built": (AdapterConfig(method="dora", r=8, form="materialised"), peft.LoraConfig(**LORA, use_dora=True)),
    "hira": (AdapterConfig(method="hira", r=8), peft.HiraConfig(r=8)),
}
NAMES = {"shard": "miss_block", "A": "A", "B": "B", "magnitude": "lora_magnitude_vector"}


def both(net, case, **shape):
    """The same net under ours and under PEFT's adapter; PEFT's weights are drawn, ours are a copy."""
    ours, config = PAIRS[case]
    model = net(**shape)
    config = copy.deepcopy(config)
    config.target_modules = ["up", "down"]
    theirs = peft.get_peft_model(copy.deepcopy(model), config)
    return add_adapter(model, ours), theirs


def pairs(ours, theirs):
    """The trained tensors of both, in pairs."""
    found = {name.replace("base_model.model.", ""): p for name, p in theirs.named_parameters() if p.requires_grad}
    for path, layer in adapted(ours).items():
        for part, p in layer.adapters["default"].named_parameters():
            if not p.requires_grad or part == "shift":
                continue
            (other,) = (q for name, q in found.items() if name.startswith(path) and _part(name) == NAMES[part])
            yield p, other


def _part(name):
    parts = name.split(".")
    return (
        next((p.rpartition("_")[2] if p[-2:] in ("_A", "_B") else p) for p in parts if "_" in p and p != "base_layer")
        if "base_layer" not in parts
        else "bias"
    )


@pytest.mark.parametrize("shape", [{}, {"bias": False}, {"width": 100}], ids=["", "no bias", "width 100"])
@pytest.mark.parametrize("case", PAIRS)
def test_equal_to_peft(net, case, shape):
    """Adam's first step is the rate times a sign, of a gradient near its eps any: there the gradients alone are compared."""
    if "bat" in case and "width" in shape:
        pytest.skip("Bat needs a width that r divides")
    ours, theirs = both(net, case, **shape)
    x = torch.randn(3, 7, shape.get("width", 96), generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for p, q in pairs(ours, theirs):
        if case.startswith(("pissa", "olora")):  # the product is what counts: signs of singular vectors are free
            assert (p - q).abs().max() < 1e-5 or (p.abs() - q.abs()).abs().max() < 1e-4
        with torch.no_grad():
            p.copy_(q + 0.02 * torch.randn(q.shape, generator=generator))
            q.copy_(p)
    if case.startswith(("pissa", "olora")):
        _take_over_the_start(ours, theirs)
    a, b = ours(x), theirs(x)
    assert (a - b).abs().max() < 3e-6
    optimizers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], 1e-3) for m in (ours, theirs)]
    for y in (a, b):
        y.square().mean().backward()
    for p, q in pairs(ours, theirs):
        assert (p.grad - q.grad).abs().max() < 1e-6
    for optimizer in optimizers:
        optimizer.step()
    for p, q in pairs(ours, theirs):
        clear = q.grad.abs() > 1e-6
        assert clear.float().mean() > 0.9
        assert (p - q)[clear].abs().max() < 3e-7
    assert sum(p.requires_grad for p in ours.parameters()) == sum(p.requires_grad for p in theirs.parameters())
    for p, q in pairs(ours, theirs):
        q.data.copy_(p)
    merged, plain = merge(ours), theirs.merge_and_unload()
    for name, p in plain.named_parameters():
        assert (p - merged.get_parameter(name.replace("up.", "up.base.").replace("down.", "down.base."))).abs().max() < 1.5e-7


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (AdapterConfig(method="miss"), peft.MissConfig(r=16, bias="MiSS_only")),
        (AdapterConfig(method="bat-col"), peft.MissConfig(r=16, init_weights="bat", bias="MiSS_only")),
        (AdapterConfig(method="pissa", r=8), peft.LoraConfig(r=8, lora_alpha=8, init_lora_weights="pissa", bias="lora_only")),
        (AdapterConfig(method="dora", r=8), peft.LoraConfig(**LORA, use_dora=True, bias="lora_only", init_lora_weights=False)),
    ],
)
def test_biases_are_trained_as_pefts_are(net, config, theirs):
    theirs = copy.deepcopy(theirs)
    theirs.target_modules = ["up", "down"]
    theirs = peft.get_peft_model(net(), theirs)
    ours = add_adapter(net(), config, bias=True)
    if config.method == "dora":  # drawn: take theirs
        for p, q in pairs(ours, theirs):
            p.data.copy_(q)
    x = torch.randn(3, 7, 96, generator=torch.Generator().manual_seed(1))
    for model in (ours, theirs):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert all(layer.adapters["default"].shift.abs().max() > 1e-4 for layer in adapted(ours).values())
    assert (ours(x) - theirs(x)).abs().max() < 1e-5
    merged, plain = merge(ours), theirs.merge_and_unload()
    for name, p in plain.named_parameters():
        other = merged.get_parameter(name.replace("up.", "up.base.").replace("down.", "down.base."))
        assert (p - other).abs().max() < 5e-6


def lora_of_peft(net, **more):
    return peft.get_peft_model(net(), peft.LoraConfig(**LORA | more, target_modules=["up", "down"]))


def test_lora_plus_steps_as_pefts_optimizer(net):
    ours, theirs = add_adapter(net(), AdapterConfig(method="lora+", r=8, ratio=5.0)), lora_of_peft(net)
    for p, q in pairs(ours, theirs):
        q.data.copy_(p.data.normal_(std=0.1))
    optimizers = (
        torch.optim.AdamW(parameter_groups(ours, 1e-3), weight_decay=0),
        create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=5.0),
    )
    rates = [{id(p): g["lr"] for g in o.param_groups for p in g["params"]} for o in optimizers]
    assert all(rates[0][id(p)] == rates[1][id(q)] for p, q in pairs(ours, theirs))
    assert {*rates[0].values()} == {1e-3, 5e-3}
    before = [q.detach().clone() for _, q in pairs(ours, theirs)]
    for model, optimizer in zip((ours, theirs), optimizers, strict=True):
        model(torch.ones(2, 96)).square().mean().backward()
        optimizer.step()
    for (p, q), old in zip(pairs(ours, theirs), before, strict=True):
        assert (p - q).abs().max() < 3e-7
        assert float((p - old).detach().abs().max()) == pytest.approx(rates[0][id(p)], rel=1e-3)


def test_lora_fa_is_lora_with_a_frozen_and_not_pefts_optimizer(net):
    """The paper's: A stays, B learns by plain AdamW. PEFT's LoraFAOptimizer takes ``g (A A')^-1 / s^2`` for B's gradient g."""
    ours, theirs = add_adapter(net(), AdapterConfig(method="lora-fa", r=8)), lora_of_peft(net)
    updates = {path: layer.adapters["default"] for path, layer in adapted(ours).items()}
    layers = {path: theirs.get_submodule(f"base_model.model.{path}") for path in updates}
    optimizer = create_lorafa_optimizer(theirs, r=8, lora_alpha=16, lr=1e-3)  # it freezes A
    for path, update in updates.items():
        layers[path].lora_A.default.weight.data.copy_(update.A)
        layers[path].lora_B.default.weight.data.copy_(update.B.data.normal_(std=0.1))
    x = torch.randn(4, 96)
    y, expected = ours(x), theirs(x)
    assert (y - expected).abs().max() < 3e-6
    for found in (y, expected):
        found.square().mean().backward()
    for path, update in updates.items():
        assert update.A.grad is None
        assert (update.B.grad - layers[path].lora_B.default.weight.grad).abs().max() < 1e-6
    before = {path: update.B.detach().clone() for path, update in updates.items()}
    torch.optim.AdamW(parameter_groups(ours, 1e-3), weight_decay=0).step()
    optimizer.step()
    for path, update in updates.items():
        g, B = update.B.grad, layers[path].lora_B.default.weight
        assert torch.equal((before[path] - update.B).sign(), g.sign())
        corrected = g @ torch.linalg.inv(update.A @ update.A.T)
        agree = (before[path] - B).sign() == corrected.sign()  # PEFT multiplies in bfloat16
        assert agree.float().mean() > 0.95
        assert (corrected.sign() != g.sign()).any()


@pytest.mark.parametrize("iterations", [1, 4, 16])
def test_fast_svd_of_pissa_is_pefts(net, iterations):
    """From the same random numbers: torch.svd_lowrank draws from the global generator, ours from the layer's own."""
    config = AdapterConfig(method="pissa", r=8, iterations=iterations, targets=("0.up",))
    update = adapted(add_adapter(net(), config))["blocks.0.up"].adapters["default"]
    layer = lora_of_peft(net, lora_alpha=8).get_submodule("base_model.model.blocks.0.up")
    torch.manual_seed(mixed(config.seed, 0))
    layer.pissa_init("default", f"pissa_niter_{iterations}")
    A, B = layer.lora_A.default.weight, layer.lora_B.default.weight
    assert (update.B @ update.A - B @ A).abs().max() < 1e-6
    W = net().blocks[0].up.weight
    assert (W - update.B @ update.A).norm() < (1 + 0.1 / iterations) * torch.linalg.svdvals(W)[8:].norm()


def test_lora_ga_starts_as_pefts(net):
    """With ``compat="peft"``: B times the singular values, A unscaled, where the authors scale both alike; up to signs.

    Not on the layer before the head: with five classes its gradient has rank 4, and the vectors beyond are anyone's.
    """
    g = torch.Generator().manual_seed(0)
    batches = [{"x": 3 * torch.randn(32, 96, generator=g), "labels": torch.randint(5, (32,), generator=g)} for _ in range(2)]
    targets = ("0.up", "0.down", "1.up")
    start = peft.LoraConfig(
        r=8, lora_alpha=8, use_rslora=True, target_modules=[*targets], init_lora_weights="lora_ga",
        lora_ga_config=peft.LoraGAConfig(),
    )  # fmt: skip
    model = Loses(net())

    def steps():
        for b in batches:
            model(b["x"].clone().requires_grad_(), b["labels"]).loss.backward()

    peft.preprocess_loraga(model, start, steps)
    theirs = peft.get_peft_model(model, start)
    ours, authors = (
        add_adapter(Loses(net()), AdapterConfig(method="lora-ga", r=8, targets=targets, compat=compat), batches=batches)
        for compat in ("peft", "authors")
    )
    for path, layer in adapted(ours).items():
        update, other = layer.adapters["default"], theirs.get_submodule(f"base_model.model.{path}")
        A, B, scale = other.lora_A.default.weight, other.lora_B.default.weight, other.scaling["default"]
        assert update.scale == scale
        assert (update.A.abs() - A.abs()).abs().max() < 3e-4
        assert (update.B.abs() - B.abs()).abs().max() < 0.01 * B.abs().max()
        assert (other.base_layer.weight + scale * B @ A - layer.own[0]).abs().max() < 1e-6
        of_authors = adapted(authors)[path].adapters["default"].A
        assert torch.allclose(of_authors.abs(), A.abs() * len(B) ** 0.25 / 4, atol=1e-3)
    x = batches[0]["x"]
    assert (ours(x).logits - theirs(x).logits).abs().max() < 1e-5


def _take_over_the_start(ours, theirs):
    """PEFT's W - s B0 A0 is our W less the product of our own start: equal, whichever signs either has."""
    bases = {n.removeprefix("base_model.model."): m for n, m in theirs.named_modules() if hasattr(m, "base_layer")}
    for path, layer in adapted(ours).items():
        update = layer.adapters["default"]
        ours_left = layer.own[0] - update.scale * update.B0 @ update.A0
        assert (bases[path].base_layer.weight - ours_left).abs().max() < 1e-5


@pytest.mark.parametrize("case", ["bone", "bone-odd", "bat", "bat-wide"])
def test_equal_to_what_peft_called_bone(case):
    """PEFT 0.18.1 saved these and recorded what came of them (tests/parity/bone.py)."""
    folder = Path(__file__).parents[1] / "parity" / "bone" / case
    expected = load_file(folder / "expected.safetensors")
    outputs, inputs = expected["weight"].shape
    net = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias="bias" in expected))
    net[0].load_state_dict({name: expected[name] for name in ("weight", "bias") if name in expected})
    x = expected["x"].requires_grad_()
    assert torch.allclose(net(x), expected["start"], atol=1e-6)
    shards = adapted(load_adapter(net, folder))["0"].adapters["default"].shard
    y = net(x)
    assert torch.allclose(y, expected["y"], atol=1e-5)
    (y * expected["wished"]).sum().backward()
    for ours, theirs in ((x.grad, expected["x.grad"]), (shards.grad, expected["shards.grad"])):
        assert torch.allclose(ours, theirs, atol=1e-5)
    merge(net)
    assert torch.allclose(net[0].weight, expected["merged"], atol=1e-6)
    unmerge(net)
    torch.optim.AdamW([shards], lr=1e-2).step()
    assert torch.allclose(shards, expected["stepped"], atol=1e-6)
