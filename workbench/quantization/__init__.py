"""Compensation-based quantization of a layer: RTN, GPTQ, GPTAQ, ResComp, the exact target."""

from workbench.quantization.config import METHODS, SolverConfig
from workbench.quantization.fast_solver import LayerResult, LayerSolver
from workbench.quantization.quantize import layer_solver, quantize_layer
from workbench.quantization.statistics import layer_statistics

__all__ = [
    "METHODS",
    "LayerResult",
    "LayerSolver",
    "SolverConfig",
    "layer_solver",
    "layer_statistics",
    "quantize_layer",
]
