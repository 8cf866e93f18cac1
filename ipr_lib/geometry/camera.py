"""Cameras: world -> camera -> picture and back; pinhole, and Human3.6M's lens as an option.

Taught in notebooks/01_skeletons_and_cameras.ipynb; what the lens is worth, in notebooks/02_prepare_human36m.ipynb.
"""

from dataclasses import dataclass

import numpy as np

# Focal length over a picture's longer side, where nobody knows it: a view 45 degrees wide, between a phone and a portrait
# lens. Structure from motion begins with the same guess.
ASSUMED_FOCAL = 1.2


@dataclass(frozen=True)
class Camera:
    """A calibrated camera with Human3.6M's conventions.

    X_cam = R (X_world - T);  u = f_x X / Z + c_x;  v = f_y Y / Z + c_y.  Camera axes: x right, y down, z forward.
    With a lens, (X / Z, Y / Z) goes through `distort` before f and c.

    Attributes:
        R: (3, 3) rotation, world to camera.
        T: (3,) camera centre, world, mm.
        f: (2,) focal length, px.
        c: (2,) principal point, px; pixel p has its centre at p.
        width, height: picture size, px.
        k, p: (3,) radial and (2,) tangential coefficients of the lens, both or neither; None is a pinhole.

    Leading axes batch: with R (n, 1, 3, 3), T, f and c (n, 1, 3 or 2), joints (n, J, 3) each meet their own camera;
    k and p (n, 1, 3 or 2) likewise.
    """

    R: np.ndarray
    T: np.ndarray
    f: np.ndarray
    c: np.ndarray
    width: int
    height: int
    k: np.ndarray | None = None
    p: np.ndarray | None = None

    def world_to_camera(self, joints_world):
        """(..., 3) world mm -> (..., 3) camera mm."""
        joints_world = np.asarray(joints_world)
        if (
            self.R.ndim == 2
        ):  # one camera, one product; x, y and z stay apart in memory, as all that follows likes them
            planes = np.ascontiguousarray(self.R) @ joints_world.reshape(-1, 3).T
            planes -= (self.R @ self.T)[:, None]
            return np.moveaxis(planes.reshape(3, *joints_world.shape[:-1]), 0, -1)
        # Coordinate by coordinate: with an inner loop of length 3, numpy takes several times longer.
        x, y, z = (joints_world[..., i] - self.T[..., i] for i in range(3))
        rows = [
            self.R[..., i, 0] * x + self.R[..., i, 1] * y + self.R[..., i, 2] * z for i in range(3)
        ]
        return _side_by_side(rows)

    def camera_to_world(self, joints_cam):
        """(..., 3) camera mm -> (..., 3) world mm."""
        return np.einsum("...ji,...j->...i", self.R, joints_cam) + self.T

    def camera_to_image(self, joints_cam):
        """(..., 3) camera mm -> (..., 2) px. Joints need Z > 0: a point behind the camera has no picture."""
        shape = np.broadcast_shapes(np.shape(joints_cam)[:-1], self.f.shape[:-1])
        rays = np.empty((2, *shape))
        for i in range(2):
            np.divide(joints_cam[..., i], joints_cam[..., 2], out=rays[i, ...])
        if self.k is not None:
            rays = np.moveaxis(distort(np.moveaxis(rays, 0, -1), self.k, self.p), -1, 0)
        for i in range(2):  # in place: at this size new memory costs as much as the sum
            rays[i, ...] *= self.f[..., i]
            rays[i, ...] += self.c[..., i]
        return np.moveaxis(rays, 0, -1)

    def image_to_camera(self, joints_img, depth):
        """(..., 2) px and (...) depth Z in mm -> (..., 3) camera mm; NaN where a lens sends no point there."""
        rays = (joints_img - self.c) / self.f
        if self.k is not None:
            rays = undistort(rays, self.k, self.p)
        return np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


def _side_by_side(coordinates):
    """np.stack along a last axis, in half its time."""
    stacked = np.empty((*coordinates[0].shape, len(coordinates)))
    for i, values in enumerate(coordinates):
        stacked[..., i] = values
    return stacked


def distort(rays, k, p):
    """Bend rays as Human3.6M's lens model does.

    With r2 = x² + y² and a = 1 + k1 r2 + k2 r2² + k3 r2³ + p1 y + p2 x: x' = a x + p2 r2, y' = a y + p1 r2. This is the
    model of the data set's own code; OpenCV's has twice the tangential part, so `cv2.projectPoints` is only close.

    Args:
        rays: (..., 2) X / Z, Y / Z.
        k: (..., 3). p: (..., 2).
    Returns:
        (..., 2) bent rays.
    """
    r2 = (rays * rays).sum(-1)
    return rays * _gain(rays, r2, k, p)[..., None] + p[..., ::-1] * r2[..., None]


def undistort(bent, k, p):
    """The inverse of `distort`, by Newton's method; exact to rounding.

    Args:
        bent: (..., 2) bent rays.
        k: (..., 3). p: (..., 2).
    Returns:
        (..., 2) rays; NaN where none leads there, far outside of what a lens shows.
    """
    rays = np.array(bent, np.float64)
    with np.errstate(
        all="ignore"
    ):  # a ray without a solution runs off to infinity, which is told at the end
        for _ in range(20):
            x, y = rays[..., 0], rays[..., 1]
            r2 = x * x + y * y
            gain = _gain(rays, r2, k, p)
            miss_x, miss_y = np.moveaxis(
                rays * gain[..., None] + p[..., ::-1] * r2[..., None] - bent, -1, 0
            )
            slope = 2 * (k[..., 0] + r2 * (2 * k[..., 1] + r2 * 3 * k[..., 2]))
            gain_x, gain_y = slope * x + p[..., 1], slope * y + p[..., 0]
            xx, xy = gain + x * gain_x + 2 * p[..., 1] * x, x * gain_y + 2 * p[..., 1] * y
            yx, yy = y * gain_x + 2 * p[..., 0] * x, gain + y * gain_y + 2 * p[..., 0] * y
            area = xx * yy - xy * yx
            # Past its fold a lens model bends other rays to the same place; those are no answer.
            found = (np.maximum(np.abs(miss_x), np.abs(miss_y)) < 1e-13) & (gain > 0) & (area > 0)
            if found.all():
                break
            step = np.stack([yy * miss_x - xy * miss_y, xx * miss_y - yx * miss_x], -1)
            rays = np.where(found[..., None], rays, rays - step / area[..., None])
    return np.where(found[..., None], rays, np.nan)


def _gain(rays, r2, k, p):
    radial = 1 + r2 * (k[..., 0] + r2 * (k[..., 1] + r2 * k[..., 2]))
    return radial + p[..., 0] * rays[..., 1] + p[..., 1] * rays[..., 0]


def look_at(centre, target, f, c, width, height):
    """A camera at `centre` that looks at `target` and keeps its picture upright (world z is up).

    Args:
        centre, target: (3,) world mm, not one above the other.
        f, c: (2,) px. width, height: px.
    Returns:
        Camera.
    """
    centre, target = np.asarray(centre, float), np.asarray(target, float)
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    return Camera(R, centre, np.asarray(f, float), np.asarray(c, float), width, height)
