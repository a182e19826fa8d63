"""Tests of reading images from NumPy archives and IDX files: checksums do not depend on the format, and damage is reported."""

import gzip
import struct

import numpy as np
import pytest

from workbench import datasets, images
from workbench.datasets import DataError


@pytest.fixture
def made():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (30, 4, 5), np.uint8), generator.integers(0, 256, (10, 4, 5), np.uint8)
    y = generator.integers(0, 10, 30, np.uint8), generator.integers(0, 10, 10, np.uint8)
    return images.Images(x[0], y[0], x[1], y[1])


def write_idx(folder, made, zipped=False):
    folder.mkdir()
    for name, array in zip(images.IDX, made, strict=True):
        data = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)


def write_npz(path, made):
    np.savez(path, **dict(zip(images.ARRAYS, made, strict=True)))


def test_the_same_pictures_have_the_same_checksum_in_any_format(tmp_path, made):
    write_npz(tmp_path / "a.npz", made)
    write_idx(tmp_path / "plain", made)
    write_idx(tmp_path / "zipped", made, zipped=True)
    paths = [tmp_path / name for name in ("a.npz", "plain", "zipped")]
    assert len({images.digest(path) for path in paths}) == 1
    for path in paths:
        for read, wanted in zip(images.read(path), made, strict=True):
            np.testing.assert_array_equal(read, wanted)
    write_npz(tmp_path / "b.npz", made._replace(y_test=made.y_test[::-1].copy()))
    assert images.digest(tmp_path / "b.npz") != images.digest(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", ["cut", "missing", "shape", "dtype", "object", "idx"])
def test_damage_is_named(tmp_path, made, damage):
    path = tmp_path / "a.npz"
    write_npz(path, made)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "missing":
        np.savez(path, x_train=made.x_train)
    elif damage == "shape":
        write_npz(path, made._replace(y_test=made.y_test[:-1]))
    elif damage == "dtype":
        write_npz(path, made._replace(x_test=made.x_test.astype(float)))
    elif damage == "object":  # the archive contains a pickle
        write_npz(path, made._replace(x_test=np.array([{}], dtype=object)))
    else:
        path = tmp_path / "idx"
        write_idx(path, made)
        (path / images.IDX[0]).write_bytes((path / images.IDX[0]).read_bytes()[:-7])
    with pytest.raises(ValueError, match=path.name):
        images.read(path)


def test_a_damaged_set_of_the_user_is_told_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "mnist.npz").write_bytes(b"PK not an archive")
    with pytest.raises(DataError, match=r"(?s)mnist.npz.*workbench fetch mnist"):
        datasets.load("mnist")


def test_the_bundled_digits_are_the_first_of_mnist():
    small = datasets.load("mnist-10k")
    try:
        full = datasets.load("mnist")
    except DataError as error:
        pytest.skip(str(error))
    training = {x.tobytes(): int(y) for x, y in zip(full.x_train[:10_000], full.y_train[:10_000], strict=True)}
    for x, y in ((small.x_train, small.y_train), (small.x_test, small.y_test)):
        assert all(training[picture.tobytes()] == label for picture, label in zip(x, y, strict=True))
    tests = {x.tobytes() for x in full.x_test}
    assert not any(picture.tobytes() in tests for picture in small.x_train)


@pytest.mark.parametrize(("name", "shape"), [("mnist", (60_000, 28, 28)), ("fashion-mnist", (60_000, 28, 28))])
def test_full_sets_by_name(name, shape):
    try:
        found = datasets.load(name)
    except DataError as error:
        pytest.skip(str(error))
    assert found.x_train.shape == shape
    assert np.bincount(found.y_test).shape == (10,)
