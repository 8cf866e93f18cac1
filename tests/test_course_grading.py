"""Grades: what the checks say of students' notebooks, whatever these hold."""

import csv

import nbformat
import pytest

from ipr_lib.__main__ import main
from ipr_lib.course import exercises, grading, notebooks

from .test_course_exercises import course, exercise, write_solutions  # noqa: F401 - a fixture


@pytest.fixture
def student(course, tmp_path, monkeypatch):  # noqa: F811
    """`student(name, **sources)` writes a notebook with other sources of its cells; returns its path."""
    write_solutions(course, *exercise(1), *exercise(2))
    exercises.update_exercises(course)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", course.parent)
    monkeypatch.chdir(tmp_path)

    def write(name, **sources):
        notebook = nbformat.read(course, as_version=4)
        for cell in notebook.cells:
            cell.source = sources.get(cell.id.replace("-", "_"), cell.source)
        nbformat.write(notebook, tmp_path / name)
        return tmp_path / name

    return write


def test_answers_are_right_wrong_or_open(student):
    path = student(
        "00_maria.ipynb",
        ex_setup="raise ValueError('a cell that fails stops nothing')",
        ex_1_stub="answer = 4",
        ex_2_stub="answer = 3",
        ex_2_check="'✓ right'",  # a check of their own does not count
    )
    rows, n_bad = grading.grade([path], "smoke", path.parent / "grades.csv")
    assert rows == [[str(path), "1", "passed", ""], [str(path), "2", "failed", "is it even?"]]
    assert n_bad == 0
    path = student("00_open.ipynb")
    assert [row[2] for row in grading.grade([path], "smoke", path.parent / "a.csv")[0]] == [
        "open",
        "open",
    ]


def test_a_kernel_that_dies_leaves_what_was_right_before(student):
    path = student("00_dies.ipynb", ex_1_stub="answer = 4", ex_2_stub="import os; os._exit(1)")
    rows, _ = grading.grade([path], "smoke", path.parent / "grades.csv")
    assert [row[2:] for row in rows] == [
        ["passed", ""],
        ["failed", "the kernel ended before this check"],
    ]


def test_cells_without_names_count_in_their_order_and_a_missing_one_is_said(student):
    path = student("00_a.ipynb", ex_1_stub="answer = 4", ex_2_stub="answer = nothing")
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"n{number}"
    nbformat.write(notebook, path)
    rows, _ = grading.grade([path], "smoke", path.parent / "grades.csv")
    assert [row[2] for row in rows] == ["passed", "passed"], "the second answer is the first still"
    notebook.cells = [cell for cell in notebook.cells if exercises.kind_of(cell) != "check"]
    nbformat.write(notebook, path)
    rows, _ = grading.grade([path], "smoke", path.parent / "grades.csv")
    assert [row[2:] for row in rows] == [["failed", "its check is missing"]] * 2


def test_a_cell_that_never_ends_is_stopped(student, monkeypatch):
    monkeypatch.setattr(grading, "CELL_SECONDS", 3)
    path = student("00_slow.ipynb", ex_1_stub="while True: pass", ex_2_stub="answer = 4")
    rows, _ = grading.grade([path], "smoke", path.parent / "grades.csv")
    assert rows[0][2:] == ["failed", "NameError: name 'answer' is not defined"]
    assert rows[1][2:] == ["passed", ""]


def test_the_command_prints_the_table_and_a_line_for_each_bad_notebook(student, tmp_path, capsys):
    student("00_good.ipynb", ex_1_stub="answer = 4")
    (tmp_path / "00_text.ipynb").write_text("a letter", encoding="utf-8")
    (tmp_path / "00_list.ipynb").write_text("[]", encoding="utf-8")
    (tmp_path / "00_form.ipynb").write_text('{"nbformat": 4, "cells": 5}', encoding="utf-8")
    (tmp_path / "homework.ipynb").write_text("{}", encoding="utf-8")
    names = ["00_text", "00_list", "00_form", "homework", "00_none", "00_good"]
    command = ["exercises", "--grade", *[f"{name}.ipynb" for name in names], "--csv", "marks.csv"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert err == "ipr_lib exercises: notebooks not graded: 5; the table says why\n"
    lines = out.splitlines()
    assert (
        len(lines) == 2 + 5 + 2 + 1 and lines[-1] == "1 passed, 0 failed, 1 open; also in marks.csv"
    )
    assert "| 00_text.ipynb | – | not graded | it is no notebook (NotJSONError: " in out
    assert "| 00_none.ipynb | – | not graded | it cannot be read: No such file" in out
    assert "| homework.ipynb | – | not graded | its name begins with 'ho'; expected" in out
    with open(tmp_path / "marks.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["result"] for row in rows] == ["not graded"] * 5 + ["passed", "open"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("exercises --csv a.csv", "--csv has no effect without --grade"),
        ("exercises --profile smoke", "--profile has no effect without --grade"),
        ("exercises --grade a.ipynb --without-solutions b", "are two jobs"),
        ("exercises --grade a.ipynb --profile tiny", "unknown profile 'tiny'"),
    ],
)
def test_options_without_effect_are_refused(line, message, student, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
