"""Shapes laid over training crops, so that a network learns to say where a joint is that it cannot see.

After Sárándi, Linder, Arras, Leibe 2018, How Robust is 3D Human Pose Estimation to Occlusion?, and their Synthetic Occlusion
Augmentation with Volumetric Heatmaps, which won that year's PoseTrack challenge in 3D. They paste objects cut out of
photographs; here all shapes are drawn from numbers, between diamonds, ellipses and rectangles, in soft changing colours.
"""

import cv2
import numpy as np

MOST = 8  # shapes on one crop
SMALLEST, LARGEST = 0.03, 0.22  # half a shape's length and width, in crop sides
CORNERS = 32  # of the polygon that stands for a shape
PATCH = 3  # a shape's colours are a picture of so many pixels a side, enlarged
CONTRAST = 60  # grey levels by which they leave the shape's own colour, at most


def draw_occluders(probability, rng, n):
    """Draw shapes for `n` crops: none, or one to MOST.

    Args:
        probability: that a crop gets any.
        rng: numpy Generator.
        n: how many crops.
    Returns:
        dict of arrays: count (n,) shapes of each crop; outline (n, MOST, CORNERS, 2) float32 x, y in crop sides, 0 … 1
        is the crop; colours (n, MOST, PATCH, PATCH, 3) uint8 RGB.
    """
    count = np.where(rng.random(n) < probability, rng.integers(1, MOST + 1, n), 0)
    centre = rng.uniform(0, 1, (n, MOST, 1, 2))
    half = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), (n, MOST, 1, 2)))
    turn = rng.uniform(0, np.pi, (n, MOST, 1))
    # A superellipse (Lamé): power 0 gives a rectangle, 1 an ellipse, 2 a diamond; up to there it is convex.
    power = rng.uniform(0, 2, (n, MOST, 1, 1))
    around = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False) + np.pi / CORNERS
    circle = np.stack([np.cos(around), np.sin(around)], axis=-1)
    x, y = np.moveaxis(half * np.sign(circle) * np.abs(circle) ** power, -1, 0)
    cos, sin = np.cos(turn), np.sin(turn)
    outline = centre + np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    own = rng.uniform(0, 255, (n, MOST, 1, 1, 3))
    own = own.mean(-1, keepdims=True) + rng.uniform(0, 1, (n, MOST, 1, 1, 1)) * (
        own - own.mean(-1, keepdims=True)
    )
    colours = np.clip(
        own + rng.integers(-CONTRAST, CONTRAST + 1, (n, MOST, PATCH, PATCH, 3)), 0, 255
    )
    return {
        "count": count,
        "outline": outline.astype(np.float32),
        "colours": colours.astype(np.uint8),
    }


def occlude(crops, occluders):
    """Lay the shapes over the crops, in place, each over those before it.

    Args:
        crops: (B, S, S, 3) uint8 RGB, contiguous.
        occluders: of `draw_occluders`, for B crops.
    """
    side, fine = crops.shape[1], 4  # bits behind the point, for corners between pixels
    corners = occluders["outline"] * side - 0.5
    low = np.clip(np.floor(corners.min(2)), 0, side).astype(int)
    high = np.clip(np.ceil(corners.max(2)) + 1, 0, side).astype(int)
    corners = np.round((corners - low[:, :, None]) * 2**fine).astype(np.int32)
    for i, k in zip(*np.nonzero(np.arange(MOST) < occluders["count"][:, None])):
        (left, top), (right, bottom) = low[i, k], high[i, k]
        part = crops[i, top:bottom, left:right]
        if part.size:
            mask = np.zeros(part.shape[:2], np.uint8)
            cv2.fillConvexPoly(mask, corners[i, k], 1, shift=fine)
            cv2.copyTo(cv2.resize(occluders["colours"][i, k], mask.shape[::-1]), mask, part)
