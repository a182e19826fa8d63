"""Load image data sets as rows of numbers, split into training, validation and test parts."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from workbench import datasets, phases

BRIGHTEST = {"digits-8x8": 16}  # value of a white pixel; 255 for all other data sets


class Digits(NamedTuple):
    """Images as rows with values in [0, 1], and their labels.

    The validation part is the last sixth of the original training part. Settings such as learning rates are chosen on it.
    """

    x: Tensor  # (n, inputs) float32
    labels: Tensor  # (n,) int64
    x_validation: Tensor
    labels_validation: Tensor
    x_test: Tensor
    labels_test: Tensor


@lru_cache(maxsize=4)
def load_digits(name: str, pool: int = 1) -> Digits:
    """Load the data set `name`, and average its images over squares of `pool` x `pool` pixels.

    Raises ValueError if `pool` does not divide the width of the images.
    """
    phases.say(f"reading {name}")
    images = datasets.load(name)
    side = images.x_train.shape[1]
    if side % pool:
        raise ValueError(f"pool={pool}: expected a divisor of {side}, the width in pixels of the images in {name}")

    def rows(pixels) -> Tensor:
        squares = torch.tensor(pixels).float().div(BRIGHTEST.get(name, 255))
        squares = squares.unfold(1, pool, pool).unfold(2, pool, pool)
        return squares.mean((-1, -2)).reshape(len(pixels), -1).contiguous()

    x, labels = rows(images.x_train), torch.tensor(images.y_train).long()
    cut = len(x) - len(x) // 6
    test = rows(images.x_test), torch.tensor(images.y_test).long()
    return Digits(x[:cut], labels[:cut], x[cut:], labels[cut:], *test)
