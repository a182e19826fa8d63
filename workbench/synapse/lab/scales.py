"""Presets shared by the experiments that train networks."""

NO_PAPER = (
    "the paper's full text is not available to us, so its network sizes, learning rates, epochs and data are unknown. The scale "
    "laptop uses all of MNIST at 14 x 14 pixels and a network with 196 inputs, 100 hidden units and 10 outputs"
)
SMOKE = {"data": "digits-8x8", "pool": 1, "hidden": (30,), "samples": 3000}
LAPTOP = {"data": "mnist", "samples": 20_000}
