"""Serve a notebook as a dashboard with Voila. The dashboard shows the text and the panels, but not the code."""

from __future__ import annotations

import json
import re
import secrets
import signal
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

HOST = "127.0.0.1"
# Voila's page loads icons from an external server. Panels do not need them, and the page would wait for them if the network drops
# packets. So this policy only permits requests to the dashboard's own server.
OWN = "'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
POLICY = f"default-src {OWN}; connect-src 'self' ws: wss:; frame-ancestors 'self'"


def settings(port: int, token: str, theme: str, browser: bool) -> dict[str, dict]:
    """Return Voila's configuration. Voila listens on the loopback address, asks for a token, and runs the notebook in advance."""
    server = {"ip": HOST, "port": port, "port_retries": 0, "token": token, "open_browser": browser}
    headers = {"Content-Security-Policy": POLICY}
    return {
        "Voila": {**server, "tornado_settings": {"headers": headers}},
        "VoilaConfiguration": {"theme": theme, "preheat_kernel": True, "strip_sources": True},
    }


def serve(notebook: Path, port: int = 0, theme: str = "light", browser: bool = True) -> None:
    """Serve `notebook` until Ctrl+C is pressed. Port 0 selects a free port.

    Raises ValueError if Voila is not installed, if there is no such notebook or theme, or if the port is not free.
    """
    if find_spec("voila") is None:
        raise ValueError("Voila, which serves dashboards, is not installed: run pip install voila")
    if notebook.suffix != ".ipynb" or not notebook.is_file():
        raise ValueError(f"{notebook}: no such notebook; expected a notebook, such as notebooks/synapse/01-explore.ipynb")
    if theme not in ("light", "dark"):
        raise ValueError(f"--theme {theme}: expected light or dark")
    import psutil
    from tornado.ioloop import IOLoop
    from traitlets.config import Config
    from voila.app import Voila

    class Dashboard(Voila):
        """A Voila server that kills its kernels when it stops. Otherwise, a kernel that is starting would print a traceback."""

        def listen(self) -> None:
            loop = IOLoop.current()

            def end(*_: Any) -> None:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl+C does not wait for the loop
                loop.add_callback_from_signal(loop.stop)

            # A KeyboardInterrupt in the midst of a task, such as the rendering of a page, would be printed with a traceback.
            signal.signal(signal.SIGINT, end)
            super().listen()

        def stop(self) -> None:
            for child in psutil.Process().children(recursive=True):
                child.kill()
            super().stop()

    with socket.socket() as free:
        try:
            free.bind((HOST, port))
        except OSError as error:
            raise ValueError(f"--port {port}: {error.strerror}; expected a free port, or 0 to choose one automatically") from None
        port = free.getsockname()[1]
    token = secrets.token_urlsafe(24)
    app = Dashboard(config=Config(settings(port, token, theme, browser)))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / notebook.name
        copy.write_text(without_toolbar(notebook.read_text(encoding="utf-8")), encoding="utf-8")
        app.initialize([str(copy)])
        typer.echo(f"{notebook.name} is served at http://{HOST}:{port}/?token={token} (ready in a few seconds; Ctrl+C stops it)")
        app.start()


def without_toolbar(text: str) -> str:
    """Return the notebook `text` without the sentences that ask the reader to press a button of JupyterLab's toolbar."""
    found = json.loads(text)
    for cell in found["cells"]:
        if cell["cell_type"] == "markdown":
            prose = "".join(cell["source"]) if isinstance(cell["source"], list) else cell["source"]
            cell["source"] = re.sub(r"(\*\*)?Press [^.]*▶▶[^.]*\.(\*\*)?\s*", "", prose)
    return json.dumps(found)
