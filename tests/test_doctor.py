"""The check of the machine: what is OK, what is a note, what fails, and the command that prints it."""

import collections
import subprocess
import sys

import pytest

from ipr_lib.__main__ import main
from ipr_lib.course import doctor
from ipr_lib.files import REPOSITORY


@pytest.mark.parametrize(
    "wanted, found, sign",
    [
        (">=3.11", "3.11.0", "OK"),
        (">=3.11", "3.14.0rc1", "OK"),
        (">=3.11", "3.10.9", "FAIL"),
    ],
)
def test_python(wanted, found, sign):
    assert doctor.check_python(wanted, found)[0] == sign


@pytest.mark.parametrize(
    "requirement, sign, words",
    [
        ("numpy>=1.0", "OK", "numpy "),
        ("numpy>=99", "FAIL", "needs >=99: run `make env`"),
        ('numpy>=99; extra == "course"', "FAIL", "needs >=99: run `make env`"),
        ('numpy>=99; extra == "dev"', "NOTE", "or do without"),
        ("no-such-package>=1.5", "FAIL", "no-such-package is missing, needs >=1.5"),
        ('no-such-package>=1.5; extra == "book"', "NOTE", "no-such-package is missing"),
    ],
)
def test_packages(requirement, sign, words):
    found, text = doctor.check_package(requirement)
    assert found == sign and words in text


def test_a_library_that_is_not_installed_is_the_only_line(monkeypatch):
    def missing(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "metadata", missing)
    ((sign, text),) = doctor.diagnose()
    assert sign == "FAIL" and "make env" in text


@pytest.mark.parametrize("device, sign", [("cpu", "NOTE"), ("cuda", "OK")])
def test_no_gpu_is_a_note(monkeypatch, device, sign):
    import torch

    monkeypatch.setattr("ipr_lib.run.default_device", lambda: torch.device(device))
    monkeypatch.setattr(doctor, "device_name", lambda device: f"a {device.type} with a name")
    found, text = doctor.check_torch()[-1]
    assert found == sign and f"a {device} with a name" in text


def test_a_device_that_is_not_there_fails(monkeypatch):
    monkeypatch.setenv("IPR_DEVICE", "tpu")
    sign, text = doctor.check_torch()[-1]
    assert sign == "FAIL" and "'tpu'" in text


@pytest.mark.parametrize("threads, sign", [(1, "NOTE"), (4, "OK"), (8, "OK")])
def test_threads_far_below_the_cores_are_noted(monkeypatch, threads, sign):
    """Half of the cores is what processors with two threads a core give."""
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 8)
    assert doctor.check_torch()[0][0] == sign


def test_builds_that_do_not_fit_are_one_line(monkeypatch):
    """Importing a module that is None in `sys.modules` fails like one that is damaged."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    ((sign, text),) = doctor.check_torch()
    assert sign == "FAIL" and "do not load together" in text and "\n" not in text


def test_folders(tmp_path):
    folder = tmp_path / "data" / "inner"
    assert doctor.check_folder(folder)[0] == "OK"
    assert folder.is_dir() and list(folder.iterdir()) == []
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    sign, text = doctor.check_folder(tmp_path / "file" / "data")
    assert sign == "FAIL" and str(tmp_path / "file" / "data") in text


@pytest.mark.parametrize("free, sign", [(7.9e9, "NOTE"), (8.1e9, "OK")])
def test_free_space(monkeypatch, tmp_path, free, sign):
    usage = collections.namedtuple("usage", "free")(free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    assert doctor.check_space(tmp_path / "not" / "there")[0] == sign


def test_real_data(tmp_path):
    assert doctor.check_real_data(tmp_path)[0] == "NOTE"
    (tmp_path / "human36m").mkdir()
    assert doctor.check_real_data(tmp_path)[0] == "OK"


# --- the command ---


def test_a_failure_is_told_by_the_exit_code(monkeypatch, capsys):
    lines = [("OK", "numpy 2.4"), ("NOTE", "no GPU"), ("FAIL", "torch is missing")]
    monkeypatch.setattr(doctor, "diagnose", lambda: lines)
    assert main(["doctor"]) == 2
    out, error = capsys.readouterr()
    assert out.splitlines() == ["OK    numpy 2.4", "NOTE  no GPU", "FAIL  torch is missing"]
    assert error == "ipr_lib doctor: not ready: 1 of the lines above say FAIL, and what to do\n"


def test_this_machine_is_ready():
    """As a user calls it; every line begins with a sign, and the environment of the tests has no failure."""
    run = subprocess.run(
        [sys.executable, "-m", "ipr_lib", "doctor"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.returncode == 0, run.stdout + run.stderr
    *lines, last = run.stdout.splitlines()
    assert last == "ready"
    assert {line.split()[0] for line in lines} <= {"OK", "NOTE"}
    assert any(line.startswith("OK    torch 2.") for line in lines)


def test_a_missing_package_of_the_library_is_one_line(tmp_path):
    """Without NumPy, say, no command can start; the message is not a traceback."""
    (tmp_path / "cv2.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'cv2'\")\n", encoding="utf-8"
    )
    code = "import sys; sys.path.insert(0, sys.argv.pop()); import ipr_lib.__main__"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "ipr_lib: No module named 'cv2'; run `make env`, then `python -m ipr_lib doctor` checks the rest"
    ]
