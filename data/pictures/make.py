"""Make the bundled pictures of clothes from Debian's package. Each run of this script gives the same arrays.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb .
    python make.py usr/share/datasets/fashion-mnist

The data set fashion-mnist-10k contains the first 10,000 training images of Fashion-MNIST, shuffled with a fixed seed. The last
fifth is the test set, as in mnist-10k. The data set contains no test image of Fashion-MNIST.
"""

import sys
from pathlib import Path

import numpy as np

from workbench.images import read


def main(folder: Path) -> None:
    images = read(folder)
    x, y = images.x_train[:10_000], images.y_train[:10_000]
    order, cut = np.random.Generator(np.random.PCG64(0)).permutation(len(x)), 8_000
    x, y = x[order], y[order]
    path = Path(__file__).with_name("fashion-mnist-10k.npz")
    np.savez_compressed(path, x_train=x[:cut], y_train=y[:cut], x_test=x[cut:], y_test=y[cut:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
