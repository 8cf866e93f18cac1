"""Crop stores of 2D-only people, as training mixes them with 3D. Taught in notebooks/03_prepare_mpii_and_coco.ipynb."""

from pathlib import Path

import cv2
import numpy as np

from ..data.images import encode_crop, read_image, shrinkage
from ..data.store import MARGIN, new_store, open_store
from ..files import InputError
from ..geometry.skeleton import SKELETONS
from ..geometry.transforms import crop_affine
from ..parallel import parallel_map
from ..progress import progress

BOX_SCALE = 1.25


def square_boxes(bbox, scale=BOX_SCALE):
    """Square crop boxes about person boxes: side = max(width, height) * scale.

    The person keeps its aspect. 1.25 is the published code's factor, for COCO's tight boxes and for MPII's, which are
    1.2 times the extent of the joints already.

    Args:
        bbox: (n, 4) x, y, width, height, px.
        scale: see above.
    Returns:
        (n, 3) centre x, centre y, side; px.
    """
    bbox = np.asarray(bbox, float)
    side = bbox[:, 2:].max(axis=1, initial=0) * scale
    return np.concatenate([bbox[:, :2] + bbox[:, 2:] / 2, side[:, None]], axis=1)


def build_people_store(
    people, pictures, target, *, crop_px, box_scale=BOX_SCALE, workers=1, origin=None
):
    """Build a crop store of people in 2D.

    Its columns are those of `CropStore`, in the joint set of `people` (recipe["skeleton"]). What 2D people lack is
    filled so that nothing downstream divides by zero, and marked: joints_cam is 0 and has_depth False; the camera is a
    made-up pinhole in the world's axes with a focal length of the picture's longer side; subject, action, subaction
    and camera_id are 0; frame is the picture's id. Further columns: person (n,) int64, the annotation's id; head_box (n, 4).
    visible is False also for joints annotated outside the picture: there is nothing to see there.

    Args:
        people: People.
        pictures: folder that people.image_name is relative to.
        target: folder of the store.
        crop_px: side of the crops that training will cut, px; stored crops are `store.MARGIN` times as wide.
        box_scale: see `square_boxes`.
        workers: number of processes.
        origin: a mark of the very annotations, kept in the recipe.
    Returns:
        store: CropStore, opened.
        problems: list of lines, one a picture left out because it is missing, damaged or of another size.
    Raises:
        InputError: no picture is usable; some are not and `target` exists already; `target` cannot be written.
    """
    stored_px = round(crop_px * MARGIN)
    box = square_boxes(people.bbox, box_scale)
    affine = crop_affine(box * [1, 1, MARGIN], stored_px)
    order = np.argsort(people.image, kind="stable")
    rows, starts = np.unique(people.image[order], return_index=True)
    groups = np.split(order, starts[1:])
    tasks = []
    for row, group in zip(rows, groups):
        path = Path(pictures) / people.image_name[row]
        width, height = people.image_size[row].tolist()
        tasks.append((path, width, height, affine[group], stored_px))
    names = {skeleton: name for name, skeleton in SKELETONS.items()}
    recipe = {
        "source": Path(pictures).name,
        "skeleton": names[people.skeleton],
        "crop_px": crop_px,
        "stored_px": stored_px,
        "box_scale": box_scale,
        "origin": origin,
    }
    problems = []
    packed = parallel_map(_pack_people, tasks, workers)
    results = progress(packed, total=len(tasks), desc="crop store", unit="picture")
    with new_store(target, recipe) as writer:
        for result, group in zip(results, groups):  # results first, so that their bar ends, too
            if isinstance(result, str):
                problems.append(result)
            else:
                writer.add(_columns(people.select(group), box[group], affine[group]), result)
        if problems and Path(target).exists():
            raise InputError(
                f"{target} is kept as it was, since {len(problems)} of {len(tasks)} pictures are not usable; mend them, "
                f"or delete it to build it without them. The first: {problems[0]}"
            )
        if len(problems) == len(tasks):
            raise InputError(
                f"{pictures} holds no usable picture of {len(tasks)}; the first: {problems[0]}"
            )
    return open_store(target), problems


def _columns(people, box, affine):
    """All labels of the store; rows as in `people`."""
    n, n_joints = people.visibility.shape
    size = people.image_size[people.image]
    joints = people.joints_img
    inside = ((joints > -0.5) & (joints < size[:, None] - 0.5)).all(-1)
    columns = {
        "joints_cam": np.zeros((n, n_joints, 3), np.float32),
        "joints_img": joints.astype(np.float32),
        "visible": (people.visibility > 0) & inside,
        "has_depth": np.zeros(n, bool),
        "box": box,
        "affine": affine,
        "frame": people.image_id[people.image],
        "person": people.person_id,
        "head_box": people.head_box,
        "picture_size": size.astype(np.int32),
        "R": np.tile(np.eye(3), (n, 1, 1)),
        "T": np.zeros((n, 3)),
        "f": np.repeat(size.max(axis=1, keepdims=True), 2, axis=1).astype(float),
        "c": (size - 1) / 2,
    }
    for name in ("subject", "action", "subaction", "camera_id"):
        columns[name] = np.zeros(n, np.int16)
    return columns


def _pack_people(task):
    """Crops of everybody in one image, as JPEG bytes, or the line that says why not; runs in a worker."""
    path, width, height, affines, stored_px = task
    cv2.setNumThreads(1)
    try:
        image, to_whole = read_image(path, width, height, shrinkage(affines).min())
    except InputError as error:
        return str(error)
    return [encode_crop(image, affine, stored_px, to_whole) for affine in affines]
