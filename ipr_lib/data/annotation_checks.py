"""Is an annotation what it should be? Each check gives a value, or the words for what is wrong with it.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb.
"""

from pathlib import PurePosixPath

import numpy as np


def checked_picture(record):
    """Check one entry of a json's `images`: ((id, name, width, height), None), or (None, what is wrong)."""
    if not isinstance(record, dict) or not whole_number(record.get("id")):
        return None, "it has no whole number as id"
    name, width, height = record.get("file_name"), record.get("width"), record.get("height")
    if not isinstance(name, str) or not name or "\0" in name:
        return None, "it has no file_name"
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name:
        return None, f"file_name {name!r} leads out of the picture folder"
    if not (
        whole_number(width)
        and whole_number(height)
        and 0 < width < 1 << 16
        and 0 < height < 1 << 16
    ):
        return None, f"width and height are {width!r} and {height!r}"
    return (record["id"], name, width, height), None


def checked_person(record, row, picture, n_joints):
    """Check one entry of a json's `annotations`, a dict.

    Args:
        record: the entry. row: of its picture. picture: (id, name, width, height). n_joints: of its joint set.
    Returns:
        (person row, see `annotations.as_people`; None), (None, None) for a person without keypoints, or (None, what is
        wrong).
    """
    keypoints = _numbers(record.get("keypoints"), 3 * n_joints)
    if keypoints is None:
        return None, f"expected {3 * n_joints} finite numbers as keypoints"
    x, y, v = keypoints.reshape(-1, 3).T
    if not np.isin(v, (0, 1, 2)).all():
        return None, "a visibility is not 0, 1 or 2"
    stated, known = (
        record.get("num_keypoints"),
        int((v > 0).sum()),
    )  # int: a list is not compared number by number
    if stated is not None and stated != known:
        return None, f"num_keypoints is {stated!r}, but {known} are annotated"
    if not v.any():
        return None, None
    bbox = _numbers(record.get("bbox"), 4)
    if bbox is None:
        return None, "expected 4 finite numbers as bbox"
    reason = person_problem(np.stack([x, y], axis=1)[v > 0], bbox, np.array(picture[2:]))
    if reason:
        return None, reason
    head = record.get("head_box")
    if head is not None:
        head = _numbers(head, 4)
        if head is None:
            return None, "expected 4 finite numbers as head_box"
    return (record["id"], row, keypoints, bbox, head), None


def person_problem(joints_img, bbox, size):
    """What is wrong with a person's place in the picture; None if nothing.

    Args:
        joints_img: (k, 2) annotated joints, px. bbox: x, y, width, height, px. size: (2,) width, height, px.
    """
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        return f"the box is empty ({width:g} x {height:g} px)"
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        return f"the box (x {x:g}, y {y:g}, {width:g} x {height:g} px) lies outside its {size[0]} x {size[1]} px picture"
    if width > 3 * size[0] or height > 3 * size[1]:
        return f"the box ({width:g} x {height:g} px) is far larger than its {size[0]} x {size[1]} px picture"
    # Joints just outside are guesses that annotators do make; further out they are damage.
    if (joints_img < -size).any() or (joints_img > 2 * size).any():
        return f"a joint lies far outside its {size[0]} x {size[1]} px picture"
    return None


def _numbers(value, count):
    """A list of `count` finite numbers as a float64 array, else None."""
    if not isinstance(value, list) or len(value) != count:
        return None
    if not all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in value
    ):
        return None
    try:
        array = np.array(value, np.float64)
    except OverflowError:
        return None
    return array if np.isfinite(array).all() else None


def whole_number(value):
    """Whether a json's value is a whole number, one that an int64 holds."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62


def hashable(value):
    """Whether a json's value can be looked up in a dict."""
    return isinstance(value, (int, str, float))


def label(record):
    """What to call an entry in a message: its id, as far as it has one."""
    return repr(record.get("id", "?"))[:40] if isinstance(record, dict) else "?"
