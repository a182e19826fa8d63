"""Quantization of a linear layer with rounding to nearest (RTN), GPTQ, GPTAQ, ResComp, or our method `exact`.

The method `exact` shifts the weights once and then runs GPTQ. The module `column_loop` is the shortest description of the
methods. Read it first.
"""

from workbench.quantization.column_loop import column_loop
from workbench.quantization.config import METHODS, SolverConfig
from workbench.quantization.fast_solver import LayerResult, LayerSolver
from workbench.quantization.quantize import layer_solver, quantize_layer
from workbench.quantization.statistics import layer_statistics

__all__ = [
    "METHODS",
    "LayerResult",
    "LayerSolver",
    "SolverConfig",
    "column_loop",
    "layer_solver",
    "layer_statistics",
    "quantize_layer",
]
