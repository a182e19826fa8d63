"""For each method, a drawing that shows its idea, and a caption of two sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench import methods
from workbench.knobs import KnobError
from workbench.registry import SCHEMATICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 670, 190  # pixels


@dataclass(frozen=True)
class Schematic:
    """A drawing and its caption; ``draw()`` returns the figure."""

    draw: Callable[[], Figure]
    caption: str


def declare(method: str, draw: Callable[[Axes], None], caption: str) -> None:
    """Register the drawing of a method and its caption.

    ``draw(axes)`` draws into empty axes. Coordinates are in pixels, and the origin is the upper left corner.
    """

    def drawn() -> Figure:
        from workbench.plotting import figure

        with figure(WIDTH, HEIGHT, layout=None) as made:
            axes = made.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
            axes.set_axis_off()
            draw(axes)
            return made

    SCHEMATICS[method] = Schematic(drawn, caption)


def schematic(method: str) -> Schematic:
    """Return the drawing of a method. Its lab (see `methods`), which declares the drawing, is imported first if necessary.

    Raises KnobError if the method has no drawing.
    """
    if method in methods.methods():
        methods.load(method)
    if method not in SCHEMATICS:
        raise KnobError(f"method {method!r} has no schematic; expected one of {', '.join(sorted(SCHEMATICS))}")
    return SCHEMATICS[method]
