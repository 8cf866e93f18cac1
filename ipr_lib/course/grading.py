"""Grades of students' notebooks: each one runs, and the checks of its exercises say what is right.

A notebook holds any code, and that code may do whatever the person may do who grades it.
"""

import contextlib
import tempfile
from pathlib import Path

from ..evaluation.report import csv_table, write_text
from ..files import InputError, results_folder
from .exercises import SETUP, SIGNS, kind_of
from .notebooks import kernel_config, list_notebooks

CELL_SECONDS = 600  # that one cell may take; then it is stopped, and the next one begins
RESULTS = {True: "passed", False: "failed", None: "open"}
HEADER = ["notebook", "exercise", "result", "why"]


def grade(paths: list[Path], profile: str, table: Path) -> tuple[list[list[str]], int]:
    """Run the checks of students' notebooks.

    Args:
        paths: of the notebooks; each name begins with the number of the course's, as 06_maria.ipynb.
        profile: a profile's name, with which the notebooks run.
        table: csv file to write; it is complete after each notebook.

    Returns:
        rows of HEADER, one for each exercise; and how many notebooks could not be graded, which
        have one row that says why.
    """
    rows = []
    n_bad = 0
    for path in paths:
        try:
            results = _grade_one(path, profile)
        except InputError as error:
            n_bad += 1
            results = [["–", "not graded", str(error)]]
        rows += [[str(path), *result] for result in results]
        write_text(table, csv_table(HEADER, rows))
    return rows, n_bad


def _grade_one(path, profile):
    """Rows (exercise, result, why) of one notebook; InputError where it cannot be graded."""
    import papermill

    number = path.name[:2]
    known = [course.name[:2] for course in list_notebooks()]
    if number not in known:
        raise InputError(
            f"its name begins with {number!r}; expected the course's number, 00 to {known[-1]}"
        )
    (course,) = list_notebooks([number])
    checks = _checks(_read(course))
    notebook = _read(path)
    theirs = _checks(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # what stands there may come from another version of an answer
    for exercise, cell in theirs.items():
        if exercise in checks:
            # The course's check, and its function: a student may have changed either.
            cell.source = f"{SETUP}\n{checks[exercise].source}"
    parameters = {
        "profile": profile,
        "seed": 0,
        "overrides": {},
        "results_dir": str(results_folder()),
    }
    ready = papermill.execute_notebook(
        notebook, None, parameters, prepare_only=True, kernel_name="python3", language="python"
    )
    executed = _run(ready, course.parent)
    answered = _checks(executed)
    rows = []
    for exercise in checks:
        if exercise in answered:
            rows.append([exercise, *_result(answered[exercise])])
        else:
            rows.append([exercise, "failed", "its check is missing"])
    return rows


def _read(path):
    """A notebook; InputError where the file is none."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}") from error
    # A damaged notebook breaks its reader in a dozen ways; each means the same to a user.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"it is no notebook ({type(error).__name__}: {reason})") from error
    return notebook


def _checks(notebook):
    """{"1": cell} of the checks of a notebook's exercises.

    Cells are told by their tags and order; an id that names the exercise goes first, for cells may
    have been moved or deleted.
    """
    cells = [cell for cell in notebook.cells if kind_of(cell) == "check"]
    found = {}
    for cell in cells:
        parts = cell.get("id", "").split("-")
        if len(parts) == 3 and parts[0] == "ex" and parts[2] == "check":
            found[parts[1]] = cell
    if found:
        return found
    return {str(k): cell for k, cell in enumerate(cells, start=1)}


def _run(notebook, folder):
    """Run a notebook to its end, whatever its cells raise.

    Args:
        notebook: is changed.
        folder: working folder.

    Returns:
        the notebook with its outputs; where the kernel died, up to there.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    with tempfile.TemporaryDirectory(prefix="ipr-") as scratch:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            interrupt_on_timeout=True,
            allow_errors=True,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            config=kernel_config(scratch),
        )
        with contextlib.suppress(DeadKernelError):  # a cell ended it; what follows has no output
            client.execute()
    return notebook


def _result(cell):
    """(result, why) by the output of an executed check."""
    for output in cell.outputs:
        if output.output_type == "error":
            return "failed", f"{output.ename}: {output.evalue}".partition("\n")[0]
        text = output.get("data", {}).get("text/plain", "")
        for right, (sign, word, _) in SIGNS.items():
            if output.output_type == "execute_result" and text.startswith(f"{sign} {word}"):
                why = text.removeprefix(f"{sign} {word}").removeprefix(": ")
                return RESULTS[right], why.partition("\n")[0]
    return "failed", "the kernel ended before this check"
