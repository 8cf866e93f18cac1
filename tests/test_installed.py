"""An installed copy: the wheel in an empty environment, run from a working folder that is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ipr_lib import __version__
from ipr_lib.files import REPOSITORY, read_json


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`run(*arguments)` in the folder `work`, with the Python of an environment that holds the wheel.

    The packages that the library needs are those of the environment of the tests; a .pth file names
    them, which leaves the checkout itself out.
    """
    folder = tmp_path_factory.mktemp("installed")
    source, work = folder / "source", folder / "work"
    work.mkdir()
    # Apart from the checkout, because a build writes beside what it builds.
    shutil.copytree(
        REPOSITORY / "ipr_lib", source / "ipr_lib", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    builder = venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt")
    builder.create(folder / "env")
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def call(*command, **choices):
        environment = {}
        for name, value in os.environ.items():
            if name != "PYTHONPATH" and not name.startswith("IPR_"):
                environment[name] = value
        command = [str(part) for part in command]
        return subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, **choices
        )

    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    # With the setuptools of this environment, so that nothing is fetched.
    built = call(*pip, "wheel", *offline, "--no-build-isolation", "-w", folder / "wheel", source)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "wheel").glob("*.whl")
    put = call(*pip, "--python", python, "install", *offline, wheel)
    assert put.returncode == 0, put.stderr
    where = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    with open(f"{where.stdout.strip()}/packages.pth", "w", encoding="utf-8") as file:
        file.write(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")

    def run(*arguments):
        return call(python, "-m", "ipr_lib", *arguments)

    return SimpleNamespace(work=work, python=python, call=call, run=run)


def test_it_is_the_copy_that_runs(installed):
    program = "import ipr_lib.files as f; print(f.__file__); print(f.commit())"
    done = installed.call(installed.python, "-c", program)
    path, commit = done.stdout.splitlines()
    assert path.startswith(str(installed.python.parents[1])) and commit == f"version {__version__}"
    assert installed.run("--version").stdout == f"ipr_lib {__version__}\n"


def test_the_reference_model_predicts(installed):
    picture = np.random.default_rng(0).integers(0, 255, (150, 90, 3), np.uint8)
    cv2.imwrite(str(installed.work / "x.png"), picture)
    done = installed.run("predict", "x.png", "--whole", "--out", "poses", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("network: the course's own: ")
    assert (installed.work / "poses" / "poses.csv").is_file()


def test_a_capture_lies_in_the_working_folder(installed):
    few = ["capture_subjects=9", "capture_actions=2", "capture_cameras=1", "capture_frames=20"]
    done = installed.run("capture", "--profile", "smoke", "--set", *few)
    assert done.returncode == 0, done.stderr
    (capture,) = (installed.work / "data").glob("capture-smoke-*")
    assert done.stdout == f"{capture}\n"
    assert read_json(capture / "capture.json")["subjects"] == [9]
    assert len(list(capture.glob("*/*.jpg"))) == 1, "frame 0 of one camera"


@pytest.mark.parametrize("command", ["reproduce --profile smoke", "exercises"])
def test_it_says_where_notebooks_are(installed, command):
    done = installed.run(*command.split())
    assert done.returncode == 2
    assert "they lie in the folder `notebooks` of the repository" in done.stderr
    assert done.stderr.count("\n") == 1


def test_tables_of_the_readme_want_a_checkout(installed):
    done = installed.run("report", "--readme")
    assert done.returncode == 2
    assert f"{installed.work / 'README.md'} is missing; run this in a checkout" in done.stderr
