import os

import numpy as np
import pytest

from ipr_lib import layout
from ipr_lib.camera import look_at
from ipr_lib.files import InputError, atomic_path, read_json, write_json
from tests.conftest import make_pose


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
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


def test_disk_full_is_one_clear_line(tmp_path):
    """/dev/full answers every write as a full disk does."""
    with pytest.raises(InputError, match=r"cannot write .*value.json: No space left on device; check free space"), \
            atomic_path(tmp_path / "value.json") as temporary:
        os.symlink("/dev/full", temporary)
        temporary.write_text("x" * 10_000)
    assert leftovers(tmp_path) == []


def test_disk_full_under_a_mat_file(tmp_path, monkeypatch):
    def full(path, *_, **__):
        with open("/dev/full", "wb") as file:
            file.write(b"x" * 10_000)

    monkeypatch.setattr(layout.scipy.io, "savemat", full)
    camera = look_at([4000, 0, 1500], [0, 0, 900], (900, 900), (100, 100), 200, 200)
    with pytest.raises(InputError, match="h36m_meta.mat: No space left"):
        layout.write_meta(tmp_path / "h36m_meta.mat", camera, make_pose(np.random.default_rng(0), 3))
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write .*file/value.json"):
        write_json(tmp_path / "file" / "value.json", 1)


def test_damaged_and_missing_json(tmp_path):
    (tmp_path / "value.json").write_text('{"a": ')
    with pytest.raises(InputError, match="value.json cannot be read"):
        read_json(tmp_path / "value.json")
    with pytest.raises(InputError, match="none.json is missing"):
        read_json(tmp_path / "none.json")
