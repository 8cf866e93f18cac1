"""Pictures of a performance: the room, who is in it, the lens's softness and the sensor's noise."""

import cv2
import numpy as np

from ..scenes.body import scene_parts
from .light import studio_light
from .room import lit_background
from .shading import draw, stage_parts

_NOISE_SIGMA = 1.7  # display values
_NOISE_TILE = 1280  # px; larger than a picture by enough for many different cuts
_noise_tiles = []


def stage(performance, frame, look=None, light=None):
    """Everything about a frame that all cameras share.

    Args:
        performance: Performance. frame: 0-based.
        look: Look of the actor or None for the subject's own. light: Light or None for the studio's.
    Returns:
        Staged.
    """
    return stage_parts(scene_parts(performance, frame, look), light or studio_light())


def render_frame(performance, frame, camera, look=None, light=None, seed=0):
    """Picture of one frame.

    Args:
        performance: Performance. frame: 0-based. camera: Camera.
        look: Look of the actor or None for the subject's own. light: Light or None for the studio's.
        seed: of the sensor noise, int or sequence of int; None leaves softness and noise out.
    Returns:
        (height, width, 3) uint8, RGB.
    """
    return picture(stage(performance, frame, look, light), camera, seed)


def picture(staged, camera, seed=0):
    """Picture of a Staged frame; see `render_frame`."""
    canvas = lit_background(camera, staged.light).copy()
    draw(staged, camera, canvas, soften=seed is not None)
    if seed is not None:
        add_noise(canvas, seed)
    return canvas


def add_noise(canvas, seed):
    """Add sensor noise to a picture, in place; the same seed gives the same noise.

    Args:
        canvas: (height, width, 3) uint8. seed: int or sequence of int.
    """
    if not _noise_tiles:
        _noise_tiles.extend(_make_noise())
    height, width = canvas.shape[:2]
    repeats = (-(-height // _NOISE_TILE) + 1, -(-width // _NOISE_TILE) + 1, 1)
    brighter, darker = _noise_tiles
    if height >= _NOISE_TILE or width >= _NOISE_TILE:
        brighter, darker = np.tile(brighter, repeats), np.tile(darker, repeats)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, brighter.shape[0] - height), rng.integers(0, brighter.shape[1] - width)
    cv2.add(canvas, brighter[y : y + height, x : x + width], dst=canvas)
    cv2.subtract(canvas, darker[y : y + height, x : x + width], dst=canvas)


def _make_noise():
    """What to add and what to take away, two (tile, tile, 3) uint8; mostly common to the channels."""
    rng = np.random.default_rng(20)
    size = (_NOISE_TILE, _NOISE_TILE)
    grey, tint = (
        rng.standard_normal((*size, 1), np.float32),
        rng.standard_normal((*size, 3), np.float32),
    )
    noise = np.rint(_NOISE_SIGMA * (0.9 * grey + 0.45 * tint))
    return noise.clip(0, 255).astype(np.uint8), (-noise).clip(0, 255).astype(np.uint8)
