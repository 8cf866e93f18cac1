"""The exercises without running them: notebooks of solutions, and the exercises written from them."""

import ast
import re

import nbformat
import pytest

from ipr_lib.course import exercises
from ipr_lib.course.notebooks import NOTEBOOKS, list_notebooks

from .test_course import check_format, check_links, check_names, check_paths, tree

SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))
KINDS = ("Change and predict", "Derive", "Build", "Measure", "Look", "Small research question")
VIEWS = ("SkeletonView", "VolumeExplorer", "CurveExplorer")


@pytest.fixture(params=SOLUTIONS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def course(path):
    return nbformat.read(NOTEBOOKS / path.name, as_version=4)


@pytest.fixture
def solved(path, course):
    return exercises.with_exercises(course, exercises.read_exercises(path), path.name, solved=True)


def test_every_notebook_has_solutions():
    assert [path.name for path in SOLUTIONS] == [path.name for path in list_notebooks()]


def test_format_is_valid_and_clean(path, notebook):
    check_format(notebook)
    check_paths(notebook)
    check_links(path, notebook)
    assert re.match(rf"# Solutions of {path.name[:2]} · \S", notebook.cells[0].source)


def test_the_course_notebook_holds_these_exercises(path, course):
    same = exercises.with_exercises(course, exercises.read_exercises(path), path.name) == course
    assert same, f"the exercises of {path.name} are stale: run `make exercises`"


def test_exercises_are_numbered(path):
    found = exercises.read_exercises(path)
    for number, cells in enumerate(found, start=1):
        title = re.match(r"### Exercise (\d) · (.+)\n\n\S", cells["exercise"].source)
        assert title, (
            f"exercise {number} does not begin with '### Exercise {number} · kind' and a statement"
        )
        assert int(title[1]) == number and title[2] in KINDS, (
            f"{title[0].strip()}; kinds: {', '.join(KINDS)}"
        )


def views_in(notebook):
    """Names under which a notebook knows its views: their classes, what comes from ipywidgets, variables that hold one."""
    trees = [tree(cell) for cell in notebook.cells if cell.cell_type == "code"]
    nodes = [node for parsed in trees for node in ast.walk(parsed)]
    names = set(VIEWS)
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name for alias in node.names if alias.name == "ipywidgets"
            }
        if isinstance(node, ast.ImportFrom) and node.module == "ipywidgets":
            names |= {alias.asname or alias.name for alias in node.names}
    made = set()
    for node in nodes:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and names & names_in(node.value.func)
        ):
            made |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names | made


def names_in(parsed):
    return {node.id for node in ast.walk(parsed) if isinstance(node, ast.Name)}


def test_an_exercise_uses_a_view(path, solved):
    known = views_in(solved)
    used = set()
    for cells in exercises.read_exercises(path):
        for kind in ("stub", "solution"):
            used |= names_in(tree(cells[kind])) & known
    assert used, f"no exercise uses an interactive view; known here: {', '.join(sorted(known))}"


def test_names_of_the_library_exist_in_solutions(solved):
    check_names(solved)


def test_a_stub_leaves_its_answer_open(path, solved):
    """A stub holds a None for its answer, or shows a view in which the reader gives it: nothing is given away by mistake."""
    for number, cells in enumerate(exercises.read_exercises(path), start=1):
        constants = [
            node.value for node in ast.walk(tree(cells["stub"])) if isinstance(node, ast.Constant)
        ]
        in_view = names_in(tree(cells["stub"])) & views_in(solved)
        assert None in constants or in_view, (
            f"the stub of exercise {number} holds no None for an answer"
        )
