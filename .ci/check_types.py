"""Run mypy. Fail on an error in the public interface, or if the total exceeds the number in `.ci/type-errors.txt`.

A smaller total replaces that number. The public interface is the list of modules that pyproject.toml checks strictly.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).with_name("type-errors.txt")

done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
errors = [line for line in done.stdout.splitlines() if re.search(r": error: ", line)]
if not re.search(r"^(Found \d+ error|Success: )", done.stdout, re.MULTILINE):  # mypy itself failed
    sys.exit(done.stdout + done.stderr)
parts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
public = {name.replace(".", "/") for part in parts for name in part["module"]}
wrong = [line for line in errors if line.partition(".py:")[0].removesuffix("/__init__") in public]
most, count = int(KEPT.read_text()), len(errors)
if wrong:
    sys.exit("\n".join([*wrong, f"mypy: {len(wrong)} errors on the public interface; expected none: correct them"]))
if count > most:
    sys.exit("\n".join([*errors, f"mypy: {count} errors; expected at most {most} ({KEPT.name}): correct the new ones"]))
if count < most:
    KEPT.write_text(f"{count}\n")
print(f"mypy: the public interface is clean; {count} errors elsewhere (it was {most})")
