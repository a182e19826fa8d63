"""What a dashboard refuses to serve; tests/browser serves one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbench.ui import dashboard


@pytest.mark.parametrize("name", ["nothing.ipynb", "notes.txt"])
def test_only_notebooks_are_served(name, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="expected a notebook, such as"):
        dashboard.serve(tmp_path / name)


def test_a_theme_that_is_none_and_a_port_that_is_taken(tmp_path):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text("{}")
    with pytest.raises(ValueError, match="--theme pink: expected light or dark"):
        dashboard.serve(notebook, theme="pink")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"--port \d+: .*expected a free port"):
            dashboard.serve(notebook, port=taken.getsockname()[1])


def test_without_voila_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install voila"):
        dashboard.serve(tmp_path / "a.ipynb")


def test_it_is_on_loopback_with_a_token_and_warm():
    made = dashboard.settings(8866, "secret", "dark", False)
    assert made["Voila"]["ip"] == "127.0.0.1"
    assert made["Voila"]["token"] == "secret"
    assert made["VoilaConfiguration"]["preheat_kernel"]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "notebooks").glob("**/*.ipynb")), ids=lambda p: p.stem)
def test_the_prose_of_a_dashboard_mentions_no_toolbar(path):
    before, after = (json.loads(text)["cells"] for text in (path.read_text(), dashboard.without_toolbar(path.read_text())))
    prose = ["".join(cell["source"]) for cell in after if cell["cell_type"] == "markdown"]
    assert any("▶▶" in "".join(cell["source"]) for cell in before)
    assert not any("▶▶" in text for text in prose)
    assert all(text.count("**") % 2 == 0 for text in prose)
    assert sum(map(len, prose)) > 0.9 * sum(len("".join(c["source"])) for c in before if c["cell_type"] == "markdown")


NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "synapse" / "01-explore.ipynb"


@pytest.mark.parametrize(("said", "after"), [("Ctrl+C stops it", 0.0), ("is filled", 0.5), ("is filled", 4.0)])
def test_ctrl_c_ends_it_without_a_traceback_and_its_kernels_with_it(said, after, tmp_path):
    """Also while a kernel is warming up, which was asked to end in the midst of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "dashboard", str(NOTEBOOK), "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "WORKBENCH_RUNS": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in what a shell starts with &
    )  # fmt: skip
    lines = []
    while not lines or said not in lines[-1]:
        lines.append(process.stdout.readline())
        assert process.poll() is None, lines
    time.sleep(after)
    kernels = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode in (0, 130)
    assert "Traceback" not in rest, rest
    assert "ERROR" not in rest, rest
    _, alive = psutil.wait_procs(kernels, timeout=120)
    assert not alive
