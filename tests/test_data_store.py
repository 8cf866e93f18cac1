import json
import pickle
import shutil
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.h36m_layout import read_camera_view
from ipr_lib.data.images import encode_jpeg, read_image
from ipr_lib.data.store import (
    MARGIN,
    build_store,
    find_store,
    open_store,
    split_store,
    write_store,
)
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import (
    apply_affine,
    box_at_root,
    compose_affine,
    crop_affine,
    shrinkage,
    warp_shrinking,
)
from tests.conftest import write_sequence
from tests.fuzzing import corruptions, judge
from tests.large_store import probe, write_large_store


def contents(folder):
    """All files of a store, bytes by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all(store):
    for item in range(len(store)):
        store.image(item)


def test_columns_hold_what_the_layout_says(prepared, store):
    columns = store.columns
    assert len(store) == 6
    assert (
        columns["action"].tolist() == [2, 2, 2, 3, 3, 3]
        and columns["frame"].tolist() == [0, 3, 6] * 2
    )
    sequence = read_camera_view(prepared / layout.folder_name(1, 3, 1, 1))
    cam = sequence.camera.world_to_camera(sequence.joints_world[[0, 3, 6]])
    np.testing.assert_allclose(columns["joints_cam"][3:, :17], cam, rtol=1e-6)
    np.testing.assert_allclose(
        columns["joints_img"][3:, :17], sequence.camera.camera_to_image(cam), rtol=1e-5
    )
    np.testing.assert_allclose(
        columns["box"][3:], box_at_root(cam[:, HUMAN36M.root], sequence.camera)
    )


def test_cameras_of_items_project_their_own_joints(store):
    items = np.array([4, 1, 1])
    projected = store.cameras(items).camera_to_image(
        store.columns["joints_cam"][items].astype(float)
    )
    np.testing.assert_allclose(projected, store.columns["joints_img"][items], atol=1e-3)


def test_crops_are_the_picture_under_the_stored_affine(prepared, store):
    folder = layout.folder_name(1, 2, 1, 1)
    picture = cv2.imread(
        str(prepared / folder / layout.image_name(folder, 3)), cv2.IMREAD_COLOR_RGB
    )
    wide = store.columns["box"][1] * [1, 1, MARGIN]
    side = round(64 * MARGIN)
    affine = crop_affine(wide, side)
    np.testing.assert_allclose(store.columns["affine"][1], affine)
    difference = store.image(1).astype(int) - warp_shrinking(picture, affine, side)
    assert store.image(1).shape == (side, side, 3)
    assert np.abs(difference).mean() < 2 and abs(difference.mean()) < 0.5


def test_reduced_decoding_moves_nothing(tmp_path):
    """A frame that is decoded at a quarter of its size must give the crop of the whole one, not one shifted by a pixel."""
    folder = write_sequence(tmp_path / "large", n=1, step=1, width=1001, height=1002)
    store = build_store(tmp_path / "large", tmp_path / "crops", subjects=(1,), step=1, crop_px=32)
    path = folder / layout.image_name(folder.name, 0)
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    shift = np.array([[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]])  # of a stored pixel
    errors = []
    for dx, dy in shift:
        affine = store.columns["affine"][0] + [[0, 0, dx], [0, 0, dy]]
        errors.append(
            np.abs(
                warp_shrinking(picture, affine, len(store.image(0))).astype(int) - store.image(0)
            ).mean()
        )
    assert np.argmin(errors) == 0 and errors[0] < 2


@pytest.mark.parametrize("side", [420.0, 771.0, 1300.0])
def test_crops_are_the_same_from_a_video_and_from_prepared_pictures(tmp_path, side):
    """A frame decoded at half or quarter size gives the crop of the whole one, up to what JPEG does to that crop."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (61, 61, 3), np.uint8)
    picture = cv2.resize(coarse, (1000, 1002), interpolation=cv2.INTER_CUBIC) // 2
    picture += rng.integers(0, 40, picture.shape, np.uint8)  # grain: there is something to alias
    path = tmp_path / "frame.jpg"
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    affine = crop_affine([503.0, 480.5, side], 192)
    whole = read_image(path, 1000, 1002)[0]
    reduced, to_picture = read_image(path, 1000, 1002, shrinkage(affine))
    assert len(reduced) < len(whole)
    expected = warp_shrinking(whole, affine, 192)
    cut = warp_shrinking(reduced, compose_affine(affine, to_picture), 192)
    stored = cv2.imdecode(np.frombuffer(encode_jpeg(expected), np.uint8), cv2.IMREAD_COLOR)
    noise = cv2.absdiff(stored, expected).mean()
    assert 0 < cv2.absdiff(cut, expected).mean() < noise


def test_colours_are_stored_at_full_size():
    """A sharp red edge on blue stays within the noise of JPEG; colours at half size would smear it."""
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[:, :47], picture[:, 47:] = (200, 40, 40), (40, 40, 200)
    stored = cv2.imdecode(np.frombuffer(encode_jpeg(picture), np.uint8), cv2.IMREAD_COLOR)
    assert cv2.absdiff(stored, picture)[:, 44:50].mean() < 5


def test_the_folder_that_everyone_leaves_out(prepared, tmp_path):
    """A set that others prepared may hold it; in a capture of that name nothing is damaged."""
    write_sequence(prepared, *layout.parse_folder_name(layout.SKIPPED_FOLDERS[0]))
    write_sequence(prepared, 11, 2)
    store = build_store(prepared, tmp_path / "s11", subjects=(11,), step=3, crop_px=64)
    assert store.columns["subaction"].tolist() == [1] * 3
    (prepared / "capture.json").write_text("{}", encoding="utf-8")
    store = build_store(prepared, tmp_path / "s11", subjects=(11,), step=3, crop_px=64)
    assert store.columns["subaction"].tolist() == [1] * 3 + [2] * 3


def test_workers_change_nothing(prepared, store, tmp_path):
    other = build_store(prepared, tmp_path / "two", subjects=(1,), step=3, crop_px=64, workers=2)
    assert contents(other.path) == contents(store.path)


def test_a_store_travels_to_another_process_by_its_path(store):
    data = pickle.dumps(store)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.recipe == store.recipe and (again.image(2) == store.image(2)).all()


def test_a_store_opens_without_the_library(store):
    """What notebook 04 shows: NumPy and a JPEG decoder are enough."""
    names = {path.name for path in store.path.iterdir()}
    assert names == {f"{name}.npy" for name in store.columns} | {"jpegs.npy", "store.json"}
    start = np.load(store.path / "start.npy", mmap_mode="r")
    jpegs = np.load(store.path / "jpegs.npy", mmap_mode="r")
    assert start.shape == (6,) and start[0] == 0 and jpegs.dtype == np.uint8
    third = cv2.imdecode(np.array(jpegs[start[2] : start[3]]), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(third, store.image(2))
    last = cv2.imdecode(np.array(jpegs[start[5] :]), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(last, store.image(5))
    assert np.load(store.path / "joints_cam.npy").shape == (6, 18, 3)
    assert (
        json.loads((store.path / "store.json").read_text(encoding="utf-8"))["recipe"]["crop_px"]
        == 64
    )


def test_some_items_as_a_store_of_their_own(store):
    some = store.select(np.array([4, 1]))
    assert (
        len(some) == 2
        and some.columns["frame"].tolist() == [3, 3]
        and some.columns["action"].tolist() == [3, 2]
    )
    again = pickle.loads(pickle.dumps(some))
    for one in (some, again):
        np.testing.assert_array_equal(one.image(0), store.image(4))
        np.testing.assert_array_equal(one.image(1), store.image(1))
    assert len(again) == 2 and set(again.labels) == set(store.columns) - {"start", "size", "crc"}
    assert some.checksum != store.checksum


def test_corners_of_the_box_lie_inside_the_stored_crop(store):
    x, y, side = store.columns["box"][0]
    corners = np.array([[x - side / 2, y - side / 2], [x + side / 2, y + side / 2]])
    inside = apply_affine(store.columns["affine"][0], corners)
    stored_px = round(64 * MARGIN)
    middle, half = (stored_px - 1) / 2, stored_px / MARGIN / 2
    np.testing.assert_allclose(inside, [[middle - half] * 2, [middle + half] * 2])
    assert middle - half > 10


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["jpegs.npy", "box.npy", "crc.npy", "store.json"])
@pytest.mark.parametrize("keep", [0, 60, 130, -2])
def test_cut_files_are_refused(store, name, keep):
    path = store.path / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        InputError,
        match=rf"s1/{name} is .*(damaged|incomplete); delete the store and build it again",
    ):
        open_store(store.path)
    assert find_store(store.path) is None


@pytest.mark.parametrize("name", ["jpegs.npy", "box.npy", "start.npy", "store.json"])
def test_missing_files_are_refused(store, name):
    (store.path / name).unlink()
    with pytest.raises(InputError, match=rf"s1/{name} is (missing|incomplete).*; delete the store"):
        open_store(store.path)


def flip(path, at):
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_damage_is_found(store):
    flip(store.path / "jpegs.npy", 128 + int(store.columns["start"][4]) + 200)
    damaged = open_store(store.path)
    damaged.image(3)
    with pytest.raises(
        InputError, match="s1: crop 4 is damaged; delete the store and build it again"
    ):
        damaged.image(4)
    flip(store.path / "box.npy", 140)
    with pytest.raises(InputError, match="box.npy is damaged"):
        open_store(store.path)


def test_a_recipe_that_was_changed_by_hand_is_refused(store):
    path = store.path / "store.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"step": 3', '"step": 5'), encoding="utf-8"
    )
    with pytest.raises(InputError, match="store.json is damaged"):
        open_store(store.path)


def test_another_version_is_refused(store):
    path = store.path / "store.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"version": 5', '"version": 6'), encoding="utf-8"
    )
    with pytest.raises(
        InputError,
        match="s1 is of version 6, this library reads version 5; delete the store and build it again",
    ):
        open_store(store.path)
    assert find_store(store.path) is None


def test_a_file_of_the_older_versions_is_refused(prepared, tmp_path):
    """Rather than to leave it beside the new store, where it fills the disk."""
    (tmp_path / "s1.crops").write_bytes(b"IPRSTORE" + bytes(100))
    with pytest.raises(
        InputError,
        match="s1.crops is a crop store of an older version, in one file; delete it and run",
    ):
        build_store(prepared, tmp_path / "s1", subjects=(1,), step=3, crop_px=64)
    assert not (tmp_path / "s1").exists()


def test_missing_store(tmp_path):
    with pytest.raises(InputError, match="none is missing; build it first"):
        open_store(tmp_path / "none")
    assert find_store(tmp_path / "none") is None


def content(store):
    """All labels and crops of a store, copied: the files may change afterwards."""
    columns = {name: np.array(column) for name, column in store.columns.items()}
    return columns | {
        "pictures": np.stack([store.image(i) for i in range(len(store))]),
        "recipe": store.recipe,
    }


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize(
    ("name", "n"),
    [("store.json", 105), ("joints_cam.npy", 60), ("size.npy", 60), ("jpegs.npy", 105)],
)
def test_random_damage_is_found_or_changes_nothing(store, name, n):
    path, expected = store.path / name, content(store)
    cases = corruptions(path.read_bytes(), n, seed=29)
    outcomes = judge(
        cases, path, lambda: content(open_store(store.path)), lambda result: same(result, expected)
    )
    assert outcomes["refused"] > n // 2


# ---------------------------------------------------------------- writing


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory in /proc")
def test_a_store_of_full_size_opens_quickly_and_in_little_memory(store, tmp_path):
    n = 312_188
    tiny = [
        cv2.imencode(".jpg", store.image(i)[:8, :8], [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].tobytes()
        for i in range(6)
    ]
    labels = store.labels
    write_store(tmp_path / "tiny", store.recipe, [(labels, tiny)])
    path = tmp_path / "large"
    try:
        write_large_store(path, open_store(tmp_path / "tiny"), n)
        found = probe(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)  # pytest keeps its folders
    assert found["items"] == n and found["labels"]["frame"] == found["chosen"]
    np.testing.assert_array_equal(
        found["labels"]["joints_img"], labels["joints_img"][np.array(found["chosen"]) % 6]
    )
    assert found["highest"] - found["before"] < 150 and found["opened"] - found["before"] < 150
    assert found["busy"] < 0.5


def test_crops_go_to_disk_as_they_come(store, tmp_path):
    """Whatever their number: when a crop is asked for, those before the last few are on disk."""
    labels = {name: column[:1].repeat(9, 0) for name, column in store.labels.items()}
    block, on_disk = bytes(300_000), []

    def jpegs():
        for _ in range(9):
            on_disk.append(
                sum(path.stat().st_size for path in tmp_path.rglob("streamed/jpegs.npy"))
            )
            yield block

    write_store(tmp_path / "streamed", {}, [(labels, jpegs())])
    assert on_disk[8] >= 7 * len(block)


def test_an_error_amid_the_crops_leaves_what_was_there(store, tmp_path):
    before = contents(store.path)

    def jpegs():
        yield b"one"
        raise InputError("picture 2 is damaged")

    with pytest.raises(InputError, match="picture 2"):
        write_store(store.path, {}, [({}, jpegs())])
    assert contents(store.path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared", "s1"]


def test_a_store_of_another_recipe_is_replaced(store):
    labels, jpegs = (
        {name: np.array(column) for name, column in store.labels.items()},
        [bytes(store.jpeg(i)) for i in range(6)],
    )
    write_store(store.path, store.recipe | {"origin": "new"}, [(labels, jpegs)])
    assert open_store(store.path).recipe["origin"] == "new"
    assert [path.name for path in store.path.parent.iterdir() if path.name.startswith(".")] == []


BUILDER = """
import sys
from ipr_lib.data import store

def slowly(write):
    def written(*arguments):
        print("working", flush=True)
        import time; time.sleep(float(sys.argv[3]))
        return write(*arguments)
    return written

setattr(store, sys.argv[4], slowly(getattr(store, sys.argv[4])))
store.build_store(sys.argv[1], sys.argv[2], subjects=(1,), step=3, crop_px=64)
"""


@pytest.mark.parametrize("moment", ["cut_crops", "join_columns", "_write_labels"])
def test_a_builder_that_is_killed_leaves_nothing_that_is_taken_for_a_store(
    prepared, tmp_path, moment
):
    target = tmp_path / "stores" / "s1"
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, prepared, target, "60", moment],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "working\n"
    finally:
        process.kill()
        process.wait(60)
    left = list(target.parent.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".partial-") and find_store(target) is None
    assert len(build_store(prepared, target, subjects=(1,), step=3, crop_px=64)) == 6


def build_repeatedly(barrier, prepared, folder):
    """Exit code 0 if each store that this process finds after building it is complete."""
    for round_ in range(4):
        barrier.wait(120)
        store = split_store(prepared, folder / str(round_), "train", (1,), 3, 64)
        read_all(store)
        read_all(open_store(store.path))


def test_two_processes_may_build_one_store(prepared, store, tmp_path):
    """The second one waits, and finds the store of the first."""
    folder = tmp_path / "stores"
    context = get_context("spawn")
    barrier = context.Barrier(2)
    processes = [
        context.Process(target=build_repeatedly, args=(barrier, prepared, folder)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    for round_ in range(4):
        assert [path.name for path in (folder / str(round_)).iterdir()] == ["prepared-train-64"]
        assert contents(folder / str(round_) / "prepared-train-64") == contents(store.path)
