"""The panel of knobs and the live picture: the only place that knows ipywidgets."""

from workbench.ui.exercise import Exercise
from workbench.ui.gallery import Gallery
from workbench.ui.panel import Panel
from workbench.ui.picture import Picture, show

__all__ = ["Exercise", "Gallery", "Panel", "Picture", "show"]
