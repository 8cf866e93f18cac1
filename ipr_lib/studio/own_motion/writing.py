"""Own motion in the studio: BVH files dealt out to the actors and put where all cameras see them.

What `python -m ipr_lib capture --motion DIR` does.
"""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ...data.h36m_layout import ACTIONS, CAMERAS, FIRST_ACTION
from ...files import InputError
from ...progress import progress
from ..acting.actors import ACTORS
from ..capture import (
    CAPTURE_VERSION,
    JPEG_QUALITY,
    Take,
    check_recipe,
    record_takes,
    studio_cameras,
)
from .bvh import read_bvh
from .retarget import centred, moved, perform_bvh

MOTION_VERSION = 2  # rises whenever the same file would give other poses

_MARGIN_PX = 8  # of the full-size picture
_HEADINGS = 24
_ROOM_MM = 7000.0  # more than the longest way across what all cameras see


def write_motion(
    target,
    motion,
    *,
    subjects,
    train_step,
    test_step,
    cameras=CAMERAS,
    unit_mm=None,
    up=None,
    seed=0,
    workers=1,
    picture_px=None,
):
    """Write a capture of own motion in the prepared layout; what is already there of the same recipe stays.

    Args:
        target: folder to write to; made if missing.
        motion: folder with .bvh files.
        subjects: the actors, in the order in which files are dealt out; cameras: camera numbers to record.
        train_step, test_step: every how many frames one is drawn, see `studio.write_capture`.
        unit_mm, up: see `retarget.perform_bvh`.
        seed: of where people face, light and noise.
        workers: processes.
        picture_px: width of the pictures, or None for full size.
    Returns:
        plan, see `plan_motion`; it is also kept in the capture's `capture.json`.
    Raises:
        InputError: as `studio.write_capture`; or, once all else is done, the list of the files that were left out.
    """
    # Every camera of the studio has to see the person, so that a capture can be given further ones later.
    check_recipe(
        {
            "subjects": subjects,
            "cameras": cameras,
            "train_step": train_step,
            "test_step": test_step,
            "seed": seed,
            "picture_px": picture_px,
        },
        workers,
    )
    plan, problems = plan_motion(
        motion, subjects, list(studio_cameras().values()), unit_mm, up, seed
    )
    recipe = {
        "version": CAPTURE_VERSION,
        "motion_version": MOTION_VERSION,
        "motion": plan,
        "cameras": sorted(cameras),
        "train_step": train_step,
        "test_step": test_step,
        "seed": seed,
        "picture_px": picture_px,
        "jpeg_quality": JPEG_QUALITY,
    }
    record_takes(
        target,
        recipe,
        [
            Take(
                entry["subject"],
                entry["action"],
                entry["take"],
                entry["n_frames"],
                partial(perform_own, str(motion), entry),
            )
            for entry in plan
        ],
        workers,
    )
    if problems:
        raise InputError(
            "\n".join(
                [f"{len(problems)} of {len(plan) + len(problems)} files were left out:", *problems]
            )
        )
    return plan


def plan_motion(folder, subjects, cameras, unit_mm=None, up=None, seed=0):
    """Decide who plays which file and where.

    File i, in order of names, is played by subjects[i % len(subjects)]. Layouts number takes by action; own motion has none
    of Human3.6M's, so the files are numbered through: action 2, 3, ..., 16, then take 2 of action 2, and so on. Of a
    motion that leaves the cameras' common view, a long stretch that stays in it is kept.

    Args:
        folder: holds the *.bvh files.
        subjects: subject numbers.
        cameras: list of Camera that have to see all joints in all frames.
        unit_mm, up: see `retarget.perform_bvh`; None finds them for each file.
        seed: of where people face.
    Returns:
        plan: list of dicts, one a take: file, sha256, subject, action, take, unit_mm, up, heading, first, n_frames, and
            note where something is odd about the file; JSON-able, and all that `perform_own` needs.
        problems: list of lines, one for each file left out.
    Raises:
        InputError: there is no such folder, no file in it, or none that can be used.
    """
    folder = Path(folder)
    files = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() == ".bvh")
        if folder.is_dir()
        else []
    )
    if not files:
        raise InputError(f"{folder} holds no .bvh file; name a folder with motion")
    plan, problems = [], []
    for i, path in enumerate(progress(files, desc="motion", unit="file")):
        entry = {
            "file": path.name,
            "subject": subjects[i % len(subjects)],
            "action": FIRST_ACTION + i % len(ACTIONS),
            "take": 1 + i // len(ACTIONS),
            "unit_mm": unit_mm,
            "up": up,
        }
        try:
            performance = perform_bvh(path, ACTORS[entry["subject"]], unit_mm, up)
            place = _find_place(performance, cameras, np.random.default_rng([seed, i]), path)
        except InputError as error:
            problems.append(str(error))
            continue
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        note = read_bvh(path).note
        if note:
            entry["note"] = note
        plan.append({**entry, **place})
    if not plan:
        raise InputError("no file can be used:\n" + "\n".join(problems))
    return plan, problems


def perform_own(folder, entry):
    """The Performance of one entry of a plan; InputError where its file has changed since.

    Args:
        folder: holds the file. entry: of `plan_motion`.
    """
    path = Path(folder) / entry["file"]
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest()[:16] != entry["sha256"]:
        raise InputError(
            f"{path} is missing or has changed since the capture began; put it back or delete the capture"
        )
    performance = perform_bvh(path, ACTORS[entry["subject"]], entry["unit_mm"], entry["up"])
    return _placed(performance, entry["first"], entry["n_frames"], entry["heading"])


def _placed(performance, first, n_frames, heading):
    """Frames first … first + n_frames - 1, turned, in the middle of the room."""
    kept = slice(first, first + n_frames)
    frames = {name: R[kept] for name, R in performance.frames_world.items()}
    part = replace(performance, joints_world=performance.joints_world[kept], frames_world=frames)
    return centred(moved(part, heading, 0.0))


def _find_place(performance, cameras, rng, path):
    """dict of first, n_frames and heading: the longest stretch tried that every camera sees whole."""
    n = len(performance.joints_world)
    headings = rng.permutation(_HEADINGS) * (2 * np.pi / _HEADINGS)
    length = n
    while length >= 1:
        for first in sorted({*range(0, n - length + 1, max(1, length // 8)), n - length}):
            # Fewer frames will do for a search, and nobody who walks out of the room needs one.
            seen = performance.joints_world[first : first + length : max(1, length // 100)]
            if np.linalg.norm(np.ptp(seen[:, 0, :2], axis=0)) > _ROOM_MM:
                continue
            sample = replace(performance, joints_world=seen, frames_world={})
            for heading in headings:
                if _all_seen(
                    centred(moved(sample, heading, 0.0)).joints_world, cameras
                ) and _all_seen(_placed(performance, first, length, heading).joints_world, cameras):
                    return {"first": int(first), "n_frames": int(length), "heading": float(heading)}
        length = int(length * 0.85)
    raise InputError(
        f"{path}: at no moment do all cameras see the whole person; check the file's unit and upward axis"
    )


def _all_seen(joints_world, cameras):
    """Whether all joints, (n, 17, 3), lie inside all pictures."""
    for camera in cameras:
        cam = camera.world_to_camera(joints_world)
        if cam[..., 2].min() < 500:
            return False
        xy = camera.camera_to_image(cam)
        if (xy < _MARGIN_PX).any() or (
            xy > np.array([camera.width, camera.height]) - 1 - _MARGIN_PX
        ).any():
            return False
    return True
