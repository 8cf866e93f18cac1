"""The studio: the prepared layout, cameras, resuming, workers and bad input."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ipr_lib.data.h36m_layout import (
    META_NAME,
    folder_name,
    frames_in_use,
    list_folders,
    read_camera_view,
)
from ipr_lib.files import InputError
from ipr_lib.studio import MANIFEST, contact_sheet, perform, studio_cameras, write_capture
from ipr_lib.studio import capture as studio

SMALL = dict(
    subjects=(1, 9),
    actions=(2,),
    takes=(1,),
    cameras=(1, 3),
    n_frames=7,
    train_step=3,
    test_step=6,
    picture_px=80,
)


def contents(root):
    """Bytes of every file below a folder, by relative path; the labels by value (MATLAB files carry a date)."""
    found = {}
    for path in sorted(Path(root).rglob("*")):
        if path.name == META_NAME:
            found[str(path.relative_to(root))] = read_camera_view(
                path.parent
            ).joints_world.tobytes()
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_capture(tmp_path_factory.mktemp("capture") / "made" / "here", **SMALL)


def test_the_one_reader_reads_it(capture):
    folders = list_folders(capture)
    assert [folder.name for folder in folders] == [
        folder_name(subject, 2, 1, camera) for subject in (1, 9) for camera in (1, 3)
    ]
    for folder in folders:
        sequence = read_camera_view(folder)
        step = 3 if sequence.subject == 1 else 6
        frames = frames_in_use(sequence, step)
        assert frames.tolist() == list(range(0, 7, step))
        assert len(list(folder.glob("*.jpg"))) == len(frames)
        expected = perform(sequence.subject, 2, 1, 7, seed=0).joints_world
        np.testing.assert_array_equal(sequence.joints_world, expected)
        camera = studio_cameras(80)[sequence.camera_id]
        for name in ("R", "T", "f", "c", "width", "height"):
            np.testing.assert_array_equal(getattr(sequence.camera, name), getattr(camera, name))
        image = cv2.imread(str(sequence.image_path(0)))
        assert image.shape == (camera.height, 80, 3)


def test_the_person_stands_where_the_labels_say(capture):
    """Two takes' pictures of one camera differ about the joints of either and nowhere far from both."""
    one, other = (read_camera_view(capture / folder_name(subject, 2, 1, 1)) for subject in (1, 9))
    pictures = [cv2.imread(str(sequence.image_path(0))).astype(int) for sequence in (one, other)]
    # Each picture's own brightness differs: compare what is left after the median change.
    change = np.abs(
        pictures[0] - pictures[1] - np.median(pictures[0] - pictures[1], axis=(0, 1))
    ).max(axis=2)
    camera = one.camera
    joints = camera.camera_to_image(
        camera.world_to_camera(np.stack([one.joints_world[0], other.joints_world[0]]))
    )
    rows, columns = np.mgrid[: change.shape[0], : change.shape[1]]
    gap = np.hypot(
        columns[..., None] - joints[..., 0].ravel(), rows[..., None] - joints[..., 1].ravel()
    ).min(axis=2)
    assert np.percentile(change[gap < 2], 75) > 25
    assert np.percentile(change[gap > 15], 95) < 25


def test_cameras_are_calibrated_and_apart():
    cameras = studio_cameras()
    assert sorted(cameras) == [1, 2, 3, 4]
    sizes = {(camera.width, camera.height) for camera in cameras.values()}
    assert sizes == {(1000, 1000), (1000, 1002)}
    for camera in cameras.values():
        np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.R) == pytest.approx(1)
        assert abs(camera.f - 1150).max() < 10 and camera.f[0] != camera.f[1]
        assert camera.R[1, 2] < -0.9  # upright: the picture's y runs down
        assert abs(camera.T[0]) > 2000 and abs(camera.T[1]) > 2500
    assert len({tuple(np.sign(camera.T[:2])) for camera in cameras.values()}) == 4


def test_small_pictures_are_the_large_ones_shrunk():
    point = np.array([[300.0, -400.0, 1200.0]])
    for number, large in studio_cameras().items():
        small = studio_cameras(250)[number]
        u, v = large.camera_to_image(large.world_to_camera(point))[0]
        np.testing.assert_allclose(
            small.camera_to_image(small.world_to_camera(point))[0],
            ((u + 0.5) / 4 - 0.5, (v + 0.5) / 4 - 0.5),
            atol=1e-9,
        )


def test_workers_change_nothing(capture, tmp_path):
    again = write_capture(tmp_path, **SMALL, workers=2)
    assert contents(again) == contents(capture)


def test_seed_changes_poses_and_pictures(capture, tmp_path):
    recipe = SMALL | {"subjects": (9,), "cameras": (1,)}
    other = contents(write_capture(tmp_path, **recipe, seed=1))
    first = contents(capture)
    assert all(other[name] != first[name] for name in other)


def test_what_is_there_stays(capture):
    before = {path: path.stat().st_mtime_ns for path in capture.rglob("*")}
    write_capture(capture, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in capture.rglob("*")} == before


def test_damaged_sequences_are_written_again(tmp_path):
    recipe = SMALL | {"subjects": (1,)}
    write_capture(tmp_path, **recipe)
    before = contents(tmp_path)
    first, second = list_folders(tmp_path)
    (first / META_NAME).unlink()
    next(second.glob("*.jpg")).unlink()
    (tmp_path / ".partial-left" / first.name).mkdir(parents=True)
    write_capture(tmp_path, **recipe)
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".partial-*"))


def test_a_killed_run_is_carried_on(tmp_path):
    recipe = SMALL | {"subjects": (1,), "actions": (2, 3, 4), "n_frames": 60}
    target = tmp_path / "killed"
    code = f"from ipr_lib.studio import write_capture; write_capture({str(target)!r}, **{recipe!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while time.time() < deadline and not list(target.glob("s_*")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    present = list_folders(target)
    assert 0 < len(present) < 6
    for folder in present:
        frames_in_use(read_camera_view(folder), 3)
    write_capture(target, **recipe)
    assert len(list_folders(target)) == 6 and not list(target.glob(".partial-*"))
    for folder in list_folders(target):
        frames_in_use(read_camera_view(folder), 3)


def test_another_recipe_is_refused(capture):
    before = contents(capture)
    with pytest.raises(
        InputError,
        match=r"n_frames 7 there, 8 asked for; seed 0 there, 3 asked for.*delete it or choose",
    ):
        write_capture(capture, **SMALL | {"n_frames": 8}, seed=3)
    assert contents(capture) == before
    assert (
        json.loads((capture / MANIFEST).read_text(encoding="utf-8"))["version"]
        == studio.CAPTURE_VERSION
    )


def test_a_foreign_set_is_left_alone(tmp_path):
    (tmp_path / folder_name(1, 2, 1, 1)).mkdir()
    with pytest.raises(InputError, match="it is no capture's folder; name another with --target"):
        write_capture(tmp_path, **SMALL)
    assert len(list(tmp_path.iterdir())) == 1


def test_unwritable_target(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write"):
        write_capture(tmp_path / "file" / "capture", **SMALL)
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(InputError, match="cannot write"):
            write_capture(tmp_path / "closed" / "capture", **SMALL)


def test_disk_full(tmp_path, monkeypatch):
    def full(path, rgb):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(studio, "_write_jpeg", full)
    with pytest.raises(InputError, match="No space left"):
        write_capture(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


@pytest.mark.parametrize("error", [ValueError("bad pose"), KeyboardInterrupt()])
def test_a_failing_take_is_named_and_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(studio, "picture", fail)
    expected, match = (
        (InputError, "S1 Directions take 1.*bad pose")
        if isinstance(error, ValueError)
        else (KeyboardInterrupt, None)
    )
    with pytest.raises(expected, match=match):
        write_capture(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": (2,)}, r"subjects: \[2\] asked for"),
        ({"actions": ()}, "actions: nothing asked for"),
        ({"takes": (3,)}, "takes"),
        ({"cameras": (0,)}, "cameras"),
        ({"n_frames": 0}, "n_frames is 0"),
        ({"n_frames": 2.5}, "n_frames is 2.5"),
        ({"train_step": -1}, "train_step"),
        ({"picture_px": 3}, "picture_px"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_wrong_numbers_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_capture(tmp_path / "new", **SMALL | change)
    assert not (tmp_path / "new").exists()


def test_contact_sheet():
    sheet = contact_sheet((1, 11), (2,), frame=3, cell_px=40, camera=2)
    assert sheet.shape == (80, 40, 3) and sheet.dtype == np.uint8
    assert sheet.std() > 20
