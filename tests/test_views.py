"""The views without a page: what is checked, packed and saved; their pure JavaScript under node's own test runner."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import traitlets
from PIL import Image
from scipy.spatial.transform import Rotation

from ipr_lib import integral
from ipr_lib.evaluation import metrics
from ipr_lib.files import REPOSITORY, InputError
from ipr_lib.geometry.skeleton import COCO, HUMAN36M, MPII
from ipr_lib.studio import studio_cameras
from ipr_lib.views import SkeletonView, VolumeExplorer, plots
from ipr_lib.views.view import write_page

PURE = Path(__file__).parent / "browser" / "pure.test.mjs"


def poses(frames=4, joints=18, seed=0):
    """Upright people of a sort, mm."""
    return np.random.default_rng(seed).normal(0, 300, (frames, joints, 3))


def skeletons_of(view):
    m = view.meta
    return np.frombuffer(view.poses, np.float32).reshape(
        len(m["people"]), m["frames"], m["joints"], 3
    )


def page_state(page):
    return json.loads(
        re.search(r'<script class="state" type="application/json">(.*?)</script>', page, re.DOTALL)[
            1
        ]
    )


# --- packing ---


def test_poses_are_packed_once_and_exactly():
    truth, pred = poses(seed=1), poses(seed=2)
    view = SkeletonView({"truth": truth, "prediction": pred}, fps=50, title="walk")
    np.testing.assert_array_equal(skeletons_of(view), np.stack([truth, pred]).astype(np.float32))
    m = view.meta
    assert (
        m["people"] == ["truth", "prediction"]
        and m["reference"] == 0
        and (m["frames"], m["joints"]) == (4, 18)
    )
    assert (
        m["names"] == list(HUMAN36M.names)
        and m["parents"] == list(HUMAN36M.parents)
        and m["scored"] == 17
    )
    assert len(view.poses) == 2 * 4 * 18 * 3 * 4  # nothing else holds them
    assert view.overlay == view.images == b""


def test_colours_are_those_of_the_figures():
    m = SkeletonView(poses()).meta
    assert m["colours"] == {"right": plots.RIGHT, "left": plots.LEFT, "middle": plots.MIDDLE}


@pytest.mark.parametrize("skeleton", (MPII, COCO))
def test_other_joint_sets(skeleton):
    m = SkeletonView(poses(joints=len(skeleton)), skeleton).meta
    assert m["names"] == list(skeleton.names) and m["scored"] == len(skeleton)


def test_an_array_of_people_is_not_compared():
    many = SkeletonView(np.stack([poses(seed=s) for s in range(3)]))
    assert (
        many.meta["people"] == ["person 1", "person 2", "person 3"] and many.meta["reference"] == -1
    )
    assert SkeletonView({"truth": poses()}).meta["reference"] == -1  # nothing to compare it with
    assert SkeletonView({"a": poses(), "b": poses()}).meta["reference"] == -1
    assert SkeletonView({"a": poses(), "truth": poses()}).meta["reference"] == 1


def test_scored_joints_alone_are_enough():
    assert SkeletonView(poses(joints=17)).meta["scored"] == 17


def test_pictures_keep_their_place_and_size():
    pictures = [
        np.full((40, 60, 3), (200, 30, 10), np.uint8),
        None,
        np.full((640, 320, 3), (0, 90, 250), np.uint8),
    ]
    view = SkeletonView(poses(3), images=pictures, joints_img=np.ones((3, 18, 2)))
    start, end = view.meta["offsets"][2:4]
    seen = cv2.imdecode(np.frombuffer(view.images[start:end], np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == (256, 128, 3)  # the longer side reduced to 256 px
    assert view.meta["image_sizes"] == [[60, 40], [1, 1], [320, 640]]
    np.testing.assert_allclose(seen[15, 6, ::-1].astype(int), (0, 90, 250), atol=6)  # RGB, not BGR
    assert view.meta["offsets"][1] == view.meta["offsets"][2] and view.meta["offsets"][3] == len(
        view.images
    )


def test_cameras_draw_the_overlay_themselves():
    cameras = {
        f"camera {number}": camera for number, camera in studio_cameras(picture_px=64).items()
    }
    world = poses(2) + [0, 0, 900]
    view = SkeletonView(
        world,
        up="z",
        cameras=cameras,
        images={name: [np.zeros((64, 64, 3), np.uint8)] * 2 for name in cameras},
    )
    overlay = np.frombuffer(view.overlay, np.float32).reshape(4, 1, 2, 18, 2)
    third = cameras["camera 3"]
    np.testing.assert_allclose(
        overlay[2, 0, 1], third.camera_to_image(third.world_to_camera(world[1])), atol=1e-3
    )
    assert view.meta["cameras"][2] == {"name": "camera 3", "R": third.R.ravel().tolist()}


# --- what is refused ---

NAN = np.full((4, 18, 3), np.nan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"poses": poses()[0]}, r"expected numbers of shape \(F, J, 3\), got float64 \(18, 3\)"),
        ({"poses": poses()[..., :2]}, r"shape \(F, J, 3\)"),
        ({"poses": poses(joints=19)}, "expected the 18 joints of the skeleton"),
        ({"poses": poses(joints=9)[:0]}, r"shape \(F, J, 3\)"),
        ({"poses": poses() / 1000}, "multiply poses in m by 1000"),
        ({"poses": poses() * 1000}, "expected mm"),
        (
            {"poses": np.where(poses() > 400, np.inf, poses())},
            "inf mm from end to end; expected mm",
        ),
        ({"poses": NAN}, "not one joint is known"),
        ({"poses": {}}, "at least one"),
        ({"poses": {"truth": poses(3), "b": poses(4)}}, "all of one shape"),
        ({"poses": poses().astype(str)}, "expected numbers"),
        ({"poses": poses(), "labels": ["one"]}, "expected 4 texts"),
        ({"poses": poses(), "fps": 0}, "above 0"),
        ({"poses": poses(), "up": "y"}, "up='y': expected \"-y\""),
        (
            {"poses": poses(), "images": [np.zeros((4, 4, 3), np.uint8)]},
            "expected 4, one a frame, got 1",
        ),
        ({"poses": poses(), "images": [np.zeros((4, 4, 3))] * 4}, "uint8 RGB, got float64"),
        (
            {"poses": poses(), "joints_img": np.zeros((4, 18, 2))},
            "images of one camera",
        ),
        (
            {"poses": poses(), "images": [None] * 4, "joints_img": np.zeros((4, 17, 2))},
            r"expected \(1, 4, 18, 2\) px",
        ),
        ({"poses": poses(), "cameras": studio_cameras()}, "world axes"),
        ({"poses": poses(), "frame": 4}, "frame=4: expected a number from 0 to 3"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        SkeletonView(**arguments)
    assert "\n" not in str(error.value)


def test_frame_selection_and_alignment_are_checked_later_too():
    view = SkeletonView({"truth": poses(), "b": poses()})
    view.frame, view.selected, view.alignment = 3, 17, "scale"
    for name, value in (("frame", -1), ("frame", 4), ("selected", -2), ("selected", 18)):
        with pytest.raises(InputError, match=f"{name}={value}: expected a number from"):
            setattr(view, name, value)
    with pytest.raises(traitlets.TraitError):
        view.alignment = "procrustes"
    assert (view.frame, view.selected, view.alignment) == (3, 17, "scale")


# --- alignment ---


@pytest.mark.parametrize("alignment", ("root", "rigid", "scale"))
def test_aligned_poses_have_the_errors_of_the_metrics(alignment):
    truth, pred = (poses(3, 17, seed) for seed in (3, 4))
    view = SkeletonView({"truth": truth, "prediction": pred}, alignment=alignment)
    shown = view.aligned(2)
    truth, pred = (p[2:3].astype(np.float32).astype(float) for p in (truth, pred))
    if alignment == "root":
        expected = metrics.joint_errors(metrics.root_relative(pred), metrics.root_relative(truth))
    else:
        expected = metrics.joint_errors(
            metrics.align(pred, truth, scale=alignment == "scale"), truth
        )
    np.testing.assert_allclose(metrics.joint_errors(shown[1], shown[0]), expected[0], atol=1e-6)
    np.testing.assert_allclose(shown[0, 0], 0, atol=1e-9)


def test_none_leaves_poses_as_they_are():
    truth, pred = poses(seed=1), poses(seed=2)
    view = SkeletonView({"truth": truth, "prediction": pred}, alignment="none")
    np.testing.assert_allclose(view.aligned(1), [truth[1], pred[1]], atol=1e-3)


def test_an_unscored_joint_moves_with_the_others():
    truth, pred = poses(1, seed=5), poses(1, seed=5)
    pred[:, 17] += 500  # Thorax is not scored: it may be off without pulling the rest
    shown = SkeletonView({"truth": truth, "prediction": pred}, alignment="rigid").aligned(0)
    np.testing.assert_allclose(shown[1, :17], shown[0, :17], atol=1e-3)
    np.testing.assert_allclose(shown[1, 17] - shown[0, 17], 500, atol=1e-3)


# --- saved pages and static pictures ---


def test_a_page_of_120_frames_is_small_and_asks_for_nothing(tmp_path):
    truth, pred = poses(120, seed=1), poses(120, seed=2)
    view = SkeletonView({"truth": truth, "prediction": pred}, fps=50, title="</script><b>&")
    path = view.to_html(tmp_path / "deep" / "view.html", title="A & <b>")
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 400_000
    assert not re.findall(r"(?:src|href)\s*=\s*(?![\"']?data:)|https?:|url\(|@import", page)
    assert "<title>A &amp; &lt;b&gt;</title>" in page and page.count("</script>") == 2
    state = page_state(page)
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(state["buffers"]["poses"]), np.float32),
        np.frombuffer(view.poses, np.float32),
    )
    assert state["values"]["meta"] == view.meta and state["values"]["frame"] == 0
    assert [p.name for p in path.parent.iterdir()] == ["view.html"]


def test_a_page_of_many_views_holds_each_once(tmp_path):
    views = [SkeletonView(poses(1, seed=seed), turning=True) for seed in range(3)]
    page = write_page(views, tmp_path / "many.html", title="three").read_text(encoding="utf-8")
    states = re.findall(
        r'<script class="state" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    assert (
        len(states) == page.count('<div class="view">') == 3 and page.count("function render(") == 1
    )
    for text, view in zip(states, views):
        state = json.loads(text)
        assert base64.b64decode(state["buffers"]["poses"]) == view.poses
        assert state["values"]["meta"]["turning"] is True
    assert not re.findall(r"(?:src|href)\s*=\s*(?![\"']?data:)|https?:|url\(|@import", page)


def test_a_video_takes_the_place_of_pictures():
    track = b"a webm file"
    view = SkeletonView(
        poses(), joints_img=np.ones((4, 18, 2)), video=track, video_size=(640, 360), fps=25
    )
    assert view.video == track and view.images == b"" and view.meta["video_size"] == [640, 360]
    assert len(view.overlay) == 4 * 18 * 2 * 4
    assert view.to_png().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="video: it takes the place of images"):
        SkeletonView(poses(), video=track, video_size=(640, 360))  # no fps


def test_a_page_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write"):
        SkeletonView(poses()).to_html(tmp_path / "file" / "view.html")


@pytest.mark.parametrize("parts", ("alone", "compared", "with pictures", "people"))
def test_the_static_picture_has_ink(parts):
    arguments = {
        "alone": {"poses": poses()},
        "compared": {"poses": {"truth": poses(seed=1), "a": poses(seed=2), "b": poses(seed=3)}},
        "with pictures": {
            "poses": {"truth": poses(seed=1), "a": poses(seed=2)},
            "joints_img": np.full((2, 4, 18, 2), 9.0),
            "images": [np.zeros((20, 30, 3), np.uint8)] * 4,
            "labels": list("abcd"),
        },
        "people": {"poses": np.stack([poses(seed=1), poses(seed=2) + [1500, 0, 0]])},
    }[parts]
    bundle, _ = SkeletonView(**arguments, frame=1)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    picture = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).convert("RGB")
    ).astype(int)
    assert picture.shape[0] > 300
    for colour in (plots.RIGHT, plots.LEFT):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(picture - rgb).sum(-1) < 12).sum() > 30, f"no {colour} in the picture"


def test_the_static_picture_of_a_frame_without_anybody():
    film = np.stack([poses(seed=1), poses(seed=2) + [1500, 0, 0]])
    film[:, 1], film[1, 2] = np.nan, np.nan
    pictures = {
        SkeletonView(film, frame=frame).to_png() for frame in range(3)
    }  # a RuntimeWarning would be an error
    assert len(pictures) == 3


def test_the_static_picture_shows_errors_and_names_the_reference():
    truth = poses(1, 17, seed=6)
    off = truth.copy()
    off[0, 4] += (0, 30, 40)  # the left hip, 50 mm away
    figure = SkeletonView({"truth": truth, "ours": off}).figure()
    space, errors = figure.axes
    assert space.get_title() == "truth (pale), ours"
    assert errors.get_title(loc="left") == "ours: 3 mm"  # 50 mm over 17 joints
    widths = [bar.get_width() for bar in errors.patches]
    np.testing.assert_allclose(widths, [0, 0, 0, 0, 50, *[0] * 12], atol=1e-3)


def test_the_static_picture_follows_the_frame():
    view = SkeletonView(poses())
    first = view.to_png()
    view.frame = 2
    assert view.to_png() != first


# --- volumes ---


def volume(seed=0):
    """Logits (J, D, H, W) = (3, 4, 5, 6)."""
    return np.random.default_rng(seed).normal(0, 3, (3, 4, 5, 6)).astype(np.float32)


def test_volumes_are_read_as_the_heat_maps_read_them():
    logits = torch.from_numpy(volume())
    view = VolumeExplorer(logits.requires_grad_(), joint=1)
    view.temperature = 0.7
    np.testing.assert_allclose(
        view.expectation(), integral.soft_argmax(logits[None].detach() / 0.7)[0, 1], atol=1e-5
    )
    np.testing.assert_array_equal(view.argmax(), integral.hard_argmax(logits[None].detach())[0, 1])
    assert view.slice == view.argmax()[2] and view.meta["names"] == ["Pelvis", "R_Hip", "R_Knee"]
    view.joint, view.temperature = 2, 3.0
    np.testing.assert_allclose(
        view.expectation(), integral.soft_argmax(logits[None].detach() / 3)[0, 2], atol=1e-5
    )


def test_the_truth_is_placed_on_the_grid():
    target = np.array(
        [[11.5, 11.5, 0], [-0.5, -0.5, -1000], [23.5, 23.5, 1000]]
    )  # middle and two corners of the crop
    view = VolumeExplorer(volume(), np.zeros((24, 24, 3), np.uint8), target=target, depth_mm=2000)
    np.testing.assert_allclose(
        view.meta["target"], [[2.5, 2, 1.5], [-0.5, -0.5, -0.5], [5.5, 4.5, 3.5]]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"volume": volume()[0]}, r"expected logits \(J, D, H, W\), J at most 18, got \(4, 5, 6\)"),
        ({"volume": np.zeros((19, 2, 2, 2))}, "J at most 18"),
        ({"volume": volume() * np.nan}, "not finite"),
        ({"volume": volume(), "image": np.zeros((24, 20, 3), np.uint8)}, "square crop"),
        ({"volume": volume(), "image": np.zeros((24, 24, 3))}, "uint8 RGB, got float64"),
        ({"volume": volume(), "target": np.zeros((2, 3))}, r"expected \(3, 3\)"),
        ({"volume": volume(), "joint": 3}, "joint=3: expected a number from 0 to 2"),
    ],
)
def test_wrong_volumes_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        VolumeExplorer(**arguments)


def test_slice_and_temperature_stay_in_their_limits():
    view = VolumeExplorer(volume())
    view.slice = 3
    with pytest.raises(InputError, match="slice=4: expected a number from 0 to 3"):
        view.slice = 4
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match=f"temperature={value}: expected a number from 1e-06"):
            view.temperature = value
    assert (view.slice, view.temperature) == (3, 1)


def test_a_volume_makes_a_page_and_a_picture(tmp_path):
    view = VolumeExplorer(volume(), np.zeros((24, 24, 3), np.uint8), target=np.zeros((3, 3)))
    state = page_state(view.to_html(tmp_path / "volume.html").read_text(encoding="utf-8"))
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(state["buffers"]["volume"]), np.float32).reshape(3, 4, 5, 6),
        volume(),
    )
    picture = np.asarray(Image.open(io.BytesIO(view.to_png())).convert("RGB")).astype(int)
    for colour in (plots.RIGHT, plots.PREDICTION):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(picture - rgb).sum(-1) < 12).sum() > 20, f"no {colour} in the picture"


# --- the package ---


def test_plots_do_without_widgets():
    code = "import sys, ipr_lib; from ipr_lib.views import plots; sys.exit('anywidget' in sys.modules or 'ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_anywidget_is_named():
    code = "import sys; sys.modules['anywidget'] = None; from ipr_lib.views import SkeletonView"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1 and "InputError: the interactive views need anywidget" in run.stderr


def test_scripts_travel_with_the_package():
    project_file = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert '"ipr_lib.views" = ["*.js"]' in project_file
    scripts = sorted((REPOSITORY / "ipr_lib" / "views").glob("*.js"))
    assert "skeleton_view.js" in [path.name for path in scripts]
    for path in scripts:
        assert path.with_suffix(".py").exists(), f"{path.name} has no Python file beside it"
        assert not re.search(
            r"https?://|\bimport\s*\(|^\s*import\s", path.read_text(encoding="utf-8"), re.MULTILINE
        ), "a script that fetches"


# --- JavaScript without a page ---


def align_cases():
    rng = np.random.default_rng(7)
    result = []
    for kind in range(5):
        pose, target = rng.normal(0, 300, (2, 9, 3))
        if kind == 1:
            target = pose * [-1, 1, 1]  # a mirror, which no rotation undoes
        if kind == 2:
            target = 1.3 * pose @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + 50
        if kind == 3:
            pose[:, 2] = 0  # flat
        if kind == 4:
            target = pose.copy()
        result.append(
            {
                "pose": pose.tolist(),
                "target": target.tolist(),
                "root": (pose - pose[1] + target[1]).tolist(),
                "rigid": metrics.align(pose[None], target[None])[0].tolist(),
                "scale": metrics.align(pose[None], target[None], scale=True)[0].tolist(),
            }
        )
    return result


def project_cases():
    """Points turned by SciPy's rotations, then brought closer or further by perspective; the middle is 5200 mm away."""
    points = poses(1, 6)[0]
    result = []
    for yaw, pitch in ((0, 0), (np.pi / 2, 0), (0, np.pi / 2), (-0.5, 0.2), (2.7, -1.1)):
        right, away, up = Rotation.from_euler("zx", [-yaw, pitch]).apply(points).T
        size = 5200 / (5200 + away)
        result.append(
            {
                "points": points.tolist(),
                "yaw": yaw,
                "pitch": pitch,
                "flat": np.stack([right * size, up * size], axis=1).tolist(),
                "depth": away.tolist(),
            }
        )
    return result


def camera_cases():
    """The studio's cameras stand upright, so yaw and pitch tell all of their rotation."""
    return [
        {"R": camera.R.tolist(), "point": [120.0, -340.0, 560.0]}
        for camera in studio_cameras().values()
    ]


def volume_cases():
    """Softmax over a whole volume, by NumPy, sizes all different."""
    result = []
    for temperature in (0.05, 0.5, 1.0, 20.0):
        logits = volume(3)[0]
        prob = np.exp((logits - logits.max()) / temperature).astype(float)
        prob /= prob.sum()
        expectation = integral.soft_argmax(
            torch.from_numpy(logits).double()[None, None] / temperature
        )[0, 0]
        result.append(
            {
                "logits": logits.ravel().tolist(),
                "shape": logits.shape,
                "temperature": temperature,
                "xy": prob.sum(0).ravel().tolist(),
                "zy": prob.sum(2).T.ravel().tolist(),
                "lines": [
                    prob.sum((0, 1)).tolist(),
                    prob.sum((0, 2)).tolist(),
                    prob.sum((1, 2)).tolist(),
                ],
                "expectation": expectation.tolist(),
                "argmax": integral.hard_argmax(torch.from_numpy(logits)[None, None])[0, 0].tolist(),
                "largest": prob.max(),
                "joint": integral.cells_to_joints(
                    expectation.numpy(), logits.shape, 24, 2000
                ).tolist(),
            }
        )
    return result


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_pure_javascript(tmp_path):
    cases = tmp_path / "cases.json"
    cases.write_text(
        json.dumps(
            {
                "align": align_cases(),
                "project": project_cases(),
                "cameras": camera_cases(),
                "volumes": volume_cases(),
            }
        ),
        encoding="utf-8",
    )
    run = subprocess.run(
        ["node", "--test", str(PURE)],
        env=os.environ | {"IPR_CASES": str(cases)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"pass (\d+)", run.stdout)[1]) >= 13 and re.search(r"fail 0", run.stdout)


def test_a_dollar_sign_in_a_title_begins_no_formula():
    figure, ax = plots.plt.subplots()
    plots.draw_image(ax, np.zeros((4, 5, 3), np.uint8), title="$\\nope$.jpg")
    figure.canvas.draw()  # Matplotlib reads formulas when it draws
    plots.plt.close(figure)
    assert SkeletonView(poses(), title="$\\nope$.bvh").to_png().startswith(b"\x89PNG")


def test_marginals_are_the_sums_of_rows_and_of_columns():
    figure = plots.plt.figure()
    axes = plots.draw_marginals(figure, [[0.1, 0.2, 0.0], [0.0, 0.3, 0.4]], (1.3, 0.7))
    columns = [bar.get_height() for bar in axes["x"].patches]
    rows = [bar.get_width() for bar in axes["y"].patches]
    np.testing.assert_allclose(columns, [0.1, 0.5, 0.4])
    np.testing.assert_allclose(rows, [0.3, 0.7])
    argmax, expectation = axes["plane"].get_lines()
    assert argmax.get_xydata().tolist() == [[2, 1]]
    assert expectation.get_xydata().tolist() == [[1.3, 0.7]]
    plots.plt.close(figure)


def test_a_line_map_marks_its_largest_cell_and_its_expectation():
    figure, ax = plots.plt.subplots()
    plots.draw_line_map(ax, [0.1, 0.6, 0.3], 1.2)
    expectation, argmax = ax.get_lines()
    assert argmax.get_xydata().tolist() == [[1, 0.6]]
    assert set(expectation.get_xdata()) == {1.2}
    plots.plt.close(figure)


def test_a_push_upward_and_one_downward_have_their_own_colours():
    figure, (upper, lower) = plots.plt.subplots(2)
    plots.draw_line_push((upper, lower), [1, 2, 3], [0.5, -2, 0.25], truth=1)
    up, down, also_up = [bar.get_facecolor() for bar in lower.patches]
    assert up == also_up != down
    assert lower.get_ylim() == (-2.3, 2.3)
    plots.plt.close(figure)


def test_a_heat_map_covers_its_picture_edge_to_edge():
    """3 x 6 cells over 12 px: pixel 0 has its centre at 0, so the map reaches from -0.5 to 11.5."""
    figure, ax = plots.plt.subplots()
    plots.draw_heat_map(ax, np.full((3, 6), 0.5), np.zeros((12, 12, 3), np.uint8))
    assert ax.get_images()[1].get_extent() == [-0.5, 11.5, 11.5, -0.5]
    rows, columns = ax.collections  # borders of cells
    heights = [segment[0, 1] for segment in rows.get_segments()]
    np.testing.assert_allclose(heights, [-0.5, 3.5, 7.5, 11.5])
    places = [segment[0, 0] for segment in columns.get_segments()]
    np.testing.assert_allclose(places, [-0.5, 1.5, 3.5, 5.5, 7.5, 9.5, 11.5])
    plots.plt.close(figure)


def test_readers_of_a_map_have_their_colours():
    figure, ax = plots.plt.subplots()
    errors = {"expectation": [3, 1], "argmax": [8, 4]}
    plots.draw_readers(ax, [16, 32], errors, log=True)
    first, second = ax.get_lines()
    assert first.get_color() == plots.READERS["expectation"]
    assert second.get_label() == "argmax" and second.get_ydata().tolist() == [8, 4]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["16", "32"]
    plots.plt.close(figure)


def test_known_coordinates_are_full_and_unknown_ones_empty():
    figure, ax = plots.plt.subplots()
    weights = np.zeros((18, 3))
    weights[4, 1] = 1
    assert plots.draw_weights(ax, weights) is ax
    known, unknown = ax.collections
    assert known.get_offsets().tolist() == [[1, 4]] and len(unknown.get_offsets()) == 53
    assert len(known.get_facecolor()) == 1 and len(unknown.get_facecolor()) == 0
    assert ax.get_yticklabels()[4].get_text() == "L_Hip"
    plots.plt.close(figure)


def test_a_box_is_drawn_from_its_upper_left_corner():
    figure, ax = plots.plt.subplots()
    plots.draw_box(ax, 3, 4, 10, 20, plots.LEFT, label="crop")
    (box,) = ax.patches
    assert box.get_bbox().bounds == (3, 4, 10, 20) and box.get_label() == "crop"
    assert not box.get_fill()
    plots.plt.close(figure)
