"""Curves over time, rotations, and the two bones of a limb: what motion is made of.

Angles are radians, lengths mm, times seconds; every control is an array over the n frames.
"""

import numpy as np
from scipy.spatial.transform import Rotation

FPS = 50
SIDES = ("r", "l")
# +1 to the right: mirrors whatever is written for the right side.
SIGN = {"r": 1.0, "l": -1.0}
_AXES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}
_NOISE_RATES = np.array([1.0, 0.618, 1.747, 0.371])
_NOISE_SHARES = np.array([1.0, 0.8, 0.45, 0.9])


# ---------------------------------------------------------------- time


def ease(x):
    """Minimum-jerk step: 0 for x <= 0, 1 for x >= 1, with still ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 - 15.0 * x + 6.0 * x * x)


def bump(x):
    """Smooth hill: 0 outside 0 < x < 1, 1 in the middle."""
    x = np.clip(x, 0.0, 1.0)
    return (4.0 * x * (1.0 - x)) ** 2


def softly_positive(x, width):
    """max(x, 0) with a rounded corner of that width: exactly 0 for x <= 0, x - width / 2 from x >= width on."""
    return np.where(x < width, np.maximum(x, 0.0) ** 2 / (2.0 * width), x - width / 2.0)


def keyed(t, first, keys):
    """Hold a value, then ease to the next at each key; overlapping keys add up smoothly.

    Args:
        t: (n,) s.
        first: value before any key, scalar or (k,).
        keys: (start, duration, value) in order of start, s.
    Returns:
        (n,) or (n, k).
    """
    first = np.asarray(first, float)
    column = t.reshape((-1,) + (1,) * first.ndim)
    track, before = first + 0.0 * column, first
    for start, duration, value in keys:
        value = np.asarray(value, float)
        track = track + ease((column - start) / duration) * (value - before)
        before = value
    return track


def noise(rng, t, amplitude, period):
    """Slow smooth wandering about 0 with that rms amplitude and typical period (s); (n,) like `t`."""
    phases = rng.uniform(0.0, 2 * np.pi, len(_NOISE_RATES))
    waves = np.sin(2 * np.pi * t[:, None] * _NOISE_RATES / period + phases)
    return amplitude * waves @ _NOISE_SHARES / np.sqrt((_NOISE_SHARES**2).sum() / 2)


# ---------------------------------------------------------------- rotations


def turn(axis, angle):
    """Rotation about "x" (front up), "y" (tip to the right) or "z" (to the left); (n,) rad -> (n, 3, 3)."""
    angle = np.atleast_1d(np.asarray(angle, float))
    i, j = _AXES[axis]
    R = np.zeros((*angle.shape, 3, 3))
    R[...] = np.eye(3)
    R[..., i, i] = R[..., j, j] = np.cos(angle)
    R[..., j, i] = np.sin(angle)
    R[..., i, j] = -R[..., j, i]
    return R


def apply(R, vectors):
    """(n, 3, 3) on (3,) or (n, 3) -> (n, 3)."""
    return np.einsum("...ij,...j->...i", R, np.asarray(vectors, float))


def unit(vectors):
    """Vectors scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def frame(x=None, y=None, z=None):
    """Rotation with one exact axis and a second as near as it can be; give two of the three, the exact one first.

    Args:
        x, y, z: (n, 3) directions in the world, two of them; z is exact if given, else y.
    Returns:
        (n, 3, 3), columns x, y, z.
    """
    if z is not None and x is not None:
        z = unit(z)
        y = unit(np.cross(z, x))
        x = np.cross(y, z)
    elif z is not None:
        z = unit(z)
        x = unit(np.cross(y, z))
        y = np.cross(z, x)
    else:
        y = unit(y)
        z = unit(np.cross(x, y))
        x = np.cross(y, z)
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def blend_rotation(A, B, weight):
    """From A (weight 0) to B (weight 1) along the turn that is shortest where the blend begins.

    Args:
        A, B: (n, 3, 3) over time. weight: (n,).
    Returns:
        (n, 3, 3).
    """
    step = Rotation.from_matrix(np.swapaxes(A, -1, -2) @ B).as_rotvec()
    angle = np.linalg.norm(step, axis=1)
    # Past half a turn the shortest way flips to the other side: keep to the side where the blend began.
    flips = np.concatenate(
        [[False], ((step[1:] * step[:-1]).sum(1) < 0) & (np.minimum(angle[1:], angle[:-1]) > 2.0)]
    )
    side = np.cumprod(np.where(flips, -1.0, 1.0))
    begin = int(np.argmax(weight > 0))
    long_way = side * side[begin] < 0
    step[long_way] *= (1.0 - 2 * np.pi / np.maximum(angle[long_way], 1.0))[:, None]
    return A @ Rotation.from_rotvec(step * weight[:, None]).as_matrix()


def two_bones(start, target, pole, upper, lower, longest=0.9995):
    """Middle and end joint of a limb whose end reaches for `target`.

    Args:
        start, target, pole: (n, 3) mm; `pole` is the direction the middle joint points to.
        upper, lower: bone lengths, mm.
        longest: share of the stretched limb that is never exceeded; targets out of reach are drawn in along the line.
    Returns:
        middle, end: (n, 3).
    """
    offset = target - start
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    along = offset / np.maximum(distance, 1e-9)
    shortest = np.sqrt(upper**2 + lower**2 - 2 * upper * lower * np.cos(np.radians(28)))
    reach = np.clip(distance, shortest, longest * (upper + lower))
    side = unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    share = (reach**2 + upper**2 - lower**2) / (2 * reach)
    middle = start + share * along + np.sqrt(np.maximum(upper**2 - share**2, 0.0)) * side
    end = middle + lower * unit(start + reach * along - middle)
    return middle, end
