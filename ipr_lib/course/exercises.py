"""Exercises: checks of a reader's answers, and how they come from a notebook of solutions into the course notebook.

The source is `notebooks/solutions/NN_name.ipynb`; `python -m ipr_lib exercises` writes statements, stubs and checks from it.
"""

import ast
import dataclasses
import html
from collections.abc import Callable
from pathlib import Path

from ..files import InputError, atomic_path

# Tags of an exercise's cells in the notebook of solutions, in order; the discussion may be missing.
ORDER = ("exercise", "stub", "solution", "check", "discussion")
HEADING = "## Exercises"
SETUP = "from ipr_lib.course import check"
SIGNS = {
    None: ("○", "open", "#6E7781"),
    True: ("✓", "right", "#009E73"),
    False: ("✗", "not yet", "#D55E00"),
}


# --- what a reader sees ---


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a check says of an answer; a notebook shows it as a line.

    Args:
        right: True, False, or None where there is no answer yet.
        reason: what is not right yet, in words.
    """

    right: bool | None
    reason: str = ""

    def __repr__(self):
        sign, word, _ = SIGNS[self.right]
        return f"{sign} {word}: {self.reason}" if self.reason else f"{sign} {word}"

    def _repr_html_(self):
        _, _, colour = SIGNS[self.right]
        return f'<span style="color:{colour};font-weight:600">{html.escape(repr(self))}</span>'


def check(value: object, *tests: tuple[str, Callable]) -> Outcome:
    """Test an answer.

    Args:
        value: the answer; None, or an empty tuple, list or dict, or one that holds None, is still open.
        tests: pairs of (question in words, function of the answer that returns True or False). A function that raises
            counts as not right, and its error is shown. The tests run in order, and only the first that fails is shown.

    Returns:
        Outcome.

    Raises:
        InputError: no test is given.
    """
    if not tests:
        raise InputError("check(answer) has no test; give it pairs of (question, function)")
    parts = list(value.values()) if isinstance(value, dict) else value
    if isinstance(parts, (tuple, list)):
        is_open = not parts or any(part is None for part in parts)
    else:
        is_open = parts is None
    if is_open:
        return Outcome(None)
    for question, test in tests:
        try:
            passed = bool(test(value))
        except Exception as error:  # an answer that breaks its test is a wrong answer
            return Outcome(False, f"{question} ({type(error).__name__}: {error})")
        if not passed:
            return Outcome(False, question)
    return Outcome(True)


# --- from solutions to exercises ---


def solutions_of(path: str | Path) -> Path:
    """Where the solutions of a course notebook lie."""
    return Path(path).parent / "solutions" / Path(path).name


def kind_of(cell) -> str | None:
    """The tag that says what a cell of the exercises is, or None."""
    for tag in cell.metadata.get("tags", []):
        if tag == "setup" or tag in ORDER:
            return tag
    return None


def read_exercises(path: str | Path) -> list[dict]:
    """The exercises of a notebook of solutions.

    Args:
        path: of the notebook.

    Returns:
        for each exercise a dict of its cells by tag: "exercise", "stub", "solution", "check" and, where there is one,
        "discussion".

    Raises:
        InputError: a cell is missing, out of order or of the wrong kind; a check does not end in one expression.
    """
    import nbformat

    exercises = []
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells[1:], start=1):
        kind = kind_of(cell)
        place = f"{path}: cell {number} ({kind or 'no tag'})"
        if kind == "exercise":
            exercises.append({})
        before = tuple(exercises[-1]) if exercises else None
        if kind not in ORDER or before != ORDER[: ORDER.index(kind)]:
            raise InputError(f"{place} is out of order; an exercise is {', '.join(ORDER)}")
        expected = "markdown" if kind in ("exercise", "discussion") else "code"
        if cell.cell_type != expected:
            raise InputError(f"{place} is {cell.cell_type}; expected {expected}")
        if kind == "check" and not isinstance(_last_statement(cell), ast.Expr):
            raise InputError(f"{place} does not end in the expression check(...)")
        exercises[-1][kind] = cell
    if not exercises or not all("check" in cells for cells in exercises):
        raise InputError(f"{path}: an exercise has no check; an exercise is {', '.join(ORDER)}")
    return exercises


def _last_statement(cell):
    """The last statement of a code cell; None of an empty one."""
    body = ast.parse(cell.source).body
    return body[-1] if body else None


def with_exercises(notebook, exercises: list[dict], name: str, solved: bool = False):
    """A course notebook with its exercises as a reader gets them, or with their solutions.

    Args:
        notebook: course notebook. Exercises that stand in it are replaced; they follow the cell with the heading
            "## Exercises".
        exercises: see `read_exercises`.
        name: file name of the notebook, for errors.
        solved: the notebook solves its exercises, and each check must find the stub open and the solution right.

    Returns:
        another notebook.

    Raises:
        InputError: there is not exactly one cell with this heading.
    """
    from nbformat import from_dict
    from nbformat.v4 import new_code_cell

    own = [cell for cell in notebook.cells if kind_of(cell) is None]
    places = []
    for number, cell in enumerate(own):
        if cell.cell_type == "markdown" and HEADING in cell.source.splitlines():
            places.append(number)
    if len(places) != 1:
        raise InputError(
            f"{name}: expected one cell with the heading '{HEADING}', found {len(places)}"
        )
    cells = [new_code_cell(SETUP, id="ex-setup", metadata={"tags": ["setup"]})]
    for k, exercise in enumerate(exercises, start=1):
        check = exercise["check"]
        parts = {"text": exercise["exercise"], "stub": exercise["stub"]}
        if solved:
            parts["open"] = check | {"source": _asserted(check, None)}
            parts["solution"] = exercise["solution"]
            parts["right"] = check | {"source": _asserted(check, True)}
            if "discussion" in exercise:
                parts["discussion"] = exercise["discussion"]
        else:
            parts["check"] = check
        for part, cell in parts.items():
            cells.append(cell | {"id": f"ex-{k}-{part}"})
    end = places[0] + 1
    return from_dict(notebook | {"cells": own[:end] + cells + own[end:]})


def _asserted(cell, right):
    """Source of a check that shows its outcome, and raises AssertionError unless it is the expected one."""
    last = _last_statement(cell)
    lines = cell.source.splitlines()[: last.lineno - 1]
    lines.append(f"_outcome = {ast.get_source_segment(cell.source, last)}")
    lines.append(f"assert _outcome.right is {right}, _outcome")
    lines.append("_outcome")
    return "\n".join(lines)


def update_exercises(path: str | Path) -> bool:
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
    with atomic_path(path) as temporary:
        nbformat.write(changed, temporary)
    return True
