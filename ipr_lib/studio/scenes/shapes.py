"""Shapes that scenes are made of: balls, rounded cones and boxes, each under an affine map.

A shape is simple in its own coordinates (unit ball; rounded cone along z; cube of half side 1); the map flattens, turns
and places it in the world.
"""

from dataclasses import dataclass

import numpy as np

BALL, CONE, BOX = range(3)


@dataclass(frozen=True)
class Part:
    """One shape of the scene.

    Attributes:
        kind: BALL, CONE or BOX.
        origin_world: (3,) mm; centre, or the middle of a cone's first end.
        axes_world: (3, 3); columns are the shape's own axes in the world, mm per unit of its own coordinates.
        shape: (length, first radius, second radius) of a cone in its own coordinates; (0, 1, 1) otherwise.
        paint: what covers it; only the shading looks at it.
        pattern: (3, 4), from world mm to the coordinates that the paint's pattern lives in, mm.
        blend: its shading runs smoothly into that of its neighbours that blend as well.
    """

    kind: int
    origin_world: np.ndarray
    axes_world: np.ndarray
    shape: tuple
    paint: object
    pattern: np.ndarray
    blend: bool = False


def pattern_frame(origin_world, rotation_world):
    """(3, 4) map from world mm to a frame at `origin_world` (3,) whose axes are the columns of (3, 3) `rotation_world`."""
    turn = np.asarray(rotation_world).T
    return np.concatenate([turn, -(turn @ origin_world)[:, None]], axis=1)


def ball(centre_world, rotation_world, radii_mm, paint, pattern=None):
    """An ellipsoid: centre (3,) mm, axes as columns (3, 3), half axes (3,) mm."""
    centre = np.asarray(centre_world, float)
    pattern = pattern_frame(centre, rotation_world) if pattern is None else pattern
    return Part(
        BALL, centre, rotation_world * np.asarray(radii_mm, float), (0.0, 1.0, 1.0), paint, pattern
    )


def box(centre_world, rotation_world, half_mm, paint, pattern=None):
    """A box: centre (3,) mm, axes as columns (3, 3), half sides (3,) mm."""
    centre = np.asarray(centre_world, float)
    pattern = pattern_frame(centre, rotation_world) if pattern is None else pattern
    return Part(
        BOX, centre, rotation_world * np.asarray(half_mm, float), (0.0, 1.0, 1.0), paint, pattern
    )


def cone(a_world, b_world, radius_a, radius_b, paint, side=None, flat=(1.0, 1.0), pattern=None):
    """A rounded cone: the hull of two balls, optionally flattened across its axis.

    Args:
        a_world, b_world: (3,) mm, middles of the balls.
        radius_a, radius_b: mm.
        paint: what covers it.
        side: (3,) direction that the shape's x axis should follow (any that is not along the axis will do).
        flat: factors on the radii along x and y.
        pattern: (3, 4) or None for the cone's own frame.
    """
    a, b = np.asarray(a_world, float), np.asarray(b_world, float)
    along = b - a
    length = float(np.sqrt(along @ along))
    z = along / max(length, 1e-9) if length > 1e-6 else np.array([0.0, 0.0, 1.0])
    x = np.array([1.0, 0.0, 0.0]) if side is None else np.asarray(side, float)
    x = x - (x @ z) * z
    if x @ x < 1e-6:
        x = np.array([0.0, 1.0, 0.0]) - z[1] * z
        if x @ x < 1e-6:
            x = np.array([1.0, 0.0, 0.0]) - z[0] * z
    x /= np.sqrt(x @ x)
    y = np.array([z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]])
    rotation = np.stack([x, y, z], axis=1)
    pattern = pattern_frame(a, rotation) if pattern is None else pattern
    # Where one ball holds the other there is no cone to speak of; a tiny longer axis keeps the closed form valid.
    length = max(length, 1.001 * abs(radius_a - radius_b), 1e-2)
    return Part(
        CONE,
        a,
        rotation * np.array([*flat, 1.0]),
        (length, float(radius_a), float(radius_b)),
        paint,
        pattern,
    )


def surface(part, points_world):
    """Normals of points on a part.

    Args:
        part: Part.
        points_world: (3, N) float32, mm, on its surface.
    Returns:
        (3, N) float32 unit normals, world.
    """
    axes = part.axes_world
    to_local = np.linalg.inv(axes)
    local = to_local.astype(np.float32) @ (
        points_world - part.origin_world.astype(np.float32)[:, None]
    )
    if part.kind == CONE:
        length, radius_a, radius_b = part.shape
        slope = (radius_a - radius_b) / length
        local[2] -= ((local[2] - radius_a * slope) / (1 - slope * slope)).clip(0, length)
    elif part.kind == BOX:
        face = np.abs(local).argmax(axis=0)
        local = np.where(np.arange(3)[:, None] == face, np.sign(local), 0).astype(np.float32)
    normals = to_local.T.astype(np.float32) @ local
    normals /= np.sqrt((normals * normals).sum(axis=0)) + np.float32(1e-12)
    return normals
