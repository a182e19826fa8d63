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
    pins = {Requirement(line).name.lower() for line in (ROOT / ".ci/constraints.txt").read_text().splitlines()}
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


METHODS = sorted(p.parent.name for p in (ROOT / "workbench").glob("*/lab"))
HOUSE = (
    "atomic",
    "checksums",
    "datasets",
    "models",
    "rwkv6",
    "blocks",
    "digits",
    "images",
    "checkpoints",
    "knobs",
    "phases",
    "provenance",
    "compiling",
    "training",
)


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports, at its top or in its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("method", METHODS)
def test_methods_do_not_know_each_other_and_algorithms_know_only_what_they_compute_with(method):
    folder = ROOT / "workbench" / method
    others = [f"workbench.{other}" for other in (*METHODS, "ui", "notebooks") if other != method]
    for path in folder.rglob("*.py"):
        assert not [m for m in imported(path) if m.startswith(tuple(others))], path
    for path in {*folder.rglob("*.py")} - {*(folder / "lab").rglob("*.py")}:
        ours = {m.split(".")[1] for m in imported(path) if m.startswith("workbench.")}
        assert ours <= {method, *HOUSE}, f"{path}: {ours}"
        assert not [m for m in imported(path) if m.partition(".")[0] in ("matplotlib", "ipywidgets")], path


def test_the_house_knows_no_method():
    for path in [*(ROOT / "workbench").glob("*.py"), *(ROOT / "workbench" / "ui").glob("*.py")]:
        named = [m for m in imported(path) for method in METHODS if m.startswith(f"workbench.{method}")]
        assert not named, f"{path}: {named}"


def test_private_names_stay_in_their_module():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        own = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
        own |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workbench"):
                private = [a.name for a in node.names if a.name.startswith("_")]
                assert not private, f"{path}: imports {private}"
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                of = node.value.id if isinstance(node.value, ast.Name) else ""
                known = of in ("self", "cls") or node.attr in own or node.attr in NAMED_TUPLE
                known |= ast.unparse(node).startswith("torch._foreach_")  # the way that torch's own optimizers take
                assert known, f"{path}:{node.lineno}: {ast.unparse(node)}"


NAMED_TUPLE = ("_asdict", "_replace", "_fields", "_repr_mimebundle_", "_exit")


def test_what_a_reader_is_sent_to_can_be_found():
    """No text cites a note that is not in the repository."""
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), ROOT / "README.md", *(ROOT / "notebooks").rglob("*.ipynb")]
    for path in files:
        if path.name != "test_house.py":
            found = re.findall(
                r"(?i)our note|the note's|research note|\(note, \d|note, section|notes? \d\.\d|of the note\b", path.read_text()
            )
            assert not found, f"{path}: {found}"


def test_nothing_is_unpickled():
    for path in SOURCES:
        text = path.read_text()
        assert "pickle.load" not in text
        assert "allow_pickle" not in text
        assert not re.search(r"torch\.load\((?![^)]*weights_only=True)", text), path


def test_no_code_of_a_models_folder_is_run():
    """Where it is not said, transformers asks on the terminal."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                assert "trust_remote_code=False" in ast.unparse(node), f"{path}:{node.lineno}"


def test_nothing_committed_names_this_machine():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
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
