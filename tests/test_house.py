"""The rules of the house that a machine can check."""

import ast
import inspect
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from workbench.quantization import SolverConfig, quantize_layer

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "workbench").rglob("*.py"))


def test_environment_and_pyproject_name_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["channels"] == ["conda-forge"]
    *packages, pip = conda["dependencies"]
    assert pip == {"pip": ["-e ."]}
    ours = {Requirement(text).name: str(Requirement(text).specifier) for text in project["dependencies"]}
    ours["python"] = project["requires-python"]
    theirs = {}
    for text in packages:
        if text != "pip":
            need = Requirement(text)
            theirs[{"pytorch": "torch"}.get(need.name, need.name)] = str(need.specifier)
    assert ours == theirs


def test_pins_cover_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        Requirement(line).name.lower() for line in (ROOT / ".ci/constraints.txt").read_text().splitlines()
    }
    direct = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {Requirement(text).name.lower() for text in direct} <= pins
    assert "torch==2.13.0" in (ROOT / ".ci/constraints.txt").read_text()


def test_functions_fit_on_a_screen_and_modules_in_an_evening():
    assert len(SOURCES) > 25
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 330, f"{path.name} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name} is too long"


def test_nothing_is_unpickled():
    for path in SOURCES:
        text = path.read_text()
        assert "pickle.load" not in text
        assert "allow_pickle" not in text
        assert not re.search(r"torch\.load\((?![^)]*weights_only=True)", text), path


def test_nothing_committed_names_this_machine():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(files) > 40
    for name in files:
        path = ROOT / name
        if path.suffix in {".safetensors"} or not path.exists() or name == "tests/test_house.py":
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        text = re.sub(r'"image/png": "[^"]*"', "", text)  # base64 may spell anything
        assert not re.search(r"/(root|work|home|tmp|Users)/\w", text), f"{name}: an absolute path"


def test_the_public_defaults_are_the_configs():
    """`quantize_layer` spells its options out for its readers; they are declared in SolverConfig."""
    signature = inspect.signature(quantize_layer).parameters
    options = {n: p.default for n, p in signature.items() if p.kind is p.KEYWORD_ONLY and n != "trace"}
    assert options == SolverConfig().model_dump()


@pytest.mark.parametrize("command", ["make lab", "make test"])
def test_both_commands_stand_at_the_top_of_the_readme(command):
    assert command in "".join((ROOT / "README.md").read_text().splitlines(keepends=True)[:30])
