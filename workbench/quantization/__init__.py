"""Compensation-based quantization of a layer: RTN, GPTQ, GPTAQ, ResComp, the exact target. To read first: `column_loop`."""

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
