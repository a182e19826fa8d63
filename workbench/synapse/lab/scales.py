"""The scales of what trains networks."""

NO_PAPER = (
    "the paper's full text could not be had: its sizes, rates, epochs and data are not public to us. Scale laptop is full "
    "MNIST at 14 x 14, 196-100-10"
)
SMOKE = {"data": "digits-8x8", "pool": 1, "hidden": (30,), "samples": 3000}
LAPTOP = {"data": "mnist", "samples": 20_000}
