"""JupyterLab, the project's tests and the copy to hand out: what they call, and what they refuse."""

import json
import re
import subprocess
import sys

import pytest

from ipr_lib.__main__ import TEST_PARTS, main
from ipr_lib.course import checkout, notebooks
from ipr_lib.files import REPOSITORY


@pytest.fixture
def calls(monkeypatch):
    """(command, working folder, environment) of each program that would be started; all succeed but `fails`."""
    made = []

    def run(command, cwd, env):
        made.append((command, cwd, env))
        return subprocess.CompletedProcess(command, 3 if "fails" in command else 0)

    monkeypatch.setattr(checkout.subprocess, "run", run)
    monkeypatch.setattr(checkout, "tracked_files", lambda *_: ["a.py", "b.md"])
    return made


def test_each_part_runs_by_this_python_in_the_checkout(calls, monkeypatch):
    monkeypatch.delenv("IPR_DATA", raising=False)
    monkeypatch.delenv("IPR_RESULTS", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert main(["selftest"]) == 0
    assert tuple(checkout.PARTS) == TEST_PARTS
    words = [command[2:5] for command, _, _ in calls]
    assert words == [
        ["ruff", "check", "."],
        ["ruff", "format", "--check"],
        ["codespell_lib", "--toml", "pyproject.toml"],
        ["pytest", "--ignore=tests/browser"],
        ["ipr_lib", "reproduce", "--profile"],
        ["ipr_lib", "reproduce", "--profile"],
        ["pytest", "tests/browser"],
    ]
    for command, folder, environment in calls:
        assert command[:2] == [sys.executable, "-m"] and folder == REPOSITORY
        assert "IPR_DATA" not in environment, "tests begin with the defaults"
    *others, narrow, _ = calls
    assert not any("ONEDNN_MAX_CPU_ISA" in environment for _, _, environment in others)
    assert narrow[0][7:] == ["--seed", "1", "--only", *checkout.TRAINED]
    assert narrow[2]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert narrow[2]["IPR_RESULTS"] == str(REPOSITORY / "results" / "narrow")


def test_the_first_failure_ends_the_tests(calls, monkeypatch):
    monkeypatch.setitem(checkout.PARTS, "unit", [["fails"], ["never"]])
    assert main(["selftest", "unit", "browser"]) == 3
    assert [command[2:] for command, _, _ in calls] == [["fails"]]


def test_unknown_parts_and_missing_packages_are_one_line(monkeypatch, capsys):
    assert main(["selftest", "all"]) == 2
    assert "all: choose from lint, unit, notebooks, narrow, browser" in capsys.readouterr().err
    monkeypatch.setattr(checkout.importlib.util, "find_spec", lambda name: None)
    for command, package, extra in (
        ("selftest lint", "ruff", "dev"),
        ("lab", "jupyterlab", "course"),
        ("reproduce --profile smoke", "papermill", "course"),
        ("exercises", "nbformat", "course"),
    ):
        assert main(command.split()) == 2
        assert f'{package} is missing: pip install -e ".[{extra}]"' in capsys.readouterr().err


def test_lab_opens_the_first_notebook_with_quiet_settings(monkeypatch, tmp_path):
    from jupyterlab.labapp import LabApp

    asked = []
    monkeypatch.setattr(LabApp, "launch_instance", lambda argv: asked.append(argv))
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 0
    ((notebook, settings),) = asked
    assert notebook == str(REPOSITORY / "notebooks" / "00_start_here.ipynb")
    name, _, folder = settings.partition("=")
    assert name == "--LabApp.app_settings_dir"
    assert folder == str(REPOSITORY / "book") and (REPOSITORY / "book" / "overrides.json").is_file()


def test_make_calls_the_same_commands():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    parts = re.findall(r"^\t@\$\(BIN\)/python -m ipr_lib selftest (\w+)$", makefile, re.MULTILINE)
    assert sorted(parts) == sorted(TEST_PARTS)
    assert re.search(r"^\t@\$\(BIN\)/python -m ipr_lib lab$", makefile, re.MULTILINE)


def test_a_copy_to_hand_out_holds_everything_but_solutions(tmp_path, capsys):
    assert main(["exercises", "--without-solutions", str(tmp_path / "course")]) == 0
    copy = tmp_path / "course"
    assert capsys.readouterr().out == f"{copy}\n"
    names = checkout.tracked_files()
    expected = {name for name in names if not name.startswith("notebooks/solutions/")}
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert found == expected and len(expected) < len(names)
    assert {"notebooks/00_start_here.ipynb", "ipr_lib/__main__.py", "pyproject.toml"} <= found
    for path in notebooks.list_notebooks():
        cells = json.loads((copy / "notebooks" / path.name).read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            assert "solution" not in cell["metadata"].get("tags", [])
    assert main(["exercises", "--without-solutions", str(copy)]) == 2
    assert f"{copy} exists; name a new folder" in capsys.readouterr().err


def test_what_belongs_to_the_course_is_known_by_git(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkout, "REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main(["exercises", "--without-solutions", str(tmp_path / "course")]) == 2
    assert f"which files of {tmp_path} belong to the course" in capsys.readouterr().err
    assert not (tmp_path / "course").exists()
