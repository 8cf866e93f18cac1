"""MPII and COCO: from the downloads to json and crop stores, as training mixes them with 3D.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb.
"""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.h36m_layout import refuse_capture
from ..data.images import cut_crops, exif_turn
from ..data.people import People, area_source, write_people
from ..data.store import MARGIN, CropStore, find_store, open_store, write_store
from ..files import InputError
from ..geometry import BOX_SCALE, SKELETONS, crop_affine, square_boxes
from ..parallel import parallel_map
from ..progress import progress

# Recipe of the stores that turn images by their EXIF orientation; older ones did not, and are built anew.
TURNED = {"exif": "turned"}


def check_range(name: str, value: float, low: float, high: float) -> None:
    """InputError where a number lies outside of low … high, or is not one."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; expected a number from {low} to {high}")


def check_choices(store_px: int | None = None, box_scale: float = BOX_SCALE, workers: int = 1):
    """InputError where a number of `write_splits` is out of range: said before the work begins."""
    if store_px is not None:
        check_range("store_px (--store)", store_px, 16, 2048)
    check_range("box_scale (--box-scale)", box_scale, 0.5, 4)
    check_range("workers (--workers)", workers, 1, 1024)


def write_splits(
    target: Path,
    splits: dict[str, People],
    image_folder: Path,
    skipped: Counter,
    problems: list[str],
    store_px: int | None = None,
    box_scale: float = BOX_SCALE,
    workers: int = 1,
) -> list[str]:
    """Write the json of each split and, on request, its crop store.

    A file that is there already is only replaced when nothing was damaged. A store that fits is
    kept.

    Args:
        target: folder of the prepared set; stores are called `stores/NAME-SPLIT-PX` beside it,
            after its name.
        splits: people by split.
        image_folder: folder that image names are relative to.
        skipped: reason -> number of people left out by the rules.
        problems: lines about what is damaged.
        store_px: side of the crops that training will cut, px; None builds no store.
        box_scale: side of the crop over the longer side of the person's box;
            `geometry.square_boxes` says why 1.25.
        workers: number of processes.
    Returns:
        lines that say what was done.
    Raises:
        InputError: a number is out of range, or `target` holds a capture; or something was damaged
            or could not be written, and all else is done by then.
    """
    check_choices(store_px, box_scale, workers)
    target = Path(target)
    refuse_capture(target)
    labels_damaged = len(problems) > 0
    problems = list(problems)
    lines = []
    for split, people in splits.items():
        path = target / "annotations" / f"{split}.json"
        if labels_damaged and path.exists():
            problems.append(
                f"{path} is kept as it was; mend what is listed, or delete it to write it without"
            )
            continue
        write_people(path, people)
        counted = f"{len(people)} people in {len(people.image_name)} images"
        lines.append(f"{path}: {counted}, {area_source(people)}")
        if store_px is None:
            continue
        store_path = target.parent / "stores" / f"{target.name}-{split}-{store_px}"
        origin = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        wanted = {"crop_px": store_px, "box_scale": box_scale, "origin": origin}
        try:
            store = find_store(store_path)
            if store is None or not (wanted | TURNED).items() <= store.recipe.items():
                store, damaged, turned = build_people_store(
                    people, image_folder, store_path, workers=workers, **wanted
                )
                problems += damaged
                for labelled, count in turned.items():
                    lines.append(
                        f"{count} images with an EXIF orientation: labels taken {labelled}"
                    )
            lines.append(f"{store_path}: {len(store)} crops")
        except InputError as error:
            problems.append(str(error))
    for reason, count in skipped.items():
        lines.append(f"skipped, {reason}: {count} people")
    if problems:
        raise InputError("\n".join([*lines, f"{len(problems)} problems:", *problems]))
    return lines


# ---------------------------------------------------------------- the crop store


def build_people_store(
    people: People,
    image_folder: Path,
    target: Path,
    *,
    crop_px: int,
    box_scale: float = BOX_SCALE,
    workers: int = 1,
    origin: str | None = None,
) -> tuple[CropStore, list[str], Counter]:
    """Build a crop store of people in 2D.

    Its columns are those of `CropStore`, in the joint set of `people` (recipe["skeleton"]). What 2D
    people lack is filled so that nothing later divides by zero, and marked: joints_cam is 0 and
    has_depth False; the camera is a made-up pinhole in the world's axes with a focal length of the
    image's longer side; subject, action, subaction and camera_id are 0; frame is the image's id.
    Further columns are person (n,) int64, the annotation's id, and head_box (n, 4). visible is
    False also for joints annotated outside of the image, since there is nothing to see there.

    Args:
        people: of one split.
        image_folder: folder that people.image_name is relative to.
        target: folder of the store.
        crop_px: side of the crops that training will cut, px; stored crops are `store.MARGIN` times
            as wide.
        box_scale: see `geometry.square_boxes`.
        workers: number of processes.
        origin: a mark of the very annotations, kept in the recipe.
    Returns:
        store: opened.
        problems: lines, one for each image left out because it is missing, damaged or of another
            size.
        turned: "upright" or "as the pixels lie" -> number of images with an EXIF orientation whose
            labels were taken so, see `data.images.exif_turn`.
    Raises:
        InputError: no image is usable; some are not and `target` exists already; `target` cannot be
            written.
    """
    image_folder, target = Path(image_folder), Path(target)
    stored_px = round(crop_px * MARGIN)
    box = square_boxes(people.bbox, box_scale)
    affine = crop_affine(box * [1, 1, MARGIN], stored_px)
    names = {skeleton: name for name, skeleton in SKELETONS.items()}
    recipe = {
        "source": image_folder.name,
        "skeleton": names[people.skeleton],
        "crop_px": crop_px,
        "stored_px": stored_px,
        "box_scale": box_scale,
        "origin": origin,
        **TURNED,
    }
    tasks, groups = [], []
    for row in np.unique(people.image):
        group = np.flatnonzero(people.image == row)
        path = image_folder / people.image_name[row]
        tasks.append((path, *people.image_size[row].tolist(), affine[group], stored_px))
        groups.append(group)
    problems = []
    turned = Counter()

    def items():
        results = parallel_map(_cut_people, tasks, workers)
        results = progress(results, total=len(tasks), desc="crop store", unit="image")
        for (jpegs, labelled, problem), group in zip(results, groups):
            if problem:
                problems.append(problem)
            else:
                turned.update([labelled] if labelled else [])
                yield _columns(people.select(group), box[group], affine[group]), jpegs
        if problems and target.exists():
            raise InputError(
                f"{target} is kept as it was, since {len(problems)} of {len(tasks)} images are not usable; "
                f"mend them, or delete it to build it without them. The first: {problems[0]}"
            )
        if len(problems) == len(tasks):
            raise InputError(
                f"{image_folder} holds no usable image of {len(tasks)}; the first: {problems[0]}"
            )

    write_store(target, recipe, items())
    return open_store(target), problems, turned


def _cut_people(task):
    """Cut out everybody in one image; runs in a worker.

    Returns:
        (JPEG bytes, how the labels of a turned image were taken, None), or (None, None, problem).
    """
    path, width, height, affines, stored_px = task
    try:
        jpegs = cut_crops(path, width, height, affines, stored_px)
        return jpegs, exif_turn(path, width, height)[1], None
    except InputError as error:
        return None, None, str(error)


def _columns(people, box, affine):
    """All labels of the store; rows as in `people`."""
    n, n_joints = people.visibility.shape
    size = people.image_size[people.image]
    joints = people.joints_img
    inside = ((joints > -0.5) & (joints < size[:, None] - 0.5)).all(axis=-1)
    longer_side = size.max(axis=1, keepdims=True).astype(float)
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
        "f": np.repeat(longer_side, 2, axis=1),
        "c": (size - 1) / 2,
    }
    for name in ("subject", "action", "subaction", "camera_id"):
        columns[name] = np.zeros(n, np.int16)
    return columns
