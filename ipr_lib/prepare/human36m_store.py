"""Human3.6M from its raw download straight into crop stores, without whole pictures in between.

What `python -m ipr_lib prepare human36m --store PX` does.
"""

import itertools
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..data.h36m_layout import (
    CAMERAS,
    SKIPPED_FOLDERS,
    SUBJECTS,
    TEST_STEP,
    TEST_SUBJECTS,
    TRAIN_STEP,
    CameraView,
    folder_name,
)
from ..data.images import encode_crop
from ..data.store import (
    MARGIN,
    find_store,
    is_joined,
    join_folder,
    join_stores,
    label_columns,
    open_store,
    write_store,
)
from ..files import InputError
from .human36m import ALL_ACTIONS, read_frames, read_labels, run


def prepare_stores(
    source,
    target,
    name,
    *,
    crop_px,
    subjects=SUBJECTS,
    actions=ALL_ACTIONS,
    step=TRAIN_STEP,
    test_step=TEST_STEP,
    test_subjects=TEST_SUBJECTS,
    lens=False,
    reader="opencv",
    metadata=None,
    workers=1,
):
    """Write the crop stores of training and test subjects from the raw download.

    Each camera view becomes a small store of its own first, so that an interrupted run goes on where it was. When all are
    there they are joined, and each is removed on the way, so that crops need room once. A store that is there already, with
    the same choices, is kept.

    Args:
        source, subjects, actions, step, test_step, test_subjects, lens, reader, metadata, workers: see `human36m.prepare`.
        target: folder of the stores.
        name: of the set; the stores are called NAME-train-PX and NAME-test-PX.
        crop_px: side of the crops that training will cut, px; stored crops are `store.MARGIN` times as wide.
    Returns:
        list of lines that say what was done.
    Raises:
        InputError: as `human36m.prepare`; no store is written before all sequences are there.
    """
    target = Path(target)
    scratch, stored_px = target / f".views-{name}-{crop_px}", round(crop_px * MARGIN)
    report = []
    joins = []  # (path of a store, paths of its parts, its recipe)
    steps, join_of = {}, {}  # by subject, by part
    for split in ("train", "test"):
        own = [subject for subject in subjects if (subject in test_subjects) == (split == "test")]
        if not own:
            continue
        path = target / f"{name}-{split}-{crop_px}"
        own_step = test_step if split == "test" else step
        recipe = {
            "source": name,
            "subjects": own,
            "step": own_step,
            "crop_px": crop_px,
            "stored_px": stored_px,
            "origin": None,
            "lens": lens,
            "actions": list(actions),
        }
        if _has_recipe(path, recipe):
            report.append(f"{path} was there already: {len(open_store(path))} items")
            continue
        parts = []
        for numbers in itertools.product(own, actions, (1, 2), CAMERAS):
            if folder_name(*numbers) not in SKIPPED_FOLDERS:
                parts.append(scratch / folder_name(*numbers))
        parts.sort()
        joins.append((path, parts, recipe))
        steps |= dict.fromkeys(own, own_step)
        join_of |= dict.fromkeys(parts, join_folder(parts, recipe))

    def place(folder):
        return scratch / folder

    def is_done(task):
        if is_joined(join_of[task.target], task.target):
            return True
        return _has_recipe(task.target, _recipe(task, stored_px))

    if joins:
        work = partial(_write_part, stored_px)
        report += run(
            source, target, steps, actions, place, is_done, work, lens, reader, metadata, workers
        )
    for path, parts, recipe in joins:
        join_stores(path, parts, recipe)
        report.append(f"{path}: {len(open_store(path))} items")
    shutil.rmtree(scratch, ignore_errors=True)
    return report


def _has_recipe(path, recipe):
    """Whether a complete store of this recipe lies there."""
    store = find_store(path)
    return store is not None and store.recipe == recipe


def _recipe(task, stored_px):
    return {
        "source": task.target.name,
        "step": task.step,
        "stored_px": stored_px,
        "lens": task.lens,
    }


def _write_part(stored_px, task):
    """Write the store of one camera view; runs in a worker. Returns (error line or None, checked)."""
    cv2.setNumThreads(1)
    try:
        joints_world, checked = read_labels(task)
        wanted = np.arange(0, len(joints_world), task.step)
        camera, frames = read_frames(task, wanted, joints_world)
        view = CameraView(task.target, *task.key, task.camera_id, camera, joints_world)
        columns = label_columns(view, wanted, stored_px)
        jpegs = []
        for (_, image), affine in zip(frames, columns["affine"], strict=True):
            jpegs.append(encode_crop(image, affine, stored_px))
        write_store(task.target, columns, jpegs, _recipe(task, stored_px))
    except InputError as error:
        return str(error), False
    return None, checked
