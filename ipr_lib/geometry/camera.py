"""Cameras: world -> camera -> image and back; a pinhole, and Human3.6M's lens as an option.

Taught in notebooks/01_skeletons_and_cameras.ipynb; notebooks/02_prepare_human36m.ipynb measures what
the lens is worth.
"""

from dataclasses import dataclass

import numpy as np

# Focal length over an image's longer side, where nobody knows it: a view 45 degrees wide, between a
# phone and a portrait lens. Structure from motion begins with the same guess.
ASSUMED_FOCAL = 1.2


@dataclass(frozen=True)
class Camera:
    """A calibrated camera with Human3.6M's conventions.

    X_cam = R (X_world - T);  u = f_x X / Z + c_x;  v = f_y Y / Z + c_y.
    Camera axes: x right, y down, z forward. With a lens, (X / Z, Y / Z) goes through `distort` before
    f and c.

    Attributes:
        R: (3, 3) rotation, world to camera.
        T: (3,) camera centre, world, mm.
        f: (2,) focal length, px.
        c: (2,) principal point, px; pixel p has its centre at p.
        width, height: size of the image, px.
        k, p: (3,) radial and (2,) tangential coefficients of the lens, both or neither; None is a
            pinhole.

    Leading axes batch: with R (n, 1, 3, 3), T, f and c (n, 1, 3 or 2), joints (n, J, 3) each meet
    their own camera; k and p (n, 1, 3 or 2) likewise.
    """

    R: np.ndarray
    T: np.ndarray
    f: np.ndarray
    c: np.ndarray
    width: int
    height: int
    k: np.ndarray | None = None
    p: np.ndarray | None = None

    def world_to_camera(self, joints_world: np.ndarray) -> np.ndarray:
        """(..., 3) world mm -> (..., 3) camera mm."""
        return np.einsum("...ij,...j->...i", self.R, joints_world - self.T)

    def camera_to_world(self, joints_cam: np.ndarray) -> np.ndarray:
        """(..., 3) camera mm -> (..., 3) world mm."""
        return np.einsum("...ji,...j->...i", self.R, joints_cam) + self.T

    def camera_to_image(self, joints_cam: np.ndarray) -> np.ndarray:
        """(..., 3) camera mm -> (..., 2) px. Joints need Z > 0: nothing behind the camera is in its image."""
        rays = joints_cam[..., :2] / joints_cam[..., 2:]
        if self.k is not None:
            rays = distort(rays, self.k, self.p)
        return rays * self.f + self.c

    def image_to_camera(self, joints_img: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """(..., 2) px and (...) depth Z in mm -> (..., 3) camera mm; NaN where the lens sends no point."""
        rays = (joints_img - self.c) / self.f
        if self.k is not None:
            rays = undistort(rays, self.k, self.p)
        depth = depth[..., None]
        return np.concatenate([rays * depth, depth], axis=-1)


def distort(rays: np.ndarray, k: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Bend rays as Human3.6M's lens model does.

    With r2 = x² + y² and a = 1 + k1 r2 + k2 r2² + k3 r2³ + p1 y + p2 x: x' = a x + p2 r2,
    y' = a y + p1 r2. This is the model of the data set's own code. OpenCV's has twice the tangential
    part, so `cv2.projectPoints` is only close.

    Args:
        rays: (..., 2) X / Z, Y / Z.
        k: (..., 3).
        p: (..., 2).
    Returns:
        (..., 2) bent rays.
    """
    r2 = (rays * rays).sum(axis=-1)
    radial = 1 + r2 * (k[..., 0] + r2 * (k[..., 1] + r2 * k[..., 2]))
    gain = radial + p[..., 0] * rays[..., 1] + p[..., 1] * rays[..., 0]
    return rays * gain[..., None] + p[..., ::-1] * r2[..., None]


def undistort(bent: np.ndarray, k: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Straighten rays: the inverse of `distort`, exact to rounding.

    Where a lens bends a ray by little, moving it by what it misses brings it closer each time.

    Args:
        bent: (..., 2) bent rays.
        k: (..., 3).
        p: (..., 2).
    Returns:
        (..., 2) rays; NaN where none leads there, far outside of what a lens shows.
    """
    rays = bent
    with np.errstate(all="ignore"):  # a ray without a solution runs off to infinity
        for _ in range(200):
            miss = distort(rays, k, p) - bent
            found = np.abs(miss).max(axis=-1) < 1e-13
            if found.all():
                break
            rays = rays - miss
    return np.where(found[..., None], rays, np.nan)


def look_at(
    centre: np.ndarray, target: np.ndarray, f: np.ndarray, c: np.ndarray, width: int, height: int
) -> Camera:
    """A camera at `centre` that looks at `target` and keeps its image upright (world z is up).

    Args:
        centre, target: (3,) world mm, not one above the other.
        f, c: (2,) px.
        width, height: px.
    """
    centre, target = np.asarray(centre, float), np.asarray(target, float)
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    R = np.stack([right, down, forward])
    return Camera(R, centre, np.asarray(f, float), np.asarray(c, float), width, height)
