"""The prepared Human3.6M layout: one folder per camera view, 1-based JPEGs, `h36m_meta.mat` (MATLAB v5).

The capture and the preparation of the real set both write it through this module, and one reader serves both.
Taught in notebooks/02_prepare_human36m.ipynb.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import scipy.io

from ..files import InputError, atomic_path, check_unfolded, read_json, write_json
from ..geometry.camera import Camera
from ..geometry.skeleton import SCORED_JOINTS

SUBJECTS = (1, 5, 6, 7, 8, 9, 11)
# Actions are numbered from 2, in Human3.6M's order (1 is a calibration clip that nobody uses).
ACTIONS = (
    "Directions",
    "Discussion",
    "Eating",
    "Greeting",
    "Phoning",
    "Posing",
    "Purchases",
    "Sitting",
    "SittingDown",
    "Smoking",
    "Photo",
    "Waiting",
    "Walking",
    "WalkDog",
    "WalkTogether",
)
FIRST_ACTION = 2
ACTION_NUMBERS = tuple(range(FIRST_ACTION, FIRST_ACTION + len(ACTIONS)))
SUBACTIONS = (1, 2)
CAMERAS = (1, 2, 3, 4)
# The lists behind the papers' "Protocol 2" and "Protocol 1"; always quoted here by subjects, step and metric.
SPLITS = {
    "S1,5,6,7,8 / S9,11": ((1, 5, 6, 7, 8), (9, 11)),
    "S1,5,6,7,8,9 / S11": ((1, 5, 6, 7, 8, 9), (11,)),
}
TRAIN_SUBJECTS, TEST_SUBJECTS = SPLITS["S1,5,6,7,8 / S9,11"]
TRAIN_STEP, TEST_STEP = 5, 64
# Left out by everyone: its video is damaged.
SKIPPED_FOLDERS = ("s_11_act_02_subact_02_ca_01",)
# (subject, action, subaction) whose labels are known to drift from the pictures: score with them, as is customary, and
# without.
DAMAGED_SEQUENCES = ((9, 5, 2), (9, 10, 2), (9, 13, 1))
ARCHIVE_GB = (
    200  # of the download: more than all videos of a subject, so larger ones are not the data set's
)
META_NAME = "h36m_meta.mat"
CAPTURE_NAME = "capture.json"  # the recipe of a capture, in its folder
CHOICES_NAME = "prepared.json"  # which subjects and actions of the real set were asked for
_FOLDER = re.compile(r"s_(\d{2})_act_(\d{2})_subact_(\d{2})_ca_(\d{2})")


@dataclass(frozen=True)
class CameraView:
    """One sequence, seen by one camera.

    Attributes:
        folder: where the pictures and the labels lie.
        subject, action, subaction, camera_id: Human3.6M's numbers (action 2 is Directions).
        camera: its calibration.
        joints_world: (n, 17, 3) float64, world, mm; row i belongs to picture i + 1.
    """

    folder: Path
    subject: int
    action: int
    subaction: int
    camera_id: int
    camera: Camera
    joints_world: np.ndarray

    def image_path(self, frame):
        """Path of the picture of 0-based `frame`."""
        return self.folder / image_name(self.folder.name, frame)


def action_name(action: int) -> str:
    """Name of action number `action` (2 -> "Directions")."""
    return ACTIONS[action - FIRST_ACTION]


def folder_name(subject: int, action: int, subaction: int, camera_id: int) -> str:
    """Folder of one sequence and camera, e.g. "s_01_act_02_subact_01_ca_01"."""
    return f"s_{subject:02d}_act_{action:02d}_subact_{subaction:02d}_ca_{camera_id:02d}"


def parse_folder_name(name: str) -> tuple[int, int, int, int] | None:
    """(subject, action, subaction, camera_id) of a folder name, or None if it is not one."""
    match = _FOLDER.fullmatch(name)
    if match is None:
        return None
    return tuple(int(number) for number in match.groups())


def image_name(folder: str, frame: int) -> str:
    """File name of 0-based `frame`; the number in it is 1-based."""
    return f"{folder}_{frame + 1:06d}.jpg"


def item_path(root: Path | str, columns: dict[str, np.ndarray], item: int) -> Path:
    """Path of the whole picture that an item of a crop store was cut from.

    Args:
        root: prepared set.
        columns: of the store, see `store.CropStore`.
        item: its number.
    Returns:
        Path below `root`.
    """
    numbers = []
    for name in ("subject", "action", "subaction", "camera_id"):
        numbers.append(int(columns[name][item]))
    folder = folder_name(*numbers)
    return Path(root) / folder / image_name(folder, int(columns["frame"][item]))


def write_meta(path: Path | str, camera: Camera, joints_world: np.ndarray) -> None:
    """Write `h36m_meta.mat` for one sequence and camera, atomically.

    Args:
        path: the file to write.
        camera: its calibration. The coefficients of a lens are written as k and p, which other readers of the layout
            do not know and ignore.
        joints_world: (n, 17, 3), world, mm, finite.
    """
    n = len(joints_world)
    fields = {
        "pose3d_world": np.asarray(joints_world, np.float64),
        "R": camera.R,
        "T": camera.T.reshape(1, 3),
        "f": camera.f.reshape(1, 2),
        "c": camera.c.reshape(1, 2),
        "img_height": np.full((n, 1), float(camera.height)),
        "img_width": np.full((n, 1), float(camera.width)),
    }
    if camera.k is not None:
        fields |= {"k": camera.k.reshape(1, 3), "p": camera.p.reshape(1, 2)}
    with atomic_path(path) as temporary:
        scipy.io.savemat(temporary, fields, format="5", do_compression=True)


def read_camera_view(folder: Path | str) -> CameraView:
    """Read the labels and the camera of one camera view, checked.

    Args:
        folder: a folder of the prepared layout.
    Returns:
        CameraView.
    Raises:
        InputError: the folder's name is irregular; `h36m_meta.mat` is missing, truncated, lacks a field or has one of
            another shape; a number is not finite; R is no rotation; a joint lies behind the camera.
    """
    folder = Path(folder)
    numbers = parse_folder_name(folder.name)
    if numbers is None:
        raise InputError(f"{folder}: expected a folder name like {folder_name(1, 2, 1, 1)}")
    path = folder / META_NAME
    meta = _read_meta(path)
    joints_world = meta["pose3d_world"]
    lens = {}
    if "k" in meta:
        lens = {"k": meta["k"][0], "p": meta["p"][0]}
    camera = Camera(
        R=meta["R"],
        T=meta["T"][0],
        f=meta["f"][0],
        c=meta["c"][0],
        width=int(meta["img_width"][0, 0]),
        height=int(meta["img_height"][0, 0]),
        **lens,
    )
    depth = camera.world_to_camera(joints_world)[..., 2]
    if (depth <= 0).any():
        frame, joint = np.argwhere(depth <= 0)[0]
        raise InputError(
            f"{path}: joint {joint} of pose {frame} lies behind the camera (Z = {depth[frame, joint]:.0f} mm); "
            "check R and T, then prepare this set again"
        )
    return CameraView(folder, *numbers, camera, joints_world)


def _read_meta(path):
    """The fields of one `h36m_meta.mat`, checked, as float64 arrays; k and p only where it holds a lens."""
    names = ["pose3d_world", "R", "T", "f", "c", "img_height", "img_width"]
    lens = ["k", "p"]
    try:
        content = load_mat(path, names + lens)
    except InputError as error:
        raise InputError(f"{error}; prepare this set again") from error
    if any(name in content for name in lens):
        names += lens
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; prepare this set again")
    problem = _meta_problem({name: content[name] for name in names})
    if problem:
        raise InputError(f"{path}: {problem}; prepare this set again")
    # MATLAB's order has the coordinates far apart in memory; all that reads them wants a pose's together.
    return {name: np.array(content[name], np.float64, order="C") for name in names}


def _meta_problem(meta):
    """What no recording can hold among the fields of `h36m_meta.mat`; None if nothing."""
    n = len(meta["pose3d_world"])
    shapes = {
        "pose3d_world": (n, SCORED_JOINTS, 3),
        "R": (3, 3),
        "T": (1, 3),
        "f": (1, 2),
        "c": (1, 2),
        "img_height": (n, 1),
        "img_width": (n, 1),
        "k": (1, 3),
        "p": (1, 2),
    }
    for name, value in meta.items():
        if value.dtype.kind not in "fiu":
            return f"{name} should hold numbers"
        if value.shape != shapes[name]:
            return f"{name} has shape {value.shape}, expected {shapes[name]}"
        wrong = ~(np.abs(value) < 1e9)  # NaN, too
        if wrong.any():
            where = np.argwhere(wrong)[0].tolist()
            return f"{name} is not finite at index {tuple(where)}, or far too large"
    sizes = np.concatenate([meta["img_width"], meta["img_height"]], axis=1)
    if n == 0 or (sizes != sizes[0]).any():
        return "expected at least one pose and one picture size"
    R = meta["R"]
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-4) or np.linalg.det(R) < 0:
        return "R is not a rotation"
    if (meta["f"] <= 0).any() or sizes.min() < 1 or (sizes % 1).any() or sizes.max() > 65535:
        return "expected f above 0 and whole picture sizes in 1 … 65535"
    return None


def refuse_capture(target: Path | str) -> None:
    """InputError where a folder that is to hold a real set holds a capture: drawn people must not pass for real ones."""
    manifest = Path(target) / CAPTURE_NAME
    if manifest.exists():
        raise InputError(
            f"{target} holds a capture, that is drawn people ({manifest.name}); delete that folder, or name another "
            "with --target"
        )


def add_choice(root: Path | str, subjects: Sequence[int], actions: Sequence[int]) -> None:
    """Keep in a prepared set which subjects and actions were asked for, so that a check knows what should be there."""
    path = Path(root) / CHOICES_NAME
    choices = read_json(path) if path.exists() else []
    choice = {"subjects": list(subjects), "actions": list(actions)}
    if choice not in choices:
        write_json(path, [*choices, choice])


def list_folders(root: Path | str, subjects: Sequence[int] = SUBJECTS) -> list[Path]:
    """Folders of the prepared set `root` that belong to `subjects`, sorted by name.

    Raises:
        InputError: there is no such folder, or it holds nothing of these subjects.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; write it with `python -m ipr_lib capture` or name a prepared set"
        )
    found = []
    for entry in os.scandir(root):
        numbers = parse_folder_name(entry.name)
        if numbers is not None and numbers[0] in subjects:
            found.append(root / entry.name)
    if not found:
        names = ", ".join(f"S{subject}" for subject in subjects)
        raise InputError(
            f"{root} holds no sequence of {names}, such as {folder_name(subjects[0], 2, 1, 1)}"
        )
    return sorted(found)


def folders_in_use(root: Path | str, subjects: Sequence[int] = SUBJECTS) -> list[Path]:
    """`list_folders` without SKIPPED_FOLDERS, which a set that others prepared may hold; a capture's are all sound."""
    folders = list_folders(root, subjects)
    if (Path(root) / "capture.json").exists():
        return folders
    return [folder for folder in folders if folder.name not in SKIPPED_FOLDERS]


def frames_in_use(view: CameraView, step: int) -> np.ndarray:
    """0-based frames 0, step, 2 step … of a camera view, each checked to have its picture.

    Args:
        view: CameraView.
        step: every how many frames one is used.
    Returns:
        (m,) int64.
    Raises:
        InputError: a picture in use is missing; see also `image_frames`.
    """
    n = len(view.joints_world)
    frames = np.arange(0, n, step)
    missing = sorted(set(frames.tolist()) - set(image_frames(view.folder, n)))
    if missing:
        raise InputError(
            f"{view.image_path(missing[0])} is missing ({len(missing)} of the {len(frames)} pictures that "
            f"step {step} of {n} poses asks for); prepare this set again with a matching step"
        )
    return frames


def image_frames(folder: Path, n_poses: int) -> list[int]:
    """0-based frames whose pictures lie in the folder of a camera view with `n_poses` poses, ascending.

    Raises:
        InputError: a picture is not numbered 1 … n_poses, as 000000, or has a name of another form.
    """
    frame_of = {image_name(folder.name, frame): frame for frame in range(n_poses)}
    frames = []
    for path in sorted(folder.glob("*.jpg")):
        if path.name not in frame_of:
            raise InputError(
                f"{path}: picture without a pose ({META_NAME} holds {n_poses} poses, so names are "
                f"{image_name(folder.name, 0)} and so on); prepare this set again"
            )
        frames.append(frame_of[path.name])
    return frames


# --- MATLAB v5 files, read by scipy after a check: scipy crashes on some damaged files ---

# Numbers of the format's data types and array classes (MAT-File Level 5).
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_NAME, _DIMENSIONS, _FLAGS, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMERIC, _COMPLEX = range(6, 16), 0x800


def load_mat(path: Path | str, names: Iterable[str], simplify_cells: bool = False) -> dict:
    """Read variables of a MATLAB v5 file.

    Compressed variables, as MATLAB writes them, carry a checksum, which is verified. Others must be arrays of numbers,
    whose structure is checked, so that damage ends in an error and not in a crash of scipy.

    Args:
        path: the file.
        names: variables to read; the file may lack some.
        simplify_cells: give structs as dicts, and arrays of structs as lists of them.
    Returns:
        dict of name -> array, as `scipy.io.loadmat` gives.
    Raises:
        InputError: the file is missing, is no MATLAB v5 file, or is damaged; the message ends after the reason, so that a
            caller can say what to do.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        _check_file(path, data)
        return scipy.io.loadmat(
            io.BytesIO(data), variable_names=list(names), simplify_cells=simplify_cells
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except InputError:  # it would fill the memory
        raise
    except Exception as error:  # scipy raises a dozen kinds; each means the same to a user
        raise InputError(f"{path} is damaged, truncated or no MATLAB v5 file ({error})") from error


def _check_file(path, data):
    """ValueError where the bytes cannot be a whole v5 file that scipy reads without harm."""
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
    if order is None or 0 in data[:4]:
        raise ValueError("no header of version 5")
    for kind, variable in _elements(data[128:], order):
        if kind == _COMPRESSED:
            _check_compressed(path, variable)
        elif kind == _MATRIX:
            _check_numbers(variable, order)
        else:
            raise ValueError(f"data type {kind} where a variable was expected")


def _check_compressed(path, variable):
    """An error where a compressed variable does not agree with its checksum, or would fill the memory."""
    unpacker = zlib.decompressobj()
    n_bytes = 0
    while not unpacker.eof:
        block = unpacker.decompress(variable, 1 << 24)
        variable = unpacker.unconsumed_tail
        n_bytes += len(block)
        check_unfolded(path, n_bytes)
        if not block and not variable and not unpacker.eof:
            raise ValueError("a compressed variable is cut short")


def _check_numbers(variable, order):
    """ValueError unless an uncompressed variable is an array of real numbers, and all of them are there."""
    elements = _elements(variable, order)
    kinds = [kind for kind, _ in elements]
    if len(kinds) != 4 or kinds[:3] != [_FLAGS, _DIMENSIONS, _NAME]:
        raise ValueError("a variable that is neither compressed nor an array of numbers")
    flags = struct.unpack_from(order + "I", elements[0][1])[0]
    dims = struct.unpack(f"{order}{len(elements[1][1]) // 4}i", elements[1][1])
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX:
        raise ValueError("a variable that is neither compressed nor an array of real numbers")
    n_bytes = prod(dims) * _ITEM_BYTES.get(kinds[3], 0)
    if not 2 <= len(dims) <= 32 or min(dims) < 0 or len(elements[3][1]) != n_bytes:
        raise ValueError("an array whose numbers are not all there")


def _elements(data, order):
    """(type, content) of the elements that follow each other in `data`."""
    elements = []
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        start = at + 8
        following = start + size
        if kind >> 16:  # up to four bytes that lie in the tag itself
            kind, size, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        elif kind != _COMPRESSED:
            following += -size % 8
        if start + size > min(following, len(data)):
            raise ValueError("an element is cut short")
        elements.append((kind, data[start : start + size]))
        at = following
    return elements
