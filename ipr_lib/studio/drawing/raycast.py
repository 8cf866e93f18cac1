"""Analytic ray casting of balls, rounded cones and boxes: closed forms, one depth buffer, NumPy alone.

Affine maps keep the ray parameter, so flattened trunks cost no more than round limbs. Along a ray the parameter is the
depth Z in mm, which makes depth buffers of all parts comparable.
"""

from dataclasses import dataclass

import numpy as np

from ..scenes.shapes import BALL, BOX, CONE

NOTHING = -1  # part index where a ray hits no part
_NEAR = 50.0  # mm; parts that reach closer to the view than this are left out
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


@dataclass(frozen=True)
class View:
    """Where rays come from: X_view = R (X_world - T); ray of pixel p passes (p - c) / f at depth 1, or at any depth.

    Attributes:
        R: (3, 3). T: (3,) mm. f, c: (2,) px (px per mm if parallel). width, height: px.
        parallel: rays run along the view's z axis (a far lamp) instead of through its centre (a camera).
    """

    R: np.ndarray
    T: np.ndarray
    f: np.ndarray
    c: np.ndarray
    width: int
    height: int
    parallel: bool = False


@dataclass(frozen=True)
class Placed:
    """Parts as seen from one view: stacked arrays, (P, ...).

    Attributes:
        kinds, shapes: as in Part.
        to_local: P nested lists (3, 3), view axes to the part's own.
        offset: P lists (3,), where the view's origin lies in the part's own coordinates.
        middle: P numbers, depth of the part's middle in the view, mm.
        boxes: (P, 4) int, left, top, right, bottom px, half open, inside the picture; empty if not seen.
    """

    kinds: list
    shapes: list
    to_local: list
    offset: list
    middle: list
    boxes: np.ndarray


def camera_view(camera):
    """The View of a Camera."""
    return View(camera.R, camera.T, camera.f, camera.c, camera.width, camera.height)


def place(parts, view):
    """Bring parts into a view.

    Args:
        parts: list of P Part.
        view: View.
    Returns:
        Placed.
    """
    kinds = [part.kind for part in parts]
    shapes = [part.shape for part in parts]
    length, radius_a, radius_b = np.array(shapes).T
    axes = view.R @ np.stack([part.axes_world for part in parts])
    origin = (np.stack([part.origin_world for part in parts]) - view.T) @ view.R.T
    half = axes[:, :, 2] * (length / 2)[:, None]
    to_local = np.linalg.inv(axes)
    offset = -np.einsum("pij,pj->pi", to_local, origin)
    spread = np.einsum("pik,pjk->pij", axes, axes)
    low_a, high_a = _ball_bounds(origin, spread * (radius_a**2)[:, None, None], view)
    low_b, high_b = _ball_bounds(origin + 2 * half, spread * (radius_b**2)[:, None, None], view)
    low, high = np.minimum(low_a, low_b), np.maximum(high_a, high_b)
    is_box = np.array(kinds) == BOX
    if is_box.any():
        low[is_box], high[is_box] = _box_bounds(origin[is_box], axes[is_box], view)
    unseen = ~np.isfinite(low + high).all(axis=1)
    low[unseen], high[unseen] = 0, -2
    size = (view.width, view.height)
    corners = [np.floor(low).clip(0, size), (np.ceil(high) + 1).clip(0, size)]
    boxes = np.concatenate(corners, axis=1).astype(int)
    return Placed(
        kinds, shapes, to_local.tolist(), offset.tolist(), (origin + half)[:, 2].tolist(), boxes
    )


def _ball_bounds(centre, spread, view):
    """Exact screen bounds of ellipsoids: low, high (P, 2) px, NaN where one comes too close.

    A picture line x = s Z touches the ellipsoid where (c_x - s c_z)² equals its spread along (1, 0, -s).
    """
    extent = np.sqrt(np.einsum("pii->pi", spread))
    if view.parallel:
        return (centre - extent)[:, :2] * view.f + view.c, (centre + extent)[
            :, :2
        ] * view.f + view.c
    depth = np.where(centre[:, 2] - extent[:, 2] > _NEAR, centre[:, 2], np.nan)
    low, high = np.empty((len(centre), 2)), np.empty((len(centre), 2))
    for k in range(2):
        a = depth**2 - spread[:, 2, 2]
        b = centre[:, k] * depth - spread[:, k, 2]
        root = np.sqrt(np.maximum(b**2 - a * (centre[:, k] ** 2 - spread[:, k, k]), 0))
        low[:, k], high[:, k] = (
            (b - root) / a * view.f[k] + view.c[k],
            (b + root) / a * view.f[k] + view.c[k],
        )
    return low, high


def _box_bounds(centre, axes, view):
    """Screen bounds of boxes: low, high (P, 2) px, NaN where one comes too close."""
    corners = centre[:, None] + _CORNERS @ axes.transpose(0, 2, 1)
    points = corners[..., :2]
    if not view.parallel:
        depth = np.where(corners[..., 2:] > _NEAR, corners[..., 2:], np.nan)
        points = points / depth
    points = points * view.f + view.c
    return points.min(axis=1), points.max(axis=1)


def scene_box(placed, margin, view):
    """Smallest (left, top, right, bottom) that holds all parts in the picture, px, or None if none is seen."""
    boxes = placed.boxes
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if not len(boxes):
        return None
    left, top = np.maximum(boxes[:, :2].min(axis=0) - margin, 0)
    right, bottom = np.minimum(boxes[:, 2:].max(axis=0) + margin, (view.width, view.height))
    return int(left), int(top), int(right), int(bottom)


def cast_grid(placed, view, bounds):
    """Cast one ray through the centre of every pixel of a box.

    Args:
        placed: Placed.
        view: View of `placed`.
        bounds: (left, top, right, bottom) px.
    Returns:
        depth (H, W) float32, mm, infinite where nothing is hit; part (H, W) int16, NOTHING there.
    """
    left, top, right, bottom = bounds
    depth = np.full((bottom - top, right - left), np.inf, np.float32)
    part = np.full(depth.shape, NOTHING, np.int16)
    x = ((np.arange(left, right) - view.c[0]) / view.f[0]).astype(np.float32)[None, :]
    y = ((np.arange(top, bottom) - view.c[1]) / view.f[1]).astype(np.float32)[:, None]
    with np.errstate(all="ignore"):  # a miss is a NaN, and no NaN is nearer than anything
        for i, (u0, v0, u1, v1) in enumerate(placed.boxes.tolist()):
            u0, v0, u1, v1 = (
                max(u0, left) - left,
                max(v0, top) - top,
                min(u1, right) - left,
                min(v1, bottom) - top,
            )
            if u1 <= u0 or v1 <= v0:
                continue
            found = _part_depth(placed, i, x[:, u0:u1], y[v0:v1], view.parallel)
            nearest = depth[v0:v1, u0:u1]
            nearer = found < nearest
            np.copyto(nearest, found, where=nearer)
            np.copyto(part[v0:v1, u0:u1], i, where=nearer)
    return depth, part


def cast_points(placed, view, u, v):
    """Cast one ray through each of some points of the picture.

    Args:
        placed: Placed.
        view: View of `placed`.
        u, v: (N,) px, row by row: the rows that `v` rounds to ascend.
    Returns:
        depth (N,) float32, mm; part (N,) int16, as in `cast_grid`.
    """
    depth = np.full(len(u), np.inf, np.float32)
    part = np.full(len(u), NOTHING, np.int16)
    x = ((u - view.c[0]) / view.f[0]).astype(np.float32)
    y = ((v - view.c[1]) / view.f[1]).astype(np.float32)
    boxes = placed.boxes
    rows = np.floor(v + 0.5)
    first, last = np.searchsorted(rows, boxes[:, 1] - 1), np.searchsorted(rows, boxes[:, 3] + 1)
    with np.errstate(all="ignore"):
        for i in np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (last > first)).tolist():
            span = u[first[i] : last[i]]
            chosen = np.flatnonzero((span > boxes[i, 0] - 1) & (span < boxes[i, 2] + 1)) + first[i]
            if not len(chosen):
                continue
            found = _part_depth(placed, i, x[chosen], y[chosen], view.parallel)
            nearer = found < depth[chosen]
            hits = chosen[nearer]
            depth[hits] = found[nearer]
            part[hits] = i
    return depth, part


def _part_depth(placed, i, x, y, parallel):
    """Depth at which rays (x, y, 1) meet part i, mm; NaN where they miss. x and y broadcast together."""
    middle = placed.middle[i]
    start, ray = [], []
    # Start each ray at the depth of the part's middle: small numbers, so that float32 is exact enough.
    for (m_x, m_y, m_z), offset in zip(placed.to_local[i], placed.offset[i]):
        if parallel:
            start.append(m_x * x + (m_y * y + (m_z * middle + offset)))
            ray.append(m_z)
        else:
            slope_x, slope_y = m_x * x, m_y * y + m_z
            ray.append(slope_x + slope_y)
            start.append(middle * slope_x + (middle * slope_y + offset))
    kind = placed.kinds[i]
    if kind == CONE:
        return hit_cone(start, ray, *placed.shapes[i]) + middle
    return (hit_ball(start, ray) if kind == BALL else hit_box(start, ray)) + middle


def hit_ball(start, ray):
    """Ray parameter of the first hit with the unit ball, NaN for a miss; `start`, `ray`: three arrays each."""
    (ox, oy, oz), (dx, dy, dz) = start, ray
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1
    return -(b + np.sqrt(b * b - a * c)) / a


def hit_box(start, ray):
    """Ray parameter of the first hit with the cube [-1, 1]³, NaN for a miss; `start`, `ray`: three arrays each."""
    enter, leave = -np.inf, np.inf
    for o, d in zip(start, ray):
        d = np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
        one, two = (-1 - o) / d, (1 - o) / d
        enter, leave = (
            np.maximum(enter, np.minimum(one, two)),
            np.minimum(leave, np.maximum(one, two)),
        )
    return np.where(enter <= leave, enter, np.float32(np.nan))


def hit_cone(start, ray, length, radius_a, radius_b):
    """Ray parameter of the first hit with a rounded cone along z, NaN for a miss.

    The mantle is the cone that touches both balls; `slope` is the sine of its half angle. A ray that misses the
    endless cone misses the balls inside it as well; a ray that meets it beyond an end can only hit that end's ball.

    Args:
        start, ray: three arrays each.
        length: from the first ball's middle (the origin) to the second's.
        radius_a, radius_b: of the balls; |difference| < length.
    """
    (ox, oy, oz), (dx, dy, dz) = start, ray
    slope = (radius_a - radius_b) / length
    cosine2 = 1 - slope * slope
    dd = dx * dx + dy * dy + dz * dz
    do = dx * ox + dy * oy + dz * oz
    oo = ox * ox + oy * oy + oz * oz
    rise = radius_a * slope - oz
    k2 = cosine2 * dd - dz * dz
    k1 = cosine2 * do + rise * dz
    k0 = cosine2 * oo - oz * oz + 2 * radius_a * slope * oz - radius_a * radius_a
    k2 = np.where(np.abs(k2) < 1e-7, np.float32(1e-7), k2)
    t = -(k1 + np.sqrt(k1 * k1 - k0 * k2)) / k2
    along = t * dz - rise  # 0 at the first ball's circle of touch, length * cosine2 at the second's
    if slope:
        # Inside the cone's own angle, a ray that runs towards the tip enters through the wide ball.
        inward = (k2 < 0) & (dz * slope > 0)
        if inward.any():
            along = np.where(inward, np.float32(-1 if slope > 0 else 2 * length), along)
    past_b = along >= length * cosine2
    on_end = past_b | (along <= 0)
    if on_end.any():
        zc = np.where(past_b, np.float32(length), np.float32(0))
        radius = np.where(past_b, np.float32(radius_b), np.float32(radius_a))
        b = do - zc * dz
        c = oo + zc * (zc - 2 * oz) - radius * radius
        np.copyto(t, -(b + np.sqrt(b * b - dd * c)) / dd, where=on_end)
    return t
