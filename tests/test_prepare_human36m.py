"""Human3.6M from raw trees in the official form, written by tests/human36m_raw.py with made-up values."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import av
import cv2
import numpy as np
import pytest

from ipr_lib.__main__ import main
from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.store import build_store, open_store
from ipr_lib.files import InputError
from ipr_lib.prepare import (
    check_set,
    prepare_human36m,
    read_camera,
    read_metadata,
    read_pose,
    video_frames,
)
from ipr_lib.prepare.raw import READERS, extract
from ipr_lib.studio import write_capture
from tests import human36m_raw as raw
from tests.conftest import needs_linux

PHOTO = dict(subjects=(1,), actions=(12,))
PHONING = dict(subjects=(11,), actions=(6,))


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """A raw tree, to be left as it is, and its poses."""
    root = tmp_path_factory.mktemp("download")
    return root, raw.write_tree(root)


@pytest.fixture
def tree(download, tmp_path):
    """A copy of the raw tree, free to be damaged."""
    shutil.copytree(download[0], tmp_path / "raw")
    return tmp_path / "raw"


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


def names(root):
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def entries(root):
    return sorted(path.name for path in root.iterdir())


def raw_file(tree, subject, kind, name):
    folder = tree / f"S{subject}" / (kind if kind == "Videos" else f"MyPoseFeatures/{kind}")
    return next(folder.glob(name))


def test_pictures_and_labels_are_those_of_the_raw_files(download, tmp_path):
    root, poses = download
    report = prepare_human36m(root, tmp_path / "set", **PHOTO)
    assert names(tmp_path / "set") == [
        layout.folder_name(1, 12, s, c) for s in (1, 2) for c in (1, 2, 3, 4)
    ]
    assert report == ["0 of 8 camera views were there already, 8 were worked on"]
    w0 = raw.make_w0()
    for subaction, frames in ((1, [0, 5, 10, 15, 20]), (2, [0, 5])):
        for camera_id in (1, 2, 3, 4):
            folder = tmp_path / "set" / layout.folder_name(1, 12, subaction, camera_id)
            sequence = layout.read_camera_view(folder)
            truth = poses[1, 12, subaction][:, raw.JOINTS]
            np.testing.assert_allclose(sequence.joints_world, truth, atol=1e-3)  # float32
            cam, _ = raw.project(w0, 1, camera_id, truth)
            np.testing.assert_allclose(sequence.camera.world_to_camera(truth), cam, atol=1e-6)
            assert sequence.camera.f.tolist() == [69 + camera_id, 71] and sequence.camera.k is None
            assert (sequence.camera.width, sequence.camera.height) == (raw.WIDTH, raw.HEIGHT)
            assert sorted(path.name for path in folder.glob("*.jpg")) == [
                layout.image_name(folder.name, frame) for frame in frames
            ]
            for frame in frames:
                picture = cv2.imread(str(sequence.image_path(frame)))
                assert picture.shape == (raw.HEIGHT, raw.WIDTH, 3)
                assert abs(picture.mean() - raw.shade(frame)) < 3  # neighbours differ by 7
    assert contents(tmp_path / "set")  # and nothing else lies about:
    assert names(tmp_path) == ["set"]


def test_test_subjects_have_a_step_of_their_own(download, tmp_path):
    prepare_human36m(download[0], tmp_path / "set", **PHONING, step=2)
    folder = tmp_path / "set" / layout.folder_name(11, 6, 1, 2)
    assert entries(folder) == [layout.META_NAME] + [
        layout.image_name(folder.name, frame) for frame in (0, 64)
    ]
    assert len(layout.read_camera_view(folder).joints_world) == 66


def test_the_damaged_video_is_left_out_by_name(tmp_path):
    raw.write_tree(tmp_path / "raw", (((11, 2, 1), 3), ((11, 2, 2), 4)))
    report = prepare_human36m(tmp_path / "raw", tmp_path / "set", subjects=(11,), actions=(2,))
    assert (
        report[0].startswith("s_11_act_02_subact_02_ca_01 is left out")
        and len(names(tmp_path / "set")) == 7
    )


@pytest.mark.parametrize("form", ["Poses", "archives", "archives in folders"])
def test_other_forms_of_the_download_give_the_same(download, tmp_path, form):
    prepare_human36m(download[0], tmp_path / "expected", **PHOTO)
    root = tmp_path / "raw"
    raw.write_tree(root, folders="Poses" if form == "Poses" else "MyPoseFeatures")
    if form != "Poses":
        for kind in ("D3_Positions", "D3_Positions_mono", "D2_Positions", "Videos"):
            name = f"{'' if kind == 'Videos' else 'Poses_'}{kind}_S1.tgz"
            raw.pack(root, 1, kind, name)
            if form == "archives in folders":
                (root / "archives").mkdir(exist_ok=True)
                (root / name).rename(root / "archives" / name)
    prepare_human36m(root, tmp_path / "set", **PHOTO)
    assert contents(tmp_path / "set") == contents(tmp_path / "expected")
    assert names(tmp_path) == ["expected", "raw", "set"]


def test_workers_and_readers_change_nothing(download, tmp_path):
    prepare_human36m(download[0], tmp_path / "one", **PHOTO)
    prepare_human36m(download[0], tmp_path / "two", **PHOTO, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    prepare_human36m(download[0], tmp_path / "pyav", **PHOTO, reader="pyav")
    for first, second in zip(
        contents(tmp_path / "one").values(), contents(tmp_path / "pyav").values()
    ):
        first, second = (
            cv2.imdecode(np.frombuffer(data, np.uint8), 1).astype(int) for data in (first, second)
        )
        assert np.abs(first - second).max() <= 3


def test_a_second_run_does_only_what_is_missing(tree, tmp_path):
    target = tmp_path / "set"
    prepare_human36m(tree, target, **PHOTO)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.jpg")}
    lost = target / layout.folder_name(1, 12, 1, 3)
    (lost / layout.image_name(lost.name, 10)).unlink()
    whole = layout.folder_name(1, 12, 2, 1)
    (target / whole / layout.META_NAME).write_bytes(b"")
    assert "6 of 8" in prepare_human36m(tree, target, **PHOTO)[0]
    after = {path: path.stat().st_mtime_ns for path in target.rglob("*.jpg")}
    assert {path.parent.name for path in before if before[path] != after[path]} == {
        lost.name,
        whole,
    }
    assert "8 of 8" in prepare_human36m(tree, target, **PHOTO)[0]


def test_another_step_keeps_the_pictures_that_are_there(download, tmp_path):
    for step in (5, 3):
        prepare_human36m(download[0], tmp_path / "set", **PHOTO, step=step)
    folder = tmp_path / "set" / layout.folder_name(1, 12, 1, 1)
    frames = sorted({*range(0, 23, 5), *range(0, 23, 3)})
    assert entries(folder)[1:] == [layout.image_name(folder.name, frame) for frame in frames]


def test_a_failed_run_leaves_the_old_set_alone(tree, tmp_path):
    prepare_human36m(tree, tmp_path / "set", **PHOTO)
    before = contents(tmp_path / "set")
    for path in (tree / "S1" / "Videos").iterdir():
        path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError):
        prepare_human36m(tree, tmp_path / "set", **PHOTO, step=1)
    assert contents(tmp_path / "set") == before
    assert check_set(tmp_path / "set")[1] == []
    assert names(tmp_path) == ["raw", "set"]


def test_lens_on_request_without_touching_the_videos_again(tree, tmp_path):
    prepare_human36m(tree, tmp_path / "set", **PHOTO)
    shutil.rmtree(tree / "S1" / "Videos")
    (tree / "S1" / "Videos").mkdir()
    prepare_human36m(tree, tmp_path / "set", **PHOTO, lens=True)
    w0 = raw.make_w0()
    for camera_id in (1, 4):
        sequence = layout.read_camera_view(
            tmp_path / "set" / layout.folder_name(1, 12, 1, camera_id)
        )
        assert sequence.camera.k.tolist() == [
            -0.2,
            0.24,
            -0.002,
        ] and sequence.camera.p.tolist() == [-0.0009, -0.0014]
        _, img = raw.project(w0, 1, camera_id, sequence.joints_world)
        ours = sequence.camera.camera_to_image(
            sequence.camera.world_to_camera(sequence.joints_world)
        )
        np.testing.assert_allclose(ours, img, atol=1e-9)


def test_stores_without_pictures_in_between_hold_the_same_crops(tmp_path):
    """Straight from the video, and by way of whole JPEGs: alike up to JPEG noise, labels up to rounding."""
    root = tmp_path / "raw"
    sequences = [((subject, 12, take), 9) for subject in (1, 5, 9) for take in (1, 2)]
    raw.write_tree(root, sequences)
    small = np.random.default_rng(0).integers(20, 235, (12, 16), np.uint8)
    tint = np.array([1, 0.9, 0.8])  # as in a room: JPEG keeps colours at half the resolution
    scene = (cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)[..., None] * tint).astype(
        np.uint8
    )
    w0 = raw.make_w0()
    for camera in range(
        4
    ):  # ten times the picture: crops are shrunk, so the JPEG way decodes at a part of its size
        w0[264 + 9 * camera :][:4] *= 10
    for path in root.rglob("*.mp4"):
        raw.write_video(path, 9, picture=scene)
    raw.write_metadata(root / "metadata.xml", w0=w0)
    for path in root.rglob("D2_Positions"):  # of the smaller picture
        shutil.rmtree(path)
    choices = dict(subjects=(1, 5, 9), actions=(12,), step=4, test_step=5)
    prepare_human36m(root, tmp_path / "set", **choices)
    report = prepare_human36m(root, tmp_path / "human36m", store_px=64, **choices)
    assert report[-1].endswith("human36m-test-64: 16 items") and names(tmp_path / "stores") == [
        "human36m-test-64",
        "human36m-train-64",
    ]
    for part, subjects, step in (("train", (1, 5), 4), ("test", (9,), 5)):
        expected = build_store(
            tmp_path / "set", tmp_path / part, subjects=subjects, step=step, crop_px=64
        )
        store = open_store(tmp_path / "stores" / f"human36m-{part}-64")
        assert len(store) == len(expected) and store.recipe["subjects"] == list(subjects)
        for name in set(expected.labels):
            np.testing.assert_allclose(
                store.columns[name], expected.columns[name], rtol=1e-6, atol=1e-9, err_msg=name
            )
        for i in range(len(store)):
            one, other = store.image(i).astype(int), expected.image(i).astype(int)
            assert (
                np.abs(one - other).mean() < 2 < 6 < np.abs(one[:, 1:] - other[:, :-1]).mean()
            )  # a px of shift would show


def test_interrupted_stores_go_on(tree, tmp_path, capsys):
    short_video(tree)
    arguments = [
        "prepare",
        "human36m",
        "--source",
        str(tree),
        "--target",
        str(tmp_path / "set"),
        "--subjects",
        "1",
        "--actions",
        "12",
        "--store",
        "64",
    ]
    assert main(arguments) == 2 and not list(tmp_path.glob("stores/[!.]*"))
    raw.write_video(raw_file(tree, 1, "Videos", "TakingPhoto 1.58860488.mp4"), 23)
    assert main(arguments) == 0
    assert "7 of 8 camera views were there already" in capsys.readouterr().out
    path = tmp_path / "stores" / "set-train-64"
    assert len(open_store(path)) == 4 * (5 + 2)
    assert names(tmp_path / "stores") == ["set-train-64"]
    inode = path.stat().st_ino
    assert main(arguments) == 0 and path.stat().st_ino == inode
    assert "set-train-64 was there already: 28 items" in capsys.readouterr().out
    assert main([*arguments, "--lens"]) == 0 and "k" in open_store(path).columns, (
        "another choice, another store"
    )


@pytest.mark.parametrize("test_subjects, items", [((11,), (36 + 28, 20)), ((9, 11), (36, 20 + 16))])
def test_stores_of_either_split(tmp_path, test_subjects, items):
    """S9 is for training where S11 alone is for tests, pictures and stores alike: 4 cameras, step 5 or 8."""
    root = tmp_path / "raw"
    frames = {
        (1, 12, 1): 32,
        (9, 12, 1): 24,
        (11, 12, 1): 32,
        (1, 12, 2): 8,
        (9, 12, 2): 8,
        (11, 12, 2): 8,
    }
    raw.write_tree(root, frames.items())
    arguments = [
        "prepare",
        "human36m",
        "--source",
        str(root),
        "--target",
        str(tmp_path / "set"),
        "--subjects",
        "1",
        "9",
        "11",
        "--actions",
        "12",
        "--test-step",
        "8",
        "--test-subjects",
        *map(str, test_subjects),
    ]
    assert main(arguments) == 0 and main([*arguments, "--store", "64"]) == 0
    train = [subject for subject in (1, 9, 11) if subject not in test_subjects]
    for part, subjects, count in zip(("train", "test"), (train, list(test_subjects)), items):
        store = open_store(tmp_path / "stores" / f"set-{part}-64")
        assert len(store) == count and store.recipe["subjects"] == subjects
        step = {"train": 5, "test": 8}[part]
        assert store.recipe["step"] == step and (store.columns["frame"] % step == 0).all()
        for subject in subjects:
            folder = tmp_path / "set" / layout.folder_name(subject, 12, 1, 1)
            mine = (store.columns["subject"] == subject) & (store.columns["subaction"] == 1)
            assert len(list(folder.glob("*.jpg"))) == mine.sum() / 4


def test_check_table_of_a_good_set(download, tmp_path):
    prepare_human36m(download[0], tmp_path / "set", **PHOTO)
    report, problems = check_set(tmp_path / "set")
    assert problems == []
    lines = [line.split() for line in report.splitlines()]
    # 4 cameras: 23 poses give 5 pictures of step 5, 7 poses give 2.
    assert lines[1][:6] == ["S1", "8", "120", "5", "28", "64x48"]
    assert all(["camera", str(camera), "7", "7"] in lines for camera in (1, 2, 3, 4))
    assert ["Photo", "28", "28"] in lines and ["all", "28", "28"] in lines


# Bad input: what is damaged, what the message must say, and how many of the eight folders are written all the same.


def drop_videos(tree):
    shutil.rmtree(tree / "S1" / "Videos")


def short_video(tree):
    raw.write_video(raw_file(tree, 1, "Videos", "TakingPhoto 1.58860488.mp4"), 22)


def garbage_video(tree):
    raw_file(tree, 1, "Videos", "TakingPhoto 1.58860488.mp4").write_bytes(b"no video" * 99)


def truncated_video(tree):
    path = raw_file(tree, 1, "Videos", "TakingPhoto 1.58860488.mp4")
    path.write_bytes(path.read_bytes()[:800])


def scaled_video(tree):
    raw.write_video(
        raw_file(tree, 1, "Videos", "TakingPhoto 1.58860488.mp4"), 25, width=128, height=96
    )


def missing_video(tree):
    raw_file(tree, 1, "Videos", "TakingPhoto 1.58860488.mp4").unlink()


def no_pose(tree):
    path = raw_file(tree, 1, "D3_Positions", "TakingPhoto 1.cdf")
    raw.write_pose(path, np.zeros((23, 96)), name="Angles")


def other_width(tree):
    raw.write_pose(raw_file(tree, 1, "D3_Positions", "TakingPhoto 1.cdf"), np.zeros((23, 78)))


def not_finite(tree):
    path = raw_file(tree, 1, "D3_Positions", "TakingPhoto 1.cdf")
    pose = read_pose(path, 96)
    pose[4, 3 * 25 + 1] = np.nan
    raw.write_pose(path, pose)


def empty_pose(tree):
    raw_file(tree, 1, "D3_Positions", "TakingPhoto 1.cdf").write_bytes(b"")


def other_camera(tree):
    mono = tree / "S1" / "MyPoseFeatures" / "D3_Positions_mono"
    shutil.copy(mono / "TakingPhoto 1.54138969.cdf", mono / "TakingPhoto 1.58860488.cdf")


def other_pixels(tree):
    path = raw_file(tree, 1, "D2_Positions", "TakingPhoto 1.58860488.cdf")
    raw.write_pose(path, read_pose(path, 64) + 1)


def other_count(tree):
    path = raw_file(tree, 1, "D3_Positions_mono", "TakingPhoto 1.58860488.cdf")
    raw.write_pose(path, read_pose(path, 96)[:-1])


def no_camera(tree):
    w0 = raw.make_w0()
    w0[6 * (2 * 11) :][:6] = 0
    raw.write_metadata(tree / "metadata.xml", w0=w0)


@pytest.mark.parametrize(
    "damage, message, written",
    [
        (
            drop_videos,
            "S1: .*neither a folder S1/MyPoseFeatures/Videos nor .* such as Videos_S1.tgz; download it",
            0,
        ),
        (
            short_video,
            r"camera 3: .*TakingPhoto 1.58860488.mp4 has 22 frames, but there are 23 poses",
            7,
        ),
        (garbage_video, r"TakingPhoto 1.58860488.mp4 is not a readable video", 7),
        (truncated_video, r"TakingPhoto 1.58860488.mp4 is not a readable video", 7),
        (
            scaled_video,
            r"TakingPhoto 1.58860488.mp4 is 128 x 96 px, but its camera's centre is at \(32, 24\)",
            7,
        ),
        (missing_video, r"TakingPhoto 1.58860488.mp4 is missing", 7),
        (no_pose, r"camera 1, 2, 3, 4: .*TakingPhoto 1.cdf has no variable Pose", 4),
        (other_width, r"TakingPhoto 1.cdf: Pose has .*78.* expected n poses of 96", 4),
        (not_finite, r"TakingPhoto 1.cdf: joint 25 of pose 4 is not finite", 4),
        (empty_pose, r"TakingPhoto 1.cdf is not a complete CDF file", 4),
        (
            other_camera,
            r"camera 3: .*D3_Positions_mono/TakingPhoto 1.58860488.cdf .*differ by .* mm at pose",
            7,
        ),
        (other_pixels, r"camera 3: .*D2_Positions/TakingPhoto 1.58860488.cdf .*differ by 1 px", 7),
        (other_count, r"TakingPhoto 1.58860488.cdf has 22 poses, .* has 23", 7),
        (no_camera, r"w0 holds no camera 3 for S1", 6),
    ],
)
def test_bad_input_is_named_and_the_rest_is_done(tree, tmp_path, damage, message, written):
    damage(tree)
    with pytest.raises(InputError, match=message) as caught:
        prepare_human36m(tree, tmp_path / "set", **PHOTO)
    assert "1 failure, the rest is done" in str(caught.value) or damage is no_camera
    there = names(tmp_path / "set") if (tmp_path / "set").exists() else []
    assert len(there) == written and not [
        name for name in there if layout.parse_folder_name(name) is None
    ]
    shutil.rmtree(tree)  # mended, the same command does what is left
    raw.write_tree(tree)
    assert f"{written} of 8" in prepare_human36m(tree, tmp_path / "set", **PHOTO)[0]
    assert check_set(tmp_path / "set")[1] == []


def test_one_subject_without_files_does_not_stop_the_other(tree, tmp_path):
    shutil.rmtree(tree / "S1" / "MyPoseFeatures")
    with pytest.raises(InputError, match="Poses_D3_Positions_S1.tgz"):
        prepare_human36m(tree, tmp_path / "set", subjects=(1, 11), actions=(6,))
    assert len(names(tmp_path / "set")) == 8


def test_cameras_that_cannot_be_checked_are_counted(tree, tmp_path):
    shutil.rmtree(tree / "S1" / "MyPoseFeatures" / "D3_Positions_mono")
    assert len(prepare_human36m(tree, tmp_path / "one", **PHOTO)) == 1  # the pixels still tell
    shutil.rmtree(tree / "S1" / "MyPoseFeatures" / "D2_Positions")
    assert prepare_human36m(tree, tmp_path / "two", **PHOTO)[1].startswith(
        "8 cameras could not be checked"
    )


def test_known_damaged_labels_are_no_reason_to_stop(tmp_path):
    raw.write_tree(tmp_path / "raw", (((9, 5, 1), 3), ((9, 5, 2), 3)))
    for take in ("Greeting 1", "Greeting"):
        path = raw_file(tmp_path / "raw", 9, "D2_Positions", f"{take}.54138969.cdf")
        raw.write_pose(path, read_pose(path, 64) + 30)
    with pytest.raises(InputError, match="S9 Greeting 1") as caught:
        prepare_human36m(tmp_path / "raw", tmp_path / "set", subjects=(9,), actions=(5,))
    assert "1 failure," in str(caught.value)


# metadata.xml


def test_names_come_from_the_mapping(download):
    metadata = read_metadata(download[0] / "metadata.xml")
    assert metadata.names[11, 6, 1] == "Phoning 3" and metadata.names[5, 3, 2] == "Discussion 3"
    assert metadata.camera_names == raw.CAMERA_NAMES
    assert metadata.counts[1, 12, 1] == 23 and metadata.counts[7, 16, 2] == 8


def test_camera_by_hand(tmp_path):
    """A quarter turn about x: camera y is world -z, camera z is world y."""
    w0 = raw.make_w0()
    w0[6 * (1 * 11 + 4) :][:6] = [np.pi / 2, 0, 0, 100, -5000, 1500]
    w0[264 + 9 :][:4] = [1145, 1144, 512, 515]
    raw.write_metadata(tmp_path / "metadata.xml", w0=w0)
    camera = read_camera(read_metadata(tmp_path / "metadata.xml"), 5, 2, 1000, 1002)
    cam = camera.world_to_camera(np.array([300.0, -1000, 1700]))
    np.testing.assert_allclose(cam, [200, -200, 4000], atol=1e-9)
    np.testing.assert_allclose(camera.camera_to_image(cam), [512 + 1145 / 20, 515 - 1144 / 20])


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("</w0></a>", "", "not a complete XML"),
        ("<w0>[", "<w0>[1 ", "w0 holds 301 numbers, expected 300"),
        ("<w0>[", "<w0>[wide ", "could not convert"),
        (
            "<td>12</td><td>2</td>",
            "<td>12</td><td>3</td>",
            "mapping calls action 12, subaction 2 of S1 ''",
        ),
        (
            "<td>16</td><td>2</td>",
            "<td>17</td><td>2</td>",
            "mapping calls action 16, subaction 2 of S1 ''",
        ),
        ("<td>S7</td>", "<td>S12</td>", "mapping calls action 2, subaction 1 of S7 ''"),
        (
            "<td>TakingPhoto 1</td>",
            "<td>../../TakingPhoto 1</td>",
            "mapping calls action 12, subaction 1 of S1",
        ),
        ("<td>TakingPhoto 1</td>", "<td>TakingPhoto</td>", "two sequences of S1 one name"),
        ("<item>54138969</item>", "", "expected four numbers"),
        ("<index2id>", "<ids>", "not a complete XML"),
        ("dbcameras", "cameras", r"dbcameras/index2id names the cameras \[\], expected four"),
    ],
)
def test_another_metadata_is_refused(tmp_path, old, new, message):
    path = tmp_path / "metadata.xml"
    raw.write_metadata(path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=f"metadata.xml.*{message}"):
        read_metadata(path)


# Archives


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "info, message",
    [
        (member("../../outside.mp4"), "leads outside of its folder, or is a link or a device"),
        (
            member("S1/Videos/../../../outside.mp4"),
            "leads outside of its folder, or is a link or a device",
        ),
        (member("/tmp/outside.mp4"), "leads outside of its folder, or is a link or a device"),
        (member("S1\\..\\outside.mp4"), "leads outside of its folder, or is a link or a device"),
        (
            member("S1/Videos/TakingPhoto.54138969.mp4", tarfile.SYMTYPE, "/etc/passwd"),
            "or is a link or a device",
        ),
        (
            member("S1/Videos/TakingPhoto.54138969.mp4", tarfile.LNKTYPE, "S1/other"),
            "or is a link or a device",
        ),
        (member("S1/Videos/device", tarfile.CHRTYPE), "or is a link or a device"),
        (member("S1/Videos/pipe", tarfile.FIFOTYPE), "or is a link or a device"),
        (member("S5/Videos/TakingPhoto 1.54138969.mp4"), "belongs to S5, expected S1"),
    ],
)
def test_harmful_archives_write_nothing(tree, tmp_path, info, message):
    raw.pack(tree, 1, "Videos", "good.tgz")
    with (
        tarfile.open(tree / "good.tgz") as good,
        tarfile.open(tree / "Videos_S1.tgz", "w:gz") as bad,
    ):
        for each in good.getmembers():  # the bad member comes last, after many good ones
            bad.addfile(each, good.extractfile(each) if each.isreg() else None)
        bad.addfile(info, io.BytesIO(b"data"))
    before = names(tmp_path)
    with pytest.raises(InputError, match=f"Videos_S1.tgz.*{message}"):
        prepare_human36m(tree, tmp_path / "set", **PHOTO)
    assert names(tmp_path) == before and not (tmp_path.parent / "outside.mp4").exists()


def test_truncated_archive(tree, tmp_path):
    raw.pack(tree, 1, "Videos", "Videos_S1.tgz")
    data = (tree / "Videos_S1.tgz").read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 20):
        (tree / "Videos_S1.tgz").write_bytes(data[:keep])
        with pytest.raises(InputError, match="Videos_S1.tgz is truncated or damaged"):
            prepare_human36m(tree, tmp_path / "set", **PHOTO)
        assert names(tmp_path) == ["raw"]


def test_what_an_archive_lacks_is_told_by_the_archive_s_name(tree, tmp_path):
    """And not by that of the folder it was extracted to, which is gone when the message is read."""
    raw_file(tree, 1, "D3_Positions", "TakingPhoto.cdf").unlink()
    raw.pack(tree, 1, "D3_Positions", "Poses_D3_Positions_S1.tgz")
    expected = (
        f"camera 1, 2, 3, 4: {tree}/Poses_D3_Positions_S1.tgz/TakingPhoto.cdf is missing; download"
    )
    with pytest.raises(InputError, match=re.escape(expected)):
        prepare_human36m(tree, tmp_path / "set", **PHOTO)
    assert len(names(tmp_path / "set")) == 4, "the other sequence"


# check


def test_check_finds_what_is_wrong(tree, tmp_path):
    prepare_human36m(tree, tmp_path / "good", **PHOTO)

    def problems(damage):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "set")
        folder = tmp_path / "set" / layout.folder_name(1, 12, 1, 3)
        damage(folder, layout.read_camera_view(folder))
        return "\n".join(check_set(tmp_path / "set")[1])

    def relabel(change, **camera):
        def damage(folder, sequence):
            joints = sequence.joints_world.copy()
            change(joints)
            layout.write_meta(folder / layout.META_NAME, sequence.camera, joints)

        return damage

    def stretch(joints):
        joints[3, 16] += (joints[3, 16] - joints[3, 15]) * 0.1

    def longer_arm(joints):
        joints[:, 16] += (joints[:, 16] - joints[:, 15]) * 0.1

    def away(joints):
        joints += [0, 0, 4000]

    def other_size(folder, sequence):
        cv2.imwrite(str(sequence.image_path(5)), np.zeros((40, 64, 3), np.uint8))

    def cut(folder, sequence):
        path = sequence.image_path(5)
        path.write_bytes(path.read_bytes()[:-9])

    assert problems(lambda *_: None) == ""
    assert (
        problems(lambda folder, _: shutil.rmtree(folder))
        == "s_01_act_12_subact_01 (S1 Photo): missing for camera 3"
    )
    assert (
        "1 images of step 5 are missing, the first is s_01_act_12_subact_01_ca_03_000011.jpg"
        in problems(lambda _, sequence: sequence.image_path(10).unlink())
    )
    assert "the bone above R_Wrist is" in problems(relabel(stretch))
    assert "see s_01_act_12_subact_01_ca_03" in problems(relabel(stretch))
    assert "left and right should be alike" in problems(relabel(longer_arm))
    assert "ca_03: 100% of the joints lie outside" in problems(relabel(away))
    assert "000006.jpg is of 64 x 40 px, its label says 64 x 48" in problems(other_size)
    assert "000006.jpg is truncated" in problems(cut)
    assert "h36m_meta.mat is missing" in problems(
        lambda folder, _: (folder / layout.META_NAME).unlink()
    )


def test_check_against_metadata(download, tmp_path):
    prepare_human36m(download[0], tmp_path / "set", **PHOTO)
    path = tmp_path / "metadata.xml"
    raw.write_metadata(path, counts={(1, 12, 1): 24, (1, 12, 2): 7})
    problems = check_set(tmp_path / "set", read_metadata(path))[1]
    assert len(problems) == 4  # the other actions were not asked for
    assert sum("23 poses" in line and line.endswith("implies 24") for line in problems) == 4
    shutil.rmtree(tmp_path / "set" / layout.folder_name(1, 12, 2, 1))
    shutil.rmtree(tmp_path / "set" / layout.folder_name(1, 12, 2, 4))
    problems = check_set(tmp_path / "set", read_metadata(path))[1]
    named = read_metadata(path).names[1, 12, 2]
    assert named == "TakingPhoto"
    assert problems[4:] == [f's_01_act_12_subact_02 (S1 "{named}"): missing for camera 1, 4']
    (tmp_path / "set/prepared.json").unlink()  # as of a set that others prepared
    problems = check_set(tmp_path / "set", read_metadata(path))[1]
    assert len(problems) == 4 + 14 * 2 + 1
    assert problems[4] == 's_01_act_02_subact_01 (S1 "Directions 1"): missing for camera 1, 2, 3, 4'


def test_check_knows_what_was_asked_for(download, tmp_path):
    """In several calls; each of them may name other subjects and actions."""
    prepare_human36m(download[0], tmp_path / "set", **PHOTO)
    prepare_human36m(download[0], tmp_path / "set", **PHOTO)
    with pytest.raises(InputError):  # this download has no S5
        prepare_human36m(download[0], tmp_path / "set", subjects=(5,), actions=(2, 3))
    prepared = json.loads((tmp_path / "set/prepared.json").read_text(encoding="utf-8"))
    assert prepared == [
        {"subjects": [1], "actions": [12]},
        {"subjects": [5], "actions": [2, 3]},
    ]
    problems = check_set(tmp_path / "set")[1]
    assert problems == [
        f"s_05_act_{action:02d}_subact_{subaction:02d} (S5 {name}): missing for camera 1, 2, 3, 4"
        for action, name in ((2, "Directions"), (3, "Discussion"))
        for subaction in (1, 2)
    ]


def test_drawn_people_never_pass_for_real_ones(download, tmp_path):
    small = {"subjects": (1,), "actions": (12,), "takes": (1,), "cameras": (1,), "picture_px": 64}
    small |= {"n_frames": 3, "train_step": 5, "test_step": 5}
    write_capture(tmp_path / "human36m", **small)
    before = contents(tmp_path)
    for store_px in (None, 64):
        with pytest.raises(InputError, match="human36m holds a capture.*another with --target"):
            prepare_human36m(download[0], tmp_path / "human36m", store_px=store_px, **PHOTO)
    assert contents(tmp_path) == before and names(tmp_path) == ["human36m"]
    prepare_human36m(download[0], tmp_path / "real", **PHOTO)
    with pytest.raises(InputError, match="real holds .* it is no capture's folder"):
        write_capture(tmp_path / "real", **small)


def test_an_archive_that_unfolds_to_too_much_is_refused(tree, tmp_path):
    raw.pack(tree, 1, "Videos", "good.tgz")
    with tarfile.open(tree / "good.tgz") as good:
        n_bytes = sum(member.size for member in good.getmembers())
    wanted = {"TakingPhoto 1.54138969.mp4"}
    extract(tree / "good.tgz", 1, wanted, tmp_path / "all", limit_gb=n_bytes / 1e9)
    assert [path.name for path in (tmp_path / "all").iterdir()] == [*wanted]
    limit = (n_bytes - 1) / 1e9
    with pytest.raises(InputError, match=f"{limit:g} GB are allowed.* allow more by --archive-gb"):
        extract(tree / "good.tgz", 1, wanted, tmp_path / "none", limit_gb=limit)
    assert not (tmp_path / "none").exists()


def test_a_bad_video_is_our_line_alone(tree, tmp_path):
    """FFmpeg and OpenCV have words of their own, which they write past Python."""
    truncated_video(tree)
    garbage_video(tree)
    command = [sys.executable, "-m", "ipr_lib", "prepare", "human36m", "--source", str(tree)]
    command += ["--target", str(tmp_path / "set"), "--subjects", "1", "--actions", "12"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "not a readable video" in done.stderr
    for word in ("WARN", "moov", " @ 0x", "VIDEOIO"):
        assert word not in done.stderr


def test_the_built_in_capture_passes(tmp_path):
    write_capture(
        tmp_path / "capture",
        subjects=(1, 9),
        actions=(2, 14),
        takes=(1,),
        cameras=(1, 3),
        n_frames=7,
        train_step=3,
        test_step=5,
        picture_px=64,
    )
    report, problems = check_set(tmp_path / "capture")
    assert problems == []
    lines = [line.split() for line in report.splitlines()]
    assert [line[:5] for line in lines[1:3]] == [
        ["S1", "4", "28", "3", "12"],
        ["S9", "4", "28", "5", "8"],
    ]
    assert "drift" not in report  # those are labels of the real S9


@needs_linux
def test_a_folder_s_name_need_not_be_utf_8(download, tmp_path, capsys):
    root = tmp_path / os.fsdecode(b"\xe9\xff$")
    prepare_human36m(download[0], root, **PHOTO)
    assert main(["prepare", "check", str(root)]) == 0
    assert f"{tmp_path}/\\udce9\\udcff$ is usable" in capsys.readouterr().out


def test_commands_and_exit_codes(tree, tmp_path, capsys):
    arguments = [
        "prepare",
        "human36m",
        "--source",
        str(tree),
        "--target",
        str(tmp_path / "set"),
        "--subjects",
        "1",
        "--actions",
        "12",
        "--step",
        "6",
    ]
    assert main(arguments) == 0
    assert main(["prepare", "check", str(tmp_path / "set")]) == 0
    output = capsys.readouterr()
    assert "is usable" in output.out and "24" in output.out  # 4 cameras x (4 + 2) pictures
    shutil.rmtree(tmp_path / "set" / layout.folder_name(1, 12, 1, 3))
    assert main(["prepare", "check", str(tmp_path / "set")]) == 2
    assert "1 problems, listed above" in capsys.readouterr().err
    (tree / "metadata.xml").unlink()
    assert main(arguments) == 2 and "holds no metadata.xml" in capsys.readouterr().err
    assert main(["prepare", "human36m", "--source", str(tmp_path / "nowhere")]) == 2
    assert (
        main([*arguments, "--step", "0"]) == 2
        and "argument --step: 0: expected a whole number from 1" in capsys.readouterr().err
    )


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_frame_is_told_not_stepped_over(tmp_path, reader):
    """OpenCV drops a frame that it cannot decode; every later picture would take its neighbour's place."""
    path = tmp_path / "video.mp4"
    raw.write_video(path, 40)
    assert [frame for frame, _ in video_frames(path, [3, 39], 40, reader)] == [3, 39]
    with pytest.raises(InputError, match="has 40 frames, but there are 41 poses"):
        list(video_frames(path, [3, 39], 41, reader))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = packets[20]
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(
        InputError, match="damaged at frame 20: its time jumps|frames, but|not a complete, readable"
    ):
        list(video_frames(path, range(40), 39, reader))
