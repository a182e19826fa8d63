"""Write an experiment as one HTML file, which needs neither a server nor a kernel.

The page of a run replays this run. An instant experiment is one that a panel computes again at each move of a knob. Its page
holds pictures for a lattice of knob values (all combinations of a few values of some knobs), so that these knobs can be moved.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench import inks, pictures, runs
from workbench.experiment import Experiment, get
from workbench.knobs import Config, KnobError, text_of
from workbench.ui.inputs import inputs
from workbench.ui.panel import Panel
from workbench.ui.picture import HERE
from workbench.ui.replay import MOST, Frames, Replay

LARGEST = 3_000_000  # largest number of characters of a page
FEWEST = 3  # a page that is too large is not reduced to fewer pictures of a run, or fewer values of a knob, than this
ALONG = 9  # largest number of values of a knob in a lattice
COLOURS = {  # the colours of JupyterLab's light and dark themes that a panel uses
    "ui-font-color1": ("#212121", "#dedede"), "ui-font-color2": ("#616161", "#9e9e9e"), "layout-color0": ("#ffffff", "#111111"),
    "layout-color1": ("#ffffff", "#212121"), "layout-color2": ("#eeeeee", "#424242"), "border-color1": ("#bdbdbd", "#616161"),
    "border-color2": ("#e0e0e0", "#424242"), "brand-color1": ("#1976d2", "#2196f3"),
}  # fmt: skip


def page(experiment: str | Experiment, config: Config, over: Mapping[str, Sequence[Any]] | None = None) -> str:
    """Return the HTML page of the run of `experiment` with `config`. The run is computed if it is not stored.

    For an instant experiment, `over` maps the knobs that can be moved in the page to their values. Without `over`, at most two
    knobs can be moved; essential knobs are preferred. Raises KnobError if `over` is given for an experiment that is not instant.
    Raises ValueError if the smallest possible page is still too large.
    """
    found = get(experiment)
    if not found.instant:
        if over:
            raise KnobError(f"the page of {found.name} plays back one run, so no knob can be moved; leave out --over")
        return _replayed(found, config)
    return _latticed(found, config, over)


def _replayed(experiment: Experiment, config: Config) -> str:
    records = list(runs.stream(experiment, config))
    panel = Panel(experiment, config, records)
    most = MOST
    while most >= FEWEST:
        frames: list[dict[str, Any]] = []
        replay = Replay(1, panel.drawing, records, config, (), frames.append, most)
        for at in range(len(replay.moments)):
            replay.make(at)
        view = {"frames": {"run": 1, "count": len(frames)}, "idle": {}}
        done = _write(panel, view, frames, None, f"run {runs.run_id(experiment, config)}")
        if len(done) <= LARGEST:
            return done
        most //= 2
    raise _too_large(experiment)


def _latticed(experiment: Experiment, config: Config, over: Mapping[str, Sequence[Any]] | None) -> str:
    panel, along = Panel(experiment, config), ALONG
    while along >= FEWEST:
        lattice = dict(over) if over else _lattice(config, along)
        frames, made = [], Frames()
        for values in itertools.product(*lattice.values()):
            point = config.replace(**dict(zip(lattice, values, strict=True)))
            frames.append({**made.add(panel.drawing, runs.preview(experiment, point), point), "place": ""})
        view = {"idle": {}}
        done = _write(panel, view, frames, {k: list(v) for k, v in lattice.items()}, f"{len(frames)} knob settings")
        if len(done) <= LARGEST:
            return done
        if over:
            break
        along -= 2
    raise _too_large(experiment)


def _too_large(experiment: Experiment) -> ValueError:
    return ValueError(
        f"{experiment.name} with these knobs is too large for a page of {LARGEST / 1e6:.0f} MB: share the run itself (workbench "
        "runs --export) or, for an instant experiment, name fewer knobs or values with --over"
    )


def _lattice(config: Config, along: int) -> dict[str, list[Any]]:
    """Choose at most two knobs and return their values for the lattice.

    The values of a slider are its current value and at most `along` of its marks, which are chosen at even distances in the list
    of marks. The values of a select box are all its options. Values that `config` does not accept are left out.
    """
    idle = config.idle()
    moving = [k for k in inputs(config) if k["kind"] in ("slider", "select") and k["name"] not in idle]
    # Essential knobs come first, then linear sliders. A logarithmic slider often sets a size, and large sizes take a long time.
    moving.sort(key=lambda k: (not config.knobs()[k["name"]].essential, "low" not in k))
    found = {}
    for knob in moving[:2]:
        value, name = getattr(config, knob["name"]), knob["name"]
        if knob["kind"] == "select":
            values = [option for _, option in knob["options"]]
        else:
            marks = knob.get("marks") or _steps(knob)
            step = max((len(marks) - 1) / (along - 1), 1)
            values = sorted({value, *(marks[round(k * step)] for k in range(along) if round(k * step) < len(marks))})
        found[name] = [v for v in values if _accepted(config, name, v)]
    return found


def _steps(knob: dict[str, Any]) -> list[Any]:
    count = round((knob["high"] - knob["low"]) / knob["step"])
    whole = all(float(knob[key]).is_integer() for key in ("low", "step"))
    return [(int if whole else float)(f"{knob['low'] + k * knob['step']:.10g}") for k in range(count + 1)]


def _accepted(config: Config, name: str, value: Any) -> bool:
    try:
        config.replace(**{name: value})
    except ValueError:
        return False
    return True


def _write(panel: Panel, view: dict[str, Any], frames: list[Any], lattice: dict[str, Any] | None, made: str) -> str:
    moving = lattice or {}  # the page shows only the knobs that can be moved
    knobs = [
        {**k, "kind": "slider", "marks": moving[k["name"]]} if _numeric(moving[k["name"]]) else k
        for k in panel.spec["knobs"]
        if k["name"] in moving
    ]
    off = {"kernel": False, "code": lattice is None, "questions": [], "presets": [], "pins": False}
    spec = {**panel.spec, **off, "knobs": knobs, "groups": [["", [*moving], True]]}
    data = {
        "spec": spec,
        "view": {**panel.view, "message": made, "stale": "", "busy": False, **view},
        "picture": panel.picture,
        "frames": frames,
        "lattice": lattice,
    }
    experiment = panel.experiment
    picture = base64.b64encode(pictures.encode(panel.drawing.draw(panel.records))).decode()
    script = (HERE / "panel.js").read_text(encoding="utf-8").replace("export default", "const widget =")
    return _PAGE.format(
        title=html.escape(experiment.summary.rstrip(".")),
        summary=html.escape(f"{experiment.name}: {_settings(panel.config, moving)}"),
        css=_style(),
        # "<" is escaped, so the data cannot contain a tag that ends the script
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=script + (HERE / "page.js").read_text(encoding="utf-8"),
        story=html.escape(panel.picture["story"]),
        png=picture,
        code=html.escape(panel.code),
    )


def _settings(config: Config, moving: Mapping[str, Any]) -> str:
    """Return a text with the knobs that differ from their defaults, have an effect, and cannot be moved in the page."""
    labels, idle = {name: knob.label for name, knob in config.knobs().items()}, config.idle()
    fixed = {name: value for name, value in config.changed().items() if name not in moving and name not in idle}
    return (
        ", ".join(f"{labels.get(name, name)} = {text_of(value)}" for name, value in fixed.items())
        or "all knobs at their defaults"
    )


def _numeric(values: Sequence[Any] | None) -> bool:
    return bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _style() -> str:
    light = "".join(f"--jp-{name}:{colours[0]};" for name, colours in COLOURS.items())
    dark = "".join(f"--jp-{name}:{colours[1]};" for name, colours in COLOURS.items())
    body = (
        "body{background:var(--jp-layout-color0);color:var(--jp-ui-font-color1);font:14px system-ui,sans-serif;"
        "margin:12px auto;max-width:1100px;padding:0 12px}"
    )
    themes = f":root{{{light}}}\n[data-jp-theme-light='false']{{{dark}}}\n{body}\n"
    return themes + (HERE / "panel.css").read_text(encoding="utf-8") + inks.theme()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title><style>{css}</style></head>
<body><h1 style="font-size:18px;margin:4px 0">{title}</h1><p style="margin:4px 0 10px">{summary}</p>
<div id="wb-panel"></div>
<noscript><p>{story}</p><img alt="{story}" src="data:image/png;base64,{png}"></noscript>
<details style="margin-top:12px"><summary>Made with Workbench: Python code for this picture</summary><pre>{code}</pre></details>
<script type="application/json" id="wb-data">{data}</script>
<script type="module">{script}</script>
</body></html>
"""
