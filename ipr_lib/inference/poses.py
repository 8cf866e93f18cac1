"""Poses from pictures and videos of one's own. Taught in notebooks/12_your_own_pictures.ipynb.

Nothing here knows the truth: the box is a detector's, a given one or the whole picture, the focal length is EXIF's or
assumed, and the size of the person is that of an average body.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.datasets import crop_to_camera
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import BOX_MM, apply_affine, crop_affine, invert_affine, warp_shrinking
from ..progress import progress
from ..run import predict_crops
from .boxes import box_from_pose, detect_people, link_people, whole_box
from .inputs import focal_length, read_frames, read_own_picture
from .smoothing import one_euro

PASSES = 2  # the first finds the person's own box, the second predicts in it
_PATIENCE = 12  # frames that somebody may be away and still be the same person


@dataclass
class Poses:
    """Everybody seen, one row a person and frame.

    Attributes:
        source: (n,) name of the input. frame: (n,) number, 0 for a picture. time_s: (n,) seconds. person: (n,) number
            within the input, kept through a video. box: (n, 3) centre x, y, side, px. score: (n,) the detector's, or NaN.
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

    def select(self, rows):
        """The Poses of some rows."""
        return Poses(**{name: values[rows] for name, values in vars(self).items()})


def join_poses(parts):
    """One Poses out of several."""
    nobody = np.zeros((0, len(HUMAN36M), 3))
    empty = _poses("", 0, 0.0, np.zeros((0, 3)), np.zeros(0), nobody, nobody[..., :2], 1.0)
    parts = [empty, *parts]
    return Poses(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(empty)}
    )


def _poses(source, frame, time_s, box, score, joints_cam, joints_img, focal_px):
    n = len(box)
    root = joints_cam[:, HUMAN36M.root]
    return Poses(
        np.full(n, source, object),
        np.full(n, frame),
        np.full(n, float(time_s)),
        np.arange(n),
        box,
        score,
        joints_cam - root[:, None],
        joints_img,
        root,
        np.full(n, float(focal_px)),
    )


def picture_camera(picture, focal_px):
    """The Camera of a picture that nobody calibrated: principal point in the middle, square pixels, no lens."""
    height, width = picture.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return Camera(np.eye(3), np.zeros(3), np.full(2, float(focal_px)), middle, width, height)


def predict_people(model, cfg, picture, box, focal_px, passes=PASSES, flip_test=False):
    """Poses of the people in given boxes of a picture.

    Each pass after the first cuts the crops anew, with the boxes that the poses before it ask for. The depth of the root
    follows from the box: its side is what 2 m cover there.

    Args:
        model: network in eval mode. cfg: its Config.
        picture: (H, W, 3) uint8 RGB.
        box: (P, 3) centre x, y, side, px.
        focal_px: focal length, px.
        passes: 1 takes the boxes as they are.
        flip_test: see `run.predict_crops`.
    Returns:
        joints_cam (P, J, 3) mm; joints_img (P, J, 2) px; the boxes of the last pass (P, 3).
    """
    box = np.asarray(box, float)
    if len(box) == 0:
        return np.zeros((0, len(HUMAN36M), 3)), np.zeros((0, len(HUMAN36M), 2)), box.reshape(0, 3)
    for left in reversed(range(passes)):
        affine = crop_affine(box, cfg.crop_px)
        crops = np.stack([warp_shrinking(picture, a, cfg.crop_px) for a in affine])
        joints = predict_crops(model, torch.from_numpy(crops), cfg, flip_test)
        joints_img = apply_affine(invert_affine(affine), joints[..., :2].astype(float))
        if left:
            box = box_from_pose(joints, joints_img, box, cfg.crop_px)
    root_depth = BOX_MM * focal_px / box[:, 2]
    joints_cam = crop_to_camera(joints, affine, picture_camera(picture, focal_px), root_depth)
    return joints_cam, joints_img, box


def find_boxes(picture, box=None, detector=None):
    """Boxes of a picture: the given one, else the detector's, else the whole picture.

    Args:
        picture: (H, W, 3) uint8 RGB. box: (P, 3) or None. detector: as `person_boxes.load_detector` gives, or None.
    Returns:
        boxes (P, 3); scores (P,), NaN where no detector spoke; a phrase that says which.
    """
    if box is not None:
        return box, np.full(len(box), np.nan), "box as given"
    if detector is None:
        return (
            whole_box(picture.shape[1], picture.shape[0]),
            np.full(1, np.nan),
            "whole picture as box",
        )
    boxes, scores = detect_people(detector, picture)
    return boxes, scores, "boxes by the detector"


def predict_picture(model, cfg, path, box=None, detector=None, focal_px=None, passes=PASSES):
    """Poses of everybody in one picture file.

    Args:
        model, cfg: network in eval mode and its Config. path: the file.
        box, detector: see `find_boxes`. focal_px: px, or None to ask EXIF or assume. passes: see `predict_people`.
    Returns:
        Poses; the pixels (H, W, 3) uint8 RGB, upright; phrases about what was done and assumed.
    Raises:
        InputError: the file is not usable.
    """
    picture = read_own_picture(path, focal_px)
    boxes, scores, how = find_boxes(picture.pixels, box, detector)
    joints_cam, joints_img, boxes = predict_people(
        model, cfg, picture.pixels, boxes, picture.focal_px, passes
    )
    poses = _poses(str(path), 0, 0.0, boxes, scores, joints_cam, joints_img, picture.focal_px)
    return poses, picture.pixels, (how, *picture.notes)


def predict_video(
    model, cfg, path, box=None, detector=None, focal_px=None, every=1, smooth=False, passes=PASSES
):
    """Poses of everybody in a video, each person with one number through time.

    Args:
        as `predict_picture`, and every: take every so many frames; smooth: filter each person's path by `one_euro`.
    Returns:
        Poses; the numbers and times of all frames looked at, (F,) and (F,) s; phrases.
    Raises:
        InputError: the file is not usable.
    """
    parts, frames, times, phrases = [], [], [], ()
    known = np.zeros((0, 3))  # the latest box of everybody so far
    last_seen = np.zeros(0, int)
    seen = progress(
        read_frames(path, every), desc=f"predicting {Path(path).name}", unit="frame", leave=False
    )
    for number, time_s, pixels in seen:
        focal, note = focal_length(pixels.shape[1], pixels.shape[0], focal_px)
        boxes, scores, how = find_boxes(pixels, box, detector)
        joints_cam, joints_img, boxes = predict_people(model, cfg, pixels, boxes, focal, passes)
        part = _poses(str(path), number, time_s, boxes, scores, joints_cam, joints_img, focal)
        around = np.flatnonzero(last_seen >= len(frames) - _PATIENCE)
        partner = link_people(known[around], boxes)
        part.person = np.array([around[p] if p >= 0 else -1 for p in partner], int)
        new = np.flatnonzero(part.person < 0)
        part.person[new] = len(known) + np.arange(len(new))
        known = np.concatenate([known, boxes[new]])
        last_seen = np.concatenate([last_seen, np.zeros(len(new), int)])
        known[part.person], last_seen[part.person] = boxes, len(frames)
        parts.append(part)
        frames.append(number)
        times.append(time_s)
        phrases = (how, note)
    poses = join_poses(parts)
    return (smooth_poses(poses) if smooth else poses), np.array(frames), np.array(times), phrases


def smooth_poses(poses):
    """Filter the path of each person of a video by `one_euro`; returns a Poses of its own.

    Places in the picture are filtered as mm at the person's distance, so that one setting serves near and far.
    """
    smooth = poses.select(np.arange(len(poses)))
    for person in np.unique(poses.person):
        rows = np.flatnonzero(poses.person == person)
        times, mm_per_px = poses.time_s[rows], BOX_MM / np.median(poses.box[rows, 2])
        smooth.joints_rel[rows] = one_euro(poses.joints_rel[rows], times)
        smooth.joints_img[rows] = one_euro(poses.joints_img[rows] * mm_per_px, times) / mm_per_px
        smooth.root_cam[rows] = one_euro(poses.root_cam[rows], times)
    return smooth


def timeline(poses, frames):
    """Poses as a dense array for the skeleton view.

    Args:
        poses: Poses of one input. frames: (F,) numbers of its frames.
    Returns:
        (people, F, J, 3) mm, camera axes, NaN where somebody is absent. One person is root-relative; several stand
        about their common middle, each at the median of its own places.
    """
    people = np.unique(poses.person)
    joints = np.full((len(people), len(frames), len(HUMAN36M), 3), np.nan)
    column = np.searchsorted(frames, poses.frame)
    places = np.array(
        [np.median(poses.root_cam[poses.person == person], axis=0) for person in people]
    ).reshape(-1, 3)
    for number, person in enumerate(people):
        rows = poses.person == person
        joints[number, column[rows]] = poses.joints_rel[rows] + places[number] - places.mean(0)
    return joints
