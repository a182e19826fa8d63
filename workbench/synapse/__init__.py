"""Neural networks whose weights are stored as conductances of memory devices.

The package models device responses and imperfections, update schemes, update rules, and refresh (the rewriting of pairs of
devices that saturate).
"""

from workbench.synapse.catalogue import CATALOGUE
from workbench.synapse.config import RULES, SCHEMES, SynapseConfig
from workbench.synapse.conversions import aihwkit_parameters, neurosim_label, neurosim_parameters, nonlinearity
from workbench.synapse.devices import Affine, AffineStep, Device, Exponential, LinearStep
from workbench.synapse.layer import SynapseLayer
from workbench.synapse.measured import MeasuredCurve, fit_exponential, read_curve, read_steps
from workbench.synapse.network import Perceptron, SaturationError
from workbench.synapse.tables import Table, exponential_step, power

__all__ = [
    "CATALOGUE",
    "RULES",
    "SCHEMES",
    "Affine",
    "AffineStep",
    "Device",
    "Exponential",
    "LinearStep",
    "MeasuredCurve",
    "Perceptron",
    "SaturationError",
    "SynapseConfig",
    "SynapseLayer",
    "Table",
    "aihwkit_parameters",
    "exponential_step",
    "fit_exponential",
    "neurosim_label",
    "neurosim_parameters",
    "nonlinearity",
    "power",
    "read_curve",
    "read_steps",
]
