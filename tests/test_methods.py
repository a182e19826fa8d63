"""Methods are found, not wired; what is not needed is not imported; what cannot be kept is done without."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT, SIXTH = Path(__file__).parents[1], Path(__file__).parent / "sixth"
PANEL = """
from workbench.experiment import get
from workbench import methods, papers
from workbench.ui import Panel
found = get("sixth/means")
panel = Panel(found, found.config.at("smoke"))
panel.start()
panel.wait(60)
print(panel.view["message"], panel.picture["story"])
print(papers.reported("sixth").to_string(), methods.data_folder("sixth").name)
"""


def installed(folder: Path, name: str, module: str, source: str | None = None) -> None:
    """What an installer leaves behind: the module and its entry point."""
    folder.mkdir(exist_ok=True)
    if source is None:
        shutil.copytree(SIXTH, folder, dirs_exist_ok=True)
    else:
        (folder / f"{module}.py").write_text(source)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[workbench.methods]\n{name} = {module}\n")


def python(*words: str, path: str | Path = "", **more: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(path), **more.pop("env", {})}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=300, **more)


def workbench(*words: str, path: str | Path = "", **more: object) -> subprocess.CompletedProcess:
    return python("-m", "workbench", *words, path=path, **more)


def test_a_sixth_method_in_a_package_of_its_own_appears_everywhere(tmp_path):
    assert len((SIXTH / "sixth_method.py").read_text().splitlines()) < 80
    installed(tmp_path / "site", "sixth", "sixth_method")
    listed = workbench("list", path=tmp_path / "site")
    assert "sixth/means" in listed.stdout
    assert "synapse/schemes" in listed.stdout
    assert "draws" in workbench("describe", "sixth/means", path=tmp_path / "site").stdout
    figures = workbench("figures", "sixth", path=tmp_path / "site")
    assert figures.returncode == 0, figures.stderr
    assert "robust: Trimming helps" in figures.stdout
    assert (tmp_path / "runs" / "figures" / "laptop" / "sixth-means.png").exists()
    panel = python("-c", PANEL, path=tmp_path / "site")
    assert panel.returncode == 0, panel.stderr
    assert "done: 36 records" in panel.stdout
    assert "36 samples averaged" in panel.stdout
    assert "sixth_method_data" in panel.stdout


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no such card')", "cannot be imported (RuntimeError: no such card)"),
        ("import a_package_that_is_not_there", "cannot be imported (ModuleNotFoundError"),
        ("x = 1", "declares no experiment named broken/..."),
    ],
)
def test_a_method_that_cannot_be_imported_is_reported_and_costs_nothing_else(tmp_path, source, said):
    installed(tmp_path / "site", "broken", "broken_method", source)
    listed = workbench("list", path=tmp_path / "site")
    assert listed.returncode == 0
    assert listed.stderr.count("problem with method 'broken'") == 1
    assert said in listed.stderr
    assert "quantization/terms" in listed.stdout
    asked = workbench("run", "broken/thing", path=tmp_path / "site")
    assert asked.returncode == 2
    assert said in asked.stderr


def test_an_entry_point_with_the_name_of_a_method_here_is_left_out(tmp_path):
    installed(tmp_path / "site", "synapse", "other_synapse", "x = 1")
    listed = workbench("list", path=tmp_path / "site")
    assert "other_synapse is ignored because workbench.synapse.lab has the same method name; rename" in listed.stderr
    assert "synapse/schemes" in listed.stdout


HEAVY = ("torch", "transformers", "numba", "pandas", "matplotlib", "scipy")
SEEN = """
import sys
from typer.testing import CliRunner
from workbench.__main__ import app
result = CliRunner().invoke(app, {words!r})
print(result.exit_code, [name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["run", "--help"], 0),
        (["figurs"], 2),
        (["fetch", "digits-8x8"], 0),
        (["fetch", "tiny-llama"], 0),
        (["fetch", "smollm2-135m"], 0),
    ],
)
def test_what_needs_no_library_imports_none(words, code):
    said = python("-c", SEEN.format(words=words, heavy=HEAVY))
    assert said.stdout.strip() == f"{code} []", said.stderr


def test_importing_has_no_effect_on_the_disk(tmp_path):
    env = {"HOME": str(tmp_path), "WORKBENCH_CACHE": str(tmp_path / "cache"), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    said = python("-B", "-c", "from workbench.experiment import discover; discover()", env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "runs").exists()


# another user, who may read all (root's own Python too) and write only what is everybody's
AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0 or not shutil.which("setpriv"),
    reason="only root can become another user, by setpriv",
)
def test_an_ordinary_user_with_nothing_to_write_to_but_runs(tmp_path):
    """HOME, the package's folder and the cache cannot be written: said, and done without."""
    home, runs = tmp_path / "home", tmp_path / "runs"
    for folder, mode in ((home, 0o555), (runs, 0o777)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WORKBENCH_", "XDG_", "MPL", "NUMBA"))}
    env |= {"HOME": str(home), "WORKBENCH_RUNS": str(runs), "PYTHONDONTWRITEBYTECODE": "1"}

    def as_nobody(*words: str) -> subprocess.CompletedProcess:
        command = [*AS_NOBODY, sys.executable, "-m", "workbench", *words]
        said = subprocess.run(command, capture_output=True, text=True, env=env, cwd=runs, timeout=400)
        assert said.returncode == 0, f"{words}: {said.stderr[-2000:]}"
        return said

    assert "synapse/schemes" in as_nobody("list").stdout
    small = ["--set", "model=tiny-llama", "--set", "block=1", "--set", "tokens=256"]
    said = as_nobody("run", "quantization/layer-trace", "--scale", "smoke", *small)
    assert "activations are not cached" in said.stderr
    said = as_nobody("run", "synapse/train", "--scale", "smoke")
    assert "the compiled code of the training loop of devices cannot be saved" in said.stderr
    assert "open" in as_nobody("figures", "quantization", "--scale", "smoke").stdout
