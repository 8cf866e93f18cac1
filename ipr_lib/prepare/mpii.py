"""MPII Human Pose: its MATLAB annotations and images -> people to train on.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.h36m_layout import load_mat
from ..data.images import image_size
from ..data.people import People, as_people, check_place, checked_image
from ..files import InputError, writing
from ..geometry import MPII
from ..progress import progress
from .people import check_choices, write_splits

ANNOTATIONS = "mpii_human_pose_v1_u12_1.mat"
# Where MPII's owners keep the files.
URL = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr"
BOX_GROWTH = 1.2


def prepare_mpii(
    source: Path,
    target: Path,
    validation_list: Path | None = None,
    published: bool = False,
    **store_choices,
) -> list[str]:
    """Write `annotations/train.json` (and `validation.json`) of MPII.

    Args:
        source: see `find_source`.
        target: folder of the prepared set.
        validation_list: see `read_list`; None puts everybody into train. An image is listed in the
            split it belongs to, and ids stay what they were.
        published: see `read_mpii`.
        **store_choices: store_px, box_scale, workers; see `people.write_splits`.
    Returns:
        lines that say what was done.
    Raises:
        InputError: nothing could be written; or, once all else is done, the list of what was left
            out as damaged.
    """
    check_choices(**store_choices)
    names = None if validation_list is None else read_list(validation_list)
    path, image_folder = find_source(source)
    people, skipped, problems = read_mpii(path, image_folder, published)
    splits = {"train": people}
    if names is not None:
        in_list = np.array([Path(name).name in names for name in people.image_name], bool)
        train, validation = people.select_images(~in_list), people.select_images(in_list)
        if len(train) == 0 or len(validation) == 0:
            raise InputError(
                f"{validation_list} puts {len(validation)} people into validation and leaves {len(train)} "
                "for training; expected some of both: is it a list of MPII's training images?"
            )
        splits = {"train": train, "validation": validation}
    with writing(target):  # its stores are written by nobody else
        return write_splits(target, splits, image_folder, skipped, problems, **store_choices)


def find_source(source: Path) -> tuple[Path, Path]:
    """Find the annotation file and the images of a download.

    Args:
        source: folder that holds `mpii_human_pose_v1_u12_1.mat` and `images/`, or folders with
            them; the `images/` fewest folders down counts.
    Returns:
        Path of the .mat, Path of the folder that holds `images/`.
    Raises:
        InputError: one of the two is missing.
    """
    source = Path(source)
    files = sorted(source.rglob(ANNOTATIONS))
    folders = sorted(source.rglob("images/"), key=lambda path: (len(path.parts), path))
    if not files:
        raise InputError(
            f"{source} holds no {ANNOTATIONS}; extract mpii_human_pose_v1_u12_2.zip there "
            f"({URL}/mpii_human_pose_v1_u12_2.zip)"
        )
    if not folders:
        raise InputError(
            f"{source} holds no folder images; extract mpii_human_pose_v1.tar.gz there "
            f"({URL}/mpii_human_pose_v1.tar.gz)"
        )
    return files[0], folders[0].parent


def read_list(path: Path) -> set[str]:
    """Read the image names of a validation list.

    Args:
        path: a text file with one image name a line, or a json list of names or of objects with an
            "image".
    Returns:
        file names without folders.
    Raises:
        InputError: the file is missing or of another form.
    """
    path = Path(path)
    names = set()
    try:
        text = path.read_text(encoding="utf-8")
        for entry in json.loads(text) if path.suffix == ".json" else text.splitlines():
            name = entry["image"] if isinstance(entry, dict) else entry.strip()
            names.add(Path(name).name)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected one image name a line, or a json list of names or of objects with "
            f'an "image" ({error!r})'
        ) from error
    names.discard("")  # of empty lines
    if not names:
        raise InputError(f"{path} names no image")
    return names


def read_mpii(
    path: Path, image_folder: Path, published: bool = False
) -> tuple[People, Counter, list[str]]:
    """Read the people of MPII's training images; its test images have no public joints.

    A person's box follows the published converter, see `joints_box`; people whose joints span no
    box are skipped. Images with a non-empty `annorect` are listed even when nobody in them has
    joints.

    Args:
        path: `mpii_human_pose_v1_u12_1.mat`.
        image_folder: folder that holds `images/`. Only the headers of the images are read.
        published: keep MATLAB's 1-based coordinates as the published converter does, which puts
            every joint one px right of and below its place; by default 1 is subtracted.
    Returns:
        people: image_id is the 0-based index in `annolist`, person_id runs from 0 over the people
            that the rules keep.
        skipped: reason -> number of people left out by the rules.
        problems: lines, one for each image or person left out because it is missing or damaged.
    Raises:
        InputError: the .mat is missing, damaged or of another form, or no person is left.
    """
    annolist, training = _load_release(path)
    origin = 0.0 if published else 1.0
    images, persons, problems = [], [], []
    skipped = Counter()
    next_id = 0
    indices = np.flatnonzero(training).tolist()
    for index in progress(indices, desc="MPII", unit="image"):
        where = f"{path}: annolist({index + 1})"
        try:
            rects = _structs(annolist[index], "annorect")
            if not rects:
                continue
            images.append(_listed_image(index, annolist[index], Path(image_folder)))
        except InputError as error:
            problems.append(f"{where} is left out: {error}")
            continue
        for number, rect in enumerate(rects, start=1):
            try:
                keypoints = _keypoints(rect, origin)
                head = _numbers(rect, "x1", "y1", "x2", "y2")
                known = keypoints[keypoints[:, 2] > 0, :2]
                bbox = joints_box(known) if len(known) else None
                if bbox is None:
                    skipped["joints span no box" if len(known) else "no joints"] += 1
                    continue
                person_id = next_id
                next_id += 1  # counted before the last check, so that ids stay the published ones
                check_place(known, bbox, np.array(images[-1][2:]))
            except InputError as error:
                problems.append(f"{where}.annorect({number}) is left out: {error}")
                continue
            if head is not None:
                head -= origin
            persons.append((person_id, len(images) - 1, keypoints, bbox, head, np.nan))
    if not persons:
        found = f"{path} and {image_folder} give no usable person of {len(indices)} training images"
        raise InputError("; the first problem: ".join([found, *problems[:1]]))
    return as_people(MPII, images, persons), skipped, problems


def joints_box(joints_img: np.ndarray) -> np.ndarray | None:
    """The published converter's person box: the joints' extent - 1, times 1.2, about its middle.

    The box is not clipped to the image.

    Args:
        joints_img: (k, 2) annotated joints, px, k > 0.
    Returns:
        (4,) x, y, width, height, px; or None where the extent - 1 is not positive.
    """
    low, high = joints_img.min(axis=0), joints_img.max(axis=0)
    size = high - low - 1
    if (size <= 0).any():
        return None
    corner = (low + high) / 2 - size / 2 * BOX_GROWTH
    return np.concatenate([corner, size * BOX_GROWTH])


# ---------------------------------------------------------------- the .mat


def _load_release(path):
    """`annolist` as an array of dicts, and which of them are for training (bool)."""
    try:
        release = load_mat(path, ["RELEASE"], simplify_cells=True).get("RELEASE")
    except InputError as error:
        raise InputError(f"{error}; extract mpii_human_pose_v1_u12_2.zip again") from error
    fits = isinstance(release, dict)
    if fits:
        annolist = np.atleast_1d(release.get("annolist", []))
        training = np.ravel(release.get("img_train", []))
        fits = all(isinstance(entry, dict) for entry in annolist)
        fits = fits and len(annolist) == len(training) and np.isin(training, (0, 1)).all()
    if not fits:
        raise InputError(
            f"{path}: expected a struct RELEASE with annolist and img_train of one length; is it MPII's file?"
        )
    return annolist, training == 1


def _structs(record, name):
    """A field that holds structs, as a list of dicts; MATLAB gives one struct, several or []."""
    structs = np.atleast_1d(record.get(name, [])).tolist()
    if not all(isinstance(struct, dict) for struct in structs):
        raise InputError(f"{name} is not a struct")
    return structs


def _numbers(record, *names):
    """Fields that hold one finite number each, as an array; None where one is missing or empty."""
    values = [record.get(name, []) for name in names]
    if any(np.size(value) == 0 for value in values):
        return None
    for name, value in zip(names, values):
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise InputError(f"{name} is not a finite number")
    return np.array(values, float)


def _listed_image(index, entry, image_folder):
    """(id, file name, width, height) of one image, whose header says its size."""
    image = entry.get("image")
    if not isinstance(image, dict):
        raise InputError("image is not a struct")
    record = {"id": index, "file_name": f"images/{image.get('name')}", "width": 1, "height": 1}
    checked_image(record)  # before the file is opened: a name may lead elsewhere
    return index, record["file_name"], *image_size(image_folder / record["file_name"])


def _keypoints(rect, origin):
    """(16, 3) x, y, known of one person."""
    keypoints = np.zeros((len(MPII), 3))
    for annotated in _structs(rect, "annopoints"):
        for point in _structs(annotated, "point"):
            numbers = _numbers(point, "id", "x", "y")
            if numbers is None:
                raise InputError("a joint lacks id, x or y")
            joint, x, y = numbers
            if joint not in range(len(MPII)):
                raise InputError(f"joint id {joint:g} is not one of 0 … {len(MPII) - 1}")
            keypoints[int(joint)] = x - origin, y - origin, 1
    return keypoints
