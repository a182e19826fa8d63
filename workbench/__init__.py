"""Workbench: a Jupyter-first interactive workbench for five published methods."""

__version__ = "0.1.0"
