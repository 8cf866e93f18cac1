"""Poses from pictures and videos of one's own. Taught in notebooks/12_your_own_pictures.ipynb.

Nothing here knows the truth: the box is a detector's, a given one or the whole picture, the
focal length is EXIF's or assumed, and the size of the person is that of an average body.

A box is (centre x, centre y, side) in px: the square that a cube of 2 m around the pelvis covers.
"""

import concurrent.futures
import copy
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert
from torchvision.transforms.functional import to_tensor

from ..config import Config
from ..data.datasets import crop_to_camera
from ..files import InputError
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, bone_lengths
from ..geometry.transforms import (
    BOX_MM,
    apply_affine,
    crop_affine,
    invert_affine,
    square_boxes,
    warp_shrinking,
)
from ..progress import progress
from ..run import predict_crops
from .inputs import is_video, read_frames

PASSES = 2  # the first finds the person's own box, the second predicts in it
PATIENCE = 12  # frames that somebody may be away and still be the same person
DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"
MIN_SCORE = 0.7
PERSON = 1  # COCO's label
DETECTOR_SCALE = 1.2  # the cube's 2 m over the extent of somebody upright with arms somewhat raised
# Sum of the 17 limbs of a grown-up, mm: the mean of the five actors that the capture trains on.
BODY_MM = 4220.0
PATIENCE_S = 20  # seconds for the weights' host to answer, because a person waits
DOWNLOAD_S = 600  # seconds for all of the 78 MB to arrive
NEAR = 0.5  # sides between the centres of two boxes of neighbouring frames that belong together


# --- where people are ---


def load_detector(device: torch.device | str = "cpu") -> tuple[torch.nn.Module | None, str]:
    """torchvision's person detector, if its COCO weights are here or can be fetched.

    Args:
        device: where it runs.

    Returns:
        the detector in eval mode, or None; a line that says which, and where to put the weights if
        there is none.
    """
    weights = torchvision.models.get_model_weights(DETECTOR).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    try:
        if not path.exists():  # torch's own download waits for its host without a limit
            in_time(PATIENCE_S, lambda: urllib.request.urlopen(weights.url).close())
        detector = in_time(
            DOWNLOAD_S,
            lambda: torchvision.models.get_model(
                DETECTOR, weights=weights, weights_backbone=None, progress=False
            ),
        )
    except Exception as error:  # torch and urllib raise a dozen kinds where there is no network
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        reason = reason.splitlines()[0]
        advice = f"put {weights.url} into {path.parent}, or name the box with --box"
        return None, f"no person detector ({reason}): {advice}"
    return detector.to(device).eval(), f"person boxes by torchvision's {DETECTOR}"


def in_time(seconds: float, call: Callable):
    """Wait for a call that cannot be stopped, but not for longer than `seconds`.

    After that, the call goes on in a thread of its own.

    Args:
        seconds: to wait at most.
        call: function without arguments.

    Returns:
        what the call returns; what it raises is raised.

    Raises:
        TimeoutError: it was not done in time.
    """
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # daemon: the program may end before it
    _, late = concurrent.futures.wait([future], timeout=seconds)
    if late:
        raise TimeoutError(f"no answer within {seconds} s")
    return future.result()


@torch.no_grad()
def detect_people(
    detector: torch.nn.Module, image: np.ndarray, min_score: float = MIN_SCORE
) -> tuple[np.ndarray, np.ndarray]:
    """Find people.

    Args:
        detector: see `load_detector`.
        image: (H, W, 3) uint8 RGB.
        min_score: of the detections to keep, 0 … 1.

    Returns:
        boxes (n, 3), scores (n,); the largest person first.
    """
    pixels = to_tensor(image).to(next(detector.parameters()).device)  # (3, H, W), 0 … 1
    (found,) = detector([pixels])
    keep = (found["labels"] == PERSON) & (found["scores"] >= min_score)
    scores = found["scores"][keep].cpu().numpy().astype(float)
    tight = box_convert(found["boxes"][keep], "xyxy", "xywh")
    boxes = square_boxes(tight.cpu().numpy(), DETECTOR_SCALE)
    order = np.argsort(-boxes[:, 2], kind="stable")
    return boxes[order], scores[order]


def whole_box(width: int, height: int) -> np.ndarray:
    """The box that holds the whole picture; px -> (1, 3)."""
    return np.array([[(width - 1) / 2, (height - 1) / 2, max(width, height)]], float)


def parse_box(text: str) -> np.ndarray:
    """ "X,Y,WIDTH,HEIGHT" in px, tightly round a person -> box (1, 3); InputError if it is not."""
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError as error:
        raise InputError(
            f"box {text!r}: expected four numbers X,Y,WIDTH,HEIGHT in px, such as 120,40,200,460"
        ) from error
    if not (np.isfinite([x, y]).all() and 0 < width < np.inf and 0 < height < np.inf):
        raise InputError(f"box {text!r}: expected finite numbers, width and height above 0")
    return square_boxes([[x, y, width, height]], DETECTOR_SCALE)


def box_from_pose(
    joints: np.ndarray, joints_img: np.ndarray, box: np.ndarray, crop_px: int
) -> np.ndarray:
    """A better box, from the pose that the network found in this one.

    The network is trained on cubes of 2 m. If the limbs that it found are longer than a body's,
    then the box was smaller than the cube, and the other way round.

    Args:
        joints: (P, J, 3) x, y in crop px, z in mm, as the network gives them.
        joints_img: (P, J, 2) the same in px of the picture.
        box: (P, 3) that the crops were cut with.
        crop_px: side of the crops, px.

    Returns:
        (P, 3): centred on the pelvis, its side changed by at most a factor of two.
    """
    in_cube = np.array(joints, float)  # mm, if the box is right
    in_cube[..., :2] *= BOX_MM / crop_px
    body = bone_lengths(in_cube, HUMAN36M).sum(-1)
    side = box[:, 2] * np.clip(body / BODY_MM, 0.5, 2.0)
    return np.concatenate([joints_img[:, HUMAN36M.root], side[:, None]], axis=1)


def link_people(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Tell who is who between two frames: nearest boxes belong together.

    Args:
        before: (m, 3) boxes.
        now: (n, 3) boxes.

    Returns:
        (n,) int: row of `before`, or -1 for somebody new.
    """
    before, now = np.reshape(before, (-1, 3)), np.reshape(now, (-1, 3))
    distance = np.linalg.norm(now[:, None, :2] - before[None, :, :2], axis=-1)  # (n, m), px
    in_sides = distance / np.maximum(before[:, 2], 1e-9)
    partner = np.full(len(now), -1)
    # Beyond 2 NEAR all distances count alike, so that nobody far away decides about those near.
    rows, columns = linear_sum_assignment(np.minimum(in_sides, 2 * NEAR))
    for row, column in zip(rows, columns):
        if in_sides[row, column] < NEAR:
            partner[row] = column
    return partner


# --- poses ---


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
        detector: see `load_detector`, or None.

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
