"""Generate a Python program that uses PEFT to train the adapter that is configured in a panel."""

from __future__ import annotations

from typing import Any

from workbench import checkpoints
from workbench.adapters.config import LORAS
from workbench.adapters.lab.colours import NAMES

STARTS = {
    "dora": "use_dora=True",
    "rslora": "use_rslora=True",
    "olora": 'init_lora_weights="olora"',
    "lora-ga": 'use_rslora=True, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()',
}
OF_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OF_RWKV6 = ("receptance", "key", "value", "gate", "output")
GRADIENTS = """\
# {scale}
preprocess_loraga(model, config, train_step)  # train_step(): compute the loss of the first batches and call backward()
"""
FROZEN_A = """\
for name, parameter in model.named_parameters():
    if "lora_A" in name:
        parameter.requires_grad = False  # create_lorafa_optimizer of PEFT would also correct the gradient of B
"""
COMMENT = "# the same adapter with PEFT"
IMPORTS = """
import math

import torch
from workbench import models, qa
from workbench.adapters.lab import problems"""
LOAD = """lm = models.load({model!r})
model = lm.model  # or AutoModelForCausalLM.from_pretrained(...) of transformers
"""
OPTIMIZER = """trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr={lr:g}, weight_decay={decay:g})
"""
TRAIN = """samples = qa.encode(lm, problems.load({data!r}).train[:{samples}], {prompt!r}, {length})
rates = [group["lr"] for group in optimizer.param_groups]
for step in range({steps}):
    chosen = torch.randint(len(samples), ({batch},)).tolist()
    for group, rate in zip(optimizer.param_groups, rates):
        group["lr"] = rate * {schedule}
    batch = qa.collate([samples[k] for k in chosen])
    logits = model(input_ids=batch.ids).logits[batch.rows, batch.columns]  # only for the tokens of the answers
    loss = torch.nn.functional.cross_entropy(logits, batch.targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained("my-adapter")
"""
TWO_RATES = """\
optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr={lr:g}, loraplus_lr_ratio={ratio:g}, weight_decay={decay:g})
"""


def program(config: Any) -> str:
    """Return a complete program that trains and saves the adapter of `config` with PEFT.

    For Bat-row, which PEFT does not have, the result is only a comment. For full fine-tuning, which has no adapter, it is "".
    """
    made = in_peft(config)
    if not made or made.startswith("# PEFT has no"):
        return made
    head, _, rest = made.partition("\n\n")
    optimizer = OPTIMIZER.format(lr=config.lr, decay=config.weight_decay)
    if "create_loraplus_optimizer" in head:
        head, optimizer = head.replace("import torch\n", ""), ""
    fields = ("data", "prompt", "samples", "batch", "length", "steps")
    schedule = "1" if config.schedule == "constant" else f"(1 + math.cos(math.pi * step / {config.steps})) / 2"
    train = TRAIN.format(schedule=schedule, **{name: getattr(config, name) for name in fields})
    return f"{head.replace(COMMENT, COMMENT + IMPORTS, 1)}\n\n{LOAD.format(model=config.model)}{rest}\n{optimizer}{train}"


def in_peft(config: Any) -> str:
    """Return a program that adds the adapter of `config` to a model with PEFT.

    For Bat-row, which PEFT does not have, the result is only a comment. For full fine-tuning, which has no adapter, it is "".
    """
    c = config
    if c.method in ("bat-row", "full"):
        return f"# PEFT has no {NAMES[c.method]}" if c.method == "bat-row" else ""
    made = _config(c)
    names = [made.partition("(")[0], "get_peft_model"]
    lines = [f"config = {made}", "model = get_peft_model(model, config)"]
    if c.method == "lora-ga":
        names += ["LoraGAConfig", "preprocess_loraga"]
        scale = "the panel uses the scale of the authors' program; the scale of PEFT differs from it"
        if c.compat == "peft":
            scale = "the panel also uses the scale of PEFT"
        lines.insert(1, GRADIENTS.format(scale=scale).strip())
    imports = [f"from peft import {', '.join(sorted(names))}"]
    if c.method == "lora-fa":
        lines.append(FROZEN_A.strip())
    if c.method == "lora+":
        imports = ["import torch", *imports, "from peft.optimizers import create_loraplus_optimizer"]
        lines.append(TWO_RATES.format(lr=c.lr, ratio=c.ratio, decay=c.weight_decay).strip())
    return "\n".join((COMMENT, *imports, "", *lines))


def _config(c: Any) -> str:
    """Return the Python expression that creates PEFT's config."""
    given = {"r": c.r}
    kind, more = "LoraConfig", STARTS.get(c.method, "")
    if c.method in LORAS:
        given["lora_alpha"] = f"{c.numerator:g}"
    if c.method == "pissa":
        more = f'init_lora_weights="pissa{f"_niter_{c.iterations}" if c.iterations else ""}"'
    elif c.method == "hira":
        kind = "HiraConfig"
    elif c.method not in LORAS:
        kind = "MissConfig"
        own = {"mini": f'mini_r={c.q or c.r}, init_weights="mini"', "bat-col": 'init_weights="bat"'}
        more = own.get(c.method, "")
    if c.dropout:
        given[f"{kind.removesuffix('Config').lower()}_dropout"] = f"{c.dropout:g}"
    said = [f"{name}={value}" for name, value in given.items()] + [more] * bool(more)
    said.append(f"target_modules={_targets(c)}")
    short = f"{kind}({', '.join(said)})"
    return short if len(short) < 100 else f"{kind}(\n    " + ",\n    ".join(said) + ",\n)"


def _targets(c: Any) -> str:
    if c.targets:
        return repr([*c.targets])
    if c.model == checkpoints.TINY_RWKV6 or c.model.endswith(".pth"):
        return repr([*OF_RWKV6])  # PEFT resolves "all-linear" only for models of transformers
    if c.method == "lora-ga":  # the gradients of LoRA-GA are computed before PEFT resolves "all-linear"
        return repr([*OF_LLAMA])
    return '"all-linear"'
