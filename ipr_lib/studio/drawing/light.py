"""The studio's lamps: one far key lamp with soft shadows, light from all around, a little from the camera.

The scene is cast once along the key lamp; the depth map that results shades the bodies (soft, by exponential shadow
maps: Annen et al. 2008) and its outline, blurred more the higher the thing that casts it, darkens the floor.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .raycast import View, cast_grid, place, scene_box

_PX_PER_MM = 0.1
_HALF = 600  # px; the lamp's map can hold things up to 6 m from the middle of the room
_MARGIN = 34  # px about the scene, room for the widest blur
_SOFT_MM = 28.0  # how fast a shadow sets in behind its caster
_BIAS_MM = 26.0
# (lowest height of the caster in mm, blur in mm, weight): feet cast sharp shadows, heads cast soft ones, and what
# touches the floor keeps the light from all around away as well.
_LAYERS = ((0.0, 15.0, 1.45), (150.0, 36.0, 1.0), (700.0, 80.0, 1.0))
_DARKEST = 1.5  # weight that the floor's map can hold


@dataclass(frozen=True)
class Light:
    """Light of one take.

    Attributes:
        direction: (3,) unit vector to the key lamp, world.
        key, sky, ground: (3,) linear strength of the key lamp, of the light from above and from below.
        shadow: darkness of the floor where the key lamp is hidden, 0..1.
    """

    direction: np.ndarray
    key: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    shadow: float = 0.5

    def strength(self):
        """(3,) light on a floor that sees everything."""
        return self.key * self.direction[2] + self.sky


@dataclass(frozen=True)
class LampMap:
    """What the key lamp sees of a frame.

    Attributes:
        view: View along the lamp. bounds: (left, top, right, bottom) of the maps in it, px.
        reach: (h, w) float32, blurred exponential of the first depth.
        middle: mm, depth that the exponential is taken about.
        floor: (h, w) uint8, how much of the floor's light is missing along each ray; 255 is _DARKEST times the key lamp.
    """

    view: View
    bounds: tuple
    reach: np.ndarray
    middle: float
    floor: np.ndarray


def studio_light(rng=None):
    """The lamps of a take: as set up, or moved, warmed and dimmed a little by `rng` (numpy Generator)."""
    turn, tilt, gain, warmth, share = (0.0,) * 5 if rng is None else rng.uniform(-1, 1, 5)
    azimuth, zenith = np.radians(205 + 40 * turn), np.radians(33 + 7 * tilt)
    direction = np.array(
        [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)]
    )
    tint = np.array([1 + 0.05 * warmth, 1.0, 1 - 0.06 * warmth]) * (1 + 0.13 * gain)
    share = 0.10 * share
    return Light(
        direction,
        (0.80 + share) * tint * (1.03, 1.0, 0.94),
        (0.40 - share) * tint * (0.96, 1.0, 1.05),
        0.24 * tint * (1.08, 1.0, 0.88),
        shadow=0.52 + share,
    )


def lamp_map(parts, light):
    """Cast a scene along the key lamp.

    Args:
        parts: list of Part. light: Light.
    Returns:
        LampMap.
    """
    z = -light.direction
    x = np.cross(z, [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    size = np.full(2, _PX_PER_MM)
    view = View(
        np.stack([x, np.cross(z, x), z]),
        np.zeros(3),
        size,
        np.full(2, float(_HALF)),
        2 * _HALF,
        2 * _HALF,
        True,
    )
    placed = place(parts, view)
    bounds = scene_box(placed, _MARGIN, view)
    if bounds is None:
        bounds = (0, 0, 1, 1)
    depth, part = cast_grid(placed, view, bounds)
    seen = part >= 0
    if not seen.any():
        return LampMap(
            view,
            bounds,
            np.full(depth.shape, np.float32(1e30)),
            0.0,
            np.zeros(depth.shape, np.uint8),
        )
    hit = depth[seen]
    low, high = float(hit.min()), float(hit.max())
    middle = (low + high) / 2
    exponent = np.where(seen, (depth - middle) / _SOFT_MM, (high - middle) / _SOFT_MM + 6).clip(
        -70, 70
    )
    reach = cv2.GaussianBlur(np.exp(exponent, dtype=np.float32), (5, 5), 1.2)
    return LampMap(view, bounds, reach, middle, _floor_shadow(depth, seen, view, bounds))


def _floor_shadow(depth, seen, view, bounds):
    """Outline of the scene, blurred by height, (h, w) uint8."""
    left, top, right, bottom = bounds
    x = (np.arange(left, right, dtype=np.float32) - view.c[0]) / view.f[0]
    y = (np.arange(top, bottom, dtype=np.float32) - view.c[1]) / view.f[1]
    # Height of the lit point: the world's z of R^T (x, y, depth).
    ground = (view.R[0, 2] * x[None, :] + view.R[1, 2] * y[:, None]).astype(np.float32)
    height = np.where(seen, ground + np.float32(view.R[2, 2]) * depth, np.float32(-1))
    floor = np.zeros(depth.shape, np.float32)
    for k, (low, blur, weight) in enumerate(_LAYERS):
        high = _LAYERS[k + 1][0] if k + 1 < len(_LAYERS) else np.inf
        layer = (seen & (height >= (low if k else -np.inf)) & (height < high)).astype(np.float32)
        floor += weight * cv2.GaussianBlur(layer, (0, 0), blur * _PX_PER_MM)
    return (floor.clip(0, _DARKEST) * (255 / _DARKEST)).astype(np.uint8)


def lit_share(lamp, points_world):
    """How much of the key lamp reaches points on the bodies.

    Args:
        lamp: LampMap. points_world: (3, N) float32, mm.
    Returns:
        (N,) float32, 0..1.
    """
    view = lamp.view
    seen = view.R.astype(np.float32) @ points_world
    u = seen[0] * np.float32(view.f[0]) + np.float32(view.c[0] - lamp.bounds[0])
    v = seen[1] * np.float32(view.f[1]) + np.float32(view.c[1] - lamp.bounds[1])
    # remap takes pictures of at most 32767 px a side, so the points are folded into rows.
    n, row = len(u), 4096
    fold = np.zeros((2, -(-n // row) * row), np.float32)
    fold[0, :n], fold[1, :n] = u, v
    fold = fold.reshape(2, -1, row)
    reach = cv2.remap(
        lamp.reach, fold[0], fold[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).ravel()[:n]
    depth = (seen[2] - np.float32(lamp.middle + _BIAS_MM)) * np.float32(1 / _SOFT_MM)
    return np.exp(np.minimum(np.log(reach) - depth, 0))


def floor_shadow_in_picture(lamp, light, camera):
    """The shadow on the floor as a camera sees it.

    Args:
        lamp: LampMap. light: Light. camera: Camera.
    Returns:
        factor (h, w) uint8 to multiply display values by (255 = untouched), (left, top, right, bottom) px; or None
        where the camera sees none of it.
    """
    left, top, right, bottom = lamp.bounds
    view = lamp.view
    # Floor (x, y, 1) -> the lamp's map, and floor -> picture; both are homographies.
    to_lamp = np.eye(3)
    to_lamp[:2, :2] = view.f[:, None] * view.R[:2, :2]
    to_lamp[:2, 2] = view.c - (left, top)
    to_camera = np.stack([camera.R[:, 0], camera.R[:, 1], -camera.R @ camera.T], axis=1)
    K = np.array([[camera.f[0], 0, camera.c[0]], [0, camera.f[1], camera.c[1]], [0, 0, 1]])
    H = K @ to_camera @ np.linalg.inv(to_lamp)
    w, h = right - left, bottom - top
    corners = H @ np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]], float)
    if (corners[2] <= 0).any():
        return None
    points = corners[:2] / corners[2]
    low = np.floor(points.min(axis=1)).clip(0, (camera.width, camera.height)).astype(int)
    high = np.ceil(points.max(axis=1)).clip(0, (camera.width, camera.height)).astype(int)
    if (high <= low).any():
        return None
    moved = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ H
    missing = cv2.warpPerspective(
        lamp.floor, moved, tuple(map(int, high - low)), flags=cv2.INTER_LINEAR
    )
    share = np.arange(256) * (light.shadow * _DARKEST / 255)
    table = ((1 - share.clip(0, 0.95)) ** (1 / 2.2) * 255).round().astype(np.uint8)
    return cv2.LUT(missing, table), (*low.tolist(), *high.tolist())
