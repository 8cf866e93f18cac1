"""Everybody doing everything, on one picture."""

import itertools

import cv2
import numpy as np

from ..data.h36m_layout import SUBJECTS
from ..files import atomic_path
from ..progress import progress
from .actions.plays import perform
from .capture import studio_cameras
from .drawing.render import render_frame


def contact_sheet(
    subjects=SUBJECTS,
    actions=tuple(range(2, 17)),
    *,
    take=1,
    camera=None,
    frame=60,
    cell_px=130,
    seed=0,
):
    """One picture of every actor in every action: rows are actors, columns actions.

    Args:
        subjects, actions: numbers. take: 1 or 2.
        camera: camera number, or None for whichever sees most of the face.
        frame: 0-based frame shown.
        cell_px: side of a cell, px.
        seed: of the motion.
    Returns:
        (len(subjects) * cell_px, len(actions) * cell_px, 3) uint8, RGB.
    """
    sheet = np.empty((len(subjects) * cell_px, len(actions) * cell_px, 3), np.uint8)
    cameras = studio_cameras()
    # Everybody takes a while to draw: a bar tells, and goes.
    with progress(
        total=len(subjects) * len(actions), desc="contact sheet", unit="picture", leave=False
    ) as bar:
        for (i, subject), (j, action) in itertools.product(enumerate(subjects), enumerate(actions)):
            performance = perform(subject, action, take, frame + 1, seed=seed)
            seen_by = cameras[camera or _facing_camera(performance, frame, cameras)]
            rgb = render_frame(performance, frame, seen_by, seed=(seed, subject, action))
            cell = _crop_around(rgb, seen_by, performance.joints_world[frame], cell_px)
            sheet[i * cell_px : (i + 1) * cell_px, j * cell_px : (j + 1) * cell_px] = cell
            bar.update()
    return sheet


def write_sheet(path, subjects=SUBJECTS, actions=tuple(range(2, 17)), cell_px=110):
    """Write `contact_sheet` as a JPEG, atomically; the arguments are its own."""
    rgb = contact_sheet(subjects, actions, cell_px=cell_px)
    good, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert good, "OpenCV could not encode the sheet"
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _facing_camera(performance, frame, cameras):
    """Number of the camera that the chest looks at most."""
    forward = performance.frames_world["chest"][frame][:, 1]
    pelvis = performance.joints_world[frame, 0]
    return max(
        cameras,
        key=lambda number: (
            forward @ (cameras[number].T - pelvis) / np.linalg.norm(cameras[number].T - pelvis)
        ),
    )


def _crop_around(rgb, camera, joints_world, side_px):
    """Square picture around a person, (side_px, side_px, 3)."""
    joints = camera.world_to_camera(joints_world)
    points = camera.camera_to_image(joints)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    half = max(0.5 * np.ptp(points, axis=0).max() * 1.22, 620 * camera.f[0] / joints[0, 2])
    scale = side_px / (2 * half)
    M = np.array(
        [
            [scale, 0, side_px / 2 - scale * middle[0] - 0.5],
            [0, scale, side_px / 2 - scale * middle[1] - 0.5],
        ]
    )
    finer = cv2.GaussianBlur(rgb, (0, 0), max(0.3, 0.35 / scale)) if scale < 0.9 else rgb
    return cv2.warpAffine(
        finer, M, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
