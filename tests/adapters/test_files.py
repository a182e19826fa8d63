"""Adapters on disk: PEFT reads ours, we read PEFT's, and what is damaged or foreign is told."""

import json
import warnings

import peft
import pytest
import torch
from adapters.test_adapters import Loses, fitted, moved
from adapters.test_peft_parity import PAIRS, both
from safetensors.torch import load_file, save_file

from workbench.adapters import METHODS, AdapterConfig, add_adapter, files, load_adapter, merge, save_adapter, set_adapter, to_lora
from workbench.adapters.attach import adapted
from workbench.datasets import DataError

X = torch.randn(4, 96, generator=torch.Generator().manual_seed(1))


def saved(net, folder, method="miss", **more):
    """The output of a net with an adapter of this method, which lies in the folder."""
    model = fitted(net, method, noise=0.05, **more)
    save_adapter(model, folder)
    return model(X).logits.detach()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_loaded(net, tmp_path, method):
    y = saved(net, tmp_path, method)
    model = load_adapter(Loses(net()), tmp_path)
    assert torch.allclose(model(X).logits, y, atol=1e-6)
    assert model.adapter_configs["default"] == AdapterConfig(method=method, r=8)
    again = save_adapter(model, tmp_path / "again")
    first, second = (load_file(f / "adapter_model.safetensors") for f in (tmp_path, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    added = load_adapter(model, tmp_path, "two")
    assert torch.allclose(added(X).logits, y, atol=1e-6)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("bat-row", "full")])
def test_peft_loads_ours(net, tmp_path, method):
    model = fitted(net, method, noise=0.05)
    y = model.net(X).detach()
    model.net.adapter_configs = model.adapter_configs
    save_adapter(model.net, tmp_path)
    theirs = peft.PeftModel.from_pretrained(net(), tmp_path)
    assert torch.allclose(theirs(X), y, atol=1e-5)


@pytest.mark.parametrize("method", ["miss", "bat-col", "pissa", "dora"])
def test_biases_travel_both_ways(net, tmp_path, method):
    model = add_adapter(net(), AdapterConfig(method=method, r=8), bias=True)
    moved(model, 0.05, 3)
    y = model(X).detach()
    for when in (model, merge(model)):
        save_adapter(when, tmp_path / "ours")
        theirs = peft.PeftModel.from_pretrained(net(), tmp_path / "ours")
        assert torch.allclose(theirs(X), y, atol=1e-5)
        assert torch.allclose(load_adapter(net(), tmp_path / "ours")(X), y, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    assert torch.allclose(load_adapter(net(), tmp_path / "theirs")(X), y, atol=1e-5)
    with pytest.raises(DataError, match=r"layer .blocks.*no bias"):
        load_adapter(net(bias=False), tmp_path / "theirs")


@pytest.mark.parametrize("method", ["bat-row", "full"])
def test_peft_refuses_what_it_has_not(net, tmp_path, method):
    saved(net, tmp_path, method)
    with pytest.raises(KeyError, match="WORKBENCH"):
        peft.PeftModel.from_pretrained(net(), tmp_path)


@pytest.mark.parametrize("case", [c for c in PAIRS if "built" not in c and "acting" not in c])
def test_we_load_pefts(net, tmp_path, case):
    _, theirs = both(net, case)
    generator = torch.Generator().manual_seed(2)
    for p in (p for p in theirs.parameters() if p.requires_grad):
        p.data += 0.02 * torch.randn(p.shape, generator=generator)
    theirs.save_pretrained(tmp_path)
    model = load_adapter(net(), tmp_path)
    assert torch.allclose(model(X), theirs(X), atol=1e-5)
    assert model.adapter_configs["default"].method == PAIRS[case][0].method
    save_adapter(model, tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(net(), tmp_path / "ours")
    assert torch.allclose(again(X), theirs(X), atol=1e-5)


def test_olora_of_peft_with_a_scale_of_its_own(net, tmp_path):
    config = peft.LoraConfig(r=8, lora_alpha=24, init_lora_weights="olora", target_modules=["up", "down"])
    theirs = peft.get_peft_model(net(), config)
    for p in (p for p in theirs.parameters() if p.requires_grad):
        p.data *= 1.1
    theirs.save_pretrained(tmp_path)
    assert torch.allclose(load_adapter(net(), tmp_path)(X), theirs(X), atol=1e-5)


@pytest.mark.parametrize(
    ("start", "knobs"), [(True, {"method": "miss"}), ("mini", {"method": "mini", "q": 4}), ("bat", {"method": "bat-col"})]
)
def test_a_config_with_only_the_needed_keys_is_read(net, tmp_path, start, knobs):
    """As written by hand; ``mini_r`` counts for mini alone."""
    y = saved(net, tmp_path, r=8, **knobs)
    (tmp_path / "workbench.json").unlink()
    about = {"peft_type": "MISS", "r": 8, "target_modules": ["up", "down"], "init_weights": start, "mini_r": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    model = load_adapter(Loses(net()), tmp_path)
    assert torch.allclose(model(X).logits, y, atol=1e-6)
    assert model.adapter_configs["default"] == AdapterConfig(r=8, targets=("up", "down"), **knobs)


def test_ranks_and_alphas_of_each_layer(net, tmp_path):
    config = peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=["up", "down"], rank_pattern={"1.up": 3}, alpha_pattern={"down": 5}, use_rslora=True
    )
    theirs = peft.get_peft_model(net(), config)
    for p in (p for p in theirs.parameters() if p.requires_grad):
        p.data += 0.1
    theirs.save_pretrained(tmp_path)
    model = load_adapter(net(), tmp_path)
    assert torch.allclose(model(X), theirs(X), atol=1e-5)
    save_adapter(model, tmp_path / "ours")
    assert torch.allclose(load_adapter(net(), tmp_path / "ours")(X), theirs(X), atol=1e-5)


# -- to LoRA ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_to_lora(net, method):
    model = fitted(net, method, noise=0.05, r=8)
    y = model(X).logits
    lora, errors = to_lora(model)
    exact = method not in ("bat-row", "bat-col", "dora", "hira", "full")
    assert set(errors) == set(adapted(model))
    assert all(0 <= e < 1 for e in errors.values())
    assert all((e == 0) == exact for e in errors.values())
    assert lora.adapter_configs["default"].method == "lora"
    assert torch.equal(model(X).logits, y)  # the model itself is as it was
    shared = [layer.own[0] for layer in adapted(model).values()]
    assert all(a is layer.own[0] for a, layer in zip(shared, adapted(lora).values(), strict=True))
    if exact:
        assert torch.allclose(lora(X).logits, y, atol=1e-5)
        assert lora.adapter_configs["default"].r == (16 if method in ("pissa", "olora", "lora-ga") else 8)
    for rank in (3, 96):
        lora, errors = to_lora(model, rank)
        for path, layer in adapted(lora).items():
            update, there = layer.adapters["default"], adapted(model)[path]
            wanted = (there.updated() - there.own[0]).double()
            singular = torch.linalg.svdvals(wanted)
            best = float((singular[rank:].square().sum() / singular.square().sum()).sqrt())
            assert errors[path] == pytest.approx(best, abs=2e-4)
            missed = float(((update.delta(layer.own[0]) - wanted).norm() / wanted.norm()).detach())
            assert missed == pytest.approx(best, abs=2e-4)


def test_to_lora_of_several_and_of_nothing(net):
    model = fitted(net, "miss", noise=0.05, name="a")
    add_adapter(model, AdapterConfig(method="lora", r=4), "b")
    set_adapter(model, ("a", "b"))
    lora, errors = to_lora(model)
    assert torch.allclose(lora(X).logits, model(X).logits, atol=1e-5)
    assert set(errors.values()) == {0.0}
    assert lora.adapter_configs["lora"].r == 12
    zero, errors = to_lora(add_adapter(net(), AdapterConfig(method="bat-row", r=8)))
    assert set(errors.values()) == {0.0}
    assert torch.equal(zero(X), net()(X))
    set_adapter(model, None)
    with pytest.raises(ValueError, match="no adapter is active"):
        to_lora(model)


# -- what is refused -------------------------------------------------------------------------------------------------------------


def _edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_foreign_and_damaged_files(net, tmp_path):
    saved(net, tmp_path, "miss", r=16)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    whole = {f.name: f.read_bytes() for f in tmp_path.iterdir()}

    def refused(message, model=None):
        with pytest.raises(DataError, match=message):
            load_adapter(model or Loses(net()), tmp_path)
        for name, data in whole.items():
            (tmp_path / name).write_bytes(data)

    refused("adapter for another model: this model has no linear layer 'net.blocks.0.down'", net())
    refused(r"does not fit layer 'net.blocks.0.down' \(100 x 160\)", Loses(net(width=100)))
    (tmp_path / "adapter_config.json").unlink()
    refused("holds no adapter: adapter_config.json is missing")
    (tmp_path / "adapter_config.json").write_text("{")
    refused("is not a valid adapter config")
    _edit(tmp_path, peft_type="VERA")
    refused("holds an adapter of type VERA; expected one of LORA, HIRA, MISS")
    _edit(tmp_path, peft_type="LORA")
    refused("holds the unexpected tensor 'base_model.model.net.blocks.0.down.miss_block'; expected only tensors of LORA adapters")
    _edit(tmp_path, modules_to_save=["head"])
    refused("uses modules_to_save")
    (tmp_path / "workbench.json").write_text(AdapterConfig(method="lora").model_dump_json())
    refused("the method is lora in workbench.json, but the type is MISS in adapter_config.json")
    (tmp_path / "workbench.json").unlink()
    _edit(tmp_path, init_weights="bat")
    refused("the shards have 2 dimensions; expected 3 with init_weights='bat'")
    (tmp_path / "adapter_model.safetensors").write_bytes(whole["adapter_model.safetensors"][:500])
    refused("is damaged")
    (tmp_path / "adapter_model.safetensors").unlink()
    refused("is incomplete: adapter_model.safetensors is missing")
    save_file({k: v[:, :7].contiguous() for k, v in tensors.items()}, tmp_path / "adapter_model.safetensors")
    refused(r"shard has shape \(16, 7\); expected \(16, 96\)")
    save_file({**tensors, "base_model.model.head.weight": torch.zeros(5, 96)}, tmp_path / "adapter_model.safetensors")
    refused("Saved modules, and biases of layers without an adapter, are not supported")


def test_shards_of_bat_row_are_not_those_of_bat_col(net, tmp_path):
    """Told apart by their first axis, in / r or out / r, where those differ; a file of ours says which it is."""
    saved(net, tmp_path, "bat-row")
    (tmp_path / "workbench.json").unlink()
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    renamed = {key.replace("bat_row_block", "miss_block"): tensor for key, tensor in tensors.items()}
    save_file(renamed, tmp_path / "adapter_model.safetensors")
    _edit(tmp_path, peft_type="MISS", init_weights="bat")
    with pytest.raises(DataError, match=r"layer 'net.blocks.0.*shard has shape \(\d+, 8, 8\); expected"):
        load_adapter(Loses(net()), tmp_path)


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_pickle_is_read_only_where_it_holds_nothing_but_tensors(net, tmp_path, capsys):
    y = saved(net, tmp_path, "miss")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    assert torch.allclose(load_adapter(Loses(net()), tmp_path)(X).logits, y, atol=1e-6)
    torch.save({**tensors, "x": Evil()}, tmp_path / "adapter_model.bin")
    with pytest.raises(DataError, match=r"holds objects other than tensors.* could run code"):
        load_adapter(Loses(net()), tmp_path)
    assert "code was run" not in capsys.readouterr().out


def test_lora_ga_of_peft_cannot_be_read(net, tmp_path):
    saved(net, tmp_path, "lora")
    _edit(tmp_path, init_lora_weights="lora_ga")
    with pytest.raises(DataError, match=r"lora_ga \(it changes the base weights, which are not in the file\)"):
        load_adapter(Loses(net()), tmp_path)


def test_a_failed_save_leaves_no_adapter_that_is_half_new(net, tmp_path, monkeypatch):
    saved(net, tmp_path, "miss")
    write = files.write_atomic

    def full(path, data):
        if path.name == files.OURS:
            raise OSError("no space")
        write(path, data)

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(OSError, match="no space"):
        saved(net, tmp_path, "bat-row")
    with pytest.raises(DataError, match="holds no adapter"):
        load_adapter(Loses(net()), tmp_path)


def test_another_models_name_is_told(net, tmp_path):
    saved(net, tmp_path, "miss")
    _edit(tmp_path, base_model_name_or_path="org/other")
    model = Loses(net())
    model.config = type("Config", (), {"_name_or_path": "org/this"})()
    with pytest.warns(UserWarning, match="was trained on other, but this model is this"):
        load_adapter(model, tmp_path)


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (peft.MissConfig(r=16, miss_dropout=0.3, init_weights="mini", mini_r=4), 0.3),
        (peft.LoraConfig(r=8, lora_dropout=0.3), 0.3),
        (peft.MissConfig(r=16, miss_dropout=0.3, init_weights="bat"), 0.0),
        (peft.LoraConfig(r=8, lora_dropout=0.3, use_dora=True), 0.0),
        (peft.HiraConfig(r=8, hira_dropout=0.3), 0.0),
    ],
    ids=["mini", "lora", "bat", "dora", "hira"],
)
def test_pefts_dropout_is_kept_or_a_warning(net, tmp_path, config, kept):
    """It does nothing to what the file computes, only to what goes on training; PEFT itself leaves it out in `bat`."""
    config.target_modules = ["up", "down"]
    theirs = peft.get_peft_model(net(), config)
    theirs.save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = load_adapter(net(), tmp_path)
    assert model.adapter_configs["default"].dropout == kept
    assert any("dropout 0.3" in str(w.message) for w in told) is (kept == 0)
    assert torch.allclose(model.eval()(X), theirs.eval()(X), atol=1e-5)
