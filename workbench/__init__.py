"""Workbench: Jupyter notebooks, interactive panels and reproducible runs for five published machine-learning methods."""

__version__ = "0.1.0"
