"""Train the bundled llama of about one million parameters on the bundled prose.

    python data/models/tiny-llama/train.py            # about 20 minutes on one core

Seeded, one torch thread: the same machine gives the same weights. Writes the model (float16 safetensors),
its tokenizer and training.json beside this file.
"""

import json
import math
import os
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
TEXT = HERE.parents[1] / "text"
STEPS, BATCH, LENGTH, RATE = 1200, 16, 256, 3e-3


def byte_pairs(text: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 2,048 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def tiny_llama() -> LlamaForCausalLM:
    """1.06M parameters: 4 blocks of width 128, 4 heads over 2 key-value heads, tied embeddings."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2048,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
        )
    )


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokens: torch.Tensor) -> float:
    """Mean loss in nats a token over windows of `LENGTH`."""
    model.eval()
    windows = tokens[: len(tokens) // LENGTH * LENGTH].view(-1, LENGTH)
    losses = [model(input_ids=part, labels=part).loss.item() * len(part) for part in windows.split(32)]
    model.train()
    return sum(losses) / len(windows)


def main() -> None:
    """Train, evaluate on the held-out prose, and save."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    text = (TEXT / "prose-calibration.txt").read_text(encoding="utf-8")
    held_out = (TEXT / "prose-evaluation.txt").read_text(encoding="utf-8")
    tokenizer = byte_pairs(text)
    tokens, check = (torch.tensor(tokenizer(t)["input_ids"]) for t in (text, held_out))
    model = tiny_llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 50, 0.05 + 0.95 * (1 + math.cos(math.pi * s / STEPS)) / 2)
    )
    generator, start, log = torch.Generator().manual_seed(0), time.process_time(), []
    for step in range(STEPS):
        at = torch.randint(len(tokens) - LENGTH, (BATCH,), generator=generator)
        batch = torch.stack([tokens[i : i + LENGTH] for i in at])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            log.append({"step": step + 1, "held_out_loss": round(held_out_loss(model, check), 4)})
            print(log[-1], round(time.process_time() - start), "CPU s", flush=True)
    model.half().save_pretrained(HERE)
    tokenizer.save_pretrained(HERE)
    about = {"parameters": model.num_parameters(), "training_tokens": len(tokens), "held_out_tokens": len(check),
             "held_out_bytes": len(held_out.encode()), "log": log}  # fmt: skip
    (HERE / "training.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
