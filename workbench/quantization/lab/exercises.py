"""The exercises of the quantization notebook `02-inside`."""

from __future__ import annotations

import torch

from workbench.exercises import Exercise, declare
from workbench.quantization.lab.experiments import TwoWeightsConfig, round_two
from workbench.quantization.lab.inside import second_matrix_closed, small_layer
from workbench.quantization.quantize import quantize_layer


def _moved() -> float:
    return round_two(TwoWeightsConfig(w1=0.6, w2=0.0, shift=0.0), "gptq")[0][1]


def _added() -> float:
    upper = torch.tensor([[2.0, -0.5], [0.0, 1.0]])
    return 0.25 * 0.4 * second_matrix_closed(torch.zeros(2, 2), upper)[0, 1].item()


def _nearer() -> str:
    layer, error = small_layer(4), {}
    for method in ("gptq", "gptaq"):
        found = quantize_layer(layer.weight, layer.hessian, layer.cross, method=method, bits=2, alpha=1.0)
        error[method] = (layer.x @ found.weight.T - layer.full_precision @ layer.weight.T).norm().item()
    return min(error, key=lambda method: error[method])


declare(
    "quantization",
    Exercise(
        "Two inputs have variance 1 and correlation 0.8. Their weights are w1 and w2. The weight w1 = 0.6 is rounded to "
        "1. By how much does GPTQ change w2?",
        _moved,
        "rounding adds (1 - 0.6) x1 to the output; the best prediction of x1 from x2 is (H12 / H22) x2, and w2 must cancel the "
        "part that x2 predicts",
        "w1 is rounded to q1 = 1, so the change is -(q1 - w1) H12 / H22 = -0.4 x 0.8",
    ),
    Exercise(
        "The two streams are equal (D = 0). U_qq = 2, U_qj = -0.5, beta = 0.25 and w0 - w = 0.4. How much does r2 add to w_j?",
        _added,
        "if D = 0, then P = 0 and P2 = I - diag(U)^-1 U",
        "beta (w0 - w) P2_qj = 0.25 x 0.4 x 0.25",
    ),
    Exercise(
        "GPTAQ often prints a larger loss than GPTQ. Which of the two has the smaller output error ||QX - W0 Xref|| on the small "
        "layer, at 2 bits and alpha = 1? (gptq, gptaq)",
        _nearer,
        "the printed loss is the objective of GPTQ only; compute the output error of both methods",
        "the printed loss sums only the rounding errors of the columns; the difference between the streams, which GPTAQ "
        "compensates, is not part of this loss",
    ),
)
