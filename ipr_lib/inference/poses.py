"""Poses from pictures and videos of one's own. Taught in notebooks/12_your_own_pictures.ipynb.

Nothing here knows the truth: the box is a detector's, a given one or the whole picture, the
focal length is EXIF's or assumed, and the size of the person is that of an average body.

A box is (centre x, centre y, side) in px: the square that a cube of 2 m around the pelvis covers.
"""

import copy
import csv
import math
import socket
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import torchvision
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert
from torchvision.transforms.functional import to_tensor

from ..data.datasets import crop_to_camera
from ..files import InputError
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, bone_lengths
from ..geometry.transforms import BOX_MM, apply_affine, invert_affine, square_boxes
from ..progress import progress
from .inputs import is_video, read_frames
from .networks import Network

PASSES = 2  # the first finds the person's own box, the second predicts in it
PATIENCE = 12  # frames that somebody may be away and still be the same person
DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"
MIN_SCORE = 0.7
PERSON = 1  # COCO's label
DETECTOR_SCALE = 1.2  # the cube's 2 m over the extent of somebody upright with arms somewhat raised
# Sum of the 17 limbs of a grown-up, mm: the mean of the five actors that the capture trains on.
BODY_MM = 4220.0
PATIENCE_S = 20  # seconds for the weights' host to answer, because a person waits
BATCH = 16  # people that share a forward pass; more make it no faster on two cores
BOX_COLUMNS = ("file", "person", "x", "y", "w", "h")  # of a table of given boxes
NEAR = 0.5  # sides between the centres of two boxes of neighbouring frames that belong together


# --- where people are ---


def load_detector(device: torch.device | str = "cpu") -> torch.nn.Module:
    """torchvision's person detector, if its COCO weights are here or can be fetched.

    Args:
        device: where it runs.

    Returns:
        the detector in eval mode.

    Raises:
        InputError: there are no weights; the message says where to get them and where they go.
    """
    weights = torchvision.models.get_model_weights(DETECTOR).DEFAULT
    usual_patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)  # torch's own download waits for its host without a limit
    try:
        detector = torchvision.models.get_model(
            DETECTOR, weights=weights, weights_backbone=None, progress=False
        )
    except Exception as error:  # torch and urllib raise a dozen kinds where there is no network
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise InputError(
            f"no person detector ({reason.splitlines()[0]}): get {weights.url} and put it into "
            f"{torch.hub.get_dir()}/checkpoints, or say where people are: a box (--box), or the whole "
            "picture (--whole), which suits one person who stands upright and fills most of its height"
        ) from error
    finally:
        socket.setdefaulttimeout(usual_patience)
    return detector.to(device).eval()


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
    return square_boxes([_tight_box(text.split(","), f"box {text!r}")], DETECTOR_SCALE)


def read_boxes(path: str | Path) -> dict[Path, tuple[np.ndarray, np.ndarray]]:
    """Boxes of many pictures or videos, from a .csv table.

    Its columns are file, person, x, y, w, h: the file's path as seen from the table's folder, a
    number of the person, and the top left corner, width and height of a tight box, px of the
    upright picture.

    Args:
        path: the table.

    Returns:
        for each file: numbers of its people (P,) int, boxes (P, 3).

    Raises:
        InputError: the table is missing, or a line of it is not such a box.
    """
    tables = {}
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restval="", skipinitialspace=True)
            if not set(BOX_COLUMNS) <= set(reader.fieldnames or ()):
                raise InputError(f"{path}: expected a first line {','.join(BOX_COLUMNS)}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if not row["person"].isdecimal():
                    raise InputError(f"{where}: expected the person's number, 0 or more")
                people = tables.setdefault((Path(path).parent / row["file"]).resolve(), {})
                number = int(row["person"])
                if number in people:
                    raise InputError(f"{where}: person {number} of this file stands here twice")
                people[number] = _tight_box([row[name] for name in "xywh"], where)
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: this table cannot be read ({error})") from error
    if not tables:
        raise InputError(f"{path}: this table holds no box")
    boxes = {}
    for picture, people in tables.items():
        numbers = np.array(list(people))
        boxes[picture] = numbers, square_boxes(list(people.values()), DETECTOR_SCALE)
    return boxes


def _tight_box(texts, where):
    """x, y, width and height as numbers; InputError about `where` if they are not."""
    try:
        x, y, width, height = map(float, texts)
        is_usable = np.isfinite([x, y, width, height]).all() and min(width, height) > 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputError(
            f"{where}: expected four finite numbers X,Y,WIDTH,HEIGHT in px, such as 120,40,200,460, "
            "width and height above 0"
        )
    return [x, y, width, height]


def _check_boxes(name, pixels, box):
    """InputError where the middle of a given box lies outside of the picture."""
    height, width = pixels.shape[:2]
    for x, y, _ in box:
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise InputError(
                f"{name}: a box with its middle at ({x:.0f}, {y:.0f}) lies outside of this picture of "
                f"{width} x {height} px; give the top left corner, width and height, px of the "
                "upright picture"
            )


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
        spread_mm: (n, J) how far each joint's map spreads, mm, see `networks.spread_mm`; NaN where
            the network has no maps. It is no confidence.
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
    spread_mm: np.ndarray

    def __len__(self):
        return len(self.person)

    def __array__(self, dtype=None, copy=None):
        """The `timeline` of its one input, which is what `views.SkeletonView` draws."""
        sources = np.unique(self.source.astype(str))
        if len(sources) > 1:
            raise InputError(f"poses of {len(sources)} inputs: expected those of one, to show them")
        return np.asarray(timeline(self, np.unique(self.frame)), dtype)


# Of the columns that have more than one number a row.
SHAPES = {
    "box": (3,),
    "joints_rel": (len(HUMAN36M), 3),
    "joints_img": (len(HUMAN36M), 2),
    "root_cam": (3,),
    "spread_mm": (len(HUMAN36M),),
}


def join_poses(parts: Sequence[Poses]) -> Poses:
    """The rows of several Poses, one part after the other."""
    columns = {}
    for column in fields(Poses):
        arrays = [getattr(part, column.name) for part in parts]
        nothing = np.zeros((0, *SHAPES.get(column.name, ())))
        columns[column.name] = np.concatenate(arrays) if parts else nothing
    return Poses(**columns)


def assumed_cameras(images: Sequence[np.ndarray], focal_px: np.ndarray) -> Camera:
    """The cameras of uncalibrated pictures: principal point in the middle, square pixels, no lens.

    Args:
        images: P pictures (H, W, 3).
        focal_px: (P,) focal lengths, px.

    Returns:
        Camera with leading axes (P, 1); its width and height are those of the first picture.
    """
    sizes = np.array([image.shape[1::-1] for image in images], float)  # (P, 2) width, height
    focal = np.repeat(np.asarray(focal_px, float)[:, None, None], 2, axis=2)  # (P, 1, 2)
    width, height = sizes[0].astype(int).tolist()
    return Camera(np.eye(3), np.zeros(3), focal, (sizes[:, None] - 1) / 2, width, height)


def predict_people(
    network: Network,
    images: Sequence[np.ndarray],
    box: np.ndarray,
    focal_px: np.ndarray,
    passes: int = PASSES,
    flip_test: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Poses of people in given boxes, one row a person, whether in one picture or in many.

    Each pass after the first cuts the crops anew, with boxes that follow from the poses before it.
    The depth of the root follows from the box, because its side is what 2 m cover at that depth.

    Args:
        network: see `networks.load_network`.
        images: P pictures (H, W, 3) uint8 RGB: each person's; one picture may stand several times.
        box: (P, 3) centre x, y, side, px.
        focal_px: (P,) focal length of each person's picture, px.
        passes: 1 takes the boxes as they are.
        flip_test: average with what the network sees in the mirrored crops.

    Returns:
        joints_cam (P, J, 3) mm; joints_img (P, J, 2) px; the boxes of the last pass (P, 3);
        spread_mm (P, J), see `Poses`.
    """
    box = np.asarray(box, float)
    for number in range(passes):
        affine = network.crop_affine(box)
        joints, spread = _read_joints(network, images, affine, flip_test)
        joints_img = apply_affine(invert_affine(affine), joints[..., :2].astype(float))
        if number < passes - 1:
            box = box_from_pose(joints, joints_img, box, network.crop_px)
    root_depth = BOX_MM * np.asarray(focal_px, float) / box[:, 2]
    joints_cam = crop_to_camera(joints, affine, assumed_cameras(images, focal_px), root_depth)
    return joints_cam, joints_img, box, spread


def _read_joints(network, images, affine, flip_test):
    """Joints (P, J, 3) and spreads (P, J) in crops of P people; a batch of crops goes to the device in one piece."""
    device = next(network.model.parameters()).device
    joints, spreads = [], []
    with ThreadPoolExecutor() as cutters:  # Pillow and OpenCV let threads cut side by side
        for start in range(0, len(affine), BATCH):
            people = slice(start, start + BATCH)
            crops = list(cutters.map(network.cut, images[people], affine[people]))
            batch = torch.from_numpy(np.stack(crops)).to(device)  # (B, S, S, 3) uint8
            some_joints, some_spreads = network.joints(batch, flip_test)
            joints.append(some_joints)
            spreads.append(some_spreads)
    return np.concatenate(joints), np.concatenate(spreads)


def find_boxes(
    image: np.ndarray,
    box: np.ndarray | None = None,
    whole: bool = False,
    detector: torch.nn.Module | None = None,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Boxes of a picture: the given one, else the whole picture if it is to serve, else the detector's.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (P, 3), or None.
        whole: take the whole picture.
        detector: see `load_detector`.

    Returns:
        boxes (P, 3); scores (P,), NaN without a detector; a phrase that says which.

    Raises:
        InputError: none of the three is given.
    """
    if box is not None:
        return box, np.full(len(box), np.nan), "box as given"
    if whole:
        height, width = image.shape[:2]
        return whole_box(width, height), np.full(1, np.nan), "whole picture as box"
    if detector is None:
        raise InputError("nobody says where people are: give a box, whole=True or a detector")
    boxes, scores = detect_people(detector, image)
    return boxes, scores, "boxes by the detector"


@dataclass
class Prediction:
    """What was found in one input.

    Attributes:
        source: the input, as it was given.
        poses: Poses of everybody in it, each person with one number through time.
        frames: numbers of the frames that were read; of a picture 0.
        times: of these frames, s; of a picture 0.
        notes: phrases about what was done and assumed.
        pixels: (H, W, 3) uint8 RGB of a picture; None for a video.
        problem: why the input is not usable, or not all of it, or None.
    """

    source: Path | np.ndarray
    poses: Poses | None = None
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    pixels: np.ndarray | None = None
    problem: InputError | None = None


def predict(
    network: Network,
    picture: str | Path | np.ndarray,
    box: np.ndarray | None = None,
    whole: bool = False,
    detector: torch.nn.Module | None = None,
    **choices,
) -> Poses:
    """Poses of everybody in a picture or a video; `views.SkeletonView` shows them.

    Args:
        network: see `networks.load_network`.
        picture: a file, or pixels (H, W, 3) uint8 RGB.
        box, whole, detector: see `find_boxes`; where none is given, torchvision's detector is loaded.
        choices: see `predict_inputs`.

    Returns:
        Poses.

    Raises:
        InputError: the file is not usable, or there is no detector.
    """
    if box is None and not whole and detector is None:
        detector = load_detector(next(network.model.parameters()).device)
    inputs = predict_inputs(network, [picture], box, whole, detector, **choices)
    (prediction,) = inputs
    if prediction.poses is None:
        raise prediction.problem
    if prediction.problem is not None:
        warnings.warn(str(prediction.problem), stacklevel=2)
    return prediction.poses


def predict_inputs(
    network: Network,
    pictures: Sequence[str | Path | np.ndarray],
    box: np.ndarray | dict | None = None,
    whole: bool = False,
    detector: torch.nn.Module | None = None,
    focal_px: float | None = None,
    every: int = 1,
    smooth: bool = False,
    passes: int = PASSES,
    flip_test: bool = False,
    start: float = 0.0,
    end: float = math.inf,
    person: int | None = None,
) -> Iterator[Prediction]:
    """Poses of everybody in pictures and videos; people of several frames share a forward pass.

    Args:
        network: see `networks.load_network`.
        pictures: files, or pixels (H, W, 3) uint8 RGB.
        box: boxes for every input, (P, 3); or those of each file, see `read_boxes`.
        whole, detector: see `find_boxes`.
        focal_px: px, or None to take a picture's EXIF or to assume one.
        every: of videos, take every so many frames.
        smooth: filter each person's path by `one_euro`.
        passes, flip_test: see `predict_people`.
        start, end: of videos, take frames with start <= time < end, s.
        person: keep the person of this number alone.

    Yields:
        Prediction of each input, in order; one that is not usable brings its problem along. Of a
        video that is cut or damaged, what could be read is predicted.
    """
    for picture in pictures:
        prediction = Prediction(picture)
        waiting, parts = [], []
        people = _find_people(prediction, box, whole, detector, focal_px, every, start, end)
        for someone in people:
            waiting.append(someone)
            if len(waiting) == BATCH:
                parts.append(_predict_rows(network, waiting, passes, flip_test))
                waiting = []
        if waiting:
            parts.append(_predict_rows(network, waiting, passes, flip_test))
        if prediction.frames:
            poses = join_poses(parts)
            if box is None:
                _number_people(poses, prediction.frames)
            kept = poses if person is None else rows_of(poses, poses.person == person)
            if len(poses) > 0 and len(kept) == 0:
                numbers = ", ".join(map(str, np.unique(poses.person)))
                prediction.problem = InputError(
                    f"{poses.source[0]}: no person {person}; there are {numbers}"
                )
            else:
                prediction.poses = smooth_poses(kept) if smooth else kept
        yield prediction


def _find_people(prediction, box, whole, detector, focal_px, every, start, end):
    """Everybody in each frame of an input, with a progress bar for a video.

    Args:
        prediction: Prediction of the input. All but its poses is filled in; a problem ends the frames.
        others: see `predict_inputs`.

    Yields:
        name of the input, number of the frame, time (s), pixels, focal length (px), box (3,), score,
        number of the person, -1 where nobody has given it.
    """
    picture = prediction.source
    name = "pixels" if isinstance(picture, np.ndarray) else str(picture)
    try:
        given = box
        if isinstance(box, dict):
            if Path(name).resolve() not in box:
                raise InputError(f"{name}: the table of boxes has no line for this file; add one")
            numbers, given = box[Path(name).resolve()]
        elif box is not None:
            numbers = np.arange(len(box))
        bar = progress(
            read_frames(picture, every, focal_px, start, end),
            desc=f"predicting {Path(name).name}",
            unit="frame",
            leave=False,
            show=is_video(name),
        )
        for number, time_s, image in bar:
            if given is not None:
                _check_boxes(name, image.pixels, given)
            boxes, scores, how = find_boxes(image.pixels, given, whole, detector)
            if given is None:
                numbers = np.full(len(boxes), -1)
            prediction.frames.append(number)
            prediction.times.append(time_s)
            prediction.notes = (how, *image.notes)
            if not is_video(name):
                prediction.pixels = image.pixels
            for row in zip(boxes, scores, numbers):
                yield name, number, time_s, image.pixels, image.focal_px, *row
    except InputError as error:
        prediction.problem = error
    except Exception as error:  # whatever one input does, the others keep their results
        kind = type(error).__name__
        prediction.problem = InputError(f"{name}: cannot be used ({kind}: {error})")


def _predict_rows(network, rows, passes, flip_test):
    """Poses of some people of one input, given as `_find_people` yields them."""
    names, frames, times, images, focal_px, boxes, scores, numbers = zip(*rows)
    joints_cam, joints_img, box, spread = predict_people(
        network, images, boxes, focal_px, passes, flip_test
    )
    root = joints_cam[:, HUMAN36M.root]
    return Poses(
        source=np.array(names, object),
        frame=np.array(frames),
        time_s=np.array(times),
        person=np.array(numbers),
        box=box,
        score=np.array(scores),
        joints_rel=joints_cam - root[:, None],
        joints_img=joints_img,
        root_cam=root,
        focal_px=np.array(focal_px),
        spread_mm=spread,
    )


def rows_of(poses: Poses, kept: np.ndarray) -> Poses:
    """The rows of Poses where `kept`, (n,) bool, is true."""
    columns = {}
    for name, column in vars(poses).items():
        columns[name] = column[kept]
    return Poses(**columns)


def _number_people(poses, frames):
    """Give each person of an input one number through its frames, in place; see `link_people`."""
    latest = {}  # the box of each number, and how many frames had been read when it was seen
    for count, frame in enumerate(frames):
        rows = np.flatnonzero(poses.frame == frame)
        around = [number for number, (_, seen) in latest.items() if count - seen <= PATIENCE]
        before = [latest[number][0] for number in around]
        for row, partner in zip(rows, link_people(before, poses.box[rows])):
            poses.person[row] = around[partner] if partner >= 0 else len(latest)
            latest[int(poses.person[row])] = poses.box[row], count


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
    people, numbers = np.unique(poses.person, return_inverse=True)
    places = np.zeros((len(people), 3))
    for number, person in enumerate(people):
        places[number] = np.median(poses.root_cam[poses.person == person], axis=0)
    middle = places.sum(axis=0) / max(len(people), 1)
    return dense(poses, frames, poses.joints_rel + (places - middle)[numbers][:, None])


def dense(poses: Poses, frames: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows of poses in their places: a person each, and a frame each.

    Args:
        poses: Poses of one input.
        frames: (F,) numbers of its frames, rising.
        values: (n, ...) of the same rows as the poses.

    Returns:
        (people, F, ...) float64, NaN where somebody is absent.
    """
    people, numbers = np.unique(poses.person, return_inverse=True)
    array = np.full((len(people), len(frames), *values.shape[1:]), np.nan)
    array[numbers, np.searchsorted(frames, poses.frame)] = values
    return array


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
    steps = np.diff(times)
    if times.shape != values.shape[:1] or not (steps > 0).all():
        raise InputError(f"times: expected {len(values)} rising seconds, one for each frame")
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
