"""Adapter folders of other people: scales, patterns and names as PEFT means them; what is not whole is refused."""

import json
import re
import time
import warnings

import pytest
import torch
from adapters.test_reach import IDS, llama, shaken
from peft import LoraConfig, MissConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from workbench.adapters import AdapterConfig, add_adapter, load_adapter, save_adapter, set_adapter, to_lora
from workbench.adapters.attach import adapted
from workbench.datasets import DataError

# of PEFT and transformers
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Using Rank-Stabilized LoRA")
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def theirs(folder, config, model=llama):
    """The folder with PEFT's adapter, and what PEFT's own reload of it gives."""
    made = shaken(get_peft_model(model(), config).eval(), 0.05)
    made.save_pretrained(folder)
    return PeftModel.from_pretrained(model(), folder).eval()


def edit(folder, **changes):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    save_file(change(load_file(folder / TENSORS)), folder / TENSORS)


# -- scales ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("start", ["pissa", "olora", True])
@pytest.mark.parametrize(
    "more",
    [{}, {"rank_pattern": {"q_proj": 2, "1.self_attn.v_proj": 3}}, {"alpha_pattern": {"1.self_attn.*": 5}, "r": 3}],
    ids=["plain", "ranks", "alphas"],
)
def test_a_start_in_the_weight_is_rebuilt_with_the_files_scale(tmp_path, start, rslora, more):
    config = {"r": 4, "lora_alpha": 12, "init_lora_weights": start, "use_rslora": rslora, **more}
    want = theirs(tmp_path, LoraConfig(target_modules=["q_proj", "v_proj"], **config))(IDS).logits
    model = load_adapter(llama(), tmp_path)
    assert torch.allclose(model(IDS).logits, want, atol=1e-4)
    save_adapter(model, tmp_path / "ours")  # as LoRA of twice the rank
    assert torch.allclose(load_adapter(llama(), tmp_path / "ours")(IDS).logits, want, atol=1e-4)
    assert torch.allclose(PeftModel.from_pretrained(llama(), tmp_path / "ours").eval()(IDS).logits, want, atol=1e-4)


def test_a_random_start_is_told_and_a_scale_of_zero_refused(tmp_path):
    theirs(tmp_path, LoraConfig(r=4, init_lora_weights="pissa", target_modules=["q_proj"]))
    edit(tmp_path, init_lora_weights="pissa_niter_4")
    with pytest.warns(UserWarning, match="initialisation pissa_niter_4, which is random and not in the file"):
        load_adapter(llama(), tmp_path)
    edit(tmp_path, init_lora_weights="pissa", lora_alpha=0)
    with pytest.raises(DataError, match="lora_alpha=0: expected a number above 0 for pissa"):
        load_adapter(llama(), tmp_path)


# -- names and patterns ----------------------------------------------------------------------------------------------------------


class Nested(nn.Module):
    """Layers whose names end each other's, or are each other's patterns: a dot is any character to a pattern."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(8, 8)
        self.config = {"model_type": "own"}
        inner = nn.ModuleDict({"fc": nn.Linear(8, 8), "xfc": nn.Linear(8, 8)})
        self.a = nn.ModuleDict({"b": inner})
        self.a_b = nn.ModuleDict({"fc": nn.Linear(8, 8)})

    def forward(self, x):
        x = self.a.b["xfc"](torch.tanh(self.a.b["fc"](torch.tanh(self.fc(x)))))
        return self.a_b["fc"](torch.tanh(x))


@pytest.mark.parametrize(
    "ranks",
    [{"fc": 2}, {"fc": 2, "a.b.fc": 3}, {"a.b.fc": 3}, {"a_b.fc": 3, "a.b.fc": 4, "a.b.xfc": 2}, {"a.b.xfc": 3}],
    ids="+".join,
)
def test_names_that_end_other_names_are_written_so_that_peft_finds_just_them(tmp_path, ranks):
    model, x = Nested(), torch.randn(3, 8)
    pattern = "|".join(map(re.escape, ranks))
    peft = {"target_modules": pattern, "rank_pattern": {f"^{re.escape(n)}": r for n, r in ranks.items()}}
    want = theirs(tmp_path, LoraConfig(r=5, lora_alpha=3, **peft), Nested)(x)
    model = load_adapter(Nested(), tmp_path)
    assert torch.allclose(model(x), want, atol=1e-5)
    assert {path: layer.adapters["default"].A.shape[0] for path, layer in adapted(model).items()} == ranks
    save_adapter(model, tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        again = PeftModel.from_pretrained(Nested(), tmp_path / "ours")
    assert torch.allclose(again(x), want, atol=1e-5)
    assert torch.allclose(load_adapter(Nested(), tmp_path / "ours")(x), want, atol=1e-5)


def test_layers_of_several_ranks_after_a_conversion_are_read_by_peft(tmp_path):
    model = shaken(add_adapter(Nested(), AdapterConfig(method="lora", r=2, targets=("fc",)), "a"))
    shaken(add_adapter(model, AdapterConfig(method="lora", r=3, targets=("xfc",)), "b"))
    lora, _ = to_lora(set_adapter(model, ("a", "b")))
    x = torch.randn(3, 8)
    save_adapter(lora, tmp_path, next(iter(lora.adapter_configs)))
    assert torch.allclose(PeftModel.from_pretrained(Nested(), tmp_path)(x), lora(x), atol=1e-5)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod._checkpoint_wrapped_module."])
def test_prefixes_of_wrappers_in_a_foreign_file(tmp_path, prefix):
    want = theirs(tmp_path, LoraConfig(r=4, target_modules=["q_proj"]))(IDS).logits
    edit_tensors(tmp_path, lambda t: {k.replace("base_model.model.", f"base_model.model.{prefix}"): v for k, v in t.items()})
    assert torch.allclose(load_adapter(llama(), tmp_path)(IDS).logits, want, atol=1e-5)


@pytest.mark.parametrize("name", ["a.b", "", "keys", "pop", "forward", "training", "T_destination", None, 3])
def test_a_name_that_torch_cannot_keep_is_refused_before_anything_is_done(tmp_path, name):
    save_adapter(add_adapter(llama(), AdapterConfig(r=4)), tmp_path)
    for put in (
        lambda model: add_adapter(model, AdapterConfig(r=4), name=name),
        lambda model: load_adapter(model, tmp_path, name=name),
    ):
        model = llama()
        with pytest.raises(ValueError, match=r"name=.*expected a nonempty string without dots"):
            put(model)
        assert [*dict(model.named_modules())] == [*dict(llama().named_modules())]
        assert all(p.requires_grad for p in model.parameters())


# -- what is not whole -----------------------------------------------------------------------------------------------------------


def refused(folder, said):
    model = llama()
    with pytest.raises(DataError, match=said):
        load_adapter(model, folder)
    assert [*dict(model.named_modules())] == [*dict(llama().named_modules())]


def without(*ends):
    return lambda tensors: {k: v for k, v in tensors.items() if not any(end in k for end in ends)}


FAULTS = {
    "B of one layer": (without("1.self_attn.q_proj.lora_B"), r"the file has the tensors A for this layer; expected A, B"),
    "A of one layer": (without("1.self_attn.q_proj.lora_A"), r"the file has the tensors B for this layer; expected A, B"),
    "a layer": (without("layers.1."), r"is incomplete.* match 2 layers .* such as 'model.layers.1.self_attn"),
    "one kind of layer": (without("v_proj"), r"is incomplete.* match 2 layers .*v_proj"),
    "not finite": (
        lambda t: t | {k: v * float("nan") for k, v in t.items() if "1.self_attn.v_proj.lora_A" in k},
        r"v_proj.lora_A.weight' holds values that are not finite",
    ),
    "infinite": (
        lambda t: {k: v.index_fill(0, torch.tensor([0]), float("inf")) for k, v in t.items()},
        "not finite; expected finite floating-point numbers",
    ),
    "truth values": (lambda t: {k: v > 0 for k, v in t.items()}, r"is torch.bool; expected finite floating-point numbers"),
    "whole numbers": (lambda t: {k: v.to(torch.int8) for k, v in t.items()}, r"is torch.int8"),
    "another rank": (
        lambda t: {k: v[:2] if "lora_A" in k else v[:, :2].contiguous() for k, v in t.items()},
        r"tensors have rank 2; expected 4, as in adapter_config.json",
    ),
    "half a rank": (
        lambda t: {k: v[:2].contiguous() if "lora_A" in k else v for k, v in t.items()},
        r"tensors have rank 2|B has shape \(32, 4\)",
    ),
}


@pytest.mark.parametrize("fault", [*FAULTS])
def test_a_file_that_is_not_whole_is_refused_by_layer_and_reason(tmp_path, fault):
    theirs(tmp_path, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    change, said = FAULTS[fault]
    edit_tensors(tmp_path, change)
    refused(tmp_path, said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 8}, r"tensors have rank 4; expected 8, as in adapter_config.json"),
        (
            {"rank_pattern": {"layers.1.self_attn.q_proj": 2}},
            r"'model.layers.1.self_attn.q_proj'.*expected 2, as in adapter_config.json",
        ),
        ({"lora_alpha": None}, "lora_alpha=None: "),
        ({"lora_alpha": "16"}, "lora_alpha=16: "),
        ({"lora_alpha": float("nan")}, "lora_alpha=nan: "),
        ({"r": True}, "r=True: "),
        ({"r": "4"}, "r=4: "),
        ({"r": 0}, "r=0: "),
        ({"r": 4.5}, "r=4.5: "),
        ({"rank_pattern": {"q_proj": None}}, "rank_pattern.q_proj=None: "),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern="),
        ({"alpha_pattern": {"q_proj": "much"}}, "alpha_pattern.q_proj=much: "),
        ({"target_modules": 3}, "target_modules"),
        ({"use_rslora": "perhaps"}, "use_rslora=perhaps"),
        ({"alpha_pattern": {"(": 3}}, "is not a valid regular expression"),
        ({"peft_type": 3}, "peft_type=3"),
        ({"peft_type": None}, "peft_type=None"),
        ({"layers_to_transform": "first"}, "layers_to_transform"),
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_is_refused_by_field_and_value(tmp_path, changes, said):
    theirs(tmp_path, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    edit(tmp_path, **changes)
    refused(tmp_path, said)


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null", "[" * 100_000, '{"peft_type"', "{}", '{"a": 1}'])
def test_a_config_that_is_no_config(tmp_path, text):
    theirs(tmp_path, LoraConfig(r=4, target_modules=["q_proj"]))
    (tmp_path / CONFIG).write_text(text)
    refused(tmp_path, "is not a valid adapter config")


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", '{"method": "miss", "rr": 3}', '{"method": 3}'])
def test_a_config_of_ours_that_is_none(tmp_path, text):
    save_adapter(add_adapter(llama(), AdapterConfig(r=4)), tmp_path)
    (tmp_path / "workbench.json").write_text(text)
    refused(tmp_path, "workbench.json is damaged")


def test_a_config_without_an_end_is_not_read_to_its_end(tmp_path):
    theirs(tmp_path, LoraConfig(r=4, target_modules=["q_proj"]))
    with (tmp_path / CONFIG).open("wb") as file:
        file.truncate(10**12)  # a terabyte of zeros, none of which lies on the disk
    refused(tmp_path, "is too large; expected at most 4,000,000 bytes")


@pytest.mark.parametrize("where", ["rank_pattern", "alpha_pattern", "target_modules", "exclude_modules"])
def test_a_pattern_that_takes_for_ever_is_given_up(tmp_path, where):
    theirs(tmp_path, LoraConfig(r=4, target_modules=["q_proj"]))
    slow = r"(?:[a-z_.0-9]|[a-z_.0-9]{2}|[a-z_.0-9]{3})+[^a-z_.0-9]"
    edit(tmp_path, **{where: slow if where.endswith("modules") else {slow: 4}})
    before = time.process_time()
    refused(tmp_path, "took over 1 s")
    assert time.process_time() - before < 60


def test_layers_that_peft_was_told_to_leave_out_are_not_missed(tmp_path):
    """One block, by number or by pattern; and a layer that is excluded."""
    for number, more in enumerate(
        (
            {"target_modules": ["q_proj"], "layers_to_transform": 1},
            {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
            {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["0.self_attn.v_proj"]},
            {"target_modules": r".*\.1\.self_attn\.[qk]_proj"},
        )
    ):
        want = theirs(tmp_path / str(number), LoraConfig(r=4, **more))(IDS).logits
        assert torch.allclose(load_adapter(llama(), tmp_path / str(number))(IDS).logits, want, atol=1e-5)
    tensors = load_file(tmp_path / "3" / TENSORS)
    save_file({k: v for k, v in tensors.items() if "k_proj" not in k}, tmp_path / "3" / TENSORS)
    refused(tmp_path / "3", "such as 'model.layers.1.self_attn.k_proj'")


def test_shards_are_checked_as_factors_are(tmp_path):
    theirs(tmp_path, MissConfig(r=4, target_modules=["q_proj"]))
    edit(tmp_path, r=6)
    refused(tmp_path, "rank 4; expected 6, as in adapter_config.json")
    edit(tmp_path, r=4)
    edit_tensors(tmp_path, without("layers.0."))
    refused(tmp_path, "is incomplete")
