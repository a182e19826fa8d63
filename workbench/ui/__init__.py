"""The panel of knobs and the live figure: the only place that knows ipywidgets."""

from workbench.ui.exercise import Exercise
from workbench.ui.gallery import Gallery
from workbench.ui.live import LiveFigure, show
from workbench.ui.panel import Panel

__all__ = ["Exercise", "Gallery", "LiveFigure", "Panel", "show"]
