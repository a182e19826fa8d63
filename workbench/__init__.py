"""Workbench: Jupyter notebooks, interactive panels and reproducible runs for published machine-learning methods."""

__version__ = "0.1.0"
