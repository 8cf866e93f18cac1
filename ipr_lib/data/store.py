"""The crop store: one crop and its labels for each person and image, built once from a prepared set.

Training never reads a whole image again: a stored crop is the person box, widened for augmentation, at the size that
training needs. A store is a folder of NumPy files. Each column of labels is one of them, such as `joints_cam.npy`;
`jpegs.npy` holds the bytes of all crops, end to end; `store.json` says what the store was built from, and has a checksum
of each file. Taught in notebooks/04_crops_and_augmentation.ipynb.
"""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..files import InputError, atomic_path, writing
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, SKELETONS, Skeleton, add_thorax, convert_joints
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
from .images import cut_crops, encode_jpeg

VERSION = 5
HEADER, JPEGS = "store.json", "jpegs.npy"
JPEGS_START = 128  # bytes before the first crop: NumPy's header, which it pads to this length
MEND = "delete the store and build it again"
# A zoom out of 25 % needs 1.333 box sides; corners of crops that are turned, too, repeat the outermost pixels. 256 px
# become 343 px, since JPEG works in blocks of 8 px and a side just below a multiple of 8 wastes none.
MARGIN = 1.338
# Chooses the sequences that keep their depth; the same for every run, whatever its seed.
DEPTH_SEED = 8


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

    def rows(self, name: str, items: np.ndarray) -> np.ndarray:
        """Rows of one column, their joints brought to HUMAN36M by name; a joint without a partner is not visible.

        Args:
            name: of the column.
            items: (m,) indices.
        Returns:
            (m, …).
        """
        rows = self.columns[name][items]
        if self.skeleton == HUMAN36M or name not in ("joints_cam", "joints_img", "visible"):
            return rows
        n, n_joints = rows.shape[:2]
        joints = convert_joints(rows.reshape(n, n_joints, -1), self.skeleton, HUMAN36M)[0]
        return joints.reshape(n, len(HUMAN36M), *rows.shape[2:])

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
    if not path.is_dir():
        raise InputError(f"{path} is missing; build it first, e.g. with `python -m ipr_lib train`")
    header = _read_header(path)
    columns = {}
    for name, checksum in header["columns"].items():
        file = path / f"{name}.npy"
        _check_file(file, checksum)
        columns[name] = np.load(file, mmap_mode="r")
    file = path / JPEGS
    _check_file(file, header["jpegs"], JPEGS_START)
    if file.stat().st_size != JPEGS_START + columns["size"].sum():
        raise InputError(f"{file} is incomplete; {MEND}")
    # Without the memmap class, whose every slice costs several microseconds.
    jpegs = np.asarray(np.load(file, mmap_mode="r"))
    return CropStore(path, header["recipe"], columns, jpegs)


def find_store(path: Path | str) -> CropStore | None:
    """The store at `path`; None where it has to be built: it is missing, damaged or of another version."""
    try:
        return open_store(path)
    except InputError:
        return None


def _read_header(folder):
    """Content of a store's `store.json`, verified."""
    file = folder / HEADER
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        version, checksum = header["version"], header.pop("checksum", None)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{file} is missing or damaged; {MEND}") from error
    if version != VERSION:
        raise InputError(
            f"{folder} is of version {version}, this library reads version {VERSION}; {MEND}"
        )
    if checksum != _header_checksum(header):
        raise InputError(f"{file} is damaged; {MEND}")
    return header


def _header_checksum(header):
    """CRC-32 of all that `store.json` says, apart from this number."""
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())


def _check_file(file, checksum, size=-1):
    """InputError unless a file, or its first `size` bytes, have this CRC-32."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(size)
    except OSError as error:
        raise InputError(f"{file} is missing; {MEND}") from error
    if zlib.crc32(content) != checksum:
        raise InputError(f"{file} is damaged; {MEND}")


# ---------------------------------------------------------------- write


def write_store(
    target: Path | str, recipe: dict, items: Iterable[tuple[dict[str, np.ndarray], Iterable]]
) -> None:
    """Write a crop store.

    It is written into a folder with a temporary name, which is renamed at the end; a process that
    is killed leaves nothing that could be taken for a store.

    Args:
        target: the folder; a store that is there is replaced.
        recipe: what the store is built from, fit for JSON.
        items: pairs, e.g. one a camera view: labels by name, one row an item, see
            `CropStore.labels`; and their encoded crops, in the same order. Each crop goes to disk
            as it comes.
    Raises:
        InputError: `target` cannot be written, or a store of an older version lies beside it.
            Nothing is left behind then, nor if `items` raises.
    """
    target = Path(target)
    old = target.with_name(f"{target.name}.crops")
    if old.is_file():  # up to version 4, a store was one file
        raise InputError(
            f"{old} is a crop store of an older version, in one file; delete it and run again"
        )
    rows = []
    with atomic_path(target) as folder:
        folder.mkdir()
        with open(folder / JPEGS, "wb") as file:
            file.write(bytes(JPEGS_START))
            for columns, jpegs in items:
                sizes, crcs = [], []
                for jpeg in jpegs:
                    file.write(jpeg)
                    sizes.append(len(jpeg))
                    crcs.append(zlib.crc32(jpeg))
                bytes_of = {"size": np.array(sizes, np.int64), "crc": np.array(crcs, np.uint32)}
                rows.append(columns | bytes_of)
        _write_labels(folder, join_columns(rows), recipe)


def join_columns(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of several camera views, one below the other; a pinhole beside a lens gets zeros as k and p."""
    lens = any("k" in row for row in rows)
    columns = {}
    for row in rows:
        if lens:
            n = len(row["frame"])
            row = {"k": np.zeros((n, 3)), "p": np.zeros((n, 2)), **row}
        for name, column in row.items():
            columns.setdefault(name, []).append(column)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _write_labels(folder, columns, recipe):
    """Write labels beside the crops, and last of all `store.json`: then the folder is a store."""
    ends = np.cumsum(columns["size"])
    columns["start"] = ends - columns["size"]
    with open(folder / JPEGS, "r+b") as file:
        shape = (int(columns["size"].sum()),)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        assert file.tell() == JPEGS_START, "NumPy's header has another length"
        file.seek(0)
        jpegs_header = file.read(JPEGS_START)
    checksums = {}
    for name, column in columns.items():
        file = folder / f"{name}.npy"
        np.save(file, column)
        checksums[name] = zlib.crc32(file.read_bytes())
    header = {
        "version": VERSION,
        "recipe": recipe,
        "columns": checksums,
        "jpegs": zlib.crc32(jpegs_header),
    }
    header["checksum"] = _header_checksum(header)
    (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


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
    with writing(shared):  # and all stores that are named after it
        for path in (shared, own):
            store = find_store(path)
            if store is None:
                continue
            recipe = store.recipe
            same_choice = wanted.items() <= recipe.items()
            # A store that `prepare human36m --store` wrote has no prepared folder behind it that might have changed.
            same_data = "actions" in recipe or recipe["origin"] == origin
            if same_choice and same_data and step % recipe["step"] == 0:
                if step == recipe["step"]:
                    return store
                thin = store.select(np.flatnonzero(store.columns["frame"] % step == 0))
                return dataclasses.replace(thin, recipe=recipe | {"step": step})
            if path == shared and not (same_choice and recipe["step"] == step):
                target = own
        return build_store(source, target, subjects, step, crop_px, workers)


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
    subjects: Sequence[int],
    step: int,
    crop_px: int,
    workers: int = 1,
) -> CropStore:
    """Build a crop store from a prepared set.

    Args:
        root: folder of the prepared set.
        target: folder of the store.
        subjects: subject numbers to take.
        step: every how many frames one is used.
        crop_px: side of the crops that training will cut, px; stored crops are `MARGIN` times as wide.
        workers: number of processes.
    Returns:
        CropStore, opened.
    Raises:
        InputError: anything unreadable in `root` (the message names the file), or `target` cannot be written.
    """
    root = Path(root)
    stored_px = round(crop_px * MARGIN)
    recipe = {
        "source": root.name,
        "subjects": list(subjects),
        "step": step,
        "crop_px": crop_px,
        "stored_px": stored_px,
        "origin": labels_mark(root, subjects),
    }
    tasks = [(folder, step, stored_px) for folder in folders_in_use(root, subjects)]
    views = parallel_map(_cut_camera_view, tasks, workers)
    write_store(target, recipe, progress(views, total=len(tasks), desc="crop store", unit="folder"))
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
        jpegs += cut_crops(path, camera.width, camera.height, affine[None], stored_px)
    return columns, jpegs


def label_columns(view: CameraView, frames: np.ndarray, stored_px: int) -> dict[str, np.ndarray]:
    """The labels of a store for some frames of one camera view.

    Args:
        view: CameraView.
        frames: (m,) 0-based.
        stored_px: side of the stored crops, px.
    Returns:
        dict of arrays with m rows, see `CropStore`.
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
    if camera.k is not None:
        calibration |= {"k": camera.k, "p": camera.p}
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
    with writing(path):
        done = find_store(path)
        if done is None or done.recipe != recipe:
            _write_shrunken(store, path, recipe)
        return open_store(path)


def _write_shrunken(store, path, recipe):
    """Write the store of `shrunken_store`."""
    stored_px = recipe["stored_px"]
    ratio = stored_px / store.recipe["stored_px"]
    shift = (ratio - 1) / 2  # pixel i of the small crop lies over (i + 0.5) / ratio - 0.5
    to_small = np.array([[ratio, 0, shift], [0, ratio, shift]])
    labels = {**store.labels, "affine": compose_affine(to_small, store.columns["affine"])}
    write_store(path, recipe, [(labels, _shrunken_jpegs(store, stored_px))])


def _shrunken_jpegs(store, stored_px):
    """The crops of a store, each block of pixels averaged to one."""
    for item in progress(range(len(store)), desc=f"crops of {stored_px} px", unit="crop"):
        crop = cv2.cvtColor(store.image(item), cv2.COLOR_RGB2BGR)
        small = cv2.resize(crop, (stored_px, stored_px), interpolation=cv2.INTER_AREA)
        yield encode_jpeg(small)


def join_stores(target: Path | str, parts: Sequence[Path], recipe: dict) -> None:
    """Write a store with the items of several; while it is written, the crops need room twice.

    Args:
        target: folder of the result.
        parts: folders of the stores, in the order that their items will have.
        recipe: of the result, fit for JSON.
    Raises:
        InputError: a part is missing or damaged, or `target` cannot be written.
    """
    stores = (open_store(path) for path in progress(parts, desc="join stores", unit="store"))
    write_store(
        target, recipe, ((store.labels, map(store.jpeg, range(len(store)))) for store in stores)
    )
