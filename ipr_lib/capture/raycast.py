"""Analytic ray casting of balls, rounded cones and boxes: closed forms, one depth buffer, NumPy alone.

Every part is a simple shape in its own coordinates (unit ball; rounded cone along z; cube of half side 1), placed in
the world by an affine map. Affine maps keep the ray parameter, so flattened trunks cost no more than round limbs.
Along a ray the parameter is the depth Z in mm, which makes depth buffers of all parts comparable.
"""

from dataclasses import dataclass

import numpy as np

BALL, CONE, BOX = range(3)
NOTHING = -1  # part index where a ray hits no part
_NEAR = 50.0  # mm; parts that reach closer to the view than this are left out
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


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
        to_local: (P, 3, 3), view axes to the part's own.
        centre: (P, 3), the part's middle in view axes, mm.
        shift: (P, 3), origin of the part's own coordinates seen from that middle, own coordinates.
        boxes: (P, 4) int, left, top, right, bottom px, half open, inside the picture; empty if not seen.
    """

    kinds: list
    shapes: list
    to_local: np.ndarray
    centre: np.ndarray
    shift: np.ndarray
    boxes: np.ndarray


def pattern_frame(origin_world, rotation_world):
    """(3, 4) map from world mm to a frame at `origin_world` (3,) whose axes are the columns of (3, 3) `rotation_world`."""
    turn = np.asarray(rotation_world).T
    return np.concatenate([turn, -(turn @ origin_world)[:, None]], axis=1)


def ball(centre_world, rotation_world, radii_mm, paint, pattern=None):
    """An ellipsoid: centre (3,) mm, axes as columns (3, 3), half axes (3,) mm."""
    centre = np.asarray(centre_world, float)
    pattern = pattern_frame(centre, rotation_world) if pattern is None else pattern
    return Part(BALL, centre, rotation_world * np.asarray(radii_mm, float), (0.0, 1.0, 1.0), paint, pattern)


def box(centre_world, rotation_world, half_mm, paint, pattern=None):
    """A box: centre (3,) mm, axes as columns (3, 3), half sides (3,) mm."""
    centre = np.asarray(centre_world, float)
    pattern = pattern_frame(centre, rotation_world) if pattern is None else pattern
    return Part(BOX, centre, rotation_world * np.asarray(half_mm, float), (0.0, 1.0, 1.0), paint, pattern)


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
    return Part(CONE, a, rotation * np.array([*flat, 1.0]), (length, float(radius_a), float(radius_b)), paint, pattern)


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
    shift = np.zeros_like(origin)
    shift[:, 2] = length / 2
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
    return Placed(kinds, shapes, to_local.astype(np.float32), origin + half, shift, boxes)


def _ball_bounds(centre, spread, view):
    """Exact screen bounds of ellipsoids: low, high (P, 2) px, NaN where one comes too close.

    A picture line x = s Z touches the ellipsoid where (c_x - s c_z)² equals its spread along (1, 0, -s).
    """
    extent = np.sqrt(np.einsum("pii->pi", spread))
    if view.parallel:
        return (centre - extent)[:, :2] * view.f + view.c, (centre + extent)[:, :2] * view.f + view.c
    depth = np.where(centre[:, 2] - extent[:, 2] > _NEAR, centre[:, 2], np.nan)
    low, high = np.empty((len(centre), 2)), np.empty((len(centre), 2))
    for k in range(2):
        a = depth**2 - spread[:, 2, 2]
        b = centre[:, k] * depth - spread[:, k, 2]
        root = np.sqrt(np.maximum(b**2 - a * (centre[:, k] ** 2 - spread[:, k, k]), 0))
        low[:, k], high[:, k] = (b - root) / a * view.f[k] + view.c[k], (b + root) / a * view.f[k] + view.c[k]
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
            u0, v0, u1, v1 = max(u0, left) - left, max(v0, top) - top, min(u1, right) - left, min(v1, bottom) - top
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
        u, v: (N,) px, `v` ascending.
    Returns:
        depth (N,) float32, mm; part (N,) int16, as in `cast_grid`.
    """
    depth = np.full(len(u), np.inf, np.float32)
    part = np.full(len(u), NOTHING, np.int16)
    x = ((u - view.c[0]) / view.f[0]).astype(np.float32)
    y = ((v - view.c[1]) / view.f[1]).astype(np.float32)
    boxes = placed.boxes
    first, last = np.searchsorted(v, boxes[:, 1] - 1), np.searchsorted(v, boxes[:, 3] + 1)
    with np.errstate(all="ignore"):
        for i in np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (last > first)).tolist():
            span = u[first[i]:last[i]]
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
    m = placed.to_local[i].tolist()
    centre = placed.centre[i].tolist()
    middle = centre[2]
    shift = placed.shift[i].tolist()
    start, ray = [], []
    # Start each ray at the depth of the part's middle: small numbers, so that float32 is exact enough.
    for k in range(3):
        offset = shift[k] - sum(m[k][j] * centre[j] for j in range(3))
        if parallel:
            start.append(m[k][0] * x + (m[k][1] * y + (m[k][2] * middle + offset)))
            ray.append(m[k][2])
        else:
            slope_x, slope_y = m[k][0] * x, m[k][1] * y + m[k][2]
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
        enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
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
    local = to_local.astype(np.float32) @ (points_world - part.origin_world.astype(np.float32)[:, None])
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
