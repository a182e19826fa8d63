"""The widgets of the notebooks, such as panels with knobs and a live picture. Only this package imports ipywidgets."""

from workbench.ui.browser import RunBrowser
from workbench.ui.exercise import Exercises
from workbench.ui.gallery import Gallery
from workbench.ui.panel import Panel
from workbench.ui.picture import Picture, show
from workbench.ui.still import beside, drawing, ledgers, schematic

__all__ = ["Exercises", "Gallery", "Panel", "Picture", "RunBrowser", "beside", "drawing", "ledgers", "schematic", "show"]
