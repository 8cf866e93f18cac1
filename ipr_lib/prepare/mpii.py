"""MPII Human Pose: its MATLAB annotations and pictures -> COCO-style json. Taught in notebooks/03_prepare_mpii_and_coco.ipynb."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.images import image_size
from ..data.matlab import load_mat
from ..data.people import as_people, checked_image, person_problem
from ..files import InputError
from ..geometry.skeleton import MPII
from ..progress import progress

ANNOTATIONS = "mpii_human_pose_v1_u12_1.mat"
BOX_GROWTH = 1.2


def find_source(source):
    """The annotation file and the picture folder of a download.

    Args:
        source: folder that holds `mpii_human_pose_v1_u12_1.mat` (up to two folders down) and `images/`.
    Returns:
        Path of the .mat, Path of the folder that holds `images/`.
    """
    source = Path(source)
    found = [
        path
        for pattern in ("", "*/", "*/*/")
        for path in sorted(source.glob(pattern + ANNOTATIONS))
    ]
    if not found:
        raise InputError(
            f"{source} holds no {ANNOTATIONS}; extract mpii_human_pose_v1_u12_2.zip there"
        )
    folders = [
        path.parent
        for pattern in ("images", "*/images")
        for path in sorted(source.glob(pattern))
        if path.is_dir()
    ]
    if not folders:
        raise InputError(
            f"{source} holds no folder images; extract mpii_human_pose_v1.tar.gz there"
        )
    return found[0], folders[0]


def read_mpii(path, pictures, published=False):
    """Read the training part of MPII (its test part has no public joints).

    A person's box follows the published converter: w = xmax - xmin - 1 and h = ymax - ymin - 1 over the annotated
    joints, grown to 1.2 w x 1.2 h about their middle, not clipped; people with w <= 0 or h <= 0 are skipped. Pictures
    with a non-empty `annorect` are listed even when nobody in them has joints.

    Args:
        path: `mpii_human_pose_v1_u12_1.mat`.
        pictures: folder that holds `images/`. Only the headers of the pictures are read.
        published: keep MATLAB's 1-based coordinates as the published converter does, which puts every joint one px right
            and below of its place; by default 1 is subtracted.
    Returns:
        people: People; image_id is the 0-based index in `annolist`, person_id runs from 0 over the people
            that the rules keep.
        skipped: Counter of reason -> people left out by the rules.
        problems: list of lines, one for each picture or person left out because it is missing or damaged.
    Raises:
        InputError: the .mat is missing, damaged or of another form, or no person is left.
    """
    path = Path(path)
    annolist, training = _load_release(path)
    origin = 0.0 if published else 1.0
    listed, persons, skipped, problems, numbered = [], [], Counter(), [], 0
    indices = np.flatnonzero(training)
    for index in progress(indices, desc="MPII", unit="picture"):
        where = f"{path}: annolist({index + 1})"
        try:
            name, rects = _picture_entry(annolist[index])
        except _Malformed as error:
            problems.append(f"{where} is left out: {error}")
            continue
        if rects is None:
            continue
        record = {"id": int(index), "file_name": f"images/{name}", "width": 1, "height": 1}
        reason = checked_image(record)[1]
        if reason is None:
            try:
                record["width"], record["height"] = image_size(Path(pictures) / record["file_name"])
                reason = checked_image(record)[1]
            except InputError as error:
                reason = str(error)
        if reason:
            problems.append(f"{where} is left out: {reason}")
            continue
        listed.append((record["id"], record["file_name"], record["width"], record["height"]))
        for number, rect in enumerate(rects):
            try:
                keypoints = _keypoints(rect, origin)
                head = _head_box(rect, origin)
            except _Malformed as error:
                problems.append(f"{where}.annorect({number + 1}) is left out: {error}")
                continue
            if keypoints is None:
                skipped["no joints"] += 1
                continue
            known = keypoints[keypoints[:, 2] > 0, :2]
            bbox = joints_box(known)
            if bbox is None:
                skipped["joints span no box"] += 1
                continue
            numbered += 1  # before further checks: ids stay the published ones
            reason = person_problem(known, bbox, np.array(listed[-1][2:]))
            if reason:
                problems.append(f"{where}.annorect({number + 1}) is left out: {reason}")
                continue
            persons.append((numbered - 1, len(listed) - 1, keypoints, bbox, head))
    if not persons:
        raise InputError(
            f"{path} and {pictures} give no usable person of {len(indices)} training pictures"
            + (f"; the first of {len(problems)} problems: {problems[0]}" if problems else "")
        )
    return as_people(MPII, listed, persons), skipped, problems


def joints_box(joints_img):
    """The published converter's person box: joints' extent - 1, grown 1.2 times about its middle.

    Args:
        joints_img: (k, 2) annotated joints, px, k > 0.
    Returns:
        (4,) x, y, width, height; or None where the extent - 1 is not positive.
    """
    low, high = joints_img.min(0), joints_img.max(0)
    size = high - low - 1
    if (size <= 0).any():
        return None
    return np.concatenate([(low + high) / 2 - size / 2 * BOX_GROWTH, size * BOX_GROWTH])


def read_list(path):
    """Picture names of a validation list.

    Args:
        path: a text file with one picture name a line, or a json list of names or of objects with an "image".
    Returns:
        set of file names without folders.
    Raises:
        InputError: the file is missing or of another form.
    """
    path = Path(path)
    try:
        text = path.read_text()
        entries = json.loads(text) if path.suffix == ".json" else text.split("\n")
        names = [entry["image"] if isinstance(entry, dict) else entry.strip() for entry in entries]
        found = {name.replace("\\", "/").rsplit("/", 1)[-1] for name in names if name}
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; name a list of validation pictures") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected one picture name a line, or a json list of names or of objects with "
            f'an "image" ({type(error).__name__})'
        ) from error
    if not found:
        raise InputError(f"{path} names no picture")
    return found


def split_people(people, names):
    """Part people by picture.

    Args:
        people: People. names: set of file names, as `read_list` gives.
    Returns:
        training People, validation People; a picture is listed where it belongs, ids stay what they were.
    Raises:
        InputError: a part is empty.
    """
    listed = np.array([name.rsplit("/", 1)[-1] in names for name in people.image_name], bool)
    parts = people.select_images(~listed), people.select_images(listed)
    if not all(len(part) for part in parts):
        raise InputError(
            f"the validation list puts {len(parts[1])} people into the validation part and leaves {len(parts[0])} "
            "for training; expected some of both: is it a list of MPII's training pictures?"
        )
    return parts


# ---------------------------------------------------------------- the .mat


class _Malformed(Exception):
    """An entry is not of the official form; the message says what is wrong."""


def _load_release(path):
    """`annolist` as a flat array of records, and which of them are for training (bool)."""
    try:
        content = load_mat(path, ["RELEASE"])
    except InputError as error:
        raise InputError(f"{error}; extract mpii_human_pose_v1_u12_2.zip again") from error
    expected = f"{path}: expected a struct RELEASE with annolist and img_train of one length; is it MPII's file?"
    release = content.get("RELEASE")
    if not isinstance(release, np.ndarray) or release.dtype.names is None or release.size != 1:
        raise InputError(expected)
    annolist, training = (_field(release.flat[0], name) for name in ("annolist", "img_train"))
    if (
        annolist is None
        or training is None
        or annolist.dtype.names is None
        or training.dtype.kind not in "biuf"
        or annolist.size != training.size
        or not np.isin(training, (0, 1)).all()
    ):
        raise InputError(expected)
    return annolist.reshape(-1), training.reshape(-1) == 1


def _field(record, name):
    """A field of a struct's element as an array; None where it is missing or empty."""
    if record.dtype.names is None or name not in record.dtype.names:
        return None
    value = record[name]
    return value if isinstance(value, np.ndarray) and len(value.shape) and len(value) else None


def _picture_entry(entry):
    """File name and the people's records of one picture; None for records where `annorect` is missing or empty."""
    image = _field(entry, "image")
    name = (
        _field(image.flat[0], "name")
        if image is not None and image.dtype.names and image.size == 1
        else None
    )
    if name is None or name.dtype.kind != "U" or name.size != 1 or not str(name.flat[0]):
        raise _Malformed("image.name is no file name")
    rects = _field(entry, "annorect")
    if rects is not None and rects.size and rects.dtype.names is None:
        raise _Malformed("annorect is no struct")
    return str(name.flat[0]), None if rects is None else rects.reshape(-1)


def _keypoints(rect, origin):
    """(16, 3) x, y, known of one person; None without annotated joints."""
    if rect.dtype.names is None:
        return None
    annopoints = _field(rect, "annopoints")
    if annopoints is None or annopoints.size == 0:
        return None
    points = _field(annopoints.flat[0], "point") if annopoints.dtype.names else None
    if points is None or points.size == 0:
        return None
    if points.dtype.names is None:
        raise _Malformed("annopoints.point is no struct")
    keypoints = np.zeros((len(MPII), 3))
    for point in points.reshape(-1):
        joint, x, y = (_number(point, name) for name in ("id", "x", "y"))
        if joint is None or x is None or y is None:
            raise _Malformed("a joint lacks id, x or y")
        if joint not in range(len(MPII)):
            raise _Malformed(f"joint id {joint:g} is not one of 0 … {len(MPII) - 1}")
        keypoints[int(joint)] = x - origin, y - origin, 1
    return keypoints


def _head_box(rect, origin):
    """x1, y1, x2, y2 of the head, or None where one is missing."""
    corners = [_number(rect, name) for name in ("x1", "y1", "x2", "y2")]
    return None if None in corners else tuple(corner - origin for corner in corners)


def _number(record, name):
    """A field that holds one finite number, as a float; None where it is missing or empty."""
    value = _field(record, name)
    if value is None or value.size == 0:
        return None
    if value.dtype.kind not in "biuf" or value.size != 1 or not np.isfinite(value.flat[0]):
        raise _Malformed(f"{name} is no finite number")
    return float(value.flat[0])
