"""Shared fixtures: a small prepared set and its crop store, with made-up pictures and poses."""

import os
import sys
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.store import build_store
from ipr_lib.geometry.camera import look_at

# `tests.sweep` sets both. The tests' tensors are small: a second thread would only wait for the first.
THREADS = int(os.environ.get("IPR_TEST_THREADS", "1"))
TRAINING_SEED = int(os.environ.get("IPR_TRAINING_SEED", "0"))
# Of a Config: a network that trains within seconds.
TINY_NETWORK = dict(
    crop_px=64,
    depth_bins=8,
    backbone="small",
    backbone_width=4,
    head_width=8,
    deconvolutions=2,
)
# How a viewer's turn of each EXIF orientation is undone; so the pixels lie in a file with that mark.
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
torch.set_num_threads(THREADS)
needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs the signals and links of POSIX")
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs /dev/full, or files whose names are not UTF-8"
)


@pytest.fixture(scope="session")
def training_seed():
    """Seed of a test whose check rests on a training, or on a network's first weights; `tests.sweep` runs those with others."""
    return TRAINING_SEED


@pytest.fixture(autouse=True)
def own_variables():
    """The command line sets variables for the processes that it starts; no test sees those of another."""
    with mock.patch.dict(os.environ):
        yield


def make_pose(rng, n):
    """(n, 17, 3) random but pose-sized joints round (0, 0, 900) mm, pelvis first."""
    joints = rng.normal(0, 250, (n, 17, 3)) + [0, 0, 900]
    joints[:, 0] = [0, 0, 900]
    return joints


def write_sequence(
    root, subject=1, action=2, subaction=1, camera_id=1, n=7, step=3, width=200, height=202, seed=0
):
    """Write one folder of the prepared layout, with smooth random pictures; returns the folder."""
    rng = np.random.default_rng([seed, subject, action, subaction, camera_id])
    camera = look_at(
        [4000, 900, 1500], [0, 0, 900], f=(231, 229), c=(99.3, 101.1), width=width, height=height
    )
    folder = root / layout.folder_name(subject, action, subaction, camera_id)
    folder.mkdir(parents=True)
    for frame in range(0, n, step):
        small = rng.integers(0, 255, (9, 9, 3), np.uint8)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / layout.image_name(folder.name, frame)), picture)
    layout.write_meta(folder / layout.META_NAME, camera, make_pose(rng, n))
    return folder


@pytest.fixture
def prepared(tmp_path):
    """A prepared set: S1 with two actions, S9 with one; pictures of frames 0, 3, 6."""
    root = tmp_path / "prepared"
    for subject, action in ((1, 2), (1, 3), (9, 2)):
        write_sequence(root, subject, action)
    return root


@pytest.fixture
def store(prepared, tmp_path):
    """The crop store of S1: 6 items, crops of 64 px."""
    return build_store(prepared, tmp_path / "s1", subjects=(1,), step=3, crop_px=64)


@pytest.fixture
def test_store(prepared, tmp_path):
    """The crop store of S9: 3 items of one take, crops of 64 px."""
    return build_store(prepared, tmp_path / "s9", subjects=(9,), step=3, crop_px=64)
