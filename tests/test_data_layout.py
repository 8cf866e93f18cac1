import re

import cv2
import numpy as np
import pytest
import scipy.io

from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.store import build_store
from ipr_lib.files import InputError
from ipr_lib.geometry import Camera
from ipr_lib.prepare import check_set
from tests.conftest import write_sequence


@pytest.fixture
def folder(tmp_path):
    return write_sequence(tmp_path / "set")


def rewrite_meta(folder, **changes):
    path = folder / layout.META_NAME
    content = {
        name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")
    }
    content |= changes
    content = {name: value for name, value in content.items() if value is not None}
    scipy.io.savemat(path, content, do_compression=True)
    return content


def test_names_by_hand():
    assert layout.folder_name(1, 2, 1, 4) == "s_01_act_02_subact_01_ca_04"
    assert (
        layout.image_name("s_01_act_02_subact_01_ca_04", 0)
        == "s_01_act_02_subact_01_ca_04_000001.jpg"
    )
    assert layout.parse_folder_name("s_11_act_16_subact_02_ca_03") == (11, 16, 2, 3)
    assert layout.parse_folder_name("s_11_act_16_subact_02_ca_03_old") is None


def test_actions_have_human36ms_numbers():
    names = {
        2: "Directions",
        3: "Discussion",
        4: "Eating",
        5: "Greeting",
        6: "Phoning",
        7: "Posing",
        8: "Purchases",
        9: "Sitting",
        10: "SittingDown",
        11: "Smoking",
        12: "Photo",
        13: "Waiting",
        14: "Walking",
        15: "WalkDog",
        16: "WalkTogether",
    }
    assert {number: layout.action_name(number) for number in range(2, 17)} == names
    assert layout.SUBJECTS == (1, 5, 6, 7, 8, 9, 11) and layout.TRAIN_SUBJECTS == (1, 5, 6, 7, 8)
    assert layout.TEST_SUBJECTS == (9, 11) and (layout.TRAIN_STEP, layout.TEST_STEP) == (5, 64)


def test_meta_is_matlab_5_and_round_trips(folder):
    assert (folder / layout.META_NAME).read_bytes()[:19] == b"MATLAB 5.0 MAT-file"
    sequence = layout.read_camera_view(folder)
    path = folder / "again.mat"
    layout.write_meta(path, sequence.camera, sequence.joints_world)
    first, second = scipy.io.loadmat(folder / layout.META_NAME), scipy.io.loadmat(path)
    for name in ("pose3d_world", "R", "T", "f", "c", "img_height", "img_width"):
        assert first[name].shape == second[name].shape and (first[name] == second[name]).all()
    assert first["T"].shape == (1, 3) and first["img_height"].shape == (7, 1)
    assert (sequence.subject, sequence.action, sequence.camera.height) == (1, 2, 202)


def test_frames_in_use(folder):
    sequence = layout.read_camera_view(folder)
    assert layout.frames_in_use(sequence, 3).tolist() == [0, 3, 6]
    assert layout.frames_in_use(sequence, 6).tolist() == [0, 6]


def test_missing_picture_names_it(folder):
    sequence = layout.read_camera_view(folder)
    with pytest.raises(InputError, match=r"_000002\.jpg is missing \(4 of the 7"):
        layout.frames_in_use(sequence, 1)


def test_more_pictures_than_poses(folder):
    meta = scipy.io.loadmat(folder / layout.META_NAME)
    rewrite_meta(
        folder, **{name: meta[name][:6] for name in ("pose3d_world", "img_height", "img_width")}
    )
    with pytest.raises(
        InputError, match=r"_000007\.jpg: picture without a pose \(h36m_meta.mat holds 6"
    ):
        layout.frames_in_use(layout.read_camera_view(folder), 3)


def test_a_picture_numbered_zero_is_refused(folder, tmp_path):
    """Numbers begin at 1: in a set that counts from 0, every picture would get its neighbour's pose."""
    first = folder / layout.image_name(folder.name, 0)
    assert first.name.endswith("_000001.jpg")
    zero = folder / first.name.replace("_000001", "_000000")
    zero.write_bytes(first.read_bytes())
    message = r"_000000\.jpg: picture without a pose"
    with pytest.raises(InputError, match=message):
        layout.frames_in_use(layout.read_camera_view(folder), 3)
    with pytest.raises(InputError, match=message):
        build_store(folder.parent, tmp_path / "store", subjects=(1,), step=3, crop_px=64)
    assert re.search(message, "\n".join(check_set(folder.parent)[1]))


def outside_view(root, n_outside):
    """A camera view of ten images of 64 x 48 px, whose 170 joints lie inside, at the very edge, but for `n_outside`.

    A joint at X, Y mm and 1000 mm away is seen at 0.1 X + 31.5, 0.1 Y + 23.5 px.
    """
    camera = Camera(np.eye(3), np.zeros(3), np.full(2, 100.0), np.array([31.5, 23.5]), 64, 48)
    joints = np.empty((10 * 17, 3))
    joints[:] = 320, -240, 1000  # 63.5, -0.5 px: the outer corner of the last pixel
    joints[:n_outside:2, 0] = 321  # 63.6 px
    joints[1:n_outside:2, 1] = -241  # -0.6 px
    folder = root / layout.folder_name(1, 2, 1, 1)
    folder.mkdir(parents=True)
    for frame in range(10):
        path = folder / layout.image_name(folder.name, frame)
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    layout.write_meta(folder / layout.META_NAME, camera, joints.reshape(10, 17, 3))
    return root


def test_the_share_of_joints_outside_of_their_images(tmp_path):
    """A tenth may lie outside: 17 of 170 joints do no harm, 18 do."""
    report, problems = check_set(outside_view(tmp_path / "tenth", 17))
    assert not any("outside" in line for line in problems) and "10.00%" in report
    report, problems = check_set(outside_view(tmp_path / "more", 18))
    assert problems == [
        "s_01_act_02_subact_01_ca_01: 11% of the joints lie outside of the images; is it the right camera?"
    ]


def test_non_finite_pose(folder):
    pose = scipy.io.loadmat(folder / layout.META_NAME)["pose3d_world"]
    pose[4, 2, 1] = np.nan
    rewrite_meta(folder, pose3d_world=pose)
    with pytest.raises(
        InputError, match=r"h36m_meta.mat: pose3d_world is not finite at index \(4, 2, 1\)"
    ):
        layout.read_camera_view(folder)


def test_joint_behind_the_camera(folder):
    pose = scipy.io.loadmat(folder / layout.META_NAME)["pose3d_world"]
    pose[3, 5] = [9000, 2000, 900]  # the camera stands at x = 4000 and looks towards the origin
    rewrite_meta(folder, pose3d_world=pose)
    with pytest.raises(InputError, match="joint 5 of pose 3 lies behind the camera"):
        layout.read_camera_view(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(R=None), "lacks R"),
        (dict(pose3d_world=np.zeros((7, 16, 3))), "pose3d_world has shape"),
        (dict(img_height=np.full((5, 1), 202.0)), "img_height has shape"),
        (dict(img_width=np.arange(7.0)[:, None] + 200), "one picture size"),
        (dict(f="wide"), "should hold numbers"),
    ],
)
def test_wrong_fields(folder, changes, message):
    rewrite_meta(folder, **changes)
    with pytest.raises(InputError, match=message):
        layout.read_camera_view(folder)


@pytest.mark.parametrize("keep", [0, 50, 128, 300, -20])
def test_truncated_meta(folder, keep):
    path = folder / layout.META_NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="h36m_meta.mat"):
        layout.read_camera_view(folder)


def test_missing_meta_and_irregular_names(folder):
    (folder / layout.META_NAME).unlink()
    with pytest.raises(InputError, match="is missing"):
        layout.read_camera_view(folder)
    with pytest.raises(InputError, match="folder name like"):
        layout.read_camera_view(folder.parent)


def test_missing_sets(tmp_path, folder):
    with pytest.raises(InputError, match="no such folder"):
        layout.list_folders(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no sequence of S9, S11"):
        layout.list_folders(folder.parent, (9, 11))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "another size"])
def test_unreadable_pictures_stop_the_store_and_leave_nothing(tmp_path, folder, damage):
    path = folder / layout.image_name(folder.name, 3)
    data = path.read_bytes()
    if damage == "another size":
        other = write_sequence(tmp_path / "other", width=198)
        data = (other / path.name).read_bytes()
    path.write_bytes(
        {"truncated": data[:-300], "empty": b"", "text": b"not a picture" * 50}.get(damage, data)
    )
    target = tmp_path / "out" / "crops"
    with pytest.raises(InputError, match=path.name):
        build_store(folder.parent, target, subjects=(1,), step=3, crop_px=64)
    assert not target.exists()
