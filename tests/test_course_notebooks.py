"""Notebooks run with parameters: which names, what is left behind, how they fail."""

import base64
import os
import tempfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ipr_lib.course import notebooks
from ipr_lib.files import InputError
from tests.conftest import needs_posix

PARAMETERS = 'profile = "laptop"\nseed = 0\noverrides = {}\nresults_dir = None'
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
}
# Each run of a notebook leaves a line; `tally` is what the notebook appends to.
COUNT = 'open(results_dir + "/tally", "a").write("{} " + profile + str(seed) + str(len(overrides)) + chr(10));'


def write_notebook(path, *cells, tags=("parameters",)):
    cells = [new_code_cell(PARAMETERS, metadata={"tags": list(tags)}), *map(new_code_cell, cells)]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)
    return path


def test_notebooks_leave_nothing_beside_them(tmp_path):
    source = write_notebook(tmp_path / "notebooks" / "00_a.ipynb", "print(profile)")
    notebooks.run_notebook(source, tmp_path / "out", {"profile": "smoke"})
    assert os.listdir(source.parent) == ["00_a.ipynb"] and os.listdir(tmp_path / "out") == [
        "executed.ipynb"
    ]


@pytest.mark.parametrize("length", [30, 86, 200])
def test_a_long_name_of_the_folder_for_temporary_files(tmp_path, monkeypatch, length):
    """A socket's name has about a hundred bytes; the kernel is reached by TCP where that is too few."""
    with tempfile.TemporaryDirectory() as short:
        folder = os.path.join(short, "x" * (length - len(short) - 1))
        os.mkdir(folder)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        source = write_notebook(tmp_path / "notebooks" / "00_a.ipynb", "print(profile * 2)")
        notebooks.run_notebook(source, tmp_path / "out", {"profile": "smoke"})
    assert "smokesmoke" in (tmp_path / "out" / "executed.ipynb").read_text(encoding="utf-8")


def test_figures_are_kept_as_files_named_after_their_cells(tmp_path):
    """A line drawing as SVG, a picture as PNG, and several of one cell with a number."""
    svg = new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "Figure"})
    png = new_output("display_data", {"image/png": base64.b64encode(b"pixels").decode()})
    text = new_output("stream", text="no figure")
    executed = new_notebook(
        cells=[
            new_markdown_cell("why", id="why"),
            new_code_cell("plot()", id="curve", outputs=[text, svg, png]),
            new_code_cell("print()", id="words", outputs=[text]),
        ]
    )
    folder = tmp_path / "figures"
    notebooks.save_figures(executed, folder)
    assert sorted(os.listdir(folder)) == ["curve-2.png", "curve.svg"]
    assert (folder / "curve.svg").read_text(encoding="utf-8") == "<svg/>"
    assert (folder / "curve-2.png").read_bytes() == b"pixels"


# --- parameters and failures of notebooks ---


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    source = write_notebook(tmp_path / "00_first.ipynb", COUNT.format("first"))
    with pytest.raises(InputError, match="00_first.ipynb has no parameter profil, sed$"):
        notebooks.run_notebook(
            source, tmp_path / "out", {"sed": 1, "profil": "smoke", "results_dir": str(tmp_path)}
        )
    assert not (tmp_path / "tally").exists() and not (tmp_path / "out").exists()


def test_failing_notebook_names_its_cell_its_line_and_the_error(tmp_path):
    source = write_notebook(
        tmp_path / "07_broken.ipynb",
        "x = 1",
        "y = 2\nassert y < x, f'expected less than {x}, got {y}'\nz = 3",
        COUNT.format("late"),
    )
    with pytest.raises(notebooks.NotebookFailed) as caught:
        notebooks.run_notebook(source, tmp_path / "out", {"results_dir": str(tmp_path)})
    path = tmp_path / "out" / "executed.ipynb"
    codes = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    (failed,) = [cell for cell in codes if "assert y < x" in cell.source]
    assert str(caught.value) == (
        f"07_broken.ipynb stopped in cell [{failed.execution_count}], "
        "at `assert y < x, f'expected less than {x}, got {y}'`: "
        f"AssertionError: expected less than 1, got 2; see {path}"
    )
    assert not (tmp_path / "tally").exists(), "cells after the failed one must not run"


def test_an_error_inside_a_library_names_the_line_of_the_cell(tmp_path):
    source = write_notebook(
        tmp_path / "07_broken.ipynb", "import json\n\njson.loads('{') # half a file"
    )
    with pytest.raises(notebooks.NotebookFailed) as caught:
        notebooks.run_notebook(source, tmp_path / "out", {"profile": "smoke"})
    assert ", at `json.loads('{') # half a file`: JSONDecodeError: " in str(caught.value)


@needs_posix
def test_a_dead_kernel_is_one_line(tmp_path):
    source = write_notebook(
        tmp_path / "07_killed.ipynb",
        "x = 1",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "2",
    )
    with pytest.raises(
        notebooks.NotebookFailed,
        match="07_killed.ipynb stopped in cell .*: the kernel died, most often",
    ) as caught:
        notebooks.run_notebook(source, tmp_path / "out", {"profile": "smoke"})
    assert ", at `import os, signal`: " in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(
        str(tmp_path / "out" / "executed.ipynb")
    )
    assert "x = 1" in (tmp_path / "out" / "executed.ipynb").read_text(encoding="utf-8")
