"""Common misspellings, in everything that people read: prose, comments, docstrings, messages."""

import subprocess
import sys

import pytest

from ipr_lib.config import REPOSITORY

KINDS = {".py", ".md", ".ipynb", ".js", ".mjs", ".css", ".toml", ".yml", ""}
FOLDERS = ("ipr_lib", "notebooks", "book", "tests", "benchmarks", "data", ".github")


def codespell(*paths):
    """(exit code, what it says) of codespell with the project's own settings."""
    command = [sys.executable, "-m", "codespell_lib", "--toml", str(REPOSITORY / "pyproject.toml"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    return done.returncode, done.stdout + done.stderr


def test_no_common_misspelling():
    roots = [path for path in REPOSITORY.iterdir() if path.is_file()]
    below = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    read = [path for path in roots + below if path.is_file() and path.suffix in KINDS and path.name != "requirements.lock"]
    read = [path for path in read if not path.is_relative_to(REPOSITORY / "data") or path.name == "README.md"]
    assert len(read) > 150
    code, said = codespell(*read)
    assert code == 0, said


@pytest.mark.parametrize("word", ["t" "eh", "sep" "erate", "cal" "ender"])  # in two halves: this file is read as well
def test_a_misspelling_is_noticed(tmp_path, word):
    (tmp_path / "notes.md").write_text(f"A page with {word} in it.")
    code, said = codespell(tmp_path / "notes.md")
    assert code != 0 and word in said
