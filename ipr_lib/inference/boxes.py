"""Where people are in an image: a detector's boxes, a given one, the whole image, or the pose's own.

A box is (centre x, centre y, side) in px: the square that a cube of 2 m around the pelvis covers.
Taught in notebooks/12_your_own_pictures.ipynb.
"""

import concurrent.futures
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert
from torchvision.transforms.functional import to_tensor

from ..files import InputError
from ..geometry.skeleton import HUMAN36M, bone_lengths
from ..geometry.transforms import BOX_MM, square_boxes

DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"
MIN_SCORE = 0.7
PERSON = 1  # COCO's label
DETECTOR_SCALE = 1.2  # the cube's 2 m over the extent of somebody upright with arms somewhat raised
# Sum of the 17 limbs of a grown-up, mm: the mean of the five actors that the capture trains on.
BODY_MM = 4220.0
PATIENCE_S = 20  # seconds for the weights' host to answer, because a person waits
DOWNLOAD_S = 600  # seconds for all of the 78 MB to arrive
NEAR = 0.5  # sides between the centres of two boxes of neighbouring frames that belong together


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
