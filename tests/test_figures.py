"""The concept figures of the notebooks: all are drawn by the script that is kept, and the map shows every notebook."""

import importlib.util

import matplotlib.pyplot as plt
import pytest

from ipr_lib.course.notebooks import NOTEBOOKS, list_notebooks

FIGURES = NOTEBOOKS / "figures"


@pytest.fixture(scope="module")
def draw():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("draw", FIGURES / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_draws_every_figure(draw, tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "FOLDER", tmp_path)
    with plt.rc_context():
        draw.main()
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in FIGURES.glob("*.svg")}


def test_the_map_shows_every_notebook(draw):
    on_map = ["00"]
    for names in draw.LANES.values():
        on_map += [name[:2] for name in names]
    assert on_map == [path.name[:2] for path in list_notebooks()]
