"""Widgets and tables for notebook cells without a panel.

They show a figure, the schematic drawing of a method, the picture of an experiment, or the ledger of a method (the table of its
claims with their verdicts). The picture and the ledger are those of the reference records, which are part of the repository.
Below them, the reader can unfold the picture or the ledger of the current runs.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import HTML, display
from matplotlib.figure import Figure

from workbench import inks, papers, pictures, runs, schematics
from workbench.experiment import Experiment, Record, get
from workbench.intervals import judging_rows
from workbench.knobs import Config
from workbench.ui.picture import HERE, Picture, with_png


class Still(anywidget.AnyWidget):
    """Figures in the colours of the page, each with a caption below it. A saved notebook shows them as one PNG."""

    _esm = HERE / "panel.js"
    _css = (HERE / "panel.css").read_text(encoding="utf-8") + inks.theme()
    spec = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)

    def __init__(self, *figures: tuple[Figure, str]):
        self.figures = [figure for figure, _ in figures]
        each = "".join(
            f'<figure>{pictures.markup(figure)}<figcaption class="wb-caption">{html.escape(caption)}</figcaption></figure>'
            for figure, caption in figures
        )
        told = " ".join(caption for _, caption in figures)
        kind = "wb-still wb-several" if len(figures) > 1 else "wb-still"
        super().__init__(picture={"svg": f'<div class="{kind}">{each}</div>', "story": told, "titled": True})

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        found = super()._repr_mimebundle_(**kwargs)
        return with_png(found, pictures.stacked(self.figures), self.picture["story"] or "a figure")


def drawing(figure: Figure, caption: str = "") -> Still:
    """Return a widget that shows a matplotlib figure in the colours of the page's theme."""
    return Still((figure, caption))


def schematic(*methods: str) -> Still:
    """Return a widget with the schematic drawing and the caption of each of the given methods."""
    return Still(*((found.draw(), found.caption) for found in map(schematics.schematic, methods)))


class Beside(Picture):
    """The picture of an experiment's reference records, with the picture of `records` folded below it.

    If there are no reference records, only the picture of `records` is shown.
    """

    def __init__(self, experiment: str | Experiment, config: Config, records: Sequence[Record], scale: str):
        super().__init__(experiment)
        reference = papers.reference_records(self.experiment.name)
        told, here = self.drawing.story(records, config), f"This run: scale {scale}, {_about(config, records)}"
        shown = self.drawing.draw(records)
        markup = _figure(here, shown)
        if reference:
            laptop = self.experiment.config.at("laptop")
            reason = papers.outdated(self.experiment, laptop)
            caption = f"Committed reference: scale laptop, {_about(laptop, reference)}{'; ' + reason if reason else ''}"
            self.drawing.figure = None  # so that the next figure does not replace the figure of this run
            shown, small = self.drawing.draw(reference), shown
            folded = (
                f"<details><summary>{html.escape(here)}</summary><p>{html.escape(told)}</p>{pictures.markup(small)}</details>"
            )
            markup = _figure(caption, shown) + folded
            told = self.drawing.story(reference, laptop)
        self.picture = {"svg": f'<div class="wb-beside">{markup}</div>', "story": told, "titled": True, "place": "", "seq": 0}


def _figure(caption: str, drawn: Figure) -> str:
    return f"<figure><figcaption><b>{html.escape(caption)}</b></figcaption>{pictures.markup(drawn)}</figure>"


def _about(config: Config, records: Sequence[Record]) -> str:
    """Return a text with the model, if the experiment has one, and the number of seeds or of records."""
    seeds = len({r["seed"] for r in judging_rows(records) if "seed" in r})
    count = f"{seeds} seeds" if seeds > 1 else "1 seed" if seeds else f"{len(records)} records"
    model = getattr(config, "model", "")
    return f"{Path(model).name}, {count}" if model else count


def beside(experiment: str | Experiment, scale: str) -> list[Record]:
    """Run an experiment with the preset `scale`, show its picture, and return the records.

    If the experiment has reference records, their picture is shown, with the picture of this run folded below it.
    """
    found = get(experiment)
    config = found.config.at(scale)
    records = list(runs.stream(found, config))
    display(Beside(found, config, records, scale))
    return records


def ledgers(method: str, scale: str) -> None:
    """Show the ledger of a method from the reference records, with the ledger from the runs at scale `scale` folded below it."""
    display(papers.styled(papers.ledger(method, "reference")))
    here = papers.styled(papers.ledger(method, scale)).to_html()
    display(HTML(f"<details><summary>The same claims, judged at scale {html.escape(scale)}</summary>{here}</details>"))
