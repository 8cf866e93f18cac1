"""The crop store: one crop and its labels for each person and image, built once from a prepared set.

Training never reads a whole image again: a stored crop is the person box, widened for augmentation, at the size that
training needs. A store is a folder of NumPy files. Each column of labels is one of them, such as `joints_cam.npy`;
`jpegs.npy` holds the bytes of all crops, end to end; `store.json` says what the store was built from, and has a checksum
of each file. Taught in notebooks/04_crops_and_augmentation.ipynb.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..files import InputError, locked, scratch_folder
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, SKELETONS, Skeleton, add_thorax
from ..geometry.transforms import box_at_root, compose_affine, crop_affine
from ..parallel import parallel_map
from ..progress import progress
from .h36m_layout import (
    META_NAME,
    CameraView,
    folders_in_use,
    frames_in_use,
    parse_folder_name,
    read_camera_view,
)
from .images import encode_crop, encode_jpeg, read_image, shrinkage

VERSION = 5
HEADER, JPEGS = "store.json", "jpegs.npy"
JPEGS_START = 128  # bytes before the first crop: NumPy's header, which it pads to this length
MEND = "delete the store and build it again"
# A zoom out of 25 % needs 1.333 box sides; corners of crops that are turned, too, repeat the outermost pixels. 256 px
# become 343 px, since JPEG works in blocks of 8 px and a side just below a multiple of 8 wastes none.
MARGIN = 1.338
DEPTH_SEED = (
    8  # chooses the sequences that keep their depth; the same for every run, whatever its seed
)


@dataclass(frozen=True, eq=False)
class CropStore:
    """A crop store, opened for reading, or some items of one.

    Attributes:
        path: its folder.
        recipe: what it was built from: source, subjects, step, crop_px, stored_px, origin, ….
        columns: arrays with one row an item, by name, mapped from their files: joints_cam (n, J, 3) float32 mm;
            joints_img (n, J, 2) float32 px of the whole image; visible (n, J) and has_depth (n,) bool; box (n, 3) centre
            x, y, side, px; affine (n, 2, 3) image px -> stored px; subject, action, subaction, camera_id int16; frame
            int32; R, T, f, c of each item's camera, and k, p where any has a lens; picture_size (n, 2) width, height;
            start, size, crc (n,): where in `jpegs` the crop lies, in bytes, and its checksum.
        jpegs: uint8, the crops' bytes end to end.
    """

    path: Path
    recipe: dict
    columns: dict[str, np.ndarray]
    jpegs: np.ndarray

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """The columns that describe people and cameras, without those that describe the bytes of `jpegs`."""
        labels = dict(self.columns)
        for name in ("start", "size", "crc"):
            del labels[name]
        return labels

    @property
    def skeleton(self) -> Skeleton:
        """The joint set of its columns: HUMAN36M unless the recipe names another."""
        return SKELETONS[self.recipe.get("skeleton", "HUMAN36M")]

    @property
    def checksum(self) -> int:
        """One number for all crops: other images, another number."""
        return zlib.crc32(np.ascontiguousarray(self.columns["crc"]))

    def __len__(self):
        return len(self.columns["crc"])

    def __reduce__(self):
        """Mapped files do not travel to other processes. Their path does, and the columns that are in memory."""
        changed = {}
        for name, column in self.columns.items():
            if not isinstance(column, np.memmap):
                changed[name] = column
        return _reopen, (self.path, self.recipe, changed)

    def jpeg(self, item: int) -> np.ndarray:
        """The bytes of one crop, uint8. InputError if they are damaged."""
        start, size = self.columns["start"][item], self.columns["size"][item]
        jpeg = self.jpegs[start : start + size]
        if zlib.crc32(jpeg) != self.columns["crc"][item]:
            raise InputError(f"{self.path}: crop {item} is damaged; {MEND}")
        return jpeg

    def image(self, item: int) -> np.ndarray:
        """Decode one crop: (stored_px, stored_px, 3) uint8 RGB. InputError if its bytes are damaged."""
        return cv2.imdecode(self.jpeg(item), cv2.IMREAD_COLOR_RGB)

    def cameras(self, items: np.ndarray) -> Camera:
        """Cameras of (m,) items, with leading axes (m, 1), so that joints (m, J, 3) each meet their own."""
        names = ["R", "T", "f", "c"]
        if "k" in self.columns:
            names += ["k", "p"]
        values = {}
        for name in names:
            values[name] = np.asarray(self.columns[name][items], float)[:, None]
        width, height = self.columns["picture_size"][items].T
        return Camera(width=width, height=height, **values)

    def select(self, items: np.ndarray) -> "CropStore":
        """Some items as a store of their own, whose crops stay where they are; items: (m,) indices or (n,) mask."""
        columns = {name: column[items] for name, column in self.columns.items()}
        return dataclasses.replace(self, columns=columns)


def _reopen(path, recipe, changed):
    """A store in another process, see `CropStore.__reduce__`."""
    store = open_store(path)
    return dataclasses.replace(store, recipe=recipe, columns=store.columns | changed)


# ---------------------------------------------------------------- open


def open_store(path: Path | str) -> CropStore:
    """Open a crop store. All labels are verified now, each crop when it is read.

    Raises:
        InputError: the store is missing, incomplete, damaged, or of another version.
    """
    path = Path(path)
    _refuse_old_file(path)
    if not path.is_dir():
        raise InputError(f"{path} is missing; build it first, e.g. with `python -m ipr_lib train`")
    header, columns = _read_labels(path)
    file = path / JPEGS
    if not file.is_file() or file.stat().st_size != JPEGS_START + columns["size"].sum():
        raise InputError(f"{file} is incomplete; {MEND}")
    if _checksum(file, JPEGS_START) != header["jpegs"]:
        raise InputError(f"{file} is damaged; {MEND}")
    # Without the memmap class, whose every slice costs several microseconds.
    jpegs = np.asarray(np.load(file, mmap_mode="r"))
    return CropStore(path, header["recipe"], columns, jpegs)


def find_store(path: Path | str) -> CropStore | None:
    """The store at `path`; None where it has to be built, since it is missing, damaged or of another version.

    Raises:
        InputError: a crop store of an older version, which was one file, lies there.
    """
    _refuse_old_file(Path(path))
    try:
        return open_store(path)
    except InputError:
        return None


def _refuse_old_file(path):
    """Up to version 4, a store was one file, called as its folder is now and `.crops`."""
    for old in (path, path.with_name(f"{path.name}.crops")):
        if old.is_file() and not path.is_dir():
            raise InputError(
                f"{old} is a crop store of an older version, in one file; delete it and run again"
            )


def _read_labels(folder):
    """(header, columns) of a store, verified; its crops need not be there."""
    try:
        header = json.loads((folder / HEADER).read_text())
        version = header["version"]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{folder / HEADER} is missing or damaged; {MEND}") from error
    if version != VERSION:
        raise InputError(
            f"{folder} is of version {version}, this library reads version {VERSION}; {MEND}"
        )
    if header.get("checksum") != _header_checksum(header):
        raise InputError(f"{folder / HEADER} is damaged; {MEND}")
    columns = {}
    for name, checksum in header["columns"].items():
        file = folder / f"{name}.npy"
        if not file.is_file():
            raise InputError(f"{file} is missing; {MEND}")
        if _checksum(file) != checksum:
            raise InputError(f"{file} is damaged; {MEND}")
        columns[name] = np.load(file, mmap_mode="r")
    return header, columns


def _header_checksum(header):
    """CRC-32 of all that `store.json` says, apart from this number."""
    rest = {name: value for name, value in header.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _checksum(file, size=-1):
    """CRC-32 of a file or of its first bytes, read piece by piece: mapped, all of it would count as used memory."""
    crc = 0
    with open(file, "rb") as opened:
        if size >= 0:
            return zlib.crc32(opened.read(size))
        piece = opened.read(1 << 20)
        while piece:
            crc = zlib.crc32(piece, crc)
            piece = opened.read(1 << 20)
    return crc


# ---------------------------------------------------------------- write


class StoreWriter:
    """Takes the crops and labels of a new store, some at a time, see `new_store`."""

    def __init__(self, file):
        self.file = file
        self.rows = []

    def add(self, columns: dict[str, np.ndarray], jpegs: Iterable) -> None:
        """Add items.

        Args:
            columns: labels by name, one row an item, see `CropStore.labels`.
            jpegs: their encoded crops, in the same order. Each goes to disk as it comes.
        """
        sizes, crcs = [], []
        for jpeg in jpegs:
            self.file.write(jpeg)
            sizes.append(len(jpeg))
            crcs.append(zlib.crc32(jpeg))
        assert all(len(column) == len(sizes) for column in columns.values()), "one row an item"
        self.rows.append(
            {**columns, "size": np.array(sizes, np.int64), "crc": np.array(crcs, np.uint32)}
        )


@contextlib.contextmanager
def new_store(target: Path | str, recipe: dict):
    """Write a crop store: `with new_store(target, recipe) as writer: writer.add(columns, jpegs)`, as often as needed.

    It is written into a folder with a temporary name, which is renamed at the end; a process that is killed leaves
    nothing that could be taken for a store.

    Args:
        target: the folder. A store that is there is replaced, except one that another process finished meanwhile.
        recipe: what the store is built from, fit for JSON.
    Yields:
        StoreWriter.
    Raises:
        InputError: `target` cannot be written. Nothing is left behind then, nor if the block raises.
    """
    target = Path(target)
    before = _identity(target)
    try:
        with scratch_folder(target.parent) as scratch:
            folder = scratch / target.name
            folder.mkdir()
            with open(folder / JPEGS, "wb") as file:
                file.write(bytes(JPEGS_START))
                writer = StoreWriter(file)
                yield writer
            _write_labels(folder, join_columns(writer.rows), recipe)
            _put_in_place(folder, target, recipe, before)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; check free space and permissions, then run again"
        ) from error


def write_store(
    target: Path | str, columns: dict[str, np.ndarray], jpegs: Iterable, recipe: dict
) -> None:
    """Write a crop store whose labels are all known, see `new_store` and `StoreWriter.add`."""
    with new_store(target, recipe) as writer:
        writer.add(columns, jpegs)


def join_columns(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of several camera views, one below the other; without k and p where all cameras are pinholes."""
    filled = []
    for row in rows:
        n = len(row["frame"])
        filled.append({"k": np.zeros((n, 3)), "p": np.zeros((n, 2)), **row})
    columns = {}
    for name in filled[0]:
        columns[name] = np.concatenate([row[name] for row in filled])
    if not columns["k"].any() and not columns["p"].any():
        del columns["k"], columns["p"]
    return columns


def _write_labels(folder, columns, recipe):
    """Write labels beside the crops, and last of all `store.json`: then the folder is a store."""
    ends = np.cumsum(columns["size"])
    columns = {**columns, "start": ends - columns["size"]}
    with open(folder / JPEGS, "r+b") as file:
        shape = (int(columns["size"].sum()),)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        assert file.tell() == JPEGS_START, "NumPy's header has another length"
    checksums = {}
    for name, column in columns.items():
        file = folder / f"{name}.npy"
        np.save(file, np.ascontiguousarray(column))
        checksums[name] = _checksum(file)
    header = {
        "version": VERSION,
        "recipe": recipe,
        "columns": checksums,
        "jpegs": _checksum(folder / JPEGS, JPEGS_START),
    }
    header["checksum"] = _header_checksum(header)
    (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n")


def _identity(folder):
    """Tells a folder from one that replaced it; None where there is none."""
    if not folder.exists():
        return None
    status = folder.stat()
    return status.st_ino, status.st_mtime_ns


def _put_in_place(folder, target, recipe, before):
    """Rename a complete store, unless another process has put the same one there since `before`."""
    with locked(target.parent):
        if _identity(target) != before:
            theirs = find_store(target)
            if theirs is not None and theirs.recipe == recipe:
                return
        if target.exists():
            target.rename(folder.with_name("replaced"))
        folder.rename(target)


# ---------------------------------------------------------------- build from a prepared set


def split_store(
    source: Path,
    folder: Path,
    split: str,
    subjects: Sequence[int],
    step: int,
    crop_px: int,
    workers: int = 1,
) -> CropStore:
    """The crop store of one split of a prepared set, built where it is missing, damaged or of other data.

    It is called SET-SPLIT-PX. Where that store holds other subjects, or too few frames, a second one is built, with
    subjects and step in its name, so that two recipes can take turns without building anything twice.

    Args:
        source: folder of the prepared set; it need not be there for a store that came straight from a download.
        folder: of the stores.
        split: "train", "validation" or "test".
        subjects: their numbers.
        step: every how many frames one is used.
        crop_px: side of the training crops, px.
        workers: processes to build with.
    Returns:
        CropStore.
    Raises:
        InputError: as `build_store` and `find_store`.
    """
    origin = labels_mark(source, subjects)
    wanted = {"source": source.name, "subjects": list(subjects), "crop_px": crop_px}
    shared = folder / f"{source.name}-{split}-{crop_px}"
    numbers = "-".join(str(subject) for subject in subjects)
    own = folder / f"{shared.name}-S{numbers}-every-{step}"
    target = shared
    for path in (shared, own):
        store = find_store(path)
        if store is None:
            continue
        same_choice = wanted.items() <= store.recipe.items()
        # A store that `prepare human36m --store` wrote has no prepared folder behind it that might have changed.
        same_data = "actions" in store.recipe or store.recipe["origin"] == origin
        if same_choice and same_data and step % store.recipe["step"] == 0:
            return every_nth_frame(store, step)
        if path == shared and not (same_choice and store.recipe["step"] == step):
            target = own
    return build_store(
        source,
        target,
        subjects=subjects,
        step=step,
        crop_px=crop_px,
        workers=workers,
        origin=origin,
    )


def labels_mark(source: Path, subjects: Sequence[int]) -> str | None:
    """A checksum of what a store is built from: of a capture's recipe, or else of all labels of the subjects.

    None where neither is there.
    """
    manifest = source / "capture.json"
    if manifest.exists():
        return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    digest = hashlib.sha256()
    found = False
    for path in sorted(source.glob(f"*/{META_NAME}")):
        numbers = parse_folder_name(path.parent.name)
        if numbers is not None and numbers[0] in subjects:
            found = True
            digest.update(path.parent.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16] if found else None


def build_store(
    root: Path | str,
    target: Path | str,
    *,
    subjects: Sequence[int],
    step: int,
    crop_px: int,
    workers: int = 1,
    origin: str | None = None,
) -> CropStore:
    """Build a crop store from a prepared set.

    Args:
        root: folder of the prepared set.
        target: folder of the store.
        subjects: subject numbers to take.
        step: every how many frames one is used.
        crop_px: side of the crops that training will cut, px; stored crops are `MARGIN` times as wide.
        workers: number of processes.
        origin: see `labels_mark`; kept in the recipe, so that a caller can tell a store of older data.
    Returns:
        CropStore, opened.
    Raises:
        InputError: anything unreadable in `root` (the message names the file), or `target` cannot be written.
    """
    stored_px = round(crop_px * MARGIN)
    recipe = {
        "source": Path(root).name,
        "subjects": list(subjects),
        "step": step,
        "crop_px": crop_px,
        "stored_px": stored_px,
        "origin": origin,
    }
    tasks = [(folder, step, stored_px) for folder in folders_in_use(root, subjects)]
    results = parallel_map(_cut_camera_view, tasks, workers)
    with new_store(target, recipe) as writer:
        for columns, jpegs in progress(results, total=len(tasks), desc="crop store", unit="folder"):
            writer.add(columns, jpegs)
    return open_store(target)


def _cut_camera_view(task):
    """Labels and encoded crops of one folder; runs in a worker."""
    folder, step, stored_px = task
    cv2.setNumThreads(1)
    view = read_camera_view(folder)
    camera = view.camera
    frames = frames_in_use(view, step)
    columns = label_columns(view, frames, stored_px)
    jpegs = []
    for frame, affine in zip(frames, columns["affine"]):
        path = view.image_path(frame)
        image, to_whole = read_image(path, camera.width, camera.height, shrinkage(affine))
        jpegs.append(encode_crop(image, affine, stored_px, to_whole))
    return columns, jpegs


def label_columns(view: CameraView, frames: np.ndarray, stored_px: int) -> dict[str, np.ndarray]:
    """The labels of a store for some frames of one camera view.

    Args:
        view: CameraView.
        frames: (m,) 0-based.
        stored_px: side of the stored crops, px.
    Returns:
        dict of arrays with m rows, see `CropStore`; k and p are there even where they are 0, for a pinhole.
    """
    camera, n = view.camera, len(frames)
    joints_cam = add_thorax(camera.world_to_camera(view.joints_world[frames]))
    box = box_at_root(joints_cam[:, HUMAN36M.root], camera)
    columns = {
        "joints_cam": joints_cam.astype(np.float32, order="C"),
        "joints_img": camera.camera_to_image(joints_cam).astype(np.float32, order="C"),
        "visible": np.ones(joints_cam.shape[:2], bool),
        "has_depth": np.ones(n, bool),
        "box": box,
        "affine": crop_affine(box * [1, 1, MARGIN], stored_px),
        "frame": np.asarray(frames, np.int32),
        "picture_size": np.full((n, 2), (camera.width, camera.height), np.int32),
    }
    for name in ("subject", "action", "subaction", "camera_id"):
        columns[name] = np.full(n, getattr(view, name), np.int16)
    calibration = {"R": camera.R, "T": camera.T, "f": camera.f, "c": camera.c}
    calibration["k"] = np.zeros(3) if camera.k is None else camera.k
    calibration["p"] = np.zeros(2) if camera.p is None else camera.p
    for name, value in calibration.items():
        columns[name] = np.repeat(value[None].astype(np.float64), n, axis=0)
    return columns


# ---------------------------------------------------------------- stores made of stores


def sequence_index(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Number of the sequence of each item, 0, 1, …; its four cameras share it.

    Args:
        columns: of a store; subject, action, subaction (n,).
    Returns:
        (n,) int64.
    """
    names = ("subject", "action", "subaction")
    identity = np.stack([columns[name] for name in names], axis=1)
    return np.unique(identity, axis=0, return_inverse=True)[1].ravel()


def every_nth_frame(store: CropStore, step: int) -> CropStore:
    """The items of every `step`-th frame; `step` is a multiple of the store's."""
    if step == store.recipe["step"]:
        return store
    selected = store.select(np.flatnonzero(store.columns["frame"] % step == 0))
    return dataclasses.replace(selected, recipe=store.recipe | {"step": step})


def withhold_depth(store: CropStore, share: float, drop: bool = False) -> CropStore:
    """The store with depth known for a share of its sequences alone: the same ones for all methods and seeds.

    What is left is, to training, a set with labels in 2D. Taught in notebooks/08_heatmap_vs_integral.ipynb.

    Args:
        store: CropStore.
        share: of the sequences that keep their depth, 0 … 1; at least one does.
        drop: leave the other sequences out, instead of keeping them as 2D data.
    Returns:
        CropStore; the store itself where all sequences keep their depth.
    """
    if share == 1:
        return store
    sequence = sequence_index(store.columns)
    order = np.random.default_rng(DEPTH_SEED).permutation(sequence.max() + 1)
    count = max(1, round(share * len(order)))
    with_depth = np.isin(sequence, order[:count])
    if drop:
        return store.select(np.flatnonzero(with_depth))
    has_depth = store.columns["has_depth"] & with_depth
    return dataclasses.replace(store, columns=store.columns | {"has_depth": has_depth})


def shrunken_store(store: CropStore, crop_px: int) -> CropStore:
    """The same crops for a smaller training crop: each block of pixels averaged to one. Written beside the store, once.

    Args:
        store: CropStore for crops of a whole multiple of `crop_px`.
        crop_px: side of the crops wanted, px.
    Returns:
        CropStore; the store itself where it fits already.
    Raises:
        InputError: the sizes do not divide.
    """
    block, rest = divmod(store.recipe["crop_px"], crop_px)
    if rest or block == 0:
        raise InputError(
            f"{store.path} holds crops for {store.recipe['crop_px']} px; {crop_px} px does not divide them"
        )
    if block == 1:
        return store
    stored_px = store.recipe["stored_px"] // block
    recipe = store.recipe | {
        "crop_px": crop_px,
        "stored_px": stored_px,
        "shrunk_from": store.checksum,
    }
    path = store.path.with_name(f"{store.path.name}-at-{crop_px}")
    done = find_store(path)
    if done is not None and done.recipe == recipe:
        return done
    ratio = stored_px / store.recipe["stored_px"]
    shift = (ratio - 1) / 2  # pixel i of the small crop lies over (i + 0.5) / ratio - 0.5
    to_small = np.array([[ratio, 0, shift], [0, ratio, shift]])
    labels = {**store.labels, "affine": compose_affine(to_small, store.columns["affine"])}
    write_store(path, labels, _shrunken_jpegs(store, stored_px), recipe)
    return open_store(path)


def _shrunken_jpegs(store, stored_px):
    for item in progress(range(len(store)), desc=f"crops of {stored_px} px", unit="crop"):
        crop = cv2.cvtColor(store.image(item), cv2.COLOR_RGB2BGR)
        small = cv2.resize(crop, (stored_px, stored_px), interpolation=cv2.INTER_AREA)
        yield encode_jpeg(small)


def join_stores(target: Path | str, parts: Sequence[Path], recipe: dict) -> None:
    """Join stores into one, and remove each as soon as its crops are in the result, so that crops need room once.

    The crops of each part are appended to one growing file, in `join_folder`, and what is left of the part moves there.
    An interrupted join goes on when it is called again.

    Args:
        target: folder of the result, on the same disk as the parts.
        parts: folders of the stores, in the order that their items will have.
        recipe: of the result, fit for JSON.
    Raises:
        InputError: a part is missing or damaged, or something cannot be written; what was taken in stays so.
    """
    target, folder = Path(target), join_folder(parts, recipe)
    joined = folder / "joined"
    before = _identity(target)
    try:
        if not (joined / JPEGS).exists():
            shutil.rmtree(folder, ignore_errors=True)
            joined.mkdir(parents=True)
            (joined / JPEGS).write_bytes(bytes(JPEGS_START))
        rows, end = [], JPEGS_START
        with open(joined / JPEGS, "r+b") as file:
            for part in progress(parts, desc="join stores", unit="store"):
                if not is_joined(folder, part):
                    file.seek(end)
                    _append_crops(open_store(part), file)
                    part.rename(folder / part.name)
                (folder / part.name / JPEGS).unlink(missing_ok=True)
                labels = _read_labels(folder / part.name)[1]
                rows.append(labels)
                end += int(labels["size"].sum())
            file.truncate(end)
        _write_labels(joined, join_columns(rows), recipe)
        _put_in_place(joined, target, recipe, before)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; check free space and permissions, then run again"
        ) from error


def join_folder(parts: Sequence[Path], recipe: dict) -> Path:
    """Folder beside the parts in which `join_stores` works; other parts, or another recipe, have another one."""
    text = json.dumps([[part.name for part in parts], recipe])
    return parts[0].parent / f"join-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def is_joined(folder: Path, part: Path) -> bool:
    """Whether an interrupted join in `folder` has taken in the crops of a part already."""
    return (folder / part.name).is_dir() and (folder / "joined" / JPEGS).is_file()


def _append_crops(store, file):
    """Append all crops of a store to an open file; they are on disk at the end."""
    for item in range(len(store)):
        file.write(store.jpeg(item))
    file.flush()
    os.fsync(file.fileno())
