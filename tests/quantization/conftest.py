"""Layers to quantize."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from made import make_layer


@pytest.fixture(scope="session")
def layer():
    return make_layer()
