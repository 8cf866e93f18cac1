"""The studio: four cameras, and the writing of takes in the prepared layout. Taught in notebooks/02_prepare_human36m.ipynb."""

import contextlib
import itertools
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from ..camera import look_at
from ..files import InputError, atomic_path, read_json, write_json
from ..layout import META_NAME, SPLITS, SUBJECTS, action_name, folder_name, picture_name, write_meta
from .actions import perform
from .light import studio_light
from .render import picture, render_frame, stage

CAPTURE_VERSION = 1  # rises whenever the same recipe would give other pictures or poses
MANIFEST = "capture.json"
JPEG_QUALITY = 90
_TRAIN_SUBJECTS, _TEST_SUBJECTS = SPLITS["S1,5,6,7,8 / S9,11"]
# centre (mm), where it looks (mm), focal lengths (px), principal point (px), height (px); all are 1000 px wide
_CAMERAS = {
    1: ((2330.0, 5290.0, 1560.0), (10.0, 60.0, 870.0), (1146.3, 1144.9), (511.6, 516.2), 1002),
    2: ((2510.0, -5180.0, 1640.0), (-30.0, 10.0, 880.0), (1148.2, 1147.1), (508.1, 504.3), 1000),
    3: ((-2470.0, 5210.0, 1475.0), (40.0, -50.0, 860.0), (1151.7, 1150.2), (497.3, 507.9), 1000),
    4: ((-2290.0, -5330.0, 1705.0), (-20.0, 0.0, 890.0), (1144.5, 1145.6), (503.8, 492.7), 1002),
}


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
        number: replace(camera, f=camera.f * scale, c=(camera.c + 0.5) * scale - 0.5, width=picture_px,
                        height=round(camera.height * scale))
        for number, camera in cameras.items()
    }


def write_capture(target, *, subjects, actions, takes, cameras, n_frames, train_step, test_step, seed=0, workers=1,
                  picture_px=None):
    """Write a capture in the prepared layout; what is already there of the same recipe stays.

    Args:
        target: folder to write to; made if missing.
        subjects, actions, takes, cameras: numbers to record, Human3.6M's (takes and cameras from 1).
        n_frames: poses per take, at 50 Hz.
        train_step, test_step: every how many frames one is drawn, for subjects 1, 5, 6, 7, 8 and for 9, 11.
        seed: of motion, light and noise.
        workers: processes.
        picture_px: width of the pictures, or None for full size.
    Returns:
        Path of `target`.
    Raises:
        InputError: a number is out of range, `target` holds another recipe or cannot be written, a worker failed.
    """
    target = Path(target)
    recipe = {
        "version": CAPTURE_VERSION, "subjects": sorted(subjects), "actions": sorted(actions), "takes": sorted(takes),
        "cameras": sorted(cameras), "n_frames": n_frames, "train_step": train_step, "test_step": test_step,
        "seed": seed, "picture_px": picture_px, "jpeg_quality": JPEG_QUALITY,
    }
    _check_recipe(recipe, workers)
    _settle_manifest(target, recipe)
    for leftover in target.glob(".partial-*"):  # of a run that was killed
        _remove_folder(leftover)
    tasks = [
        (str(target), recipe, subject, action, take)
        for subject, action, take in itertools.product(recipe["subjects"], recipe["actions"], recipe["takes"])
        if not all(_complete(target / folder_name(subject, action, take, camera)) for camera in recipe["cameras"])
    ]
    counts = [_picture_count(recipe, subject) for _, _, subject, _, _ in tasks]
    with tqdm(total=sum(counts), desc="capture", unit="picture", disable=None) as bar:
        for written in _run(tasks, workers):
            bar.update(written)
    return target


def _check_recipe(recipe, workers):
    """InputError for numbers that name nothing."""
    known = {"subjects": set(SUBJECTS), "actions": set(range(2, 17)), "takes": {1, 2}, "cameras": set(_CAMERAS)}
    for name, values in known.items():
        wrong = sorted(set(recipe[name]) - values)
        if wrong or not recipe[name]:
            raise InputError(f"{name}: {wrong or 'nothing'} asked for, expected some of {sorted(values)}")
    least = {"n_frames": 1, "train_step": 1, "test_step": 1, "seed": 0, "picture_px": 16}
    for name, low in least.items():
        value = recipe[name]
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
        if target.is_dir() and any(target.glob("s_??_act_??_subact_??_ca_??")):
            raise InputError(
                f"{target} holds sequences but no {MANIFEST}, so they are not from this capture; choose another target"
            )
        write_json(path, recipe)
        return
    there = read_json(path)
    if not isinstance(there, dict):
        raise InputError(f"{path} is not a capture's recipe; delete {target} or choose another target")
    wanted = json.loads(json.dumps(recipe))
    differing = [
        f"{name} {there.get(name)} there, {wanted.get(name)} asked for"
        for name in sorted({*there, *wanted}) if there.get(name) != wanted.get(name)
    ]
    if differing:
        raise InputError(
            f"{target} holds a capture of another recipe ({'; '.join(differing)}); delete it or choose another target"
        )


def _complete(folder):
    """Whether a sequence is there: folders get their final name only when whole."""
    return (folder / META_NAME).is_file()


def _remove_folder(folder):
    """Remove a folder of one level of folders of files, as far as that goes."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _step(recipe, subject):
    return recipe["train_step"] if subject in _TRAIN_SUBJECTS else recipe["test_step"]


def _picture_count(recipe, subject):
    """Pictures that one take of a subject comes to, all cameras."""
    return len(range(0, recipe["n_frames"], _step(recipe, subject))) * len(recipe["cameras"])


def _run(tasks, workers):
    """Record all tasks; yields the number of pictures of each finished one."""
    if workers == 1 or len(tasks) <= 1:
        yield from map(_record_take, tasks)
        return
    # Fresh processes: forked ones would inherit whatever threads the caller's libraries run.
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(min(workers, len(tasks)), initializer=_start_worker)
    with contextlib.closing(pool):
        try:
            yield from pool.imap_unordered(_record_take, tasks)
        except BaseException:  # Ctrl-C above all: do not wait for takes that nobody wants any more
            pool.terminate()
            raise
    pool.join()


def _start_worker():
    """One thread per process, and Ctrl-C is the parent's business."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _record_take(task):
    """Record one take with all its cameras; returns the number of pictures written."""
    target, recipe, subject, action, take = task
    try:
        return _write_take(Path(target), recipe, subject, action, take)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"S{subject} {action_name(action)} take {take} could not be recorded ({type(error).__name__}: {error})"
        ) from error


def _write_take(target, recipe, subject, action, take):
    performance = perform(subject, action, take, recipe["n_frames"], seed=recipe["seed"])
    light = studio_light(np.random.default_rng([recipe["seed"], subject, action, take]))
    cameras = studio_cameras(recipe["picture_px"])
    frames = range(0, recipe["n_frames"], _step(recipe, subject))
    missing = [
        number for number in recipe["cameras"]
        if not _complete(target / folder_name(subject, action, take, number))
    ]
    with contextlib.ExitStack() as stack:
        folders = {}
        for number in missing:
            folders[number] = stack.enter_context(atomic_path(target / folder_name(subject, action, take, number)))
            folders[number].mkdir()
        for frame in frames:
            staged = stage(performance, frame, light=light)
            for number, folder in folders.items():
                noise = (recipe["seed"], subject, action, take, number, frame)
                _write_jpeg(folder / picture_name(folder.name, frame), picture(staged, cameras[number], noise))
        for number, folder in folders.items():
            write_meta(folder / META_NAME, cameras[number], performance.joints_world)
    return len(frames) * len(recipe["cameras"])


def _write_jpeg(path, rgb):
    """Write (H, W, 3) uint8 RGB as JPEG."""
    good, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not good:
        raise RuntimeError("OpenCV could not encode the picture")
    path.write_bytes(data)


def contact_sheet(subjects=SUBJECTS, actions=tuple(range(2, 17)), *, take=1, camera=None, frame=60, cell_px=130,
                  seed=0):
    """One picture of every actor in every action: rows are actors, columns actions.

    Args:
        subjects, actions: numbers. take: 1 or 2.
        camera: camera number, or None for whichever sees most of the face.
        frame: 0-based frame shown.
        cell_px: side of a cell, px.
        seed: of the motion.
    Returns:
        (len(subjects) * cell_px, len(actions) * cell_px, 3) uint8, RGB.
    """
    sheet = np.empty((len(subjects) * cell_px, len(actions) * cell_px, 3), np.uint8)
    cameras = studio_cameras()
    for i, subject in enumerate(subjects):
        for j, action in enumerate(actions):
            performance = perform(subject, action, take, frame + 1, seed=seed)
            seen_by = cameras[camera or _facing_camera(performance, frame, cameras)]
            rgb = render_frame(performance, frame, seen_by, seed=(seed, subject, action))
            cell = _crop_around(rgb, seen_by, performance.joints_world[frame], cell_px)
            sheet[i * cell_px:(i + 1) * cell_px, j * cell_px:(j + 1) * cell_px] = cell
    return sheet


def _facing_camera(performance, frame, cameras):
    """Number of the camera that the chest looks at most."""
    forward = performance.frames_world["chest"][frame][:, 1]
    pelvis = performance.joints_world[frame, 0]
    return max(cameras, key=lambda number: forward @ (cameras[number].T - pelvis)
               / np.linalg.norm(cameras[number].T - pelvis))


def _crop_around(rgb, camera, joints_world, side_px):
    """Square picture around a person, (side_px, side_px, 3)."""
    joints = camera.world_to_camera(joints_world)
    points = camera.camera_to_image(joints)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    half = max(0.5 * np.ptp(points, axis=0).max() * 1.22, 620 * camera.f[0] / joints[0, 2] )
    scale = side_px / (2 * half)
    M = np.array([[scale, 0, side_px / 2 - scale * middle[0] - 0.5], [0, scale, side_px / 2 - scale * middle[1] - 0.5]])
    finer = cv2.GaussianBlur(rgb, (0, 0), max(0.3, 0.35 / scale)) if scale < 0.9 else rgb
    return cv2.warpAffine(finer, M, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
