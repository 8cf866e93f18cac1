"""Crop stores of single sequences -> one store, with room for the crops once and not twice.

`prepare human36m --store` ends with it; the store itself is the subject of notebooks/04_crops_and_augmentation.ipynb.
"""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np

from ..files import InputError, atomic_path
from ..progress import progress
from .store import HEADER_ROOM, join_columns, open_store, write_columns

PICTURES = "pictures"


def join_folder(parts, recipe):
    """Folder, beside the parts, that a join of these parts works in; another list or recipe has another.

    Args:
        parts: paths of the stores, in the order that their items will have.
        recipe: of the result, a JSON-able dict.
    Returns:
        Path.
    """
    text = json.dumps([[path.name for path in parts], recipe])
    return Path(parts[0]).parent / f"join-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def is_joined(folder, part):
    """Whether an interrupted join in `folder` has taken in the store `part` already, which is gone since."""
    return _labels_path(folder, part).is_file() and (folder / PICTURES).is_file()


def join_stores(target, parts, recipe):
    """Join stores of single sequences into one, and remove each as soon as its crops are in the result.

    The crops of each part are appended to one growing file, in `join_folder`, and its labels kept beside it; in the end
    that file gets the labels and moves to `target` in one step. An interrupted join goes on when it is called again.

    Args:
        target: the file, on the same disk as the parts.
        parts: paths of stores, in the order that their items will have.
        recipe: of the result, a JSON-able dict.
    Raises:
        InputError: a part is missing or damaged, or something cannot be written; what was taken in stays so.
    """
    target, parts = Path(target), [Path(part) for part in parts]
    folder = join_folder(parts, recipe)
    pictures = folder / PICTURES
    rows, sizes, crcs = [], [np.zeros(1, np.int64)], []
    try:
        if (
            not pictures.exists()
        ):  # labels that a finished join left behind say nothing of these parts
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        with open(pictures, "r+b" if pictures.exists() else "w+b") as file:
            end = HEADER_ROOM
            for part in progress(parts, desc="join stores", unit="store"):
                if not _labels_path(folder, part).is_file():
                    _take_in(folder, part, file, end)
                part.unlink(missing_ok=True)
                row = _read_labels(folder, part)
                sizes.append(row.pop("sizes"))
                crcs.append(row.pop("crc"))
                rows.append(row)
                end += int(sizes[-1].sum())
            if file.seek(0, os.SEEK_END) < end:
                raise InputError(
                    f"{pictures} is shorter than its labels say; delete {folder.parent} and run again"
                )
            file.seek(end)
            file.truncate()
            write_columns(
                file, join_columns(rows), np.concatenate(sizes), np.concatenate(crcs), recipe
            )
            file.flush()
            os.fsync(file.fileno())
        pictures.replace(target)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; check free space and permissions, then run again"
        ) from error


def _labels_path(folder, part):
    return folder / f"{Path(part).stem}.npz"


def _take_in(folder, part, file, end):
    """Append the crops of one store at byte `end` of `file`; only when they are on disk are its labels written."""
    store = open_store(part)
    file.seek(end)
    for i in range(len(store)):
        file.write(store.jpeg(i))
    file.flush()
    os.fsync(file.fileno())
    with atomic_path(_labels_path(folder, part)) as temporary, open(temporary, "wb") as labels:
        np.savez(
            labels, sizes=np.diff(store.columns["start"]), crc=store.columns["crc"], **store.labels
        )


def _read_labels(folder, part):
    """What `_take_in` wrote, a dict of arrays."""
    path = _labels_path(folder, part)
    try:
        with np.load(path) as content:
            return dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}); delete {folder.parent} and run again"
        ) from error
