"""What predict writes: tables with units, the page of all pictures, tracks, motion, the command."""

import base64
import csv
import dataclasses
import json
import re

import av
import cv2
import numpy as np
import torch
from PIL import Image

from ipr_lib.__main__ import main
from ipr_lib.files import read_json
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.inference import outputs, predict_files, write_tables
from ipr_lib.inference.networks import spread_mm
from ipr_lib.inference.poses import dense, join_poses

from .test_inference import DEEP, Sees, disc, make_poses, write_video

J = len(HUMAN36M)


def two_rows():
    """Two people of a video, whose numbers tell where they stand."""
    joints_cam = np.arange(2 * J * 3).reshape(2, J, 3) / 8 + [0, 0, 3000]
    joints_img = np.arange(2 * J * 2).reshape(2, J, 2) / 4
    box, score = np.array([[10.0, 20, 30], [40, 50, 60]]), np.array([0.75, np.nan])
    spread = np.full((2, J), 12.343)
    spread[1] = np.nan
    return make_poses("a.mp4", 7, 0.28, box, score, joints_cam, joints_img, 1234.5, spread)


def states_of(page):
    """What the views of a page hold."""
    pattern = r'<script class="state" type="application/json">(.*?)</script>'
    texts = re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL)
    return [json.loads(text) for text in texts]


# --- tables ---


def test_the_three_tables_hold_the_same_numbers(tmp_path):
    poses = two_rows()
    write_tables(poses, tmp_path)
    tables = read_json(tmp_path / "poses.json")
    assert tables["joint_names"] == list(HUMAN36M.names)
    first, second = tables["poses"]
    assert (first["source"], first["frame"], first["time_s"]) == ("a.mp4", 7, 0.28)
    assert (first["person"], second["person"], first["box"]) == (0, 1, [10, 20, 30])
    assert (first["score"], second["score"]) == (0.75, None)
    # Joint 1 lies 3 / 8 mm further than the pelvis along each axis: in steps of 0.01, 0.38.
    assert first["joints_rel"][1] == [0.38, 0.38, 0.38] and first["root_cam"] == [0, 0.12, 3000.25]
    assert second["joints_img"][0] == [9.0, 9.25]
    assert first["spread_mm"] == [12.34] * J and second["spread_mm"] == [None] * J
    with open(tmp_path / "poses.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * J and rows[1]["x_mm"] == "0.38" and rows[J]["y_px"] == "9.25"
    assert (rows[0]["spread_mm"], rows[J]["spread_mm"]) == ("12.34", "nan")
    with np.load(tmp_path / "poses.npz") as arrays:
        np.testing.assert_array_equal(arrays["spread_mm"], poses.spread_mm)
        assert json.loads(str(arrays["about"])) == tables["about"]


def test_each_column_is_explained(tmp_path):
    """A column without its unit and axes would be of no use."""
    assert set(outputs.ABOUT) == set(vars(two_rows()))
    assert "x right, y down" in outputs.ABOUT["joints_rel"]
    assert "no confidence" in outputs.ABOUT["spread_mm"]


def test_spread_by_hand():
    """Two equal cells of a volume (D, H, W) = (4, 5, 8), far above all others.

    Along x they are 4 cells apart, so that each is 2 from the middle: 2 * 2000 / 8 = 500 mm. Along
    y they are 2 apart: 1 * 2000 / 5 = 400 mm. Along z 1 apart: 0.5 * 1200 / 4 = 150 mm.
    """
    volume = torch.full((2, 3, 4, 5, 8), -1e4)
    volume[:, :, 1, 1, 2] = volume[:, :, 2, 3, 6] = 5.0
    expected = np.sqrt(500**2 + 400**2 + 150**2)
    np.testing.assert_allclose(spread_mm(volume, 1200), np.full((2, 3), expected), rtol=1e-5)
    # Lines of ten bins: x and y are sure, z lies in bins 3 or 7, 2 from the middle.
    lines = torch.full((2, 3, 3, 10), -1e4)
    lines[:, :, :, 3] = 5.0
    lines[:, :, 2, 7] = 5.0
    np.testing.assert_allclose(spread_mm(lines, 1200), np.full((2, 3), 2 * 120), rtol=1e-5)
    assert np.isnan(spread_mm(torch.zeros(2, 3, 3), 1200)).all()  # coordinates have no map


def test_dense_leaves_gaps():
    rows = two_rows()
    later = dataclasses.replace(rows, frame=np.array([9, 9]), person=np.array([1, 4]))
    values = np.arange(4.0)
    array = dense(join_poses([rows, later]), np.array([7, 8, 9]), values)
    expected = [[0, np.nan, np.nan], [1, np.nan, 2], [np.nan, np.nan, 3]]
    np.testing.assert_array_equal(array, expected)


# --- pages ---


def test_one_page_shows_all_pictures(tmp_path, monkeypatch):
    for number in range(3):
        Image.fromarray(disc(30 + 20 * number, 40)).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.glob("*.png"))
    choices = {"whole": True, "passes": 1, "say": lambda line: None}
    predict_files(files, tmp_path / "out", DEEP, **choices)
    page = tmp_path / "out" / "poses.html"
    states = states_of(page)
    assert [state["values"]["meta"]["title"] for state in states] == ["0.png", "1.png", "2.png"]
    assert all(state["values"]["meta"]["turning"] for state in states)
    assert all(state["buffers"]["images"] for state in states)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "<title>3 pictures</title>" in text
    assert not re.findall(r"(?:src|href)\s*=\s*(?![\"']?data:)|https?:|url\(|@import", text)
    monkeypatch.setattr(outputs, "PAGE_VIEWS", 2)
    predict_files(files, tmp_path / "few", DEEP, **choices)
    text = (tmp_path / "few" / "poses.html").read_text(encoding="utf-8")
    assert "<title>the first 2 of 3 pictures</title>" in text
    assert len(states_of(tmp_path / "few" / "poses.html")) == 2


def test_the_page_of_a_video_has_its_pictures_as_one_track(tmp_path):
    video = write_video(tmp_path / "a.avi", [(30 + 2 * i, 40) for i in range(9)])
    poses, _ = predict_files(
        [video], tmp_path / "out", DEEP, whole=True, passes=1, every=2, say=lambda line: None
    )
    (state,) = states_of(tmp_path / "out" / "a_pose.html")
    assert state["values"]["meta"]["video_size"] == [120, 90]
    overlay = np.frombuffer(base64.b64decode(state["buffers"]["overlay"]), np.float32)
    np.testing.assert_allclose(overlay.reshape(5, J, 2), poses.joints_img, rtol=1e-6)
    (tmp_path / "track.webm").write_bytes(base64.b64decode(state["buffers"]["video"]))
    with av.open(str(tmp_path / "track.webm")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (90, 120, 3)
    for number, frame in enumerate(frames):  # frame 2 i of the video has its disc at 30 + 4 i
        assert frame[40, 30 + 4 * number].min() > 180 and frame[40, 60 + 4 * number].max() < 70


def test_the_page_of_a_long_video_has_fewer_frames(tmp_path, monkeypatch):
    """Eleven frames, and four may be shown: each third one, from the first with somebody in it on."""
    monkeypatch.setattr(outputs, "PAGE_POSES", 4)
    video = write_video(tmp_path / "a.avi", [(-50, 40), *[(30 + 2 * i, 40) for i in range(10)]])
    choices = {"detector": Sees(), "passes": 1, "say": lambda line: None}
    poses, _ = predict_files([video], tmp_path / "out", DEEP, **choices)
    (state,) = states_of(tmp_path / "out" / "a_pose.html")
    meta = state["values"]["meta"]
    assert (meta["frames"], meta["fps"], state["values"]["frame"]) == (4, 3.333, 0)
    overlay = np.frombuffer(base64.b64decode(state["buffers"]["overlay"]), np.float32)
    shown = np.isin(poses.frame, [1, 4, 7, 10])
    np.testing.assert_allclose(overlay.reshape(4, J, 2), poses.joints_img[shown], rtol=1e-6)
    (tmp_path / "track.webm").write_bytes(base64.b64decode(state["buffers"]["video"]))
    with av.open(str(tmp_path / "track.webm")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    for frame, x in zip(frames, (30, 36, 42, 48)):
        assert frame[40, x].min() > 180 and frame[40, x + 20].max() < 70


def test_several_people_of_a_picture_stand_in_their_places(tmp_path):
    """Two people in a picture of 120 x 90 px, its middle at (59.5, 44.5), with f = 150 px.

    Boxes of 40 and 60 px are 2 m, so their middles lie 2000 * 150 / 40 = 7500 and 5000 mm away. This
    network sees the pelvis in the first of 8 cells of depth, (0.5 / 8 - 0.5) * 2000 = -875 mm from
    there: at 6625 and 4125 mm. The pelvis of the first, at px (30, 40), is at (30 - 59.5) * 6625 /
    150 = -1303 mm and (40 - 44.5) * 6625 / 150 = -199 mm; that of the second, at px (90, 60), at
    839 and 426 mm. The page shows them that far apart.
    """
    Image.fromarray(np.maximum(disc(30, 40), disc(90, 60))).save(tmp_path / "a.png")
    boxes = np.array([[30.0, 40, 40], [90, 60, 60]])
    choices = {"box": boxes, "focal_px": 150.0, "passes": 1, "say": lambda line: None}
    predict_files([tmp_path / "a.png"], tmp_path / "out", DEEP, **choices)
    (state,) = states_of(tmp_path / "out" / "a_pose.html")
    assert state["values"]["meta"]["people"] == ["person 1", "person 2"]
    poses = np.frombuffer(base64.b64decode(state["buffers"]["poses"]), np.float32)
    first, second = poses.reshape(2, J, 3)[:, 0]
    np.testing.assert_allclose(second - first, [839 + 1303, 426 + 199, -2500], atol=2)


# --- the commands ---


def test_predict_also_writes_motion_and_h264(tmp_path, capsys):
    video = write_video(tmp_path / "a.avi", [(30 + 2 * i, 40) for i in range(4)])
    command = ["predict", str(video), "--out", str(tmp_path / "out"), "--whole", "--device", "cpu"]
    assert main([*command, "--also", "bvh,glb,mp4", "--up", "0,-1,0.2"]) == 0, capsys.readouterr()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a_pose.bvh", "a_pose.glb", "a_pose.mp4", "a_pose.webm"} < names
    motion = (tmp_path / "out" / "a_pose.bvh").read_text(encoding="ascii")
    assert "Frames: 4\nFrame Time: 0.1000000\n" in motion
    film = cv2.VideoCapture(str(tmp_path / "out" / "a_pose.mp4"))
    assert (film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)) == (4, 10)
    assert main([*command, "--also", "bvh", "--up", "0,0,1"]) == 2
    assert "up '0,0,1': expected" in capsys.readouterr().err


def test_each_person_has_a_bvh_file_and_all_share_a_glb_file(tmp_path):
    parts = []
    for frame in range(3):
        part = two_rows()
        part.frame[:], part.time_s[:] = frame, frame / 10
        parts.append(part)
    outputs._write_motion(join_poses(parts), tmp_path / "a.b_pose", ("bvh", "glb"), (0, -1, 0))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.b_pose-0.bvh", "a.b_pose-1.bvh", "a.b_pose.glb"]
