"""The crop store: one packed file of person crops and columnar labels, memory-mapped, built once from a prepared set.

Taught in notebooks/04_crops_and_augmentation.ipynb. Training never meets a whole frame again: the crop is the person
box, widened for augmentation, at the size that training needs. File: 16 bytes magic and header length, a JSON header
with its checksum, the JPEGs end to end, the columns.
"""

import json
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..files import InputError, atomic_path
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, SKELETONS, add_thorax
from ..geometry.transforms import box_at_root, crop_affine
from ..parallel import parallel_map
from ..progress import progress
from .h36m_layout import folders_in_use, frames_in_use, read_sequence
from .images import encode_crop, read_picture, shrinkage

MAGIC = b"IPRSTORE"
VERSION = 5
HEADER_ROOM = 1 << 14  # so that what follows need not wait for the header's length
# A zoom out of 25 % needs 1.333 box sides; corners of crops that are turned, too, go on with the outermost pixels. 343 px
# for 256, since JPEG works in blocks of 8: a side just below a multiple wastes none, multiples take a quarter longer.
MARGIN = 1.338


@dataclass(frozen=True)
class CropStore:
    """A crop store, opened for reading. Columns have one row an item; memory-mapped, read-only.

    Attributes:
        path: the file.
        header: version, recipe (what it was built from: source, subjects, step, crop_px, stored_px), and where each
            column lies with its checksum.
        columns: by name: joints_cam (n, J, 3) float32 mm; joints_img (n, J, 2) float32 px of the whole picture;
            visible (n, J) and has_depth (n,) bool; box (n, 3) centre x, y, side, px; affine (n, 2, 3) picture px ->
            stored px; subject, action, subaction, camera_id int16; frame int32; R, T, f, c of each item's camera, and
            k, p where any has a lens; picture_size (n, 2) width, height; start (n + 1,) byte offsets of the JPEGs, crc
            (n,) their checksums.
    """

    path: Path
    header: dict
    columns: dict
    _pictures: memoryview

    @property
    def recipe(self):
        """What the store was built from, a dict."""
        return self.header["recipe"]

    @property
    def labels(self):
        """The columns that speak of people and cameras; the others, start and crc, speak of this file's bytes."""
        return {
            name: column for name, column in self.columns.items() if name not in ("start", "crc")
        }

    @property
    def skeleton(self):
        """The joint set of its columns; HUMAN36M unless the recipe names another."""
        return SKELETONS[self.recipe.get("skeleton", "HUMAN36M")]

    def __len__(self):
        return len(self.columns["crc"])

    def __reduce__(self):  # a mapped file does not travel to other processes, its path does
        return open_store, (self.path,)

    def jpeg(self, i):
        """The bytes of crop `i`, a memoryview. InputError if they are damaged."""
        start, end = self.columns["start"][i : i + 2]
        data = self._pictures[start:end]
        if zlib.crc32(data) != self.columns["crc"][i]:
            raise InputError(
                f"{self.path}: crop {i} is damaged; delete the store and build it again"
            )
        return data

    def picture(self, i):
        """Decode crop `i`: (stored_px, stored_px, 3) uint8 RGB. InputError if its bytes are damaged."""
        return cv2.imdecode(np.frombuffer(self.jpeg(i), np.uint8), cv2.IMREAD_COLOR_RGB)

    def cameras(self, items):
        """Camera whose leading axes batch over `items` ((m,) indices): joints (m, J, 3) each meet their own."""
        columns = self.columns
        names = ("R", "T", "f", "c") + (("k", "p") if "k" in columns else ())
        R, T, f, c, *lens = (np.asarray(columns[name][items], float)[:, None] for name in names)
        width, height = columns["picture_size"][items].T
        return Camera(R, T, f, c, width, height, *lens)


def open_store(path):
    """Open a crop store. Header and labels are verified now, each crop when it is read.

    Args:
        path: the file.
    Returns:
        CropStore.
    Raises:
        InputError: the file is missing, truncated, damaged, or of another version.
    """
    path = Path(path)
    mend = "delete it and build it again"
    if not path.is_file():
        raise InputError(f"{path} is missing; build it first, e.g. with `python -m ipr_lib train`")
    if path.stat().st_size < 16:
        raise InputError(f"{path} is truncated; {mend}")
    with open(path, "rb", buffering=0) as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if content[:8] != MAGIC:
            raise InputError(f"{path} is not a crop store")
        length = int.from_bytes(content[8:12], "little")
        text = bytes(content[16 : 16 + length])
        if zlib.crc32(text) != int.from_bytes(content[12:16], "little"):
            raise InputError(f"{path}: the header is damaged or truncated; {mend}")
        header = json.loads(text)
        if header["version"] != VERSION:
            raise InputError(
                f"{path} is of version {header['version']}, this library reads version {VERSION}; {mend}"
            )
        if len(content) != header["size"]:
            raise InputError(f"{path} has {len(content)} bytes, expected {header['size']}; {mend}")
        columns = {}
        for name, column in header["columns"].items():
            count = int(np.prod(column["shape"]))
            columns[name] = np.frombuffer(
                content, column["dtype"], count, column["offset"]
            ).reshape(column["shape"])
            if _checksum(file, column["offset"], columns[name].nbytes) != column["crc"]:
                raise InputError(f"{path}: column {name} is damaged; {mend}")
    pictures = header["pictures"]
    return CropStore(
        path, header, columns, content[pictures : pictures + int(columns["start"][-1])]
    )


def _checksum(file, offset, size):
    """CRC of a part of an open file, read piece by piece: read through the map, all of it would count as resident."""
    piece, crc = memoryview(bytearray(1 << 20)), 0
    file.seek(offset)
    while size > 0 and (count := file.readinto(piece[:size])):
        crc, size = zlib.crc32(piece[:count], crc), size - count
    return crc


def verify_store(store):
    """Read every crop of an open store; InputError names the first damaged one. `open_store` has verified the rest."""
    for i in range(len(store)):
        store.picture(i)


def build_store(root, target, *, subjects, step, crop_px, workers=1, origin=None):
    """Build a crop store from a prepared set.

    Args:
        root: folder of the prepared set.
        target: the file to write, atomically.
        subjects: subject numbers to take.
        step: every how many frames one is used.
        crop_px: side of the crops that training will cut, px; stored crops are `MARGIN` times as wide.
        workers: number of processes.
        origin: a mark of the very set in `root`, kept in the recipe so that a caller can tell a stale store.
    Returns:
        CropStore, opened.
    Raises:
        InputError: anything unreadable in `root` (the message names the file), or `target` cannot be written.
    """
    folders = folders_in_use(root, subjects)
    stored_px = round(crop_px * MARGIN)
    tasks = [(folder, step, stored_px) for folder in folders]
    rows = []

    def jpegs():
        results = parallel_map(_pack_sequence, tasks, workers)
        for columns, encoded in progress(
            results, total=len(tasks), desc="crop store", unit="folder"
        ):
            rows.append(columns)
            yield from encoded

    recipe = {
        "source": Path(root).name,
        "subjects": list(subjects),
        "step": step,
        "crop_px": crop_px,
        "stored_px": stored_px,
        "origin": origin,
    }
    write_store(target, lambda: join_columns(rows), jpegs(), recipe)
    return open_store(target)


def join_columns(rows):
    """Columns of several sequences, one below the other; without the lens where all cameras are pinholes."""
    rows = [
        {"k": np.zeros((len(row["frame"]), 3)), "p": np.zeros((len(row["frame"]), 2))} | row
        for row in rows
    ]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    if not (columns["k"].any() or columns["p"].any()):
        del columns["k"], columns["p"]
    return columns


def write_store(target, columns, jpegs, recipe):
    """Write a store file, atomically. Crops go to disk as they come: all of them would not fit into memory.

    Args:
        target: the file.
        columns: by name, arrays with one row an item (see CropStore), without start and crc; or a function that gives
            them after the last crop has come.
        jpegs: encoded pictures, bytes; any iterable.
        recipe: JSON-able dict.
    Raises:
        InputError: `target` cannot be written. Nothing is left behind then, nor if `jpegs` or `columns` raise.
    """
    sizes, crcs = [0], []
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        file.seek(HEADER_ROOM)
        for jpeg in jpegs:
            file.write(jpeg)
            sizes.append(len(jpeg))
            crcs.append(zlib.crc32(jpeg))
        write_columns(file, columns() if callable(columns) else columns, sizes, crcs, recipe)


def write_columns(file, columns, sizes, crcs, recipe):
    """Write labels behind the crops of an open file, and the header before them: then it is a store.

    Args:
        file: open for writing, at the end of the crops, which begin at HEADER_ROOM.
        columns: by name, see `write_store`.
        sizes: 0, then the bytes of each crop. crcs: their checksums.
        recipe: JSON-able dict.
    """
    assert all(len(column) == len(crcs) for column in columns.values()), "one row an item"
    columns = columns | {
        "start": np.cumsum(sizes, dtype=np.int64),
        "crc": np.array(crcs, np.uint32),
    }
    header = {"version": VERSION, "recipe": recipe, "columns": {}, "pictures": HEADER_ROOM}
    for name, column in columns.items():
        column, offset = np.ascontiguousarray(column), -(-file.tell() // 64) * 64
        header["columns"][name] = {
            "dtype": column.dtype.str,
            "shape": column.shape,
            "offset": offset,
            "crc": zlib.crc32(column),
        }
        file.seek(offset)
        file.write(column.data)
    header["size"] = file.tell()
    text = json.dumps(header).encode()
    assert 16 + len(text) <= HEADER_ROOM, "the header outgrew its room"
    file.seek(0)
    file.write(
        MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + text
    )


def _pack_sequence(task):
    """All crops and labels of one sequence folder; runs in a worker."""
    folder, step, stored_px = task
    cv2.setNumThreads(1)
    sequence = read_sequence(folder)
    frames = frames_in_use(sequence, step)
    columns = label_columns(sequence, frames, stored_px)
    jpegs = [
        _pack_picture(sequence.picture_path(frame), sequence.camera, affine, stored_px)
        for frame, affine in zip(frames, columns["affine"])
    ]
    return columns, jpegs


def label_columns(sequence, frames, stored_px):
    """The columns of a store for some frames of one sequence.

    Args:
        sequence: Sequence.
        frames: (m,) 0-based.
        stored_px: side of the stored crops, px.
    Returns:
        dict of arrays with m rows, see CropStore; k and p are there even where they are 0, for a pinhole.
    """
    camera, n = sequence.camera, len(frames)
    joints_cam = add_thorax(camera.world_to_camera(sequence.joints_world[frames]))
    box = box_at_root(joints_cam[:, HUMAN36M.root], camera)
    columns = {
        "joints_cam": _rows(joints_cam),
        "joints_img": _rows(camera.camera_to_image(joints_cam)),
        "visible": np.ones(joints_cam.shape[:2], bool),
        "has_depth": np.ones(n, bool),
        "box": box,
        "affine": crop_affine(box * [1, 1, MARGIN], stored_px),
        "frame": np.asarray(frames, np.int32),
        "picture_size": np.full((n, 2), (camera.width, camera.height), np.int32),
    }
    for name in ("subject", "action", "subaction", "camera_id"):
        columns[name] = np.full(n, getattr(sequence, name), np.int16)
    lens = (
        {"k": np.zeros(3), "p": np.zeros(2)} if camera.k is None else {"k": camera.k, "p": camera.p}
    )
    for name, value in {"R": camera.R, "T": camera.T, "f": camera.f, "c": camera.c, **lens}.items():
        columns[name] = np.repeat(value[None].astype(np.float64), n, axis=0)
    return columns


def _rows(coordinates):
    """float32, each point's coordinates side by side; from a camera they come plane by plane, and a cast is slow then."""
    rows = np.empty(coordinates.shape, np.float32)
    for i in range(coordinates.shape[-1]):
        rows[..., i] = coordinates[..., i]
    return rows


def _pack_picture(path, camera, affine, stored_px):
    """Read one frame, cut its stored crop, encode it."""
    picture, to_picture = read_picture(path, camera.width, camera.height, shrinkage(affine))
    return encode_crop(picture, affine, stored_px, to_picture)
