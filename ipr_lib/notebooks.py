"""The course's notebooks: which there are, and running one with parameters, its exercises solved where that is asked for."""

import ast
import os
import tempfile
from pathlib import Path

from . import exercises
from .config import REPOSITORY
from .files import InputError

NOTEBOOKS = REPOSITORY / "notebooks"


def list_notebooks():
    """The course's notebooks, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def run_notebook(source, target, parameters, solutions=None):
    """Execute one notebook with parameters.

    Args:
        source: the notebook.
        target: folder for `executed.ipynb` and what the notebook writes itself.
        parameters: by name; each must stand in the notebook's parameters cell.
        solutions: notebook that solves the exercises. Each check then has to call the exercise open and the solution right.
    Raises:
        InputError: an unknown parameter name; a cell failed (the message shows its error and where the notebook lies); the
            kernel died.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config as KernelConfig

    source, target = Path(source), Path(target)
    notebook = nbformat.read(source, as_version=4)
    unknown = set(parameters) - parameter_names(notebook)
    if unknown:
        raise InputError(f"{source.name} has no parameter {', '.join(sorted(unknown))}")
    target.mkdir(parents=True, exist_ok=True)
    output = target / "executed.ipynb"
    try:
        with tempfile.TemporaryDirectory(prefix="ipr-") as scratch:  # no open port, and no warning about one
            ipc = {"transport": "ipc", "ip": f"{scratch}/kernel"} if os.name == "posix" else {}
            run = source
            if solutions is not None:
                solved = exercises.with_solutions(notebook, exercises.read_exercises(solutions), source.name)
                nbformat.write(solved, run := Path(scratch) / source.name)
            papermill.execute_notebook(
                run, output, parameters, cwd=source.parent, progress_bar=False, kernel_name="python3",
                start_timeout=600, config=KernelConfig(KernelManager=ipc),
            )
    except papermill.PapermillExecutionError as error:
        raise InputError(
            f"{source.name}: cell {error.exec_count} failed with {error.ename}: {error.evalue}; see {output}"
        ) from error
    except DeadKernelError as error:
        begun = [cell for cell in nbformat.read(output, as_version=4).cells if cell.metadata.get("papermill", {}).get("start_time")]
        where = f"in the cell that begins with `{begun[-1].source.partition(chr(10))[0]}`" if begun else "before the first cell"
        raise InputError(
            f"{source.name}: the kernel died {where}, most often for want of memory; close other programs or choose a smaller "
            f"profile, and run again; see {output}"
        ) from error


def parameter_names(notebook):
    """Names that the cell tagged `parameters` of a notebook assigns."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(f"expected one cell tagged 'parameters', found {len(cells)}")
    assigned = [node for node in ast.parse(cells[0].source).body if isinstance(node, ast.Assign)]
    return {target.id for node in assigned for target in node.targets}
