"""Poses of files on disk: overlays, tables and interactive pages.

Taught in notebooks/12_your_own_pictures.ipynb.
"""

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np
from matplotlib.colors import to_rgba_array
from PIL import Image

from ..files import InputError, atomic_path, printable, write_json
from ..geometry.skeleton import HUMAN36M
from ..progress import progress
from ..views.plots import limb_colours
from .inputs import is_video, list_files, read_frames
from .motion import LEVEL, motions_of, write_bvh, write_glb
from .networks import Network
from .poses import Poses, dense, join_poses, predict_inputs, rows_of, timeline
from .videos import USUAL_RATE, VideoWriter, shrink, track_writer

WHITE = (255, 255, 255)
LONGEST = 200  # bytes of an output's name, before its ending; disks allow 255 in all
COLUMNS = (
    *("source", "frame", "time_s", "person", "joint"),
    *("x_px", "y_px", "x_mm", "y_mm", "z_mm", "spread_mm"),
)
# What stands in poses.npz and poses.json beside the numbers.
ABOUT = {
    "source": "name of the input",
    "frame": "number of the frame, counted from 0; 0 for a picture",
    "time_s": "time of the frame in the video, s",
    "person": "number within the input, kept through a video",
    "box": "centre x, centre y, side of the square that was cut, px of the upright picture",
    "score": "of the person detector, 0 to 1; unknown where the box was given",
    "joints_rel": "mm from the pelvis, in the camera's axes: x right, y down, z away from it",
    "joints_img": "px of the upright picture: x right, y down, pixel p has its centre at p",
    "root_cam": "place of the pelvis, mm in the camera's axes; its depth supposes an average body "
    "and the focal length",
    "focal_px": "focal length, px",
    "spread_mm": "how far the joint's map spreads: root of the sum of its variances along x, y and "
    "z, mm. It is no confidence: it does not tell good joints from bad ones",
}
PAGE_VIEWS = 200  # pictures that the page of all holds at most
PAGE_POSES = 6000  # people times frames that the page of a video holds at most, some 3 MB


def draw_overlay(image: np.ndarray, joints_img: np.ndarray) -> np.ndarray:
    """Draw skeletons into a copy of a picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        joints_img: (P, J, 2) px.

    Returns:
        (H, W, 3) uint8 RGB; the person's own right limbs orange, left ones blue, each with a white
        seam. Lines are as thick as suits the person's size in the picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    colours = np.rint(255 * to_rgba_array(limb_colours(HUMAN36M))[:, :3]).tolist()
    far = 4 * max(canvas.shape[:2])  # OpenCV counts pixels in 32 bits
    for joints in joints_img:
        joints = np.clip(joints, -far, far)
        extent = np.ptp(joints, axis=0).max()
        width = max(1, round(min(extent, far / 4) / 200))
        points = np.rint(joints).astype(int).tolist()
        for child, parent in HUMAN36M.limbs:
            cv2.line(canvas, points[child], points[parent], WHITE, 3 * width, cv2.LINE_AA)
        for (child, parent), colour in zip(HUMAN36M.limbs, colours):
            cv2.line(canvas, points[child], points[parent], colour, 2 * width, cv2.LINE_AA)
    return canvas


def write_tables(poses: Poses, folder: str | Path) -> None:
    """Write poses into a folder, as three files with the same numbers.

    `poses.npz` has an array for each of `ABOUT`, joint_names, and about, which is `ABOUT` as JSON.
    `poses.json` has the same, a dict for each person and frame. `poses.csv` has a line for each
    joint: x_px and y_px of the upright picture; x_mm, y_mm and z_mm from the pelvis, in the
    camera's axes; spread_mm.

    Args:
        poses: Poses.
        folder: made if missing.
    """
    folder = Path(folder)
    with atomic_path(folder / "poses.npz") as temporary:
        columns = vars(poses) | {"source": poses.source.astype(str)}
        columns["about"] = np.array(json.dumps(ABOUT))
        np.savez_compressed(temporary, joint_names=np.array(HUMAN36M.names), **columns)
    write_json(folder / "poses.json", _as_json(poses))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in range(len(poses)):
        time_s = f"{poses.time_s[row]:.3f}"
        start = [printable(poses.source[row]), poses.frame[row], time_s, poses.person[row]]
        for joint, name in enumerate(HUMAN36M.names):
            numbers = [*poses.joints_img[row, joint], *poses.joints_rel[row, joint]]
            numbers.append(poses.spread_mm[row, joint])
            writer.writerow([*start, name, *(f"{number:.2f}" for number in numbers)])
    with atomic_path(folder / "poses.csv") as temporary:
        temporary.write_bytes(text.getvalue().encode())  # csv's own line ends stay as they are


def _as_json(poses):
    """Poses as JSON has them, in steps of 0.01, of time 0.001; null where something is unknown."""
    columns = {}
    for name, values in vars(poses).items():
        if values.dtype.kind == "f":
            values = np.round(values.astype(float), 3 if name == "time_s" else 2)
            values = np.where(np.isfinite(values), values, None)
        columns[name] = values.tolist()
    columns["source"] = [printable(source) for source in poses.source]
    rows = []
    for row in zip(*columns.values()):
        rows.append(dict(zip(columns, row)))
    return {"about": ABOUT, "joint_names": HUMAN36M.names, "poses": rows}


def predict_files(
    paths: list,
    out: str | Path,
    network: Network,
    view: bool = True,
    recursive: bool = False,
    say: Callable[[str], None] = print,
    also: tuple[str, ...] = (),
    up: np.ndarray = LEVEL,
    **choices,
) -> tuple[Poses, list[str]]:
    """Predict pictures, folders and videos, and write all that there is to see.

    Into `out` go the tables of `write_tables` and, for each input, NAME_pose.jpg (or .webm) and
    NAME_pose.html; of several pictures also poses.html, which shows them all. An input that cannot
    be used is reported in one line, and the others are still predicted. The tables are replaced
    while the inputs are worked through, so that an interruption keeps what was found; where no
    input is usable, they stay as they were.

    Args:
        paths: files and folders.
        out: folder.
        network: see `networks.load_network`.
        view: also write the interactive .html pages.
        recursive: also take what lies in folders of the folders.
        say: called with each line.
        also: what else is written of a video: "bvh" and "glb" are its motion, see `motion`; "mp4"
            is the overlay in H.264.
        up: of the motion, see `motion.motions_of`.
        choices: see `poses.predict_inputs`.

    Returns:
        Poses of all inputs; problems, one line for each input that was not usable, not in full, or
        shows nobody.

    Raises:
        InputError: `out` is or lies in one of the input folders, or cannot be written.
    """
    out = Path(out)
    for path in map(Path, paths):
        inside = recursive and path.resolve() in out.resolve().parents
        if path.is_dir() and (inside or path.resolve() == out.resolve()):
            raise InputError(f"{out} is an input folder as well; name another folder to write to")
    if view:
        try:
            from ..views import SkeletonView  # noqa: F401
        except (InputError, ImportError) as error:
            say(f"no .html pages: {error}")
            view = False
    problems = []

    def report(problem):
        problems.append(problem)
        say(problem)

    files, skipped, dead_ends = list_files(paths, recursive)
    for line in skipped:
        say(line)
    if isinstance(choices.get("box"), dict):
        for file in choices["box"].keys() - {file.resolve() for file in files}:
            dead_ends.append(f"{file}: the table of boxes names it, but it is no input")
    for line in dead_ends:
        report(line)
    span = {name: choices[name] for name in ("every", "start", "end") if name in choices}
    parts, used_names, frame_count = [], set(), 0
    views = []  # of pictures
    n_written = 0
    start = time.perf_counter()
    for prediction in predict_inputs(network, files, **choices):
        path, poses = prediction.source, prediction.poses
        if prediction.problem is not None:
            report(str(prediction.problem))
        if poses is None:
            continue
        frame_count += len(prediction.frames)
        if len(poses) == 0:
            report(
                f"{path}: no person found; name the box with --box, or take the whole picture with --whole"
            )
            continue
        parts.append(poses)
        people = len(np.unique(poses.person))
        counted = f"{len(prediction.frames)} frames, " if is_video(path) else ""
        noun = "person" if people == 1 else "people"
        say(f"{path}: {counted}{people} {noun}; {'; '.join(prediction.notes)}")
        try:
            target = out / _free_name(path, used_names)
            if is_video(path):
                _write_video(prediction, target, span, view, also)
                _write_motion(poses, target, also, up)
            else:
                page = _write_picture(prediction, target, view)
                if page is not None and len(views) < PAGE_VIEWS:
                    views.append(page)
        except InputError as error:
            report(str(error))
        except Exception as error:  # whatever one input does, the others keep their results
            report(f"{path}: its overlay cannot be drawn ({type(error).__name__}: {error})")
        # The tables grow, so that of very many inputs not each one can have its writing.
        if len(parts) > 1.1 * n_written:
            write_tables(join_poses(parts), out)
            n_written = len(parts)
    poses = join_poses(parts)
    if n_written < len(parts):
        write_tables(poses, out)
    if len(views) > 1:
        from ..views.view import write_page

        n_pictures = sum(not is_video(part.source[0]) for part in parts)
        title = f"{len(views)} pictures"
        if n_pictures > len(views):
            title = f"the first {len(views)} of {n_pictures} pictures"
        write_page(views, out / "poses.html", title=title)
    seconds = time.perf_counter() - start
    say(
        f"{frame_count} pictures, {len(poses)} poses in {seconds:.2f} s, reading and writing included: "
        f"{frame_count / seconds:.1f} pictures/s"
    )
    return poses, problems


def _write_picture(prediction, target, view):
    """Write the overlay of a picture and its page.

    Args:
        prediction: see `poses.Prediction`.
        target: of what is written, without the ending.
        view: whether to write the page, too.

    Returns:
        SkeletonView, or None without a page.
    """
    pixels, poses = prediction.pixels, prediction.poses
    with atomic_path(f"{target}.jpg") as temporary:
        drawn = draw_overlay(pixels, poses.joints_img)
        Image.fromarray(drawn).save(temporary, quality=92)
    if not view:
        return None
    choices = {"images": [pixels], "joints_img": poses.joints_img[:, None], "turning": True}
    return _write_view(prediction.source, poses, prediction.frames, target, **choices)


def _write_video(prediction, target, span, view, also):
    """Write the overlay of a video, and its page with a small track of the pictures.

    Args:
        prediction, target, view: as for `_write_picture`.
        span: every, start and end, as it was predicted with.
        also: see `predict_files`.
    """
    path, poses, times = prediction.source, prediction.poses, prediction.times
    n_poses = len(times) * len(np.unique(poses.person))
    # A long video has fewer frames in its page, which moves evenly from one to the next.
    step = math.ceil(n_poses / PAGE_POSES)
    first = int(np.searchsorted(prediction.frames, poses.frame[0]))  # nobody may be there before
    frames = prediction.frames[first % step :: step]
    rate = USUAL_RATE if len(times) == 1 else (len(times) - 1) / (times[-1] - times[0])
    fps = round(rate / step, 3)  # of the page, where all frames are equally long
    page_times = dict(zip(frames, np.arange(len(frames)) / fps))
    track = io.BytesIO()
    with ExitStack() as files:
        writers = []
        for kind in ("webm", "mp4") if "mp4" in also else ("webm",):
            temporary = files.enter_context(atomic_path(f"{target}.{kind}"))
            file = files.enter_context(open(temporary, "wb"))
            writers.append(files.enter_context(closing(VideoWriter(file, kind, rate))))
        small = files.enter_context(closing(track_writer(track, fps, len(frames))))
        images = read_frames(path, **span)
        bar = progress(images, desc=f"drawing {path.name}", unit="frame", leave=False)
        for number, (_, time_s, image) in zip(prediction.frames, bar):
            drawn = draw_overlay(image.pixels, poses.joints_img[poses.frame == number])
            for writer in writers:
                writer.write(drawn, time_s)
            if view and number in page_times:
                small.write(shrink(image.pixels), page_times[number])
    if not view:
        return
    shown = rows_of(poses, np.isin(poses.frame, frames))
    choices = {"fps": fps, "frame": first // step, "video": track.getvalue()}
    choices["video_size"] = image.pixels.shape[1::-1]
    choices["joints_img"] = dense(shown, frames, shown.joints_img)
    _write_view(path, shown, frames, target, **choices)


def _write_view(path, poses, frames, target, **choices):
    """Write the page of an input; its SkeletonView."""
    from ..views import SkeletonView  # needs an extra

    joints = timeline(poses, frames).astype(np.float32)
    name = printable(path.name)
    page = SkeletonView(joints, HUMAN36M, title=name, **choices)
    page.to_html(f"{target}.html", title=name)
    return page


def _write_motion(poses, target, also, up):
    """Write the motion of a video as bones: one .glb file, and a .bvh file for each person."""
    if not {"bvh", "glb"} & set(also):
        return
    motions = motions_of(poses, up)
    if "glb" in also:
        write_glb(f"{target}.glb", motions)
    if "bvh" in also:
        for motion in motions:
            number = f"-{motion.person}" if len(motions) > 1 else ""
            write_bvh(f"{target}{number}.bvh", motion)


def _free_name(path, used_names):
    """The stem of an output's name; a number tells equal names of different folders apart."""
    stem = path.stem
    while len(os.fsencode(stem)) > LONGEST:
        stem = stem[:-1]
    name, number = f"{stem}_pose", 2
    while name.lower() in used_names:  # some disks take A and a for the same
        name = f"{stem}-{number}_pose"
        number += 1
    used_names.add(name.lower())
    return name
