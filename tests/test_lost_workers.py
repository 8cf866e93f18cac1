"""A process that makes batches, and cannot hand them over, ends the run in one line."""

import os
import tempfile
from functools import partial
from pathlib import Path

import pytest

from ipr_lib.data.datasets import batches
from ipr_lib.training import loop
from tests.conftest import write_sequence
from tests.processes import Command

resource = pytest.importorskip("resource", reason="needs the limits of POSIX")
TRAIN = ["train", "--profile", "smoke", "--set", "dataset=made-up", "train_subjects=[1]"]
TRAIN += ["test_subjects=[9]", "train_step=3", "test_step=3", "batch_size=2", "epochs=2"]
TRAIN += ["backbone_width=4", "head_width=8", "workers=1"]


def two_workers():
    """Let the training on a CPU load its batches as on a GPU: by processes, two of them."""
    loop.batches = partial(batches, workers=2)
    loop.prefetched = iter


def little_shared_memory():
    """Two workers, and no room for a batch: its crops alone take 2 x 64 x 64 x 3 = 24576 bytes.

    A limit to the size of files holds for shared memory, too.
    """
    two_workers()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def long_folder(folder):
    """Two workers, with a folder for temporary files whose name is too long for a socket."""
    two_workers()
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


@pytest.fixture
def home(tmp_path):
    """A place for data and results, with a prepared set."""
    for subject, action in ((1, 2), (1, 3), (9, 2)):
        write_sequence(tmp_path / "data" / "made-up", subject, action)
    return tmp_path


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is not a folder here")
def test_too_little_shared_memory_is_one_line(home):
    train = [*TRAIN, "--results-dir", home / "results"]
    first = Command([*train, "--run", "first"], home)  # builds the store, whose files are larger
    assert first.wait() == 0, first.text()
    process = Command(train, home, little_shared_memory)
    assert process.wait() == 2, process.text()
    text = process.text()
    (line,) = [line for line in text.splitlines() if line.startswith("ipr_lib train: ")]
    assert "a process that makes batches ended" in line
    assert "--shm-size=8g" in line and "--set workers=0" in line
    assert "a batch could not be handed over: " in text and "Traceback" not in text


def test_a_long_name_of_the_folder_for_temporary_files(home):
    folder = home / ("x" * 100)
    folder.mkdir()
    process = Command(
        [*TRAIN, "--results-dir", home / "results"], home, partial(long_folder, folder)
    )
    assert process.wait() == 0, process.text()
