"""A table of the stored runs, in which they can be filtered, opened, compared, deleted, exported and imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as w
import traitlets

from workbench import archive, bundles, inks, pictures, plotting, runs
from workbench.archive import Kept
from workbench.ui.panel import Panel
from workbench.ui.picture import HERE

ALL = "all experiments"
MOST = 2000  # largest number of rows in the table


class _Table(anywidget.AnyWidget):
    _esm = HERE / "browser.js"
    _css = (HERE / "panel.css").read_text(encoding="utf-8") + inks.theme()
    view = traitlets.Dict().tag(sync=True)


class RunBrowser(w.VBox):
    """A table of the runs that are stored in `root` (default: the runs folder). A panel below the table shows an opened run.

    Each action of the table is also a method: `show`, `open_run`, `compare`, `delete`, `export`, and `bring` (import). While the
    table is visible, it adds new runs automatically.
    """

    def __init__(self, root: Path | None = None):
        self.root, self.experiment, self.found = root, ALL, []
        self.table = _Table()
        super().__init__([self.table])
        self.show()
        self.table.on_msg(lambda widget, content, buffers: self._told(content, buffers))

    def __repr__(self) -> str:
        return "RunBrowser"

    def show(self, experiment: str = "", message: str = "", svg: str = "") -> None:
        """Read the stored runs again, and list those of `experiment`, which may be ``all experiments``.

        If `experiment` is empty, the last choice is kept. `message` is shown above the table instead of a summary, and `svg` is
        a picture that is shown below the table.
        """
        self.experiment = experiment or self.experiment
        self._known = self._ids()
        others: list[str] = []
        every = archive.kept(self.root, others.append)
        names = [ALL, *sorted({run.experiment for run in every})]
        self.experiment = self.experiment if self.experiment in names else ALL
        self.found = [run for run in every if self.experiment in (ALL, run.experiment)][:MOST]
        one = self.experiment != ALL
        knobs = archive.differing(self.found) if one else []
        numbers = list(dict.fromkeys(name for run in self.found for name in run.last)) if one else []
        about = ["records", "seconds", "kB", "finished"]
        columns = [*knobs, *(n for n in numbers if n not in knobs), *about]
        if not one:
            columns = ["experiment", *reversed(about), "changed knobs"]  # the widest column is placed last
        size = sum(run.size for run in self.found) / 1e6
        self.table.view = {
            "experiments": names,
            "experiment": self.experiment,
            "columns": columns,
            "knobs": knobs or ["finished"],
            "numbers": numbers,
            "rows": [self._row(run, knobs, numbers) for run in self.found],
            "message": message
            or "; ".join([f"{runs_of(self.found)}, {size:.1f} MB", "tick runs to open, export or delete them", *others]),
            "svg": svg,
        }

    def look(self) -> None:
        """List the runs again if some were saved or deleted. The browser calls this repeatedly while the table is visible."""
        if self._ids() != self._known:
            self.show()
        self.table.send({"do": "looked"})

    def _ids(self) -> set[str]:
        return {path.parent.name for path in (self.root or runs.runs_folder()).glob(f"*/{archive.ABOUT}")}

    def _row(self, run: Kept, knobs: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
        changed = ", ".join(f"{name}={value}" for name, value in run.knobs.items())
        row = {
            "id": run.id,
            "experiment": run.experiment,
            "changed knobs": changed,
            "records": run.records,
            "seconds": run.seconds,
        }
        row |= {"kB": round(run.size / 1e3), "finished": run.finished[:19].replace("T", " ")}
        row |= {name: run.last.get(name) for name in numbers}
        return row | {name: _cell(run.config.get(name)) for name in knobs}

    def open_run(self, ids: Sequence[str]) -> Panel:
        """Open the first of the runs `ids` in a panel, and pin those others there that have the same experiment."""
        chosen = self._chosen(ids)
        first, *others = chosen
        panel = Panel(first.experiment, archive.config_of(first), runs.load(archive.folder_of(first.id, self.root)))
        for other in others:
            records = runs.load(archive.folder_of(other.id, self.root))
            if other.experiment == first.experiment and records:
                panel.pin_run(archive.config_of(other), records)
        self.children = [self.table, panel]
        return panel

    def compare(self, ids: Sequence[str], number: str, along: str) -> None:
        """Plot a value in the last record of each of the runs `ids` against a knob. For `number` and `along`, see `draw`."""
        found = [run for run in self._chosen(ids) if isinstance(run.last.get(number), (int, float))]
        self.show(message=f"{number} of {len(found)} runs against {along}", svg=pictures.markup(draw(found, number, along)))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the runs with these ids."""
        archive.delete(ids, self.root)
        self.show(message=f"runs deleted: {len(ids)}")

    def export(self, ids: Sequence[str]) -> Path:
        """Write these runs to one ZIP file in the subfolder ``exports`` of the runs folder, and offer the file for download."""
        names = [run.id for run in self._chosen(ids)]
        path = (self.root or runs.runs_folder()) / "exports" / f"runs-{len(names)}-{names[0]}.zip"
        bundles.export(names, path, self.root)
        self.table.send({"do": "download", "name": path.name}, buffers=[path.read_bytes()])
        self.show(message=f"saved exports/{path.name} in the runs folder, and downloaded")
        return path

    def bring(self, file: str, data: bytes) -> list[str]:
        """Import the runs of an uploaded bundle (a ZIP file named `file` with the bytes `data`), and return the new runs' ids."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bundle.zip"
            path.write_bytes(data)
            try:
                new = bundles.bring(path, self.root)
            except runs.RunError as error:
                raise runs.RunError(str(error).replace(str(path), Path(file).name)) from error
        self.show(
            message=f"{len(new)} new runs imported from {Path(file).name}; {bundles.FORGED}"
            if new
            else f"no new runs: all runs in {Path(file).name} are already in the runs folder"
        )
        return new

    def _chosen(self, ids: Sequence[str]) -> list[Kept]:
        by_id = {run.id: run for run in self.found}
        chosen = [by_id[name] for name in ids if name in by_id]
        if not chosen:
            raise runs.RunError("no run is chosen: tick a run in the table")
        return chosen

    def _told(self, content: dict[str, Any], buffers: list[Any]) -> None:
        given = {key: value for key, value in content.items() if key != "do"}
        acts: dict[str, Callable[..., object]] = {
            "show": self.show,
            "open": self.open_run,
            "compare": self.compare,
            "delete": self.delete,
            "export": self.export,
        }
        acts["look"] = self.look
        acts["bring"] = lambda file: self.bring(file, bytes(buffers[0]))
        try:
            acts[content["do"]](**given)
        except Exception as error:  # every error is shown as one line
            self.show(message=f"{content.get('do')}: {error}")


def runs_of(found: Sequence[Kept]) -> str:
    """Return the number of runs as text, such as ``2 runs``."""
    return f"{len(found)} run{'s' * (len(found) != 1)}"


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def draw(found: Sequence[Kept], number: str, along: str) -> Any:
    """Plot the value that is called `number` in the last record of each run against the knob that is called `along`.

    If `along` is ``finished``, the horizontal axis is the time at which each run was finished. A line joins the runs that
    have the same values of all other knobs.
    """
    others = [name for name in archive.differing(found) if name != along]
    colours = (inks.BLUE, inks.RED, inks.GREEN, inks.ORANGE, inks.PINK, inks.SKY, inks.GREY)
    groups: dict[str, list[tuple[Any, float]]] = {}
    for run in found:
        name = ", ".join(f"{other} {_cell(run.config.get(other))}" for other in others)
        at = run.finished if along == "finished" else _cell(run.config.get(along))
        groups.setdefault(name, []).append((at, run.last[number]))
    with plotting.figure() as fig:
        axes = fig.subplots()
        numeric = all(isinstance(at, (int, float)) for points in groups.values() for at, _ in points)
        for place, (name, points) in enumerate(groups.items()):
            points = sorted(points, key=lambda point: point[0] if numeric else str(point[0]))
            xs = [at if numeric else str(at) for at, _ in points]
            axes.plot(xs, [y for _, y in points], "o-", color=colours[place % len(colours)], label=name or number)
        axes.set_xlabel(along, parse_math=False)
        axes.set_ylabel(number, parse_math=False)
        if 1 < len(groups) <= 12:
            for entry in axes.legend().get_texts():
                entry.set_parse_math(False)
    return fig
