"""Every notebook runs by papermill at scale smoke, in seconds; and as committed it can be compared by nbval."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from workbench import notebooks, papers, runs
from workbench.experiment import get
from workbench.knobs import KnobError
from workbench.runs import RunError

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in str(p))
IDS = [str(p.relative_to(ROOT / "notebooks")) for p in NOTEBOOKS]
CPU = 300  # seconds of the processor at scale smoke: five times half a minute on two cores, since a busy one is slower too
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)


def cells(path, tag=None):
    found = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return [c for c in found if tag is None or tag in c.metadata.get("tags", [])]


def test_the_notebooks_are_there():
    assert len(NOTEBOOKS) == 13


@every
def test_runs_by_papermill_in_seconds_of_the_processor(path, tmp_path, monkeypatch):
    if kept := os.environ.get("NOTEBOOK_RUNS"):  # make keeps them for nbval
        monkeypatch.setenv("WORKBENCH_RUNS", kept)
    before = os.times()
    found = notebooks.execute(path, tmp_path / path.name, {"scale": "smoke"}, timeout=600)
    spent = os.times()  # of children that have ended: the kernel and its workers
    used = spent.children_user + spent.children_system - before.children_user - before.children_system
    print(f"{path.name}: {used:.1f} s of the processor")
    assert 0 < used < CPU
    assert [o.output_type for c in found.cells if c.cell_type == "code" for o in c.outputs].count("error") == 0


def test_the_schemes_that_a_parameter_cell_offers_run(tmp_path):
    """Not only the default: push-pull is also the default's rival."""
    path = ROOT / "notebooks" / "synapse" / "01-explore.ipynb"
    found = notebooks.execute(path, tmp_path / path.name, {"scheme": "push-pull", "rule": "single"}, timeout=600)
    assert "software is ahead of all" in str(found)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if "01" in p.name or "00" in p.name], ids=lambda path: path.parent.name)
def test_little_is_read_before_the_first_panel(path):
    words = 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "Panel(" in cell.source:
            break
        lines = cell.source.splitlines() if cell.cell_type == "markdown" else []
        words += len(" ".join(line for line in lines if not line.startswith("#")).split())
    assert words <= 80


@every
def test_nbval_has_something_to_compare(path):
    checked = cells(path, "nbval-check-output")
    assert checked
    for cell in checked:
        assert cell.execution_count, "a cell without a count is run and never compared"
        assert cell.outputs, cell.source
    assert all(c.execution_count for c in cells(path)), "commit notebooks executed: make notebooks"


@every
def test_outputs_are_clean_and_quiet(path, tmp_path):
    text = path.read_text()
    (tmp_path / path.name).write_text(text)
    notebooks.settle(tmp_path / path.name)
    assert (tmp_path / path.name).read_text() == text, "run: make notebooks"
    assert not re.search(r"/(root|work|home|tmp|Users)/", re.sub(r'"image/png": "[^"]*"', "", text)), "an absolute path"
    notebook = json.loads(text)
    assert "widgets" not in notebook["metadata"]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(path):
        assert "execution" not in cell.metadata
        assert len(cell.source.splitlines()) <= 22, cell.source
        assert not re.search(r"^\s*(def|class) ", cell.source, re.M), "definitions live in the package"
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
    command = ["--keep-output", "--keep-count", "--extra-keys"]
    keys = "metadata.widgets cell.metadata.execution metadata.language_info.version"
    stripped = subprocess.run(
        [sys.executable, "-m", "nbstripout", *command, keys, "-t", str(path)], capture_output=True, text=True, check=True
    )
    assert json.loads(stripped.stdout) == notebook, "run: make notebooks"


@every
def test_parameters_are_one_cell_of_plain_values_with_help(path):
    (cell,) = cells(path, "parameters")
    assert cell.source == next(c for c in cells(path) if "schematic(" not in c.source).source
    for line in cell.source.splitlines():
        name, value, *_ = re.match(r"(\w+) = (.*?)  # ", line).groups()
        assert isinstance(ast.literal_eval(value), (str, int, float)), name
    assert 'scale = "smoke"' in cell.source or path.name == "02-inside.ipynb"
    assert set(papermill.inspect_notebook(str(path)))


@pytest.mark.parametrize("experiment", ["quantization/layer-trace", "synapse/train"])
def test_knobs_in_the_parameters_are_the_configs(experiment):
    """01-explore's knobs have the names and defaults of the config: declared once, and held to it."""
    found = get(experiment)
    offered = papermill.inspect_notebook(str(ROOT / "notebooks" / found.method / "01-explore.ipynb"))
    config = found.config.at("smoke")
    for name, parameter in offered.items():
        if name not in ("scale", "link"):
            assert ast.literal_eval(parameter["default"]) == getattr(config, name), name


def test_a_model_from_a_four_bit_file_is_named_as_such():
    for path in NOTEBOOKS:
        text = "".join(c.source for c in nbformat.read(path, as_version=4).cells)
        assert "SmolLM2" not in text or "4-bit file" in text, path.name


def test_papermill_the_command_line_and_the_panel_give_one_run(tmp_path, runs_folder):
    explore = ROOT / "notebooks/quantization/01-explore.ipynb"
    notebooks.execute(explore, tmp_path / "out.ipynb", {"bits": 4, "method": "gptq"}, timeout=600)
    trace = get("quantization/layer-trace")
    config = trace.config.at("smoke", bits=4, method="gptq")
    assert runs.find(trace, config), "papermill's knobs made another run"
    from workbench.ui import Panel

    panel = Panel(trace, trace.config.at("smoke"))
    panel.set(bits=4, method="gptq")
    assert runs.run_id(trace, panel.config) == runs.run_id(trace, config)


def test_a_link_opens_the_panel_as_it_was(tmp_path, runs_folder):
    explore = ROOT / "notebooks/quantization/01-explore.ipynb"
    runs.run("quantization/layer-trace", "smoke", bits=5, method="rtn")
    link = "quantization/layer-trace@2?block=1&tokens=1024&group_size=64&every=64&bits=5&method=rtn"
    found = notebooks.execute(explore, tmp_path / "out.ipynb", {"link": link}, timeout=600)
    outputs = [o for c in found.cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    assert any("rounded to 32 levels" in o.data.get("text/plain", "") for o in outputs)


@pytest.mark.parametrize(
    ("parameters", "error", "said"),
    [
        ({"bitz": 4}, KnobError, "has no parameter 'bitz'; did you mean 'bits'"),
        ({"bits": 99}, RunError, "bits=99: expected one of 2, 3"),
        ({"scale": "paper"}, RunError, "7 billion parameters"),
    ],
)
def test_wrong_parameters_are_refused(parameters, error, said, tmp_path):
    with pytest.raises(error, match=re.escape(said)):
        notebooks.execute(ROOT / "notebooks/quantization/01-explore.ipynb", tmp_path / "out.ipynb", parameters, 120)
    assert list(tmp_path.glob("*.ipynb")) == [], "no half-made notebook is left"


@pytest.mark.parametrize(("code", "said"), [("import os; os._exit(9)", "died"), ("while True: pass", "(?i)time")])
def test_a_dead_or_hanging_kernel_is_no_success(code, said, tmp_path):
    path = tmp_path / "bad.ipynb"
    cell = nbformat.v4.new_code_cell("a = 1  # x", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("1")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    with pytest.raises(RunError, match=said):
        notebooks.execute(path, tmp_path / "out.ipynb", timeout=5)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(("deaths", "fails"), [(1, False), (9, True)])
def test_a_kernel_that_lost_the_race_for_its_ports_is_started_again(deaths, fails, tmp_path, monkeypatch, capsys):
    """Two kernels that start at once may pick the same ports; that is no failure of the notebook, but it has an end."""
    path, left = tmp_path / "small.ipynb", [deaths]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    real = papermill.execute_notebook

    def unlucky(*args, **kwargs):
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return real(*args, **kwargs)

    monkeypatch.setattr(papermill, "execute_notebook", unlucky)
    if fails:
        with pytest.raises(RunError, match="Kernel died before replying"):
            notebooks.execute(path, tmp_path / "out.ipynb")
        assert left[0] == deaths - notebooks.STARTS
    else:
        notebooks.execute(path, tmp_path / "out.ipynb")
        assert (tmp_path / "out.ipynb").exists()
        assert "trying again" in capsys.readouterr().err


def test_what_is_not_public_is_said_so():
    """The synapse paper could be read only in its abstract: every notebook says so, none claims its numbers."""
    for path in (ROOT / "notebooks" / "synapse").glob("*.ipynb"):
        text = "".join(c.source for c in nbformat.read(path, as_version=4).cells)
        assert "full text is not public" in text, path.name


@pytest.mark.parametrize("method", ["adapters", "continual", "quantization", "synapse"])
def test_the_ledger_of_the_reference_is_whole(method):
    ledger = papers.ledger(method, "reference")
    assert not ledger["measured"].str.match("not run yet|the reference records are of").any()
