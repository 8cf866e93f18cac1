"""The stand-ins for MPII and COCO: what the readers of the real downloads find in them."""

import numpy as np
import pytest

from ipr_lib.course import tiny_sets
from ipr_lib.geometry.skeleton import COCO, HUMAN36M, MPII
from ipr_lib.prepare import read_coco, read_mpii
from ipr_lib.prepare.coco import find_source
from ipr_lib.prepare.mpii import ANNOTATIONS

WIDTH, HEIGHT = 60, 50
NAMES = sorted({*HUMAN36M.names, *MPII.names, *COCO.names, "upper neck"})


@pytest.fixture
def photo():
    """Joint i of NAMES lies at (i, i + 3) px; the left ankle lies below the picture, the left ear is hidden."""
    joints_img = {name: np.array([i, i + 3.0]) for i, name in enumerate(NAMES)}
    joints_img["L_Ankle"] = np.array([20.0, HEIGHT])
    joints_cam = {name: np.array([0.0, 0.0, 4000.0]) for name in NAMES}
    joints_cam["L_Ear"] = np.array([0.0, 0.0, 4200.0])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return tiny_sets.Photo(image, joints_cam, joints_img, px_mm=3.5)


def test_the_neck_of_mpii_is_the_upper_neck(photo):
    assert photo.joints(MPII)[MPII.index("Neck")][0] == NAMES.index("upper neck")
    assert photo.joints(HUMAN36M)[HUMAN36M.index("Neck")][0] == NAMES.index("Neck")


def test_mpii_is_read_back(tmp_path, photo):
    folder = tmp_path / "mpii"
    tiny_sets.write_tiny_mpii(folder, [photo] * 12)
    people, skipped, problems = read_mpii(folder / ANNOTATIONS, folder)
    # Of 12 pictures, one lists nobody and one belongs to the test part; two bystanders have no box.
    assert len(people) == 10 and problems == []
    assert skipped == {"no joints": 1, "joints span no box": 1}
    known = people.visibility > 0
    outside = MPII.index("L_Ankle")
    assert not known[:, outside].any() and known.sum() == 10 * 15
    np.testing.assert_allclose(people.joints_img[0][known[0]], photo.joints(MPII)[known[0]])
    # The head box reaches 0.6 times the bone from its middle.
    neck, top = np.array(photo.joints_img["upper neck"]), np.array(photo.joints_img["Head"])
    side = 1.2 * np.linalg.norm(top - neck)
    x1, y1, x2, y2 = people.head_box[0]
    np.testing.assert_allclose([x2 - x1, y2 - y1], [side, side])


def test_coco_is_read_back(tmp_path, photo):
    folder = tmp_path / "coco"
    tiny_sets.write_tiny_coco(folder, [photo] * 2)
    people, skipped, problems = read_coco(*find_source(folder, "train"), min_keypoints=2)
    assert len(people) == 2 and problems == []
    assert sum(skipped.values()) == 3  # a crowd, nobody's keypoints, a single one
    visibility = dict(zip(COCO.names, people.visibility[0].tolist()))
    assert (visibility["L_Ankle"], visibility["L_Ear"], visibility["Nose"]) == (0, 1, 2)
    known = people.visibility[0] > 0
    np.testing.assert_allclose(people.joints_img[0][known], photo.joints(COCO)[known])
