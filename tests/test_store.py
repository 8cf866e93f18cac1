import pickle
import zlib
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.h36m_layout import read_sequence
from ipr_lib.data.images import encode_crop, read_picture, shrinkage
from ipr_lib.data.store import MARGIN, VERSION, build_store, open_store, verify_store, write_store
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import (
    apply_affine,
    box_at_root,
    compose_affine,
    crop_affine,
    warp_shrinking,
)
from tests.conftest import write_sequence
from tests.fuzzing import corruptions, judge
from tests.large_store import probe, write_large_store


def test_columns_hold_what_the_layout_says(prepared, store):
    columns = store.columns
    assert len(store) == 6
    assert columns["action"].tolist() == [2, 2, 2, 3, 3, 3] and columns["frame"].tolist() == [0, 3, 6] * 2
    sequence = read_sequence(prepared / layout.folder_name(1, 3, 1, 1))
    cam = sequence.camera.world_to_camera(sequence.joints_world[[0, 3, 6]])
    np.testing.assert_allclose(columns["joints_cam"][3:, :17], cam, rtol=1e-6)
    np.testing.assert_allclose(columns["joints_img"][3:, :17], sequence.camera.camera_to_image(cam), rtol=1e-5)
    np.testing.assert_allclose(columns["box"][3:], box_at_root(cam[:, HUMAN36M.root], sequence.camera))


def test_cameras_of_items_project_their_own_joints(store):
    items = np.array([4, 1, 1])
    projected = store.cameras(items).camera_to_image(store.columns["joints_cam"][items].astype(float))
    np.testing.assert_allclose(projected, store.columns["joints_img"][items], atol=1e-3)


def test_crops_are_the_picture_under_the_stored_affine(prepared, store):
    folder = layout.folder_name(1, 2, 1, 1)
    picture = cv2.imread(str(prepared / folder / layout.picture_name(folder, 3)), cv2.IMREAD_COLOR_RGB)
    wide = store.columns["box"][1] * [1, 1, MARGIN]
    side = round(64 * MARGIN)
    affine = crop_affine(wide, side)
    np.testing.assert_allclose(store.columns["affine"][1], affine)
    difference = store.picture(1).astype(int) - warp_shrinking(picture, affine, side)
    assert store.picture(1).shape == (side, side, 3)
    assert np.abs(difference).mean() < 2 and abs(difference.mean()) < 0.5


def test_reduced_decoding_moves_nothing(tmp_path):
    """A frame that is decoded at a quarter of its size must give the crop of the whole one, not one shifted by a pixel."""
    folder = write_sequence(tmp_path / "large", n=1, step=1, width=1001, height=1002)
    store = build_store(tmp_path / "large", tmp_path / "crops", subjects=(1,), step=1, crop_px=32)
    path = folder / layout.picture_name(folder.name, 0)
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    shift = np.array([[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]])  # of a stored pixel
    errors = []
    for dx, dy in shift:
        affine = store.columns["affine"][0] + [[0, 0, dx], [0, 0, dy]]
        errors.append(np.abs(warp_shrinking(picture, affine, len(store.picture(0))).astype(int) - store.picture(0)).mean())
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
    whole = read_picture(path, 1000, 1002)[0]
    reduced, to_picture = read_picture(path, 1000, 1002, shrinkage(affine))
    assert len(reduced) < len(whole)
    expected = warp_shrinking(whole, affine, 192)
    cut = warp_shrinking(reduced, compose_affine(affine, to_picture), 192)
    stored = cv2.imdecode(np.frombuffer(encode_crop(whole, affine, 192), np.uint8), cv2.IMREAD_COLOR)
    noise = cv2.absdiff(stored, expected).mean()
    assert 0 < cv2.absdiff(cut, expected).mean() < noise


def test_colours_are_stored_at_full_size():
    """A sharp red edge on blue stays within the noise of JPEG; colours at half size would smear it."""
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[:, :47], picture[:, 47:] = (200, 40, 40), (40, 40, 200)
    stored = cv2.imdecode(np.frombuffer(encode_crop(picture, np.eye(2, 3), 96), np.uint8), cv2.IMREAD_COLOR)
    assert cv2.absdiff(stored, picture)[:, 44:50].mean() < 5


def test_the_folder_that_everyone_leaves_out(prepared, tmp_path):
    """A set that others prepared may hold it; in a capture of that name nothing is damaged."""
    write_sequence(prepared, *layout.parse_folder_name(layout.SKIPPED_FOLDERS[0]))
    write_sequence(prepared, 11, 2)
    store = build_store(prepared, tmp_path / "s11.crops", subjects=(11,), step=3, crop_px=64)
    assert store.columns["subaction"].tolist() == [1] * 3
    (prepared / "capture.json").write_text("{}")
    store = build_store(prepared, tmp_path / "s11.crops", subjects=(11,), step=3, crop_px=64)
    assert store.columns["subaction"].tolist() == [1] * 3 + [2] * 3


def test_workers_change_nothing(prepared, store, tmp_path):
    other = build_store(prepared, tmp_path / "two.crops", subjects=(1,), step=3, crop_px=64, workers=2)
    assert other.path.read_bytes() == store.path.read_bytes()


def test_pickles_as_its_path(store):
    again = pickle.loads(pickle.dumps(store))
    assert (again.picture(2) == store.picture(2)).all()


def test_corners_of_the_box_lie_inside_the_stored_crop(store):
    x, y, side = store.columns["box"][0]
    corners = np.array([[x - side / 2, y - side / 2], [x + side / 2, y + side / 2]])
    inside = apply_affine(store.columns["affine"][0], corners)
    stored_px = round(64 * MARGIN)
    middle, half = (stored_px - 1) / 2, stored_px / MARGIN / 2
    np.testing.assert_allclose(inside, [[middle - half] * 2, [middle + half] * 2])
    assert middle - half > 10


@pytest.mark.parametrize("keep", [0, 8, 15, 100, 5000, 30000, -1])
def test_truncated_stores_are_refused(store, keep):
    data = store.path.read_bytes()
    store.path.write_bytes(data[:keep])
    with pytest.raises(InputError, match="s1.crops"):
        open_store(store.path)


def test_damage_is_found(store):
    data = bytearray(store.path.read_bytes())
    start = store.header["pictures"] + int(store.columns["start"][4]) + 200
    data[start] ^= 0xFF
    store.path.write_bytes(data)
    damaged = open_store(store.path)
    damaged.picture(3)
    with pytest.raises(InputError, match="crop 4 is damaged"):
        damaged.picture(4)
    data[store.header["columns"]["box"]["offset"] + 3] ^= 1
    store.path.write_bytes(data)
    with pytest.raises(InputError, match="column box"):
        open_store(store.path)


def test_header_damage_and_other_files_are_refused(store):
    data = store.path.read_bytes()
    for old, new, message in ((b'"version": ', b'"version":1', "header"), (b"IPRSTORE", b"NOTASTOR", "not a crop store")):
        store.path.write_bytes(data.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            open_store(store.path)


def test_stores_of_older_versions_are_refused(store):
    data = store.path.read_bytes()
    length = int.from_bytes(data[8:12], "little")
    older = data[16:16 + length].replace(f'"version": {VERSION}'.encode(), b'"version": 1')
    assert len(older) == length and older != data[16:16 + length]
    store.path.write_bytes(data[:12] + zlib.crc32(older).to_bytes(4, "little") + older + data[16 + length:])
    with pytest.raises(InputError, match=f"s1.crops is of version 1, this library reads version {VERSION}; delete it and build"):
        open_store(store.path)


def test_missing_store(tmp_path):
    with pytest.raises(InputError, match="missing"):
        open_store(tmp_path / "none.crops")


def content(store):
    """All labels and crops of a store, copied: the file may change afterwards."""
    columns = {name: np.array(column) for name, column in store.columns.items()}
    return columns | {"pictures": np.stack([store.picture(i) for i in range(len(store))]), "recipe": store.recipe}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("part", "n"), [("whole", 210), ("header", 105), ("columns", 210)])
def test_random_damage_is_found_or_changes_nothing(store, part, n):
    path, expected = store.path, content(store)
    data = path.read_bytes()
    first, last = store.header["columns"]["joints_cam"]["offset"], len(data)
    start, end = {"whole": (0, last), "header": (0, 3000), "columns": (first, last)}[part]

    def cases():
        for what, damaged in corruptions(data[start:end], n, seed=29):
            yield f"{what} ({part})", data[:start] + damaged + data[end:]

    outcomes = judge(cases(), path, lambda: content(open_store(path)), lambda result: same(result, expected))
    assert outcomes["refused"] > n // 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory in /proc")
def test_a_store_of_full_size_opens_in_little_memory(store, tmp_path):
    n = 312_188
    tiny = [cv2.imencode(".jpg", store.picture(i)[:8, :8], [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].tobytes() for i in range(6)]
    labels = store.labels
    write_store(tmp_path / "tiny.crops", labels, tiny, store.recipe)
    path = tmp_path / "large.crops"
    try:
        write_large_store(path, open_store(tmp_path / "tiny.crops"), n)
        found = probe(path)
    finally:
        path.unlink(missing_ok=True)  # pytest keeps its folders
    assert found["items"] == n and found["labels"]["frame"] == found["chosen"]
    np.testing.assert_array_equal(found["labels"]["joints_img"], labels["joints_img"][np.array(found["chosen"]) % 6])
    assert found["highest"] - found["before"] < 150 and found["opened"] - found["before"] < 150


def test_crops_go_to_disk_as_they_come(store, tmp_path):
    """Whatever their number: when a crop is asked for, those before the last few are on disk."""
    labels = {name: column[:1].repeat(9, 0) for name, column in store.labels.items()}
    block, on_disk = bytes(300_000), []

    def jpegs():
        for _ in range(9):
            on_disk.append(sum(path.stat().st_size for path in tmp_path.rglob("streamed.crops")))
            yield block

    write_store(tmp_path / "streamed.crops", labels, jpegs(), {})
    assert on_disk[8] >= 7 * len(block)


def test_an_error_amid_the_crops_leaves_what_was_there(store, tmp_path):
    before = store.path.read_bytes()

    def jpegs():
        yield b"one"
        raise InputError("picture 2 is damaged")

    with pytest.raises(InputError, match="picture 2"):
        write_store(store.path, {}, jpegs(), {})
    assert store.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared", "s1.crops"]


def build_repeatedly(barrier, prepared, target):
    """Exit code 0 if each store that this process finds after building it is whole."""
    for _ in range(4):
        barrier.wait(60)
        store = build_store(prepared, target, subjects=(1,), step=3, crop_px=64)
        verify_store(store)
        verify_store(open_store(target))


def test_two_processes_may_build_one_store(prepared, store, tmp_path):
    folder = tmp_path / "stores"
    context = get_context("spawn")
    barrier = context.Barrier(2)
    processes = [
        context.Process(target=build_repeatedly, args=(barrier, prepared, folder / "s1.crops")) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in folder.iterdir()] == ["s1.crops"]
    assert (folder / "s1.crops").read_bytes() == store.path.read_bytes()
