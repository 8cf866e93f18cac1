"""Predictions of whole files: given boxes, one of many people, times of overlays, full disks, odd inputs."""

import csv
import resource
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from ipr_lib import run
from ipr_lib.__main__ import main, make_parser
from ipr_lib.files import InputError
from ipr_lib.inference import (
    inputs,
    outputs,
    predict,
    predict_files,
    predict_inputs,
    read_boxes,
    read_frames,
)
from tests import test_inference_inputs
from tests.test_inference import CFG, DEEP, disc
from tests.test_inference_inputs import PAUSES, STEADY


def write_video(path, times=STEADY, **options):
    return test_inference_inputs.write_video(
        path, times, options.pop("codec", "libx264"), **options
    )


def silent(line):
    """Says nothing."""


# --- given boxes ---


def write_boxes(path, *lines):
    path.write_text("file,person,x,y,w,h\n" + "\n".join(lines), encoding="utf-8")
    return path


def test_a_table_of_boxes_names_people_and_files(tmp_path):
    """Tight boxes become squares of 1.2 times the longer side, round the same middle."""
    table = write_boxes(
        tmp_path / "boxes.csv",
        '"sub/a,b:c.jpg",7,10,20,30,60',
        '"sub/a,b:c.jpg", 2, -10, 0, 40, 20',
        f"{tmp_path}/d.mp4,0,0,0,50,100",
    )
    boxes = read_boxes(table)
    assert set(boxes) == {tmp_path / "sub" / "a,b:c.jpg", tmp_path / "d.mp4"}
    people, squares = boxes[tmp_path / "sub" / "a,b:c.jpg"]
    assert people.tolist() == [7, 2]
    np.testing.assert_allclose(squares, [[25, 50, 72], [10, 10, 48]])


@pytest.mark.parametrize(
    "lines, message",
    [
        (["a.jpg,0,1,2,3"], "line 2: expected four finite numbers"),
        (["a.jpg,0,1,2,3,4", "a.jpg,0,1,2,3,4"], "line 3: person 0 of this file stands here twice"),
        (["a.jpg,-1,1,2,3,4"], "line 2: expected the person's number"),
        (["a.jpg,0,1,2,-3,4"], "line 2: expected four finite numbers"),
        ([], "holds no box"),
    ],
)
def test_a_wrong_table_says_the_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_boxes(write_boxes(tmp_path / "boxes.csv", *lines))


def test_a_table_needs_its_first_line(tmp_path):
    (tmp_path / "boxes.csv").write_text("a.jpg,0,1,2,3,4\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected a first line file,person,x,y,w,h"):
        read_boxes(tmp_path / "boxes.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path / "gone.csv")


def test_boxes_of_a_table_are_predicted_under_its_numbers(tmp_path):
    two = np.maximum(disc(30, 40), disc(90, 50))
    Image.fromarray(two).save(tmp_path / "a:b,c.png")
    Image.fromarray(two).save(tmp_path / "no_box.png")
    table = write_boxes(
        tmp_path / "boxes.csv",
        '"a:b,c.png",7,75,35,30,30',
        '"a:b,c.png",3,15,25,30,30',
        "other.png,0,1,2,3,4",
    )
    files = [tmp_path / "a:b,c.png", tmp_path / "no_box.png"]
    poses, problems = predict_files(
        files, tmp_path / "out", DEEP, box=read_boxes(table), view=False, passes=1, say=silent
    )
    assert poses.person.tolist() == [7, 3]
    np.testing.assert_allclose(poses.joints_img[:, 0], [[90, 50], [30, 40]], atol=1.2)
    assert len(problems) == 2
    assert "other.png: the table of boxes names it, but it is no input" in problems[0]
    assert "no_box.png: the table of boxes has no line for this file" in problems[1]


def test_given_people_keep_their_numbers_through_a_video(tmp_path):
    """Their boxes overlap, so that the nearest of the frame before may be the other one's."""
    video = write_video(tmp_path / "a.mp4", STEADY[:3])
    boxes = {video: (np.array([4, 1]), np.array([[40.0, 40, 60], [44, 40, 60]]))}
    (prediction,) = predict_inputs(DEEP, [video], box=boxes)
    assert prediction.poses.person.tolist() == [4, 1] * 3


@pytest.mark.parametrize("box", [[[130.0, 40, 50]], [[60, 90, 50]], [[60, 40, 50], [-9, 40, 50]]])
def test_a_box_outside_of_the_picture_is_an_error(tmp_path, box):
    Image.fromarray(disc(60, 50)).save(tmp_path / "a.png")
    with pytest.raises(
        InputError, match=r"a\.png: a box .* outside of this picture of 120 x 90 px"
    ):
        predict(DEEP, tmp_path / "a.png", box=np.array(box))


def test_numbers_of_a_box_may_be_negative():
    parser = make_parser()
    for text in ("-9,-20.5,80,200", "-.5,3,4,5", "120,40,200,460"):
        options, unknown = parser.parse_known_args(
            ["predict", "a.jpg", "--out", "b", "--box", text, "--every", "2"]
        )
        assert options.box == text and options.every == 2 and unknown == []
    _, unknown = parser.parse_known_args(["predict", "a.jpg", "--out", "b", "-z"])
    assert unknown == ["-z"]


# --- one of many, and a part of a video ---


def test_one_person_is_kept(tmp_path):
    Image.fromarray(np.maximum(disc(30, 40), disc(90, 50))).save(tmp_path / "a.png")
    boxes = np.array([[30.0, 40, 30], [90, 50, 30]])
    poses = predict(DEEP, tmp_path / "a.png", box=boxes, person=1, passes=1)
    assert poses.person.tolist() == [1]
    np.testing.assert_allclose(poses.joints_img[0, 0], [90, 50], atol=1.2)
    with pytest.raises(InputError, match=r"a\.png: no person 2; there are 0, 1"):
        predict(DEEP, tmp_path / "a.png", box=boxes, person=2)


def test_a_part_of_a_video_and_its_overlay(tmp_path):
    video = write_video(tmp_path / "a.mp4")
    poses, problems = predict_files(
        [video],
        tmp_path / "out",
        DEEP,
        whole=True,
        view=False,
        start=1,
        end=1.5,
        every=3,
        say=silent,
    )
    assert problems == [] and poses.frame.tolist() == [30, 33, 36, 39, 42]
    np.testing.assert_allclose(poses.time_s, [1, 1.1, 1.2, 1.3, 1.4], atol=1e-6)
    times = [time_s for _, time_s, _ in read_frames(tmp_path / "out" / "a_pose.webm")]
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3, 0.4], atol=2e-3)


# --- overlays ---


def test_an_overlay_keeps_the_times_of_a_video_that_pauses(tmp_path):
    """`write_video` darkens each picture; its overlay shows each from its own time on."""
    video = write_video(tmp_path / "a.webm", PAUSES, codec="libvpx")
    out = tmp_path / "out"
    choices = {"whole": True, "view": False, "say": silent, "also": ("mp4",)}
    _, problems = predict_files([video], out, DEEP, **choices)
    assert problems == []
    for overlay in (out / "a_pose.webm", out / "a_pose.mp4"):
        _, times, images = zip(*read_frames(overlay))
        np.testing.assert_allclose(times, PAUSES, atol=2e-3)
        levels = [int(image.pixels[5, 5, 0]) for image in images]
        np.testing.assert_allclose(levels, 250 - np.arange(10), atol=4)


@contextmanager
def file_size_limit(n_bytes):
    """No file may grow beyond this; the system refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_an_overlay_that_the_disk_does_not_take_is_told_and_leaves_nothing(tmp_path, share):
    (prediction,) = predict_inputs(DEEP, [write_video(tmp_path / "a.mp4")], whole=True)
    target = tmp_path / "out" / "a_pose"
    outputs._write_video(prediction, target, {}, False, ())
    overlay = tmp_path / "out" / "a_pose.webm"
    size = overlay.stat().st_size
    overlay.unlink()
    with (
        file_size_limit(int(share * size)),
        pytest.raises(InputError, match=r"cannot write .*a_pose\.webm: File too large"),
    ):
        outputs._write_video(prediction, target, {}, False, ())
    assert list(target.parent.iterdir()) == []


# --- one odd input costs the others nothing ---


def test_a_cut_video_keeps_the_poses_that_it_has(tmp_path):
    video = write_video(tmp_path / "a.mp4", movflags="faststart")
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    poses, problems = predict_files(
        [video], tmp_path / "out", DEEP, whole=True, view=False, say=silent
    )
    assert 10 < len(poses) < 80
    assert len(problems) == 1 and f"{90 - len(poses)} frames are missing" in problems[0]
    assert len(list(read_frames(tmp_path / "out" / "a_pose.webm"))) == len(poses)
    with pytest.warns(UserWarning, match="frames are missing"):
        assert len(predict(DEEP, video, whole=True)) == len(poses)


def test_whatever_fails_with_one_input_the_others_are_kept(tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(disc(60, 50)).save(tmp_path / name)

    def reading(path, focal_px=None):
        if "b.png" in str(path):
            raise MemoryError("too large")
        return read_image(path, focal_px)

    def drawing(image, joints_img):
        if image[0, 0, 0] == 9:
            raise ZeroDivisionError("in the drawing")
        return draw_overlay(image, joints_img)

    odd = disc(60, 50)
    odd[0, 0] = 9
    Image.fromarray(odd).save(tmp_path / "c.png")
    read_image, draw_overlay = inputs.read_image, outputs.draw_overlay
    monkeypatch.setattr(inputs, "read_image", reading)
    monkeypatch.setattr(outputs, "draw_overlay", drawing)
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    out = tmp_path / "out"
    poses, problems = predict_files(files, out, DEEP, whole=True, view=False, say=silent)
    assert [source[-5:] for source in poses.source] == ["a.png", "c.png"]
    assert len(problems) == 2
    assert "b.png: cannot be used (MemoryError: too large)" in problems[0]
    assert "c.png: its overlay cannot be drawn (ZeroDivisionError: in the drawing)" in problems[1]
    with open(out / "poses.csv", newline="", encoding="utf-8") as file:
        assert len({row["source"] for row in csv.DictReader(file)}) == 2


def test_names_that_are_long_or_differ_in_case_alone(tmp_path):
    names = ["a" * 251 + ".png", "é" * 125 + ".png", "b.png", "B.png"]
    for name in names:
        Image.fromarray(disc(60, 50)).save(tmp_path / name)
    poses, problems = predict_files(
        [tmp_path / name for name in names],
        tmp_path / "out",
        DEEP,
        whole=True,
        view=False,
        say=silent,
    )
    assert problems == [] and len(poses) == 4
    overlays = sorted(path.name for path in (tmp_path / "out").glob("*.jpg"))
    assert overlays == [
        "B-2_pose.jpg",
        "a" * 200 + "_pose.jpg",
        "b_pose.jpg",
        "é" * 100 + "_pose.jpg",
    ]


def test_folders_of_folders(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(disc(60, 50)).save(tmp_path / "in" / "a.png")
    Image.fromarray(disc(60, 50)).save(tmp_path / "in" / "sub" / "b.png")
    (tmp_path / "in" / "words.txt").touch()
    lines, out = [], tmp_path / "out"
    choices = {"whole": True, "view": False, "say": lines.append}
    poses, problems = predict_files([tmp_path / "in"], out, DEEP, **choices)
    assert len(poses) == 1 and problems == []
    assert [line for line in lines if "skipped" in line] == [
        f"{tmp_path / 'in'}: skipped words.txt (not known as picture or video)",
        f"{tmp_path / 'in'}: skipped sub (folders; --recursive takes what lies in them)",
    ]
    poses, _ = predict_files([tmp_path / "in"], out, DEEP, recursive=True, **choices)
    assert len(poses) == 2
    with pytest.raises(InputError, match="is an input folder"):
        predict_files([tmp_path], out, DEEP, recursive=True, **choices)


# --- the command ---


@pytest.mark.parametrize(
    "options, message",
    [
        (["a.png", "--start", "1"], "--start has no effect with pictures alone"),
        (["a.png", "--recursive"], "--recursive has no effect without a folder"),
        (["a.mp4", "--start", "2", "--end", "2"], "--start 2 is not before --end 2"),
        (["a.png", "--whole", "--boxes", "b.csv"], "--box, --boxes and --whole each say"),
        (["a.png", "--boxes", "b.csv"], "b.csv: this table cannot be read"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, options, message):
    assert main(["predict", *options, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_the_command_takes_boxes_and_a_part(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "load_trained", lambda *_: (DEEP.model, CFG))
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a:b.mp4", STEADY[:30])
    write_boxes(tmp_path / "boxes.csv", "a:b.mp4,5,-10,0,100,90", "a:b.mp4,6,40,0,80,90")
    options = ["--boxes", "boxes.csv", "--person", "6", "--start", "0.2", "--end", "0.4"]
    assert main(["predict", "a:b.mp4", "--out", "out", *options]) == 0
    assert "a:b.mp4: 6 frames, 1 person; box as given" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "poses.npz") as tables:
        assert tables["person"].tolist() == [6] * 6
        np.testing.assert_allclose(tables["time_s"], STEADY[6:12], atol=1e-6)
