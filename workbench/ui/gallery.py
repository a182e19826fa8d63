"""A list of experiments, with the panel of the chosen experiment."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as w

from workbench.experiment import get
from workbench.ui.panel import Panel


class Gallery(w.VBox):
    """A dropdown list of the experiments `names`, with the panel of the chosen experiment below it.

    At first, the first experiment is chosen. Each panel starts with the knobs of the preset `scale`.
    """

    def __init__(self, names: Sequence[str], scale: str = "laptop"):
        self._scale, self.panels = scale, {}
        options = [(f"{name.partition('/')[2]}: {get(name).summary}", name) for name in names]
        self.choice = w.Dropdown(options=options, description="figure", layout=w.Layout(width="99%"), tooltip="figure")
        self.choice.observe(lambda change: self._open(change["new"]), "value")
        super().__init__([self.choice])
        self._open(self.choice.value)

    def __repr__(self) -> str:
        return f"Gallery({', '.join(name for _, name in self.choice.options)})"

    def _open(self, name: str) -> None:
        if name not in self.panels:
            self.panels[name] = Panel(name, get(name).config.at(self._scale))
        self.children = [self.choice, self.panels[name]]
