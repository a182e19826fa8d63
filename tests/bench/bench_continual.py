"""CLASSP's step against torch's fused optimizers, as ratios within one run: one thread, turn by turn, the best of each.

make bench
"""

from __future__ import annotations

import time

import torch

from workbench.continual import CLASSP

TENSORS, ROUNDS, IN_A_ROW = (
    16,
    12,
    4,
)  # a few steps of each in a row, so that what it holds is in the cache as in training


def weights(count: int) -> list[torch.Tensor]:
    """So many weights in several tensors, with gradients."""
    made = [torch.randn(count // TENSORS).requires_grad_() for _ in range(TENSORS)]
    for weight in made:
        weight.grad = 0.1 * torch.randn_like(weight)
    return made


def main() -> None:
    """Print milliseconds a step, and the share of AdamW's."""
    torch.set_num_threads(1)
    for count in (16_000, 2_000_000, 16_000_000):
        optimizers = {
            "AdamW fused": torch.optim.AdamW(weights(count), 1e-3, fused=True),
            "Adagrad fused": torch.optim.Adagrad(weights(count), 1e-3, fused=True),
            "SGD fused": torch.optim.SGD(weights(count), 1e-3, fused=True),
            "CLASSP p=1": CLASSP(weights(count), 1e-3),
            "CLASSP p=1, threshold": CLASSP(weights(count), 1e-3, threshold=1e-3),
            "CLASSP p=2": CLASSP(weights(count), 1e-3, power=2.0),
            "CLASSP p=3": CLASSP(weights(count), 1e-3, power=3.0),
            "CLASSP loop": CLASSP(weights(count), 1e-3, form="loop"),
        }
        best = dict.fromkeys(optimizers, float("inf"))
        for _ in range(ROUNDS):
            for name, optimizer in optimizers.items():
                for _ in range(IN_A_ROW):
                    start = time.process_time()
                    optimizer.step()
                    best[name] = min(best[name], time.process_time() - start)
        print(f"{count:,} weights")
        for name, seconds in best.items():
            print(f"  {name:22} {1000 * seconds:8.3f} ms  {seconds / best['AdamW fused']:.2f} of AdamW fused")


if __name__ == "__main__":
    main()
