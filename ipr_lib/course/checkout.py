"""What needs a checkout of the repository: JupyterLab, the project's own tests, a copy of the course to hand out."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..files import REPOSITORY, InputError, atomic_path, results_folder
from .notebooks import list_notebooks

# The suffixes of what people read, for the check of its spelling.
SPELLED = ("*.py", "*.md", "*.ipynb", "*.js", "*.yml", "*.cff", "Makefile")
# What an old processor computes with: other roundings lead a training elsewhere.
OLD_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"}
# Notebooks whose checks rest on trainings; no check may depend on a processor or a seed.
TRAINED = ["05", "06", "07", "08", "09", "10", "11", "12"]
SMOKE = ["ipr_lib", "reproduce", "--profile", "smoke", "--fresh"]
# Part of the project's tests -> what it runs, each as `python -m ...`.
PARTS = {
    "lint": [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["codespell_lib"]],
    "unit": [["pytest", "--ignore=tests/browser"]],
    "notebooks": [[*SMOKE, "--solutions"]],
    "narrow": [[*SMOKE, "--seed", "1", "--only", *TRAINED]],
    "browser": [["pytest", "tests/browser"]],
}


def need(package: str, extra: str) -> None:
    """InputError where a package is missing that the library itself can do without.

    Args:
        package: as it is imported.
        extra: the group of `pyproject.toml` that it is in: course, dev.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f'{package} is missing: pip install -e ".[{extra}]" in the checkout')


def open_lab() -> None:
    """Open JupyterLab at the first notebook, with the settings of book/overrides.json; returns when it is closed."""
    first = list_notebooks()[0]
    need("jupyterlab", "course")
    os.environ["JUPYTER_PLATFORM_DIRS"] = "1"  # read by the import
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(argv=[str(first), f"--LabApp.app_settings_dir={REPOSITORY / 'book'}"])


def run_tests(parts: list[str]) -> int:
    """Run parts of the project's own tests, up to the first that fails.

    Args:
        parts: of PARTS.

    Returns:
        exit code of the last command.
    """
    list_notebooks()  # refuses an installed copy
    for package in ("ruff", "codespell_lib", "pytest"):
        need(package, "dev")
    for part in parts:
        environment = dict(os.environ)
        if part == "narrow":
            environment |= OLD_PROCESSOR
            environment["IPR_RESULTS"] = str(results_folder() / "narrow")
        for command in PARTS[part]:
            print(f"{part}: python -m {' '.join(command)}", flush=True)
            if command == ["codespell_lib"]:
                command = [*command, "--toml", "pyproject.toml", *tracked_files(*SPELLED)]
            command = [sys.executable, "-m", *command]
            code = subprocess.run(command, cwd=REPOSITORY, env=environment).returncode
            if code != 0:
                return code
    return 0


def tracked_files(*patterns: str) -> list[str]:
    """Names of the files that belong to the repository, relative to it.

    Args:
        patterns: as "*.py"; none for all files.

    Raises:
        InputError: there is no git, or this is no clone.
    """
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", *patterns]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"git cannot say which files of {REPOSITORY} belong to the course; clone the repository"
        ) from error
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return [name for name in names if (REPOSITORY / name).is_file()]  # some may be deleted


def hand_out(target: str | Path) -> Path:
    """Copy the repository's files without the solutions of the exercises.

    Args:
        target: folder to write, which is not there yet.

    Returns:
        that folder.

    Raises:
        InputError: it exists, or this is no clone.
    """
    target = Path(target)
    list_notebooks()  # refuses an installed copy
    if target.exists():
        raise InputError(f"{target} exists; name a new folder, or delete it")
    names = tracked_files()
    with atomic_path(target) as temporary:
        for name in names:
            if not name.startswith("notebooks/solutions/"):
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, temporary / name)
    return target
