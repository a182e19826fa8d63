"""Execute a notebook by papermill, and believe only what was seen to run.

papermill warns about an unknown parameter and goes on, has no time limit, and marks every cell completed even when
the kernel died: here an unknown name is an error, a cell has a limit, and each code cell must carry its count.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.knobs import KnobError
from workbench.runs import RunError

# two kernels that start at once may pick the same ports, and one of them dies before it has run a line
STARTS, NEVER_STARTED = 3, "Kernel died before replying to kernel_info"


def execute(path: Path, out: Path, parameters: Mapping[str, Any] | None = None, timeout: int = 600) -> Any:
    """Execute the notebook at `path` with `parameters` into `out`; returns the executed notebook.

    Raises KnobError for a parameter the notebook does not have, RunError where a cell fails or did not run.
    """
    import nbformat
    import papermill

    if not path.exists():
        raise KnobError(f"no notebook {path}; notebooks are under notebooks/")
    _known(path, parameters or {})
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(f".{os.getpid()}.partial.ipynb")
    try:
        _papermill(path, partial, dict(parameters or {}), timeout)
        found = nbformat.read(partial, as_version=4)
        missed = [c for c in found.cells if c.cell_type == "code" and c.source.strip() and c.execution_count is None]
        if missed:
            raise RunError(f"{path.name}: {len(missed)} cells did not run, the first: {missed[0].source[:80]!r}; the kernel died")
        os.replace(partial, out)
        return found
    except RunError:
        raise
    except papermill.PapermillExecutionError as error:
        raise RunError(f"{path.name}, cell {error.exec_count}: {error.ename}: {error.evalue}") from error
    except (RuntimeError, TimeoutError) as error:  # the kernel died, or a cell took too long
        raise RunError(f"{path.name}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}") from error
    finally:
        partial.unlink(missing_ok=True)


WIDGET = "application/vnd.jupyter.widget-view+json"


def settle(path: Path) -> None:
    """Leave out of a saved notebook the views of widgets, which need their kernel (a reader sees their picture or text).

    And where objects lay in memory: it would stand in every diff.
    """
    import nbformat

    found = nbformat.read(path, as_version=4)
    for cell in found.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "text/plain" in data:
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+>", ">", data["text/plain"])
    nbformat.write(found, path)


def _papermill(path: Path, out: Path, parameters: dict[str, Any], timeout: int) -> None:
    import papermill

    for start in range(1, STARTS + 1):
        try:
            papermill.execute_notebook(
                str(path), str(out), parameters, cwd=str(path.parent), execution_timeout=timeout,
                progress_bar=False, log_output=False,
            )  # fmt: skip
            return
        except RuntimeError as error:
            if start == STARTS or NEVER_STARTED not in str(error):
                raise
            print(f"{path.name}: the kernel died before it had started; trying again", file=sys.stderr)


def _known(path: Path, parameters: Mapping[str, Any]) -> None:
    import papermill

    offered = papermill.inspect_notebook(str(path))
    for name in parameters:
        if name not in offered:
            near = difflib.get_close_matches(name, offered, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"parameters: {', '.join(offered)}"
            raise KnobError(f"{path.name} has no parameter {name!r}; {hint}")
