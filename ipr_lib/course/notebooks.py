"""The course's notebooks: which there are, the example that they follow, how to run one."""

import base64
import dataclasses
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


@dataclasses.dataclass(eq=False)
class NotebookFailed(InputError):
    """A notebook did not run to its end.

    Args:
        notebook: its file name.
        number: execution number of the cell that failed, as "[41]"; None where it is not known.
        line: the line of that cell that failed, or None.
        reason: the error in one line.
        executed: path of the executed notebook, with everything up to the failure.
    """

    notebook: str
    number: int | None
    line: str | None
    reason: str
    executed: Path

    def __str__(self):
        where = "before the first cell" if self.number is None else f"in cell [{self.number}]"
        at = f", at `{self.line}`" if self.line else ""
        return f"{self.notebook} stopped {where}{at}: {self.reason}; see {self.executed}"


class NotebooksFailed(InputError):
    """Some notebooks failed; its message is a list of them.

    Args:
        failures: list of NotebookFailed.
    """

    exit_code = 1

    def __init__(self, failures):
        self.failures = failures
        count = "1 notebook" if len(failures) == 1 else f"{len(failures)} notebooks"
        lines = [f"{count} failed; the same command runs them again, and only them:"]
        lines += [f"  {failure}" for failure in failures]
        super().__init__("\n".join(lines))


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
        notebook = exercises.with_solutions(notebook, found, source.name)
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
            line = failed_line(error.traceback)
            raise NotebookFailed(source.name, error.exec_count, line, reason, output) from error
        except DeadKernelError as error:
            number, line = _last_begun(nbformat.read(output, as_version=4))
            reason = (
                "the kernel died, most often because memory ran out; close other programs or choose a smaller profile, "
                "and run again"
            )
            raise NotebookFailed(source.name, number, line, reason, output) from error
    save_figures(nbformat.read(output, as_version=4), target / "figures")


def save_figures(notebook, folder: str | Path) -> list[Path]:
    """Write the figures that an executed notebook shows, each named after its cell.

    Args:
        notebook: executed.
        folder: made where there is a figure; a file of the same name is replaced.

    Returns:
        paths of the files, SVG or PNG, in the notebook's order.
    """
    written = []
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
            path = Path(folder) / f"{name}{suffix}"
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            written.append(path)
    return written


def kernel_config(folder: str | Path):
    """How to reach a notebook's kernel.

    Args:
        folder: for the time that the kernel runs.

    Returns:
        traitlets Config.
    """
    from traitlets.config import Config as KernelConfig

    connection = {}
    kernel = f"{folder}/kernel"
    # A socket in a file opens no port, and brings no warning about one. Its name ends in -1 to -5.
    if can_be_socket(f"{kernel}-1"):
        connection = {"transport": "ipc", "ip": kernel}
    return KernelConfig(KernelManager=connection)


def failed_line(traceback: list[str]) -> str | None:
    """The line of a notebook's cell that raised an error.

    Args:
        traceback: as IPython gives it, colours included; it marks the line of each frame with an arrow.

    Returns:
        the line without its number, or None where no frame is a cell's.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))
    found = None
    in_cell = False
    for line in text.splitlines():
        if re.match(r"(Cell In|File |.*\.py)", line):
            in_cell = line.startswith("Cell In")
        arrow = re.match(r"-+> ?\d+ (.*)", line)
        if arrow and in_cell:
            found = arrow.group(1).strip()
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
