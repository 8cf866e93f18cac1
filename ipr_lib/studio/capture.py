"""The studio: four cameras, and the writing of takes in the prepared layout. Taught in notebooks/02_prepare_human36m.ipynb."""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..data.h36m_layout import (
    META_NAME,
    SUBJECTS,
    TRAIN_SUBJECTS,
    action_name,
    folder_name,
    image_name,
    write_meta,
)
from ..files import InputError, atomic_path, read_json, write_json, writing
from ..geometry.camera import look_at
from ..parallel import parallel_map
from ..progress import progress
from .actions.plays import perform
from .drawing.light import studio_light
from .drawing.render import picture, stage
from .scenes.looks import outfit

CAPTURE_VERSION = 2  # rises whenever the same recipe would give other pictures or poses
MANIFEST = "capture.json"
JPEG_QUALITY = 90
# Chosen so that every joint of every take lies in all four pictures.
# Centre (mm), where it looks (mm), focal lengths (px), principal point (px), height (px); all are 1000 px wide
_CAMERAS = {
    1: ((2330.0, 5290.0, 1560.0), (-290.0, 190.0, 870.0), (1146.3, 1144.9), (511.6, 516.2), 1002),
    2: ((2510.0, -5180.0, 1640.0), (-170.0, -60.0, 880.0), (1148.2, 1147.1), (508.1, 504.3), 1000),
    3: ((-2470.0, 5210.0, 1475.0), (270.0, 60.0, 860.0), (1151.7, 1150.2), (497.3, 507.9), 1000),
    4: ((-2290.0, -5330.0, 1705.0), (200.0, -90.0, 890.0), (1144.5, 1145.6), (503.8, 492.7), 1002),
}


@dataclass(frozen=True)
class Take:
    """One take to record.

    Attributes:
        subject, action, number: of the take; they name its folders.
        n_frames: poses.
        play: gives the Performance when called; travels to other processes.
    """

    subject: int
    action: int
    number: int
    n_frames: int
    play: Callable


def studio_cameras(picture_px=None):
    """The four cameras of the studio.

    Args:
        picture_px: width that the pictures (1000 px wide) are brought to, or None to leave them.
    Returns:
        dict of Camera by camera number 1..4.
    """
    cameras = {
        number: look_at(centre, target, f, c, 1000, height)
        for number, (centre, target, f, c, height) in _CAMERAS.items()
    }
    if picture_px is None:
        return cameras
    scale = picture_px / 1000
    # Pixel centres: the picture's edge, half a pixel before pixel 0, is what stays in place.
    return {
        number: replace(
            camera,
            f=camera.f * scale,
            c=(camera.c + 0.5) * scale - 0.5,
            width=picture_px,
            height=round(camera.height * scale),
        )
        for number, camera in cameras.items()
    }


def write_capture(
    target,
    *,
    subjects,
    actions,
    takes,
    cameras,
    n_frames,
    train_step,
    test_step,
    seed=0,
    workers=1,
    picture_px=None,
    trained_on=(),
):
    """Write a capture in the prepared layout; what is already there of the same recipe stays.

    Args:
        target: folder to write to; made if missing.
        subjects, actions, takes, cameras: numbers to record, Human3.6M's (takes and cameras from 1).
        n_frames: poses per take, at 50 Hz.
        train_step, test_step: every how many frames one is drawn, for subjects 1, 5, 6, 7, 8 and for 9, 11.
        seed: of motion, light and noise.
        workers: processes.
        picture_px: width of the pictures, or None for full size.
        trained_on: which of 9 and 11 are drawn every train_step frames, too.
    Returns:
        Path of `target`.
    Raises:
        InputError: a number is out of range, `target` holds another recipe or cannot be written, a worker failed.
    """
    target = Path(target)
    recipe = {
        "version": CAPTURE_VERSION,
        "subjects": sorted(subjects),
        "actions": sorted(actions),
        "takes": sorted(takes),
        "cameras": sorted(cameras),
        "n_frames": n_frames,
        "train_step": train_step,
        "test_step": test_step,
        "seed": seed,
        "picture_px": picture_px,
        "jpeg_quality": JPEG_QUALITY,
    }
    if trained_on:  # else the recipe reads as it did before there was a choice
        recipe["trained_on"] = sorted(trained_on)
    check_recipe(recipe, workers)
    record_takes(
        target,
        recipe,
        [
            Take(*numbers, n_frames, partial(perform, *numbers, n_frames, seed=seed))
            for numbers in itertools.product(recipe["subjects"], recipe["actions"], recipe["takes"])
        ],
        workers,
    )
    return target


def record_takes(target, recipe, takes, workers=1):
    """Record what is missing of some takes.

    Args:
        target: folder to write to. recipe: JSON-able dict that is kept with the capture, checked.
        takes: list of Take. workers: processes.
    Raises:
        InputError: as `write_capture`.
    """
    target = Path(target)
    with writing(target):
        _settle_manifest(target, recipe)
        _sweep(target)
        _record_missing(target, recipe, takes, workers)


def _record_missing(target, recipe, takes, workers):
    """Record what is missing of some takes, see `record_takes`."""
    tasks = [
        (str(target), recipe, take) for take in takes if _missing_cameras(target, recipe, take)
    ]
    total = sum(len(_missing_cameras(*task)) * len(_frames(*task[1:])) for task in tasks)
    try:
        # Without a bar where nothing is left to do: in a notebook it would stay, empty, at 0/0.
        with progress(
            total=total, desc="capture", unit="picture", show=total > 0, smoothing=0.1
        ) as bar:
            for written in parallel_map(_record_take, tasks, workers):
                bar.update(written)
    finally:
        _sweep(target)


def check_recipe(recipe, workers):
    """InputError for numbers that name nothing; what a recipe does not hold is not checked."""
    known = {
        "subjects": set(SUBJECTS),
        "actions": set(range(2, 17)),
        "takes": {1, 2},
        "cameras": set(_CAMERAS),
    }
    for name, values in known.items():
        if name not in recipe:
            continue
        wrong = sorted(set(recipe[name]) - values)
        if wrong or not recipe[name]:
            raise InputError(
                f"{name}: {wrong or 'nothing'} asked for, expected some of {sorted(values)}"
            )
    least = {"n_frames": 1, "train_step": 1, "test_step": 1, "seed": 0, "picture_px": 16}
    for name, low in least.items():
        value = recipe.get(name, low)
        if value is None and name == "picture_px":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"{name} is {value!r}, expected a whole number of at least {low}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers is {workers!r}, expected a whole number of at least 1")


def _settle_manifest(target, recipe):
    """Write the recipe into a new capture, or hold it against the one that is there."""
    path = target / MANIFEST
    if not path.exists():
        others = sorted(target.iterdir()) if target.is_dir() else []
        others = [entry.name for entry in others if not entry.name.startswith(".")]
        if others:
            raise InputError(
                f"{target} holds {others[0]} but no {MANIFEST}, so it is no capture's folder; name another with --target"
            )
        write_json(path, recipe)
        return
    there = read_json(path)
    if not isinstance(there, dict):
        raise InputError(
            f"{path} is not a capture's recipe; delete {target} or choose another target"
        )
    wanted = json.loads(json.dumps(recipe))
    differing = [
        f"{name} {there.get(name)} there, {wanted.get(name)} asked for"
        for name in sorted({*there, *wanted})
        if there.get(name) != wanted.get(name)
    ]
    if differing:
        raise InputError(
            f"{target} holds a capture of another recipe ({'; '.join(differing)}); delete it or choose another target"
        )


def _sweep(target):
    """Remove what takes that were cut short left under temporary names."""
    for leftover in Path(target).glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _frames(recipe, take):
    """0-based frames that are drawn."""
    often = take.subject in (*TRAIN_SUBJECTS, *recipe.get("trained_on", ()))
    step = recipe["train_step"] if often else recipe["test_step"]
    return range(0, take.n_frames, step)


def _missing_cameras(target, recipe, take):
    """Cameras whose sequence of a take is not there yet, or is no longer whole."""
    wanted = len(_frames(recipe, take))
    missing = []
    for number in recipe["cameras"]:
        folder = Path(target) / folder_name(take.subject, take.action, take.number, number)
        names = os.listdir(folder) if folder.is_dir() else ()
        if META_NAME not in names or sum(name.endswith(".jpg") for name in names) != wanted:
            missing.append(number)
    return missing


def _record_take(task):
    """Record one take with all its cameras; returns the number of pictures written."""
    target, recipe, take = task
    try:
        return _write_take(Path(target), recipe, take)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"S{take.subject} {action_name(take.action)} take {take.number} could not be recorded ({type(error).__name__}: {error})"
        ) from error


def _write_take(target, recipe, take):
    performance = take.play()
    numbers = take.subject, take.action, take.number
    light = studio_light(np.random.default_rng([recipe["seed"], *numbers]))
    look = outfit(*numbers, recipe["seed"])
    cameras = studio_cameras(recipe["picture_px"])
    frames = _frames(recipe, take)
    missing = _missing_cameras(target, recipe, take)
    with contextlib.ExitStack() as stack:
        folders = {}
        for number in missing:
            folders[number] = stack.enter_context(
                atomic_path(target / folder_name(*numbers, number))
            )
            folders[number].mkdir()
        for frame in frames:
            staged = stage(performance, frame, look, light)
            for number, folder in folders.items():
                noise = (recipe["seed"], *numbers, number, frame)
                _write_jpeg(
                    folder / image_name(folder.name, frame),
                    picture(staged, cameras[number], noise),
                )
        for number, folder in folders.items():
            write_meta(folder / META_NAME, cameras[number], performance.joints_world)
    return len(frames) * len(missing)


def _write_jpeg(path, rgb):
    """Write (H, W, 3) uint8 RGB as JPEG."""
    good, data = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not good:
        raise RuntimeError("OpenCV could not encode the picture")
    path.write_bytes(data)
