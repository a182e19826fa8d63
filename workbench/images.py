"""Read labelled images from a NumPy archive or from the four IDX files of MNIST, without unpickling."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workbench.checksums import remembered

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Images(NamedTuple):
    """Grey images ``(n, height, width)`` and labels ``(n,)``, all uint8, in a training and a test part."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def read(path: Path) -> Images:
    """Read the images in an ``.npz`` archive, or in a folder with the four IDX files, which may be gzip-compressed.

    Raises ValueError with the name of the file if an array is missing, is damaged, or has a wrong shape or type.
    """
    try:
        if path.is_dir():
            arrays = [_idx(path, name) for name in IDX]
        else:
            with np.load(path) as archive:  # nothing is unpickled: NumPy refuses arrays of objects by default
                arrays = [archive[name] for name in ARRAYS]
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} has no readable images ({error}); expected an .npz archive with the arrays {', '.join(ARRAYS)}, or a folder "
            "with the four IDX files of MNIST"
        ) from error
    except Exception as error:  # zipfile and zlib raise their own types of errors
        raise ValueError(f"{path} is damaged ({error}); download or copy the file again") from error
    images = Images(*arrays)
    for x, y in (images[:2], images[2:]):
        if x.ndim != 3 or y.shape != x.shape[:1] or x.dtype != np.uint8 or y.dtype != np.uint8:
            raise ValueError(
                f"{path} holds {x.dtype} images of shape {x.shape} and {y.dtype} labels of shape {y.shape}; "
                "expected uint8 images of shape (n, height, width) and uint8 labels of shape (n,)"
            )
    return images


def _idx(folder: Path, name: str) -> np.ndarray:
    """Read an IDX file of uint8 values.

    The file consists of two zero bytes, the byte 0x08 (type uint8), the number of axes (one byte), the length of each axis
    (big-endian uint32), and the data.
    """
    plain, zipped = folder / name, folder / f"{name}.gz"
    data = gzip.decompress(zipped.read_bytes()) if zipped.exists() else plain.read_bytes()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{name} is not an IDX file of type uint8")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start], ">u4").astype(int)
    if len(data) - start != shape.prod():
        raise ValueError(f"{name} has {len(data) - start} bytes of data, but its header specifies {shape.prod()}")
    return np.frombuffer(data[start:], np.uint8).reshape(shape)


@remembered
def digest(path: Path) -> str:
    """Return the SHA-256 of the arrays' shapes and bytes, so that the same images have the same checksum in any file format."""
    found = hashlib.sha256()
    for array in read(path):
        found.update(repr(array.shape).encode())
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()
