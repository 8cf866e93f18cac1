"""Where people are in a picture: a detector's boxes, a given one, the whole picture, or the pose's own.

A box is (centre x, centre y, side) in px, the square that a cube of 2 m round the pelvis covers. Taught in
notebooks/12_your_own_pictures.ipynb.
"""

import hashlib
import queue
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import torch
import torchvision
from scipy.optimize import linear_sum_assignment

from ..files import InputError, atomic_path
from ..geometry.skeleton import HUMAN36M, bone_lengths
from ..geometry.transforms import BOX_MM, square_boxes

DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"
MIN_SCORE = 0.7
PERSON = 1  # COCO's label
DETECTOR_SCALE = 1.2  # the cube's 2 m over the extent of somebody upright with arms somewhat raised
# Sum of the 17 limbs of a grown-up's skeleton, mm: the mean of the five actors that the capture trains on.
BODY_MM = 4220.0
PATIENCE_S = 20  # for the weights' host to answer; a person waits, and most likely has no network
DOWNLOAD_S = 600  # for all of them to arrive: 78 MB, which a slow line brings in so long
NEAR = 0.5  # two boxes of neighbouring frames belong together if their centres lie within this share of a side


def load_detector(device="cpu"):
    """torchvision's person detector, if its COCO weights are here or can be fetched.

    Args:
        device: torch device.
    Returns:
        the detector in eval mode, or None; a line that says which, and where to put the weights if there is none.
    """
    weights = torchvision.models.get_model_weights(DETECTOR).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    try:
        if not path.exists():
            _fetch(weights.url, path)
        detector = torchvision.models.get_model(
            DETECTOR, weights=weights, weights_backbone=None, progress=False
        )
    except (
        Exception
    ) as error:  # no network, a broken line, a damaged file: torch and urllib raise a dozen kinds
        reason = (str(getattr(error, "reason", error)) or type(error).__name__).splitlines()[0]
        return (
            None,
            f"no person detector ({reason}): put {path.name} at {path.parent}, or name the box with --box",
        )
    return detector.to(device).eval(), f"person boxes by torchvision's {DETECTOR}"


def _fetch(url, path):
    """Download a file whose name ends in the start of its sha256, as torch's do; whole and right, or not at all.

    torch's own download has no limit, neither for looking the host's name up, which alone may take minutes, nor for all of it.
    """
    until = time.monotonic() + DOWNLOAD_S
    answer = in_time(PATIENCE_S, lambda: urllib.request.urlopen(url, timeout=PATIENCE_S))
    blocks = []
    with answer:
        while block := answer.read(1 << 20):
            blocks.append(block)
            if time.monotonic() > until:
                raise TimeoutError(f"not all of it arrived within {DOWNLOAD_S} s")
    content = b"".join(blocks)
    if not hashlib.sha256(content).hexdigest().startswith(path.stem.rpartition("-")[2]):
        raise InputError("what arrived is damaged")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def in_time(seconds, call):
    """Wait so long and no longer for a call that cannot be stopped; given up, it goes on in a thread that holds nobody up.

    Args:
        seconds: to wait at most.
        call: function without arguments.
    Returns:
        what the call returns; what it raises is raised.
    Raises:
        TimeoutError: it was not done in time.
    """
    ended = queue.SimpleQueue()

    def run():
        try:
            ended.put((call(), None))
        except Exception as error:
            ended.put((None, error))

    threading.Thread(target=run, daemon=True).start()  # daemon: the program may end before it
    try:
        result, error = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds} s") from None
    if error is not None:
        raise error
    return result


@torch.no_grad()
def detect_people(detector, picture, min_score=MIN_SCORE):
    """Find people.

    Args:
        detector: as `load_detector` gives.
        picture: (H, W, 3) uint8 RGB.
        min_score: 0 … 1.
    Returns:
        boxes (n, 3), scores (n,); the largest person first.
    """
    device = next(detector.parameters()).device
    pixels = (
        torch.from_numpy(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1).float() / 255
    )
    found = {name: tensor.cpu().numpy() for name, tensor in detector([pixels])[0].items()}
    keep = (found["labels"] == PERSON) & (found["scores"] >= min_score)
    corners, scores = found["boxes"][keep].astype(float), found["scores"][keep].astype(float)
    boxes = square_boxes(
        np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), DETECTOR_SCALE
    )
    order = np.argsort(-boxes[:, 2], kind="stable")
    return boxes[order], scores[order]


def whole_box(width, height):
    """The box that holds the whole picture; px -> (1, 3)."""
    return np.array([[(width - 1) / 2, (height - 1) / 2, max(width, height)]], float)


def parse_box(text):
    """ "X,Y,WIDTH,HEIGHT" in px, tightly round a person -> box (1, 3); InputError says what is wrong."""
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"box {text!r}: expected four numbers X,Y,WIDTH,HEIGHT in px, such as 120,40,200,460"
        ) from error
    if not (np.isfinite([x, y]).all() and 0 < width < np.inf and 0 < height < np.inf):
        raise InputError(f"box {text!r}: expected finite numbers, width and height above 0")
    return square_boxes([[x, y, width, height]], DETECTOR_SCALE)


def box_from_pose(joints, joints_img, box, crop_px):
    """The box that the network would rather have had, from what it saw in this one.

    The network is trained on cubes of 2 m. If the limbs that it found add up to more than a body's, the box was smaller
    than its cube, and the other way round.

    Args:
        joints: (P, J, 3) x, y in crop px, z in mm, as the network gives them.
        joints_img: (P, J, 2) the same in px of the picture.
        box: (P, 3) that the crops were cut with.
        crop_px: side of the crops, px.
    Returns:
        (P, 3): centred on the pelvis, its side changed by at most a factor of two.
    """
    in_cube = np.array(joints, float)
    in_cube[..., :2] *= BOX_MM / crop_px
    body = bone_lengths(in_cube, HUMAN36M).sum(-1)
    side = box[:, 2] * np.clip(body / BODY_MM, 0.5, 2.0)
    return np.concatenate([joints_img[:, HUMAN36M.root], side[:, None]], axis=1)


def link_people(before, now):
    """Tell who is who between two frames: nearest boxes belong together.

    Args:
        before: (m, 3) boxes. now: (n, 3) boxes.
    Returns:
        (n,) int: row of `before`, or -1 for somebody new.
    """
    before, now = np.reshape(before, (-1, 3)), np.reshape(now, (-1, 3))
    distance = np.linalg.norm(now[:, None, :2] - before[None, :, :2], axis=-1) / np.maximum(
        before[None, :, 2], 1e-9
    )
    partner = np.full(len(now), -1)
    for row, column in zip(*linear_sum_assignment(np.minimum(distance, 2 * NEAR))):
        if distance[row, column] < NEAR:
            partner[row] = column
    return partner
