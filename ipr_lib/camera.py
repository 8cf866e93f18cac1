"""Pinhole camera: world -> camera -> picture and back. Taught in notebooks/01_skeletons_and_cameras.ipynb."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A calibrated camera with Human3.6M's conventions.

    X_cam = R (X_world - T);  u = f_x X / Z + c_x;  v = f_y Y / Z + c_y.  Camera axes: x right, y down, z forward.

    Attributes:
        R: (3, 3) rotation, world to camera.
        T: (3,) camera centre, world, mm.
        f: (2,) focal length, px.
        c: (2,) principal point, px; pixel p has its centre at p.
        width, height: picture size, px.

    Leading axes batch: with R (n, 1, 3, 3), T, f and c (n, 1, 3 or 2), joints (n, J, 3) each meet their own camera.
    """

    R: np.ndarray
    T: np.ndarray
    f: np.ndarray
    c: np.ndarray
    width: int
    height: int

    def world_to_camera(self, joints_world):
        """(..., 3) world mm -> (..., 3) camera mm."""
        return np.einsum("...ij,...j->...i", self.R, joints_world - self.T)

    def camera_to_world(self, joints_cam):
        """(..., 3) camera mm -> (..., 3) world mm."""
        return np.einsum("...ji,...j->...i", self.R, joints_cam) + self.T

    def camera_to_image(self, joints_cam):
        """(..., 3) camera mm -> (..., 2) px. Joints need Z > 0: a point behind the camera has no picture."""
        return joints_cam[..., :2] / joints_cam[..., 2:] * self.f + self.c

    def image_to_camera(self, joints_img, depth):
        """(..., 2) px and (...) depth Z in mm -> (..., 3) camera mm."""
        xy = (joints_img - self.c) / self.f * depth[..., None]
        return np.concatenate([xy, depth[..., None]], axis=-1)


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
