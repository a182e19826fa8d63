"""Execute notebooks with papermill, with stricter checks than papermill's own.

papermill only warns about unknown parameters, sets no time limit by default, and marks all cells as completed even if
the kernel has died. Here, an unknown parameter is an error, each cell has a time limit, and each code cell must have an
execution count afterwards.
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

# two kernels that start at the same time may choose the same ports; one of them then dies before it executes a cell
STARTS, NEVER_STARTED = 3, "Kernel died before replying to kernel_info"


def execute(path: Path, out: Path, parameters: Mapping[str, Any] | None = None, timeout: int = 600) -> Any:
    """Execute the notebook at `path` with `parameters`, write the result to `out`, and return it.

    `timeout` is the time limit of each cell in seconds. Raises KnobError if the notebook does not exist or does not
    declare one of the parameters, and RunError if a cell fails, exceeds the time limit or is not executed.
    """
    import nbformat
    import papermill

    if not path.exists():
        raise KnobError(f"no notebook {path}; expected the path of an .ipynb file, such as one in notebooks/")
    _known(path, parameters or {})
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(f".{os.getpid()}.partial.ipynb")
    try:
        _papermill(path, partial, dict(parameters or {}), timeout)
        found = nbformat.read(partial, as_version=4)
        missed = [c for c in found.cells if c.cell_type == "code" and c.source.strip() and c.execution_count is None]
        if missed:
            raise RunError(
                f"{path.name}: the kernel died, and {len(missed)} cells were not executed; the first is {missed[0].source[:80]!r}"
            )
        os.replace(partial, out)
        return found
    except RunError:
        raise
    except papermill.PapermillExecutionError as error:
        raise RunError(f"{path.name}, cell {error.exec_count}: {error.ename}: {error.evalue}") from error
    except (RuntimeError, TimeoutError) as error:  # the kernel died, or a cell exceeded its time limit
        raise RunError(f"{path.name}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}") from error
    finally:
        partial.unlink(missing_ok=True)


WIDGET = "application/vnd.jupyter.widget-view+json"


def settle(path: Path) -> None:
    """Remove widget views and memory addresses from the outputs of a saved notebook.

    A widget view needs a running kernel. Without the view, readers see the static image or text that is stored in the same
    output. Memory addresses would differ after each execution and appear in every diff.
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
            print(f"{path.name}: the kernel died while it was starting; trying again", file=sys.stderr)


def _known(path: Path, parameters: Mapping[str, Any]) -> None:
    import papermill

    offered = papermill.inspect_notebook(str(path))
    for name in parameters:
        if name not in offered:
            near = difflib.get_close_matches(name, offered, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"parameters: {', '.join(offered)}"
            raise KnobError(f"{path.name} has no parameter {name!r}; {hint}")
