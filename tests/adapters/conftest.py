"""Small models on which adapters are tried."""

import pytest
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, wide: int, bias: bool):
        super().__init__()
        self.up = nn.Linear(width, wide, bias=bias)
        self.down = nn.Linear(wide, width, bias=bias)

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(x)))


class Net(nn.Module):
    """Two blocks and a head; `up` has more outputs than inputs, `down` fewer."""

    def __init__(self, width: int = 96, wide: int = 160, bias: bool = True, dtype: torch.dtype = torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(width, wide, bias) for _ in range(2))
        self.head = nn.Linear(width, 5)
        self.to(dtype)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture
def net():
    """Makes a small net."""
    return Net
