import errno
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ipr_lib import __version__, files
from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.h36m_layout import load_mat
from ipr_lib.files import InputError, atomic_path, printable, read_json, write_json
from ipr_lib.geometry.camera import look_at
from ipr_lib.training.records import read_checkpoint
from tests.conftest import make_pose, needs_linux


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert read_json(path) == {"a": 1} and leftovers(tmp_path) == ["value.json"]


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert leftovers(tmp_path) == ["folder", "new"]


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "value.json", {"a": float("nan")})
    assert leftovers(tmp_path) == []


@needs_linux
def test_disk_full_is_one_clear_line(tmp_path):
    """/dev/full answers every write as a full disk does."""
    with (
        pytest.raises(
            InputError,
            match=r"cannot write .*value.json: No space left on device; make room on that disk",
        ),
        atomic_path(tmp_path / "value.json") as temporary,
    ):
        os.symlink("/dev/full", temporary)
        temporary.write_text("x" * 10_000, encoding="utf-8")
    assert leftovers(tmp_path) == []


@needs_linux
def test_disk_full_under_a_mat_file(tmp_path, monkeypatch):
    def full(path, *_, **__):
        with open("/dev/full", "wb") as file:
            file.write(b"x" * 10_000)

    monkeypatch.setattr(layout.scipy.io, "savemat", full)
    camera = look_at([4000, 0, 1500], [0, 0, 900], (900, 900), (100, 100), 200, 200)
    with pytest.raises(InputError, match="h36m_meta.mat: No space left"):
        layout.write_meta(
            tmp_path / "h36m_meta.mat", camera, make_pose(np.random.default_rng(0), 3)
        )
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write .*file/value.json"):
        write_json(tmp_path / "file" / "value.json", 1)


def make_old(folder):
    hours_ago = time.time() - 3600
    os.utime(folder, (hours_ago, hours_ago))


def test_what_a_killed_process_leaves_is_swept_and_what_a_live_one_writes_is_not(tmp_path):
    """One process is killed amid a write, one still writes; the next write of a third removes what the first left."""
    code = (
        "import sys, time\nfrom ipr_lib.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n    temporary.write_text('half')\n    print(temporary.parent, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("killed.txt", "alive.txt")
    ]
    killed, alive = (Path(writer.stdout.readline().strip()) for writer in writers)
    writers[0].kill()
    writers[0].wait()
    make_old(killed)
    make_old(alive)
    (tmp_path / ".partial-young").mkdir()  # perhaps not locked yet
    assert killed.is_dir() and alive.is_dir()
    write_json(tmp_path / "value.json", 1)
    assert (
        not killed.exists()
        and (alive / "alive.txt").read_text(encoding="utf-8") == "half"
        and (tmp_path / ".partial-young").is_dir()
    )
    writers[1].communicate("")
    assert (
        writers[1].returncode == 0
        and (tmp_path / "alive.txt").read_text(encoding="utf-8") == "half"
        and not alive.exists()
    )


def test_damaged_and_missing_json(tmp_path):
    (tmp_path / "value.json").write_text('{"a": ', encoding="utf-8")
    with pytest.raises(InputError, match="value.json cannot be read"):
        read_json(tmp_path / "value.json")
    with pytest.raises(InputError, match="none.json is missing"):
        read_json(tmp_path / "none.json")
    (tmp_path / "value.json").write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match="value.json cannot be read"):
        read_json(tmp_path / "value.json")
    (tmp_path / "value.json").write_bytes(b"\xef\xbb\xbf[1]")  # an editor's byte-order mark
    assert read_json(tmp_path / "value.json") == [1]


def test_only_what_may_help_is_advised(tmp_path):
    """Room and permissions for a write that failed for their lack; else the system's own reason."""
    with (
        pytest.raises(InputError) as caught,
        atomic_path(tmp_path / "out.json") as temporary,
    ):
        temporary.write_text((tmp_path / "gone.txt").read_text(encoding="utf-8"), encoding="utf-8")
    reason = f"No such file or directory: {tmp_path / 'gone.txt'}"
    assert str(caught.value) == f"cannot write {tmp_path / 'out.json'}: {reason}"
    for number, advice in (
        (errno.EACCES, "check the permissions"),
        (errno.EROFS, "read-only; name another folder"),
    ):
        with pytest.raises(InputError, match=advice), atomic_path(tmp_path / "out.json"):
            raise OSError(number, os.strerror(number))


def test_files_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_UNFOLD_GB", "0.01")
    zeros = np.zeros((1200, 1100))  # 10.6 MB, in a file of a few KB
    scipy.io.savemat(tmp_path / "x.mat", {"zeros": zeros}, do_compression=True)
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10_600_000))
    (tmp_path / "x.json").write_text(
        "[" + "{}," * 60_000 + "0]", encoding="utf-8"
    )  # 240 bytes each
    readers = {"x.mat": load_mat, "x.pt": read_checkpoint, "x.json": read_json}
    for name, read in readers.items():
        names = [["zeros"]] if name == "x.mat" else []
        assert (tmp_path / name).stat().st_size < 200_000
        with pytest.raises(InputError, match=f"{name} unfolds to .* at most 0.01 GB .*--unfold-gb"):
            read(tmp_path / name, *names)
    monkeypatch.setenv("IPR_UNFOLD_GB", "0.1")
    assert load_mat(tmp_path / "x.mat", ["zeros"])["zeros"].shape == (1200, 1100)
    assert len(read_json(tmp_path / "x.json")) == 60_001


@needs_linux
def test_any_name_can_be_shown():
    assert printable(Path(os.fsdecode(b"a\xff $x.jpg"))) == "a\\xff $x.jpg"
    assert printable("é.jpg") == "é.jpg"


# --- what a number was made by ---


def test_commit_is_ten_digits_and_says_whether_files_differ(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert files.commit() == f"version {__version__}"
    git("init", "-q")
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    git("add", "a.txt")
    git("commit", "-qm", "First")
    assert files.commit() == git("rev-parse", "HEAD")[:10]
    (tmp_path / "a.txt").write_text("two", encoding="utf-8")
    assert files.commit() == git("rev-parse", "HEAD")[:10] + "+"


def test_the_processor_is_named_with_its_threads_and_a_limit_on_its_instructions(monkeypatch):
    import torch

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    plain = files.device_name(torch.device("cpu"))
    assert re.fullmatch(rf"\S.*, {torch.get_num_threads()} threads", plain)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert files.device_name(torch.device("cpu")) == f"{plain}, limited to AVX2"
