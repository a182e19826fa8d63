"""Train the bundled RWKV-6 of about a million parameters as tiny-llama was: same prose, same tokenizer, same batches.

    python data/models/tiny-rwkv6/train.py            # about ten minutes on one core

Seeded, one torch thread: the same machine gives the same weights. Writes the model (float16 safetensors, with the names of
official RWKV-6 files) and training.json beside this file.
"""

import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from workbench.rwkv6 import RWKV6, initialise

HERE = Path(__file__).parent
TEXT, TOKENIZER = HERE.parents[1] / "text", HERE.parent / "tiny-llama"
STEPS, BATCH, LENGTH, RATE = (600, 16, 256, 3e-3)  # half of tiny-llama's steps: from there on it learns the prose by heart


def tiny_rwkv6() -> RWKV6:
    """1.2M parameters: 3 blocks of width 128, 4 heads; embeddings and head are two, as RWKV has them."""
    return initialise(RWKV6(2048, 128, layers=3, head_size=32, hidden=448, lerp_rank=16, decay_rank=16))


@torch.no_grad()
def held_out_loss(model: RWKV6, tokens: torch.Tensor) -> float:
    """Mean loss in nats a token over windows of `LENGTH`."""
    windows = tokens[: len(tokens) // LENGTH * LENGTH].view(-1, LENGTH)
    losses = [model(part, labels=part).loss.item() * len(part) for part in windows.split(32)]
    return sum(losses) / len(windows)


def main() -> None:
    """Train, evaluate on the held-out prose, and save."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    text, held_out = ((TEXT / f"prose-{part}.txt").read_text(encoding="utf-8") for part in ("calibration", "evaluation"))
    tokens, check = (torch.tensor(tokenizer(t, verbose=False)["input_ids"]) for t in (text, held_out))
    model = tiny_rwkv6()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 50, 0.05 + 0.95 * (1 + math.cos(math.pi * s / STEPS)) / 2)
    )
    generator, start, log = torch.Generator().manual_seed(0), time.process_time(), []
    for step in range(STEPS):
        at = torch.randint(len(tokens) - LENGTH, (BATCH,), generator=generator)
        batch = torch.stack([tokens[i : i + LENGTH] for i in at])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            log.append({"step": step + 1, "held_out_loss": round(held_out_loss(model, check), 4)})
            print(log[-1], round(time.process_time() - start), "CPU s", flush=True)
    tensors = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_file(tensors, HERE / "model.safetensors", metadata={"format": "pt"})
    about = {"parameters": sum(p.numel() for p in model.parameters()), "training_tokens": len(tokens),
             "held_out_tokens": len(check), "held_out_bytes": len(held_out.encode()), "log": log}  # fmt: skip
    (HERE / "training.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
