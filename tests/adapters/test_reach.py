"""An adapter acts wherever its layer's weight matters, called or read; where it cannot, somebody says so."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from workbench import models
from workbench.adapters import METHODS, AdapterConfig, add_adapter, load_adapter, merge, save_adapter, unload, unreached
from workbench.adapters.attach import adapted
from workbench.adapters.lab import tuning
from workbench.adapters.lab.inside import Rounded

WITHOUT_GRADIENTS = [m for m in METHODS if m != "lora-ga"]


def shaken(model, size=0.1):
    torch.manual_seed(5)
    for p in model.parameters():
        if p.requires_grad:
            p.data += size * torch.randn_like(p)
    return model


def encoder(norm_first=False):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, activation="gelu", batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Scan(nn.Module):
    """Reads a projection's weight and bias, as state-space models do."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.read = nn.Linear(16, 32, dtype=dtype)
        self.called = nn.Linear(32, 16, dtype=dtype)

    def forward(self, x):
        return self.called(torch.tanh(x @ self.read.weight.T + self.read.bias))


# -- read, and not called --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("method", WITHOUT_GRADIENTS)
def test_torchs_fast_path_has_the_adapter_in_it(method, norm_first):
    """In evaluation, without gradients, it reads the weights of linear1, linear2 and of the attention's out_proj."""
    model, x = encoder(norm_first), torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(1))
    plain = model.train()(x).detach()
    targets = ("linear1", "linear2", "out_proj")
    shaken(add_adapter(model, AdapterConfig(method=method, r=4, targets=targets)))
    right = model.train()(x).detach()
    assert not torch.allclose(right, plain, atol=1e-2)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), right, atol=1e-5)
    assert torch.allclose(model(x), right, atol=1e-5), "with gradients, in evaluation"
    assert unreached(model, x) == []
    assert torch.allclose(merge(model)(x), right, atol=1e-5)
    assert torch.allclose(unload(model, merge=False)(x), plain, atol=1e-5)


@pytest.mark.parametrize("method", WITHOUT_GRADIENTS)
def test_a_weight_that_is_read_trains_as_one_that_is_called(method):
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    model = shaken(add_adapter(Scan(), AdapterConfig(method=method, r=4, targets=("read",)), bias=True))
    (layer,) = adapted(model).values()
    called = model.called(torch.tanh(layer(x)))
    assert torch.allclose(model(x), called, atol=1e-5)
    parts = [p for p in layer.parameters() if p.requires_grad]
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), parts) for y in (model(x), called)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_what_is_read_has_the_layers_dtype_and_is_the_merged_weight():
    model = shaken(add_adapter(Scan(torch.bfloat16), AdapterConfig(r=4, targets=("read",)), bias=True))
    weight, bias = model.read.weight, model.read.bias
    assert (weight.dtype, bias.dtype) == (torch.bfloat16, torch.bfloat16)
    assert not torch.equal(weight, model.read.own[0])
    merge(model)
    assert torch.equal(model.read.weight, weight)
    assert torch.equal(model.read.bias, bias)
    assert model.read.weight is model.read.base.weight


def test_a_state_space_model_of_transformers_is_reached_in_each_projection():
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, state_size=4, use_cache=False)
    model, ids = MambaForCausalLM(config), torch.arange(14).view(2, 7)
    add_adapter(model, AdapterConfig(r=2, targets=("in_proj", "x_proj", "dt_proj", "out_proj")), batches=[{"input_ids": ids}])
    shaken(model)
    want = model(ids).logits
    assert torch.allclose(merge(model)(ids).logits, want, atol=1e-4)


# -- neither read nor called -----------------------------------------------------------------------------------------------------


class Partly(nn.Module):
    """Of its two layers only one is used; `packed`: the other is read, and its weight is no plain tensor of numbers."""

    def __init__(self, packed=False):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        if packed:
            self.blocks[1] = Rounded(torch.randn(8, 8))
        self.packed = packed

    def forward(self, x, labels=None):
        y = self.blocks[0](x)
        if self.packed:
            y = y + F.linear(x, self.blocks[1].base.codes * self.blocks[1].base.scale)
        return {"loss": None if labels is None else F.cross_entropy(y, labels), "logits": y}


@pytest.mark.parametrize("packed", [False, True])
def test_a_layer_that_no_batch_reaches_is_refused_by_its_name(packed):
    model, x = Partly(packed), torch.randn(3, 8)
    before, names = {n: p.requires_grad for n, p in model.named_parameters()}, [*dict(model.named_modules())]
    with pytest.raises(
        ValueError, match=r"no batch reaches layer 'blocks.1' \(unreached layers: 1\).*Remove the layer from the targets"
    ):
        add_adapter(model, AdapterConfig(r=4), batches=[{"x": x}])
    assert [*dict(model.named_modules())] == names
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before
    assert unreached(add_adapter(model, AdapterConfig(r=4)), x) == ["blocks.1"]


def test_a_refused_layer_leaves_the_adapter_before_it_as_it_was():
    model, x = Partly(), torch.randn(3, 8)
    shaken(add_adapter(model, AdapterConfig(r=4, targets=("0",)), "first"))
    y, trained = model(x)["logits"], [n for n, p in model.named_parameters() if p.requires_grad]
    with pytest.raises(ValueError, match=r"blocks\.1"):
        add_adapter(model, AdapterConfig(r=4), "second", batches=[{"x": x}])
    assert torch.equal(model(x)["logits"], y)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == trained
    assert [*adapted(model)] == ["blocks.0"]


def test_lora_ga_refuses_it_too():
    class Answers(Partly):
        def forward(self, x, labels=None):
            found = super().forward(x, labels)
            return type("Output", (), found)()

    with pytest.raises(ValueError, match=r"no batch reaches layer .blocks\.1."):
        add_adapter(
            Answers(),
            AdapterConfig(method="lora-ga", r=2),
            batches=[{"x": torch.randn(3, 8), "labels": torch.zeros(3, dtype=torch.long)}],
        )


def test_lora_ga_beside_another_adapter_starts_from_the_layers_own_gradient():
    batches = [{"x": torch.randn(3, 8), "labels": torch.zeros(3, dtype=torch.long)}]

    class Answers(Partly):
        def forward(self, x, labels=None):
            return type("Output", (), super().forward(x, labels))()

    alone, second = Answers(), add_adapter(Answers(), AdapterConfig(r=2, targets=("0",)), "first")
    config = AdapterConfig(method="lora-ga", r=2, targets=("0",))
    add_adapter(alone, config, batches=batches)
    add_adapter(second, config, "second", batches=batches)
    one, other = (adapted(m)["blocks.0"].adapters[n] for m, n in ((alone, "default"), (second, "second")))
    assert torch.allclose(one.A, other.A, atol=1e-6)


def test_a_tuning_says_which_adapters_no_gradient_has_reached(monkeypatch):
    shallow_copy = models.shallow_copy

    def with_an_idle_layer(lm):
        lm = shallow_copy(lm)
        lm.model.model.layers[0].mlp.idle_proj = nn.Linear(128, 128)
        return lm

    config = tuning.TuningConfig(steps=3, batch=2, samples=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(tuning.Tuner(config).run())
    monkeypatch.setattr(models, "shallow_copy", with_an_idle_layer)
    with pytest.warns(UserWarning, match=r"1 adapters, such as .*0.mlp.idle_proj', have received no gradient"):
        list(tuning.Tuner(config).run())


# -- what the defaults leave out -------------------------------------------------------------------------------------------------


def test_layers_of_other_kinds_are_named():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4))
    with pytest.raises(ValueError, match=r"transformer.h.\*.attn.c_attn.weight \(of Conv1D\)"):
        add_adapter(gpt2, AdapterConfig(r=4))
    with pytest.raises(ValueError, match="it is a Conv1D, not a linear layer"):
        add_adapter(gpt2, AdapterConfig(r=4, targets=("c_attn",)))


def test_experts_and_attentions_that_get_no_adapter_are_told():
    torch.manual_seed(0)
    mixtral = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
        )
    )
    with pytest.warns(UserWarning, match=r"8\d% of the weights .* get no adapter.*experts.gate_up_proj"):
        add_adapter(mixtral, AdapterConfig(r=4))
    with pytest.warns(
        UserWarning, match=r"self_attn.in_proj_weight \(of MultiheadAttention\). Layers with an adapter: out_proj, linear1"
    ):
        add_adapter(encoder(), AdapterConfig(r=4))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-rwkv6"])
def test_models_whose_linears_are_nearly_all_are_adapted_in_silence(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add_adapter(models.shallow_copy(models.shared(name)).model, AdapterConfig(r=4))


# -- out again, and wrapped ------------------------------------------------------------------------------------------------------


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    return LlamaForCausalLM(config).eval()


IDS = torch.arange(14).view(2, 7)


@pytest.mark.parametrize("method", ["miss", "lora", "bat-row", "dora", "full", "pissa"])
def test_unloaded_it_is_the_plain_model_again(method, tmp_path):
    model, plain = llama(), llama()
    model.model.embed_tokens.requires_grad_(False)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    shaken(add_adapter(model, AdapterConfig(method=method, r=4)), 0.05)
    want = model(IDS).logits.detach()
    assert unload(model) is model
    assert [*dict(model.named_modules())] == [*dict(plain.named_modules())]
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before
    assert not hasattr(model, "adapter_configs")
    assert torch.allclose(model(IDS).logits, want, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
    again, found = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert torch.allclose(again.eval()(IDS).logits, want, atol=1e-5)
    add_adapter(model, AdapterConfig(r=4))  # and it takes another


def test_unloaded_without_merging_the_weights_are_the_same_objects():
    model = llama()
    weights = dict(model.named_parameters())
    merge(shaken(add_adapter(model, AdapterConfig(r=4))))
    unload(model, merge=False)
    assert {n: id(p) for n, p in model.named_parameters()} == {n: id(p) for n, p in weights.items()}
    with pytest.raises(ValueError, match="has no adapter"):
        unload(model)


def test_a_model_saved_with_its_adapters_says_so(tmp_path):
    model = add_adapter(llama(), AdapterConfig(r=4))
    with pytest.warns(UserWarning, match="LlamaForCausalLM has adapters, so the names .*unload"):
        model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="has adapters, so the names in its state_dict differ"):
        copy.deepcopy(model).state_dict()


def in_part(model):
    """Compiled block by block, as torch recommends for large models."""
    for number, block in enumerate(model.model.layers):
        model.model.layers[number] = torch.compile(block, backend="eager")
    return model


WRAPPED = {
    "whole": lambda model: torch.compile(model, backend="eager"),
    "blocks": in_part,
    "data parallel": nn.DataParallel,
    "both": lambda model: nn.DataParallel(in_part(model)),
}


@torch.no_grad()
@pytest.mark.parametrize("wrap", [*WRAPPED])
def test_a_wrapper_leaves_no_trace_in_names_and_files(wrap, tmp_path):
    torch.compiler.reset()
    plain = llama()
    add_adapter(plain, AdapterConfig(r=4))
    wrapped = WRAPPED[wrap](llama())
    assert add_adapter(wrapped, AdapterConfig(r=4)) is wrapped
    assert [*adapted(wrapped)] == [*adapted(plain)]
    shaken(wrapped)
    want = wrapped(IDS).logits.detach()
    save_adapter(wrapped, tmp_path)
    assert torch.allclose(load_adapter(llama(), tmp_path)(IDS).logits, want, atol=1e-5)
    other = WRAPPED[wrap](llama())
    assert torch.allclose(load_adapter(other, tmp_path)(IDS).logits, want, atol=1e-5)
    assert torch.allclose(merge(other)(IDS).logits, want, atol=1e-5)
    assert torch.allclose(unload(other)(IDS).logits, want, atol=1e-5)
