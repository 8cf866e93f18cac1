"""The picture that the course follows: always there, and the same by folder and by item."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ipr_lib.config import PROFILES, load_config
from ipr_lib.course import notebooks
from ipr_lib.data.h36m_layout import folder_name, item_path


def store_of(rows):
    """A stand-in for a store: rows of (subject, action, take, camera, frame)."""
    names = ("subject", "action", "subaction", "camera_id", "frame")
    return SimpleNamespace(columns=dict(zip(names, np.array(rows, np.int32).T)))


def test_the_example_is_the_second_frame_of_the_greeting():
    frames = [(11, 5, 1, 3, 128), (11, 5, 1, 3, 0), (11, 5, 1, 3, 64)]
    assert (
        notebooks.example_item(
            store_of([(9, 5, 1, 3, 64), (11, 5, 1, 1, 64), *frames, (11, 6, 1, 3, 64)])
        )
        == 4
    )
    assert (
        notebooks.example_item(store_of([(9, 5, 1, 3, 64), frames[0]])) == 1
    )  # a take of one picture
    assert (
        notebooks.example_item(
            store_of([(9, 16, 2, 4, 0), (9, 16, 2, 4, 64), (9, 2, 1, 1, 64), (9, 2, 1, 1, 0)])
        )
        == 2
    )


def test_folder_and_item_are_of_the_same_take():
    numbers = [(9, 5, 1, 3), (11, 5, 2, 3), (11, 4, 1, 3), (11, 5, 2, 2)]
    folders = [Path(folder_name(*row)) for row in numbers]
    assert notebooks.example_folder(folders) == folders[1]
    store = store_of([(*row, frame) for row in numbers for frame in (0, 5)])
    path = item_path("root", store.columns, notebooks.example_item(store))
    assert path == Path("root") / folders[1] / f"{folders[1]}_000006.jpg"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_tests_on_the_example(profile):
    cfg = load_config(profile)
    subject, action, take, camera = notebooks.EXAMPLE
    assert subject in cfg.test_subjects
    if cfg.dataset == "capture":
        assert subject in cfg.capture_subjects and action in cfg.capture_actions
        assert take in cfg.capture_takes and camera in cfg.capture_cameras
        assert cfg.capture_frames > cfg.test_step * notebooks.EXAMPLE_FRAME
