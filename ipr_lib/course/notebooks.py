"""The course's notebooks: which there are, the example that they follow, how to run one."""

import base64
import re
import tempfile
from pathlib import Path

import numpy as np

from ..data.h36m_layout import parse_folder_name
from ..files import REPOSITORY, InputError, atomic_path, can_be_socket
from . import exercises

NOTEBOOKS = REPOSITORY / "notebooks"
# One example that the whole course follows: raw frame, crop, volume, joints in mm, its error in
# the final table.
# A greeting of S11, whom no network is trained on: subject, action, subaction, camera.
EXAMPLE = (11, 5, 1, 3)
EXAMPLE_FRAME = 1  # the second of its frames in use


class NotebookFailed(InputError):
    """A notebook did not run to its end, or several; the message says which, where and why."""

    exit_code = 1


def list_notebooks(numbers: list[str] | None = None) -> list[Path]:
    """The course's notebooks, in order.

    Args:
        numbers: "00", "06", … of those to list; all by default.

    Raises:
        InputError: no notebook has such a number, or there are none, as in an installed copy.
    """
    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise InputError(
            f"{NOTEBOOKS} holds no notebooks: they lie in the folder `notebooks` of the repository, and an installed "
            "copy of the library comes without them; run this in a checkout, after `pip install -e .`"
        )
    if numbers is None:
        return notebooks
    unknown = set(numbers) - {path.name[:2] for path in notebooks}
    if unknown:
        raise InputError(f"no notebook {', '.join(sorted(unknown))}")
    return [path for path in notebooks if path.name[:2] in numbers]


def run_notebook(
    source: str | Path, target: str | Path, parameters: dict, solutions: str | Path | None = None
) -> None:
    """Execute one notebook with parameters.

    Args:
        source: the notebook.
        target: folder for `executed.ipynb`, its figures, and what the notebook writes itself.
        parameters: by name; each must stand in the notebook's parameters cell.
        solutions: notebook that solves the exercises. Each check must then find the exercise open, and the solution right.

    Raises:
        InputError: a parameter's name is unknown.
        NotebookFailed: a cell failed, or the kernel died.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    source, target = Path(source), Path(target)
    notebook = nbformat.read(source, as_version=4)
    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise InputError(f"{source.name} has no parameter {', '.join(sorted(unknown))}")
    if solutions is not None:
        found = exercises.read_exercises(solutions)
        notebook = exercises.with_exercises(notebook, found, source.name, solved=True)
    target.mkdir(parents=True, exist_ok=True)
    output = target / "executed.ipynb"
    with tempfile.TemporaryDirectory(prefix="ipr-") as scratch:
        run = Path(scratch) / source.name
        nbformat.write(notebook, run)
        try:
            papermill.execute_notebook(
                run,
                output,
                parameters,
                cwd=source.parent,
                progress_bar=False,
                kernel_name="python3",
                start_timeout=600,
                config=kernel_config(scratch),
            )
        except papermill.PapermillExecutionError as error:
            reason = f"{error.ename}: {error.evalue}" if str(error.evalue) else error.ename
            place = _place(error.exec_count, failed_line(error.traceback))
            raise NotebookFailed(
                f"{source.name} stopped {place}: {reason}; see {output}"
            ) from error
        except DeadKernelError as error:
            place = _place(*_last_begun(nbformat.read(output, as_version=4)))
            raise NotebookFailed(
                f"{source.name} stopped {place}: the kernel died, most often because memory ran out; close other "
                f"programs or choose a smaller profile, and run again; see {output}"
            ) from error
    save_figures(nbformat.read(output, as_version=4), target / "figures")


def save_figures(notebook, folder: str | Path) -> None:
    """Write the figures that an executed notebook shows as SVG or PNG, each named after its cell.

    Args:
        notebook: executed.
        folder: made where there is a figure; a file of the same name is replaced.
    """
    for cell in notebook.cells:
        pictures = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/svg+xml" in data:
                pictures.append((".svg", data["image/svg+xml"].encode()))
            elif "image/png" in data:
                pictures.append((".png", base64.b64decode(data["image/png"])))
        for number, (suffix, content) in enumerate(pictures):
            name = cell.id if number == 0 else f"{cell.id}-{number + 1}"
            with atomic_path(Path(folder) / f"{name}{suffix}") as temporary:
                temporary.write_bytes(content)


def kernel_config(folder: str | Path):
    """How to reach a notebook's kernel.

    Args:
        folder: for the time that the kernel runs.

    Returns:
        traitlets Config.
    """
    from traitlets.config import Config as KernelConfig

    kernel = f"{folder}/kernel"
    if not can_be_socket(f"{kernel}-1"):  # names end in -1 to -5
        return KernelConfig()
    # A socket in a file opens no port, and brings no warning about one.
    return KernelConfig(KernelManager={"transport": "ipc", "ip": kernel})


def _place(number, line):
    """Where a notebook stopped: execution number and line of the cell, each None where it is not known."""
    where = "before the first cell" if number is None else f"in cell [{number}]"
    return f"{where}, at `{line}`" if line else where


def failed_line(traceback: list[str]) -> str | None:
    """The line of a notebook's cell that raised an error.

    Args:
        traceback: as IPython gives it, a text for each frame, colours included; an arrow marks the line.

    Returns:
        the line without its number, or None where no frame is a cell's.
    """
    found = None
    for frame in traceback:
        text = re.sub(r"\x1b\[[0-9;]*m", "", frame)
        arrow = re.search(r"^-+> ?\d+ (.*)", text, flags=re.MULTILINE)
        if text.startswith("Cell In") and arrow:
            found = arrow[1].strip()
    return found


def _last_begun(notebook):
    """(execution number, first line) of the cell in which a kernel died; (None, None) where none was begun."""
    number, line = None, None
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(codes, start=1):
        if cell.metadata.get("papermill", {}).get("start_time"):
            number, line = count, cell.source.partition("\n")[0]
    return number, line


# --- the example ---


def example_folder(folders: list[Path]) -> Path:
    """The folder of the example, or of what comes nearest to it.

    Args:
        folders: of camera views, as `h36m_layout.list_folders` gives them.

    Returns:
        one of them: nearest first in subject, then in action, subaction and camera.
    """
    return min(folders, key=lambda folder: _distance(parse_folder_name(folder.name)))


def example_item(store) -> int:
    """The item of the example, or of what comes nearest to it.

    Args:
        store: CropStore of a test split.

    Returns:
        its index in the store.
    """
    names = ("subject", "action", "subaction", "camera_id")
    views = np.stack([store.columns[name] for name in names], axis=1).astype(int)  # (N, 4)
    nearest = min(np.unique(views, axis=0).tolist(), key=_distance)
    items = np.flatnonzero((views == nearest).all(axis=1))
    in_time = items[np.argsort(store.columns["frame"][items])]
    frame = min(EXAMPLE_FRAME, len(in_time) - 1)
    return int(in_time[frame])


def _distance(numbers):
    """How far a camera view is from the example; lists compare number by number."""
    return np.abs(np.subtract(numbers, EXAMPLE)).tolist()
