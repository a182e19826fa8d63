"""Tests use a runs folder of their own; models and activations are cached where the user has them."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("WORKBENCH_RUNS", str(folder))
    return folder
