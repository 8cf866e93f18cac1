import pickle

import cv2
import numpy as np
import pytest

from ipr_lib import layout
from ipr_lib.files import InputError
from ipr_lib.layout import read_sequence
from ipr_lib.skeleton import HUMAN36M
from ipr_lib.store import MARGIN, build_store, open_store, verify_store
from ipr_lib.transforms import apply_affine, box_at_root, crop_affine, warp_shrinking


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
    affine = crop_affine(wide, 96)
    np.testing.assert_allclose(store.columns["affine"][1], affine)
    difference = store.picture(1).astype(int) - warp_shrinking(picture, affine, 96)
    assert store.picture(1).shape == (96, 96, 3)
    assert np.abs(difference).mean() < 2 and abs(difference.mean()) < 0.5


def test_reduced_decoding_moves_nothing(tmp_path):
    """A frame that is decoded at a quarter of its size must give the crop of the whole one, not one shifted by a pixel."""
    from tests.conftest import write_sequence

    folder = write_sequence(tmp_path / "large", n=1, step=1, width=1001, height=1002)
    store = build_store(tmp_path / "large", tmp_path / "crops", subjects=(1,), step=1, crop_px=32)
    path = folder / layout.picture_name(folder.name, 0)
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    shift = np.array([[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]])  # of a stored pixel
    errors = []
    for dx, dy in shift:
        affine = store.columns["affine"][0] + [[0, 0, dx], [0, 0, dy]]
        errors.append(np.abs(warp_shrinking(picture, affine, 48).astype(int) - store.picture(0)).mean())
    assert np.argmin(errors) == 0 and errors[0] < 2


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
    np.testing.assert_allclose(inside, [[15.5, 15.5], [79.5, 79.5]])


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
        verify_store(open_store(store.path))


def test_header_damage_and_other_versions_are_refused(store):
    data = store.path.read_bytes()
    for old, new, message in ((b'"version": 1', b'"version": 7', "header"), (b"IPRSTORE", b"NOTASTOR", "not a crop store")):
        store.path.write_bytes(data.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            open_store(store.path)


def test_missing_store(tmp_path):
    with pytest.raises(InputError, match="missing"):
        open_store(tmp_path / "none.crops")
