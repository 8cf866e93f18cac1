"""MPII Human Pose: its MATLAB annotations and images -> people to train on.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.images import image_size
from ..data.matlab import load_mat
from ..data.people import People, as_people, checked_image, person_problem
from ..files import InputError
from ..geometry import MPII
from ..progress import progress

ANNOTATIONS = "mpii_human_pose_v1_u12_1.mat"
BOX_GROWTH = 1.2


def find_source(source: Path) -> tuple[Path, Path]:
    """Find the annotation file and the images of a download.

    Args:
        source: folder that holds `mpii_human_pose_v1_u12_1.mat` (up to two folders down) and `images/`.
    Returns:
        Path of the .mat, Path of the folder that holds `images/`.
    Raises:
        InputError: one of the two is missing.
    """
    source = Path(source)
    files = []
    for pattern in (ANNOTATIONS, f"*/{ANNOTATIONS}", f"*/*/{ANNOTATIONS}"):
        files += sorted(source.glob(pattern))
    if not files:
        raise InputError(
            f"{source} holds no {ANNOTATIONS}; extract mpii_human_pose_v1_u12_2.zip there"
        )
    folders = sorted(source.glob("images/")) + sorted(source.glob("*/images/"))
    if not folders:
        raise InputError(
            f"{source} holds no folder images; extract mpii_human_pose_v1.tar.gz there"
        )
    return files[0], folders[0].parent


def read_mpii(
    path: Path, image_folder: Path, published: bool = False
) -> tuple[People, Counter, list[str]]:
    """Read the people of MPII's training images; its test images have no public joints.

    A person's box follows the published converter, see `joints_box`; people whose joints span no box are
    skipped. Images with a non-empty `annorect` are listed even when nobody in them has joints.

    Args:
        path: `mpii_human_pose_v1_u12_1.mat`.
        image_folder: folder that holds `images/`. Only the headers of the images are read.
        published: keep MATLAB's 1-based coordinates as the published converter does, which puts every
            joint one px right of and below its place; by default 1 is subtracted.
    Returns:
        people: image_id is the 0-based index in `annolist`, person_id runs from 0 over the people that
            the rules keep.
        skipped: reason -> number of people left out by the rules.
        problems: lines, one for each image or person left out because it is missing or damaged.
    Raises:
        InputError: the .mat is missing, damaged or of another form, or no person is left.
    """
    path, image_folder = Path(path), Path(image_folder)
    annolist, training = _load_release(path)
    origin = 0.0 if published else 1.0
    images, persons, problems = [], [], []
    skipped = Counter()
    next_id = 0
    indices = np.flatnonzero(training)
    for index in progress(indices, desc="MPII", unit="image"):
        where = f"{path}: annolist({index + 1})"
        try:
            name, rects = _image_entry(annolist[index])
            if rects is None:
                continue
            image = _listed_image(int(index), name, image_folder)
        except _Malformed as error:
            problems.append(f"{where} is left out: {error}")
            continue
        images.append(image)
        for number, rect in enumerate(rects, start=1):
            try:
                keypoints = _keypoints(rect, origin)
                head = _head_box(rect, origin)
                if keypoints is None:
                    skipped["no joints"] += 1
                    continue
                known = keypoints[keypoints[:, 2] > 0, :2]
                bbox = joints_box(known)
                if bbox is None:
                    skipped["joints span no box"] += 1
                    continue
                person_id = next_id
                next_id += 1  # counted before the last check, so that ids stay the published ones
                problem = person_problem(known, bbox, np.array(image[2:]))
                if problem:
                    raise _Malformed(problem)
            except _Malformed as error:
                problems.append(f"{where}.annorect({number}) is left out: {error}")
                continue
            persons.append((person_id, len(images) - 1, keypoints, bbox, head))
    if not persons:
        message = (
            f"{path} and {image_folder} give no usable person of {len(indices)} training images"
        )
        if problems:
            message += f"; the first of {len(problems)} problems: {problems[0]}"
        raise InputError(message)
    return as_people(MPII, images, persons), skipped, problems


def joints_box(joints_img: np.ndarray) -> np.ndarray | None:
    """The published converter's person box: the joints' extent - 1, grown 1.2 times about its middle.

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
        text = path.read_text()
        entries = json.loads(text) if path.suffix == ".json" else text.split("\n")
        for entry in entries:
            name = entry["image"] if isinstance(entry, dict) else entry.strip()
            if name:
                names.add(name.replace("\\", "/").split("/")[-1])
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; name a list of validation images") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected one image name a line, or a json list of names or of objects with "
            f'an "image" ({type(error).__name__})'
        ) from error
    if not names:
        raise InputError(f"{path} names no image")
    return names


def split_people(people: People, names: set[str]) -> tuple[People, People]:
    """Split people by image.

    Args:
        people: of all training images.
        names: file names of the validation images, as `read_list` gives.
    Returns:
        people for training, people for validation; an image is listed where it belongs, and ids stay
        what they were.
    Raises:
        InputError: one of the two is empty.
    """
    in_list = np.array([name.split("/")[-1] in names for name in people.image_name], bool)
    train, validation = people.select_images(~in_list), people.select_images(in_list)
    if len(train) == 0 or len(validation) == 0:
        raise InputError(
            f"the validation list puts {len(validation)} people into validation and leaves {len(train)} "
            "for training; expected some of both: is it a list of MPII's training images?"
        )
    return train, validation


# ---------------------------------------------------------------- the .mat


class _Malformed(Exception):
    """An entry is not of the official form; the message says what is wrong."""


def _load_release(path):
    """`annolist` as a flat array of records, and which of them are for training (bool)."""
    try:
        content = load_mat(path, ["RELEASE"])
    except InputError as error:
        raise InputError(f"{error}; extract mpii_human_pose_v1_u12_2.zip again") from error
    annolist = training = None
    release = content.get("RELEASE")
    if isinstance(release, np.ndarray) and release.size == 1:
        annolist = _field(release.flat[0], "annolist")
        training = _field(release.flat[0], "img_train")
    if annolist is None or training is None or not _is_release(annolist, training):
        raise InputError(
            f"{path}: expected a struct RELEASE with annolist and img_train of one length; is it MPII's file?"
        )
    return annolist.reshape(-1), training.reshape(-1) == 1


def _is_release(annolist, training):
    if annolist.dtype.names is None or annolist.size != training.size:
        return False
    return training.dtype.kind in "biuf" and np.isin(training, (0, 1)).all()


def _image_entry(entry):
    """File name of one image, and the records of its people, None where `annorect` is missing or empty."""
    image = _field(entry, "image")
    name = None
    if image is not None and image.size == 1:
        name = _field(image.flat[0], "name")
    if name is None or name.dtype.kind != "U" or name.size != 1 or not str(name.flat[0]):
        raise _Malformed("image.name is not a file name")
    rects = _field(entry, "annorect")
    if rects is not None and rects.size and rects.dtype.names is None:
        raise _Malformed("annorect is not a struct")
    return str(name.flat[0]), None if rects is None else rects.reshape(-1)


def _listed_image(index, name, image_folder):
    """(id, file name, width, height) of one image, whose size its header tells."""
    record = {"id": index, "file_name": f"images/{name}", "width": 1, "height": 1}
    problem = checked_image(record)[1]  # before the file is opened: a name may lead elsewhere
    if problem:
        raise _Malformed(problem)
    try:
        record["width"], record["height"] = image_size(image_folder / record["file_name"])
    except InputError as error:
        raise _Malformed(str(error)) from error
    image, problem = checked_image(record)
    if problem:
        raise _Malformed(problem)
    return image


def _keypoints(rect, origin):
    """(16, 3) x, y, known of one person; None without annotated joints."""
    annopoints = _field(rect, "annopoints")
    if annopoints is None or annopoints.size == 0:
        return None
    points = _field(annopoints.flat[0], "point")
    if points is None or points.size == 0:
        return None
    if points.dtype.names is None:
        raise _Malformed("annopoints.point is not a struct")
    keypoints = np.zeros((len(MPII), 3))
    for point in points.reshape(-1):
        joint, x, y = _number(point, "id"), _number(point, "x"), _number(point, "y")
        if joint is None or x is None or y is None:
            raise _Malformed("a joint lacks id, x or y")
        if joint not in range(len(MPII)):
            raise _Malformed(f"joint id {joint:g} is not one of 0 … {len(MPII) - 1}")
        keypoints[int(joint)] = x - origin, y - origin, 1
    return keypoints


def _head_box(rect, origin):
    """x1, y1, x2, y2 of the head, or None where one is missing."""
    corners = [_number(rect, name) for name in ("x1", "y1", "x2", "y2")]
    if None in corners:
        return None
    return tuple(corner - origin for corner in corners)


def _field(record, name):
    """A field of a struct's element as an array; None where it is missing or empty."""
    names = record.dtype.names if isinstance(record, np.void) else None
    if names is None or name not in names:
        return None
    value = record[name]
    if not isinstance(value, np.ndarray) or value.ndim == 0 or len(value) == 0:
        return None
    return value


def _number(record, name):
    """A field that holds one finite number, as a float; None where it is missing or empty."""
    value = _field(record, name)
    if value is None or value.size == 0:
        return None
    if value.dtype.kind not in "biuf" or value.size != 1 or not np.isfinite(value.flat[0]):
        raise _Malformed(f"{name} is not a finite number")
    return float(value.flat[0])
