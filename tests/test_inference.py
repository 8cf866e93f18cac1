"""Own pictures: reading them, boxes, poses, tables, the command."""

import csv
import dataclasses
import email.message
import io
import math
import os
import pickle
import re
import shutil
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from ipr_lib import run
from ipr_lib.__main__ import main
from ipr_lib.config import load_config
from ipr_lib.course import example_item, pipeline, reference
from ipr_lib.data import h36m_layout as layout
from ipr_lib.files import InputError, read_json, write_json
from ipr_lib.geometry.camera import Camera
from ipr_lib.geometry.skeleton import HUMAN36M, add_thorax, bone_lengths
from ipr_lib.geometry.transforms import BOX_MM, apply_affine, box_at_root, crop_affine
from ipr_lib.inference import (
    assumed_cameras,
    box_from_pose,
    detect_people,
    draw_overlay,
    focal_length,
    join_poses,
    link_people,
    list_files,
    load_network,
    one_euro,
    parse_box,
    predict_files,
    predict_inputs,
    predict_people,
    read_frames,
    read_image,
    smooth_poses,
    timeline,
    whole_box,
)
from ipr_lib.inference import poses as person_boxes
from ipr_lib.inference.networks import Network
from ipr_lib.inference.poses import BODY_MM, Poses
from ipr_lib.studio import perform
from ipr_lib.training import records
from tests.conftest import make_pose, needs_linux

CFG = load_config("smoke")
J = len(HUMAN36M)


class Brightest(torch.nn.Module):
    """A network of one idea: every joint lies where the crop is bright; at the root's depth, or each at its own."""

    def __init__(self, deep=False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(9.0))
        self.register_buffer(
            "depths",
            9.0
            * deep
            * torch.nn.functional.one_hot(torch.arange(J) % 8, 8)[None, :, :, None, None],
        )

    def forward(self, crops):
        maps = torch.nn.functional.avg_pool2d(crops.mean(1, keepdim=True), 4) * self.weight
        return maps[:, :, None] + self.depths


MODEL = Network(Brightest().eval(), CFG, "the brightest place")
DEEP = Network(Brightest(deep=True).eval(), CFG, "the brightest place, each at its depth")


def disc(x, y, width=120, height=90, radius=7):
    """A white disc on black; (height, width, 3) uint8."""
    return cv2.circle(np.zeros((height, width, 3), np.uint8), (x, y), radius, (255, 255, 255), -1)


def write_video(path, centres, rate=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (120, 90))
    for x, y in centres:
        writer.write(disc(x, y))
    writer.release()
    return path


def make_poses(
    source, frame, time_s, box, score, joints_cam, joints_img, focal_px, spread_mm=np.nan
):
    """The Poses of one frame of an input, its people numbered from 0."""
    n = len(box)
    root = joints_cam[:, HUMAN36M.root]
    return Poses(
        source=np.full(n, source, object),
        frame=np.full(n, frame),
        time_s=np.full(n, float(time_s)),
        person=np.arange(n),
        box=box,
        score=score,
        joints_rel=joints_cam - root[:, None],
        joints_img=joints_img,
        root_cam=root,
        focal_px=np.full(n, float(focal_px)),
        spread_mm=np.broadcast_to(spread_mm, joints_img.shape[:2]),
    )


# --- reading ---


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(tmp_path, orientation):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30], upright[:20, 30:], upright[20:, :30] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    # What a camera writes is the upright picture under the inverse of the turn that the mark asks for.
    ways = {
        1: None,
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    picture = Image.fromarray(upright)
    if ways[orientation]:
        picture = picture.transpose(getattr(Image.Transpose, ways[orientation]))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read.pixels, upright)
    assert any("upright" in note for note in read.notes) == (orientation != 1)


def exif_with(**tags):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base[name]: value for name, value in tags.items()}
    )
    return exif


def test_focal_length_comes_from_the_user_then_exif_then_assumption():
    exif = exif_with(FocalLengthIn35mmFilm=50)
    assert focal_length(400, 300, 123, exif)[0] == 123
    # 500 px of diagonal over sqrt(36² + 24²) = 43.267 mm of it
    assert focal_length(400, 300, None, exif)[0] == pytest.approx(50 * 500 / 43.26661531)
    # 5 mm at 2540 px an inch, 100 px a mm, but the picture has been halved since
    exif = exif_with(
        FocalLength=5.0,
        FocalPlaneXResolution=2540.0,
        FocalPlaneResolutionUnit=2,
        ExifImageWidth=800,
    )
    assert focal_length(400, 300, None, exif)[0] == pytest.approx(250)
    for useless in (
        None,
        Image.Exif(),
        exif_with(FocalLengthIn35mmFilm=0),
        exif_with(FocalLength=5.0),
    ):
        focal, note = focal_length(300, 400, None, useless)
        assert focal == 480 and "assumed" in note


def test_exif_survives_saving(tmp_path):
    Image.fromarray(disc(50, 40)).save(tmp_path / "a.jpg", exif=exif_with(FocalLengthIn35mmFilm=28))
    assert read_image(tmp_path / "a.jpg").focal_px == pytest.approx(
        28 * math.hypot(120, 90) / 43.26661531
    )


def test_odd_kinds_of_pictures_become_rgb(tmp_path):
    ramp = np.tile(np.arange(40, dtype=np.uint8) * 6, (50, 1))
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 16).save(tmp_path / "deep.png")
    alpha = np.dstack([ramp, ramp, ramp, np.where(ramp < 120, 0, 255).astype(np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    first, second = (
        Image.fromarray(np.full((50, 40), 30, np.uint8)),
        Image.fromarray(np.full((50, 40), 200, np.uint8)),
    )
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    notes = {}
    for name in ("grey.png", "deep.png", "alpha.png", "moving.gif"):
        picture = read_image(tmp_path / name)
        assert picture.pixels.shape == (50, 40, 3) and picture.pixels.dtype == np.uint8
        notes[name] = picture
    np.testing.assert_array_equal(notes["grey.png"].pixels[..., 1], ramp)
    # 16 bits: the brightest of 39 * 6 * 16 becomes 255
    np.testing.assert_array_equal(
        notes["deep.png"].pixels[0, :, 0], np.rint(np.arange(40) * 255 / 39)
    )
    assert (notes["alpha.png"].pixels[:, :20] == 255).all() and (
        notes["alpha.png"].pixels[:, 20] == 120
    ).all()
    assert (notes["moving.gif"].pixels == 30).all()
    for name, words in (
        ("grey.png", "grey"),
        ("deep.png", "8 bits"),
        ("alpha.png", "white"),
        ("moving.gif", "2 frames"),
    ):
        assert any(words in note for note in notes[name].notes), notes[name].notes


def test_unusable_pictures_are_one_line_each(tmp_path):
    Image.fromarray(disc(30, 40)).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "words.png").write_text("not a picture", encoding="utf-8")
    (tmp_path / "empty.webp").touch()
    Image.new("RGB", (31, 200)).save(tmp_path / "tiny.png")
    for name, words in (
        ("cut.jpg", "this picture cannot be read"),
        ("words.png", "cannot be read .cannot identify image file."),
        ("empty.webp", "cannot be read .cannot identify image file."),
        ("tiny.png", "31 x 200 px is too small"),
        ("none.jpg", "cannot be read .*No such file"),
    ):
        with pytest.raises(InputError, match=words) as error:
            read_image(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_list_files_takes_folders_in_order_and_names_dead_ends(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.mp4", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "hollow").mkdir()
    files, _, problems = list_files(
        [tmp_path, tmp_path / "notes.txt", tmp_path / "hollow", tmp_path / "gone.jpg"]
    )
    assert [file.name for file in files] == ["a.jpg", "b.PNG", "c.mp4"]
    assert len(problems) == 3 and all(str(tmp_path) in problem for problem in problems)


def test_read_frames_counts_and_times(tmp_path):
    path = write_video(tmp_path / "a.avi", [(20 + 10 * i, 45) for i in range(7)])
    frames = list(read_frames(path, every=3))
    assert [number for number, _, _ in frames] == [0, 3, 6]
    np.testing.assert_allclose([time for _, time, _ in frames], [0, 0.3, 0.6])
    for number, _, image in frames:
        pixels = image.pixels
        assert (
            pixels[45, 20 + 10 * number].min() > 200
            and pixels[45, 110 - 10 * number].max() < 60
            or number == 4
        )
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match="bad.mp4: not a readable video"):
        list(read_frames(tmp_path / "bad.mp4"))


# --- boxes ---


def test_parse_box():
    np.testing.assert_allclose(
        parse_box("10,20,30,60"), [[25, 50, 60 * person_boxes.DETECTOR_SCALE]]
    )
    for text in ("", "1,2,3", "1,2,3,x", "1,2,0,4", "nan,2,3,4", "1,2,3,inf"):
        with pytest.raises(InputError, match="box"):
            parse_box(text)


def test_whole_box_holds_the_picture():
    corners = apply_affine(
        crop_affine(whole_box(60, 40)[0], 64), np.array([[-0.5, -0.5], [59.5, 39.5]])
    )
    # 60 px wide fill 64 px of crop from edge to edge, 40 px high the middle two thirds
    np.testing.assert_allclose(corners, [[-0.5, 32 - 64 / 3 - 0.5], [63.5, 32 + 64 / 3 - 0.5]])


def test_detected_people_are_filtered_and_sorted():
    class Detector(torch.nn.Module):
        weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pictures):
            assert pictures[0].shape == (3, 90, 120) and pictures[0].max() == 1
            return [
                {
                    "boxes": torch.tensor(
                        [[0.0, 0, 10, 20], [0, 0, 50, 80], [10, 20, 40, 80], [0, 0, 90, 90]]
                    ),
                    "labels": torch.tensor([1, 1, 1, 3]),
                    "scores": torch.tensor([0.9, 0.3, 0.8, 0.99]),
                }
            ]

    class Parameters(Detector):
        def parameters(self, recurse=True):
            return iter([Detector.weight])

    boxes, scores = detect_people(Parameters(), disc(60, 45))
    np.testing.assert_allclose(boxes, [[25, 50, 60 * 1.2], [5, 10, 20 * 1.2]])
    np.testing.assert_allclose(scores, [0.8, 0.9])


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """No weights at hand; a test says what their host does by replacing `urlopen`."""
    monkeypatch.setattr(person_boxes.torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def why_no_detector():
    """What is said where no detector can be had."""
    with pytest.raises(InputError) as error:
        person_boxes.load_detector()
    return str(error.value)


def test_without_weights_the_detector_says_where_they_go(monkeypatch, no_weights):
    def no_network(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    line = why_no_detector()
    assert "no route to host" in line and str(no_weights) in line and "\n" not in line
    assert "https://download.pytorch.org/models/fasterrcnn" in line and "--whole" in line


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\nabc"])
def test_a_host_that_falls_silent_is_given_up(monkeypatch, no_weights, answer):
    """One that never answers, and one that stops in the middle of the weights."""
    with socket.create_server(("127.0.0.1", 0)) as host:

        def serve():
            connection, _ = host.accept()
            with connection:
                connection.sendall(answer)
                tested.wait(60)

        tested = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{host.getsockname()[1]}/"
        opened = urllib.request.urlopen
        monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: opened(url))
        monkeypatch.setattr(person_boxes, "PATIENCE_S", 0.2)
        start = time.perf_counter()
        try:
            line = why_no_detector()
            assert time.perf_counter() - start < 30
        finally:
            tested.set()
    assert "timed out" in line and str(no_weights) in line and "\n" not in line
    assert list(no_weights.glob("*")) == []
    assert socket.getdefaulttimeout() is None, "other connections keep their patience"


class Host(io.BytesIO):
    """What a host of damaged weights answers."""

    def info(self):
        return email.message.Message()


def test_damaged_downloads_leave_nothing(monkeypatch, no_weights):
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: Host(b"damaged"))
    line = why_no_detector()
    assert "invalid hash value" in line and str(no_weights) in line
    assert list(no_weights.glob("*")) == []


@pytest.mark.parametrize(
    "error",
    [EOFError("Ran out of input"), pickle.UnpicklingError("invalid load key"), TimeoutError()],
)
def test_damaged_weights_are_as_good_as_none(monkeypatch, no_weights, error):
    def broken(*_, **__):
        raise error

    weights = person_boxes.torchvision.models.get_model_weights(person_boxes.DETECTOR).DEFAULT
    no_weights.mkdir()
    (no_weights / weights.url.rpartition("/")[2]).write_bytes(
        b"cut short"
    )  # at hand: nobody is asked for them
    monkeypatch.setattr(torch.hub, "urlopen", None)
    monkeypatch.setattr(person_boxes.torchvision.models, "get_model", broken)
    line = why_no_detector()
    assert (str(error) or "TimeoutError") in line and "checkpoints" in line


def test_box_from_pose_finds_the_cube_again():
    """Far away, where perspective is flat, a box of the wrong size and place is put right in one step."""
    rng = np.random.default_rng(1)
    pose = add_thorax(make_pose(rng, 2)) - [0, 0, 900]
    pose *= BODY_MM / bone_lengths(pose, HUMAN36M).sum(-1)[:, None, None]
    camera = Camera(np.eye(3), np.zeros(3), np.full(2, 1e5), np.array([300.0, 200]), 600, 400)
    joints_cam = pose + [[[200, 100, 1e6]], [[-900, 300, 1.2e6]]]
    true_box = box_at_root(joints_cam[:, 0], camera)
    joints_img = camera.camera_to_image(joints_cam)
    for zoom, shift in ((1.0, 0.0), (1.4, 20.0), (0.7, -9.0)):
        box = true_box * [1, 1, zoom] + [shift, -shift, 0]
        affine = crop_affine(box, 64)
        z = (
            joints_cam[..., 2:] - joints_cam[:, :1, 2:]
        ) / zoom  # the network sees a cube of 2 m, whatever its size
        joints = np.concatenate([apply_affine(affine, joints_img), z], axis=-1)
        np.testing.assert_allclose(box_from_pose(joints, joints_img, box, 64), true_box, rtol=3e-3)


def test_box_from_pose_by_hand():
    """One limb is 5 px along x, 100 mm in a cube of 2 m and 100 px; the others lie along z and are 250 mm long.

    The 17 limbs are 100 + 16 * 250 = 4100 mm long, those of an average body 4220 mm: so the side of 150 px shrinks to
    150 * 4100 / 4220. Limbs of 150 + 16 * 375 = 6150 mm make it grow, by 6150 / 4220.
    """
    joints = np.zeros((2, J, 3))
    for child, parent in HUMAN36M.limbs:
        step = [5, 0, 0] if HUMAN36M.names[child] == "R_Hip" else [0, 0, 250]
        joints[0, child] = joints[0, parent] + step
    joints[1] = 1.5 * joints[0]
    joints_img = np.full((2, J, 2), -7.0)
    joints_img[:, HUMAN36M.root] = [[31, 44], [52, 63]]
    box = np.array([[30.0, 40, 150], [50, 60, 300]])
    expected = [[31, 44, 145.7346], [52, 63, 437.2038]]
    np.testing.assert_allclose(box_from_pose(joints, joints_img, box, 100), expected, atol=1e-4)


def test_the_average_body_is_that_of_the_training_actors():
    """4133, 3848, 4315, 4583 and 4233 mm of limbs: 4223 mm on average, said as 4220."""
    limbs = []
    for subject in (1, 5, 6, 7, 8):
        joints_world = perform(subject, 2, 1, 1).joints_world
        limbs.append(bone_lengths(add_thorax(joints_world), HUMAN36M).sum())
    np.testing.assert_allclose(limbs, [4133, 3848, 4315, 4583, 4233], atol=1)
    assert abs(BODY_MM - np.mean(limbs)) < 5


def test_people_keep_their_number():
    before = np.array([[100.0, 100, 50], [300, 100, 80], [300, 400, 60]])
    now = np.array([[310.0, 395, 60], [105, 102, 50], [600, 100, 50], [290, 90, 80]])
    np.testing.assert_array_equal(link_people(before, now), [2, 0, -1, 1])
    np.testing.assert_array_equal(link_people(np.zeros((0, 3)), now[:2]), [-1, -1])
    assert len(link_people(before, np.zeros((0, 3)))) == 0


# --- smoothing ---


def test_one_euro_by_hand():
    share = 1 / (1 + 2 * math.pi * 0.1)
    np.testing.assert_allclose(one_euro([0.0, 1.0], [0, 0.1], 1.0, 0.0), [0, 1 - share])
    speed = (1 - share) * 10
    faster = 1 / (1 + 2 * math.pi * (1 + 0.5 * speed) * 0.1)
    np.testing.assert_allclose(one_euro([0.0, 1.0], [0, 0.1], 1.0, 0.5), [0, 1 - faster])


def test_one_euro_keeps_rest_calms_noise_and_follows_motion():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.03, 400))
    np.testing.assert_allclose(one_euro(np.full((400, 2, 3), 7.0), times), 7.0)
    noise = rng.normal(0, 10, (400, 3, 2))
    assert one_euro(noise, times, beta=0.0)[50:].std() < 0.5 * noise.std()
    ramp = 1500 * times[:, None]
    lag_still, lag_quick = (
        np.abs(one_euro(ramp, times, beta=beta) - ramp)[200:].mean() for beta in (0.0, 0.01)
    )
    assert lag_quick < 0.2 * lag_still


def test_one_euro_starts_anew_after_a_gap():
    values = np.array([[0.0, 0.0], [10, 0], [np.nan, 0], [500, 0], [500, 0]])
    smooth = one_euro(values, np.arange(5) / 10)
    assert np.isnan(smooth[2, 0]) and np.isfinite(smooth[[0, 1, 3, 4]]).all()
    np.testing.assert_allclose(smooth[3:, 0], 500)
    np.testing.assert_allclose(smooth[:, 1], 0)


@pytest.mark.parametrize("times", [[0, 0.1], [0, 0.2, 0.1], [0, 0, 0.1]])
def test_one_euro_refuses_times_that_do_not_rise(times):
    with pytest.raises(InputError, match="times"):
        one_euro(np.zeros((3, 2)), times)


# --- prediction ---


def test_joints_land_where_the_picture_is_bright():
    picture = np.maximum(disc(30, 40), disc(90, 60))
    boxes = np.array([[34.0, 38, 40], [84, 62, 48]])
    images, focal_px = [picture, picture], [150.0, 150.0]
    joints_cam, joints_img, kept, _ = predict_people(MODEL, images, boxes, focal_px, passes=1)
    assert joints_cam.shape == (2, J, 3) and joints_img.shape == (2, J, 2)
    np.testing.assert_allclose(joints_img[:, 5], [[30, 40], [90, 60]], atol=0.5)
    np.testing.assert_array_equal(kept, boxes)
    np.testing.assert_allclose(
        joints_cam[..., 2],
        np.broadcast_to([[BOX_MM * 150 / 40], [BOX_MM * 150 / 48]], (2, J)),
        rtol=1e-3,
    )
    camera = assumed_cameras(images, focal_px)
    np.testing.assert_allclose(camera.camera_to_image(joints_cam), joints_img, atol=1e-9)


def test_a_second_pass_moves_the_box_to_the_pose():
    box = whole_box(120, 90)
    _, joints_img, box, _ = predict_people(MODEL, [disc(30, 40)], box, [150.0], passes=2)
    # A cell of the first pass covers 7.5 px. All joints in one place: half the side, and no less.
    np.testing.assert_allclose(box[0], [30, 40, 60], atol=3.75)
    np.testing.assert_allclose(
        joints_img[0, 0], [30, 40], atol=60 / 16 / 2
    )  # half a cell of the second


def test_nobody_is_no_pose():
    (found,) = predict_inputs(MODEL, [disc(-50, 40)], detector=Sees())
    assert found.problem is None and found.frames == [0]
    assert len(found.poses) == 0 and found.poses.joints_img.shape == (0, J, 2)


def test_a_video_is_one_timeline(tmp_path):
    centres = [(30 + 6 * i, 40) for i in range(8)]
    path = write_video(tmp_path / "a.avi", centres)
    box = np.array([[55.0, 45, 110]])
    (found,) = predict_inputs(MODEL, [path], box, every=2, passes=1)
    poses = found.poses
    np.testing.assert_array_equal(found.frames, [0, 2, 4, 6])
    np.testing.assert_allclose(found.times, [0, 0.2, 0.4, 0.6])
    np.testing.assert_array_equal(poses.person, 0)
    np.testing.assert_allclose(poses.joints_img[:, 0], centres[::2], atol=3.75)  # half a cell
    calm = smooth_poses(poses)
    assert np.ptp(calm.joints_img[:, 0, 0]) < np.ptp(poses.joints_img[:, 0, 0])
    assert poses.joints_img[0, 0] == pytest.approx(calm.joints_img[0, 0])


def test_timeline_has_gaps_where_somebody_is_away():
    poses = join_poses(
        [
            make_poses(
                "a",
                frame,
                frame / 10,
                np.ones((n, 3)),
                np.ones(n),
                np.full((n, J, 3), 9.0) + np.arange(n)[:, None, None],
                np.zeros((n, J, 2)),
                100.0,
            )
            for frame, n in ((0, 2), (3, 1))
        ]
    )
    joints = timeline(poses, np.array([0, 3, 6]))
    assert joints.shape == (2, 3, J, 3)
    np.testing.assert_array_equal(
        np.isfinite(joints[..., 0, 0]), [[True, True, False], [True, False, False]]
    )
    np.testing.assert_allclose(
        joints[1, 0] - joints[0, 0], 1.0
    )  # they stand 1 mm apart, about their middle
    np.testing.assert_allclose(joints[0, 0] + joints[1, 0], 0.0, atol=1e-12)


def test_overlay_draws_right_orange_and_left_blue():
    joints = np.zeros((1, J, 2))
    joints[0] = [10, 10]
    joints[0, HUMAN36M.index("R_Knee")], joints[0, HUMAN36M.index("L_Knee")] = [10, 80], [100, 10]
    picture = disc(60, 45)
    drawn = draw_overlay(picture, joints)
    assert (picture == disc(60, 45)).all(), "the picture itself stays as it was"
    assert drawn[40, 10].tolist() == [213, 94, 0] and drawn[10, 50].tolist() == [0, 114, 178]
    draw_overlay(picture, np.full((1, J, 2), 1e12))  # far outside: no overflow


def test_lines_are_as_thick_as_suits_the_person():
    """People of 1000 and 200 px in one picture: lines of 2 * 1000 / 200 = 10 and of 2 px, and a seam."""
    joints = np.zeros((2, J, 2))
    joints[0], joints[1] = [300, 100], [900, 700]
    knee = HUMAN36M.index("R_Knee")
    joints[0, knee], joints[1, knee] = [300, 1100], [900, 900]
    drawn = draw_overlay(np.zeros((1200, 1600, 3), np.uint8), joints)
    for row, columns, width, seam in ((600, slice(0, 600), 10, 15), (800, slice(700, 1100), 2, 3)):
        line = drawn[row, columns].astype(int)
        orange = np.abs(line - [213, 94, 0]).sum(-1) < 60
        assert abs(orange.sum() - width) <= 1
        assert abs((line.max(-1) > 127).sum() - seam) <= 2  # OpenCV smooths the edges


# --- files ---


def test_everything_is_written_and_bad_inputs_do_not_stop_it(tmp_path):
    (tmp_path / "in" / "more").mkdir(parents=True)
    Image.fromarray(disc(30, 40)).save(tmp_path / "in" / "a.png")
    Image.fromarray(disc(60, 50)).save(tmp_path / "in" / "more" / "a.png")
    (tmp_path / "in" / "b.jpg").write_bytes(b"broken")
    video = write_video(tmp_path / "in" / "c.avi", [(30, 40), (36, 42), (42, 44)])
    lines, out = [], tmp_path / "out"
    poses, problems = predict_files(
        [tmp_path / "in", tmp_path / "in" / "more" / "a.png"],
        out,
        DEEP,
        whole=True,
        passes=1,
        say=lines.append,
    )
    assert len(problems) == 1 and "b.jpg" in problems[0] and problems[0] in lines
    assert sorted(path.name for path in out.iterdir()) == [
        "a-2_pose.html",
        "a-2_pose.jpg",
        "a_pose.html",
        "a_pose.jpg",
        "c_pose.html",
        "c_pose.webm",
        "poses.csv",
        "poses.html",
        "poses.json",
        "poses.npz",
    ]
    assert "pictures/s" in lines[-1] and lines[-1].startswith("5 pictures, 5 poses")
    np.testing.assert_allclose(
        poses.joints_img[:2, 0], [[30, 40], [30, 40]], atol=3.75
    )  # a.png, then the video
    with np.load(out / "poses.npz") as arrays:
        assert arrays["joint_names"].tolist() == list(HUMAN36M.names)
        np.testing.assert_array_equal(arrays["joints_rel"], poses.joints_rel)
        assert arrays["source"].tolist() == [
            str(tmp_path / "in" / "a.png"),
            *[str(video)] * 3,
            str(tmp_path / "in" / "more" / "a.png"),
        ]
    with open(out / "poses.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * J and rows[1]["joint"] == "R_Hip" and rows[2 * J]["frame"] == "1"
    assert float(rows[0]["x_px"]) == pytest.approx(poses.joints_img[0, 0, 0], abs=0.006)
    assert len(list(read_frames(out / "c_pose.webm"))) == 3


@needs_linux
def test_names_may_hold_anything(tmp_path):
    """A "$" begins a formula in Matplotlib, and a name that came from an old disk may not be UTF-8."""
    image, video = tmp_path / "a$b$_^.png", tmp_path / "$\\nope$ c.avi"
    Image.fromarray(disc(60, 50)).save(image)
    write_video(video, [(30, 40), (36, 42)])
    odd = []
    for path in (image, video):
        odd.append(path.with_name(os.fsdecode(b"\xe9\xff$") + path.name))
        shutil.copy(path, odd[-1])
    out = tmp_path / "out"
    poses, problems = predict_files(
        [image, video, *odd], out, DEEP, detector=Sees(), passes=1, say=lambda line: None
    )
    assert problems == [] and len(poses) == 6
    for path in (image, *odd[:1]):
        assert (out / f"{path.stem}_pose.jpg").exists()
        assert (out / f"{path.stem}_pose.html").exists()
    for path in (video, *odd[1:]):
        assert len(list(read_frames(out / f"{path.stem}_pose.webm"))) == 2
    page = (out / f"{odd[0].stem}_pose.html").read_text(encoding="utf-8")
    assert "<title>\\xe9\\xff$a$b$_^.png</title>" in page
    with open(out / "poses.csv", newline="", encoding="utf-8") as file:
        sources = {row["source"].removeprefix(f"{tmp_path}/") for row in csv.DictReader(file)}
    assert sources == {
        image.name,
        video.name,
        f"\\xe9\\xff${image.name}",
        f"\\xe9\\xff${video.name}",
    }


def test_only_our_lines_reach_the_terminal(tmp_path, capfd):
    """What FFmpeg and OpenCV would say of a broken video and of the one written is kept back."""
    good = write_video(tmp_path / "a.avi", [(30, 40), (36, 42)])
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    _, (problem,) = predict_files(
        [good, tmp_path / "bad.mp4"],
        tmp_path / "out",
        DEEP,
        whole=True,
        passes=1,
        view=False,
        say=print,
    )
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 3 and problem in out
    line = re.compile(
        r"(predicting a\.avi|drawing a\.avi|predicting bad\.mp4): [012] of \?, .* left, .*"
    )
    found = [line.fullmatch(text) for text in err.splitlines()]
    assert all(found), err
    assert {match[1] for match in found} == {
        "predicting a.avi",
        "drawing a.avi",
        "predicting bad.mp4",
    }


def test_tables_grow_with_the_inputs_and_a_bad_one_costs_nothing(tmp_path):
    """The tables hold the first input when the second is said; bad inputs alone leave them be."""
    Image.fromarray(disc(30, 40)).save(tmp_path / "a.png")
    Image.fromarray(disc(60, 50)).save(tmp_path / "c.png")
    bad = tmp_path / "b.png"
    bad.write_bytes(b"broken")
    out, sizes = tmp_path / "out", []

    def say(line):
        if (out / "poses.csv").exists():
            sizes.append(len((out / "poses.csv").read_text(encoding="utf-8").splitlines()))

    inputs = [tmp_path / "a.png", bad, tmp_path / "c.png"]
    predict_files(inputs, out, DEEP, whole=True, passes=1, view=False, say=say)
    assert sizes[0] == 1 + J  # a header, and a line for each joint of a.png, when b.png is said
    before = (out / "poses.csv").read_bytes(), (out / "poses.npz").read_bytes()
    assert len(before[0].splitlines()) == 1 + 2 * J
    poses, problems = predict_files([bad], out, DEEP, whole=True, passes=1, view=False, say=say)
    assert len(poses) == 0 and len(problems) == 1
    assert ((out / "poses.csv").read_bytes(), (out / "poses.npz").read_bytes()) == before


class Sees(torch.nn.Module):
    """A detector that finds one person wherever anything is bright."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pictures):
        n = int(pictures[0].max() > 0.5)
        boxes = torch.tensor([[10.0, 10, 60, 70]])[:n]
        return [
            {"boxes": boxes, "labels": torch.ones(n, dtype=torch.long), "scores": torch.ones(n)}
        ]


def test_a_page_opens_where_somebody_is(tmp_path):
    video = write_video(
        tmp_path / "a.avi", [(-50, 40), (30, 40), (36, 42)]
    )  # nobody in the first frame
    poses, problems = predict_files(
        [video], tmp_path / "out", DEEP, detector=Sees(), passes=1, say=lambda line: None
    )
    assert poses.frame.tolist() == [1, 2] and not problems
    assert '"frame":1,' in (tmp_path / "out" / "a_pose.html").read_text(encoding="utf-8")


def test_out_may_not_be_an_input(tmp_path):
    with pytest.raises(InputError, match="input folder"):
        predict_files([tmp_path], tmp_path, MODEL)


@pytest.fixture
def runs(tmp_path):
    """A results folder with a run whose network has not learned anything."""
    model = run.build_network(CFG)
    folder = pipeline.run_dir(CFG, tmp_path / "results")
    folder.mkdir(parents=True)
    records.save_checkpoint(
        folder / records.CHECKPOINT,
        model,
        [torch.optim.AdamW(model.parameters())],
        {"step": 1, "seconds": 0.0, "log": [], "config": CFG.record()},
    )
    write_json(
        folder / pipeline.METRICS,
        {
            name: "x"
            for name in (
                "run",
                "profile",
                "data",
                "split",
                "train_items",
                "samples_seen",
                "network",
                "parameters",
                "seed",
                "oracle",
                "commit",
                "device",
                "minutes",
                "checkpoint",
            )
        }
        | {
            "scores": {
                "n": 3,
                **{
                    metric: {"frame_mean": 12.5}
                    for metric in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale")
                },
            }
        },
    )
    return tmp_path / "results"


def test_the_card_tells_what_differs_from_the_profile(runs, tmp_path):
    folder = pipeline.run_dir(CFG, runs)
    content = torch.load(folder / records.CHECKPOINT, weights_only=True)
    content["config"] = load_config("smoke", seed=3, epochs=1, train_subjects=[1]).record()
    torch.save(content, folder / records.CHECKPOINT)
    card = reference.save_reference(folder, tmp_path / "reference")
    assert card["overrides"] == {"epochs": 1, "train_subjects": [1]}


def test_reference_model_round_trip(runs, tmp_path):
    run = pipeline.run_dir(CFG, runs)
    card = reference.save_reference(run, tmp_path / "reference")
    assert card["overrides"] == {}
    assert card["mpjpe"] == 12.5 and read_json(tmp_path / "reference" / reference.CARD) == card
    path = tmp_path / "reference" / reference.MODEL
    network = load_network(weights=path)
    model = network.model
    assert network.cfg == CFG and "12.5 mm" in network.about and not model.training
    of_run = load_network(run).model
    crops = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.cpu()(crops), of_run.cpu()(crops), rtol=0.01, atol=1e-3)
    stored = torch.load(path, weights_only=True)["network"]
    assert {str(stored[name].dtype) for name in stored} == {
        "torch.float16",
        "torch.float32",
        "torch.int64",
    }
    for name, value in model.state_dict().items():
        exact = of_run.state_dict()[name]
        assert value.dtype == exact.dtype
        assert torch.equal(value, exact if "running_" in name else exact.half().to(exact.dtype)), (
            name
        )
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match="model.pt"):
        load_network(weights=path)


@pytest.mark.parametrize(
    "precision, expected",
    [("bfloat16", torch.channels_last), ("float32", torch.contiguous_format)],
)
def test_networks_come_back_in_the_memory_format_of_their_training(
    tmp_path, monkeypatch, precision, expected
):
    """On a processor, bfloat16 is trained channels-last; the other format would round otherwise."""
    cfg = load_config("smoke", precision=precision)
    model = run.build_network(cfg)
    folder = pipeline.run_dir(cfg, tmp_path)
    folder.mkdir(parents=True)
    state = {"step": 1, "seconds": 0.0, "log": [], "config": cfg.record()}
    records.save_checkpoint(
        folder / records.CHECKPOINT, model, [torch.optim.AdamW(model.parameters())], state
    )
    monkeypatch.setattr(run, "default_device", lambda: torch.device("cpu"))
    scored, _, _ = pipeline.open_run(folder)
    shown = load_network(folder).model
    for network in (scored, shown):
        kernels = [weight for weight in network.parameters() if weight.ndim == 4]
        tested = [weight for weight in kernels if min(weight.shape) > 1]
        assert tested
        assert all(weight.is_contiguous(memory_format=expected) for weight in tested)


def test_the_crops_that_are_shown_are_those_of_the_whole_capture(tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_DATA", str(tmp_path))
    cfg = load_config("smoke", capture_actions=[5])
    store = reference.shown_crops(cfg)
    columns = store.columns
    names = ("subject", "action", "subaction", "camera_id", "frame")
    where = np.stack([columns[name] for name in names], axis=1).tolist()
    expected = []
    for subject in (9, 11):
        for camera in (1, 3):
            expected += [[subject, 5, 1, camera, 0], [subject, 5, 1, camera, 64]]
    assert where == expected
    item = example_item(store)
    assert where[item] == [11, 5, 1, 3, 64]
    assert len(store.image(item)) >= cfg.crop_px
    whole = dataclasses.replace(cfg, capture_subjects=(11,), capture_cameras=(3,))
    drawn = pipeline.capture(whole, tmp_path / "whole")
    few = tmp_path / store.recipe["source"]
    pictures = []
    for folder in (few, drawn):
        pictures.append(layout.item_path(folder, columns, item).read_bytes())
    assert pictures[0] == pictures[1], "a shorter take with more cameras is drawn otherwise"


def test_the_crops_that_are_shown_come_with_the_reference_network(tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_DATA", str(tmp_path))
    cfg = load_network().cfg
    store = reference.shown_crops(cfg)
    columns = store.columns
    assert list(tmp_path.iterdir()) == [], "nothing is drawn"
    # 2 test actors, 15 actions, 2 cameras, 2 frames
    assert len(store) == 120 and store.recipe["crop_px"] == cfg.crop_px
    assert set(columns["subject"].tolist()) == {9, 11}
    assert set(columns["action"].tolist()) == set(range(2, 17))
    item = example_item(store)
    take = perform(subject=11, action=5, take=1, n_frames=65)
    in_camera = store.cameras([item]).world_to_camera(take.joints_world[None, 64])
    np.testing.assert_allclose(columns["joints_cam"][item][:17], in_camera[0], atol=0.01)


def test_crops_of_the_reference_network_are_kept_beside_it(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_DATA", str(tmp_path / "data"))
    cfg = load_config("smoke", capture_actions=[5])
    content = {"config": cfg.record(), "network": {}}
    (tmp_path / "reference").mkdir()
    torch.save(content, tmp_path / "reference" / reference.MODEL)
    folder = reference.save_shown_crops(tmp_path / "reference")
    drawn = reference.shown_crops(cfg, tmp_path / "none")
    kept = reference.shown_crops(cfg, tmp_path / "reference")
    assert kept.path == folder and drawn.path != folder
    assert kept.checksum == drawn.checksum and len(kept) == 8
    # A network with larger crops cannot use them.
    larger = load_config("smoke", capture_actions=[5], crop_px=96)
    assert reference.shown_crops(larger, tmp_path / "reference").recipe["crop_px"] == 96


def test_the_crops_that_are_shown_of_another_set_are_its_test_part(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_DATA", str(tmp_path / "data"))
    cfg = load_config(
        "smoke", dataset=str(prepared), train_subjects=[1], test_subjects=[9], test_step=3
    )
    store = reference.shown_crops(cfg)
    assert len(store) == 3 and set(store.columns["subject"].tolist()) == {9}


def test_weights_that_float16_does_not_hold_are_refused(runs, tmp_path):
    run = pipeline.run_dir(CFG, runs)
    content = torch.load(run / records.CHECKPOINT, weights_only=True)
    content["network"]["final.bias"][0] = 1e5
    torch.save(content, run / records.CHECKPOINT)
    with pytest.raises(
        InputError, match=r"weights final.bias reach 1e\+05, more than float16 holds"
    ):
        reference.save_reference(run, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_the_command(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "ipr_lib.views.skeleton_view", None
    )  # as if its package were not installed
    Image.fromarray(disc(30, 40)).save(tmp_path / "a.png")
    options = ["--out", str(tmp_path / "out"), "--results-dir", str(runs)]
    options += ["--run", pipeline.run_dir(CFG, runs).name]
    assert main(["predict", str(tmp_path / "a.png"), "--whole", "--focal", "99", *options]) == 0
    said = capsys.readouterr().out
    assert (
        said.startswith("network: run smoke-")
        and "whole picture as box; focal length 99 px as given" in said
        and "pictures/s" in said
    )
    assert "no .html pages" in said and not list((tmp_path / "out").glob("*.html"))
    assert (
        main(
            [
                "predict",
                str(tmp_path / "a.png"),
                str(tmp_path / "gone.png"),
                "--box",
                "10,20,30,40",
                *options,
            ]
        )
        == 2
    )
    captured = capsys.readouterr()
    assert (
        "gone.png: no such file" in captured.out and "a.png: 1 person; box as given" in captured.out
    )
    assert captured.err.startswith("ipr_lib predict: inputs that were not used in full: 1;")
    for wrong in (["--box", "1,2"], ["--every", "0"], ["--focal", "-1"]):
        assert main(["predict", str(tmp_path / "a.png"), *wrong, *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1
