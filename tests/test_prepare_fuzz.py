"""Damaged files, and any options, end in an InputError or a right result: never in another error, a hang or a wrong label."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.io

from ipr_lib.__main__ import main
from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.images import read_image
from ipr_lib.files import InputError
from ipr_lib.prepare import raw
from ipr_lib.prepare.coco import read_coco
from ipr_lib.prepare.human36m import Task, read_frames, read_labels
from ipr_lib.prepare.raw import extract, read_metadata
from ipr_lib.studio.own_motion.bvh import read_bvh
from tests import human36m_raw
from tests.conftest import write_sequence
from tests.fuzzing import corruptions, judge
from tests.test_own_motion import DIALECTS, walk, write_bvh
from tests.test_prepare_coco import UPRIGHT, content, turned_jpeg, write_coco

SEQUENCES = (((1, 12, 1), 5), ((1, 12, 2), 4))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    human36m_raw.write_tree(root, SEQUENCES, cameras=(1, 3))
    return root


@pytest.fixture
def tasks(tree, monkeypatch):
    """One task a sequence and camera of the tree."""
    monkeypatch.setattr(raw, "_READ_SECONDS", 0.5)
    metadata = read_metadata(tree / "metadata.xml")
    tasks = []
    for sequence, _ in SEQUENCES:
        for camera_id in (1, 3):
            name = metadata.names[sequence]
            one_camera = f"{name}.{metadata.camera_names[camera_id - 1]}"
            features = tree / "S1" / "MyPoseFeatures"
            files = {
                "D3_Positions": features / "D3_Positions" / f"{name}.cdf",
                "D3_Positions_mono": features / "D3_Positions_mono" / f"{one_camera}.cdf",
                "D2_Positions": features / "D2_Positions" / f"{one_camera}.cdf",
                "Videos": tree / "S1" / "Videos" / f"{one_camera}.mp4",
            }
            tasks.append(Task(tree, *sequence, camera_id, 5, True, "opencv", None, metadata, files))
    return tasks


def labels(task):
    joints_world, checked = read_labels(task)
    assert checked
    camera = task.camera(64, 48, lens=True)
    joints_cam = camera.world_to_camera(joints_world)
    return joints_world, joints_cam, camera.camera_to_image(joints_cam)


def close(result, expected):
    """Alike within what the cross-checks tolerate."""
    return all(
        len(one) == len(other) and np.abs(one - other).max() <= limit
        for one, other, limit in zip(result, expected, (2.1, 1.1, 0.6))
    )


def test_metadata(tasks):
    expected = [labels(task) for task in tasks]
    path = tasks[0].metadata.path

    def read():
        metadata = read_metadata(path)
        return [labels(replace(task, metadata=metadata)) for task in tasks]

    outcomes = judge(
        corruptions(path.read_bytes(), 300, seed=1),
        path,
        read,
        lambda result: all(close(one, other) for one, other in zip(result, expected)),
    )
    assert outcomes["refused"] > 100


@pytest.mark.parametrize("compress", [False, True])
def test_poses(tasks, compress):
    task = tasks[0]
    path = task.files["D3_Positions"]
    if compress:
        whole = path.read_bytes()
        human36m_raw.write_pose(path, raw.read_pose(path, 96), compress=True)
    try:
        expected = labels(task)
        outcomes = judge(
            corruptions(path.read_bytes(), 200, seed=2),
            path,
            lambda: labels(task),
            lambda result: close(result, expected),
        )
    finally:
        if compress:
            path.write_bytes(whole)
    assert outcomes["refused"] > 100


def test_labels_of_the_prepared_layout(tmp_path):
    folder = write_sequence(tmp_path / "set")
    expected = layout.read_camera_view(folder)

    def same(result):
        one, other = vars(result.camera), vars(expected.camera)
        return (result.joints_world == expected.joints_world).all() and all(
            np.array_equal(one[name], other[name])
            for name in ("R", "T", "f", "c", "width", "height")
        )

    path = folder / layout.META_NAME
    outcomes = judge(
        corruptions(path.read_bytes(), 300, seed=3),
        path,
        lambda: layout.read_camera_view(folder),
        same,
    )
    assert outcomes["refused"] > 200


def test_labels_without_compression(tmp_path):
    """As scipy writes them by default. A changed digit is a digit; other damage is refused, and never crashes scipy."""
    folder = write_sequence(tmp_path / "set")
    path = folder / layout.META_NAME
    expected = layout.read_camera_view(folder).joints_world
    content = scipy.io.loadmat(path)
    scipy.io.savemat(path, {name: content[name] for name in content if name[0] != "_"})
    np.testing.assert_array_equal(layout.read_camera_view(folder).joints_world, expected)
    outcomes = judge(
        corruptions(path.read_bytes(), 400, seed=6),
        path,
        lambda: layout.read_camera_view(folder),
        lambda view: view.joints_world.shape == expected.shape,
    )
    assert outcomes["refused"] > 130  # all truncations


@pytest.mark.parametrize("reader", raw.READERS)
def test_videos(tree, tasks, reader):
    """What can be told of a damaged video: frames are there in number, in time and in a fitting size, or it is refused."""
    task = replace(tasks[0], reader=reader)
    path, joints_world = task.files["Videos"], read_labels(task)[0]
    wanted = [0, 2, 4]

    def read():
        camera, frames = read_frames(task, wanted, joints_world)
        return camera, list(frames)

    def same(result):
        camera, frames = result
        size = (camera.height, camera.width, 3)
        fits = np.abs(np.divide(size, (human36m_raw.HEIGHT, human36m_raw.WIDTH, 3)) - 1).max() < 0.3
        return (
            fits
            and [frame for frame, _ in frames] == wanted
            and {p.shape for _, p in frames} == {size}
        )

    judge(corruptions(path.read_bytes(), 200, seed=4), path, read, same)


def test_archives(tree, tmp_path):
    path = tmp_path / "Videos_S1.tgz"
    human36m_raw.pack(tree, 1, "Videos", path, drop=False)
    name = "TakingPhoto.54138969.mp4"
    expected = (tree / "S1" / "Videos" / name).read_bytes()

    def read():
        extract(path, 1, {name}, tmp_path / "out")
        return (tmp_path / "out" / name).read_bytes()

    outcomes = judge(
        corruptions(path.read_bytes(), 200, seed=5), path, read, lambda result: result == expected
    )
    assert outcomes["refused"] > 150


# --- motion, pictures and labels from elsewhere ---


@pytest.mark.parametrize("dialect", DIALECTS)
def test_motion_in_each_dialect(tmp_path, dialect):
    """A changed digit is a digit; what is read is whole and finite."""
    path = write_bvh(tmp_path / "x.bvh", walk(3))
    path.write_bytes(DIALECTS[dialect](path.read_text(encoding="utf-8")).encode())
    expected = read_bvh(path)

    def whole(bvh):
        numbers = (bvh.offsets, bvh.rotations, bvh.root)
        finite = all(np.isfinite(array).all() for array in numbers)
        return finite and bvh.rotations.shape[1:] == (len(bvh.names), 4)

    damaged = corruptions(path.read_bytes(), 60, seed=7)
    outcomes = judge(damaged, path, lambda: read_bvh(path), whole)
    assert outcomes["refused"] > 20, "truncations, for three frames need all their numbers"
    assert read_bvh(path).names == expected.names


@pytest.mark.parametrize("labels", ["upright", "as the pixels lie"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures(tmp_path, orientation, labels):
    """Damage to what stands before the pixels: the picture has the size of its labels, or is refused."""
    path = tmp_path / "x.jpg"
    stored = turned_jpeg(path, orientation)
    width, height = stored if labels == "as the pixels lie" else UPRIGHT
    data = path.read_bytes()
    header = data.index(b"\xff\xdb")  # of the tables with which the picture itself begins
    damaged = []
    for what, head in corruptions(data[:header], 60, seed=8):
        damaged.append((what, head + data[header:]))
    outcomes = judge(
        damaged,
        path,
        lambda: read_image(path, width, height)[0],
        lambda image: image.shape == (height, width, 3),
    )
    assert outcomes["right"] > 5


PIECES = ["..", ".", "/", "\\", "\0", "a", ".jpg", "~", "C:", "\ud800", "\udcff", "$HOME", "é", " "]
PIECES += ["000000000012.jpg", "train2017", "x" * 300]


def test_names_of_pictures_in_json(tmp_path):
    """No name leads out of the folder of the pictures, and none is more than a line."""
    data = content()
    rng = np.random.default_rng(9)
    path, folder = write_coco(tmp_path / "raw", data=data)
    outcomes = {"refused": 0, "left out": 0, "found": 0}
    for case in range(300):
        name = "".join(rng.choice(PIECES, rng.integers(1, 6)))
        data["images"][1]["file_name"] = name
        path.write_text(json.dumps(data), encoding="utf-8")
        try:
            people, _, problems = read_coco(path, folder)
        except InputError as error:
            assert str(error).count("\n") == 0, (case, name)
            outcomes["refused"] += 1
            continue
        except BaseException as error:
            raise AssertionError(f"seed 9, case {case}: {name!r}: {error!r}") from error
        assert not any("\n" in line for line in problems)
        for found in people.image_name:
            inside = (folder.parent / found).resolve()
            assert inside.is_relative_to(folder.parent.resolve()), (case, name)
        outcomes["left out" if problems else "found"] += 1
    print(outcomes)
    assert outcomes["refused"] + outcomes["left out"] > 200 and outcomes["found"] > 0


# --- options ---

COMMAND_LINES = {
    "human36m": "--source --target --subjects --actions --step --test-step --test-subjects "
    "--all-frames --lens --store --metadata --reader --archive-gb --workers --unfold-gb --data-dir",
    "mpii": "--source --target --store --box-scale --workers --unfold-gb --validation-list "
    "--published --data-dir",
    "coco": "--source --target --store --box-scale --workers --unfold-gb --splits --year "
    "--min-keypoints --min-box --data-dir",
    "check": "--metadata --workers --unfold-gb",
}
VALUES = [
    "",
    "-5",
    "0",
    "1",
    "2",
    "64",
    "9",
    "S9",
    "9,11",
    "S1,S5",
    ",",
    "nan",
    "inf",
    "1e9",
    "0.5",
]
VALUES += ["pyav", "train", "{}", "[1]", "a\udcff", "$HOME", "--", "=", "-", "2017", "x" * 5000]


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_options(name, tmp_path, monkeypatch, capsys):
    """Any mixture of options ends in the call of the preparation, or in one line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    called = []
    for function in ("prepare_human36m", "prepare_mpii", "prepare_coco"):
        monkeypatch.setattr(
            f"ipr_lib.prepare.{function}", lambda *_, **__: called.append(1) or ["done"]
        )
    monkeypatch.setattr("ipr_lib.prepare.check_set", lambda *_: called.append(1) or ("done", []))
    monkeypatch.setattr("ipr_lib.prepare.read_metadata", lambda _: None)
    rng = np.random.default_rng(10)
    options = COMMAND_LINES[name].split()
    start = ["prepare", name, "root"] if name == "check" else ["prepare", name, "--source", "raw"]
    for case in range(300):
        line = list(start)
        for option in rng.choice(options[1:], rng.integers(1, 4)):
            line += [str(option), *map(str, rng.choice(VALUES, rng.integers(0, 3)))]
        called.clear()
        try:
            code = main(line)
        except BaseException as error:
            raise AssertionError(f"seed 10, case {case}: {line}: {error!r}") from error
        said = capsys.readouterr().err
        if code == 0:
            assert called == [1] and said == "", (case, line)
        else:
            assert code == 2 and called == [] and said.count("\n") == 1, (case, line, said)
    assert list(tmp_path.iterdir()) == [], "nothing is written"
