"""Damaged files of Human3.6M end in an InputError or a right result: never in another error, a hang or a wrong label."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.io

from ipr_lib.data import h36m_layout as layout
from ipr_lib.prepare import raw
from ipr_lib.prepare.human36m import Task, read_frames, read_labels
from ipr_lib.prepare.raw import extract, read_metadata
from tests import human36m_raw
from tests.conftest import write_sequence
from tests.fuzzing import corruptions, judge

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
