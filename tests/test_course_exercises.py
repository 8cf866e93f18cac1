"""Checks of answers, and the way from solutions into a course notebook and through its run."""

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ipr_lib.__main__ import main
from ipr_lib.course import exercises, notebooks
from ipr_lib.course.exercises import Outcome, check
from ipr_lib.files import InputError

from .test_course_notebooks import KERNEL, write_notebook

EVEN = ("is it even?", lambda value: value % 2 == 0)
CLOSING = {
    "exercises": "## Exercises\n\nMine.",
    "after-exercises": "---\nNext: [a](b)\n\n## References\n\n- R.",
}


def tagged(cell, tag):
    cell.metadata["tags"] = [tag]
    return cell


def exercise(
    number,
    solution="answer = 4",
    check="check(answer, ('is it even?', lambda n: n % 2 == 0))",
    discussion=True,
):
    cells = [
        tagged(new_markdown_cell(f"### Exercise {number} · Derive\n\nAn even number."), "exercise"),
        tagged(new_code_cell("answer = None  # a number"), "stub"),
        tagged(new_code_cell(solution), "solution"),
        tagged(new_code_cell(check), "check"),
    ]
    return (
        [*cells, tagged(new_markdown_cell("Every multiple of two."), "discussion")]
        if discussion
        else cells
    )


def write_solutions(path, *cells):
    solutions = exercises.solutions_of(path)
    solutions.parent.mkdir(exist_ok=True)
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# Solutions"), *cells], metadata=KERNEL), solutions
    )
    return solutions


@pytest.fixture
def course(tmp_path):
    """A notebook with a place for exercises, and solutions of two."""
    path = write_notebook(tmp_path / "notebooks" / "00_first.ipynb", "x = 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += [new_markdown_cell(text, id=name) for name, text in CLOSING.items()]
    nbformat.write(notebook, path)
    write_solutions(path, *exercise(1), *exercise(2, "answer = 4 * x", discussion=False))
    return path


# --- check ---


@pytest.mark.parametrize("answer", [None, (), [], {}, (1, None), [None], {"a": None, "b": 1}])
def test_a_missing_answer_is_open_and_asks_nothing(answer):
    outcome = check(answer, ("never asked", lambda value: 1 / 0))
    assert outcome.right is None and repr(outcome) == "○ open"


@pytest.mark.parametrize("answer", [0, 0.0, False, "", np.zeros(3), np.array([]), (0,), {"a": 0}])
def test_what_is_false_or_empty_of_numbers_is_an_answer(answer):
    assert check(answer, ("anything goes", lambda value: True)).right is True


def test_right_and_wrong_and_the_first_question_that_fails():
    assert check(4, EVEN).right is True and repr(check(4, EVEN)) == "✓ right"
    outcome = check(7, ("above 5?", lambda n: n > 5), EVEN, ("above 9?", lambda n: n > 9))
    assert outcome.right is False and repr(outcome) == "✗ not yet: is it even?"


def test_verdicts_of_numpy_count_and_arrays_of_them_do_not():
    assert check(np.arange(3), ("rising?", lambda a: (np.diff(a) > 0).all())).right is True
    outcome = check(np.arange(3), ("rising?", lambda a: np.diff(a) > 0))
    assert outcome.right is False and "ValueError" in repr(outcome)


def test_an_answer_that_breaks_its_test_is_wrong_and_says_how():
    outcome = check("four", EVEN)
    assert outcome.right is False
    assert repr(outcome).startswith("✗ not yet: is it even? (TypeError: ")


def test_a_check_without_a_test_is_refused():
    with pytest.raises(InputError, match="has no test"):
        check(1)


def test_html_is_the_line_with_its_signs_escaped():
    text = Outcome(False, "is a < b?")._repr_html_()
    assert "✗ not yet: is a &lt; b?" in text and "a < b" not in text


# --- solutions -> exercises ---


def test_exercises_follow_their_heading_and_leave_the_rest(course):
    before = nbformat.read(course, as_version=4)
    assert exercises.update_exercises(course)
    notebook = nbformat.read(course, as_version=4)
    nbformat.validate(notebook)
    names = [cell.id for cell in notebook.cells[2:]]
    assert names == [
        "exercises",
        "ex-setup",
        "ex-1-text",
        "ex-1-stub",
        "ex-1-check",
        "ex-2-text",
        "ex-2-stub",
        "ex-2-check",
        "after-exercises",
    ]
    assert notebook.cells[:3] + notebook.cells[-1:] == before.cells
    sources = {cell.id: cell.source for cell in notebook.cells}
    assert sources["ex-setup"] == "from ipr_lib.course import check"
    assert sources["ex-1-stub"] == sources["ex-2-stub"] == "answer = None  # a number"
    assert "answer = 4" not in "".join(sources.values()), "a solution is given away"
    assert not exercises.update_exercises(course), "a second time changes nothing"


def test_fewer_or_changed_exercises_are_written_anew(course):
    exercises.update_exercises(course)
    write_solutions(course, *exercise(7))
    assert exercises.update_exercises(course)
    cells = {cell.id: cell.source for cell in nbformat.read(course, as_version=4).cells}
    assert "Exercise 7" in cells["ex-1-text"] and "ex-2-text" not in cells
    assert cells["exercises"] == "## Exercises\n\nMine."


@pytest.mark.parametrize(
    "order, complaint",
    [
        ((0, 1, 3, 2), "cell 3 (check) is out of order"),
        ((1, 2, 3), "cell 1 (stub) is out of order"),
        ((0, 1, 2), "an exercise has no check"),
        ((0, 0, 1, 2, 3), "an exercise has no check"),
        ((0, 1, 1, 2, 3), "cell 3 (stub)"),
        ((), "no check"),
    ],
)
def test_cells_out_of_order_are_refused(course, order, complaint):
    cells = exercise(1)
    for number, cell in enumerate(chosen := [nbformat.from_dict(cells[i]) for i in order]):
        cell["id"] = f"c{number}"
    write_solutions(course, *chosen)
    with pytest.raises(InputError) as caught:
        exercises.read_exercises(exercises.solutions_of(course))
    assert complaint in str(caught.value)


def test_cells_without_tag_of_the_wrong_kind_or_without_an_expression_are_refused(course):
    for cell, complaint in (
        (new_code_cell("x"), "no tag"),
        (tagged(new_code_cell("x"), "exercise"), r"is code; expected markdown"),
    ):
        with pytest.raises(InputError, match=complaint):
            exercises.read_exercises(write_solutions(course, cell))
    with pytest.raises(InputError, match="does not end in the expression"):
        exercises.read_exercises(
            write_solutions(course, *exercise(1, check="outcome = check(answer)"))
        )


def test_a_notebook_without_a_place_for_exercises_is_refused(course):
    write_notebook(course, "x = 1")
    with pytest.raises(
        InputError,
        match="00_first.ipynb: expected one cell with the heading '## Exercises', found 0",
    ):
        exercises.update_exercises(course)


def test_the_command_writes_what_is_stale_and_says_so(course, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", course.parent)
    write_notebook(course.parent / "01_without_solutions.ipynb", "x = 1")
    assert main(["exercises"]) == 0
    assert capsys.readouterr().out == "notebooks/00_first.ipynb: exercises written anew\n"
    assert main(["exercises"]) == 0 and capsys.readouterr().out == ""


# --- run ---


def run(course, tmp_path):
    notebooks.run_notebook(
        course, tmp_path / "out", {"profile": "smoke"}, exercises.solutions_of(course)
    )
    return {
        cell.id: cell
        for cell in nbformat.read(tmp_path / "out" / "executed.ipynb", as_version=4).cells
    }


def test_one_run_shows_each_exercise_open_then_right(course, tmp_path):
    cells = run(course, tmp_path)
    for k in (1, 2):
        assert [
            cells[f"ex-{k}-{name}"].outputs[0].data["text/plain"] for name in ("open", "right")
        ] == ["○ open", "✓ right"]
        names = list(cells)
        assert (
            names.index(f"ex-{k}-open")
            < names.index(f"ex-{k}-solution")
            < names.index(f"ex-{k}-right")
        )
    assert "Every multiple" in cells["ex-1-discussion"].source and "ex-2-discussion" not in cells
    assert "ex-1-text" not in {cell.id for cell in nbformat.read(course, as_version=4).cells}, (
        "the course was written to"
    )


def test_a_check_of_several_lines_keeps_them(course, tmp_path):
    several = (
        "even = lambda n: n % 2 == 0\ncheck(\n    answer,\n    ('is it even?', even),\n)  # no more"
    )
    write_solutions(course, *exercise(1, check=several))
    assert run(course, tmp_path)["ex-1-right"].outputs[0].data["text/plain"] == "✓ right"


def test_a_wrong_solution_fails_the_run_in_words(course, tmp_path):
    write_solutions(course, *exercise(1, "answer = 3"))
    with pytest.raises(
        InputError,
        match=r"00_first\.ipynb stopped in cell .*AssertionError: ✗ not yet: is it even\?",
    ):
        run(course, tmp_path)


def test_a_stub_that_answers_fails_the_run(course, tmp_path):
    cells = exercise(1)
    cells[1].source = "answer = 4"
    write_solutions(course, *cells)
    with pytest.raises(InputError, match="AssertionError: ✓ right"):
        run(course, tmp_path)


def test_without_solutions_the_reader_s_version_runs(course, tmp_path):
    exercises.update_exercises(course)
    notebooks.run_notebook(course, tmp_path / "out", {"profile": "smoke"})
    cells = {
        cell.id: cell
        for cell in nbformat.read(tmp_path / "out" / "executed.ipynb", as_version=4).cells
    }
    assert [cells[f"ex-{k}-check"].outputs[0].data["text/plain"] for k in (1, 2)] == ["○ open"] * 2
    assert "ex-1-solution" not in cells
