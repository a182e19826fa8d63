"""Adapters that PEFT 0.18.1 called BONE, the oracle for files of that name, which later versions no longer read. Run with it:

pip install --no-deps --target build/peft-0.18.1 peft==0.18.1
PYTHONPATH=build/peft-0.18.1 .venv/bin/python tests/parity/bone.py

Each folder beside this file holds an adapter as PEFT saved it, and in ``expected.safetensors`` the layer and what came of it:
weight, bias, x; y before and after the shards had moved; gradients of sum(y * wished); the shards after a step;
the merged weight.
"""

import copy
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent / "bone"
CASES = {  # start, inputs, outputs, rank, bias
    "bone": (True, 12, 20, 4, True),
    "bone-odd": (True, 14, 20, 5, False),
    "bat": ("bat", 12, 20, 4, True),
    "bat-wide": ("bat", 20, 12, 4, False),
}


def record(folder, start, inputs, outputs, r, bias):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(inputs, outputs, bias=bias))
    found = {name.removeprefix("0."): p.detach().clone() for name, p in net.named_parameters()}
    x, wished = torch.randn(3, 5, inputs), torch.randn(3, 5, outputs)
    model = peft.get_peft_model(net, peft.BoneConfig(r=r, init_weights=start, target_modules=["0"]))
    layer = model.base_model.model[0]
    shards = layer.bone_block["default"]
    found |= {"x": x, "wished": wished, "start": model(x).detach()}
    with torch.no_grad():
        shards += 0.1 * torch.randn(shards.shape)
    model.save_pretrained(folder)
    x.requires_grad_()
    y = model(x)
    (y * wished).sum().backward()
    found |= {"y": y.detach(), "x.grad": x.grad, "shards.grad": shards.grad.clone()}
    merged = copy.deepcopy(layer)
    merged.merge()
    found["merged"] = merged.base_layer.weight.detach()
    torch.optim.AdamW([shards], lr=1e-2).step()
    found["stepped"] = shards.detach()
    save_file({name: tensor.detach().contiguous() for name, tensor in found.items()}, folder / "expected.safetensors")
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, which says nothing


if __name__ == "__main__":
    if peft.__version__ != "0.18.1":
        raise SystemExit(f"this is peft {peft.__version__}; expected 0.18.1, see above")
    for name, case in CASES.items():
        record(HERE / name, *case)
