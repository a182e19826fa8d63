"""Pulse responses of aihwkit 1.1.0, the oracle for ours: parameters come in, curves go out. Run in a peer environment:

.venv/bin/python tests/parity/aihwkit_devices.py | \
    .venv-peers/aihwkit/bin/python tests/parity/aihwkit_curves.py > tests/parity/aihwkit_curves.json
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from aihwkit.simulator.configs import SingleRPUConfig
from aihwkit.simulator.configs import devices as classes
from aihwkit.utils.visualization import compute_pulse_response, get_tile_for_plotting

PULSES = 90  # up, and then down


def curve(kind, parameters):
    device = getattr(classes, kind)(**parameters)
    tile = get_tile_for_plotting(SingleRPUConfig(device=device), 1, noise_free=True)
    tile.set_weights(torch.tensor([[-1.0]]))
    directions = np.array([1.0] * PULSES + [-1.0] * PULSES)
    return [round(float(w), 7) for w in compute_pulse_response(tile, directions).flatten()]


found = json.load(sys.stdin)
for device in found["devices"]:
    device["curve"] = curve(device["class"], device["parameters"])
print(json.dumps({**found, "aihwkit": version("aihwkit"), "torch": version("torch")}, indent=1))
