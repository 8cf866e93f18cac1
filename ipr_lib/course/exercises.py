"""Exercises: checks of a reader's answers, and the way from a notebook of solutions into the course notebook.

The source is `notebooks/solutions/NN_name.ipynb`; `python -m ipr_lib exercises` writes statements, stubs and checks from it.
"""

import ast
import copy
import dataclasses
import html
import json
from pathlib import Path

from ..files import InputError, atomic_path

ORDER = (
    "exercise",
    "stub",
    "solution",
    "check",
    "discussion",
)  # tags of an exercise's cells; a discussion may be missing
GENERATED = ("setup", "exercise", "stub", "check")  # tags of what stands in the course notebook
SETUP = "from ipr_lib.exercises import check"
INTRODUCTION = (
    "## Exercises\n\nThink first, write your answer into the cell under a question, run it, then run its check: ○ is open, "
    "✗ not right yet, ✓ right. [Worked solutions](solutions/{name}) tell why."
)
SIGNS = {
    None: ("○", "open", "#6E7781"),
    True: ("✓", "right", "#009E73"),
    False: ("✗", "not yet", "#D55E00"),
}


# --- what a reader meets ---


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a check says of an answer; a notebook shows it as a line.

    Args:
        right: True, False, or None where there is no answer yet.
        reasons: what is not right yet, in words.
    """

    right: bool | None
    reasons: tuple = ()

    def __repr__(self):
        sign, word, _ = SIGNS[self.right]
        return f"{sign} {word}" + (f": {'; '.join(self.reasons)}" if self.reasons else "")

    def _repr_html_(self):
        return f'<span style="color:{SIGNS[self.right][2]};font-weight:600">{html.escape(repr(self))}</span>'


def check(value, *tests):
    """Put an answer to its tests.

    Args:
        value: the answer; None, or an empty tuple, list or dict, or one that holds None, is still open.
        tests: pairs of (question in words, function of the answer that says True or False). A function that raises counts
            as not right, and its error is shown. They are put in order, and the first that fails is told alone.
    Returns:
        Outcome.
    Raises:
        InputError: no test is given.
    """
    if not tests:
        raise InputError(
            "check(answer) has nothing to ask; give it pairs of (question, function of the answer)"
        )
    if is_open(value):
        return Outcome(None)
    for question, test in tests:
        try:
            passed = bool(test(value))
        except Exception as error:  # whatever a reader's answer does to the test is a wrong answer, and shown as one
            return Outcome(False, (f"{question} ({type(error).__name__}: {error})",))
        if not passed:
            return Outcome(False, (question,))
    return Outcome(True)


def is_open(value):
    """Whether an answer has not been given: None, an empty tuple, list or dict, or one with a None in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return not value or any(item is None for item in value)
    return value is None


# --- from solutions to exercises ---


def solutions_of(path):
    """Where the solutions of a course notebook lie."""
    return Path(path).parent / "solutions" / Path(path).name


def kind_of(cell):
    """The tag of an exercise's cell that says what it is, or None."""
    found = [tag for tag in cell.metadata.get("tags", []) if tag in {*ORDER, *GENERATED}]
    return found[0] if found else None


def read_exercises(path):
    """The exercises of a notebook of solutions.

    Args:
        path: of the notebook.
    Returns:
        a list with, for each exercise, a dict of its cells by tag: "exercise", "stub", "solution", "check" and, where
        there is one, "discussion".
    Raises:
        InputError: a cell is missing, out of order or of the wrong kind; a check does not end in one expression.
    """
    import nbformat

    exercises = []
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells[1:], start=1):
        kind = kind_of(cell)
        if kind == "exercise":
            exercises.append({})
        if (
            kind not in ORDER
            or not exercises
            or list(exercises[-1]) != list(ORDER[: ORDER.index(kind)])
        ):
            raise InputError(
                f"{path}: cell {number} ({kind or 'no tag'}) is out of order; an exercise is {', '.join(ORDER)}"
            )
        expected = "markdown" if kind in ("exercise", "discussion") else "code"
        if cell.cell_type != expected:
            raise InputError(
                f"{path}: cell {number} ({kind}) is {cell.cell_type}; expected {expected}"
            )
        if kind == "check":
            _last_expression(cell, path)
        exercises[-1][kind] = cell
    if not exercises or not all("check" in cells for cells in exercises):
        raise InputError(f"{path}: an exercise has no check; an exercise is {', '.join(ORDER)}")
    return exercises


def _last_expression(cell, path):
    """The last statement of a check, which has to be an expression."""
    body = ast.parse(cell.source).body
    if not body or not isinstance(body[-1], ast.Expr):
        raise InputError(f"{path}: a check does not end in the expression check(...)")
    return body[-1]


def _as_cell(cell, name):
    """A copy of a cell under another id."""
    cell = copy.deepcopy(cell)
    cell["id"] = name
    return cell


def _split(notebook, name):
    """Cells before the exercises, their introduction and the cells after them.

    Where introduction, summary and references still share a cell, it is cut into three and a list of exercises is dropped.
    """
    from nbformat.v4 import new_markdown_cell

    own = [cell for cell in notebook.cells if kind_of(cell) not in GENERATED]
    found = [
        i
        for i, cell in enumerate(own)
        if cell.cell_type == "markdown" and "## Exercises" in cell.source.splitlines()
    ]
    if len(found) != 1:
        raise InputError(
            f"{name}: expected one cell with the heading '## Exercises', found {len(found)}"
        )
    (place,) = found
    lines = own[place].source.splitlines()
    start = lines.index("## Exercises")
    ends = [
        i
        for i, line in enumerate(lines)
        if i > start and line.startswith(("---", "Previous:", "Next:", "## "))
    ]
    end = ends[0] if ends else len(lines)
    before, after = "\n".join(lines[:start]).strip(), "\n".join(lines[end:]).strip()
    introduction = own[place]
    if before or after:
        introduction = new_markdown_cell(INTRODUCTION.format(name=name), id="exercises")
    parts = [
        [new_markdown_cell(text, id=name)] if text else []
        for text, name in ((before, own[place].id), (after, "after-exercises"))
    ]
    return own[:place] + parts[0], introduction, parts[1] + own[place + 1 :]


def with_exercises(notebook, exercises, name):
    """A course notebook with its exercises as a reader gets them.

    Args:
        notebook: course notebook; exercises that stand in it are replaced.
        exercises: see `read_exercises`.
        name: file name of the notebook, for links and errors.
    Returns:
        another notebook.
    Raises:
        InputError: the notebook has no place for them: one heading "## Exercises".
    """
    from nbformat.v4 import new_code_cell

    before, introduction, after = _split(notebook, name)
    cells = [new_code_cell(SETUP, id="ex-setup", metadata={"tags": ["setup"]})]
    for k, exercise in enumerate(exercises, start=1):
        names = (("exercise", "text"), ("stub", "stub"), ("check", "check"))
        cells += [_as_cell(exercise[kind], f"ex-{k}-{word}") for kind, word in names]
    return _with_cells(notebook, [*before, introduction, *cells, *after])


def with_solutions(notebook, exercises, name):
    """A course notebook that solves its own exercises: each check has to call the stub open and the solution right.

    Args, Returns, Raises: as of `with_exercises`.
    """
    solved = with_exercises(notebook, exercises, name)
    cells = []
    for cell in solved.cells:
        if kind_of(cell) != "check":
            cells.append(cell)
            continue
        k = cell.id.split("-")[1]
        exercise = exercises[int(k) - 1]
        cells += [
            _asserted(cell, name, None, f"ex-{k}-open"),
            _as_cell(exercise["solution"], f"ex-{k}-solution"),
        ]
        cells.append(_asserted(cell, name, True, f"ex-{k}-right"))
        if "discussion" in exercise:
            cells.append(_as_cell(exercise["discussion"], f"ex-{k}-discussion"))
    return _with_cells(solved, cells)


def _asserted(cell, path, right, name):
    """A check that raises AssertionError, with the outcome in words, unless the outcome is the expected one; it shows it, too."""
    cell = _as_cell(cell, name)
    last = _last_expression(cell, path)
    lines = cell.source.splitlines()[: last.lineno - 1]
    cell.source = "\n".join(
        [
            *lines,
            f"_outcome = {ast.get_source_segment(cell.source, last)}",
            f"assert _outcome.right is {right}, _outcome",
            "_outcome",
        ]
    )
    return cell


def _with_cells(notebook, cells):
    notebook = copy.deepcopy(notebook)
    notebook.cells = copy.deepcopy(cells)
    return notebook


def update_exercises(path):
    """Write the exercises of a course notebook from its solutions.

    Args:
        path: the course notebook.
    Returns:
        whether the notebook has changed.
    Raises:
        InputError: see `read_exercises` and `with_exercises`.
    """
    import nbformat

    path = Path(path)
    notebook = nbformat.read(path, as_version=4)
    changed = with_exercises(notebook, read_exercises(solutions_of(path)), path.name)
    if changed == notebook:
        return False
    # Cells that stay are written as they stand in the file, so that a difference shows exercises alone.
    content = json.loads(path.read_text(encoding="utf-8"))
    written = {
        cell["id"]: pair for cell, *pair in zip(notebook.cells, notebook.cells, content["cells"])
    }
    content["cells"] = [
        written[cell.id][1]
        if cell.id in written and written[cell.id][0] == cell
        else {**cell, "source": cell.source.splitlines(keepends=True)}
        for cell in changed.cells
    ]
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return True
