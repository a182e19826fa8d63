"""What a dashboard refuses to serve; tests/browser serves one."""

import socket

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
