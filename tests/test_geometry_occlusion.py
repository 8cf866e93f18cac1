import cv2
import numpy as np
import pytest
import torch

from ipr_lib.config import RECIPES, load_config
from ipr_lib.data.datasets import CropDataset
from ipr_lib.geometry import Augmentation, draw_occluders, occlude
from ipr_lib.run import build_augmentation

MOST, CORNERS, PATCH = 8, 32, 3  # shapes on a crop, corners of one, pixels a side of its colours
SMALLEST, LARGEST = 0.03, 0.22  # half a shape's length and width, in crop sides


def rectangle(left, top, right, bottom):
    """An outline with CORNERS corners, crop sides."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    return np.repeat(corners, CORNERS // 4, axis=0)


def test_rectangles_by_hand():
    """Pixel p lies at (p + 0.5) / 20 of the crop; a later shape hides an earlier one; a count of 1 leaves the second out."""
    outline = np.zeros((3, MOST, CORNERS, 2), np.float32)
    outline[:, 0], outline[:, 1] = (
        rectangle(0.21, 0.11, 0.69, 0.49),
        rectangle(0.51, -0.9, 1.9, 0.29),
    )
    colours = np.zeros((3, MOST, PATCH, PATCH, 3), np.uint8)
    colours[:, 0], colours[:, 1] = (10, 20, 30), (40, 50, 60)
    crops = np.full((3, 20, 20, 3), 255, np.uint8)
    occlude(crops, {"count": np.array([0, 1, 2]), "outline": outline, "colours": colours})
    expected = np.full((3, 20, 20, 3), 255, np.uint8)
    expected[1:, 2:10, 4:14] = 10, 20, 30
    expected[2, :6, 10:] = 40, 50, 60
    np.testing.assert_array_equal(crops, expected)


def test_covered_pixels_are_those_inside_of_the_outlines():
    """Against a test of every pixel on its own, but for those within a pixel of an edge; shapes reach past the crop."""
    side, occluders = 48, draw_occluders(1.0, np.random.default_rng(0), 6)
    occluders["colours"][:] = 7
    crops = np.full((6, side, side, 3), 255, np.uint8)
    occlude(crops, occluders)
    over_the_edge = 0
    for i in range(6):
        outlines = [
            outline * side - 0.5 for outline in occluders["outline"][i, : occluders["count"][i]]
        ]
        over_the_edge += sum((outline < 0).any() or (outline > side).any() for outline in outlines)
        for y, x in np.ndindex(side, side):
            distance = max(
                cv2.pointPolygonTest(outline.astype(np.float32), (x, y), True)
                for outline in outlines
            )
            if abs(distance) > 1:
                assert (crops[i, y, x, 0] == 7) == (distance > 0), (i, x, y)
    assert over_the_edge > 3


def test_draws_keep_to_their_ranges():
    occluders = draw_occluders(0.3, np.random.default_rng(1), 4000)
    count, outline = occluders["count"], occluders["outline"]
    assert np.mean(count > 0) == pytest.approx(0.3, abs=0.03)
    assert sorted(set(count)) == list(range(MOST + 1))
    middle = outline.mean(2, keepdims=True)
    assert middle.min() >= 0 and middle.max() <= 1
    reach = np.linalg.norm(outline - middle, axis=-1).max(-1)
    assert (
        reach.min() > SMALLEST * 0.9 and LARGEST * 0.95 < reach.max() <= LARGEST * np.sqrt(2) + 1e-6
    )
    assert all(
        cv2.isContourConvex(shape) for shape in np.round(outline[:20, 0] * 2**16).astype(np.int32)
    )
    spread = occluders["colours"].reshape(-1, PATCH * PATCH, 3).astype(int)
    assert np.ptp(spread, axis=1).max() > 60 and occluders["colours"].std() > 50


def test_crops_alone_change_and_rows_of_a_share_are_those_of_the_whole(store):
    """Joints stay labelled under a shape; without occlusion every number is what it was before there was any."""
    items = np.array([0, 3, 4, 5, 1])
    plain, hidden = (
        CropDataset(store, 64, 2000.0, Augmentation(occlusion=share), seed=5)[1, 2, items]
        for share in (0.0, 0.6)
    )
    for name in plain:
        assert torch.equal(plain[name], hidden[name]) == (name != "crops"), name
    changed = (plain["crops"] != hidden["crops"]).any(-1).float().mean((1, 2))
    assert 0 < (changed > 0).sum() < 5 and changed.max() < 0.9
    for rank in range(2):
        share = CropDataset(store, 64, 2000.0, Augmentation(occlusion=0.6), seed=5)[
            1, 2, items, (rank, 2)
        ]
        assert torch.equal(share["crops"], hidden["crops"][rank::2])


def test_the_strong_recipe_turns_it_on():
    assert build_augmentation(load_config("full")).occlusion == 0
    assert build_augmentation(load_config("full", **RECIPES["strong"])).occlusion == 0.5
