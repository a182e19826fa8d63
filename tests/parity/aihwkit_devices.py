"""The devices whose curves are compared with aihwkit's; run as a script it prints their parameters for aihwkit_curves.py."""

import json

from workbench.synapse import Exponential, LinearStep, aihwkit_parameters, exponential_step

QUIET = {"dw_min_dtod": 0.0, "dw_min_std": 0.0, "w_max_dtod": 0.0, "w_min_dtod": 0.0, "up_down_dtod": 0.0}
STEP = {"gamma_up": 5.0, "gamma_down": 5.0, "a": -0.5, "b": -0.5}
DEVICES = {
    "linear": Exponential(64),
    "mirrored nu=3": Exponential(64, 3.0, 3.0),
    "abrupt LTD": Exponential(64, 1.0, 10.0),
    "Ag:a-Si": Exponential(97, 2.003, 4.992, False, 100),
    "linear-step": LinearStep(64, 0.3, 0.6),
    "ReRAM-ES": exponential_step(100, weight_up=-1.18445, weight_down=-0.081404, **STEP),
}


def parameters(name):
    if name == "ReRAM-ES":
        weights = {"A_up": -1.18445, "A_down": -0.081404, "dw_min": 0.02, "w_max": 1.0, "w_min": -1.0, "up_down": 0.0}
        return "ExpStepDevice", {**weights, **STEP, **QUIET}
    return "LinearStepDevice", aihwkit_parameters(DEVICES[name])


if __name__ == "__main__":
    made = [dict(zip(("name", "class", "parameters"), (name, *parameters(name)), strict=True)) for name in DEVICES]
    print(json.dumps({"devices": made}))
