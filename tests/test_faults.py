"""Ctrl-C, kill -9, a full disk, a read-only folder: what was good stays, and the same command goes on.

Each fault strikes a real process in the middle of a command, at the moment when one of its files is
about to get its name. A full disk is a limit to the size of files (RLIMIT_FSIZE), so that no disk
has to be mounted. Where tests run as root, who may write into read-only folders, the process gives
that right up (CAP_DAC_OVERRIDE) before the folders are made read-only.
"""

import ctypes
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from ipr_lib.files import read_json
from ipr_lib.training import loop
from ipr_lib.training.records import read_log
from tests import human36m_raw
from tests.conftest import write_sequence
from tests.processes import Command, files_below
from tests.test_course_notebooks import write_notebook

resource = pytest.importorskip("resource", reason="needs the limits of POSIX")
FULL = 3000  # bytes that a file may have on the full disk
EXIT_CODES = {"Ctrl-C": 130, "kill -9": -signal.SIGKILL, "full disk": 2, "read-only folder": 2}
CAPTURE = ["capture_subjects=[1]", "capture_actions=[2,3]", "capture_cameras=[1]"]
CAPTURE += ["capture_frames=2", "train_step=1"]
TINY = ["dataset=made-up", "train_subjects=[1]", "test_subjects=[9]", "train_step=3"]
TINY += ["test_step=3", "batch_size=2", "epochs=3", "backbone_width=4", "head_width=8", "workers=1"]
# Of each command: its arguments, where HOME is the folder of the test; the file that is about to
# get its name when the fault strikes, and how many times a file of this name gets it.
COMMANDS = {
    "capture": (
        ["--profile", "smoke", "--workers", "1", "--target", "HOME/out", "--set", *CAPTURE],
        ("s_01_act_03_subact_01_ca_01", 1),
    ),
    "prepare": (
        ["human36m", "--source", "HOME/raw", "--target", "HOME/out", "--workers", "1"]
        + ["--subjects", "1", "--actions", "12"],
        ("s_01_act_12_subact_02_ca_03", 1),
    ),
    "train": (
        ["--profile", "smoke", "--results-dir", "HOME", "--run", "out", "--set", *TINY],
        ("checkpoint.pt", 4),
    ),
    "reproduce": (
        ["--profile", "smoke", "--results-dir", "HOME/out", "--set", *TINY],
        ("metrics.json", 1),
    ),
    "predict": (["HOME/a.png", "HOME/b.png", "--whole", "--out", "HOME/out"], ("b_pose.jpg", 1)),
}


def strike_at(name, count, fault, folder):
    """Let a fault strike this process when a file of this name gets it for the n-th time."""
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1  # one at every step
    replace, seen = Path.replace, []

    def struck(path, target):
        if Path(target).name == name:
            seen.append(target)
            if len(seen) == count:
                strike(fault, folder)
        return replace(path, target)

    Path.replace = struck


def strike(fault, folder):
    """One of the four faults, to this process and this folder."""
    if fault == "Ctrl-C":
        os.kill(os.getpid(), signal.SIGINT)
    elif fault == "kill -9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
        raise OSError(28, "No space left on device")  # the file that is being written now
    else:
        heed_modes()
        set_modes(folder, 0o555)


def heed_modes():
    """Give up the right of root to write into any folder."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same, higher
    assert libc.capget(header, rights) == 0
    rights[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE
    assert libc.capset(header, rights) == 0


def set_modes(folder, mode):
    """Give a folder and all folders in it a mode."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(mode)


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """A folder with all that the commands read; and what each gives undisturbed, made when asked for."""
    root = tmp_path_factory.mktemp("faults")
    home = root / "inputs"
    human36m_raw.write_tree(home / "raw", (((1, 12, 1), 7), ((1, 12, 2), 6)))
    for subject, action in ((1, 2), (1, 3), (9, 2)):
        write_sequence(home / "data" / "made-up", subject, action)
    write_notebook(home / "notebooks" / "00_first.ipynb", "print(1 + 1)")
    noise = np.random.default_rng(0).integers(0, 255, (2, 90, 70, 3), np.uint8)
    Image.fromarray(noise[0]).save(home / "a.png")
    Image.fromarray(noise[1]).save(home / "b.png")
    return root, {}


def arguments_of(command, home):
    """The command line of a command in COMMANDS."""
    return [command, *(text.replace("HOME", str(home)) for text in COMMANDS[command][0])]


def undisturbed(command, homes):
    """What a command leaves when nothing happens to it."""
    root, done = homes
    if command not in done:
        home = root / command
        shutil.copytree(root / "inputs", home)
        process = Command(arguments_of(command, home), home)
        assert process.wait() == 0, process.text()
        done[command] = outcome(command, home / "out")
    return done[command]


def outcome(command, folder):
    """{name: value} of what a command has left that does not depend on the time it took."""
    if command in ("capture", "prepare"):
        found = files_below(folder)
        return {path: found[path] for path in found if not path.startswith(".")}
    if command == "predict":
        found = {}
        for path, content in files_below(folder).items():
            if path.endswith((".csv", ".jpg")):
                found[path] = content.replace(str(folder.parent).encode(), b"HOME")
        return found
    found = {}
    checkpoints = [path for path in folder.rglob("checkpoint.pt") if ".partial-" not in str(path)]
    for path in checkpoints:
        weights = torch.load(path, weights_only=True)["network"]
        found |= {name: value.numpy().tobytes() for name, value in weights.items()}
        found["steps"] = [row["step"] for row in read_log(path.parent)]
    for path in folder.glob("*/metrics.json"):
        found["scores"] = read_json(path)["scores"]
    for path in folder.glob("*/00/executed.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        found["printed"] = [cell.outputs for cell in cells if cell.get("outputs")][0][0]["text"]
    return found


def good_files(command, folder):
    """What of a struck command's files is used by the next one: complete files under their names."""
    found = outcome(command, folder)
    if command in ("train", "reproduce"):
        return {"steps": found["steps"]}  # its checkpoint is whole, and so is its log
    return {path: found[path] for path in found if ".partial-" not in path}


@pytest.mark.parametrize("fault", EXIT_CODES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_good_stays_and_the_same_command_goes_on(homes, tmp_path, command, fault):
    expected = undisturbed(command, homes)
    home = tmp_path / "home"
    shutil.copytree(homes[0] / "inputs", home)
    arguments, (name, count) = arguments_of(command, home), COMMANDS[command][1]
    hook = partial(strike_at, name, count, fault, home / "out")
    struck = Command(arguments, home, hook)
    assert struck.wait() == EXIT_CODES[fault], struck.text()
    text = struck.text()
    assert "Traceback" not in text
    if fault in ("full disk", "read-only folder"):
        assert "cannot write" in text
    if fault == "Ctrl-C":
        assert "the same command goes on from here" in text
    set_modes(home / "out", 0o755)

    good = good_files(command, home / "out")
    assert good, "nothing was good: the fault struck too early"
    for path, content in good.items():
        if path == "steps":
            assert content == expected["steps"][: len(content)]
        elif path != "poses.csv":  # so far of the first input
            assert content == expected[path], path
    again = Command(arguments, home)
    assert again.wait() == 0, again.text()
    found = outcome(command, home / "out")
    assert {path: found[path] for path in found if ".partial-" not in path} == expected
    assert not list(home.rglob(".*.lock")) and not list(home.rglob(".*.owner"))
