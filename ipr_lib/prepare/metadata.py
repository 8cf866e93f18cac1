"""`metadata.xml` of Human3.6M: sequence names, camera calibration, frame counts.

Taught in notebooks/02_prepare_human36m.ipynb.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.h36m_layout import ACTIONS, CAMERAS, FIRST_ACTION, SUBJECTS, action_name
from ..files import InputError
from ..geometry.camera import Camera

NAME = "metadata.xml"
_ALL_SUBJECTS = 11  # the file knows S2, S3, S4 and S10 too, whose poses were never handed out
_SUBACTIONS = (1, 2)
_TAKES = [
    (action, take) for action in range(1, FIRST_ACTION + len(ACTIONS)) for take in _SUBACTIONS
]
_MEND = "get metadata.xml again; it lies in the code archive (Release-v1.x) of the data set's site"


@dataclass(frozen=True)
class Metadata:
    """What the preparation needs of `metadata.xml`.

    Attributes:
        path: the file.
        names: sequence name, e.g. "SittingDown 2", by (subject, action, subaction). The digit in it means nothing.
        camera_names: names of cameras 1 … 4, as they stand in file names.
        w0: (300,) calibration.
        counts: number of poses by (subject, action, subaction); empty where the file states none in the known form.
    """

    path: Path
    names: dict
    camera_names: tuple
    w0: np.ndarray
    counts: dict


def read_metadata(path):
    """Read `metadata.xml`, checked.

    Args:
        path: the file.
    Returns:
        Metadata.
    Raises:
        InputError: the file is missing, truncated or damaged, or not of the version that this library knows.
    """
    path = Path(path)
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {_MEND}") from error
    except (
        ElementTree.ParseError,
        ValueError,
        LookupError,
    ) as error:  # the latter two: a damaged encoding mark
        raise InputError(f"{path} is no whole XML file ({error}); {_MEND}") from error
    try:
        names = _names(root)
        camera_names = tuple(_text(item) for item in _child(root, "dbcameras/index2id"))
        if len(camera_names) != len(CAMERAS) or not all(name.isdecimal() for name in camera_names):
            raise ValueError(
                f"dbcameras/index2id names the cameras {', '.join(camera_names)}, expected four numbers"
            )
        if len(set(camera_names)) < len(camera_names):
            raise ValueError("dbcameras/index2id names a camera twice")
        w0 = _numbers(_text(_child(root, "w0")))
        if w0.shape != (300,):
            raise ValueError(f"w0 holds {w0.size} numbers, expected 300")
        counts = _counts(root)
    except ValueError as error:
        raise InputError(
            f"{path}: {error}; this is not the known version of the file, {_MEND}"
        ) from error
    return Metadata(path, names, camera_names, w0, counts)


def _child(root, tag):
    child = root.find(tag)
    if child is None:
        raise ValueError(f"there is no {tag}")
    return child


def _text(element):
    return (element.text or "").strip()


def _numbers(text):
    """Numbers of "[1 2.5 3]" (ValueError if it is anything else)."""
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"expected numbers in brackets, found {text[:20]!r}")
    return np.array([float(number) for number in text[1:-1].split()])


def _names(root):
    rows = [[_text(cell) for cell in row] for row in _child(root, "mapping")]
    header = [f"S{subject}" for subject in range(1, _ALL_SUBJECTS + 1)]
    if not rows or rows[0][2:] != header:
        raise ValueError("the first row of mapping does not name S1 … S11")
    names = {}
    for (action, take), row in zip(_TAKES, rows[1:]):
        if row[:2] != [str(action), str(take)] or len(row) != 2 + _ALL_SUBJECTS:
            raise ValueError(
                f"row {1 + len(names) // _ALL_SUBJECTS} of mapping is not action {action}, take {take}"
            )
        for subject, name in enumerate(row[2:], 1):
            plain = (
                name.replace(" ", "").replace("_", "").isalnum() and name.isascii()
            )  # it becomes part of a path
            if subject in SUBJECTS and not plain:
                raise ValueError(
                    f"mapping calls action {action}, take {take} of S{subject} {name!r}"
                )
            names[subject, action, take] = name
    if len(names) != len(_TAKES) * _ALL_SUBJECTS:
        raise ValueError(f"mapping has {len(rows)} rows, expected {1 + len(_TAKES)} or more")
    for subject in SUBJECTS:
        own = [names[subject, action, take] for action, take in _TAKES if action >= FIRST_ACTION]
        if len(set(own)) < len(own):
            raise ValueError(f"mapping gives two sequences of S{subject} one name")
    return names


def _counts(root):
    """Poses by sequence: video frames are counted per camera, motion capture ran at 200 Hz and is kept at 50.

    Only `check` compares them, so a table of another form is no reason to refuse the file.
    """
    rows = [[_text(cell) for cell in row] for row in root.find("frames") or ()]
    counts = {}
    try:
        for subject in SUBJECTS:
            for action, take in _TAKES[len(_SUBACTIONS) :]:
                # The data set's own code looks up column action * 2 + subaction - 1, counted from 1.
                *videos, mocap = _numbers(rows[subject - 1][action * 2 + take - 2])
                counts[subject, action, take] = int(min(*videos, mocap // 4))
    except (ValueError, IndexError, TypeError, OverflowError):
        return {}
    return counts


def read_camera(metadata, subject, camera_id, width, height, lens=False):
    """One subject's camera out of `w0`.

    Six numbers a subject and camera (angles about x, y, z in rad; centre in mm), then nine a camera (f, c, k, p); as in
    the data set's own code. R = Rx Ry Rz.

    Args:
        metadata: Metadata.
        subject, camera_id: Human3.6M's numbers.
        width, height: picture size of the video, px.
        lens: keep the lens; without it the camera is the customary pinhole.
    Returns:
        Camera.
    Raises:
        InputError: `w0` holds no such camera.
    """
    start = 6 * ((camera_id - 1) * _ALL_SUBJECTS + subject - 1)
    outer, inner = metadata.w0[start : start + 6], metadata.w0[264 + 9 * (camera_id - 1) :][:9]
    if not (
        np.isfinite(outer).all()
        and outer[3:].any()
        and np.isfinite(inner).all()
        and (inner[:2] > 0).all()
    ):
        raise InputError(f"{metadata.path}: w0 holds no camera {camera_id} for S{subject}; {_MEND}")
    (cx, cy, cz), (sx, sy, sz) = np.cos(outer[:3]), np.sin(outer[:3])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    k, p = (inner[4:7], inner[7:]) if lens else (None, None)
    return Camera(
        about_x @ about_y @ about_z, outer[3:], inner[:2], inner[2:4], width, height, k, p
    )


def sequence_title(metadata, subject, action, subaction):
    """What to call a sequence in a message, e.g. 'S1 SittingDown 1 ("SittingDown 2")'."""
    return f'S{subject} {action_name(action)} {subaction} ("{metadata.names[subject, action, subaction]}")'
