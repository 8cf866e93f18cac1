"""Feet on the floor: recorded motion floats, sinks and slopes by centimetres; shoes drawn on it would show that."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from ..acting.motion import FPS, turn, unit

_ANKLES = {"r": 3, "l": 6}
_SLOW = 250.0  # mm/s, of a foot that carries
_LOW = 120.0  # mm over the lowest, within which a slow foot is taken to stand on the floor
_NEAR = 45.0  # mm over the floor, within which its sole is taken to lie flat


def stand(performance):
    """Bring a Performance onto z = 0 and its soles flat where it stands; joints move up and down alone, bones keep.

    The floor's height is that of the lower ankle while it rests, smoothed over half a second: it follows a recording
    whose floor slopes.

    Args:
        performance: Performance without props, z up.
    Returns:
        Performance.
    """
    joints = performance.joints_world
    height = performance.actor.foot_mm[0]
    slow = {side: _speed(joints[:, at]) < _SLOW for side, at in _ANKLES.items()}
    floor = _floor(joints, slow) - height
    joints = joints - np.stack([0 * floor, 0 * floor, floor], axis=-1)[:, None]
    # What still sinks in is lifted, smoothly: no shoe under the floor, and no joint of whoever kneels or lies.
    need = np.maximum(
        35.0 - joints[..., 2].min(1), height - joints[:, list(_ANKLES.values()), 2].min(1)
    ).clip(0.0)
    lift = gaussian_filter1d(maximum_filter1d(need, 13), 2.0, truncate=3.0)
    joints = joints + np.stack([0 * lift, 0 * lift, lift], axis=-1)[:, None]
    frames = dict(performance.frames_world)
    for side, at in _ANKLES.items():
        resting = slow[side] & (joints[:, at, 2] < height + _NEAR)
        frames[f"{side}_foot"] = _above_floor(
            _flat(frames[f"{side}_foot"], resting), joints[:, at, 2], performance.actor
        )
    return replace(performance, joints_world=joints, frames_world=frames)


def _speed(path):
    """mm/s of a joint, (n,)."""
    if len(path) < 2:
        return np.zeros(len(path))
    return np.linalg.norm(np.gradient(path, axis=0), axis=-1) * FPS


def _floor(joints, slow):
    """Height of the ankle that carries, in each frame, (n,) mm."""
    ankles = np.stack([joints[:, at, 2] for at in _ANKLES.values()])
    lower = ankles.argmin(0)
    lowest = ankles.min(0)
    resting = np.choose(lower, list(slow.values())) & (lowest < np.percentile(lowest, 5) + _LOW)
    if not resting.any():
        return np.full(len(lowest), np.percentile(lowest, 5))
    frames = np.flatnonzero(resting)
    return gaussian_filter1d(
        np.interp(np.arange(len(lowest)), frames, lowest[frames]), FPS / 2, mode="nearest"
    )


def _flat(foot, resting):
    """Turn a foot's frames (n, 3, 3) against its joint so that it points up, on average, where it rests."""
    if resting.sum() < 5:
        return foot
    # In the foot's own axes: where the room's upward axis lies on average.
    up = unit(foot[resting, 2, :].mean(0))
    forward = unit(np.array([0.0, 1.0, 0.0]) - up[1] * up)
    return foot @ np.stack([np.cross(forward, up), forward, up], axis=1)


def _above_floor(foot, ankle, actor):
    """Turn a foot about its own right until neither toe nor heel is below z = 0: a shoe bends, ours does not."""
    height, toe, heel = actor.foot_mm
    for reach, sign in ((toe, 1.0), (heel, -1.0)):
        # Height of the sole's end at angle a: ankle + A cos a + B sin a = ankle + R cos(a - phase).
        A = sign * foot[:, 2, 1] * reach - foot[:, 2, 2] * height
        B = foot[:, 2, 1] * height + sign * foot[:, 2, 2] * reach
        R, phase = np.hypot(A, B), np.arctan2(sign * B, A) % (2 * np.pi)
        angle = np.where(ankle + A < 0, phase - np.arccos(np.clip(-ankle / R, -1.0, 1.0)), 0.0)
        foot = foot @ turn("x", sign * angle)
    return foot
