import subprocess
import sys

import numpy as np
import pytest

from ipr_lib.data import joined_store
from ipr_lib.data.joined_store import is_joined, join_folder, join_stores
from ipr_lib.data.store import build_store, open_store, verify_store
from ipr_lib.files import InputError

from .conftest import write_sequence

RECIPE = {"step": 3}


@pytest.fixture
def parts(tmp_path):
    """Three stores of 3, 2 and 1 crops, and copies to compare with."""
    found = []
    for subject, n in ((9, 7), (1, 5), (5, 2)):
        write_sequence(tmp_path / "set", subject, n=n)
        path = tmp_path / "parts" / f"s_{subject:02d}.crops"
        build_store(tmp_path / "set", path, subjects=(subject,), step=3, crop_px=64)
        found.append(path)
    return found


@pytest.fixture
def whole(parts, tmp_path):
    """Bytes of what an undisturbed join gives."""
    kept = [(path, path.read_bytes()) for path in parts]
    join_stores(tmp_path / "whole.crops", parts, RECIPE)
    for path, data in kept:
        path.write_bytes(data)
    return (tmp_path / "whole.crops").read_bytes()


def test_joined_stores_hold_the_items_of_all(parts, tmp_path):
    before = [({name: np.array(column) for name, column in store.columns.items()}, [bytes(store.jpeg(i)) for i in range(len(store))])
              for store in map(open_store, parts)]
    join_stores(tmp_path / "both.crops", parts, RECIPE)
    both = open_store(tmp_path / "both.crops")
    assert both.columns["subject"].tolist() == [9] * 3 + [1] * 2 + [5] and both.recipe == RECIPE
    assert [bytes(both.jpeg(i)) for i in range(6)] == sum((jpegs for _, jpegs in before), [])
    for name in ("joints_cam", "affine", "R", "frame"):
        np.testing.assert_array_equal(both.columns[name], np.concatenate([columns[name] for columns, _ in before]))
    assert not any(path.exists() for path in parts), "parts are removed on the way"


def test_crops_need_room_once(parts, tmp_path, monkeypatch):
    """When a part is taken in, those before it are gone, and what was written is no more than what they held."""
    seen, read = [], joined_store.open_store

    def spy(path):
        room = sum(file.stat().st_size for file in tmp_path.rglob(joined_store.PICTURES))
        seen.append(([part.exists() for part in parts], room))
        return read(path)

    held = np.cumsum([0, *(int(open_store(part).columns["start"][-1]) for part in parts)])
    monkeypatch.setattr(joined_store, "open_store", spy)
    join_stores(tmp_path / "both.crops", parts, RECIPE)
    assert [there for there, _ in seen] == [[True] * 3, [False, True, True], [False, False, True]]
    assert [room for _, room in seen] == [0, *(held[1:3] + joined_store.HEADER_ROOM)]


KILLED_AT = {
    "before the second part": "store.open_store = stop_at(2, store.open_store)",
    "amid the second part": "store.CropStore.jpeg = stop_at(5, store.CropStore.jpeg)",
    "before its labels": "j._labels_path = stop_at(5, j._labels_path)",
    "before the labels of all": "j.write_columns = stop_at(1, j.write_columns)",
    "amid the labels of all": "store.json.dumps = stop_at(2, store.json.dumps)",
    "before the end": "j.os.fsync = stop_at(7, j.os.fsync)",
}


@pytest.mark.parametrize("moment", KILLED_AT)
def test_a_killed_join_goes_on(parts, whole, tmp_path, moment):
    """Ended by SIGKILL, at once and without a chance to tidy up."""
    program = f"""
import os, signal, sys
from pathlib import Path
from ipr_lib.data import joined_store as j, store

def stop_at(n, function):
    calls = []
    def counted(*arguments, **named):
        calls.append(1)
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counted

{KILLED_AT[moment]}
j.open_store = store.open_store
j.join_stores(sys.argv[1], [Path(path) for path in sys.argv[2:]], {RECIPE!r})
"""
    target = tmp_path / "both.crops"
    ended = subprocess.run([sys.executable, "-c", program, target, *parts], capture_output=True, text=True, timeout=120)
    assert ended.returncode == -9, ended.stderr
    assert not target.exists()
    folder = join_folder(parts, RECIPE)
    assert all(part.exists() or is_joined(folder, part) for part in parts), "no part may be lost"
    join_stores(target, parts, RECIPE)
    assert target.read_bytes() == whole
    verify_store(open_store(target))


def test_damaged_and_missing_parts_are_named(parts, tmp_path):
    data = bytearray(parts[1].read_bytes())
    store = open_store(parts[1])
    data[store.header["pictures"] + int(store.columns["start"][1]) + 50] ^= 1
    parts[1].write_bytes(data)
    target = tmp_path / "both.crops"
    with pytest.raises(InputError, match="s_01.crops: crop 1 is damaged"):
        join_stores(target, parts, RECIPE)
    assert not target.exists() and is_joined(join_folder(parts, RECIPE), parts[0]) and parts[1].exists()
    parts[1].unlink()
    with pytest.raises(InputError, match="s_01.crops is missing"):
        join_stores(target, parts, RECIPE)
    labels = join_folder(parts, RECIPE) / "s_09.npz"
    labels.write_bytes(labels.read_bytes()[:300])
    with pytest.raises(InputError, match="s_09.npz is damaged .*; delete .*parts and run again"):
        join_stores(target, parts, RECIPE)


def test_another_list_or_recipe_is_another_join(parts):
    folders = {join_folder(parts, RECIPE), join_folder(parts[:2], RECIPE), join_folder(parts[::-1], RECIPE), join_folder(parts, {})}
    assert len(folders) == 4
