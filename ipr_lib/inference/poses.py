"""Poses from pictures and videos of one's own. Taught in notebooks/12_your_own_pictures.ipynb.

Nothing here knows the truth: the box is a detector's, a given one or the whole picture, the
focal length is EXIF's or assumed, and the size of the person is that of an average body.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data.datasets import crop_to_camera
from ..files import InputError
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import BOX_MM, apply_affine, crop_affine, invert_affine, warp_shrinking
from ..progress import progress
from ..run import predict_crops
from .boxes import box_from_pose, detect_people, link_people, whole_box
from .inputs import is_video, read_frames

PASSES = 2  # the first finds the person's own box, the second predicts in it
PATIENCE = 12  # frames that somebody may be away and still be the same person


@dataclass
class Poses:
    """Everybody seen, one row per person and frame.

    Attributes:
        source: (n,) name of the input.
        frame: (n,) number of the frame, 0 for a picture.
        time_s: (n,) seconds.
        person: (n,) number within the input, kept through a video.
        box: (n, 3) centre x, y, side, px.
        score: (n,) the detector's, or NaN.
        joints_rel: (n, J, 3) mm, root-relative, camera axes: x right, y down, z away.
        joints_img: (n, J, 2) px of the upright picture.
        root_cam: (n, 3) mm; its depth supposes a body of average size and the focal length.
        focal_px: (n,).
    """

    source: np.ndarray
    frame: np.ndarray
    time_s: np.ndarray
    person: np.ndarray
    box: np.ndarray
    score: np.ndarray
    joints_rel: np.ndarray
    joints_img: np.ndarray
    root_cam: np.ndarray
    focal_px: np.ndarray

    def __len__(self):
        return len(self.person)


def join_poses(parts: Sequence[Poses]) -> Poses:
    """The rows of several Poses, one part after the other."""
    no_joints = np.zeros((0, len(HUMAN36M), 3))
    empty = make_poses(
        "", 0, 0.0, np.zeros((0, 3)), np.zeros(0), no_joints, no_joints[..., :2], 1.0
    )
    parts = [empty, *parts]  # also brings the shapes where there are no parts
    columns = {}
    for name in vars(empty):
        columns[name] = np.concatenate([getattr(part, name) for part in parts])
    return Poses(**columns)


def make_poses(
    source: str,
    frame: int,
    time_s: float,
    box: np.ndarray,
    score: np.ndarray,
    joints_cam: np.ndarray,
    joints_img: np.ndarray,
    focal_px: float,
) -> Poses:
    """The Poses of one picture or frame, its people numbered from 0; see `Poses`."""
    n = len(box)
    root = joints_cam[:, HUMAN36M.root]
    return Poses(
        source=np.full(n, source, object),
        frame=np.full(n, frame),
        time_s=np.full(n, float(time_s)),
        person=np.arange(n),
        box=box,
        score=score,
        joints_rel=joints_cam - root[:, None],
        joints_img=joints_img,
        root_cam=root,
        focal_px=np.full(n, float(focal_px)),
    )


def assumed_camera(image: np.ndarray, focal_px: float) -> Camera:
    """The Camera of an uncalibrated picture: principal point in the middle, square pixels, no lens."""
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return Camera(np.eye(3), np.zeros(3), np.full(2, float(focal_px)), middle, width, height)


def predict_people(
    network: torch.nn.Module,
    cfg: Config,
    image: np.ndarray,
    box: np.ndarray,
    focal_px: float,
    passes: int = PASSES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses of the people in given boxes of a picture.

    Each pass after the first cuts the crops anew, with boxes that follow from the poses before it.
    The depth of the root follows from the box, because its side is what 2 m cover at that depth.

    Args:
        network: in eval mode.
        cfg: its Config.
        image: (H, W, 3) uint8 RGB.
        box: (P, 3) centre x, y, side, px.
        focal_px: focal length, px.
        passes: 1 takes the boxes as they are.

    Returns:
        joints_cam (P, J, 3) mm; joints_img (P, J, 2) px; the boxes of the last pass (P, 3).
    """
    box = np.asarray(box, float).reshape(-1, 3)
    if len(box) == 0:
        return np.zeros((0, len(HUMAN36M), 3)), np.zeros((0, len(HUMAN36M), 2)), box
    for number in range(passes):
        affine = crop_affine(box, cfg.crop_px)
        crops = np.stack([warp_shrinking(image, matrix, cfg.crop_px) for matrix in affine])
        joints = predict_crops(network, torch.from_numpy(crops), cfg)
        joints_img = apply_affine(invert_affine(affine), joints[..., :2].astype(float))
        if number < passes - 1:
            box = box_from_pose(joints, joints_img, box, cfg.crop_px)
    root_depth = BOX_MM * focal_px / box[:, 2]
    joints_cam = crop_to_camera(joints, affine, assumed_camera(image, focal_px), root_depth)
    return joints_cam, joints_img, box


def find_boxes(
    image: np.ndarray, box: np.ndarray | None = None, detector: torch.nn.Module | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Boxes of a picture: the given one, else the detector's, else the whole picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (P, 3), or None.
        detector: see `boxes.load_detector`, or None.

    Returns:
        boxes (P, 3); scores (P,), NaN without a detector; a phrase that says which.
    """
    if box is not None:
        return box, np.full(len(box), np.nan), "box as given"
    if detector is not None:
        boxes, scores = detect_people(detector, image)
        return boxes, scores, "boxes by the detector"
    height, width = image.shape[:2]
    return whole_box(width, height), np.full(1, np.nan), "whole picture as box"


def predict_file(
    network: torch.nn.Module,
    cfg: Config,
    path: str | Path,
    box: np.ndarray | None = None,
    detector: torch.nn.Module | None = None,
    focal_px: float | None = None,
    every: int = 1,
    smooth: bool = False,
    passes: int = PASSES,
) -> tuple[Poses, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Poses of everybody in a picture or a video, each person with one number through time.

    Args:
        network, cfg: network in eval mode, and its Config.
        path: the file.
        box, detector: see `find_boxes`.
        focal_px: px, or None to take a picture's EXIF or to assume one.
        every: take every so many frames.
        smooth: filter each person's path by `one_euro`.
        passes: see `predict_people`.

    Returns:
        Poses; the numbers and the times of all frames that were read, (F,) and (F,) s, of a picture
        0 and 0; phrases about what was done and assumed.

    Raises:
        InputError: the file is not usable.
    """
    parts, frames, times, phrases = [], [], [], ()
    latest_box = np.zeros((0, 3))  # of everybody so far
    last_seen = np.zeros(0, int)  # the same for the frame, counted among those that are read
    bar = progress(
        read_frames(path, every, focal_px),
        desc=f"predicting {Path(path).name}",
        unit="frame",
        leave=False,
        show=is_video(path),
    )
    for number, time_s, image in bar:
        pixels, focal = image.pixels, image.focal_px
        boxes, scores, how = find_boxes(pixels, box, detector)
        joints_cam, joints_img, boxes = predict_people(network, cfg, pixels, boxes, focal, passes)
        part = make_poses(str(path), number, time_s, boxes, scores, joints_cam, joints_img, focal)
        around = np.flatnonzero(last_seen >= len(frames) - PATIENCE)
        for row, partner in enumerate(link_people(latest_box[around], boxes)):
            if partner >= 0:
                part.person[row] = around[partner]
            else:  # somebody new
                part.person[row] = len(latest_box)
                latest_box = np.vstack([latest_box, boxes[row]])
                last_seen = np.append(last_seen, 0)
        latest_box[part.person] = boxes
        last_seen[part.person] = len(frames)
        parts.append(part)
        frames.append(number)
        times.append(time_s)
        phrases = (how, *image.notes)
    poses = join_poses(parts)
    if smooth:
        poses = smooth_poses(poses)
    return poses, np.array(frames), np.array(times), phrases


def timeline(poses: Poses, frames: np.ndarray) -> np.ndarray:
    """Poses as a dense array for the skeleton view.

    Args:
        poses: Poses of one input.
        frames: (F,) numbers of its frames, rising.

    Returns:
        (people, F, J, 3) mm, camera axes, NaN where somebody is absent. One person is
        root-relative. Several people stand around their common middle, each at the median of his or
        her own places.
    """
    people = np.unique(poses.person)
    joints = np.full((len(people), len(frames), len(HUMAN36M), 3), np.nan)
    if len(people) == 0:
        return joints
    places = [np.median(poses.root_cam[poses.person == person], axis=0) for person in people]
    middle = np.mean(places, axis=0)
    columns = np.searchsorted(frames, poses.frame)
    for number, person in enumerate(people):
        rows = poses.person == person
        joints[number, columns[rows]] = poses.joints_rel[rows] + places[number] - middle
    return joints


# --- smoothing ---


def smooth_poses(poses: Poses) -> Poses:
    """Filter the path of each person of a video by `one_euro`.

    Places in the picture are filtered as mm at the person's distance, so that one setting serves
    near and far.

    Args:
        poses: of one video; they stay as they are.

    Returns:
        Poses of the same rows.
    """
    smooth = copy.deepcopy(poses)
    for person in np.unique(poses.person):
        rows = np.flatnonzero(poses.person == person)
        times = poses.time_s[rows]
        mm_per_px = BOX_MM / np.median(poses.box[rows, 2])
        smooth.joints_rel[rows] = one_euro(poses.joints_rel[rows], times)
        smooth.joints_img[rows] = one_euro(poses.joints_img[rows] * mm_per_px, times) / mm_per_px
        smooth.root_cam[rows] = one_euro(poses.root_cam[rows], times)
    return smooth


def one_euro(
    values: np.ndarray,
    times: np.ndarray,
    min_cutoff: float = 1.0,
    beta: float = 0.01,
    speed_cutoff: float = 1.0,
) -> np.ndarray:
    """The One-Euro filter: steady where things stand still, quick where they move.

    A low-pass of cutoff c keeps the fraction 1 / (1 + 2 pi c dt) of the old value. Here c =
    min_cutoff + beta * |speed|, of each number by itself; the speed is low-passed, too, at
    speed_cutoff. A value depends only on what came before it.
    Source: Casiez, Roussel, Vogel. 1€ Filter. CHI 2012.

    Args:
        values: (F, ...), any unit, for example mm; NaN where nothing was seen. The filter starts
            anew after such a gap.
        times: (F,) seconds, rising.
        min_cutoff: Hz; smaller is smoother at rest.
        beta: Hz per unit of speed (values' unit per second); larger lags less in motion.
        speed_cutoff: Hz.

    Returns:
        (F, ...) float64.

    Raises:
        InputError: the times do not rise, or are not as many as the values.
    """
    values, times = np.asarray(values, float), np.asarray(times, float)
    if times.shape != values.shape[:1]:
        raise InputError(
            f"times: expected one for each of {len(values)} frames, got an array of shape {times.shape}"
        )
    steps = np.diff(times)
    if not (steps > 0).all():
        first = int(np.argmin(steps > 0)) + 1
        raise InputError(f"times: expected rising seconds, but number {first} does not rise")
    smooth = values.copy()
    speed = np.zeros(values.shape[1:])
    for i in range(1, len(values)):
        dt = steps[i - 1]
        known = np.isfinite(smooth[i - 1])
        rate = np.where(known, (values[i] - smooth[i - 1]) / dt, 0.0)
        speed = np.where(known, _low_pass(speed, rate, speed_cutoff, dt), 0.0)
        cutoff = min_cutoff + beta * np.abs(speed)
        smooth[i] = np.where(known, _low_pass(smooth[i - 1], values[i], cutoff, dt), values[i])
        speed = np.where(np.isfinite(speed), speed, 0.0)
    return smooth


def _low_pass(old, new, cutoff, dt):
    """First-order low-pass: the old value keeps the fraction 1 / (1 + 2 pi cutoff dt)."""
    kept = 1 / (1 + 2 * np.pi * cutoff * dt)
    return kept * old + (1 - kept) * new
